#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "starter.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process.h"

enum {
  request_limit = 4096,
  argument_limit = 16,
  descriptor_count = 3,
  /* Milliseconds for a program to be started in: where it takes longer, nothing works on this host. */
  patience = 10000,
};

/* The asking process's end; -1 before there is one. */
static int starter = -1;

/* Looks at what is asked for, and takes it apart in place; false for what is not done. */
static bool read_request(char *request, size_t size, char *const programs[], char *words[]) {
  if (size == 0 || request[size - 1] != '\0') return false;
  int count = 0;
  for (char *word = request; word < request + size; word += strlen(word) + 1) {
    if (count == argument_limit) return false;
    words[count++] = word;
  }
  words[count] = NULL;
  if (count < 2 || (strcmp(words[1], "inspect") != 0 && strcmp(words[1], "events") != 0)) return false;
  for (int number = 0; programs[number]; number++)
    if (strcmp(words[0], programs[number]) == 0) return true;
  return false;
}

static void tell(int to, int number) { (void)send(to, &number, sizeof number, MSG_NOSIGNAL); }

/* The life of one program: tells how its start went, then its status, and kills it when nobody listens any more. */
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

static void serve_one(int from, char *const programs[], char *request, size_t size, const int descriptors[]) {
  char *words[argument_limit + 1];
  int asker = descriptors[2];
  if (!read_request(request, size, programs, words)) {
    tell(asker, -EPERM);
    return;
  }
  pid_t minder = fork();
  if (minder < 0) tell(asker, -errno);
  if (minder != 0) return;
  close(from);
  mind(asker, words, descriptors[0], descriptors[1]);
}

static _Noreturn void serve(int from, char *const programs[]) {
  char request[request_limit];
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(descriptor_count * sizeof(int))];
  } control;
  for (;;) {
    struct iovec part = {request, sizeof request};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t size = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) _exit(0);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_type != SCM_RIGHTS) continue;
    int descriptors[descriptor_count];
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(descriptors, CMSG_DATA(header), count * sizeof(int));
    if (count == descriptor_count && !(message.msg_flags & MSG_TRUNC))
      serve_one(from, programs, request, (size_t)size, descriptors);
    for (size_t number = 0; number < count; number++) close(descriptors[number]);
  }
}

/* Leaves everything behind that is the asking process's. */
static _Noreturn void become_starter(int from, char *const programs[]) {
  int null = open("/dev/null", O_RDWR);
  for (int standard = 0; standard < 3; standard++) dup2(null, standard);
  if (from != 3) dup2(from, 3);
  close_range(4, ~0u, 0);
  fcntl(3, F_SETFD, FD_CLOEXEC);
  (void)chdir("/");
  prctl(PR_SET_NAME, "ovx-starter");
  // Nobody but the asking process ends it.
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  signal(SIGCHLD, SIG_IGN);
  serve(3, programs);
}

int ovx_starter_begin(char *const programs[]) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return -errno;
  pid_t child = fork();
  if (child == 0) become_starter(ends[1], programs);
  int failure = errno;
  close(ends[1]);
  if (child < 0) {
    close(ends[0]);
    return -failure;
  }
  starter = ends[0];
  return 0;
}

bool ovx_starter_has_begun(void) { return starter >= 0; }

/* Sends the request with its descriptors. */
static int ask(const char *request, size_t size, const int descriptors[]) {
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(descriptor_count * sizeof(int))];
  } control;
  memset(&control, 0, sizeof control);
  struct iovec part = {(void *)request, size};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(descriptor_count * sizeof(int));
  memcpy(CMSG_DATA(header), descriptors, descriptor_count * sizeof(int));
  while (sendmsg(starter, &message, MSG_NOSIGNAL) < 0)
    if (errno != EINTR) return -errno;
  return 0;
}

/* How the start went: 0, or the negative of errno. */
static int await_start(int end) {
  struct pollfd wait = {.fd = end, .events = POLLIN};
  int ready = poll(&wait, 1, patience);
  if (ready == 0) return -ETIMEDOUT;
  int failure;
  ssize_t size = recv(end, &failure, sizeof failure, 0);
  return size == sizeof failure ? failure : -ECHILD;
}

int ovx_starter_spawn(const char *path, char *const arguments[], int output, int errors) {
  char request[request_limit];
  size_t size = 0;
  for (int number = 0; number == 0 || arguments[number]; number++) {
    const char *word = number == 0 ? path : arguments[number];
    size_t length = strlen(word) + 1;
    if (size + length > sizeof request) return -E2BIG;
    memcpy(request + size, word, length);
    size += length;
  }
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return -errno;
  int result = ask(request, size, (int[]){output, errors, ends[1]});
  close(ends[1]);
  if (result == 0) result = await_start(ends[0]);
  if (result == 0) return ends[0];
  close(ends[0]);
  return result;
}
