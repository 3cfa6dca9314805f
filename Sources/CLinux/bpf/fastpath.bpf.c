// The fast path: repeats decisions that the switch has taken, for TCP between two stations, without
// waking it.
//
// Three programs. A frame of a port's device meets the first two right after one another, on one
// CPU:
//
//     decide     a socket filter of the port's packet socket: is there a decision that holds? Then
//                the socket does not get the frame, and the verdict is left for the next one.
//     forward    on the device's tcx ingress hook: carries the verdict out. Without one the frame
//                goes on as ever, to the filter that keeps it from the host's stack.
//     receive    on the underlay's tcx ingress hook: takes the datagrams of a remote VTEP, if there
//                is a decision for what is inside. All others go on to the switch's socket.
//
// A packet socket gets a frame before tcx does, and its filter runs in the same call
// (`__netif_receive_skb_core` delivers to taps, the last of them in `sch_handle_ingress`, and then
// runs tcx). So one decision is for both, and no frame goes twice or nowhere.
//
// A decision holds as long as three numbers are what they were when it was taken: the topology's
// generation, and those of the two stations. The switch changes them by a store into shared memory.
//
// What is not an untagged TCP segment in plain IPv4 or IPv6 that fits is never taken: the switch
// knows what to do with it, and how to call it. Compiled into ../fastpath_programs.h by
// deploy/build-fastpath.

#include <linux/bpf.h>

// Verdicts of tcx (<linux/bpf.h> of Linux 6.6): on to what comes next, or dropped.
#define TCX_NEXT -1
#define TCX_DROP 2
// From Linux 6.3.
#define DECAP_L3_IPV6 (1ull << 8)

#define SECTION(NAME) __attribute__((section(NAME), used))
#define INLINE static inline __attribute__((always_inline))
#define swap16(X) __builtin_bswap16(X)
#define swap32(X) __builtin_bswap32(X)

