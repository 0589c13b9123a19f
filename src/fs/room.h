/* Room in memory for content that waits, over all files.
 *
 * What programs have changed and the store does not hold yet is counted. Whoever would add more than there is room for waits,
 * until enough of it has gone to the store: swap files, which never go there, are counted for themselves (waiting.h). The
 * largest go first, since that is the fewest requests:
 *
 * - Closed files whose names were local, or whose commit failed, and what commit= would send in a while, are committed.
 * - What is only appended is appended.
 * - Of all else chunks are sent under the id that the commit will name; nobody sees them before. The chunk that was written
 *   last, and what may still fit a value, only where all that is larger is not enough: they may have to be sent again.
 *
 * What cannot be made less, as what each open file takes, is not waited for.
 *
 * While the store takes nothing, those who wait get its answer: each after `timeout=`, or after some failures, and what
 * they would have written is not taken. What was taken before stays.
 *
 * Who waits here holds no lock: what makes room takes those of files, and of the tree. */
#ifndef HPKVFS_FS_ROOM_H
#define HPKVFS_FS_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/coroutine.h"

struct fs;
struct node;
struct room_waiter;

struct room {
	uint64_t bytes;      /* all that waits, but swap files */
	uint64_t swap_bytes; /* swap files */
	struct node *files; /* those with a draft, in the order in which they were changed first; without a reference */
	uint64_t promised;  /* to those who were let in and have not written yet */
	uint64_t least;     /* what could not be made less when that was last tried, while it is more than the limit */
	bool making;        /* a coroutine makes room */
	struct room_waiter *waiters; /* in order of arrival */
};

/* The file has got a draft, or what its name says has changed: it is counted where it belongs. */
void room_count(struct node *node);
/* It has none any more. */
void room_forget(struct node *node);

/* True if room_wait would wait. */
bool room_is_short(struct node *node, size_t bytes);
/* Until there is room for so many bytes more of the file, or of one in the directory; then they are to be written at once. The
 * store's errors. */
co_fn CHECKED int room_wait(struct node *node, size_t bytes);
/* Something went to the store, or is not needed any more. */
void room_changed(struct fs *fs);

#endif
