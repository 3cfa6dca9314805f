#ifndef OVX_CLINUX_H
#define OVX_CLINUX_H
/* Before liburing.h, whose own copy of it differs from what swift-system includes. */
#include <linux/io_uring.h>
#include <liburing.h>
#include <libmnl/libmnl.h>
#include "sockets.h"
#include "ring.h"
#include "netlink.h"
#endif
