/* Ids that no key names and that are needed all the same: of new content whose chunks are on their way before the stub, and
 * of files that were removed while they are open. fsck would take their chunks for orphans when they are an hour old, so those
 * that stay so for some minutes are announced in the journal for as long as they do. */
#ifndef HPKVFS_FS_ANNOUNCE_H
#define HPKVFS_FS_ANNOUNCE_H

#include "base/coroutine.h"
#include "fs/content.h"

struct fs;

/* Begins to look for them, every half of announce_us until announce_end. */
void announce_start(struct fs *fs);

/* At the end of a mount, when nothing is sent and nothing goes on in the background any more: takes the announcements back. */
co_fn void announce_end(struct fs *fs);

/* *kept: fsck cannot have taken chunks under the id, which no key names, for orphans: it is young, or was announced while it was, and
 * that stands. Asks the store only where a beat of the announcement is missing. Errors of the store. */
co_fn CHECKED int announce_kept(struct fs *fs, const struct content_id *id, bool *kept);

/* Frees, without a word to the store. */
void announce_free(struct fs *fs);

#endif
