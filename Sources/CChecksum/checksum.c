#include "CChecksum.h"
#include <string.h>

// The sum does not care for the order of the bytes in a machine's words, and 2^16 is 1 modulo
// 65535. So words of 32 bits are added up in accumulators of 64, which no length of memory can make
// overflow, and folded at the end.
//
// Three kernels for x86-64, and one for all others, which the compiler vectorises with what the
// target guarantees. Each exists as a sum alone and fused with a copy, where the bytes pass through
// the registers once. 64 KB in the L2 cache of a Xeon at 2.3 GHz take 1850 ns (SSE2), 1150 (AVX2)
// and 520 (AVX-512); 1900, 1490 and 880 where they are not aligned. Aligning them first gains 2 ns
// of 17 on a frame, which is what nearly all sums are of.

static inline uint16_t fold(uint64_t sum) {
  sum = (sum & 0xFFFFFFFF) + (sum >> 32);
  sum = (sum & 0xFFFFFFFF) + (sum >> 32);
  sum = (sum & 0xFFFF) + (sum >> 16);
  sum = (sum & 0xFFFF) + (sum >> 16);
  return (uint16_t)sum;
}

// The last up to 7 bytes, as if zeros followed.
static inline uint64_t tail(const unsigned char *bytes, size_t count) {
  uint64_t last = 0;
  memcpy(&last, bytes, count);
  return (last & 0xFFFFFFFF) + (last >> 32);
}

static uint16_t sum_portable(const void *bytes, size_t count) {
  const unsigned char *from = bytes;
  uint64_t low = 0, high = 0;
  size_t whole = count & ~(size_t)7;
  for (size_t index = 0; index < whole; index += 8) {
    uint64_t word;
    memcpy(&word, from + index, 8);
    low += word & 0xFFFFFFFF;
    high += word >> 32;
  }
  return fold((uint64_t)fold(low) + fold(high) + tail(from + whole, count & 7));
}

static uint16_t copy_portable(void *destination, const void *source, size_t count) {
  const unsigned char *restrict from = source;
  unsigned char *restrict to = destination;
  uint64_t low = 0, high = 0;
  size_t whole = count & ~(size_t)7;
  for (size_t index = 0; index < whole; index += 8) {
    uint64_t word;
    memcpy(&word, from + index, 8);
    memcpy(to + index, &word, 8);
    low += word & 0xFFFFFFFF;
    high += word >> 32;
  }
  memcpy(to + whole, from + whole, count & 7);
  return fold((uint64_t)fold(low) + fold(high) + tail(from + whole, count & 7));
}

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

AVX2 static inline uint64_t total256(__m256i sum) {
  __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  return (uint64_t)_mm_cvtsi128_si64(half) + (uint64_t)_mm_extract_epi64(half, 1);
}

// COPY is a constant, so that each caller becomes a loop of its own.
AVX2 static inline __attribute__((always_inline)) uint16_t
run_avx2(unsigned char *to, const unsigned char *from, size_t count, int copy) {
  const __m256i low = _mm256_set1_epi64x(0xFFFFFFFF);
  __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                     _mm256_setzero_si256()};
  while (count >= 128) {
#pragma clang loop unroll(full)
    for (int index = 0; index < 4; index++) {
      __m256i bytes = _mm256_loadu_si256((const __m256i *)(from + 32 * index));
      if (copy) _mm256_storeu_si256((__m256i *)(to + 32 * index), bytes);
      sums[index] = _mm256_add_epi64(sums[index], _mm256_and_si256(bytes, low));
      sums[index] = _mm256_add_epi64(sums[index], _mm256_srli_epi64(bytes, 32));
    }
    from += 128, to += 128, count -= 128;
  }
  while (count >= 32) {
    __m256i bytes = _mm256_loadu_si256((const __m256i *)from);
    if (copy) _mm256_storeu_si256((__m256i *)to, bytes);
    sums[0] = _mm256_add_epi64(sums[0], _mm256_and_si256(bytes, low));
    sums[1] = _mm256_add_epi64(sums[1], _mm256_srli_epi64(bytes, 32));
    from += 32, to += 32, count -= 32;
  }
  uint64_t sum = total256(_mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]),
                                           _mm256_add_epi64(sums[2], sums[3])));
  while (count >= 8) {
    uint64_t word;
    memcpy(&word, from, 8);
    if (copy) memcpy(to, &word, 8);
    sum += (word & 0xFFFFFFFF) + (word >> 32);
    from += 8, to += 8, count -= 8;
  }
  if (copy) memcpy(to, from, count);
  return fold(sum + tail(from, count));
}

