/* The file behind fs/state.h: SQLite, used by one thread. All calls may block. */
#ifndef HPKVFS_FS_STATE_FILE_H
#define HPKVFS_FS_STATE_FILE_H

#include "base/buf.h"
#include "fs/state.h"

struct state_file;

/* Opens or makes the file and its folders for the rows of one mount. A damaged file is renamed to PATH.damaged, with a
 * warning, and a new one begun. 0, -ENOMEM, -EBUSY (locked by another process for too long), -EPROTONOSUPPORT (made by a
 * newer version), -EBADMSG (still damaged), -EINVAL (no regular file), -EIO, or what the file system said. */
CHECKED int state_file_open(const char *path, struct str url, struct str prefix, struct state_file **out);

/* NULL is allowed. */
void state_file_close(struct state_file *file);

/* Closes a file that loading has shown to be damaged (-EBADMSG), and renames it as state_file_open does. 0, -errno. */
CHECKED int state_file_set_aside(struct state_file *file, const char *path);

/* Calls fn for the `max` rows changed last, the latest first, until it answers an error; drops all older ones. 0, that error,
 * or as state_file_open. */
CHECKED int state_file_load(struct state_file *file, size_t max,
			    int (*fn)(void *arg, struct str key, const struct state_row *row), void *arg);

/* Changes go between begin and commit; after an error, or instead of commit, roll back. 0, -EBUSY, -EIO. */
CHECKED int state_file_begin(struct state_file *file);
CHECKED int state_file_put(struct state_file *file, struct str key, const struct state_row *row);
CHECKED int state_file_remove(struct state_file *file, struct str key);
CHECKED int state_file_commit(struct state_file *file);
void state_file_rollback(struct state_file *file);

#endif
