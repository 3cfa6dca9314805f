// Route netlink, network namespaces and child processes: headers, and what Swift cannot reach without help.
#ifndef OVX_NETLINK_H
#define OVX_NETLINK_H

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/veth.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

// Attributes younger than the headers of Linux 6.1 (<linux/if_link.h> since Linux 6.3).
enum {
  OVX_IFLA_GSO_IPV4_MAX_SIZE = 63,
};

// What kind of namespace a descriptor refers to: a CLONE_NEW... flag, or -1 with errno set (ioctl_ns(2)).
static inline int ovx_namespace_type(int fd) { return ioctl(fd, NS_GET_NSTYPE); }

// setns(2) and unshare(2) for network namespaces: the C library shows them to _GNU_SOURCE only, which would give this
// module other types than Swift's Glibc has.
static inline int ovx_enter_network_namespace(int fd) { return (int)syscall(SYS_setns, fd, CLONE_NEWNET); }
static inline int ovx_leave_for_new_network_namespace(void) { return (int)syscall(SYS_unshare, CLONE_NEWNET); }

// A descriptor that becomes readable when a process ends (pidfd_open(2)).
static inline int ovx_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

// The process's environment. Reading it races with setenv, which this program never calls.
static inline char **ovx_environment(void) {
  extern char **environ;
  return environ;
}

#endif
