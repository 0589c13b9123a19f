/* Extended attributes that are not kept but do something, for programs that know of the store: `user.hpkv.key` is the raw
 * key, `user.hpkv.incr` adds to a number, `user.hpkv.patch` merges a JSON object into one. Hidden from listxattr. */
#ifndef HPKVFS_FS_VERBS_H
#define HPKVFS_FS_VERBS_H

#include "base/buf.h"
#include "base/coroutine.h"

struct node;

bool verb_is(struct str name);
/* -ENODATA: it has nothing to read, or the content is no number. */
co_fn CHECKED int verb_get(struct node *node, struct str name, struct buf *out);
/* -EINVAL: no number, no JSON object, or the content is none; -EPERM: it cannot be set, or the file is not a regular one. */
co_fn CHECKED int verb_set(struct node *node, struct str name, struct str value);

#endif
