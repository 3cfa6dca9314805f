#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "CConfinement.h"

#include <errno.h>
#include <linux/bpf.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

/* What the daemon may do, whatever the arguments; all of it works on what it has or may open. Those
 * that an architecture does not have are passed over. */
static const char *const allowed[] = {
    /* memory */
    "brk", "madvise", "mincore", "mlock", "mlock2", "mremap", "munlock", "munmap", "membarrier",
    /* threads, time and signals */
    "clock_getres", "clock_gettime", "clock_nanosleep", "exit", "exit_group", "futex", "futex_waitv",
    "getcpu", "get_robust_list", "gettimeofday", "nanosleep", "restart_syscall", "rseq", "rt_sigaction",
    "rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sched_getaffinity",
    "sched_getattr", "sched_getparam", "sched_get_priority_max", "sched_get_priority_min",
    "sched_getscheduler", "sched_setattr", "sched_yield", "setpriority", "set_robust_list", "set_tid_address",
    "sigaltstack", "tgkill", "time", "timer_create", "timer_delete", "timer_settime", "timerfd_create",
    "timerfd_gettime", "timerfd_settime",
    /* who it is, and what it may use */
    "getegid", "geteuid", "getgid", "getgroups", "getpgrp", "getpid", "getppid", "getpriority", "getrandom",
    "getresgid", "getresuid", "getrlimit", "getrusage", "gettid", "getuid", "prlimit64", "sysinfo", "umask", "uname",
    /* waiting */
    "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd2", "poll", "ppoll",
    "pselect6", "select", "signalfd4",
    /* files: its database, its log, /proc, /sys */
    "access", "chdir", "close", "close_range", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64",
    "fallocate", "fchmod", "fchmodat", "fchown", "fcntl", "fdatasync", "flock", "fstat", "fstatat64",
    "fstatfs", "fsync", "ftruncate", "getcwd", "getdents64", "inotify_add_watch", "inotify_init1",
    "inotify_rm_watch", "lseek", "lstat", "mkdir", "mkdirat", "newfstatat", "open", "openat", "openat2",
    "pipe2", "pread64", "preadv", "pwrite64", "pwritev", "read", "readlink", "readlinkat", "readv", "rename",
    "renameat", "renameat2", "rmdir", "stat", "statfs", "statx", "sync_file_range", "unlink", "unlinkat",
    "utimensat", "write", "writev",
    /* sockets */
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom",
    "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
    /* what moves the frames */
    "io_uring_enter", "io_uring_register", "io_uring_setup",
};

/* System calls that were refused and not told of, a bit for each number, and those that were told
 * of. */
enum { number_limit = 1024 };
static _Atomic uint64_t refused[number_limit / 64];
static uint64_t told[number_limit / 64];
static int noted = -1;

static void set_result(ucontext_t *context, long result) {
#if defined(__x86_64__)
  context->uc_mcontext.gregs[REG_RAX] = result;
#elif defined(__aarch64__)
  context->uc_mcontext.regs[0] = (unsigned long)result;
#else
#error "which register has the result of a system call here?"
#endif
}

/* In the thread that has made the call, in its place. */
static void refuse(int signal, siginfo_t *information, void *context) {
  (void)signal;
  int saved = errno;
  unsigned number = (unsigned)information->si_syscall;
  if (number < number_limit) {
    uint64_t bit = 1ull << number % 64;
    if (!(atomic_fetch_or(&refused[number / 64], bit) & bit)) eventfd_write(noted, 1);
  }
  set_result(context, -EPERM);
  errno = saved;
}

static int add(scmp_filter_ctx filter, uint32_t action, const char *name, unsigned count, const struct scmp_arg_cmp *rules) {
  int number = seccomp_syscall_resolve_name(name);
  if (number == __NR_SCMP_ERROR) return 0;
  return seccomp_rule_add_array(filter, action, number, count, rules);
}

/* Those that depend on what is asked of them. */
static int add_conditional(scmp_filter_ctx filter) {
  static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET};
  static const int names[] = {PR_SET_NAME, PR_GET_NAME, PR_SET_TIMERSLACK};
  int result = 0;
  for (size_t number = 0; !result && number < sizeof families / sizeof *families; number++)
    result = add(filter, SCMP_ACT_ALLOW, "socket", 1, &SCMP_A0_32(SCMP_CMP_EQ, (unsigned)families[number]));
  if (!result) result = add(filter, SCMP_ACT_ALLOW, "socketpair", 1, &SCMP_A0_32(SCMP_CMP_EQ, AF_UNIX));
  for (size_t number = 0; !result && number < sizeof names / sizeof *names; number++)
    result = add(filter, SCMP_ACT_ALLOW, "prctl", 1, &SCMP_A0_32(SCMP_CMP_EQ, (unsigned)names[number]));
  /* Threads, and no processes. What clone3 is asked for cannot be looked at: without it the C
   * library takes clone. */
  if (!result) result = add(filter, SCMP_ACT_ALLOW, "clone", 1, &SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
  if (!result) result = add(filter, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, NULL);
  /* What the fast path takes: maps, programs, and links by which these hang on devices
   * (<linux/bpf.h>). */
  static const int commands[] = {BPF_MAP_CREATE,      BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM,
                                 BPF_MAP_DELETE_ELEM, BPF_PROG_LOAD,       BPF_LINK_CREATE};
  for (size_t number = 0; !result && number < sizeof commands / sizeof *commands; number++)
    result = add(filter, SCMP_ACT_ALLOW, "bpf", 1, &SCMP_A0_32(SCMP_CMP_EQ, (unsigned)commands[number]));
  /* No more code than there is. */
  if (!result) result = add(filter, SCMP_ACT_ALLOW, "mmap", 1, &SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  if (!result) result = add(filter, SCMP_ACT_ALLOW, "mprotect", 1, &SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  /* Not to type into the terminal that it was started from. */
  if (!result) result = add(filter, SCMP_ACT_ALLOW, "ioctl", 1, &SCMP_A1_32(SCMP_CMP_NE, TIOCSTI));
  return result;
}

static int load(void) {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
  if (!filter) return -ENOMEM;
  /* All threads that there are, and with them all that there will be; no_new_privs is libseccomp's
   * default. */
  int result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
  /* Frames are moved by many calls of a few numbers: a tree finds them in less time than a list. */
  if (!result) (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
  for (size_t number = 0; !result && number < sizeof allowed / sizeof *allowed; number++)
    result = add(filter, SCMP_ACT_ALLOW, allowed[number], 0, NULL);
  if (!result) result = add_conditional(filter);
  if (!result) result = seccomp_load(filter);
  seccomp_release(filter);
  return result;
}

int ovx_confine(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = refuse;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigfillset(&action.sa_mask);
  noted = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (noted < 0) return -errno;
  if (sigaction(SIGSYS, &action, NULL) < 0) return -errno;
  int result = load();
  return result < 0 ? result : noted;
}

const char *ovx_next_refusal(void) {
  static char name[64];
  eventfd_t count;
  (void)eventfd_read(noted, &count);
  for (unsigned number = 0; number < number_limit; number++) {
    uint64_t bit = 1ull << number % 64;
    if (!(atomic_load(&refused[number / 64]) & bit) || told[number / 64] & bit) continue;
    told[number / 64] |= bit;
    char *resolved = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, (int)number);
    strncpy(name, resolved ? resolved : "unknown", sizeof name - 1);
    free(resolved);
    return name;
  }
  return NULL;
}
