/* Tells programs that watch the mount by inotify(7) of what other clients change (option inotify).
 *
 * The kernel raises events for system calls alone. So a helper, a process of ours, makes them in the mount: the write-open, the
 * creation, the removal that a program would have made. What the kernel asks for them is answered from memory
 * (inotify_ops.h): nothing is sent, nothing is waited for, and nothing is changed that was not so before.
 *
 * An event is made when the kernel has been told to forget what it is about, one after the other. In a directory that a program
 * keeps locked while its request is answered, the helper waits for that, and what comes behind waits for the helper. The loop
 * does in no case; when the helper hangs, or is dead, events are late or missing and all else goes on. */
#ifndef HPKVFS_MOUNT_INOTIFY_H
#define HPKVFS_MOUNT_INOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/coroutine.h"
#include "fs/fs.h"

struct inotify;
struct mount_context;

/* So many events wait; the oldest are dropped for more. */
#define INOTIFY_WAIT_MOST 10000

/* What the helper is at, or is to do. */
struct inotify_event {
	struct inotify_event *prev, *next;
	enum fs_event_kind kind;
	uint64_t parent, id;
	mode_t mode;
	struct buf ids;   /* of the directories from the root to `parent`, as fs_path gives them */
	struct buf names; /* theirs, and then the one that it is about; each ended by a NUL */
	size_t name_at;   /* where that begins */
};

/* Starts the helper. Before there are threads, and before anything is opened that it should not have. `mountpoint` is
 * borrowed. 0, -ENOMEM, -errno. */
CHECKED int inotify_new(const char *mountpoint, struct inotify **out);

/* The mount is there, with this device number: events are taken from now on. `context` is borrowed. 0, -ENOMEM, -errno. */
CHECKED int inotify_serve(struct inotify *inotify, struct mount_context *context, unsigned major, unsigned minor);

/* fs_notify's. Before inotify_serve, and without a helper, it is ignored. */
void inotify_tell(struct inotify *inotify, const struct fs_event *event);

/* Ends the helper; nothing is told any more. NULL is allowed here and below. */
void inotify_halt(struct inotify *inotify);

/* After that, and after the invalidator has stopped: waits until nothing goes on. */
co_fn void inotify_end(struct inotify *inotify);

/* After the kernel's connection was closed, so that the helper cannot hang in it. */
void inotify_free(struct inotify *inotify);

/* --- for inotify_ops.c --- */

/* True for the helper alone: until its end is looked at, nobody else can have its pid. */
bool inotify_is_helper(const struct inotify *inotify, pid_t pid);
/* What it is at; NULL: nothing. */
const struct inotify_event *inotify_current(const struct inotify *inotify);
/* Another number with each call. */
uint64_t inotify_count(struct inotify *inotify);

#endif
