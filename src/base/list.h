/* utlist: DL_APPEND, DL_DELETE, DL_FOREACH_SAFE over structs with `prev` and `next`. */
#ifndef HPKVFS_BASE_LIST_H
#define HPKVFS_BASE_LIST_H

#include <utlist.h>

#endif
