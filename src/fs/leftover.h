/* Records of regular files whose key is gone: a foreign client has deleted it, or a mount died between the two. Whoever makes a
 * file of that name again must not give it their mode, owner and attributes: so they are remembered, with their
 * directory, and the first record of the new file replaces them. Those that nobody makes again are fsck's. */
#ifndef HPKVFS_FS_LEFTOVER_H
#define HPKVFS_FS_LEFTOVER_H

#include <stdint.h>

#include "base/buf.h"

struct node;

/* The directory whose listing brings the record of `name` in `dir`. Of those without a key there, all are remembered but while its
 * `leftovers_lost` is set. */
struct node *leftover_place(struct node *dir, struct str name);
/* A listing of `dir` or a look at one name has found a record and no key. What does not fit in memory is not remembered. */
void leftover_add(struct node *dir, struct str name, struct str value);
/* Records below `name`, of which nothing else shows that it is a directory: whoever makes it must look what is in it. */
void leftover_add_below(struct node *dir, struct str name);
/* True unless it is sure that there are none. Forgets it. */
bool leftover_take_below(struct node *dir, struct str name);
/* A listing that was asked at `seq` tells all of them anew that were there then; or the directory goes: UINT64_MAX. */
void leftovers_forget(struct node *dir, uint64_t seq);
/* None is remembered of that name, but the store may have one. */
bool leftover_may_be(struct node *dir, struct str name);
/* Moves its value into *value, and forgets it. False: there is none, unless leftover_may_be. */
bool leftover_take(struct node *dir, struct str name, struct buf *value);

#endif
