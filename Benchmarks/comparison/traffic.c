// The datagrams of Benchmarks/compare: a sender and a receiver that are faster than any switch
// between them, and a ping whose clock is the caller's own. Compiled when the comparison starts;
// TCP in bulk is left to iperf3.
//
//   traffic sink PORT WARMUP SECONDS       counts what arrives from WARMUP s after the first
//                                          datagram, for SECONDS s
//   traffic blast ADDR PORT SECONDS FLOWS RATE SIZE...
//                                          sends for SECONDS s over FLOWS sockets, sizes in turn;
//                                          RATE per second, 0 = all it can
//   traffic echo PORT                      returns every datagram; tcp-echo what comes by one
//                                          connection
//   traffic ping ADDR PORT SECONDS GAP SIZE
//                                          one datagram at a time, GAP µs between an answer and the
//                                          next question; tcp-ping asks by one connection
//   traffic flood DEVICE KIND RATE         frames of 60 bytes from a packet socket until it is
//                                          killed, RATE per second, 0 = all it can. KIND: macs (a
//                                          random source and destination each), broadcast, arp
//                                          (requests for random addresses)
//
// Each but flood prints one line of JSON at its end. `sink` also prints "begin" and "end" at the
// edges of its window and `sink` and `echo` "ready" when they listen (`flood` when it begins), so
// that who runs them can read other clocks at those instants.
//
// A datagram starts with its number within its flow (8 bytes) and the number of its flow (2 bytes).
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <math.h>
#include <net/if.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BURST = 64, MAX_FLOWS = 64, MAX_SIZE = 9000, MAX_SIZES = 16, HEADER = 10, MAX_SAMPLES = 4000000 };

static void die(const char *what) {
  fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int udp_socket(void) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  return fd;
}

static int listening(const char *port) {
  int fd = udp_socket(), size = 8 << 20;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0) die("SO_RCVBUFFORCE");
  if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0) die("bind");
  puts("ready");
  fflush(stdout);
  return fd;
}

static int connected(const char *address, const char *port) {
  int fd = udp_socket();
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, address, &a.sin_addr) != 1) die(address);
  if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) die("connect");
  return fd;
}

static int sink(const char *port, double warmup, double seconds) {
  int fd = listening(port);
  static char memory[BURST][HEADER];
  struct mmsghdr messages[BURST];
  struct iovec vectors[BURST];
  // What a flow's numbers did: all that were sent in the window lie between `first` and `next`.
  static struct { uint64_t first, next; bool seen; } flows[MAX_FLOWS];
  uint64_t received = 0, reordered = 0, bytes = 0;
  double start = 0, end = 0;
  bool counting = false;
  struct timeval patience = {.tv_sec = 5};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  for (;;) {
    for (int i = 0; i < BURST; i++) {
      vectors[i] = (struct iovec){memory[i], HEADER};
      messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &vectors[i], .msg_iovlen = 1}};
    }
    int n = recvmmsg(fd, messages, BURST, MSG_WAITFORONE | MSG_TRUNC, NULL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (n < 0) die("recvmmsg");
    double t = now();
    if (start == 0) start = t + warmup;
    if (!counting && t >= start) {
      counting = true;
      start = t;
      end = t + seconds;
      puts("begin");
      fflush(stdout);
    }
    if (!counting) continue;
    if (t >= end) break;
    for (int i = 0; i < n; i++) {
      uint64_t number;
      uint16_t flow;
      memcpy(&number, memory[i], 8);
      memcpy(&flow, memory[i] + 8, 2);
      if (messages[i].msg_len < HEADER || flow >= MAX_FLOWS) continue;
      received++;
      bytes += messages[i].msg_len;
      if (!flows[flow].seen) {
        flows[flow].seen = true;
        flows[flow].first = number;
        flows[flow].next = number;
      }
      if (number < flows[flow].next) reordered++;
      else flows[flow].next = number + 1;
    }
  }
  puts("end");
  uint64_t sent = 0;
  for (int i = 0; i < MAX_FLOWS; i++) sent += flows[i].next - flows[i].first;
  double elapsed = counting ? now() - start : seconds;
  // A window in which the traffic stopped is as long as it was meant to be.
  if (elapsed < seconds || elapsed > seconds + 0.5) elapsed = seconds;
  printf("{\"received\": %llu, \"offered\": %llu, \"reordered\": %llu, \"bytes\": %llu, \"seconds\": %.6f}\n",
         (unsigned long long)received, (unsigned long long)sent, (unsigned long long)reordered,
         (unsigned long long)bytes, elapsed);
  return 0;
}

