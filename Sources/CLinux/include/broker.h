/* The broker: a process of its own that does what takes more rights than moving frames does, so
 * that the daemon, which reads what tenants write, need not have them.
 *
 * It looks at containers through docker and podman where these are in its PATH, opens the files of
 * network namespaces, and opens a few things inside them; it hands out what it has opened, and does
 * nothing else for anybody. */
#ifndef OVX_BROKER_H
#define OVX_BROKER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What it opens inside a namespace. */
enum ovx_thing {
  /* A socket of NETLINK_ROUTE. */
  OVX_ROUTE_NETLINK = 1,
  /* /dev/net/tun, for a device of that namespace. */
  OVX_TUN,
  /* A socket of the underlay (`ovx_open_udp_socket`). */
  OVX_UDP4,
  OVX_UDP6,
  /* A file below /proc/sys/net/ipv4/conf or /proc/sys/net/ipv6/conf, to be read, and written where
   * it can be. */
  OVX_SETTING,
};

/* Opens it in the calling thread's namespace; `path` is a setting's. Returns a descriptor, or the
 * negative of errno. */
int ovx_open_thing(int thing, const char *path);

/* The broker's life: answers what comes by a connected socket (SOCK_SEQPACKET) until that is
 * closed. */
_Noreturn void ovx_broker_serve(int from);

/* Starts a broker with the rights of the calling process: before that has another thread, and once.
 * It ends with the calling process. Returns 0, or the negative of errno. */
int ovx_broker_begin(void);

/* Makes the one that serves a socket of the file system the broker of this process, and finds it
 * again where it has ended. Once. Returns 0, or the negative of errno. */
int ovx_broker_connect(const char *path);

/* Whether there is one, or was. */
bool ovx_broker_has_begun(void);

/* Has docker or podman started to look at something, as `ovx_spawn` starts a program: with the
 * questions that the broker knows and no others. Returns a descriptor, or the negative of errno. It
 * becomes readable when the program has ended: it then gives an int, the program's status as
 * waitpid(2) has it. When it is shut down for writing, or closed, the program's process group is
 * killed. */
int ovx_broker_spawn(const char *path, char *const arguments[], int output, int errors);

/* `ovx_open_network_namespace`, by the broker. */
int ovx_broker_open_namespace(const char *path);

/* `ovx_open_thing` in a namespace that is open, by the broker. */
int ovx_broker_open_thing(int namespace, int thing, const char *path);

/* A process, and what tells the network namespace that it is in from others. */
struct ovx_occupant {
  int64_t pid;
  uint64_t device, inode;
};

/* Some of the host's processes, in the order of their numbers. */
enum { OVX_OCCUPANTS = 64 };
struct ovx_occupants {
  struct ovx_occupant some[OVX_OCCUPANTS];
  int64_t count;
  /* Where the next ones begin; 0 after the last ones. */
  int64_t next;
};

/* Looks at processes, from the first one for 0, else from where it said. Those that must not be
 * looked at are left out. */
void ovx_look_at_processes(int64_t from, struct ovx_occupants *found);

/* The same by the broker. Returns 0, or the negative of errno. */
int ovx_broker_look_at_processes(int64_t from, struct ovx_occupants *found);

/* The id of the container that a process is in, by the names that engines give to control groups:
 * 64 hexadecimal digits; empty for none. */
enum { OVX_CONTAINER_ID = 64 };
void ovx_container_of(pid_t pid, char id[OVX_CONTAINER_ID + 1]);

/* The same by the broker. */
void ovx_broker_container_of(pid_t pid, char id[OVX_CONTAINER_ID + 1]);

/* Gives up all capabilities of the calling process but those by which it moves frames and keeps
 * files, in the calling thread and those that it will start; `for_rings` keeps CAP_SYS_ADMIN.
 * Returns 0, or the negative of errno. */
int ovx_keep_few_capabilities(bool for_rings);

#endif
