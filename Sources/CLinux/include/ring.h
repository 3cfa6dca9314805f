/* io_uring: constants that liburing 2.3 does not have, and the few helpers that Swift cannot say. */
#ifndef OVX_RING_H
#define OVX_RING_H
#include <liburing.h>
#endif