// Waits for as long as what was sent is ahead of the rate.
static void pace(uint64_t sent, double rate, double start) {
  double ahead = rate > 0 ? (double)sent / rate - (now() - start) : 0;
  if (ahead <= 0) return;
  struct timespec pause = {(time_t)ahead, (long)(fmod(ahead, 1) * 1e9)};
  nanosleep(&pause, NULL);
}

static int blast(const char *address, const char *port, double seconds, int flows, double rate, int count, char **sizes) {
  if (flows < 1 || flows > MAX_FLOWS || count < 1 || count > MAX_SIZES) die("arguments");
  int sockets[MAX_FLOWS], size[MAX_SIZES];
  uint64_t numbers[MAX_FLOWS] = {0}, sent = 0;
  for (int i = 0; i < flows; i++) sockets[i] = connected(address, port);
  for (int i = 0; i < count; i++) {
    size[i] = atoi(sizes[i]);
    if (size[i] < HEADER || size[i] > MAX_SIZE) die("size");
  }
  static char memory[BURST][MAX_SIZE];
  struct mmsghdr messages[BURST];
  struct iovec vectors[BURST];
  // Flows take turns in short bursts, the shorter the more of them there are.
  int burst = BURST / flows, turn = 0;
  double start = now(), t;
  while ((t = now()) - start < seconds) {
    for (int flow = 0; flow < flows; flow++) {
      uint16_t name = (uint16_t)flow;
      for (int i = 0; i < burst; i++) {
        uint64_t number = numbers[flow] + (uint64_t)i;
        memcpy(memory[i], &number, 8);
        memcpy(memory[i] + 8, &name, 2);
        vectors[i] = (struct iovec){memory[i], (size_t)size[(turn + i) % count]};
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &vectors[i], .msg_iovlen = 1}};
      }
      int n = sendmmsg(sockets[flow], messages, (unsigned)burst, 0);
      if (n < 0 && errno != ENOBUFS && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED) die("sendmmsg");
      if (n > 0) {
        numbers[flow] += (uint64_t)n;
        sent += (uint64_t)n;
        turn = (turn + n) % count;
      }
    }
    pace(sent, rate, start);
  }
  printf("{\"sent\": %llu, \"seconds\": %.6f}\n", (unsigned long long)sent, now() - start);
  return 0;
}

static _Noreturn void echo(const char *port) {
  int fd = listening(port);
  static char memory[MAX_SIZE];
  for (;;) {
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    ssize_t n = recvfrom(fd, memory, sizeof memory, 0, (struct sockaddr *)&from, &length);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) die("recvfrom");
    sendto(fd, memory, (size_t)n, 0, (struct sockaddr *)&from, length);
  }
}

static void answer_at_once(int fd) {
  int on = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) die("TCP_NODELAY");
}

static int tcp_echo(const char *port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) die("socket");
  if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 1) < 0) die("listen");
  puts("ready");
  fflush(stdout);
  int asker = accept(fd, NULL, NULL);
  if (asker < 0) die("accept");
  answer_at_once(asker);
  static char memory[MAX_SIZE];
  ssize_t n;
  while ((n = recv(asker, memory, sizeof memory, 0)) > 0)
    if (send(asker, memory, (size_t)n, MSG_NOSIGNAL) < 0) break;
  return 0;
}

static int tcp_connected(const char *address, const char *port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (fd < 0 || inet_pton(AF_INET, address, &a.sin_addr) != 1) die(address);
  if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) die("connect");
  answer_at_once(fd);
  return fd;
}

