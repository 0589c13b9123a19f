/* What works on the layout of a store needs, with or without a mounted filesystem around it. */
#ifndef HPKVFS_FS_LAYOUT_H
#define HPKVFS_FS_LAYOUT_H

#include "base/coroutine.h"
#include "base/loop.h"
#include "fs/content.h"
#include "fs/names.h"
#include "fs/store.h"

/* All borrowed. */
struct layout {
	struct loop *loop;
	struct store *store;
	const struct names_rules *rules;
	size_t max_value; /* bytes */
};

/* Replaces *key by `<prefix>.hpkvfs/` and what the format gives. 0 or -ENOMEM. */
CHECKED int layout_key(const struct layout *layout, struct buf *key, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The index of a chunk, as its key ends with it; and the id and index of a chunk from what stands behind `c/`. */
#define LAYOUT_INDEX_DIGITS 8
bool layout_parse_index(struct str text, uint32_t *index);
bool layout_parse_chunk(struct str tail, struct content_id *id, uint32_t *index);

/* The version that hpkvfs-layout(7) describes. */
#define LAYOUT_VERSION 1

/* 0, or -EPROTONOSUPPORT and one line why this value of the layout's key `fs` is not ours: a newer version, another delimiter,
 * another program's; -ENOMEM. */
CHECKED int layout_check(const struct layout *layout, struct str value, struct buf *why);

/* Writes that key where it is absent. -EPROTONOSUPPORT, logged, where there is one that is not ours; errors of the store. */
co_fn CHECKED int layout_write(const struct layout *layout);

#endif
