#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "fastpath.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/membarrier.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum map_number { map_port_flows, map_vtep_flows, map_entries, map_generations, map_counts, map_verdicts, map_trains, map_count };

/* An instruction that is to have a map's descriptor. */
struct map_use {
  uint32_t instruction;
  enum map_number map;
};

#include "fastpath_programs.h"

#ifndef SO_ATTACH_BPF
#define SO_ATTACH_BPF 50
#endif
/* <linux/bpf.h> of Linux 6.6. */
enum { tcx_ingress = 46 };

static int call(enum bpf_cmd command, union bpf_attr *what) {
  long result = syscall(SYS_bpf, command, what, sizeof *what);
  return result < 0 ? -errno : (int)result;
}

static int make_map(enum bpf_map_type type, const char *name, uint32_t key, uint32_t value, uint32_t count) {
  union bpf_attr what = {.map_type = type, .key_size = key, .value_size = value, .max_entries = count};
  if (type == BPF_MAP_TYPE_ARRAY) what.map_flags = BPF_F_MMAPABLE;
  strncpy(what.map_name, name, sizeof what.map_name - 1);
  return call(BPF_MAP_CREATE, &what);
}

static int load(enum bpf_prog_type type, const char *name, const uint64_t *code, size_t size, const struct map_use *uses, size_t use_count,
                const int *maps, char *log, size_t log_size) {
  uint64_t copy[1024];
  if (size > sizeof copy) return -E2BIG;
  memcpy(copy, code, size);
  /* An instruction is code, registers, offset and a 32-bit number, in this order. */
  for (size_t number = 0; number < use_count; number++) {
    uint64_t *instruction = &copy[uses[number].instruction];
    *instruction = (*instruction & 0xffff00ffull) | (*instruction & 0x0f00) | (uint64_t)BPF_PSEUDO_MAP_FD << 12 |
                   (uint64_t)(uint32_t)maps[uses[number].map] << 32;
  }
  union bpf_attr what = {.prog_type = type,
                         .insn_cnt = size / sizeof *copy,
                         .insns = (uintptr_t)copy,
                         .license = (uintptr_t) "GPL"};
  strncpy(what.prog_name, name, sizeof what.prog_name - 1);
  int program = call(BPF_PROG_LOAD, &what);
  if (program >= 0 || log_size == 0 || (program != -EINVAL && program != -EACCES)) return program;
  what.log_level = 1;
  what.log_buf = (uintptr_t)log;
  what.log_size = log_size;
  program = call(BPF_PROG_LOAD, &what);
  log[log_size - 1] = 0;
  return program;
}

static void *share(int map, size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

enum {
  generations_size = OVX_FASTPATH_SLOTS * sizeof(__u64),
  entries_size = OVX_FASTPATH_ENTRIES * sizeof(struct ovx_fastpath_entry),
  counts_size = OVX_FASTPATH_ENTRIES * sizeof(struct ovx_fastpath_count),
};

/* The kernel lays out the values of an array 8 bytes apart at least; here they are an array of
 * C. */
_Static_assert(sizeof(struct ovx_fastpath_entry) % 8 == 0 && sizeof(struct ovx_fastpath_count) % 8 == 0, "values have gaps");

static const struct ovx_fastpath closed = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, NULL, NULL, NULL};

