#define _GNU_SOURCE
#include "CCapture.h"
#include <dlfcn.h>
#include <pcap/pcap.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timex.h>
#include <time.h>

_Static_assert((int)ovx_capture_error_size == PCAP_ERRBUF_SIZE, "the size of libpcap's explanations");

/* Of libpcap what is used here. It is loaded when somebody captures: with D-Bus, systemd and what
 * else it stands on it would be a sixth of the time that a program takes to start. */
#define LIBRARY(f)                                                                                                  \
  f(pcap_open_dead) f(pcap_compile) f(pcap_freecode) f(pcap_geterr) f(pcap_close) f(pcap_dump_open) f(pcap_dump)    \
      f(pcap_dump_flush) f(pcap_dump_file) f(pcap_dump_close) f(bpf_validate) f(bpf_filter)
#define POINTER(name) __typeof__(name) *name;
static struct {
  LIBRARY(POINTER)
} library;
static pthread_once_t loading = PTHREAD_ONCE_INIT;
/* Empty where it is there. */
static char missing[PCAP_ERRBUF_SIZE];

static void load(void) {
  void *handle = dlopen("libpcap.so.0.8", RTLD_NOW | RTLD_LOCAL);
  if (!handle) handle = dlopen("libpcap.so.1", RTLD_NOW | RTLD_LOCAL);
  if (handle) {
#define FIND(name) library.name = (__typeof__(name) *)dlsym(handle, #name);
    LIBRARY(FIND)
#define IS_FOUND(name) library.name &&
    if (LIBRARY(IS_FOUND) true) return;
  }
  const char *reason = dlerror();
  snprintf(missing, sizeof missing, "libpcap cannot be loaded (%.160s); install it (Debian: libpcap0.8)",
           reason ? reason : "it lacks functions");
}

bool ovx_capture_load(char *error) {
  pthread_once(&loading, load);
  if (!missing[0]) return true;
  snprintf(error, PCAP_ERRBUF_SIZE, "%s", missing);
  return false;
}

int ovx_filter_compile(const char *expression, int snapshot_length, uint64_t *words, char *error) {
  if (!ovx_capture_load(error)) return -1;
  pcap_t *session = library.pcap_open_dead(DLT_EN10MB, snapshot_length);
  struct bpf_program program;
  int count = -1;
  if (!session) {
    snprintf(error, PCAP_ERRBUF_SIZE, "out of memory");
    return -1;
  }
  if (library.pcap_compile(session, &program, expression, 1, PCAP_NETMASK_UNKNOWN) < 0) {
    snprintf(error, PCAP_ERRBUF_SIZE, "%s", library.pcap_geterr(session));
  } else {
    if (program.bf_len > ovx_filter_limit) {
      snprintf(error, PCAP_ERRBUF_SIZE, "it takes %u instructions, and %d are the most", program.bf_len,
               ovx_filter_limit);
    } else {
      count = (int)program.bf_len;
      for (int index = 0; index < count; index++) {
        struct bpf_insn instruction = program.bf_insns[index];
        words[index] = (uint64_t)instruction.code << 48 | (uint64_t)instruction.jt << 40 |
                       (uint64_t)instruction.jf << 32 | instruction.k;
      }
    }
    library.pcap_freecode(&program);
  }
  library.pcap_close(session);
  return count;
}

void *ovx_filter_make(const uint64_t *words, int count) {
  char reason[PCAP_ERRBUF_SIZE];
  if (count < 1 || count > ovx_filter_limit || !ovx_capture_load(reason)) return NULL;
  struct bpf_insn *program = calloc((size_t)count, sizeof *program);
  if (!program) return NULL;
  for (int index = 0; index < count; index++) {
    program[index].code = (u_short)(words[index] >> 48);
    program[index].jt = (u_char)(words[index] >> 40);
    program[index].jf = (u_char)(words[index] >> 32);
    program[index].k = (bpf_u_int32)words[index];
  }
  if (library.bpf_validate(program, count)) return program;
  free(program);
  return NULL;
}

void ovx_filter_free(void *program) { free(program); }

bool ovx_filter_accepts(const void *program, const void *packet, uint32_t length, uint32_t captured) {
  return library.bpf_filter(program, packet, length, captured) != 0;
}

void *ovx_dump_open(const char *path, int snapshot_length, char *error) {
  if (!ovx_capture_load(error)) return NULL;
  pcap_t *session = library.pcap_open_dead(DLT_EN10MB, snapshot_length);
  if (!session) {
    snprintf(error, PCAP_ERRBUF_SIZE, "out of memory");
    return NULL;
  }
  pcap_dumper_t *dumper = library.pcap_dump_open(session, path);
  if (!dumper) snprintf(error, PCAP_ERRBUF_SIZE, "%s", library.pcap_geterr(session));
  /* The header is written: the session is not needed any more. */
  library.pcap_close(session);
  return dumper;
}

void ovx_dump(void *file, uint64_t nanoseconds, uint32_t length, uint32_t captured, const void *packet) {
  struct pcap_pkthdr header;
  memset(&header, 0, sizeof header);
  header.ts.tv_sec = (time_t)(nanoseconds / 1000000000u);
  header.ts.tv_usec = (suseconds_t)(nanoseconds % 1000000000u / 1000u);
  header.caplen = captured;
  header.len = length;
  library.pcap_dump(file, &header, packet);
}

bool ovx_dump_flush(void *file) { return library.pcap_dump_flush(file) == 0 && !ferror(library.pcap_dump_file(file)); }

void ovx_dump_close(void *file) { library.pcap_dump_close(file); }

int ovx_end_signals(void) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGHUP);
  if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0) return -1;
  return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

void ovx_format_time(uint64_t nanoseconds, char *text) {
  time_t seconds = (time_t)(nanoseconds / 1000000000u);
  struct tm parts;
  memset(&parts, 0, sizeof parts);
  localtime_r(&seconds, &parts);
  unsigned microseconds = (unsigned)(nanoseconds % 1000000000u / 1000u);
  snprintf(text, 16, "%02u:%02u:%02u.%06u", (unsigned)parts.tm_hour % 100, (unsigned)parts.tm_min % 100,
           (unsigned)parts.tm_sec % 100, microseconds);
}

int ovx_clock_is_kept(void) {
  struct timex facts = {0};
  int state = adjtimex(&facts);
  return state < 0 ? -1 : state != TIME_ERROR;
}
