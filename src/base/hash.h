/* uthash, with lack of memory reported instead of fatal: after HASH_ADD*, an element whose
 * `hh.tbl` is NULL was not added. */
#ifndef HPKVFS_BASE_HASH_H
#define HPKVFS_BASE_HASH_H

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(element) ((void)(element))

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include <uthash.h>
#pragma GCC diagnostic pop

#endif
