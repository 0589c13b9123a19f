/* The ids under which chunks are kept: which keys may hold one, and the removal of one that no key holds any more.
 *
 * An id stands in the stub at a key. Where a file is renamed, `i/<id>` names the keys that may hold it, the former name
 * and the new one, before the new one is set. Who destroyed a stub and finds the id neither at that key nor at one that is
 * named there may remove its chunks. Without a mounted filesystem: fsck uses these too. */
#ifndef HPKVFS_FS_IDS_H
#define HPKVFS_FS_IDS_H

#include "fs/content.h"
#include "fs/layout.h"

/* True if the value begins like a stub and names the id. One that is damaged protects what it names, too. */
bool id_is_in(struct str value, const struct content_id *id);

/* Calls visit for each id of a stub; nothing where the value is plain. The first error of visit, or -ENOMEM. */
typedef int id_visit(void *arg, const struct content_id *id, uint32_t chunk_count);
co_fn CHECKED int ids_in_value(struct str value, id_visit *visit, void *arg);

/* Notes in `i/<id>` that each of two keys may hold the id (`b` may be empty). Where the list grows too long, keys that do
 * not hold the id are taken out of it. Errors of the store; -EFBIG: so many keys hold it that the list is full. */
co_fn CHECKED int id_name(const struct layout *layout, const struct content_id *id, struct str a, struct str b);

struct id_holders {
	bool held;   /* a key holds it */
	bool listed; /* there is an `i/<id>`; unknown (false) where `key` holds the id */
};

/* Asks `key`, then the keys that `i/<id>` names but `except` (either may be empty), whether one holds the id. Errors of the
 * store, and -EUCLEAN where the list cannot be read: then nothing may be removed. */
co_fn CHECKED int id_find_holders(const struct layout *layout, const struct content_id *id, struct str key,
				  struct str except, struct id_holders *out);

/* Deletes all chunks, of which there are about `chunk_count`, then `i/<id>` where it is `listed`. The caller is sure that no key
 * holds the id. `stop` may be NULL: as soon as it is true, -ECANCELED. */
co_fn CHECKED int id_remove(const struct layout *layout, const struct content_id *id, uint32_t chunk_count, bool listed,
			    const bool *stop);

#endif
