/* The store's directory and its lock: one server at a time. */
#ifndef HPKVFS_SERVER_STOREDIR_H
#define HPKVFS_SERVER_STOREDIR_H

#include "base/buf.h"

enum {
	STOREDIR_FAILED = -1,
	STOREDIR_BUSY = -2, /* another server holds the lock */
};

/* Makes the directory (0700) if missing; where root runs this and the directory is another user's, becomes that
 * user; takes the lock. 0 and the lock's descriptor, which is held until it is closed or the process ends, however
 * it ends; or one of the above, with one line in `why`. */
CHECKED int storedir_open(const char *path, int *lock_fd, struct buf *why);

#endif
