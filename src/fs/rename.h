/* What the renaming of a file does to the store, for rename.c and for held.c, which does it later. */
#ifndef HPKVFS_FS_RENAME_H
#define HPKVFS_FS_RENAME_H

#include "fs/internal.h"

struct file_move {
	struct buf key, record, new_key, new_record;
	struct buf value;      /* as it will stand at the new key */
	struct buf old;        /* as it stands at the old one */
	struct buf attributes; /* the record as it will stand; empty: none */
	uint64_t attr_changes;
	struct commit commit; /* where it is dirty */
	bool dirty;
};

void file_move_deinit(struct file_move *move);

/* Makes the attributes that belong to move->value. -ENOSPC: they fit no value. */
CHECKED int file_move_prepare_record(struct file_move *move, struct node *node);
/* The new record goes before the value, so that nothing is readable at the new name that was not at the old; `replaces`: one is
 * there that is not to stay. */
co_fn CHECKED int file_move_new_record(struct file_move *move, struct fs *fs, bool replaces);
/* Deletes the old one; what another mount has changed in it since it was read goes along. */
co_fn CHECKED int file_move_old_record(struct file_move *move, struct node *node);
/* The store has it under its new name, which it has here already. */
co_fn void file_moved(struct file_move *move, struct node *node);

#endif
