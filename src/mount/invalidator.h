/* Tells the kernel what it must forget, from a thread of its own: a notification blocks while the kernel holds locks for requests
 * which the loop has not answered yet.
 *
 * Queueing never blocks and never fails visibly. What is queued and not yet begun is queued once. What would wait for a request that
 * is not answered is passed over until it is, and others go first: such requests are told of (invalidator_begin). A request can
 * hang as long as its server does, but not longer than its deadline, so what waits for it needs no limit of its own; only where
 * there is always another request, and none takes long, is the notification written between them after a second.
 *
 * Belongs to the loop's thread. */
#ifndef HPKVFS_MOUNT_INVALIDATOR_H
#define HPKVFS_MOUNT_INVALIDATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/coroutine.h"
#include "base/loop.h"

struct invalidator;

/* What is written to, on the invalidator's thread; each may block, and answers 0 or a negative errno. notify.h has the
 * kernel's. */
struct invalidator_kernel {
	int (*expire_entry)(void *arg, uint64_t parent, const char *name, size_t len);
	int (*inval_entry)(void *arg, uint64_t parent, const char *name, size_t len);
	int (*inval_inode)(void *arg, uint64_t id);
	int (*inval_attributes)(void *arg, uint64_t id);
	int (*expire_all)(void *arg);
	void *arg;
};

/* Where more than this is queued, further names are expired with all others, if the kernel can do that. */
#define INVALIDATOR_MAX 100000

/* `direct`: for a test, writes on the calling thread, as it must not be done. Block the signals first, the thread inherits that. 0,
 * -ENOMEM, -EAGAIN. */
CHECKED int invalidator_new(struct loop *loop, const struct invalidator_kernel *kernel, bool direct,
			    struct invalidator **out);

/* The kernel's connection is initialised: finds out what the kernel can do. */
void invalidator_start(struct invalidator *invalidator);

/* The name's dentry is to be looked up again. Who looks it up again already may take in an answer of before this, which then
 * holds: enough where the name leads to the same still, or to nothing (an absence is never revalidated, it is looked up). */
void invalidator_expire_entry(struct invalidator *invalidator, uint64_t parent, struct str name);

/* The name leads no longer to what it led to: its dentry goes, and with it what is answered of it at this moment. What is open
 * there counts as deleted. */
void invalidator_inval_entry(struct invalidator *invalidator, uint64_t parent, struct str name);

/* The inode's pages and attributes are stale. Call it after the expire_entry or inval_entry of its name (of a directory, of the
 * name in it that changed): the kernel must see the two in this order, and gets both again where it did not know
 * the inode yet. */
void invalidator_inval_inode(struct invalidator *invalidator, uint64_t id);

/* The inode's attributes are stale, its pages are not. */
void invalidator_inval_attributes(struct invalidator *invalidator, uint64_t id);

/* All dentries are to be looked up again. False: the kernel cannot do that (before Linux 6.16), or it is not known yet whether
 * it can. */
bool invalidator_expire_all(struct invalidator *invalidator);

/* --- requests that are not answered --- */

/* What the kernel keeps locked while a request is under way. */
enum invalidator_lock {
	INVALIDATOR_NAMES, /* the names in a directory */
	INVALIDATOR_PAGES, /* pages of a file */
};

struct invalidator_busy;

/* In the storage of a request; {0} before first use. */
struct invalidator_mark {
	struct invalidator_mark *prev, *next;
	struct invalidator_busy *busy;
	uint64_t since_us;
};

/* A request that waits keeps this locked, until invalidator_end. Needless for what is answered at once. */
void invalidator_begin(struct invalidator *invalidator, enum invalidator_lock lock, uint64_t id,
		       struct invalidator_mark *mark);
/* Its answer is being written. A mark that was not begun is ignored. */
void invalidator_end(struct invalidator *invalidator, struct invalidator_mark *mark);

/* Waits until what is queued for this inode now has been written, or `limit_us` have passed. The request that the caller is about
 * to answer must not be one that keeps locked what that needs. */
co_fn void invalidator_wait(struct invalidator *invalidator, uint64_t id, uint64_t limit_us);

/* --- the end --- */

/* Drops what is queued; `stopped` runs on the loop once the thread writes no more. Go on serving requests until
 * then: the notification under way may wait for their answers. Nothing may be queued any more; who waits goes on. */
void invalidator_stop(struct invalidator *invalidator, void (*stopped)(void *arg), void *arg);

/* After `stopped`, or before anything was queued. NULL is allowed. */
void invalidator_free(struct invalidator *invalidator);

struct invalidator_figures {
	uint64_t entries, inodes, attributes, all; /* notifications that were written, by kind */
	uint64_t overflows;                        /* names that were expired with all others, for lack of room */
	uint64_t queued, most;                     /* now, with what is being written; and at the worst time */
	uint64_t held;                             /* of those queued now, what waits for a request's answer */
};

struct invalidator_figures invalidator_figures(struct invalidator *invalidator);

#endif
