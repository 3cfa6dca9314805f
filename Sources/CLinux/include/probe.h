/* What the kernel offers, for the checks at start-up. */
#ifndef OVX_PROBE_H
#define OVX_PROBE_H
#include <liburing.h>
#include <stdio.h>
#include <sys/utsname.h>

/* Whether the kernel gives a ring as the worker needs it: 0, or the negative of errno. `deferring`
 * asks for one that posts completions only when its thread asks for them (Linux 6.1), else for one
 * that does not interrupt (5.19). */
static inline int ovx_probe_ring(int deferring) {
  struct io_uring ring;
  unsigned flags = deferring ? IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
                             : IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL;
  int result = io_uring_queue_init(2, &ring, flags);
  if (result == 0) io_uring_queue_exit(&ring);
  return result;
}

/* The kernel's version as major << 16 | minor << 8, 0 where it does not tell. */
static inline unsigned ovx_kernel_version(void) {
  struct utsname name;
  unsigned major, minor;
  if (uname(&name) != 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2 || minor > 255) return 0;
  return major << 16 | minor << 8;
}

#endif
