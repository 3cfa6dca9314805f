/* io_uring as the worker uses it: every request goes by a registered file and none of them waits in
 * the kernel, so each has been carried out when the enter that submitted it returns. Helpers that
 * Swift cannot say. */
#ifndef OVX_RING_H
#define OVX_RING_H

#include <endian.h>
#include <errno.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/if_packet.h>
#include <linux/udp.h>
#include <liburing.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Makes a ring for one thread, the calling one. Returns 0 or the negative of errno. Completions are
 * posted only when the thread asks (Linux 6.1); before that, when it enters the kernel. */
static inline int ovx_ring_open(struct io_uring *ring, unsigned submissions, unsigned completions) {
  static const unsigned modes[] = {
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
      IORING_SETUP_COOP_TASKRUN,
  };
  int result = -EINVAL;
  for (unsigned mode = 0; mode < 2 && result == -EINVAL; mode++) {
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | modes[mode], .cq_entries = completions};
    result = io_uring_queue_init_params(submissions, ring, &parameters);
  }
  if (result == 0) io_uring_register_ring_fd(ring); /* Saves a look-up per enter; the ring works without it. */
  return result;
}

/* The next completion, or NULL. It is valid until `ovx_ring_advance`. */
static inline struct io_uring_cqe *ovx_ring_peek(struct io_uring *ring) {
  unsigned head = *ring->cq.khead;
  if (head == io_uring_smp_load_acquire(ring->cq.ktail)) return NULL;
  return &ring->cq.cqes[head & ring->cq.ring_mask];
}

/* Looks for work for some time without sleeping, and says whether there is any. Whoever else wants
 * this core gets it at once: between two looks the thread yields. */
