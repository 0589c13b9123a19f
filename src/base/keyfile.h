/* Where programs find an API key: never on the command line, which everybody on the machine can read. */
#ifndef HPKVFS_BASE_KEYFILE_H
#define HPKVFS_BASE_KEYFILE_H

#include "base/buf.h"

/* In bytes. */
#define KEYFILE_MAX_KEY 1024

/* The key from, in this order: the file (if one is named), HPKV_API_KEY in the environment (which is wiped and taken out
 * of it in any case, so that children do not get it), hpkv_api_key in systemd's credential directory. A file must be
 * regular and without access for others than its owner, who must be the caller or root (systemd's are exempt: it
 * guards the directory). A key is one line of 1 to KEYFILE_MAX_KEY printable characters of ASCII; blanks around it do not
 * count. `out` is the caller's, for keyfile_free. 0; -ENOENT with `why` empty: no key was found anywhere. Else one
 * line is appended to `why`, and nothing further was tried: -EACCES, -EINVAL, -ENOMEM, or the errno of the file. */
CHECKED int keyfile_find(const char *file, char **out, struct buf *why);

/* The same for one open file, called `name` in messages. The caller closes it. */
CHECKED int keyfile_read_fd(int fd, const char *name, char **out, struct buf *why);

/* Clears and frees; NULL is allowed. */
void keyfile_free(char *key);

#endif