int ovx_fastpath_open(struct ovx_fastpath *path, char *log, size_t log_size, const char **step) {
  *path = closed;
  if (log_size > 0) log[0] = 0;
  *step = "make its maps";
  int maps[map_count];
  maps[map_port_flows] = path->port_flows =
      make_map(BPF_MAP_TYPE_HASH, "ovx_port_flows", sizeof(struct ovx_fastpath_port_flow), 4, OVX_FASTPATH_ENTRIES);
  maps[map_vtep_flows] = path->vtep_flows =
      make_map(BPF_MAP_TYPE_HASH, "ovx_vtep_flows", sizeof(struct ovx_fastpath_vtep_flow), 4, OVX_FASTPATH_ENTRIES);
  maps[map_entries] = path->entry_map =
      make_map(BPF_MAP_TYPE_ARRAY, "ovx_entries", 4, sizeof(struct ovx_fastpath_entry), OVX_FASTPATH_ENTRIES);
  maps[map_generations] = path->generation_map = make_map(BPF_MAP_TYPE_ARRAY, "ovx_generations", 4, 8, OVX_FASTPATH_SLOTS);
  maps[map_counts] = path->count_map =
      make_map(BPF_MAP_TYPE_ARRAY, "ovx_counts", 4, sizeof(struct ovx_fastpath_count), OVX_FASTPATH_ENTRIES);
  maps[map_verdicts] = path->verdicts = make_map(BPF_MAP_TYPE_PERCPU_ARRAY, "ovx_verdicts", 4, 16, 1);
  maps[map_trains] = path->trains = make_map(BPF_MAP_TYPE_ARRAY, "ovx_trains", 4, 8, OVX_FASTPATH_TRAINS);
  int failure = 0;
  for (int number = 0; number < map_count; number++)
    if (maps[number] < 0 && failure == 0) failure = maps[number];
  if (failure == 0) {
    *step = "share its maps";
    path->generations = share(path->generation_map, generations_size);
    path->entries = share(path->entry_map, entries_size);
    path->counts = share(path->count_map, counts_size);
    if (!path->generations || !path->entries || !path->counts) failure = -ENOMEM;
  }
#define LOAD(TYPE, NAME)                                                                                       \
  if (failure == 0) {                                                                                          \
    *step = "load its program '" #NAME "'";                                                                    \
    path->NAME = load(TYPE, "ovx_" #NAME, NAME##_code, sizeof NAME##_code, NAME##_maps,                        \
                      sizeof NAME##_maps / sizeof *NAME##_maps, maps, log, log_size);                          \
    if (path->NAME < 0) failure = path->NAME;                                                                  \
  }
  LOAD(BPF_PROG_TYPE_SOCKET_FILTER, decide)
  LOAD(BPF_PROG_TYPE_SCHED_CLS, forward)
  LOAD(BPF_PROG_TYPE_SCHED_CLS, receive)
  if (failure != 0) ovx_fastpath_close(path);
  return failure;
}

void ovx_fastpath_close(struct ovx_fastpath *path) {
  if (path->generations) munmap(path->generations, generations_size);
  if (path->entries) munmap(path->entries, entries_size);
  if (path->counts) munmap(path->counts, counts_size);
  const int descriptors[] = {path->decide,     path->forward,        path->receive,   path->port_flows, path->vtep_flows,
                             path->entry_map, path->generation_map, path->count_map, path->verdicts,   path->trains};
  for (size_t number = 0; number < sizeof descriptors / sizeof *descriptors; number++)
    if (descriptors[number] >= 0) close(descriptors[number]);
  *path = closed;
}

int ovx_fastpath_attach(int program, unsigned ifindex) {
  /* struct link_create of Linux 6.6; relative to no other program it comes last, and to the first
   * (BPF_F_BEFORE) first. */
  union bpf_attr what;
  memset(&what, 0, sizeof what);
  what.link_create.prog_fd = program;
  what.link_create.target_ifindex = ifindex;
  what.link_create.attach_type = tcx_ingress;
  what.link_create.flags = 1u << 3;
  return call(BPF_LINK_CREATE, &what);
}

int ovx_fastpath_filter(int socket, int program) {
  if (program < 0) return setsockopt(socket, SOL_SOCKET, SO_DETACH_FILTER, &program, sizeof program) < 0 ? -errno : 0;
  return setsockopt(socket, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof program) < 0 ? -errno : 0;
}

int ovx_fastpath_set(int map, const void *key, __u32 number) {
  union bpf_attr what = {.map_fd = map, .key = (uintptr_t)key, .value = (uintptr_t)&number, .flags = BPF_ANY};
  return call(BPF_MAP_UPDATE_ELEM, &what);
}

int ovx_fastpath_get(int map, const void *key, __u32 *number) {
  union bpf_attr what = {.map_fd = map, .key = (uintptr_t)key, .value = (uintptr_t)number};
  return call(BPF_MAP_LOOKUP_ELEM, &what);
}

int ovx_fastpath_remove(int map, const void *key) {
  union bpf_attr what = {.map_fd = map, .key = (uintptr_t)key};
  return call(BPF_MAP_DELETE_ELEM, &what);
}

int ovx_fastpath_wait(void) { return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) < 0 ? -errno : 0; }
