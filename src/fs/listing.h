/* What listing.c and lookup.c share: answers of the store, applied to the tree. */
#ifndef HPKVFS_FS_LISTING_H
#define HPKVFS_FS_LISTING_H

#include "fs/internal.h"

/* The key of `name` in `dir` holds `value`: as a file of that name, or as `%=` in the directory of that name. `seq`: when
 * that was asked for; `seen`: the mark of the listing. 0 or -ENOMEM. */
CHECKED int apply_value(struct node *dir, struct str name, struct str value, uint64_t seq, uint64_t seen);

/* `name` is a directory. *out is borrowed; NULL where it was removed here since `seq`. 0 or -ENOMEM. */
CHECKED int apply_dir(struct node *dir, struct str name, uint64_t seq, uint64_t seen, struct node **out);

/* The store no longer has it, says an answer that was asked for at `seq`: out of the tree, and the kernel is told. */
void vanish(struct node *node, uint64_t seq);

/* May such an answer take the node out? Not where it was changed here or seen by a younger answer since, nor while a change
 * of it, or of what is below it, is under way or waits. */
bool may_vanish(struct node *node, uint64_t seq);

/* True if a change of the file, or of one below the directory, waits or is under way. */
bool dirty_below(struct node *top);

/* Where the answer is read elsewhere, together with others: between these two what is told and changed here is remembered, and who
 * wants the directory listed waits. `err` -EAGAIN: nothing came of it, and they ask themselves. */
void dir_list_begin(struct node *dir, bool whole);
void dir_list_end(struct node *dir, int err);
/* Applies the answer, which `layout` gives. -EAGAIN: directories were being moved since it was asked for, so it was read under either
 * name, or none. */
struct list_answer {
	const struct layout *layout;
	uint64_t seq, exclusives; /* the filesystem's, when it was asked for */
};
co_fn CHECKED int dir_list_from(struct node *dir, const struct list_answer *answer);

#endif
