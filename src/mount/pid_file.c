#include "mount/pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

static char *make_folder(void)
{
	const char *runtime = geteuid() == 0 ? "/run" : secure_getenv("XDG_RUNTIME_DIR");
	char *folder;

	if (!runtime || !*runtime || asprintf(&folder, "%s/hpkvfs", runtime) < 0)
		return NULL;
	if (mkdir(folder, geteuid() == 0 ? 0755 : 0700) == 0 || errno == EEXIST)
		return folder;
	free(folder);
	return NULL;
}

char *pid_file_write(unsigned major, unsigned minor)
{
	CLEANUP_FREE char *folder = make_folder();
	CLEANUP_CLOSE int fd = -1;
	char *path = NULL;

	if (!folder || asprintf(&path, "%s/%u:%u.pid", folder, major, minor) < 0)
		return NULL;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd >= 0 && dprintf(fd, "%d\n", (int)getpid()) > 0)
		return path;
	log_debug("%s cannot be written: %s", path, strerror(errno));
	free(path);
	return NULL;
}

void pid_file_end(char *path, const char *loss)
{
	CLEANUP_CLOSE int fd = path ? open(path, O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC) : -1;
	char text[32];
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

	if (n > 0) {
		text[n] = '\0';
		if (atoi(text) == (int)getpid() && (!loss || dprintf(fd, "%s\n", loss) < 0))
			unlink(path);
	}
	free(path);
}
