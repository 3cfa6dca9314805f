#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "names.h"

#include "handover.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char directory[] = "/run/netns";

enum {
  /* Bytes of a name, its terminator included. */
  name_limit = 256,
  /* Milliseconds for an answer: where it takes longer, nothing works on this host. */
  patience = 10000,
};

/* A request is a name with its terminator, and the namespace that is to have it; without one the
 * name is taken back. The answer is an int: 0, or the negative of errno. */

/* --- Serving --------------------------------------------------------------------------------- */

static bool may_be_named(const char *name, size_t size, const char *prefix) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
  size_t length = strnlen(name, size);
  return length + 1 == size && strncmp(name, prefix, strlen(prefix)) == 0 && name[strspn(name, letters)] == '\0' &&
         prefix[0] != '.';
}

/* The directory of names, made so that others' mount namespaces hear of what is mounted in it
 * (ip-netns(8)). */
static int prepare(void) {
  if (mkdir(directory, 0755) < 0 && errno != EEXIST) return -errno;
  if (mount("", directory, "none", MS_SHARED | MS_REC, NULL) == 0) return 0;
  // It is no mount yet.
  if (errno != EINVAL) return -errno;
  if (mount(directory, directory, "none", MS_BIND | MS_REC, NULL) < 0) return -errno;
  return mount("", directory, "none", MS_SHARED | MS_REC, NULL) < 0 ? -errno : 0;
}

static int give_name(const char *path, int namespace) {
  if (ioctl(namespace, NS_GET_NSTYPE) != CLONE_NEWNET) return -EINVAL;
  int result = prepare();
  if (result < 0) return result;
  int place = open(path, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0);
  if (place < 0) return -errno;
  close(place);
  char source[32];
  snprintf(source, sizeof source, "/proc/self/fd/%d", namespace);
  if (mount(source, path, "none", MS_BIND, NULL) == 0) return 0;
  result = -errno;
  unlink(path);
  return result;
}

static int take_name(const char *path) {
  // A file without a mount is what a namespace leaves that went in a mount namespace that has
  // ended.
  if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT) return -errno;
  return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

_Noreturn void ovx_names_serve(int from, const char *prefix) {
  prctl(PR_SET_NAME, "ovx-names");
  // Files of names are nobody's to open; what is mounted on them has permissions of its own.
  umask(0);
  for (;;) {
    char name[name_limit];
    int given[OVX_HANDED_LIMIT];
    size_t count;
    long size = ovx_receive_message(from, name, sizeof name, given, &count);
    // What does not fit is refused as any other that is no request; at the end there is nobody to
    // answer.
    if (size <= 0 && size != -EMSGSIZE) _exit(0);
    int answer = -EPERM;
    // More than one is none that is meant to have a name, and no name is taken back by mistake.
    if (size > 0 && count < 2 && may_be_named(name, (size_t)size, prefix)) {
      char path[sizeof directory + name_limit];
      snprintf(path, sizeof path, "%s/%s", directory, name);
      answer = count == 0 ? take_name(path) : give_name(path, given[0]);
    }
    for (size_t number = 0; number < count; number++) close(given[number]);
    if (send(from, &answer, sizeof answer, MSG_NOSIGNAL) != sizeof answer) _exit(0);
  }
}

/* --- Asking ---------------------------------------------------------------------------------- */

static int ask(int fd, const char *name, int namespace) {
  int result = ovx_send_message(fd, name, strlen(name) + 1, &namespace, namespace < 0 ? 0 : 1);
  if (result < 0) return result;
  struct pollfd wait = {.fd = fd, .events = POLLIN};
  int ready;
  do ready = poll(&wait, 1, patience);
  while (ready < 0 && errno == EINTR);
  if (ready == 0) return -ETIMEDOUT;
  int answer;
  if (recv(fd, &answer, sizeof answer, 0) != sizeof answer) return -EPIPE;
  return answer < 0 ? answer : 0;
}

int ovx_names_ask(const char *path, const char *name, int namespace) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path || strlen(name) >= name_limit) return -ENAMETOOLONG;
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int result = connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : ask(fd, name, namespace);
  close(fd);
  return result;
}
