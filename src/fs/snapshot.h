/* Names and records of a whole store, read once and then asked from memory: fewer requests than listing many directories one by
 * one. Chunks and what else is reserved are not in it. */
#ifndef HPKVFS_FS_SNAPSHOT_H
#define HPKVFS_FS_SNAPSHOT_H

#include "fs/layout.h"

struct snapshot;

/* All keys below the prefix, but -E2BIG where they are more than `most_keys`, or more than `most_bytes` with their values; errors of
 * the store, -ENOMEM. `layout` is borrowed for the life of the snapshot. */
co_fn CHECKED int snapshot_take(const struct layout *layout, size_t most_keys, size_t most_bytes,
				struct snapshot **out);

/* The same layout, but it is the snapshot that answers: GETs and RANGEs alone. Borrowed. */
const struct layout *snapshot_layout(const struct snapshot *snapshot);

/* No request may be under way. NULL is allowed. */
void snapshot_free(struct snapshot *snapshot);

#endif
