#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "broker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netlink.h"
#include "process.h"
#include "sockets.h"

/* A request is words, each with its terminator, and descriptors: the last one is the end by which
 * it is answered. What it is about is its first word. */
static const char run_word[] = "run";             /* path, arguments; output, errors */
static const char namespace_word[] = "namespace"; /* path */
static const char thing_word[] = "open";          /* number, path; namespace */
static const char processes_word[] = "processes"; /* where to begin */
static const char container_word[] = "container"; /* the number of a process */

enum {
  request_limit = 4096,
  word_limit = 16,
  descriptor_limit = 3,
  /* Milliseconds for an answer: where it takes longer, nothing works on this host. */
  patience = 10000,
};

union rights {
  struct cmsghdr header;
  char room[CMSG_SPACE(descriptor_limit * sizeof(int))];
};

/* What is sent and what is received, with its descriptors. */
static ssize_t send_with(int to, const void *bytes, size_t size, const int descriptors[], size_t count) {
  union rights control;
  memset(&control, 0, sizeof control);
  struct iovec part = {(void *)bytes, size};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (count > 0) {
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(&control.header), descriptors, count * sizeof(int));
  }
  ssize_t sent;
  do sent = sendmsg(to, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent;
}

/* Returns the size, and -1 also for what does not fit; `count` is how many descriptors came. */
static ssize_t receive_with(int from, void *bytes, size_t size, int descriptors[], size_t *count) {
  union rights control;
  struct iovec part = {bytes, size};
  /* Less than the room: the padding at its end would be taken for room for one more. */
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = CMSG_LEN(descriptor_limit * sizeof(int))};
  *count = 0;
  ssize_t received;
  do received = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
  while (received < 0 && errno == EINTR);
  if (received < 0) return -1;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    *count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(descriptors, CMSG_DATA(header), *count * sizeof(int));
  }
  if (!(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) return received;
  for (size_t number = 0; number < *count; number++) close(descriptors[number]);
  *count = 0;
  errno = EMSGSIZE;
  return -1;
}

/* --- What is opened --------------------------------------------------------------------------- */

/* A file that the kernel makes up for each namespace and device; no name leads out of the
 * directory. */
static int open_setting(const char *path) {
  static const char ipv4[] = "/proc/sys/net/ipv4/conf/", ipv6[] = "/proc/sys/net/ipv6/conf/";
  if (strncmp(path, ipv4, sizeof ipv4 - 1) != 0 && strncmp(path, ipv6, sizeof ipv6 - 1) != 0) return -EPERM;
  if (strstr(path, "/../")) return -EPERM;
  int flags = O_CLOEXEC | O_NOFOLLOW;
  int fd = open(path, O_RDWR | flags);
  if (fd < 0 && errno == EACCES) fd = open(path, O_RDONLY | flags);
  return fd < 0 ? -errno : fd;
}

int ovx_open_thing(int thing, const char *path) {
  switch (thing) {
    case OVX_ROUTE_NETLINK: {
      int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
      return fd < 0 ? -errno : fd;
    }
    case OVX_TUN: return ovx_open_tun();
    case OVX_UDP4: return ovx_open_udp_socket(false);
    case OVX_UDP6: return ovx_open_udp_socket(true);
    case OVX_SETTING: return open_setting(path);
    default: return -EPERM;
  }
}

/* --- Who lives where -------------------------------------------------------------------------- */

void ovx_look_at_processes(int64_t from, struct ovx_occupants *found) {
  memset(found, 0, sizeof *found);
  DIR *processes = opendir("/proc");
  if (!processes) return;
  // The kernel takes the place in this directory from the number of the process that comes next.
  if (from > 0) seekdir(processes, (long)from);
  struct dirent *entry;
  while ((entry = readdir(processes))) {
    char *end, path[64];
    struct stat status;
    long pid = strtol(entry->d_name, &end, 10);
    if (pid <= 0 || *end != '\0') continue;
    snprintf(path, sizeof path, "/proc/%ld/ns/net", pid);
    if (stat(path, &status) < 0) continue;
    found->some[found->count++] =
        (struct ovx_occupant){.pid = pid, .device = status.st_dev, .inode = status.st_ino};
    if (found->count < OVX_OCCUPANTS) continue;
    found->next = entry->d_off;
    break;
  }
  closedir(processes);
}

