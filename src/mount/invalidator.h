/* The thread that writes notifications to the kernel, and does nothing else: writing one can block on locks that are
 * held by requests which the loop has not answered yet.
 *
 * Queueing never blocks and never fails visibly. What is queued and not yet begun is queued once. */
#ifndef HPKVFS_MOUNT_INVALIDATOR_H
#define HPKVFS_MOUNT_INVALIDATOR_H

#include <stdint.h>

#include "base/buf.h"
#include "base/loop.h"

struct fuse_session;
struct invalidator;

/* More than this is not queued; what the kernel holds of the rest ends with its time. */
#define INVALIDATOR_MAX 100000

/* `session` is borrowed; block the signals first, the thread inherits that. 0, -ENOMEM, -EAGAIN. */
CHECKED int invalidator_new(struct fuse_session *session, struct invalidator **out);

/* The name's dentry is to be looked up again. */
void invalidator_expire_entry(struct invalidator *invalidator, uint64_t parent, struct str name);

/* The inode's pages and attributes are stale. Call it after the expire_entry of its name (of a directory, of the name
 * in it that changed): the kernel must see the two in this order, and gets both again where it did not know
 * the inode yet. */
void invalidator_inval_inode(struct invalidator *invalidator, uint64_t id);

/* Drops what is queued; `stopped` runs on the loop once the thread writes no more. Go on serving requests until
 * then: the notification under way may wait for their answers. Nothing may be queued any more. */
void invalidator_stop(struct invalidator *invalidator, struct loop *loop, void (*stopped)(void *arg), void *arg);

/* After `stopped`, or before anything was queued. NULL is allowed. */
void invalidator_free(struct invalidator *invalidator);

#endif
