/* Where the programs find an API key, with the library's errors. */
#ifndef HPKVFS_CLIENT_CREDENTIALS_H
#define HPKVFS_CLIENT_CREDENTIALS_H

#include "base/cleanup.h"
#include "client/hpkv.h"

/* The key as keyfile_find (base/keyfile.h) finds it. `out` is the caller's, for credentials_free. 0; -ENOENT: no key was
 * found anywhere; -EACCES, -EINVAL, -errno: what was found is not usable, and nothing further was tried. */
CHECKED int credentials_read(const char *file, char **out, struct hpkv_error *error);

/* The same for one open file, called `name` in messages. The caller closes it. */
CHECKED int credentials_read_fd(int fd, const char *name, char **out, struct hpkv_error *error);

/* Clears and frees; NULL is allowed. */
void credentials_free(char *key);

#endif
