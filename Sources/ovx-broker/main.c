/* The broker as a service of its own, so that ovx-vswitchd has none of its rights from the
 * beginning: ovx-broker.socket starts one for each connection, and that is ovx-vswitchd's
 * (broker.h). With the words "names PREFIX" it is ovx-gatewayd's maker of namespaces' names, which
 * ovx-names.socket starts (names.h). */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker.h"
#include "names.h"

/* What a service manager has passed on (sd_listen_fds(3)): one connection, by this number. */
enum { connection = 3 };

int main(int count, char *words[]) {
  const char *process = getenv("LISTEN_PID"), *passed = getenv("LISTEN_FDS");
  if (!process || atol(process) != getpid() || !passed || strcmp(passed, "1") != 0) {
    fputs(
        "ovx-broker: there is no connection to serve. ovx-broker.socket of systemd starts it, for ovx-vswitchd; without "
        "systemd, ovx-vswitchd starts one of its own.\n",
        stderr);
    return 2;
  }
  fcntl(connection, F_SETFD, FD_CLOEXEC);
  if (count == 3 && strcmp(words[1], "names") == 0 && words[2][0] != '\0') ovx_names_serve(connection, words[2]);
  if (count == 1) ovx_broker_serve(connection);
  fputs("ovx-broker: its only words are \"names PREFIX\", as ovx-names@.service has them.\n", stderr);
  return 2;
}