static int ascending(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

// `whole` is MSG_WAITALL for a connection, of which a piece may come by itself.
static int ping(int fd, int whole, double seconds, long gap, int length) {
  if (length < HEADER || length > MAX_SIZE) die("size");
  static char question[MAX_SIZE], answer[MAX_SIZE];
  static float samples[MAX_SAMPLES];
  size_t count = 0;
  uint64_t lost = 0, number = 0;
  struct timeval patience = {.tv_usec = 200000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  double start = now();
  while (now() - start < seconds && count < MAX_SAMPLES) {
    number++;
    memcpy(question, &number, 8);
    double asked = now();
    if (send(fd, question, (size_t)length, 0) < 0 && errno != ENOBUFS && errno != ECONNREFUSED) die("send");
    uint64_t answered = 0;
    while (answered != number) {
      ssize_t n = recv(fd, answer, whole ? (size_t)length : sizeof answer, whole);
      if (n < 8) break;
      memcpy(&answered, answer, 8);
    }
    if (answered == number) samples[count++] = (float)((now() - asked) * 1e6);
    else lost++;
    if (gap > 0) {
      struct timespec pause = {gap / 1000000, (gap % 1000000) * 1000};
      nanosleep(&pause, NULL);
    }
  }
  qsort(samples, count, sizeof samples[0], ascending);
#define AT(q) (count ? (double)samples[(size_t)((double)(count - 1) * (q))] : 0)
  printf("{\"samples\": %zu, \"lost\": %llu, \"p50\": %.2f, \"p90\": %.2f, \"p99\": %.2f, \"p999\": %.2f, \"max\": %.2f}\n",
         count, (unsigned long long)lost, AT(0.5), AT(0.9), AT(0.99), AT(0.999), AT(1));
  return 0;
}

static uint64_t chance(void) {
  static uint64_t state = 0x9E3779B97F4A7C15;  // xorshift64: the same numbers in every run.
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static _Noreturn void flood(const char *device, const char *kind, double rate) {
  enum { LENGTH = 60 };
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(device)};
  if (a.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0) die(device);
  bool macs = !strcmp(kind, "macs"), arp = !strcmp(kind, "arp");
  if (!macs && !arp && strcmp(kind, "broadcast")) die("kind");
  static unsigned char memory[BURST][LENGTH];
  static const unsigned char request[] = {8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
  struct mmsghdr messages[BURST];
  struct iovec vectors[BURST];
  for (int i = 0; i < BURST; i++) {
    memset(memory[i], 0xff, 6);
    memcpy(memory[i] + 6, "\x02\xf1\0\0\0\1\x88\xb5", 8);
    if (arp) {
      memcpy(memory[i] + 12, request, sizeof request);
      memcpy(memory[i] + 22, "\x02\xf1\0\0\0\1\x0a\xc8\0\x63", 10);
    }
    vectors[i] = (struct iovec){memory[i], LENGTH};
    messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &vectors[i], .msg_iovlen = 1}};
  }
  puts("ready");
  fflush(stdout);
  uint64_t sent = 0;
  for (double start = now();;) {
    for (int i = 0; i < BURST; i++) {
      uint64_t number = chance();
      if (macs) {
        memcpy(memory[i], &number, 6);
        memory[i][0] = (unsigned char)((memory[i][0] & 0xfc) | 2);
        number = chance();
        memcpy(memory[i] + 6, &number, 6);
        memory[i][6] = (unsigned char)((memory[i][6] & 0xfc) | 2);
      } else if (arp) {
        memcpy(memory[i] + 38, "\x0a\xc8", 2);
        memcpy(memory[i] + 40, &number, 2);
      }
    }
    int n = sendmmsg(fd, messages, BURST, 0);
    if (n < 0 && errno != ENOBUFS && errno != EAGAIN && errno != EINTR) die("sendmmsg");
    if (n > 0) sent += (uint64_t)n;
    pace(sent, rate, start);
  }
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  if (!strcmp(mode, "sink") && argc == 5) return sink(argv[2], atof(argv[3]), atof(argv[4]));
  if (!strcmp(mode, "blast") && argc >= 8)
    return blast(argv[2], argv[3], atof(argv[4]), atoi(argv[5]), atof(argv[6]), argc - 7, argv + 7);
  if (!strcmp(mode, "echo") && argc == 3) echo(argv[2]);
  if (!strcmp(mode, "ping") && argc == 7) 
    return ping(connected(argv[2], argv[3]), 0, atof(argv[4]), atol(argv[5]), atoi(argv[6]));
  if (!strcmp(mode, "tcp-echo") && argc == 3) return tcp_echo(argv[2]);
  if (!strcmp(mode, "tcp-ping") && argc == 7)
    return ping(tcp_connected(argv[2], argv[3]), MSG_WAITALL, atof(argv[4]), atol(argv[5]), atoi(argv[6]));
  if (!strcmp(mode, "flood") && argc == 5) flood(argv[2], argv[3], atof(argv[4]));
  fprintf(stderr, "traffic: see the head of traffic.c for its arguments.\n");
  return 2;
}
