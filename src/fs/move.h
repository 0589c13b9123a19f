/* The keys of a directory moved to another name: all are set there, then the old ones are deleted, so that nobody ever finds
 * one under neither. Over a store alone, under an entry of the journal; by the mount that renames, and by whoever finishes
 * what a dead one has begun. */
#ifndef HPKVFS_FS_MOVE_H
#define HPKVFS_FS_MOVE_H

#include "fs/journal.h"

struct dir_move {
	const struct layout *layout;
	struct str from, to;               /* dir_keys; borrowed */
	struct str from_record, to_record; /* dir_records; borrowed */

	/* What a dead mount has begun: what is under the new name already is never overwritten, and what differs from it not
	 * deleted. Else the new name was empty, and what others write to the old one meanwhile is taken along. */
	bool finishing;
	unsigned kept; /* finishing: so many keys are left under both names; each was logged */
};

struct move_size {
	uint64_t keys; /* values and records */
	uint64_t ids;  /* of chunks in them */
};

/* Looks at every key, before the first write. -ENAMETOOLONG where a new one would be longer than rules->max_key; errors of the
 * store. */
co_fn CHECKED int move_measure(const struct dir_move *move, struct move_size *size);

/* How many requests that many will take. */
uint64_t move_requests(const struct move_size *size);

/* Moves them. The first error ends it half-way, with every file under one name or both: the store's, or intent_sure's. */
co_fn CHECKED int move_keys(struct dir_move *move, struct intent *intent);

/* Before `value`, which is at the key `from`, is set at `to`: notes in `i/` that both may hold its ids. */
co_fn CHECKED int move_name_ids(const struct layout *layout, struct str value, struct str from, struct str to);

/* Deletes `from`, whose value was set at `to` as *copied: what others wrote to it since is set there first. -EBUSY: they do so
 * without end. */
co_fn CHECKED int move_delete(const struct layout *layout, struct str from, struct str to, struct buf *copied);

#endif
