/* Cleanup attributes for single resources, and the mark for results that must be looked at. */
#ifndef HPKVFS_BASE_CLEANUP_H
#define HPKVFS_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define CHECKED __attribute__((warn_unused_result))

/* CLEANUP(buf_free) struct buf b = BUF_INIT;  runs buf_free(&b) at the end of the scope. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

static inline void cleanup_free(void *pointer)
{
	free(*(void **)pointer);
}

static inline void cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define CLEANUP_FREE CLEANUP(cleanup_free)
#define CLEANUP_CLOSE CLEANUP(cleanup_close)

/* Moves a pointer out of a variable that has a cleanup attribute. */
#define STEAL(pointer)                                \
	({                                            \
		__typeof__(pointer) *p_ = &(pointer); \
		__typeof__(pointer) taken_ = *p_;     \
		*p_ = NULL;                           \
		taken_;                               \
	})

#endif
