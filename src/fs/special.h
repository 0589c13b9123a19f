/* Symbolic links, FIFOs, sockets and devices. */
#ifndef HPKVFS_FS_SPECIAL_H
#define HPKVFS_FS_SPECIAL_H

#include "fs/internal.h"

/* The record of `name` in `dir` is `value`, and it has no key: it is shown where it is a special file's. `seq` and `seen` as
 * for apply_value. 0 or -ENOMEM. */
CHECKED int special_apply(struct node *dir, struct str name, struct str value, uint64_t seq, uint64_t seen);

/* The key of `name` has gone and its record stays: if that alone makes a file, it is one now, unless the directory of that name hides
 * it. As above. */
CHECKED int special_remains(struct node *dir, struct str name, struct str value, uint64_t seq, uint64_t seen);

/* True for a record that alone makes a file. */
bool special_is_record(struct str value);

/* With the node locked. */
co_fn CHECKED int special_unlink(struct node *node);
/* With both locked; `target` may be a file or NULL. */
co_fn CHECKED int special_rename(struct node *node, struct node *target, struct node *new_parent, struct str new_name);

#endif
