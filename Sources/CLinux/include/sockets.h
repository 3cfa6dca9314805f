/* TAP devices, packet sockets and UDP sockets: what Swift cannot say (ioctl numbers made by macros,
 * unions) and what the installed headers (Linux 6.1) do not have yet. */
#ifndef OVX_SOCKETS_H
#define OVX_SOCKETS_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sock_diag.h>
#include <linux/udp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* UDP superframes through TUN, Linux 6.2 (<linux/if_tun.h>). */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* Tunnels of UDP through TUN, Linux 6.17. */
#ifndef TUN_F_UDP_TUNNEL_GSO
#define TUN_F_UDP_TUNNEL_GSO 0x80
#define TUN_F_UDP_TUNNEL_GSO_CSUM 0x100
#endif

enum {
  ovx_tun_checksum = TUN_F_CSUM,
  ovx_tun_tcp4 = TUN_F_TSO4,
  ovx_tun_tcp6 = TUN_F_TSO6,
  ovx_tun_ecn = TUN_F_TSO_ECN,
  ovx_tun_udp = TUN_F_USO4 | TUN_F_USO6,
  ovx_tun_tunnel = TUN_F_UDP_TUNNEL_GSO | TUN_F_UDP_TUNNEL_GSO_CSUM,
};

/* Each returns a non-negative number, or the negative of errno. */

static inline int ovx_open_tun(void) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

/* Attaches the descriptor to the TAP device of this name, making it if there is none; with several
 * queues as one more of them. `name` has a terminator. */
static inline int ovx_attach_tap(int fd, const char *name, bool multi_queue) {
  struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
  if (multi_queue) request.ifr_flags |= IFF_MULTI_QUEUE;
  if (strlen(name) >= IFNAMSIZ) return -ENAMETOOLONG;
  strcpy(request.ifr_name, name);
  return ioctl(fd, TUNSETIFF, &request) < 0 ? -errno : 0;
}

static inline int ovx_set_tap_header_size(int fd, int size) {
  return ioctl(fd, TUNSETVNETHDRSZ, &size) < 0 ? -errno : 0;
}

static inline int ovx_set_tap_offloads(int fd, unsigned long offloads) {
  return ioctl(fd, TUNSETOFFLOAD, offloads) < 0 ? -errno : 0;
}

/* Whether the device that the descriptor was attached to is still there. */
static inline bool ovx_tap_is_alive(int fd) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  return ioctl(fd, TUNGETIFF, &request) == 0;
}
/* What a device cuts by itself (ethtool -k): superframes of TCP, also with ECN's mark of a reduced
 * window, of UDP, and those in UDP tunnels. */
enum {
  ovx_feature_tcp4 = 1,
  ovx_feature_tcp6 = 2,
  ovx_feature_ecn = 4,
  ovx_feature_udp = 8,
  ovx_feature_tunnel = 16,
};

/* Those of a device of the calling thread's network namespace that are switched on; one that the
 * kernel does not know is not. */
int ovx_device_features(const char *device);

/* Opens the network namespace that the device of a TAP is in, wherever it was moved to; -errno
 * where it is gone. */
static inline int ovx_tap_namespace(int fd) {
  int number = ioctl(fd, TUNGETDEVNETNS);
  return number < 0 ? -errno : number;
}

/* The speed of a device of the calling thread's network namespace in Mb/s; -errno where it has
 * none. */
long ovx_link_speed(const char *device);
static inline int ovx_set_tap_persistent(int fd, bool persistent) {
  return ioctl(fd, TUNSETPERSIST, (unsigned long)persistent) < 0 ? -errno : 0;
}

/* A packet socket that receives nothing until it is bound: protocol 0, so that no frame of another
 * device gets in. */
static inline int ovx_open_packet_socket(void) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return fd < 0 ? -errno : fd;
}

static inline int ovx_bind_packet_socket(int fd, unsigned index) {
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)index};
  return bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
}

