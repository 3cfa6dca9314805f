#include "CChecksum.h"
#include <string.h>

static uint16_t fold(uint64_t sum) {
  sum = (sum & 0xFFFFFFFF) + (sum >> 32);
  sum = (sum & 0xFFFFFFFF) + (sum >> 32);
  sum = (sum & 0xFFFF) + (sum >> 16);
  sum = (sum & 0xFFFF) + (sum >> 16);
  return (uint16_t)sum;
}

uint16_t ovx_checksum_sum(const void *bytes, size_t count) {
  const unsigned char *from = bytes;
  uint64_t sum = 0;
  for (; count >= 4; from += 4, count -= 4) {
    uint32_t word;
    memcpy(&word, from, 4);
    sum += word;
  }
  uint32_t last = 0;
  memcpy(&last, from, count);
  return fold(sum + last);
}

uint16_t ovx_checksum_copy(void *destination, const void *source, size_t count) {
  memcpy(destination, source, count);
  return ovx_checksum_sum(source, count);
}
