/* The folder of local:DIR and the key in it. */
#ifndef HPKVFS_CLIENT_LOCAL_DIR_H
#define HPKVFS_CLIENT_LOCAL_DIR_H

#include "base/cleanup.h"
#include "client/hpkv.h"

/* Opens DIR, made 0700 if it is missing (its parent must exist). Refused: another user's, except for root; one
 * that others can write to. 0 or -errno. */
CHECKED int local_dir_open(const char *dir, int *dir_fd, struct hpkv_error *error);

/* Reads DIR/key, or makes it. Of two that make it at once both get the same. `key` is the caller's to free. 0 or
 * -errno. */
CHECKED int local_dir_key(const char *dir, int dir_fd, char **key, struct hpkv_error *error);

/* The last line of DIR/log into `line`, or an empty string. */
void local_dir_last_log(int dir_fd, char *line, size_t size);

#endif