AVX2 static uint16_t sum_avx2(const void *bytes, size_t count) {
  return run_avx2((unsigned char *)bytes, bytes, count, 0);
}

AVX2 static uint16_t copy_avx2(void *destination, const void *source, size_t count) {
  return run_avx2(destination, source, count, 1);
}

// VPDPBUSD multiplies bytes and adds up four neighbors: with the weights 1 0 1 0 and 0 1 0 1 it
// sums the low and the high bytes of all words, in two instructions for 64 bytes. A lane gains at
// most 510 a time, and is emptied after 16 MB, long before it could overflow.
AVX512 static inline __attribute__((always_inline)) uint16_t
run_avx512(unsigned char *to, const unsigned char *from, size_t count, int copy) {
  const __m512i low = _mm512_set1_epi16(0x0001), high = _mm512_set1_epi16(0x0100);
  uint64_t sum = 0;
  do {
    size_t round = count < (1 << 24) ? count : 1 << 24;
    count -= round;
    __m512i lows[4], highs[4];
#pragma clang loop unroll(full)
    for (int index = 0; index < 4; index++) lows[index] = highs[index] = _mm512_setzero_si512();
    while (round >= 256) {
#pragma clang loop unroll(full)
      for (int index = 0; index < 4; index++) {
        __m512i bytes = _mm512_loadu_si512(from + 64 * index);
        if (copy) _mm512_storeu_si512(to + 64 * index, bytes);
        lows[index] = _mm512_dpbusd_epi32(lows[index], bytes, low);
        highs[index] = _mm512_dpbusd_epi32(highs[index], bytes, high);
      }
      from += 256, to += 256, round -= 256;
    }
    while (round > 0) {
      size_t step = round < 64 ? round : 64;
      __mmask64 mask = ~0ull >> (64 - step);
      __m512i bytes = _mm512_maskz_loadu_epi8(mask, from);
      if (copy) _mm512_mask_storeu_epi8(to, mask, bytes);
      lows[0] = _mm512_dpbusd_epi32(lows[0], bytes, low);
      highs[0] = _mm512_dpbusd_epi32(highs[0], bytes, high);
      from += step, to += step, round -= step;
    }
    __m512i lowSum = _mm512_add_epi32(_mm512_add_epi32(lows[0], lows[1]),
                                      _mm512_add_epi32(lows[2], lows[3]));
    __m512i highSum = _mm512_add_epi32(_mm512_add_epi32(highs[0], highs[1]),
                                       _mm512_add_epi32(highs[2], highs[3]));
    sum += (uint32_t)_mm512_reduce_add_epi32(lowSum);
    sum += (uint64_t)(uint32_t)_mm512_reduce_add_epi32(highSum) << 8;
  } while (count > 0);
  return fold(sum);
}

AVX512 static uint16_t sum_avx512(const void *bytes, size_t count) {
  return run_avx512((unsigned char *)bytes, bytes, count, 0);
}

AVX512 static uint16_t copy_avx512(void *destination, const void *source, size_t count) {
  return run_avx512(destination, source, count, 1);
}
#endif

static struct ovx_checksum_kernel kernels[3] = {{"portable", sum_portable, copy_portable}};
static size_t kernel_count = 1;

struct ovx_checksum_kernel ovx_checksum_best = {"portable", sum_portable, copy_portable};

size_t ovx_checksum_kernels(const struct ovx_checksum_kernel **list) {
  *list = kernels;
  return kernel_count;
}

#if defined(__x86_64__)
__attribute__((constructor)) static void choose(void) {
  __builtin_cpu_init();
  // These ask for the operating system's consent to wide registers, too.
  if (__builtin_cpu_supports("avx2"))
    kernels[kernel_count++] = (struct ovx_checksum_kernel){"avx2", sum_avx2, copy_avx2};
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
    kernels[kernel_count++] = (struct ovx_checksum_kernel){"avx512", sum_avx512, copy_avx512};
  ovx_checksum_best = kernels[kernel_count - 1];
}
#endif
