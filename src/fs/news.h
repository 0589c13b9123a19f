/* Events: what other clients did, as programs that watch are told of it. By whatever way it is learned, once. */
#ifndef HPKVFS_FS_NEWS_H
#define HPKVFS_FS_NEWS_H

#include <stdbool.h>

#include "fs/fs.h"

struct node;

/* Behind its invalidation. `node`: what is there, or was; NULL: it was not known. */
void news_raise(struct node *dir, enum fs_event_kind kind, struct str name, struct node *node);

/* What a directory shows before it is listed anew because nothing was told for a while. NULL: its events concern nobody, not
 * all of it is known, or there is no memory. */
struct news;
struct news *news_begin(struct node *dir);
/* Raises what is other now, if `listed`, but what programs here have changed and what was told meanwhile; and frees. NULL is
 * allowed. */
void news_end(struct news *news, bool listed);

#endif
