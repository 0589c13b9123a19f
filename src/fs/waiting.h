/* Content that waits for its commit longer than the call that made it.
 *
 * Local names (`local=`) are those of temporary files that a program makes with O_EXCL and renames or removes in a
 * moment: nobody else need see them. Swap files never leave this machine; others are committed by fsync, syncfs,
 * unmount, rename to a name that is not of scratch or swap files, or some time after their last close. What is in the store is not local.
 *
 * Open files that were closed once are committed some time after a change (`commit=`). */
#ifndef HPKVFS_FS_WAITING_H
#define HPKVFS_FS_WAITING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/coroutine.h"

struct fs;
struct node;

enum local {
	LOCAL_NOT,
	LOCAL_LATER,   /* committed after a while */
	LOCAL_SCRATCH, /* the same, but fsync does not: it is to be renamed, and only that makes it count */
	LOCAL_NEVER,   /* stays here, fsync included, and ends with the mount */
};

/* In a file. */
struct waiting {
	enum local local;
	bool listed;       /* in fs->waiting, without a reference */
	bool failed;       /* room was to be made, and the store did not take what waits */
	uint64_t due_us;   /* committed then, if it is still changed */
	uint64_t retry_us; /* a commit failed, and is tried again after so long; 0: none did */
	struct node *prev, *next;
};

/* What local= makes of a name. */
enum local local_class(const struct fs *fs, struct str name);

/* A file was made with O_EXCL, under its name. */
void local_begin(struct node *node);

/* True while closing the file does not commit it. */
bool local_waits(const struct node *node);
/* True while nothing but another name commits it. Where swap files take too much memory in all, one that would wait for ever
 * becomes one that is committed after a while. */
bool local_stays(struct node *node);
/* True while fsync does not commit it. */
bool local_is_scratch(struct node *node);
/* True if the renaming commits nothing: the new name, where `target` is (NULL: nothing), is one of scratch or swap files. */
bool local_may_move(struct node *node, const struct node *target, struct str new_name);
/* It has that name now. */
void local_moved(struct node *node);
/* The last close. */
void local_closed(struct node *node);

/* The change of an open file that was closed before is to be committed in a while. */
void waiting_changed(struct node *node);
/* It is committed in so long. */
void waiting_due_in(struct node *node, uint64_t delay_us);
/* It is committed before its time. */
co_fn CHECKED int waiting_commit(struct node *node);
/* Its commit failed, and may yet succeed. */
void waiting_retry(struct node *node);
/* The file waits for nothing any more: it was committed, or is freed. */
void waiting_end(struct node *node);

void waiting_free(struct fs *fs);

#endif
