#ifndef HPKVFS_SERVER_APIKEY_H
#define HPKVFS_SERVER_APIKEY_H

#include "base/buf.h"

/* The API key from `file` (may be NULL; refused if others than its owner can read it), else from HPKV_API_KEY, which is
 * wiped from the environment in any case, else from hpkv_api_key in $CREDENTIALS_DIRECTORY. 0, or -1 with one line in
 * `why`. */
CHECKED int api_key_read(const char *file, struct buf *out, struct buf *why);

#endif
