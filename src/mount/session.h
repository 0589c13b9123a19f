/* The kernel's connection on the loop: requests are read as they come and handed to the operations. */
#ifndef HPKVFS_MOUNT_SESSION_H
#define HPKVFS_MOUNT_SESSION_H

#include "mount/ops.h"
#include "mount/upcalls.h"

struct session;

/* A session without a mount. `context` is borrowed. 0, -ENOMEM, -EINVAL. */
CHECKED int session_new(struct mount_context *context, bool debug, struct session **out);

/* For notifications. */
struct fuse_session *session_fuse(struct session *session);

/* Serves the connection of a mount; takes `fd`, in every case. `ended` runs once when the kernel has closed it: the mount is
 * gone. If the connection fails before that, it runs once with `mounted`, and requests go on being read if they can be: an
 * unmount may wait for some. 0, -ENOMEM, -errno. */
CHECKED int session_start(struct session *session, int fd, void (*ended)(void *arg, bool mounted), void *arg);

/* What was read, from the first request on. Borrowed. */
const struct upcalls *session_upcalls(const struct session *session);

/* Reads no more requests; those that were read can still be answered. */
void session_stop(struct session *session);

/* Closes the connection: what still is mounted is dead then. NULL is allowed. */
void session_free(struct session *session);

#endif
