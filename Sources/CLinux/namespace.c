#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "netlink.h"

/* Closes a descriptor and reports the error that was there before. */
static int give_up(int fd, int failure) {
  close(fd);
  return -failure;
}

int ovx_open_network_namespace(const char *path) {
  /* The file may be anything, and opening a pipe or a device can wait or have effects. O_PATH opens
   * nothing. */
  int place = open(path, O_PATH | O_CLOEXEC);
  if (place < 0) return -errno;
  struct statfs system;
  if (fstatfs(place, &system) < 0) return give_up(place, errno);
  if (system.f_type != NSFS_MAGIC) return give_up(place, EINVAL);
  char name[32];
  snprintf(name, sizeof name, "/proc/self/fd/%d", place);
  int fd = open(name, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return give_up(place, errno);
  close(place);
  int type = ioctl(fd, NS_GET_NSTYPE);
  return type == CLONE_NEWNET ? fd : give_up(fd, EINVAL);
}

int ovx_enter_network_namespace(int fd) { return setns(fd, CLONE_NEWNET) < 0 ? -errno : 0; }

int ovx_leave_for_new_network_namespace(void) { return unshare(CLONE_NEWNET) < 0 ? -errno : 0; }
