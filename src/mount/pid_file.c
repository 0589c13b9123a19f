#include "mount/pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

struct pid_file {
	char *path;
	int fd;
};

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

static void pid_file_free(struct pid_file *file)
{
	cleanup_close(&file->fd);
	free(file->path);
	free(file);
}

/* A file of its own, so that what the former has open stays the former's. */
static bool write_file(struct pid_file *file)
{
	CLEANUP_FREE char *fresh = NULL;

	if (asprintf(&fresh, "%s.%d", file->path, (int)getpid()) < 0)
		return false;
	file->fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (file->fd >= 0 && dprintf(file->fd, "%d\n", (int)getpid()) > 0 && rename(fresh, file->path) == 0)
		return true;
	log_debug("%s cannot be written: %s", fresh, strerror(errno));
	if (file->fd >= 0)
		unlink(fresh);
	return false;
}

struct pid_file *pid_file_write(unsigned major, unsigned minor)
{
	CLEANUP_FREE char *folder = make_folder();
	struct pid_file *file = folder ? calloc(1, sizeof(*file)) : NULL;

	if (!file)
		return NULL;
	file->fd = -1;
	if (asprintf(&file->path, "%s/%u:%u.pid", folder, major, minor) < 0)
		file->path = NULL;
	else if (write_file(file))
		return file;
	pid_file_free(file);
	return NULL;
}

static bool still_there(const struct pid_file *file)
{
	struct stat ours, there;

	return fstat(file->fd, &ours) == 0 && lstat(file->path, &there) == 0 && ours.st_dev == there.st_dev &&
	       ours.st_ino == there.st_ino;
}

void pid_file_end(struct pid_file *file, const char *loss)
{
	if (!file)
		return;
	if (loss && dprintf(file->fd, "%s\n", loss) < 0)
		log_warning("%s cannot be written: %s", file->path, strerror(errno));
	if (still_there(file))
		unlink(file->path);
	pid_file_free(file);
}
