#include "server/storedir.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

static int fail(const char *path, const char *what, struct buf *why)
{
	(void)!buf_printf(why, "%s: %s%s", path, what, strerror(errno));
	return STOREDIR_FAILED;
}

/* A server of root's would leave files in the directory that its owner's own server cannot open. */
static int become_owner(const struct stat *st)
{
	if (geteuid() != 0 || st->st_uid == 0)
		return 0;
	return setgroups(0, NULL) || setresgid(st->st_gid, st->st_gid, st->st_gid) ||
			       setresuid(st->st_uid, st->st_uid, st->st_uid)
		       ? -1
		       : 0;
}

static int busy(int fd, const char *path, struct buf *why)
{
	char pid[32] = "";
	ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

	pid[n > 0 ? strspn(pid, "0123456789") : 0] = 0;
	if (*pid)
		(void)!buf_printf(why, "%s is in use by another hpkvd, process %s", path, pid);
	else
		(void)!buf_printf(why, "%s is in use by another hpkvd", path);
	return STOREDIR_BUSY;
}

int storedir_open(const char *path, int *lock_fd, struct buf *why)
{
	CLEANUP_CLOSE int directory = -1;
	struct stat st;
	int fd;

	if (mkdir(path, 0700) && errno != EEXIST)
		return fail(path, "", why);
	directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0 || fstat(directory, &st))
		return fail(path, "", why);
	if (become_owner(&st))
		return fail(path, "cannot become its owner: ", why);
	fd = openat(directory, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fail(path, "lock: ", why);
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		int r = errno == EWOULDBLOCK ? busy(fd, path, why) : fail(path, "lock: ", why);

		close(fd);
		return r;
	}
	/* for people, and for the message above; the lock itself is the kernel's */
	if (ftruncate(fd, 0) || dprintf(fd, "%ld\n", (long)getpid()) < 0) {
		close(fd);
		return fail(path, "lock: ", why);
	}
	*lock_fd = fd;
	return 0;
}