#ifndef PACKET_FANOUT_FLAG_IGNORE_OUTGOING
#define PACKET_FANOUT_FLAG_IGNORE_OUTGOING 0x4000
#endif

/* Makes the bound socket the first of a group that shares what arrives, by flows; returns the
 * group's number. */
static inline int ovx_found_fanout(int fd) {
  int argument = (PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_UNIQUEID | PACKET_FANOUT_FLAG_IGNORE_OUTGOING) << 16;
  socklen_t size = sizeof argument;
  if (setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &argument, size) < 0) return -errno;
  return getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &argument, &size) < 0 ? -errno : argument & 0xffff;
}

/* Makes the bound socket another one of the group, and throws away what it has received by itself
 * until then. */
static inline int ovx_join_fanout(int fd, int group) {
  int argument = (PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_IGNORE_OUTGOING) << 16 | group;
  char byte;
  if (setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &argument, sizeof argument) < 0) return -errno;
  for (int count = 0; count < 1 << 16 && recv(fd, &byte, 1, MSG_DONTWAIT | MSG_TRUNC) >= 0; count++) continue;
  return 0;
}

/* Membership rather than IFF_PROMISC: the kernel takes it back when the socket goes, however it
 * goes. */
static inline int ovx_join_promiscuous(int fd, unsigned index) {
  struct packet_mreq request = {.mr_ifindex = (int)index, .mr_type = PACKET_MR_PROMISC};
  return setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof request) < 0 ? -errno : 0;
}

/* Addresses in network byte order: 4 bytes where `ipv6` is false, else 16. */
static inline socklen_t ovx_fill_address(
    struct sockaddr_storage *storage, bool ipv6, const unsigned char *bytes, unsigned short port) {
  memset(storage, 0, sizeof *storage);
  if (ipv6) {
    struct sockaddr_in6 *address = (struct sockaddr_in6 *)storage;
    address->sin6_family = AF_INET6;
    address->sin6_port = htons(port);
    memcpy(&address->sin6_addr, bytes, 16);
    return sizeof *address;
  }
  struct sockaddr_in *address = (struct sockaddr_in *)storage;
  address->sin_family = AF_INET;
  address->sin_port = htons(port);
  memcpy(&address->sin_addr, bytes, 4);
  return sizeof *address;
}

/* The group that the sockets of the underlay are opened with, by which packet filters tell them
 * from everybody else's (`meta skgid`): nobody's, of the range that systemd calls unused
 * (2147483648 to 4294967294). A mark would tell them as well, but takes part in routing and IPsec,
 * and others' rules change it. */
static const unsigned ovx_socket_group = 0xfffe0000 + 4789;

/* Whether a socket was opened with that group, which takes CAP_SETGID. */
static inline bool ovx_has_socket_group(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && status.st_gid == ovx_socket_group;
}

/* Of the group of the underlay's sockets where that is permitted. */
static inline int ovx_open_udp_socket(bool ipv6) {
  int former = setfsgid(ovx_socket_group);
  int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
  int result = fd < 0 ? -errno : fd;
  setfsgid((gid_t)former);
  return result;
}

static inline int ovx_bind_udp_socket(int fd, bool ipv6, const unsigned char *bytes, unsigned short port) {
  struct sockaddr_storage storage;
  socklen_t size = ovx_fill_address(&storage, ipv6, bytes, port);
  return bind(fd, (struct sockaddr *)&storage, size) < 0 ? -errno : 0;
}

static inline int ovx_connect_udp_socket(int fd, bool ipv6, const unsigned char *bytes, unsigned short port) {
  struct sockaddr_storage storage;
  socklen_t size = ovx_fill_address(&storage, ipv6, bytes, port);
  return connect(fd, (struct sockaddr *)&storage, size) < 0 ? -errno : 0;
}

