/* Ranges of keys, page by page. */
#ifndef HPKVFS_FS_WALK_H
#define HPKVFS_FS_WALK_H

#include "fs/layout.h"

/* A range's page; the server's most. */
#define PAGE_RECORDS 1000

typedef int walk_visit(void *arg, struct str key, struct str value);

/* Calls visit, which may wait, for every key that begins with `prefix` (a dir_key, a dir_record, or any other), in order; its
 * first error ends the walk. Unless `deep`, keys of subdirectories are skipped where that saves pages, and so are the
 * reserved ones. *whole is false where it stopped after the first page because `first_page_only` and more was there. Errors of
 * the store, -ENOMEM. */
co_fn CHECKED int walk_range(const struct layout *layout, struct str prefix, bool deep, bool first_page_only,
			     walk_visit *visit, void *arg, bool *whole);

/* The same, deep and to the end. */
co_fn CHECKED int walk_all(const struct layout *layout, struct str prefix, walk_visit *visit, void *arg);

/* Every key below the prefix but the reserved ones, which are passed by where that saves pages: visit can still be called for
 * some of them. */
co_fn CHECKED int walk_files(const struct layout *layout, walk_visit *visit, void *arg);

#endif