void ovx_container_of(pid_t pid, char id[OVX_CONTAINER_ID + 1]) {
  id[0] = '\0';
  char path[64], text[4096];
  snprintf(path, sizeof path, "/proc/%ld/cgroup", (long)pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  if (size <= 0) return;
  text[size] = '\0';
  for (const char *digits = text; *digits;) {
    size_t count = strspn(digits, "0123456789abcdef");
    if (count >= OVX_CONTAINER_ID) {
      memcpy(id, digits, OVX_CONTAINER_ID);
      id[OVX_CONTAINER_ID] = '\0';
      return;
    }
    digits += count > 0 ? count : 1;
  }
}

/* --- The broker ------------------------------------------------------------------------------- */

/* The namespace that it is in. */
static int home = -1;

static void tell(int to, int number) { (void)send_with(to, &number, sizeof number, NULL, 0); }

/* Gives a descriptor away, or tells why there is none. */
static void give(int to, int fd) {
  int number = fd < 0 ? fd : 0;
  (void)send_with(to, &number, sizeof number, &fd, fd < 0 ? 0 : 1);
  if (fd >= 0) close(fd);
}

/* The life of one program: tells how its start went, then its status, and kills it when nobody
 * listens any more. */
static _Noreturn void mind(int asker, char *words[], int output, int errors) {
  signal(SIGCHLD, SIG_DFL);
  pid_t child = ovx_spawn(words[0], words, output, errors);
  close(output);
  close(errors);
  tell(asker, child < 0 ? child : 0);
  if (child < 0) _exit(0);
  struct pollfd waits[] = {{.fd = asker, .events = POLLIN | POLLRDHUP}, {.fd = ovx_pidfd_open(child), .events = POLLIN}};
  while (poll(waits, 2, -1) < 0) {
  }
  if (!(waits[1].revents & POLLIN)) kill(-child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  tell(asker, status);
  _exit(0);
}

/* Whether this is docker's or podman's path, in one of the directories of PATH. */
static bool is_engine(const char *path) {
  const char *name = strrchr(path, '/');
  if (path[0] != '/' || !name || (strcmp(name + 1, "docker") != 0 && strcmp(name + 1, "podman") != 0)) return false;
  size_t length = (size_t)(name - path);
  for (const char *part = getenv("PATH"); part && *part;) {
    size_t size = strcspn(part, ":");
    if (size == length && strncmp(part, path, size) == 0) return true;
    part += size + (part[size] == ':');
  }
  return false;
}

/* The questions that engines are asked, word for word behind their path: an option of somebody's
 * choice could have an engine start a program of his (Container.swift and EngineEvents.swift ask
 * them). */
static const char some_container[] = "";
static const char *const questions[][6] = {
    {"inspect", "--type", "container", "-f", "{{.State.Pid}} {{.Id}}", some_container},
    {"events", "--filter", "type=container", "--format", "{{.Action}}"},
    {"events", "--filter", "type=container", "--format", "{{.Status}}"},
};

/* Whether this is a container's name or id, and no option. */
static bool is_container(const char *word) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
  return word[0] != '\0' && !strchr("_.-", word[0]) && word[strspn(word, letters)] == '\0';
}

static bool is_question(const char *const question[6], char *words[], size_t count) {
  size_t length = 0;
  while (length < 6 && question[length]) length++;
  if (count != length) return false;
  for (size_t number = 0; number < length; number++)
    if (question[number] == some_container ? !is_container(words[number]) : strcmp(question[number], words[number]) != 0)
      return false;
  return true;
}

/* Whether a program may be started so: an engine of containers, with one of the questions. */
static bool may_run(char *words[], size_t count) {
  if (count < 2 || !is_engine(words[0])) return false;
  for (size_t number = 0; number < sizeof questions / sizeof *questions; number++)
    if (is_question(questions[number], words + 1, count - 1)) return true;
  return false;
}

static void run(int from, char *words[], size_t count, const int descriptors[]) {
  int asker = descriptors[2];
  if (!may_run(words, count)) {
    tell(asker, -EPERM);
    return;
  }
  pid_t minder = fork();
  if (minder < 0) tell(asker, -errno);
  if (minder != 0) return;
  close(from);
  mind(asker, words, descriptors[0], descriptors[1]);
}

static bool is_home(int namespace) {
  struct stat there, here;
  return fstat(namespace, &there) == 0 && fstat(home, &here) == 0 && there.st_dev == here.st_dev &&
         there.st_ino == here.st_ino;
}

/* Enters the namespace for as long as it takes. */
static int open_inside(int namespace, int thing, const char *path) {
  if (is_home(namespace)) return ovx_open_thing(thing, path);
  int entered = ovx_enter_network_namespace(namespace);
  if (entered < 0) return entered;
  int fd = ovx_open_thing(thing, path);
  // Whatever would be opened from here on would be opened in the wrong place.
  if (ovx_enter_network_namespace(home) < 0) _exit(1);
  return fd;
}

static void look_at_processes(int to, const char *from) {
  struct ovx_occupants found;
  ovx_look_at_processes(strtoll(from, NULL, 10), &found);
  (void)send_with(to, &found, sizeof found, NULL, 0);
}

static void tell_container(int to, const char *pid) {
  char id[OVX_CONTAINER_ID + 1] = {0};
  ovx_container_of((pid_t)strtol(pid, NULL, 10), id);
  (void)send_with(to, id, sizeof id, NULL, 0);
}

/* Takes a request apart in place; returns how many words it has, and 0 where it is none. */
static size_t split(char *request, size_t size, char *words[]) {
  if (size == 0 || request[size - 1] != '\0') return 0;
  size_t count = 0;
  for (char *word = request; word < request + size; word += strlen(word) + 1) {
    if (count == word_limit) return 0;
    words[count++] = word;
  }
  words[count] = NULL;
  return count;
}

static void serve_one(
    int from, char *request, size_t size, const int descriptors[], size_t descriptor_count) {
  char *words[word_limit + 1];
  size_t count = split(request, size, words);
  if (count == 0) return;
  int asker = descriptors[descriptor_count - 1];
  if (strcmp(words[0], run_word) == 0 && descriptor_count == 3)
    run(from, words + 1, count - 1, descriptors);
  else if (strcmp(words[0], namespace_word) == 0 && descriptor_count == 1 && count == 2)
    give(asker, ovx_open_network_namespace(words[1]));
  else if (strcmp(words[0], thing_word) == 0 && descriptor_count == 2 && count == 3)
    give(asker, open_inside(descriptors[0], atoi(words[1]), words[2]));
  else if (strcmp(words[0], processes_word) == 0 && descriptor_count == 1 && count == 2)
    look_at_processes(asker, words[1]);
  else if (strcmp(words[0], container_word) == 0 && descriptor_count == 1 && count == 2)
    tell_container(asker, words[1]);
  else
    tell(asker, -EPERM);
}

_Noreturn void ovx_broker_serve(int from) {
  char request[request_limit];
  prctl(PR_SET_NAME, "ovx-broker");
  signal(SIGCHLD, SIG_IGN);
  home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  for (;;) {
    int descriptors[descriptor_limit];
    size_t count;
    ssize_t size = receive_with(from, request, sizeof request, descriptors, &count);
    if (size < 0 && errno == EMSGSIZE) continue;
    if (size <= 0) _exit(0);
    if (count > 0) serve_one(from, request, (size_t)size, descriptors, count);
    for (size_t number = 0; number < count; number++) close(descriptors[number]);
  }
}

/* Has another process serve for as long as there is somebody to ask: one that is killed has a
 * successor, and where this one is killed that goes on. It ends by itself, with 0, only where
 * nobody asks any more. */
static _Noreturn void keep_serving(int from) {
  prctl(PR_SET_NAME, "ovx-broker");
  for (;;) {
    pid_t server = fork();
    if (server <= 0) ovx_broker_serve(from);
    int status = 0;
    while (waitpid(server, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) _exit(0);
  }
}

/* Leaves everything behind that is the asking process's. */
static _Noreturn void become_broker(int from) {
  int null = open("/dev/null", O_RDWR);
  for (int standard = 0; standard < 3; standard++) dup2(null, standard);
  if (from != 3) dup2(from, 3);
  close_range(4, ~0u, 0);
  fcntl(3, F_SETFD, FD_CLOEXEC);
  (void)chdir("/");
  // Nobody but the asking process ends it.
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  keep_serving(3);
}

/* --- Asking it -------------------------------------------------------------------------------- */

/* The asking process's end; -1 before there is one. */
static int broker = -1;
/* Where it is found again; empty where it is a child of this process. */
static struct sockaddr_un address;
static pthread_mutex_t connecting = PTHREAD_MUTEX_INITIALIZER;

int ovx_broker_begin(void) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return -errno;
  pid_t child = fork();
  if (child == 0) become_broker(ends[1]);
  int failure = errno;
  close(ends[1]);
  if (child < 0) {
    close(ends[0]);
    return -failure;
  }
  broker = ends[0];
  return 0;
}

/* Connects, in the place of a connection that there was. */
static int connect_broker(void) {
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int result = connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
  if (result == 0 && broker < 0) {
    broker = fd;
    return 0;
  }
  if (result == 0 && dup3(fd, broker, O_CLOEXEC) < 0) result = -errno;
  close(fd);
  return result;
}

int ovx_broker_connect(const char *path) {
  if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, path);
  return connect_broker();
}

