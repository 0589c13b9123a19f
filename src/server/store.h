/* The table of keys in an SQLite file. One struct store is one database connection and belongs to one
 * thread; several connections to one file see each other's commits.
 *
 * Functions answer 0, a positive count where said so, or a negative SQLite result code. */
#ifndef HPKVFS_SERVER_STORE_H
#define HPKVFS_SERVER_STORE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

enum store_sync {
	STORE_SYNC_FULL,   /* a commit is on the disk when it returns */
	STORE_SYNC_NORMAL, /* only checkpoints sync: a power cut may take back the last commits */
};

struct store;

/* Opens DIRECTORY/store.sqlite, made if missing; `why` gets one line when that fails, and the file is then as
 * it was. With `reader` nothing can be changed through the connection, and the file must exist. 0 or -1. */
CHECKED int store_open(const char *directory, bool reader, enum store_sync sync, struct store **out, struct buf *why);
void store_close(struct store *store);

CHECKED int store_begin(struct store *store);
CHECKED int store_commit(struct store *store);
void store_rollback(struct store *store);

/* False once SQLite itself rolled the transaction back (a full disk can make it do so). */
bool store_in_transaction(const struct store *store);

/* 1 and the value (replacing what was in it), or 0: there is none. */
CHECKED int store_get(struct store *store, struct str key, struct buf *value, bool *number);
CHECKED int store_set(struct store *store, struct str key, struct str value, bool number);
/* 1: deleted; 0: there was none. */
CHECKED int store_delete(struct store *store, struct str key);

/* Calls `each` for every record from first to last, both inclusive, in order of bytes, until it answers
 * false. The slices are valid during the call only. */
CHECKED int store_range(struct store *store, struct str first, struct str last,
			bool (*each)(void *arg, struct str key, struct str value, bool number), void *arg);

#endif
