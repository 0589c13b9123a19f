/* What works on the layout of a store needs, with or without a mounted filesystem around it. */
#ifndef HPKVFS_FS_LAYOUT_H
#define HPKVFS_FS_LAYOUT_H

#include "base/coroutine.h"
#include "base/loop.h"
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

#endif
