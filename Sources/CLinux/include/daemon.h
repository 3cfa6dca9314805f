/* What a daemon is made of: a session of its own, and signals as messages. */
#ifndef OVX_DAEMON_H
#define OVX_DAEMON_H
#include <stdbool.h>
#include <sys/signalfd.h>
#include <sys/types.h>

/* The descriptor that ovx_spawn_daemon hands down. */
enum { OVX_REPORT_DESCRIPTOR = 3 };

/* Starts the running program anew, with the calling process's environment in a session of its own.
 * It has no input and no output, and of our descriptors none but `report`, as
 * OVX_REPORT_DESCRIPTOR. `arguments` begins with its name and ends with NULL. With `keeps_errors`
 * it has our standard error. Returns its process's number, or the negative of errno. */
pid_t ovx_spawn_daemon(char *const arguments[], int report, bool keeps_errors);

#endif
