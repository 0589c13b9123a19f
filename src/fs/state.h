/* The state file: what this machine remembers of keys between mounts and the store does not hold, mtimes of values
 * without a record and inode numbers. SQLite; rows by URL, prefix and key.
 *
 * All rows of the mount are in memory; every call but state_open and state_close works on memory alone, does not
 * block, and belongs to the thread that opened. Changes are written by a worker within a second, in one transaction.
 * The state is a memory aid: where the file cannot be used, or memory lacks, the mount goes on without (one warning),
 * and only mtimes fall back to the time of first sight.
 *
 * Several mounts may use one file. Open after fork: the worker is a thread. */
#ifndef HPKVFS_FS_STATE_H
#define HPKVFS_FS_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "fs/content.h"

#define STATE_MAX_ROWS 1000000

struct state;

struct state_config {
	const char *path;  /* NULL: memory only */
	struct str url;    /* of the store */
	struct str prefix; /* of the mount */
	size_t max_rows;   /* beyond it the rows longest unchanged go; 0: STATE_MAX_ROWS */
};

/* A row. All members are zero where they were never set. */
struct state_row {
	char hash[CONTENT_HASH_LEN + 1]; /* of the value that mtime_ns belongs to; empty for directories */
	int64_t mtime_ns;                /* since the epoch */
	bool has_mtime;
	uint64_t ino; /* 0: none */
};

/* Opens or makes the file (0600, missing folders 0700) and loads the rows; blocks, a few seconds at most where another
 * process holds the file. A damaged file is renamed to PATH.damaged and a new one begun. Everything else that is wrong
 * with the file is one warning, and memory only. 0 or -ENOMEM, -EAGAIN (no thread). */
CHECKED int state_open(const struct state_config *config, struct state **out);

/* Writes what waits, ends the worker and frees. NULL is allowed. */
void state_close(struct state *state);

/* True if the file is in use, false if the state is in memory only. */
bool state_is_stored(const struct state *state);

/* The row of a key as last put, whatever its hash. False if there is none. */
bool state_get(const struct state *state, struct str key, struct state_row *row);

/* The mtime of a key, if it was put with this very hash ("" for directories). */
bool state_find(const struct state *state, struct str key, const char *hash, int64_t *mtime_ns);

/* Sets hash and mtime; an inode number stays. */
void state_put(struct state *state, struct str key, const char *hash, int64_t mtime_ns);

/* Sets the inode number (0: none); hash and mtime stay. */
void state_put_ino(struct state *state, struct str key, uint64_t ino);

void state_remove(struct state *state, struct str key);

/* Moves one row; what was at `to` is replaced, or removed where `from` has no row. */
void state_rename(struct state *state, struct str from, struct str to);

/* Moves the rows of every key that begins with `from` (a directory's key, which ends in the delimiter) to the same
 * below `to`; rows that were below `to` go. Neither of the two may begin with the other. */
void state_rename_prefix(struct state *state, struct str from, struct str to);

#endif
