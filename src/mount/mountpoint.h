/* Mount points and the kernel's table of mounts. Nothing here looks at what is on a mount point: it may be a trigger
 * of the automounter, or a filesystem that no longer answers. */
#ifndef HPKVFS_MOUNT_MOUNTPOINT_H
#define HPKVFS_MOUNT_MOUNTPOINT_H

#include <stdbool.h>

#include "base/buf.h"

/* Makes `dir` absolute and free of symbolic links, walking its parents only. *out is owned by the caller. 0, -ENOENT, -ENOTDIR
 * and so on, -ENOMEM. */
CHECKED int mountpoint_resolve(const char *dir, char **out);

/* True if `inner` is `outer` or below it; both are absolute paths as mountpoint_resolve makes them. */
bool mountpoint_contains(const char *outer, const char *inner);

struct mount_row {
	unsigned major, minor;
	unsigned long flags; /* MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME... of this mount */
	bool ours;           /* its type is fuse.hpkvfs */
	struct buf source;
};
void mount_row_deinit(struct mount_row *row);

/* The topmost mount on `path`. 0, -ENOENT (nothing is mounted there), -errno. */
CHECKED int mountpoint_find(const char *path, struct mount_row *out);

#endif
