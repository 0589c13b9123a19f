/* The libfuse low-level operations over fs/fs.h: each request that may wait runs in a coroutine. */
#ifndef HPKVFS_MOUNT_OPS_H
#define HPKVFS_MOUNT_OPS_H

#include <fuse_lowlevel.h>

#include "base/loop.h"
#include "fs/fs.h"

struct inotify;
struct invalidator;
struct request;

/* The session's userdata. The owner (daemon.c) sets everything before the session is mounted; the operations
 * change `running` only. Belongs to the loop's thread. */
struct mount_context {
	struct loop *loop;
	struct fs *fs;
	struct invalidator *invalidator;
	struct inotify *inotify;  /* NULL: without that option */
	unsigned running;         /* requests whose coroutine is alive */
	struct request *requests; /* the same as a list: request.c's */
	struct loop_timer watch;  /* request.c's; cancel it at the end */
	uint32_t uid, gid;        /* of the mount's own files (hidden.h) */
	struct timespec begun;    /* and their time */

	/* Called by the init operation, once the kernel's FUSE_INIT is being answered. */
	void (*ready)(struct mount_context *context);
	/* Appends the mount's figures as JSON. 0 or -ENOMEM. */
	int (*stats)(struct mount_context *context, struct buf *out);
	/* Called whenever `running` falls to 0: what an unmounted session waits for. */
	void (*idle)(struct mount_context *context);
};

extern const struct fuse_lowlevel_ops mount_ops;

/* Answers every request that waits with EIO, at once: for the end of the session. Their coroutines go on until the store
 * has answered them; `running` tells. */
void mount_ops_interrupt_all(struct mount_context *context);

#endif
