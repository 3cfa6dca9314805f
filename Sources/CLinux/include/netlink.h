/* Route netlink and network namespaces: what Swift cannot say and what the installed headers (Linux 6.1) do not have. */
#ifndef OVX_NETLINK_H
#define OVX_NETLINK_H

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/veth.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Attributes younger than the headers of Linux 6.1 (<linux/if_link.h> since Linux 6.3). */
enum {
  OVX_IFLA_GSO_IPV4_MAX_SIZE = 63,
};

/* What kind of namespace a descriptor refers to: a CLONE_NEW... flag, or the negative of errno (ioctl_ns(2)). */
static inline int ovx_namespace_type(int fd) {
  int type = ioctl(fd, NS_GET_NSTYPE);
  return type < 0 ? -errno : type;
}

/* setns(2) and unshare(2) for network namespaces: the C library shows them to _GNU_SOURCE only, which would give this
 * module other types than Swift's Glibc has. Each returns 0, or the negative of errno. */
static inline int ovx_enter_network_namespace(int fd) {
  return syscall(SYS_setns, fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

static inline int ovx_leave_for_new_network_namespace(void) {
  return syscall(SYS_unshare, CLONE_NEWNET) < 0 ? -errno : 0;
}

#endif
