#include "client/local_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "client/credentials.h"
#include "client/internal.h"

#define KEY_BYTES 32

/* --- the folder --- */

static int check_dir(const char *dir, int fd, struct hpkv_error *error)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set(error, -errno, 0, "%s: %s", dir, strerror(errno));
	if (st.st_uid != geteuid() && geteuid() != 0)
		return error_set(error, -EACCES, 0, "%s belongs to another user", dir);
	if (st.st_mode & 022)
		return error_set(error, -EACCES, 0,
				 "%s can be written by others; it holds a store and its key: chmod 700 %s", dir, dir);
	return 0;
}

int local_dir_open(const char *dir, int *dir_fd, struct hpkv_error *error)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0 && errno == ENOENT) {
		if (mkdir(dir, 0700) < 0 && errno != EEXIST)
			return error_set(error, -errno, 0, "%s cannot be made: %s", dir, strerror(errno));
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0)
		return error_set(error, -errno, 0, "%s cannot be opened: %s", dir, strerror(errno));
	r = check_dir(dir, fd, error);
	if (r) {
		close(fd);
		return r;
	}
	*dir_fd = fd;
	return 0;
}

/* --- the key --- */

static int write_key(int fd)
{
	unsigned char bytes[KEY_BYTES];
	char text[2 * KEY_BYTES + 1];
	ssize_t n;

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -EIO;
	for (size_t i = 0; i < KEY_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	text[2 * KEY_BYTES] = '\n';
	n = write(fd, text, sizeof(text));
	explicit_bzero(bytes, sizeof(bytes));
	explicit_bzero(text, sizeof(text));
	if (n != (ssize_t)sizeof(text) || fsync(fd) < 0)
		return n < 0 ? -errno : -EIO;
	return 0;
}

/* Gives the finished file its name, unless somebody was faster. */
static int publish(int dir_fd, const char *temporary)
{
	int r = linkat(dir_fd, temporary, dir_fd, "key", 0) < 0 ? -errno : 0;

	/* a file system without hard links */
	if (r == -EPERM || r == -EOPNOTSUPP || r == -ENOSYS)
		r = renameat2(dir_fd, temporary, dir_fd, "key", RENAME_NOREPLACE) < 0 ? -errno : 0;
	unlinkat(dir_fd, temporary, 0);
	return r == -EEXIST ? 0 : r;
}

static int make_key(int dir_fd)
{
	CLEANUP_CLOSE int fd = -1;
	char temporary[64];
	uint64_t unique;
	struct stat st;
	int r;

	if (getrandom(&unique, sizeof(unique), 0) != (ssize_t)sizeof(unique))
		return -EIO;
	snprintf(temporary, sizeof(temporary), ".key.%016llx", (unsigned long long)unique);
	fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = write_key(fd);
	/* root's key for a server that will run as DIR's owner */
	if (r == 0 && (fstat(dir_fd, &st) < 0 || (st.st_uid != geteuid() && fchown(fd, st.st_uid, st.st_gid) < 0)))
		r = -errno;
	if (r) {
		unlinkat(dir_fd, temporary, 0);
		return r;
	}
	return publish(dir_fd, temporary);
}

int local_dir_key(const char *dir, int dir_fd, char **key, struct hpkv_error *error)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_CLOSE int fd = -1;
	int r;

	if (asprintf(&path, "%s/key", dir) < 0) {
		path = NULL;
		return error_set(error, -ENOMEM, 0, "out of memory");
	}
	fd = openat(dir_fd, "key", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		r = make_key(dir_fd);
		if (r)
			return error_set(error, r, 0, "%s cannot be made: %s", path, strerror(-r));
		fd = openat(dir_fd, "key", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	}
	if (fd < 0)
		return error_set(error, -errno, 0, "%s cannot be read: %s", path, strerror(errno));
	return credentials_read_fd(fd, path, key, error);
}

/* --- the log --- */

void local_dir_last_log(int dir_fd, char *line, size_t size)
{
	CLEANUP_CLOSE int fd = openat(dir_fd, "log", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char tail[512];
	struct stat st;
	char *last;
	ssize_t n;

	line[0] = '\0';
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	n = pread(fd, tail, sizeof(tail) - 1,
		  st.st_size > (off_t)sizeof(tail) - 1 ? st.st_size - (off_t)sizeof(tail) + 1 : 0);
	while (n > 0 && tail[n - 1] == '\n')
		n--;
	if (n <= 0)
		return;
	tail[n] = '\0';
	last = strrchr(tail, '\n');
	snprintf(line, size, "%s", last ? last + 1 : tail);
}
