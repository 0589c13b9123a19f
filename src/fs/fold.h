/* A new value for a key from what it holds and text that is to stand behind that: where a PATCH cannot append, or no more fits
 * a value. The parts of a stub stay as they are; the text behind it (or the whole value, where it is plain) and the new text
 * become one part. */
#ifndef HPKVFS_FS_FOLD_H
#define HPKVFS_FS_FOLD_H

#include "base/coroutine.h"
#include "fs/content.h"

struct node;

/* What a value holds that is folded into another. */
struct fold {
	struct node *node;
	struct str now; /* p NULL: the key is absent */
	struct str text;
	const struct content_id *own; /* the id of a last part that may be made longer; NULL: none */

	/* on success */
	struct buf value;
	bool has_id; /* chunks were sent under this id; also where it fails */
	struct content_id id;
	uint32_t chunks;
};

/* Sends chunks, where it takes any, and makes the value. -EFBIG: there is none that fits; -ESTALE: the key holds something
 * else by now; errors of the store. */
co_fn CHECKED int fold_make(struct fold *fold);
void fold_deinit(struct fold *fold);

#endif
