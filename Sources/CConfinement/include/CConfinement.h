/* What a process takes from itself, by libseccomp: all system calls but those on a list. */
#ifndef OVX_CCONFINEMENT_H
#define OVX_CCONFINEMENT_H

/* From here on no thread of the process gets any right that it does not have, and makes no system
 * call that is not on the list: such a one fails with EPERM, and is noted. Returns a descriptor
 * that is readable when there is something noted, or the negative of errno. Once. */
int ovx_confine(void);

/* The name of a system call that was refused and has not been told of yet; NULL where there is
 * none. Each is told once. The name is good until the next call. */
const char *ovx_next_refusal(void);

#endif
