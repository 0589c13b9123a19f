/* Mounting, changing and unmounting in the kernel: with mount(2) as root, through fusermount3 for everybody else. These
 * block; before the mount nothing is there to be served, later call them off the loop. */
#ifndef HPKVFS_MOUNT_KERNEL_H
#define HPKVFS_MOUNT_KERNEL_H

#include <stdbool.h>

#include "base/buf.h"
#include "mount/options.h"

#define KERNEL_TYPE "fuse.hpkvfs"

struct kernel_mount {
	const char *source;
	const char *mountpoint; /* as mountpoint_resolve makes it; not looked at before it is mounted on */
	const struct options *options;
};

/* Mounts; *fd is the connection to the kernel, whose first request is FUSE_INIT. 0, or -errno and one line in
 * `why`. */
CHECKED int kernel_mount(const struct kernel_mount *mount, int *fd, struct buf *why);

/* Changes read-only, nodev, nosuid and noexec as far as the options name them; the rest stays. 0, -ENOENT (nothing of ours
 * is mounted there), -errno, with one line in `why`. */
CHECKED int kernel_remount(const char *mountpoint, const struct options *options, struct buf *why);

/* Detaches what is mounted, if the topmost mount there still is major:minor. 0, -ENOENT (it is not), -errno. */
CHECKED int kernel_unmount(const char *mountpoint, unsigned major, unsigned minor);

#endif
