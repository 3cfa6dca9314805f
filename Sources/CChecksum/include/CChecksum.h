// SPDX: the SIMD kernels of the Internet checksum.
#ifndef OVX_CCHECKSUM_H
#define OVX_CCHECKSUM_H
#include <stddef.h>
#include <stdint.h>
#endif
