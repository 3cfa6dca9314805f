// The Internet checksum (RFC 1071) of bytes in memory, by the widest vectors that the processor
// has.
#ifndef OVX_CCHECKSUM_H
#define OVX_CCHECKSUM_H
#include <stddef.h>
#include <stdint.h>

// One implementation. Both functions return the ones' complement sum of the 16-bit words in the
// byte order of the machine, folded to 16 bits; it is 0 only if all bytes are. An odd last byte
// counts as followed by zero. No pointer needs any alignment. What is copied must not overlap.
struct ovx_checksum_kernel {
  const char *name;
  uint16_t (*sum)(const void *bytes, size_t count);
  uint16_t (*copy)(void *destination, const void *source, size_t count);
};

// The fastest one that this processor can run; set before main and constant from then on.
extern struct ovx_checksum_kernel ovx_checksum_best;

static inline const char *ovx_checksum_name(void) { return ovx_checksum_best.name; }

// All that this processor can run, the portable one first. Returns how many.
size_t ovx_checksum_kernels(const struct ovx_checksum_kernel **kernels);

static inline uint16_t ovx_checksum_sum(const void *bytes, size_t count) {
  return ovx_checksum_best.sum(bytes, count);
}

static inline uint16_t ovx_checksum_copy(void *destination, const void *source, size_t count) {
  return ovx_checksum_best.copy(destination, source, count);
}

// Asks for a line of memory to be in the cache soon; any address will do.
static inline void ovx_prefetch(const void *address) { __builtin_prefetch(address); }

// Memory that other threads, or programs in the kernel, use at the same time.
static inline void ovx_count_up(uint64_t *number) { __atomic_fetch_add(number, 1, __ATOMIC_SEQ_CST); }
static inline uint64_t ovx_load(const uint64_t *number) { return __atomic_load_n(number, __ATOMIC_ACQUIRE); }

#endif
