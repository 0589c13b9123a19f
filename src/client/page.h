/* Results that outlive their callback. */
#ifndef HPKVFS_CLIENT_PAGE_H
#define HPKVFS_CLIENT_PAGE_H

#include "base/cleanup.h"
#include "client/hpkv.h"

/* A NUL stands behind each key and value. 0 or -ENOMEM. */
CHECKED int page_copy(const struct hpkv_reply *reply, struct hpkv_page *out);

#endif
