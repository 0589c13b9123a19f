/* A request of the kernel on its way through a coroutine, for the files that hold operations. */
#ifndef HPKVFS_MOUNT_REQUEST_H
#define HPKVFS_MOUNT_REQUEST_H

#include "base/clock.h"
#include "mount/invalidator.h"
#include "mount/ops.h"

/* What the kernel keeps locked until the answer, of node `id` (and of `new_parent`, if there is one). */
enum request_locks {
	REQUEST_LOCKS_NOTHING,
	REQUEST_LOCKS_NAMES,
	REQUEST_LOCKS_PAGES,
};

struct request {
	struct request *prev, *next;
	struct mount_context *context;
	fuse_req_t req; /* NULL: answered */
	pid_t thread;
	bool interrupted, killed;
	bool closing; /* a close, by a program that may be ending */
	void (*run)(struct request *request);
	enum request_locks locks;
	struct invalidator_mark marks[2];
	bool *ended; /* set at its end; NULL: whom it concerns is gone */

	uint64_t id, new_parent, offset;
	size_t size;
	/* in the session's buffer: valid until the first wait only; what is called copies them */
	struct str name, new_name;
	struct buf kept, new_kept;     /* copies of them, where it waits and locks names (or what an xattr is called) */
	struct fs_handle *handle, *to; /* held until it ends; `to`: of a copy */
	struct fs_handle *closed;      /* of a last close, which waits for who holds it */
	uint64_t to_offset;
	bool pages; /* a write of the kernel's own */
	mode_t mode;
	dev_t device;
	int flags;
	uint32_t uid;
	struct fs_maker maker; /* the caller */
	bool plus;
	struct fs_attr_change change;
};

/* A request on node `id`, of the caller of `req`. NULL: no memory, and it has been answered so. */
struct request *ops_request_new(fuse_req_t req, uint64_t id, void (*run)(struct request *request));
/* Runs it in a coroutine of its own, which frees it. */
void ops_request_start(struct request *request);

/* The right to answer, once. NULL: it has been answered. */
fuse_req_t answer_take(struct request *request);
/* `err`: 0 or a negative errno. */
void answer_error(struct request *request, int err);
/* A lookup that nobody learns of is taken back. */
void answer_entry(struct request *request, const struct fs_entry *entry);

/* How long the kernel may rely on an answer, in its seconds. Without limit is as long as no mount lives: the kernel adds it to
 * its own clock. */
#define KERNEL_TTL_MOST_US (10 * 365 * 86400ull * CLOCK_US_PER_S)

static inline double kernel_ttl(uint64_t ttl_us)
{
	return (double)(ttl_us < KERNEL_TTL_MOST_US ? ttl_us : KERNEL_TTL_MOST_US) / CLOCK_US_PER_S;
}

static inline struct fs_handle *handle_of(const struct fuse_file_info *file)
{
	return file ? (struct fs_handle *)(uintptr_t)file->fh : NULL;
}

#endif
