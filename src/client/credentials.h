/* Where the programs find an API key: never on the command line, which everybody on the machine can read. */
#ifndef HPKVFS_CLIENT_CREDENTIALS_H
#define HPKVFS_CLIENT_CREDENTIALS_H

#include "base/cleanup.h"
#include "client/hpkv.h"

/* The key from, in this order: the file (if one is named), HPKV_API_KEY in the environment (which is taken out of it in
 * any case, so that children do not get it), hpkv_api_key in systemd's credential directory. A file must be regular and
 * readable by its owner only, who must be the caller or root; it holds the key on one line. `out` is the caller's
 * to free; clear it first. 0; -ENOENT: no key was found anywhere; -EACCES, -EINVAL, -errno: what was found is not
 * usable, and nothing further was tried. */
CHECKED int credentials_read(const char *file, char **out, struct hpkv_error *error);

/* The same for one open file, called `name` in messages. The caller closes it. */
CHECKED int credentials_read_fd(int fd, const char *name, char **out, struct hpkv_error *error);

/* Clears and frees; NULL is allowed. */
void credentials_free(char *key);

#endif
