#ifndef HPKVFS_SERVER_APIKEY_H
#define HPKVFS_SERVER_APIKEY_H

#include "base/buf.h"

/* The API key as keyfile_find (base/keyfile.h) finds it. 0, or -1 with one line in `why`. */
CHECKED int api_key_read(const char *file, struct buf *out, struct buf *why);

#endif
