/* Names of network namespaces, as `ip netns` keeps them. Such a name is a mount that all processes
 * of the host are to see, so that who makes it has the host's mount namespace, and none of what
 * that could be confined by: it is a process of its own (ovx-broker names), which does nothing
 * else. */
#ifndef OVX_NAMES_H
#define OVX_NAMES_H

/* Answers what comes by a connected socket (SOCK_SEQPACKET) until that is closed. It makes and
 * removes names that begin with a prefix, and no others. */
_Noreturn void ovx_names_serve(int from, const char *prefix);

/* Has the one that serves a socket of the file system give a network namespace a name, or take it
 * back from whatever has it where `namespace` is negative. Returns 0, or the negative of errno. */
int ovx_names_ask(const char *path, const char *name, int namespace);

#endif
