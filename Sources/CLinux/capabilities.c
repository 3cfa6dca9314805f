#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "broker.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What moving frames takes: devices and packet filters, raw frames, and the programs of the fast
 * path (BPF). */
static const int for_frames[] = {CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE, CAP_BPF, CAP_PERFMON, CAP_IPC_LOCK};

/* What root has with files and limits where the daemon is started by hand: a run directory, a log
 * and a database may be anywhere then. A service has none of it (deploy/ovx-vswitchd.service). */
static const int for_files[] = {
    CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_KILL, CAP_SYS_NICE, CAP_SYS_RESOURCE};

int ovx_keep_few_capabilities(bool for_rings) {
  uint64_t kept = for_rings ? 1ull << CAP_SYS_ADMIN : 0;
  for (size_t number = 0; number < sizeof for_frames / sizeof *for_frames; number++) kept |= 1ull << for_frames[number];
  for (size_t number = 0; number < sizeof for_files / sizeof *for_files; number++) kept |= 1ull << for_files[number];
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
  if (syscall(SYS_capget, &header, data) < 0) return -errno;
  for (int half = 0; half < _LINUX_CAPABILITY_U32S_3; half++) {
    uint32_t mask = (uint32_t)(kept >> (32 * half));
    data[half].permitted &= mask;
    data[half].effective &= mask;
    data[half].inheritable &= mask;
  }
  return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}
