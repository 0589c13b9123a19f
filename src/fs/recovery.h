/* What mounts have begun and not finished, looked for and finished in the background: some time after the start, where the
 * store has reserved keys at all, and from time to time. */
#ifndef HPKVFS_FS_RECOVERY_H
#define HPKVFS_FS_RECOVERY_H

struct fs;

/* Looks for the first time half a grace from now, so that what is dead is found dead at the second look. */
void recovery_start(struct fs *fs);

/* This mount has left something half done. */
void recovery_soon(struct fs *fs);

/* Looks no more; what goes on ends soon. */
void recovery_stop(struct fs *fs);

/* Frees. */
void recovery_free(struct fs *fs);

#endif
