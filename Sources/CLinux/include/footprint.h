/* Keeping small what a process holds that does nothing. */
#ifndef OVX_FOOTPRINT_H
#define OVX_FOOTPRINT_H

/* Has all threads share one heap. By default glibc gives each of the first 8 per core one of its
 * own, and keeps what was ever freed in it. To be called before the first thread is started. */
void ovx_share_heap(void);

/* Lets go of memory that was only needed for a while: of freed heap, and of the pages of the
 * program and its libraries, most of which only starting needs. Those that are needed again come
 * back from the page cache. */
void ovx_shrink(void);

#endif
