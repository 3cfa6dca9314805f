/* Starting another program and learning of its end. */
#ifndef OVX_PROCESS_H
#define OVX_PROCESS_H
#include <sys/types.h>

/* Starts a program with the calling process's environment, an empty standard input, no signal
 * blocked or ignored, and in a process group of its own; `output` and `errors` become its standard
 * output and error, and no other descriptor of ours gets there. `arguments` begins with its name
 * and ends with NULL. Returns its number, or the negative of errno. */
pid_t ovx_spawn(const char *path, char *const arguments[], int output, int errors);

/* A pipe, closed when another program starts; its reading end, the first, does not wait. Returns 0,
 * or the negative of errno. */
int ovx_pipe(int ends[2]);

/* A descriptor that becomes readable when a process ends (pidfd_open(2)), or the negative of
 * errno. */
int ovx_pidfd_open(pid_t pid);

#endif
