/* Chunks that nothing names any more, removed some time after they became so.
 *
 * A SET or DELETE that destroys a stub leaves its chunks: a reader elsewhere may be in the middle of them, and a rename by
 * another mount may be about to set the stub under another name. They go `grace_us` later, if neither the key nor one that
 * `i/<id>` names then holds the id. What a mount has not removed at its end is left to the next by keys `j/<id>`, and what
 * one that was killed has not removed to fsck. */
#ifndef HPKVFS_FS_REMOVAL_H
#define HPKVFS_FS_REMOVAL_H

#include "fs/ids.h"

struct fs;

/* A swap by this mount destroyed the stub at `key` that held the id. Everything is copied; does not wait. Lack of memory leaves
 * the chunks to fsck. */
void removal_later(struct fs *fs, const struct content_id *id, uint32_t chunk_count, struct str key);

/* At the end of a mount, when nothing else goes on: what is left is written down for the next. */
co_fn void removal_leave(struct fs *fs);

/* Frees what waits. */
void removal_free(struct fs *fs);

#endif
