#ifndef OVX_CLINUX_H
#define OVX_CLINUX_H
#include <liburing.h>
#include <libmnl/libmnl.h>
#include "sockets.h"
#include "ring.h"
#include "netlink.h"
#endif
