/* The broker as a service of its own, so that ovx-vswitchd has none of its rights from the beginning: ovx-broker.socket
 * starts one for each connection, and that is ovx-vswitchd's (broker.h). */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker.h"

/* What a service manager has passed on (sd_listen_fds(3)): one connection, by this number. */
enum { connection = 3 };

int main(void) {
  const char *process = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
  if (!process || atol(process) != getpid() || !count || strcmp(count, "1") != 0) {
    fputs(
        "ovx-broker: there is no connection to serve. ovx-broker.socket of systemd starts it, for ovx-vswitchd; without "
        "systemd, ovx-vswitchd starts one of its own.\n",
        stderr);
    return 2;
  }
  fcntl(connection, F_SETFD, FD_CLOEXEC);
  ovx_broker_serve(connection);
}
