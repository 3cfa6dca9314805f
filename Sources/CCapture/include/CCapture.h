/* libpcap as ovx uses it. <pcap.h> itself stays out of sight: it would bring a copy of
 * <sys/socket.h> that Swift takes for another one than Glibc's. */
#ifndef OVX_CCAPTURE_H
#define OVX_CCAPTURE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  /* Instructions of a program at most: BPF_MAXINSNS of <linux/bpf_common.h>. */
  ovx_filter_limit = 4096,
  /* Bytes that an explanation of libpcap's takes at most: PCAP_ERRBUF_SIZE. */
  ovx_capture_error_size = 256,
};

/* Loads libpcap, as everything below does that needs it; for a process that cannot load anything
 * later. False with the reason and the remedy in `error`. */
bool ovx_capture_load(char *error);

/* A program of the packet filter, each instruction as one number: code, jt, jf and k from the high
 * end on. */

/* Compiles an expression of pcap-filter(7) for Ethernet frames to `ovx_filter_limit` instructions
 * at most. Their number, or -1 with the reason in `error`. */
int ovx_filter_compile(const char *expression, int snapshot_length, uint64_t *words, char *error);

/* Makes a program ready to run; NULL where it might not end for some packet, or leave its
 * memory. */
void *ovx_filter_make(const uint64_t *words, int count);
void ovx_filter_free(void *program);
bool ovx_filter_accepts(const void *program, const void *packet, uint32_t length, uint32_t captured);

/* Makes or empties a pcap file of Ethernet frames, `-` for standard output. NULL with the reason in
 * `error`. */
void *ovx_dump_open(const char *path, int snapshot_length, char *error);
void ovx_dump(void *file, uint64_t nanoseconds, uint32_t length, uint32_t captured, const void *packet);
/* Writes out what is buffered; whether everything so far has been written. */
bool ovx_dump_flush(void *file);
void ovx_dump_close(void *file);

/* The signals that a person ends a program with, blocked, as a descriptor to poll. -1 where that is
 * not possible. */
int ovx_end_signals(void);

/* The time of day where the machine is, HH:MM:SS.uuuuuu, to at least 16 bytes. */
void ovx_format_time(uint64_t nanoseconds, char *text);

/* Whether something keeps the clock, such as NTP: 1 yes, 0 no (TIME_ERROR of adjtimex(2)), -1 where
 * the kernel does not tell. */
int ovx_clock_is_kept(void);
#endif
