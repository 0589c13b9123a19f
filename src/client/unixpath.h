/* Paths of Unix sockets, which the kernel limits to 107 bytes: a longer one is reached through its folder's
 * descriptor in /proc/self/fd. */
#ifndef HPKVFS_CLIENT_UNIXPATH_H
#define HPKVFS_CLIENT_UNIXPATH_H

#include <sys/un.h>

#include "base/cleanup.h"

struct unix_path {
	int dir_fd; /* held open while the path is used, or -1 */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* `full` is absolute. 0, -errno of opening the folder, -ENAMETOOLONG (the last part alone is too long). `out` is
 * written only on success; close it with unix_path_close. */
CHECKED int unix_path_open(const char *full, struct unix_path *out);

/* May be called again, and on { .dir_fd = -1 }. */
void unix_path_close(struct unix_path *path);

/* A blocking connect. The socket, or -errno. */
CHECKED int unix_path_connect(const struct unix_path *path);

#endif