// Helpers by their numbers in <linux/bpf.h> (`___BPF_FUNC_MAPPER`).
static void *(*const map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const load_bytes)(struct __sk_buff *, __u32 offset, void *to, __u32 count) = (void *)BPF_FUNC_skb_load_bytes;
static long (*const redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;
static long (*const redirect_peer)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect_peer;
static long (*const adjust_room)(struct __sk_buff *, __s32 change, __u32 mode, __u64 flags) = (void *)BPF_FUNC_skb_adjust_room;
static long (*const pull_data)(struct __sk_buff *, __u32 count) = (void *)BPF_FUNC_skb_pull_data;
static __u32 (*const flow_hash)(struct __sk_buff *) = (void *)BPF_FUNC_get_hash_recalc;
static long (*const csum_level)(struct __sk_buff *, __u64 what) = (void *)BPF_FUNC_csum_level;
static long (*const csum_replace)(struct __sk_buff *, __u32 offset, __u64 from, __u64 to, __u64 size) = (void *)BPF_FUNC_l4_csum_replace;
static long (*const store_bytes)(struct __sk_buff *, __u32 offset, const void *, __u32 count, __u64 flags) = (void *)BPF_FUNC_skb_store_bytes;
static long (*const change_tail)(struct __sk_buff *, __u32 length, __u64 flags) = (void *)BPF_FUNC_skb_change_tail;
static __u64 (*const jiffies)(void) = (void *)BPF_FUNC_jiffies64;

#include "../include/fastpath.h"

// Stand for maps; the loader puts descriptors in their place.
struct map { int unused; };
#define MAP(NAME) struct map NAME SECTION("maps")
MAP(port_flows);
MAP(vtep_flows);
MAP(entries);
MAP(generations);
MAP(counts);
MAP(verdicts);
MAP(trains);

enum {
  nothing = ~0u,
  ethernet = 14,
  outer = 50,  // Ethernet, IPv4, UDP, VXLAN: what precedes the frame inside, whose Ethernet header is as long as the outer one
  any_length = ~0u,
};

struct verdict { __u32 number, length, ifindex, segments; };

struct ipv4 { __u8 version, tos; __u16 length, id, fragment; __u8 ttl, protocol; __u16 checksum; __u32 source, destination; } __attribute__((packed));
struct ipv6 { __u32 head; __u16 length; __u8 next, hops; __u8 addresses[32]; } __attribute__((packed));
struct udp { __u16 source, destination, length, checksum; };
struct vxlan { __u32 flags, vni; };

// What has to be known of a segment: how long its packet says it is, the headers, and the ECN bits.
struct segment { __u32 length, headers, ecn; };

INLINE int is_current(struct ovx_fastpath_entry *entry) {
  __u32 zero = 0, source = entry->source_slot & (OVX_FASTPATH_SLOTS - 1), target = entry->target_slot & (OVX_FASTPATH_SLOTS - 1);
  __u64 *topology = map_lookup(&generations, &zero);
  __u64 *first = map_lookup(&generations, &source), *second = map_lookup(&generations, &target);
  return topology && first && second && entry->topology == *topology && entry->source_generation == *first && entry->target_generation == *second;
}

INLINE struct ovx_fastpath_entry *entry_of(__u32 number) { return map_lookup(&entries, &number); }

// Whether packets of this size may go where the entry leads; for a superframe, those that it is cut
// into.
INLINE int fits(struct __sk_buff *skb, struct ovx_fastpath_entry *entry, struct segment *segment, __u32 length) {
  if (!skb->gso_size) return length <= entry->mtu;
  return skb->gso_size >= 500 && skb->gso_size + segment->headers <= entry->mtu;
}

// The packets that it is on the wire. What the kernel says of that (`gso_segs`) is not kept up when
// room is made.
INLINE __u32 segments_of(struct __sk_buff *skb, struct segment *segment) {
  __u32 size = skb->gso_size;
  return size ? (segment->length - segment->headers + size - 1) / size : 1;
}

INLINE void tally(__u32 number, __u32 length, __u32 segments) {
  struct ovx_fastpath_count *count = map_lookup(&counts, &number);
  if (!count) return;
  __sync_fetch_and_add(&count->frames, 1);
  __sync_fetch_and_add(&count->segments, segments);
  __sync_fetch_and_add(&count->bytes, length);
}

// Reads the TCP segment in a packet of a type; 0 for anything else.
INLINE int read_segment(__u16 type, void *packet, void *end, struct segment *segment) {
  __u8 *tcp;
  if (type == swap16(0x0800)) {
    struct ipv4 *ip = packet;
    if ((void *)(ip + 1) > end || ip->version != 0x45 || ip->protocol != 6 || ip->fragment & swap16(0x3fff)) return 0;
    segment->length = swap16(ip->length);
    segment->headers = 20;
    segment->ecn = ip->tos & 3;
    tcp = (void *)(ip + 1);
  } else if (type == swap16(0x86dd)) {
    struct ipv6 *ip = packet;
    if ((void *)(ip + 1) > end || ip->next != 6 || (ip->head & 0xf0) != 0x60) return 0;
    segment->length = swap16(ip->length) + 40;
    segment->headers = 40;
    segment->ecn = swap32(ip->head) >> 20 & 3;
    tcp = (void *)(ip + 1);
  } else {
    return 0;
  }
  if ((void *)(tcp + 20) > end || (tcp[12] >> 4) < 5) return 0;
  segment->headers += (tcp[12] >> 4) * 4;
  return segment->headers <= segment->length;
}

SECTION("program decide") int decide(struct __sk_buff *skb) {
  __u32 zero = 0;
  struct verdict *verdict = map_lookup(&verdicts, &zero);
  if (!verdict) return any_length;
  verdict->number = nothing;
  if (skb->vlan_present) return any_length;
  // The longest headers that are read: Ethernet, IPv6, TCP. The stack is zeroed, so what is short
  // fails by its lengths.
  __u8 head[ethernet + 40 + 20] __attribute__((aligned(8))) = {0};
  if (skb->len < ethernet + 40) return any_length;
  if (load_bytes(skb, 0, head, ethernet + 40)) return any_length;
  __u16 type = *(__u16 *)(head + 12);
  if (type == swap16(0x86dd) && load_bytes(skb, ethernet + 40, head + ethernet + 40, 20)) return any_length;
  struct segment segment;
  if (!read_segment(type, head + ethernet, head + sizeof head, &segment)) return any_length;
  if (segment.length != skb->len - ethernet) return any_length;
  struct ovx_fastpath_port_flow key = {.ifindex = skb->ifindex};
  __builtin_memcpy(key.addresses, head, 12);
  __u32 *number = map_lookup(&port_flows, &key);
  if (!number) {
    // Perhaps one of a port that is told what it may send.
    key.type = type;
    if (type == swap16(0x0800)) {
      __builtin_memcpy(key.sender, head + ethernet + 12, 4);
    } else {
      __builtin_memcpy(key.sender, head + ethernet + 8, 16);
    }
    number = map_lookup(&port_flows, &key);
  }
  if (!number) return any_length;
  struct ovx_fastpath_entry *entry = entry_of(*number);
  if (!entry || !is_current(entry) || !fits(skb, entry, &segment, segment.length)) return any_length;
  verdict->number = *number;
  verdict->length = skb->len;
  verdict->ifindex = skb->ifindex;
  verdict->segments = segments_of(skb, &segment);
  return 0;
}

// Whether a checksum that is still to be written goes where it belongs, or further on. Who sends
// the frame says where, and over the sender's address it would make another one of it than was
// looked at. The kernel does not tell; but it tells apart two kinds of frames by what it does to
// them:
//
// - The bytes of a checksum that is still to be written stay as they are when part of what it is
//   over is said to change.
// - A frame may not be cut off in front of its end. One that can be is lost by that, which serves
//   it right.
INLINE int is_checksum_in_place(struct __sk_buff *skb, __u32 place) {
  __u16 before = 0, after = 0;
  if (load_bytes(skb, place, &before, 2) || csum_replace(skb, place, 0, 1, 2) || load_bytes(skb, place, &after, 2)) return 0;
  if (before == after) return change_tail(skb, place + 1, 0) != 0;
  return !store_bytes(skb, place, &before, 2, 0);
}

SECTION("program forward") int forward(struct __sk_buff *skb) {
  __u32 zero = 0;
  struct verdict *verdict = map_lookup(&verdicts, &zero);
  if (!verdict) return TCX_NEXT;
  __u32 number = verdict->number, length = skb->len, segments = verdict->segments;
  if (number == nothing) return TCX_NEXT;
  verdict->number = nothing;
  if (verdict->length != length || verdict->ifindex != skb->ifindex) return TCX_NEXT;
  struct ovx_fastpath_entry *entry = entry_of(number);
  if (!entry) return TCX_NEXT;
  if (entry->is_secured && !is_checksum_in_place(skb, ethernet + (skb->protocol == swap16(0x86dd) ? 40 : 20) + 16)) {
    struct ovx_fastpath_count *count = map_lookup(&counts, &number);
    if (count) __sync_fetch_and_add(&count->refused, 1);
    return TCX_DROP;
  }
  if (!entry->is_tunnel) {
    tally(number, length, segments);
    return redirect_peer(entry->ifindex, 0);
  }
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  if (data + ethernet + 20 > end) {
    pull_data(skb, ethernet + 20);
    data = (void *)(long)skb->data;
    end = (void *)(long)skb->data_end;
    if (data + ethernet + 20 > end) return TCX_NEXT;
  }
  __u32 ecn = *(__u16 *)(data + 12) == swap16(0x86dd) ? swap32(*(__u32 *)(data + ethernet)) >> 20 & 3 : *(__u8 *)(data + ethernet + 1) & 3;
  __u32 hash = flow_hash(skb);
  __u64 kind = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_ENCAP_L2(14);
  if (adjust_room(skb, outer, BPF_ADJ_ROOM_MAC, kind)) {
    // It is in a tunnel already, as the kernel sees it. The frame is lost, and its repetition goes
    // by the switch.
    entry->topology = 0;
    return TCX_NEXT;
  }
  data = (void *)(long)skb->data;
  end = (void *)(long)skb->data_end;
  if (data + outer + ethernet > end) return TCX_NEXT;
  __builtin_memcpy(data + outer, data, ethernet);
  __builtin_memcpy(data, entry->header, outer);
  struct ipv4 *ip = data + ethernet;
  ip->length = swap16(length + 36);
  ip->tos |= ecn;
  // The sum is over 16-bit words as they lie in memory; that of the rest is ready.
  __u32 sum = entry->header_sum + ip->length + (ecn << 8);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  ip->checksum = ~sum;
  struct udp *udp = (void *)(ip + 1);
  udp->source = swap16(49152 + ((hash ^ hash >> 16 ^ entry->salt) & 16383));
  udp->length = swap16(length + 16);
  tally(number, length, segments);
  return redirect(entry->ifindex, 0);
}

SECTION("program receive") int receive(struct __sk_buff *skb) {
  enum { headers = outer + ethernet + 40 + 20 };
  if (skb->protocol != swap16(0x0800) || skb->pkt_type || skb->vlan_present) return TCX_NEXT;
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  if (data + ethernet + 20 + 8 > end) return TCX_NEXT;
  struct ipv4 *ip = data + ethernet;
  struct udp *udp = (void *)(ip + 1);
  if (ip->version != 0x45 || ip->protocol != 17 || ip->fragment & swap16(0x3fff)) return TCX_NEXT;
  if (skb->len < outer + ethernet + 40) return TCX_NEXT;
  __u32 flow = (udp->source ^ ip->source ^ ip->source >> 16) & (OVX_FASTPATH_TRAINS - 1);
  if (data + headers > end) {
    pull_data(skb, skb->len < headers ? skb->len : headers);
    data = (void *)(long)skb->data;
    end = (void *)(long)skb->data_end;
    if (data + outer + ethernet > end) return TCX_NEXT;
    ip = data + ethernet;
    udp = (void *)(ip + 1);
  }
  if (data + outer + ethernet > end) return TCX_NEXT;
  struct vxlan *vxlan = (void *)(udp + 1);
  if (vxlan->flags != swap32(0x08000000)) return TCX_NEXT;
  __u32 length = skb->len - outer;
  if (swap16(ip->length) != skb->len - ethernet || swap16(udp->length) != skb->len - ethernet - 20) return TCX_NEXT;
  struct ovx_fastpath_vtep_flow key = {.remote = ip->source, .local = ip->destination, .vni = vxlan->vni, .port = udp->destination};
  __builtin_memcpy(key.addresses, data + outer, 12);
  __u32 *number = map_lookup(&vtep_flows, &key);
  if (!number) return TCX_NEXT;
  struct ovx_fastpath_entry *entry = entry_of(*number);
  if (!entry || !is_current(entry)) return TCX_NEXT;
  __u32 slot = *number, ecn = ip->tos & 3;
  __u64 *train = map_lookup(&trains, &flow);
  __u16 type = *(__u16 *)(data + outer + 12);
  struct segment segment;
  if (!read_segment(type, data + outer + ethernet, end, &segment)) return TCX_NEXT;
  if (segment.length != length - ethernet) {
    // A train of a switch that cuts superframes itself: what follows it by itself must not overtake
    // it.
    if (train && skb->gso_size) *train = jiffies();
    return TCX_NEXT;
  }
  if (train && *train && jiffies() - *train < OVX_FASTPATH_TRAIN_REST) return TCX_NEXT;
  if (ecn && ecn != segment.ecn) return TCX_NEXT;
  if (udp->checksum && csum_level(skb, BPF_CSUM_LEVEL_QUERY) < 0) return TCX_NEXT;
  if (!fits(skb, entry, &segment, segment.length)) return TCX_NEXT;
  __u32 segments = segments_of(skb, &segment);
  __u8 header[16];
  __builtin_memcpy(header, data + outer, ethernet);
  // Whether it is one packet of TCP or a train of datagrams that passes for one is not to be read
  // from its bytes, which a tenant writes. The kernel knows: it changes the room of a train only
  // where sizes are said to stay.
  if (skb->gso_size && (adjust_room(skb, 4, BPF_ADJ_ROOM_MAC, 0) || adjust_room(skb, -4, BPF_ADJ_ROOM_MAC, 0))) return TCX_NEXT;
  __u64 kind = BPF_F_ADJ_ROOM_FIXED_GSO | (type == swap16(0x86dd) ? DECAP_L3_IPV6 : 0);
  if (adjust_room(skb, -outer, BPF_ADJ_ROOM_MAC, kind)) return TCX_NEXT;
  data = (void *)(long)skb->data;
  end = (void *)(long)skb->data_end;
  if (data + ethernet > end) return TCX_DROP;
  __builtin_memcpy(data, header, ethernet);
  tally(slot, length, segments);
  return redirect_peer(entry->ifindex, 0);
}

char terms[] SECTION("license") = "GPL";
