#include "client/unixpath.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int unix_path_open(const char *full, struct unix_path *out)
{
	struct unix_path path = { .dir_fd = -1 };
	const char *name = strrchr(full, '/');
	CLEANUP_FREE char *dir = NULL;
	int n;

	if (strlen(full) < sizeof(path.path)) {
		strcpy(path.path, full);
		*out = path;
		return 0;
	}
	dir = name ? strndup(full, (size_t)(name - full) + 1) : NULL;
	if (!dir)
		return name ? -ENOMEM : -ENAMETOOLONG;
	path.dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (path.dir_fd < 0)
		return -errno;
	n = snprintf(path.path, sizeof(path.path), "/proc/self/fd/%d%s", path.dir_fd, name);
	if (n < 0 || (size_t)n >= sizeof(path.path)) {
		unix_path_close(&path);
		return -ENAMETOOLONG;
	}
	*out = path;
	return 0;
}

void unix_path_close(struct unix_path *path)
{
	if (path->dir_fd >= 0)
		close(path->dir_fd);
	path->dir_fd = -1;
}

int unix_path_connect(const struct unix_path *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -errno;
	strcpy(address.sun_path, path->path);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}
