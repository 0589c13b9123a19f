/* What the renaming of a file does to the store, for rename.c and for held.c, which does it later. */
#ifndef HPKVFS_FS_RENAME_H
#define HPKVFS_FS_RENAME_H

#include "fs/internal.h"

struct file_move {
	struct buf key, record, new_key, new_record;
	struct buf value;      /* as it will stand at the new key */
	struct buf old;        /* as it stands at the old one */
	bool stored;           /* it does at all */
	struct buf attributes; /* the record as it will stand; empty: none */
	uint64_t attr_changes;
	bool record_last;     /* it follows the value */
	struct commit commit; /* where it is dirty */
	bool dirty;           /* and goes along; what waits and does not is sent under the new name */
};

void file_move_deinit(struct file_move *move);

/* Makes the attributes that belong to move->value. -ENOSPC: they fit no value. */
CHECKED int file_move_prepare_record(struct file_move *move, struct node *node);
/* What is at the new name, a file like `like` with the record `old` (may be empty), gives way: decides whether the new record goes
 * before the value or after it, and sends a guard where neither will do. Nobody may do more in between than before or after. */
co_fn CHECKED int file_move_order(struct file_move *move, const struct node *like, struct str old);
/* Sets the new record; `replaces`: one is there that is not to stay. */
co_fn CHECKED int file_move_new_record(struct file_move *move, struct fs *fs, bool replaces);
/* Deletes the old one; what another mount has changed in it since it was read goes along. */
co_fn CHECKED int file_move_old_record(struct file_move *move, struct node *node);
/* The store has it under its new name, which it has here already. */
co_fn void file_moved(struct file_move *move, struct node *node);

#endif