bool ovx_broker_has_begun(void) { return broker >= 0; }

/* Sends a request, to another broker where the one that was has ended. */
static int ask(const char *request, size_t size, const int descriptors[], size_t count) {
  if (send_with(broker, request, size, descriptors, count) >= 0) return 0;
  if (address.sun_family == 0 || (errno != EPIPE && errno != ECONNRESET && errno != ENOTCONN)) return -errno;
  pthread_mutex_lock(&connecting);
  int result = 0;
  // Another thread may have found it meanwhile.
  if (send_with(broker, request, size, descriptors, count) < 0) {
    result = connect_broker();
    if (result == 0 && send_with(broker, request, size, descriptors, count) < 0) result = -errno;
  }
  pthread_mutex_unlock(&connecting);
  return result;
}

/* Asks by words, and returns the end by which the answer comes, or the negative of errno. */
static int ask_words(const char *const words[], const int descriptors[], size_t count) {
  char request[request_limit];
  size_t size = 0;
  for (size_t number = 0; words[number]; number++) {
    size_t length = strlen(words[number]) + 1;
    if (size + length > sizeof request) return -E2BIG;
    memcpy(request + size, words[number], length);
    size += length;
  }
  int ends[2], all[descriptor_limit];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return -errno;
  memcpy(all, descriptors, count * sizeof *all);
  all[count] = ends[1];
  int result = ask(request, size, all, count + 1);
  close(ends[1]);
  if (result == 0) return ends[0];
  close(ends[0]);
  return result;
}

