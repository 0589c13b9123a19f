#include "client/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/internal.h"

#define KEY_MAX 4096

void credentials_free(char *key)
{
	if (key)
		explicit_bzero(key, strlen(key));
	free(key);
}

/* One line of printable ASCII, blanks around it removed. */
static int take_key(char *text, size_t len, const char *name, char **out, struct hpkv_error *error)
{
	char *start = text, *end = text + len;

	while (start < end && strchr(" \t\r\n", *start) && *start)
		start++;
	while (end > start && strchr(" \t\r\n", end[-1]) && end[-1])
		end--;
	if (start == end)
		return error_set(error, -EINVAL, 0, "%s holds no API key", name);
	for (const char *c = start; c < end; c++)
		if (*c <= ' ' || *c >= 0x7f)
			return error_set(error, -EINVAL, 0,
					 "%s does not hold an API key: one line without blanks is expected", name);
	*out = strndup(start, (size_t)(end - start));
	return *out ? 0 : error_set(error, -ENOMEM, 0, "out of memory");
}

static int read_all(int fd, char *text, size_t size, size_t *len)
{
	*len = 0;
	while (*len < size) {
		ssize_t n = read(fd, text + *len, size - *len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		*len += (size_t)n;
	}
	return 0;
}

static int read_file(int fd, const char *name, bool check_owner, char **out, struct hpkv_error *error)
{
	char text[KEY_MAX + 1];
	struct stat st;
	size_t len;
	int r;

	if (fstat(fd, &st) < 0)
		return error_set(error, -errno, 0, "%s cannot be read: %s", name, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(error, -EINVAL, 0, "%s is not a regular file", name);
	if (check_owner && (st.st_mode & 077))
		return error_set(error, -EACCES, 0, "%s can be read by others than its owner: chmod 600 %s", name,
				 name);
	if (check_owner && st.st_uid != geteuid() && geteuid() != 0 && st.st_uid != 0)
		return error_set(error, -EACCES, 0, "%s belongs to another user", name);
	r = read_all(fd, text, sizeof(text), &len);
	if (r)
		return error_set(error, r, 0, "%s cannot be read: %s", name, strerror(-r));
	if (len > KEY_MAX)
		r = error_set(error, -EINVAL, 0, "%s is too long to be an API key", name);
	else
		r = take_key(text, len, name, out, error);
	explicit_bzero(text, sizeof(text));
	return r;
}

int credentials_read_fd(int fd, const char *name, char **out, struct hpkv_error *error)
{
	return read_file(fd, name, true, out, error);
}

static int read_environment(char *value, bool wanted, char **out, struct hpkv_error *error)
{
	int r = wanted ? take_key(value, strlen(value), "HPKV_API_KEY", out, error) : 0;

	/* also out of the memory that /proc/PID/environ shows */
	explicit_bzero(value, strlen(value));
	unsetenv("HPKV_API_KEY");
	return r;
}

static int read_path(const char *path, bool check_owner, char **out, struct hpkv_error *error)
{
	/* O_NONBLOCK: a FIFO shall be refused, not waited for */
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return error_set(error, -errno, 0, "%s cannot be read: %s", path, strerror(errno));
	return read_file(fd, path, check_owner, out, error);
}

/* systemd guards that directory itself; its files may have another mode. */
static int read_systemd(const char *directory, char **out, struct hpkv_error *error)
{
	CLEANUP_FREE char *path = NULL;

	if (asprintf(&path, "%s/hpkv_api_key", directory) < 0) {
		path = NULL;
		return error_set(error, -ENOMEM, 0, "out of memory");
	}
	if (access(path, F_OK) < 0)
		return -ENOENT;
	return read_path(path, false, out, error);
}

int credentials_read(const char *file, char **out, struct hpkv_error *error)
{
	char *value = getenv("HPKV_API_KEY");
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	int r = -ENOENT;

	if (value)
		r = read_environment(value, !file, out, error);
	if (file)
		return read_path(file, true, out, error);
	if (value)
		return r;
	if (directory)
		r = read_systemd(directory, out, error);
	if (r == -ENOENT)
		error_set(error, r, 0,
			  "no API key: set HPKV_API_KEY, or name a file that holds it and that only you can read");
	return r;
}
