/* Route netlink, nf_tables and network namespaces: what Swift cannot say and what the installed
 * headers (Linux 6.1) do not have. */
#ifndef OVX_NETLINK_H
#define OVX_NETLINK_H

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/net_namespace.h>
#include <linux/netlink.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <linux/veth.h>

/* Attributes younger than the headers of Linux 6.1 (<linux/if_link.h> since Linux 6.3). */
enum {
  OVX_IFLA_GSO_IPV4_MAX_SIZE = 63,
};

/* Of <linux/netfilter.h> and <linux/xfrm.h>, which do not stand beside the C library's own
 * addresses: where chains hang on the way of packets, what becomes of a packet, and requests about
 * policies of IPsec. */
enum {
  OVX_NF_INET_PRE_ROUTING = 0,
  OVX_NF_INET_LOCAL_IN = 1,
  OVX_NF_INET_LOCAL_OUT = 3,
  OVX_NF_INET_POST_ROUTING = 4,
  OVX_NF_NETDEV_INGRESS = 0,
  OVX_NF_DROP = 0,
  OVX_XFRM_MSG_NEWPOLICY = 0x13,
  OVX_XFRM_MSG_GETPOLICY = 0x15,
};

/* Opens the file of a network namespace, and nothing else: no file of another kind is touched.
 * Returns its descriptor, or the negative of errno: of EINVAL for another file. */
int ovx_open_network_namespace(const char *path);

/* setns(2) and unshare(2), which the C library shows to _GNU_SOURCE only, and that would give this
 * module other types than Swift's Glibc has. Each returns 0, or the negative of errno. */
int ovx_enter_network_namespace(int fd);
int ovx_leave_for_new_network_namespace(void);

#endif
