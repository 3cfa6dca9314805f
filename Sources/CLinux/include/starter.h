/* A process of its own that starts programs, so that the one that asks it need not be able to.
 *
 * It starts the programs that are named to it at the beginning, to look at something (`inspect`, `events`), and nothing
 * else. */
#ifndef OVX_STARTER_H
#define OVX_STARTER_H
#include <stdbool.h>

/* Starts the process; `programs` are absolute paths, of which the last is NULL. Before the calling process has another
 * thread, and once. It ends with the calling process. Returns 0, or the negative of errno. */
int ovx_starter_begin(char *const programs[]);

/* Whether there is one, or was. */
bool ovx_starter_has_begun(void);

/* Has a program started, as `ovx_spawn` starts one. Returns a descriptor, or the negative of errno. It becomes readable
 * when the program has ended: it then gives an int, the program's status as waitpid(2) has it. When it is shut down for
 * writing, or closed, the program's process group is killed. */
int ovx_starter_spawn(const char *path, char *const arguments[], int output, int errors);

#endif
