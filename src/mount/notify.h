/* The kernel's end of a session, for notifications. */
#ifndef HPKVFS_MOUNT_NOTIFY_H
#define HPKVFS_MOUNT_NOTIFY_H

#include "mount/invalidator.h"

struct fuse_session;

/* `session` is borrowed. */
struct invalidator_kernel notify_kernel(struct fuse_session *session);

#endif
