#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <unistd.h>

static int prepare(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes, int report, bool keeps_errors) {
  // The descriptor first: one of 0 to 2 would be overwritten by what follows.
  int failure = posix_spawn_file_actions_adddup2(actions, report, OVX_REPORT_DESCRIPTOR);
  for (int standard = 0; !failure && standard < (keeps_errors ? 2 : 3); standard++)
    failure = posix_spawn_file_actions_addopen(actions, standard, "/dev/null", O_RDWR, 0);
  if (!failure)
    failure = posix_spawn_file_actions_addclosefrom_np(actions, OVX_REPORT_DESCRIPTOR + 1);
  if (!failure) failure = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID);
  return failure;
}

pid_t ovx_spawn_daemon(char *const arguments[], int report, bool keeps_errors) {
  /* The kernel names a process after the file: of the link's own name, pgrep(1) and pidof(8) would
   * find "exe". */
  char own[PATH_MAX];
  const char *path = "/proc/self/exe";
  ssize_t length = readlink(path, own, sizeof own - 1);
  if (length > 0) {
    own[length] = '\0';
    if (access(own, X_OK) == 0) path = own;
  }
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  int failure = posix_spawn_file_actions_init(&actions);
  if (failure) return -failure;
  failure = posix_spawnattr_init(&attributes);
  if (failure) {
    posix_spawn_file_actions_destroy(&actions);
    return -failure;
  }
  pid_t child = 0;
  failure = prepare(&actions, &attributes, report, keeps_errors);
  if (!failure) failure = posix_spawn(&child, path, &actions, &attributes, arguments, environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return failure ? -failure : child;
}