static inline bool ovx_ring_spin(struct io_uring *ring, long nanoseconds) {
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    for (int look = 0; look < 8; look++) {
      if (*ring->cq.khead != io_uring_smp_load_acquire(ring->cq.ktail)) return true;
      if (IO_URING_READ_ONCE(*ring->sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) return true;
      sched_yield();
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < nanoseconds);
  return false;
}

static inline void ovx_ring_advance(struct io_uring *ring) { io_uring_cq_advance(ring, 1); }

static inline struct io_uring_sqe *ovx_ring_entry(struct io_uring *ring) { return io_uring_get_sqe(ring); }

static inline unsigned ovx_ring_pending(struct io_uring *ring) { return io_uring_sq_ready(ring); }

static inline void ovx_prepare(
    struct io_uring_sqe *entry, int operation, int file, const void *address, unsigned count, uint64_t tag) {
  io_uring_prep_rw(operation, entry, file, address, count, 0);
  entry->flags = IOSQE_FIXED_FILE;
  entry->user_data = tag;
}

/* read(2) that answers EAGAIN. Without RWF_NOWAIT an empty TAP would arm a waiter, for 2
 * microseconds each. */
static inline void ovx_prepare_read(
    struct io_uring_sqe *entry, unsigned file, void *memory, unsigned size, uint64_t tag) {
  ovx_prepare(entry, IORING_OP_READ, (int)file, memory, size, tag);
  entry->rw_flags = RWF_NOWAIT;
}

/* writev(2) that answers EAGAIN, and says nothing when all went well. */
static inline void ovx_prepare_write(
    struct io_uring_sqe *entry, unsigned file, const void *vectors, unsigned count, uint64_t tag) {
  ovx_prepare(entry, IORING_OP_WRITEV, (int)file, vectors, count, tag);
  entry->rw_flags = RWF_NOWAIT;
  entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

static inline void ovx_prepare_receive(
    struct io_uring_sqe *entry, unsigned file, struct msghdr *message, uint64_t tag) {
  ovx_prepare(entry, IORING_OP_RECVMSG, (int)file, message, 1, tag);
  entry->msg_flags = MSG_DONTWAIT;
}

static inline void ovx_prepare_send(
    struct io_uring_sqe *entry, unsigned file, const struct msghdr *message, uint64_t tag) {
  ovx_prepare(entry, IORING_OP_SENDMSG, (int)file, message, 1, tag);
  entry->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

/* Completes each time that an error is left on a socket, until a completion comes without
 * IORING_CQE_F_MORE. What the kernel reports of its own accord, errors among it, needs no bit. */
static inline void ovx_prepare_error_poll(struct io_uring_sqe *entry, unsigned file, uint64_t tag) {
  io_uring_prep_poll_multishot(entry, (int)file, 0);
  entry->flags = IOSQE_FIXED_FILE;
  entry->user_data = tag;
}

/* Completes each time that something becomes readable, until a completion comes without
 * IORING_CQE_F_MORE. */
static inline void ovx_prepare_poll(struct io_uring_sqe *entry, unsigned file, uint64_t tag) {
  io_uring_prep_poll_multishot(entry, (int)file, POLLIN);
  entry->flags = IOSQE_FIXED_FILE;
  entry->user_data = tag;
}

static inline void ovx_prepare_cancel(struct io_uring_sqe *entry, uint64_t victim, uint64_t tag) {
  io_uring_prep_cancel64(entry, victim, 0);
  entry->user_data = tag;
}

static inline void ovx_prepare_timeout(
    struct io_uring_sqe *entry, struct __kernel_timespec *interval, uint64_t tag) {
  io_uring_prep_timeout(entry, interval, 0, 0);
  entry->user_data = tag;
}

static inline void ovx_prepare_nop(struct io_uring_sqe *entry, uint64_t tag) {
  io_uring_prep_nop(entry);
  entry->user_data = tag;
}

/* A message to receive into, with room for what comes beside the bytes. */
struct ovx_receipt {
  struct msghdr header;
  struct iovec vector;
  struct sockaddr_in6 name;
  union {
    struct cmsghdr alignment;
    unsigned char bytes[CMSG_SPACE(sizeof(struct in6_addr) + sizeof(int)) + CMSG_SPACE(sizeof(struct tpacket_auxdata)) +
                        2 * CMSG_SPACE(sizeof(int))];
  } control;
};

/* What came beside the bytes. */
struct ovx_receipt_facts {
  uint64_t high, low;         /* The sender's address as integers; IPv4 in `low`. */
  uint32_t segment_size;      /* UDP_GRO: bytes of each datagram but the last, else 0. */
  uint16_t vlan_control;      /* PACKET_AUXDATA: the tag that was taken out of the frame, */
  uint16_t vlan_protocol;     /* in host byte order, 0 where there was none. */
  uint32_t device;            /* IP_PKTINFO, IPV6_PKTINFO: the index of the device that it came in by, else 0. */
  uint8_t traffic_class;      /* IP_TOS, IPV6_TCLASS: DSCP and ECN of the outer header. */
  bool is_ipv6;
  bool truncated;             /* Bytes or facts are missing. */
};

static inline struct msghdr *ovx_receipt_prepare(struct ovx_receipt *receipt, void *memory, size_t size) {
  receipt->vector.iov_base = memory;
  receipt->vector.iov_len = size;
  receipt->header.msg_name = &receipt->name;
  receipt->header.msg_namelen = sizeof receipt->name;
  receipt->header.msg_iov = &receipt->vector;
  receipt->header.msg_iovlen = 1;
  receipt->header.msg_control = &receipt->control;
  receipt->header.msg_controllen = sizeof receipt->control;
  receipt->header.msg_flags = 0;
  return &receipt->header;
}

/* The UDP port that a datagram came from. */
static inline uint16_t ovx_receipt_port(const struct ovx_receipt *receipt) {
  /* The port stands at the same place in both families. */
  return ntohs(receipt->name.sin6_port);
}

static inline uint64_t ovx_realtime_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline struct ovx_receipt_facts ovx_receipt_read(struct ovx_receipt *receipt) {
  struct ovx_receipt_facts facts = {0};
  facts.truncated = (receipt->header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  for (struct cmsghdr *piece = CMSG_FIRSTHDR(&receipt->header); piece;
       piece = CMSG_NXTHDR(&receipt->header, piece)) {
    if (piece->cmsg_level == IPPROTO_UDP && piece->cmsg_type == UDP_GRO) {
      int size;
      memcpy(&size, CMSG_DATA(piece), sizeof size);
      facts.segment_size = size > 0 ? (uint32_t)size : 0;
    } else if (piece->cmsg_level == IPPROTO_IP && piece->cmsg_type == IP_TOS) {
      facts.traffic_class = *CMSG_DATA(piece);
    } else if (piece->cmsg_level == IPPROTO_IPV6 && piece->cmsg_type == IPV6_TCLASS) {
      int value;
      memcpy(&value, CMSG_DATA(piece), sizeof value);
      facts.traffic_class = (uint8_t)value;
    } else if (piece->cmsg_level == IPPROTO_IP && piece->cmsg_type == IP_PKTINFO) {
      struct in_pktinfo arrival;
      memcpy(&arrival, CMSG_DATA(piece), sizeof arrival);
      facts.device = (uint32_t)arrival.ipi_ifindex;
    } else if (piece->cmsg_level == IPPROTO_IPV6 && piece->cmsg_type == IPV6_PKTINFO) {
      /* The index stands behind the address. <netinet/in.h> shows the structure to _GNU_SOURCE
       * only. */
      memcpy(&facts.device, CMSG_DATA(piece) + sizeof(struct in6_addr), sizeof facts.device);
    } else if (piece->cmsg_level == SOL_PACKET && piece->cmsg_type == PACKET_AUXDATA) {
      struct tpacket_auxdata data;
      memcpy(&data, CMSG_DATA(piece), sizeof data);
      if (data.tp_status & TP_STATUS_VLAN_VALID) {
        facts.vlan_control = data.tp_vlan_tci;
        facts.vlan_protocol = data.tp_status & TP_STATUS_VLAN_TPID_VALID ? data.tp_vlan_tpid : 0x8100;
      }
    }
  }
  if (receipt->name.sin6_family == AF_INET) {
    struct sockaddr_in address;
    memcpy(&address, &receipt->name, sizeof address);
    facts.low = ntohl(address.sin_addr.s_addr);
  } else if (receipt->name.sin6_family == AF_INET6) {
    uint64_t words[2];
    memcpy(words, &receipt->name.sin6_addr, sizeof words);
    facts.is_ipv6 = true;
    facts.high = be64toh(words[0]);
    facts.low = be64toh(words[1]);
  }
  return facts;
}

/* A message to send, with room for the segment size and two fields of the outer header. */
struct ovx_dispatch {
  struct msghdr header;
  union {
    struct cmsghdr head;
    unsigned char bytes[CMSG_SPACE(sizeof(uint16_t)) + 2 * CMSG_SPACE(sizeof(int))];
  } control;
};

static inline void ovx_dispatch_append(
    struct ovx_dispatch *dispatch, int level, int type, const void *value, size_t size) {
  struct cmsghdr *piece = (struct cmsghdr *)(dispatch->control.bytes + dispatch->header.msg_controllen);
  piece->cmsg_level = level;
  piece->cmsg_type = type;
  piece->cmsg_len = CMSG_LEN(size);
  memcpy(CMSG_DATA(piece), value, size);
  dispatch->header.msg_control = &dispatch->control;
  dispatch->header.msg_controllen += CMSG_SPACE(size);
}

/* Asks for an outer header other than the socket's own; 0 leaves what the socket has. Comes after
 * the preparation. */
static inline void ovx_dispatch_set_outer(
    struct ovx_dispatch *dispatch, bool ipv6, uint8_t traffic_class, uint8_t hop_limit) {
  int value = traffic_class;
  if (traffic_class)
    ovx_dispatch_append(dispatch, ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, ipv6 ? IPV6_TCLASS : IP_TOS, &value, sizeof value);
  value = hop_limit;
  if (hop_limit)
    ovx_dispatch_append(dispatch, ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, ipv6 ? IPV6_HOPLIMIT : IP_TTL, &value, sizeof value);
}

/* `segment_size` 0 sends one datagram or frame, else as many datagrams of that size as there are
 * bytes. */
static inline struct msghdr *ovx_dispatch_prepare(
    struct ovx_dispatch *dispatch, const void *vectors, size_t count, uint16_t segment_size) {
  dispatch->header.msg_name = NULL;
  dispatch->header.msg_namelen = 0;
  dispatch->header.msg_iov = (struct iovec *)vectors;
  dispatch->header.msg_iovlen = count;
  dispatch->header.msg_control = NULL;
  dispatch->header.msg_controllen = 0;
  dispatch->header.msg_flags = 0;
  if (segment_size) ovx_dispatch_append(dispatch, IPPROTO_UDP, UDP_SEGMENT, &segment_size, sizeof segment_size);
  return &dispatch->header;
}

static inline void *ovx_map_memory(size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

/* Milliseconds from some point, modulo 2^32, as of the latest timer interrupt: the time for the
 * price of two loads. */
static inline uint32_t ovx_coarse_milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return (uint32_t)((uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u);
}

static inline uint32_t ovx_uptime_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return (uint32_t)now.tv_sec;
}

/* An event counter: readable while it has been raised and not lowered. A descriptor, or the
 * negative of errno. */
static inline int ovx_event_open(void) {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

static inline void ovx_event_raise(int fd) { (void)eventfd_write(fd, 1); }

static inline void ovx_event_lower(int fd) {
  eventfd_t count;
  (void)eventfd_read(fd, &count);
}

/* What a thread (0: the calling one) is to the scheduler (sched_setattr(2)). */
static inline int ovx_schedule(pid_t thread, uint32_t policy, uint32_t priority, uint64_t runtime) {
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attributes = {.size = 48,
                  .policy = policy,
                  .flags = 1 /* SCHED_FLAG_RESET_ON_FORK */,
                  .nice = getpriority(PRIO_PROCESS, (id_t)thread),
                  .priority = priority,
                  .runtime = runtime};
  return syscall(SYS_sched_setattr, thread, &attributes, 0) ? -errno : 0;
}

/* Asks the scheduler to give a thread its share of a core in turns of 0.1 ms (Linux 6.12) where
 * others have 3 ms, so that frames do not wait for so long behind programs that only compute.
 * Without it all works, only less evenly. */
static inline void ovx_take_short_turns(pid_t thread) { (void)ovx_schedule(thread, SCHED_OTHER, 0, 100000); }

/* Has a thread run before all that have no real-time priority. 0, or the negative of errno. */
static inline int ovx_take_precedence(pid_t thread) { return ovx_schedule(thread, SCHED_RR, 1, 0); }

/* Lets threads of this process take precedence, where it is privileged and its limit forbids it. */
static inline void ovx_permit_precedence(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_RTPRIO, &limit) || limit.rlim_cur > 0) return;
  if (!limit.rlim_max) limit.rlim_max = 1;
  limit.rlim_cur = 1;
  (void)setrlimit(RLIMIT_RTPRIO, &limit);
}

static inline pid_t ovx_thread_number(void) { return (pid_t)syscall(SYS_gettid); }

/* Names the calling thread as `top` and `ps` show it, up to 15 bytes. */
static inline void ovx_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

#endif
