// The Internet checksum (RFC 1071) of bytes in memory, by the widest vectors that the processor has.
#ifndef OVX_CCHECKSUM_H
#define OVX_CCHECKSUM_H
#include <stddef.h>
#include <stdint.h>

// Both return the ones' complement sum of the 16-bit words in the byte order of the machine, folded to 16 bits; it is 0 only
// if all bytes are. An odd last byte counts as followed by zero. Neither pointer needs any alignment.

uint16_t ovx_checksum_sum(const void *bytes, size_t count);

// Copies as well. The two places must not overlap.
uint16_t ovx_checksum_copy(void *destination, const void *source, size_t count);

#endif
