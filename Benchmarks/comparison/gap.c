// A steady stream of small datagrams, the longest time in which none of it arrives, and what of it
// went where it should not. Compiled when Benchmarks/restart starts.
//
//   gap send ADDR PORT SECONDS RATE    RATE datagrams of 18 bytes per second (60 as frames), eight
//                                      at a time
//   gap receive PORT WARMUP SECONDS    from WARMUP s after the first one, for SECONDS s; times are
//                                      those of their arrival at the socket, whenever this program
//                                      gets to run
//   gap strays DEVICE                  counts frames for other stations than the device's own,
//                                      until SIGTERM
//
// Each prints one line of JSON at its end; `receive` and `strays` print "ready" first.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BURST = 8, BATCH = 64, SIZE = 18 };

static void die(const char *what) {
  fprintf(stderr, "gap: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double seconds_of(struct timespec t) { return (double)t.tv_sec + (double)t.tv_nsec * 1e-9; }

static double now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return seconds_of(t);
}

static int send_stream(const char *address, const char *port, double seconds, double rate) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, address, &a.sin_addr) != 1 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0) die(address);
  prctl(PR_SET_TIMERSLACK, 1);
  uint64_t number = 0;
  for (double start = now(CLOCK_MONOTONIC), t = start; t - start < seconds; t = now(CLOCK_MONOTONIC)) {
    double ahead = (double)number / rate - (t - start);
    if (ahead > 0) {
      struct timespec pause = {0, (long)(ahead * 1e9)};
      nanosleep(&pause, NULL);
      continue;
    }
    for (int i = 0; i < BURST; i++, number++) {
      char datagram[SIZE] = {0};
      memcpy(datagram, &number, sizeof number);
      // What the socket's own queue has no room for was sent and lost, as far as the stream is
      // concerned.
      (void)!send(fd, datagram, sizeof datagram, MSG_DONTWAIT);
    }
  }
  printf("{\"sent\": %llu}\n", (unsigned long long)number);
  return 0;
}

static int receive_stream(const char *port, double warmup, double seconds) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 64 << 20, yes = 1;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0) die("SO_RCVBUFFORCE");
  if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes) < 0) die("SO_TIMESTAMPNS");
  if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0) die("bind");
  puts("ready");
  fflush(stdout);
  static char memory[BATCH][SIZE], control[BATCH][64];
  struct mmsghdr messages[BATCH];
  struct iovec vectors[BATCH];
  uint64_t received = 0, first = 0, next = 0, backwards = 0;
  double begin = 0, last = 0, longest = 0, at = 0;
  for (;;) {
    for (int i = 0; i < BATCH; i++) {
      vectors[i] = (struct iovec){memory[i], SIZE};
      messages[i] = (struct mmsghdr){.msg_hdr = {
          .msg_iov = &vectors[i], .msg_iovlen = 1, .msg_control = control[i], .msg_controllen = sizeof control[i]}};
    }
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (poll(&wait, 1, 100) == 0) {
      // Where nothing comes any more, the time until the end is part of the gap.
      double t = now(CLOCK_REALTIME);
      if (begin == 0 || t < begin + warmup + seconds) continue;
      if (last > 0 && t - last > longest) longest = t - last, at = last - begin - warmup;
      break;
    }
    int n = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
    if (n < 0 && errno != EINTR && errno != EAGAIN) die("recvmmsg");
    for (int i = 0; i < n; i++) {
      struct timespec stamp = {0};
      struct cmsghdr *header = CMSG_FIRSTHDR(&messages[i].msg_hdr);
      if (header) memcpy(&stamp, CMSG_DATA(header), sizeof stamp);
      double t = seconds_of(stamp);
      uint64_t number;
      memcpy(&number, memory[i], sizeof number);
      if (begin == 0) begin = t;
      if (t < begin + warmup) continue;
      if (t >= begin + warmup + seconds) goto end;
      if (last == 0) first = next = number;
      if (last > 0 && t - last > longest) longest = t - last, at = last - begin - warmup;
      last = t;
      received++;
      if (number < next) backwards++;
      else next = number + 1;
    }
  }
end:
  printf("{\"received\": %llu, \"lost\": %lld, \"reordered\": %llu, \"gap\": %.3f, \"at\": %.3f}\n",
         (unsigned long long)received, (long long)(next - first) - (long long)received, (unsigned long long)backwards,
         longest * 1e3, at);
  return 0;
}

static volatile sig_atomic_t is_over;
static void finish(int number) { (void)number, is_over = 1; }

static int strays(const char *device) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)), size = 64 << 20, yes = 1;
  if (fd < 0) die("socket");
  int index = (int)if_nametoindex(device);
  struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = index};
  struct packet_mreq all = {.mr_ifindex = index, .mr_type = PACKET_MR_PROMISC};
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof yes);
  if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0) die(device);
  if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) < 0) die("PACKET_MR_PROMISC");
  struct ifreq own = {0};
  strncpy(own.ifr_name, device, IFNAMSIZ - 1);
  if (ioctl(fd, SIOCGIFHWADDR, &own) < 0) die("SIOCGIFHWADDR");
  struct sigaction action = {.sa_handler = finish};
  sigaction(SIGTERM, &action, NULL);
  puts("ready");
  fflush(stdout);
  uint64_t count = 0;
  while (!is_over) {
    unsigned char frame[64];
    ssize_t n = recv(fd, frame, sizeof frame, 0);
    if (n >= 14 && !(frame[0] & 1) && memcmp(frame, own.ifr_hwaddr.sa_data, 6) != 0) count++;
  }
  printf("{\"strays\": %llu}\n", (unsigned long long)count);
  return 0;
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  if (!strcmp(mode, "send") && argc == 6) return send_stream(argv[2], argv[3], atof(argv[4]), atof(argv[5]));
  if (!strcmp(mode, "receive") && argc == 5) return receive_stream(argv[2], atof(argv[3]), atof(argv[4]));
  if (!strcmp(mode, "strays") && argc == 3) return strays(argv[2]);
  fprintf(stderr, "gap: see the head of gap.c for its arguments.\n");
  return 2;
}