/* What the kernel knows of the path of a connected UDP socket: the largest IP packet in bytes. */
static inline int ovx_path_mtu(int fd) {
  int domain = 0, mtu = 0;
  socklen_t size = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0) return -errno;
  size = sizeof mtu;
  int result = domain == AF_INET6 ? getsockopt(fd, IPPROTO_IPV6, IPV6_MTU, &mtu, &size)
                                  : getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &size);
  return result < 0 ? -errno : mtu;
}

/* Whether a socket is of IPv6. */
static inline bool ovx_is_ipv6(int fd) {
  int domain = 0;
  socklen_t size = sizeof domain;
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_INET6;
}

/* Whether a UDP socket leaves the checksum out: then the kernel cuts nothing for it. */
static inline bool ovx_omits_checksum(int fd) {
  int value = 0;
  socklen_t size = sizeof value;
  int level = ovx_is_ipv6(fd) ? IPPROTO_UDP : SOL_SOCKET;
  return getsockopt(fd, level, level == SOL_SOCKET ? SO_NO_CHECK : UDP_NO_CHECK6_TX, &value, &size) == 0 && value;
}

/* Both ends of a UDP socket, addresses in network byte order: 4 bytes where `ipv6` is false,
 * else 16. Zeros where there is none: the far end of a socket that listens, the near one of a
 * descriptor that is no socket. */
struct ovx_socket_ends {
  bool ipv6;
  unsigned short local_port;
  unsigned short remote_port;
  unsigned char local[16];
  unsigned char remote[16];
};

static inline void ovx_take_address(
    const struct sockaddr_storage *storage, unsigned char *bytes, unsigned short *port) {
  if (storage->ss_family == AF_INET6) {
    const struct sockaddr_in6 *address = (const struct sockaddr_in6 *)storage;
    memcpy(bytes, &address->sin6_addr, 16);
    *port = ntohs(address->sin6_port);
  } else if (storage->ss_family == AF_INET) {
    const struct sockaddr_in *address = (const struct sockaddr_in *)storage;
    memcpy(bytes, &address->sin_addr, 4);
    *port = ntohs(address->sin_port);
  }
}

static inline struct ovx_socket_ends ovx_socket_ends(int fd) {
  struct ovx_socket_ends ends = {0};
  struct sockaddr_storage storage = {0};
  socklen_t size = sizeof storage;
  if (getsockname(fd, (struct sockaddr *)&storage, &size) == 0) {
    ends.ipv6 = storage.ss_family == AF_INET6;
    ovx_take_address(&storage, ends.local, &ends.local_port);
  }
  memset(&storage, 0, sizeof storage);
  size = sizeof storage;
  if (getpeername(fd, (struct sockaddr *)&storage, &size) == 0)
    ovx_take_address(&storage, ends.remote, &ends.remote_port);
  return ends;
}

/* Frames that a packet socket had no room for since this was last asked; 0 where the kernel does
 * not tell. */
static inline unsigned ovx_take_packet_drops(int fd) {
  struct tpacket_stats statistics;
  socklen_t size = sizeof statistics;
  if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &size) < 0) return 0;
  return statistics.tp_drops;
}

/* Whether the device that a packet socket is bound to has a carrier: for a veth, whether its other
 * end is up. True where the kernel does not tell. */
static inline bool ovx_has_carrier(int fd) {
  struct sockaddr_ll bound;
  socklen_t size = sizeof bound;
  struct ifreq request = {0};
  if (getsockname(fd, (struct sockaddr *)&bound, &size) < 0) return true;
  request.ifr_ifindex = bound.sll_ifindex;
  if (ioctl(fd, SIOCGIFNAME, &request) < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0) return true;
  return request.ifr_flags & IFF_RUNNING;
}

/* Datagrams that a UDP socket had no room for, or whose checksum was wrong, since it was opened. */
static inline unsigned ovx_udp_drops(int fd) {
  unsigned facts[SK_MEMINFO_VARS] = {0};
  socklen_t size = sizeof facts;
  if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, facts, &size) < 0) return 0;
  return facts[SK_MEMINFO_DROPS];
}

#endif
