/* The operations of a mount with the option inotify: those of ops.h, and the answers to its helper. */
#ifndef HPKVFS_MOUNT_INOTIFY_OPS_H
#define HPKVFS_MOUNT_INOTIFY_OPS_H

#include <fuse_lowlevel.h>

/* The session's userdata is a mount_context whose `inotify` is set. */
struct fuse_lowlevel_ops inotify_ops(void);

#endif
