/* Backups: a stored file that gets a local name beside its own (`mv f f~`, as vim, emacs, `sed -i~` and `rsync -b` do before
 * they write `f` anew) stays in the store under its old key until the new content is set there, or local_ttl is over. Who polls
 * the key finds the old content, then the new one, and nothing in between; and of a backup that is removed at once nothing is
 * ever sent.
 *
 * Here it has its new name at once, and the old one is free. What the store says of the old key is hidden as long as it is what
 * was renamed; a file that is made there begins as one that is overwritten, so its first commit is one SET. Whatever needs the
 * backup itself in the store (fsync, sync, another rename, a change of it, the end of the mount) settles it: it is set at its new
 * key, and deleted at the old one if that was not taken by another file meanwhile. */
#ifndef HPKVFS_FS_HELD_H
#define HPKVFS_FS_HELD_H

#include "fs/internal.h"

/* So many at once at the most, and so many bytes of values; others are renamed as any file is. */
#define HELD_MOST 1000
#define HELD_MOST_BYTES (16u * 1024 * 1024)

struct held {
	UT_hash_handle hh;        /* in its directory, by the old name */
	struct held *prev, *next; /* in fs->held */
	struct node *dir;         /* with a reference */
	struct node *node;        /* with a reference; the file, under its new name */
	struct buf name;          /* the old one */
	struct buf value;         /* that the store has there */
	struct buf replaced;      /* what the store has under the new name meanwhile; empty: nothing */
	struct buf replaced_record;
	bool record_unknown; /* where that is empty, there may be one all the same */
	unsigned refs;
	unsigned claims;         /* renamings under way that set the old key */
	bool deleting;           /* the old key: nobody is to take it now */
	bool taken;              /* something else has had the old name: the store may have lost what it had there */
	struct co_queue settled; /* it is no longer so */
};

/* True if the renaming of `node` can wait; both are locked, `target` may be NULL. */
bool held_suits(const struct node *node, const struct node *target, const struct node *new_parent, struct str new_name);
/* Begins it: nothing is sent but a GET and attributes that wait. 1: it does not suit after all. -EAGAIN: others were faster. */
co_fn CHECKED int held_begin(struct node *node, struct node *target, struct node *new_parent, struct str new_name);

/* True if it is `node` that was renamed from there. */
bool held_is_home(const struct node *node, const struct node *dir, struct str name);
/* With the node locked and its old name free: it is what it was. */
CHECKED int held_take_back(struct node *node);

/* True if the store's `value` at that name is what is held, and not to be seen. */
bool held_hides(const struct node *dir, struct str name, struct str value);
/* The store had `value` (empty: nothing) under the new name at `seq`, or that record: what the file will replace. Not while it
 * does, nor if that is older than its renaming. */
CHECKED int held_replaces(struct node *node, struct str value, uint64_t seq);
CHECKED int held_replaces_record(struct node *node, struct str record, uint64_t seq);
/* Something has that name from now on. */
void held_note_taken(const struct node *dir, struct str name);
/* A file that was made at the name, if something is held of it, replaces what the store has there. */
CHECKED int held_replace(struct node *node);
/* Waits while the key is being deleted. True if there was a wait. */
co_fn bool held_wait(const struct node *dir, struct str name);
/* A renaming to the name begins (NULL where nothing is held of it) and ends. What the store has there is in held->value. */
co_fn struct held *held_claim(const struct node *dir, struct str name);
void held_unclaim(struct held *held);

/* With the node locked: the store gets what was renamed. */
co_fn CHECKED int held_settle_locked(struct node *node);
/* The same; not held: nothing. */
co_fn CHECKED int held_settle(struct node *node);
co_fn CHECKED int held_settle_name(const struct node *dir, struct str name);
/* All of a directory. */
co_fn CHECKED int held_settle_in(const struct node *dir);
/* Whatever a directory's renaming would move, or find at its new name. */
co_fn CHECKED int held_settle_below(const struct node *node, const struct node *new_parent, struct str new_name);
bool held_is_below(const struct fs *fs, const struct node *node, const struct node *new_parent, struct str new_name);

/* With the node locked: it was removed here. The store forgets what it has of it under the two names. */
co_fn CHECKED int held_unlink(struct node *node);

/* True if a file that is held needs these chunks. */
bool held_keeps(const struct fs *fs, const struct content_id *id);
/* At the end of the filesystem. */
void held_free(struct fs *fs);

#endif
