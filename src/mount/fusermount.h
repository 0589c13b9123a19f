/* fusermount3, the set-uid helper of libfuse that mounts for ordinary users. */
#ifndef HPKVFS_MOUNT_FUSERMOUNT_H
#define HPKVFS_MOUNT_FUSERMOUNT_H

#include "base/buf.h"

/* Mounts with these options (-o) and receives the connection. 0, or -errno and one line in `why`. */
CHECKED int fusermount_mount(const char *options, const char *mountpoint, int *fd, struct buf *why);

/* Detaches. 0, -errno (-EIO: it refused). */
CHECKED int fusermount_unmount(const char *mountpoint);

#endif
