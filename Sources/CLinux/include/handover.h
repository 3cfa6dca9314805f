/* Messages with descriptors, from one process of a host to another (unix(7), SCM_RIGHTS), and what
 * a descriptor that came so is of. */
#ifndef OVX_HANDOVER_H
#define OVX_HANDOVER_H

#include <errno.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Descriptors in one message at most; the kernel takes 253 (SCM_MAX_FD). */
enum { OVX_HANDED_LIMIT = 64 };

/* Sends one message whole; returns 0, or the negative of errno. */
static inline int ovx_send_message(int fd, const void *bytes, size_t size, const int *descriptors, size_t count) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * OVX_HANDED_LIMIT)];
  } control;
  struct iovec vector = {.iov_base = (void *)bytes, .iov_len = size};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (count > OVX_HANDED_LIMIT) return -EINVAL;
  if (count > 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(header), descriptors, sizeof(int) * count);
  }
  ssize_t sent;
  do {
    sent = sendmsg(fd, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return -errno;
  return (size_t)sent == size ? 0 : -EMSGSIZE;
}

/* Receives one message into `size` bytes, and its descriptors into OVX_HANDED_LIMIT places. Returns
 * its length, 0 where the other end is closed, or the negative of errno: EMSGSIZE for one that does
 * not fit, whose descriptors are closed. */
static inline long ovx_receive_message(int fd, void *bytes, size_t size, int *descriptors, size_t *count) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * OVX_HANDED_LIMIT)];
  } control;
  struct iovec vector = {.iov_base = bytes, .iov_len = size};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  *count = 0;
  ssize_t received;
  // Where the other end was closed with something unread, the kernel says so first, and once: what
  // had been sent before that is in the queue still.
  int resets = 0;
  do {
    received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  } while (received < 0 && (errno == EINTR || (errno == ECONNRESET && resets++ == 0)));
  if (received < 0) return -errno;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t number = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t place = 0; place < number; place++) {
      int descriptor;
      memcpy(&descriptor, CMSG_DATA(header) + place * sizeof descriptor, sizeof descriptor);
      if (*count < OVX_HANDED_LIMIT)
        descriptors[(*count)++] = descriptor;
      else
        close(descriptor);
    }
  }
  if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
    while (*count > 0) close(descriptors[--*count]);
    return -EMSGSIZE;
  }
  return received;
}

/* The name that the device of a TAP with virtio-net headers has now, where it is; `name` has
 * IFNAMSIZ bytes. Returns 0, or the negative of errno: EINVAL for a descriptor of anything else. */
static inline int ovx_tap_name(int fd, char *name) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  if (ioctl(fd, TUNGETIFF, &request) < 0) return errno == ENOTTY ? -EINVAL : -errno;
  if (!(request.ifr_flags & IFF_TAP) || !(request.ifr_flags & IFF_VNET_HDR) || !(request.ifr_flags & IFF_NO_PI))
    return -EINVAL;
  memcpy(name, request.ifr_name, IFNAMSIZ);
  name[IFNAMSIZ - 1] = '\0';
  return 0;
}

/* The number of the device that a packet socket is bound to; 0 for none, and for a descriptor of
 * anything else. */
static inline unsigned ovx_packet_socket_index(int fd) {
  struct sockaddr_ll bound;
  socklen_t size = sizeof bound;
  memset(&bound, 0, sizeof bound);
  if (getsockname(fd, (struct sockaddr *)&bound, &size) < 0 || bound.sll_family != AF_PACKET) return 0;
  return (unsigned)bound.sll_ifindex;
}

/* Whether a descriptor is a UDP socket. */
static inline int ovx_is_udp_socket(int fd) {
  int protocol = 0;
  socklen_t size = sizeof protocol;
  return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_UDP;
}

#endif
