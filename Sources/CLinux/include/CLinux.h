#ifndef OVX_CLINUX_H
#define OVX_CLINUX_H
/* First: <liburing.h> 2.3 defines _XOPEN_SOURCE, which would give this module another fd_set than
 * Swift's Glibc has. */
#include <features.h>
/* Before <liburing.h>, whose own copy of it differs from the one that swift-system's module has. */
#include <linux/io_uring.h>
#include <liburing.h>
#include <libmnl/libmnl.h>
#include <malloc.h>
#include "sockets.h"
#include "ring.h"
#include "netlink.h"
#include "process.h"
#include "broker.h"
#include "probe.h"
#include "daemon.h"
#include "fastpath.h"
#include "footprint.h"
#include "handover.h"
#include "names.h"
#endif
