/* Attributes as programs here see them: this mount's defaults, over them what the record in the store says, over that
 * what a program here has changed and the store does not have yet.
 *
 * What has changed waits for more of it (rsync changes mode, owner and time one after the other) and is sent as one
 * PATCH of the record, or with the file's value: before it where others could read more than they may, else behind it.
 * Where the result is what the mount shows by default, and there is no record, nothing is sent.
 *
 * A record is bound by a hash to one value: mtime, set-id bits and security.* xattrs hold only for that. A local write
 * binds it anew. */
#ifndef HPKVFS_FS_ATTR_H
#define HPKVFS_FS_ATTR_H

#include "base/buf.h"
#include "base/coroutine.h"
#include "fs/fs.h"
#include "fs/record.h"

struct fs;
struct node;

/* In a node. */
struct attr_wait {
	unsigned members; /* RECORD_MODE, _UID, _GID, _MTIME: the node's own; _XATTR: those that have changed */
	bool replace;     /* of the record that is there nothing is to stay: it was left over from another file */
	bool bind;        /* the value is being changed here, and the record's hash goes after it */
	bool listed;      /* in fs->attr_waiting, with a reference */
	uint64_t changes; /* grows with every change, so that one made while the record was sent is seen */
	struct node *prev, *next;
};

/* Used for their xattrs only. */
struct xattrs {
	struct record stored; /* what the record has, without what is void */
	struct record set;    /* changed here */
	struct record gone;   /* removed here; the values are empty */
};

/* --- attributes.c --- */

/* Attributes from its record's value (empty: none). */
void node_apply_record(struct node *node, struct str value);
/* The same where an answer says so that was asked for at `seq`: not over what was changed here, or told, since. */
void node_answer_record(struct node *node, struct str value, uint64_t seq);
/* Its record, or that it has none, is known, asked for at `seq`. */
void node_record_checked(struct node *node, uint64_t seq);
/* What is known of its record needs no asking where its value needs none. */
bool node_record_holds(const struct node *node);
/* Again, where the value has become another. */
void node_apply_attributes(struct node *node);

/* Type and permissions of a regular file with this record. */
mode_t attr_file_mode(const struct fs *fs, const struct record *record);

/* The record of something that is made in `dir`: mode (with type) and owner by the rules of set-id directories, umask and
 * default ACLs. Start with an empty one. -ENOMEM. */
CHECKED int attr_make(const struct node *dir, mode_t mode, const struct fs_maker *maker, struct record *made);
/* The same for a new file, which waits for its first commit. */
CHECKED int attr_new_file(struct node *node, const struct node *dir, mode_t mode, const struct fs_maker *maker);

/* These members have changed here. */
void attr_changed(struct node *node, unsigned members);
/* The content was changed here, by a write or a change of size. */
void attr_written(struct node *node);
/* The value was changed by another client: what was set for the one before it holds no more. */
void attr_foreign_value(struct node *node);
/* Its record was sent, and its value was not yet: to others the record is one of a file that is not there. */
bool attr_awaits_value(const struct node *node);
/* What waits is of no use any more. */
void attr_drop(struct node *node);

/* True if the record that is to be belongs to the value: it gets its hash. */
bool attr_binds(const struct node *node);
/* What is stored and what is to be: without `hash` (of the value; "" or NULL: there is none) the members that
 * belong to a value are left out. -EPROTONOSUPPORT: a newer version's record, which is not touched; -EINVAL, -ENOMEM. */
CHECKED int attr_records(const struct node *node, const char *hash, struct record *from, struct record *to);
/* Would the record still fit a value? -ENOSPC. -EPERM: it is a newer version's. */
CHECKED int attr_check(const struct node *node);
/* The whole record as it is to be, for a file that is moved; empty: it needs none. */
CHECKED int attr_record_value(const struct node *node, const char *hash, struct buf *value);
/* What goes on waiting when that is stored: it belongs to a value that is not there yet. */
unsigned attr_left(const struct node *node, const char *hash);
/* The record is `value`, by our own hand; what waited when `changes` were counted is in it, but for the members `left`. */
void attr_stored(struct node *node, struct str value, uint64_t changes, unsigned left);

/* --- attr_commit.c --- */

/* What waits is sent after the delay; set already: nothing. */
void attr_start_timer(struct fs *fs);

/* Sends what waits, for a file whose content is being changed only what belongs to no value. Where the store cannot be
 * reached it goes on waiting; what can never be stored is dropped. */
co_fn CHECKED int attr_commit(struct node *node);
/* Deletes the record at `key`, which is the node's. -ENOENT: there was none. */
co_fn CHECKED int attr_remove(const struct node *node, struct str key);
/* What waits in the whole filesystem. The first error. */
co_fn CHECKED int attr_commit_all(struct fs *fs);
/* With the node locked, around the SET that makes `value` its content. */
co_fn CHECKED int attr_before_value(struct node *node, struct str value);
co_fn CHECKED int attr_after_value(struct node *node);
/* With the node locked, before chunks of it are changed in place. */
co_fn CHECKED int attr_before_chunks(struct node *node);
/* With the node locked: its record in the store gets these permissions and no ACL (rights_common), until what is right for it
 * follows, which waits from now on. */
co_fn CHECKED int attr_guard(struct node *node, mode_t mode);
/* With the node locked: content was changed behind an unchanged value, which only the record can tell others. */
co_fn CHECKED int attr_after_chunks(struct node *node);

/* --- xattr.c --- */

#define XATTR_ACL_ACCESS "system.posix_acl_access"
#define XATTR_ACL_DEFAULT "system.posix_acl_default"

/* Takes those of the record as stored; `own`: the record belongs to the present value. */
void xattrs_apply(struct node *node, struct record *record, bool own);
void xattrs_free(struct node *node);
void xattrs_forget_changes(struct node *node);
/* Borrowed; NULL: there is none. */
const struct buf *xattr_find(const struct node *node, struct str name);
/* Changes it in memory. 0, -ENODATA where there is none to remove, or errors of record_xattr_set. */
CHECKED int xattr_put(struct node *node, struct str name, struct str value);
CHECKED int xattr_take_away(struct node *node, struct str name);
bool xattr_is_security(struct str name);

#endif
