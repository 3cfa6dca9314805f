// What the fast path's programs (../bpf/fastpath.bpf.c) and the switch share.
#ifndef OVX_FASTPATH_H
#define OVX_FASTPATH_H

#include <linux/types.h>

/// Entries at most.
#define OVX_FASTPATH_ENTRIES 4096
/// Generations: the topology's first, and then those of stations, by a hash. 64 bits each: as many
/// apart as the kernel lays out what is smaller, and nobody lives to see one again.
#define OVX_FASTPATH_SLOTS 65536
/// Flows of datagrams of which it is known when a train has come last, by a hash.
#define OVX_FASTPATH_TRAINS 1024
/// For how long what follows a train by itself goes by the switch, in the kernel's jiffies: 0.1 to
/// 1 second.
#define OVX_FASTPATH_TRAIN_REST 100

/// What a port's device brings: its number, and the two addresses of an Ethernet header; of a port
/// that is told what it may send also the type and the sender's IP address, an IPv4 one with zeros
/// behind it, of all others zeros.
struct ovx_fastpath_port_flow {
  __u32 ifindex;
  __u8 addresses[12];
  __u32 type;
  __u8 sender[16];
};

/// What a remote VTEP sends: the outer addresses, UDP port and VNI word as they lie in memory, and
/// the addresses inside.
struct ovx_fastpath_vtep_flow {
  __u32 remote, local, vni;
  __u16 port, unused;
  __u8 addresses[12];
};

/// A decision, and the generations by which it holds.
struct ovx_fastpath_entry {
  __u64 topology, source_generation, target_generation;
  __u32 source_slot, target_slot;
  /// The host's end of the veth whose other end gets the frame; for a tunnel, the underlay's
  /// device.
  __u32 ifindex;
  /// The largest packet inside.
  __u32 mtu;
  __u32 is_tunnel;
  /// The sum of the outer IPv4 header without length and ECN.
  __u32 header_sum;
  /// Goes into the source port.
  __u32 salt;
  /// Whether the port is told what it may send.
  __u32 is_secured;
  /// Outer Ethernet, IPv4, UDP and VXLAN headers: 50 bytes.
  __u8 header[56];
};

/// What an entry has forwarded, and the frames that it has dropped for where their checksum was to
/// go.
struct ovx_fastpath_count {
  __u64 frames, segments, bytes, refused;
};

#ifndef __bpf__
#include <stddef.h>

/// Programs and maps, as descriptors, and what of them is in the process's memory; all -1 and NULL
/// when not open.
struct ovx_fastpath {
  int decide, forward, receive;
  int port_flows, vtep_flows, entry_map, generation_map, count_map, verdicts, trains;
  __u64 *generations;
  struct ovx_fastpath_entry *entries;
  struct ovx_fastpath_count *counts;
};

/// Makes maps and loads programs.
///
/// `log` gets what the kernel's verifier says of a program that it refuses, with a zero at its end.
/// Returns 0, or a negative error number, with `step` a text that tells what failed.
int ovx_fastpath_open(struct ovx_fastpath *path, char *log, size_t log_size, const char **step);
void ovx_fastpath_close(struct ovx_fastpath *path);
/// Hangs a program before all others on what a device receives; the descriptor of the link, or a
/// negative error number. It ends with the descriptor.
int ovx_fastpath_attach(int program, unsigned ifindex);
/// Puts a program on a socket as its filter, or takes the one that it has where the program is -1;
/// 0, or a negative error number.
int ovx_fastpath_filter(int socket, int program);
/// Sets, reads or removes the number under a key; 0, or a negative error number.
int ovx_fastpath_set(int map, const void *key, __u32 number);
int ovx_fastpath_get(int map, const void *key, __u32 *number);
int ovx_fastpath_remove(int map, const void *key);
/// Returns when no program runs any more that was running when it was called.
int ovx_fastpath_wait(void);
#endif

#endif