/* Waits for an answer of a size; returns its descriptor where it has one, else 0, or the negative
 * of errno. */
static int await(int end, void *answer, size_t size) {
  struct pollfd wait = {.fd = end, .events = POLLIN};
  int ready;
  do ready = poll(&wait, 1, patience);
  while (ready < 0 && errno == EINTR);
  if (ready == 0) return -ETIMEDOUT;
  int descriptors[descriptor_limit];
  size_t count;
  ssize_t received = receive_with(end, answer, size, descriptors, &count);
  int first = count > 0 ? descriptors[0] : 0;
  for (size_t number = 1; number < count; number++) close(descriptors[number]);
  if (received == (ssize_t)size) return first;
  if (count > 0) close(first);
  return -EPIPE;
}

/* Asks by words and waits for an answer of a size, as `await` does; a second time where the one
 * that was asked has ended meanwhile, as all that is asked can be asked twice. `end` is the end by
 * which more comes, to be closed; null for none. */
static int ask_and_await(
    const char *const words[], const int descriptors[], size_t count, void *answer, size_t size, int *end) {
  int result = -EPIPE;
  for (int attempt = 0; attempt < 2 && result == -EPIPE; attempt++) {
    int asked = ask_words(words, descriptors, count);
    if (asked < 0) return asked;
    result = await(asked, answer, size);
    if (result >= 0 && end)
      *end = asked;
    else
      close(asked);
  }
  return result;
}

/* Asks for a descriptor. */
static int ask_descriptor(const char *const words[], const int descriptors[], size_t count) {
  int failure = 0;
  int result = ask_and_await(words, descriptors, count, &failure, sizeof failure, NULL);
  if (result < 0) return result;
  if (failure == 0) return result > 0 ? result : -EPIPE;
  if (result > 0) close(result);
  return failure < 0 ? failure : -EPIPE;
}

int ovx_broker_open_namespace(const char *path) {
  return ask_descriptor((const char *const[]){namespace_word, path, NULL}, NULL, 0);
}

int ovx_broker_open_thing(int namespace, int thing, const char *path) {
  char number[16];
  snprintf(number, sizeof number, "%d", thing);
  return ask_descriptor(
      (const char *const[]){thing_word, number, path ? path : "", NULL}, (const int[]){namespace}, 1);
}

/* Asks about a number, for an answer of a size. */
static int ask_about(const char *word, int64_t number, void *answer, size_t size) {
  char digits[24];
  snprintf(digits, sizeof digits, "%lld", (long long)number);
  int result = ask_and_await((const char *const[]){word, digits, NULL}, NULL, 0, answer, size, NULL);
  if (result > 0) close(result);
  return result < 0 ? result : 0;
}

int ovx_broker_look_at_processes(int64_t from, struct ovx_occupants *found) {
  int result = ask_about(processes_word, from, found, sizeof *found);
  if (result == 0 && found->count >= 0 && found->count <= OVX_OCCUPANTS) return 0;
  memset(found, 0, sizeof *found);
  return result;
}

void ovx_broker_container_of(pid_t pid, char id[OVX_CONTAINER_ID + 1]) {
  if (ask_about(container_word, pid, id, OVX_CONTAINER_ID + 1) < 0) id[0] = '\0';
  id[OVX_CONTAINER_ID] = '\0';
}

int ovx_broker_spawn(const char *path, char *const arguments[], int output, int errors) {
  const char *words[word_limit + 1] = {run_word, path};
  size_t count = 2;
  for (size_t number = 1; arguments[number]; number++) {
    if (count == word_limit) return -E2BIG;
    words[count++] = arguments[number];
  }
  int failure = 0, end;
  int result = ask_and_await(words, (const int[]){output, errors}, 2, &failure, sizeof failure, &end);
  if (result < 0) return result;
  if (result > 0) close(result);
  if (failure == 0) return end;
  close(end);
  return failure;
}
