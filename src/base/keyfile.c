#include "base/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

/* More than a key, since blanks around it do not count. */
#define MAX_FILE_BYTES 4096

void keyfile_free(char *key)
{
	if (key)
		explicit_bzero(key, strlen(key));
	free(key);
}

/* Answers `err`. Where there is no memory for the reason, `err` has to do. */
__attribute__((format(printf, 3, 4))) static int fail(struct buf *why, int err, const char *format, ...)
{
	char line[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	(void)!buf_add_str(why, str_c(line));
	return err;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static int take_key(struct str text, const char *name, char **out, struct buf *why)
{
	while (text.len && is_blank(text.p[0]))
		text = str_skip(text, 1);
	while (text.len && is_blank(text.p[text.len - 1]))
		text.len--;
	if (text.len == 0)
		return fail(why, -EINVAL, "%s holds no API key", name);
	if (text.len > KEYFILE_MAX_KEY)
		return fail(why, -EINVAL, "%s is too long to be an API key: %d characters at most", name,
			    KEYFILE_MAX_KEY);
	/* it travels in headers and addresses */
	for (size_t i = 0; i < text.len; i++)
		if (text.p[i] <= ' ' || text.p[i] >= 0x7f)
			return fail(
				why, -EINVAL,
				"%s does not hold an API key: one line without blanks, printable and ASCII, is expected",
				name);
	*out = strndup(text.p, text.len);
	return *out ? 0 : fail(why, -ENOMEM, "out of memory");
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

static int check_file(int fd, const char *name, bool guarded, struct buf *why)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return fail(why, -errno, "%s cannot be read: %s", name, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return fail(why, -EINVAL, "%s is not a regular file", name);
	if (!guarded && (st.st_mode & (S_IRWXG | S_IRWXO)))
		return fail(why, -EACCES, "%s can be read by others than its owner: chmod 600 %s", name, name);
	if (!guarded && st.st_uid != geteuid() && geteuid() != 0 && st.st_uid != 0)
		return fail(why, -EACCES, "%s belongs to another user", name);
	return 0;
}

/* guarded: somebody else sees to who can read it */
static int read_file(int fd, const char *name, bool guarded, char **out, struct buf *why)
{
	char text[MAX_FILE_BYTES + 1];
	size_t len;
	int r = check_file(fd, name, guarded, why);

	if (r)
		return r;
	r = read_all(fd, text, sizeof(text), &len);
	if (r)
		return fail(why, r, "%s cannot be read: %s", name, strerror(-r));
	if (len > MAX_FILE_BYTES)
		r = fail(why, -EINVAL, "%s is too long to be an API key", name);
	else
		r = take_key(str_of(text, len), name, out, why);
	explicit_bzero(text, sizeof(text));
	return r;
}

int keyfile_read_fd(int fd, const char *name, char **out, struct buf *why)
{
	return read_file(fd, name, false, out, why);
}

static int read_path(const char *path, bool guarded, char **out, struct buf *why)
{
	/* O_NONBLOCK: a FIFO shall be refused, not waited for */
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return fail(why, -errno, "%s cannot be read: %s", path, strerror(errno));
	return read_file(fd, path, guarded, out, why);
}

static int read_environment(char *value, bool wanted, char **out, struct buf *why)
{
	int r = wanted ? take_key(str_c(value), "HPKV_API_KEY", out, why) : 0;

	/* also out of the memory that /proc/PID/environ shows */
	explicit_bzero(value, strlen(value));
	unsetenv("HPKV_API_KEY");
	return r;
}

static int read_systemd(const char *directory, char **out, struct buf *why)
{
	CLEANUP(buf_free) struct buf path = BUF_INIT;

	if (buf_printf(&path, "%s/hpkv_api_key", directory))
		return fail(why, -ENOMEM, "out of memory");
	return access(path.p, F_OK) == 0 ? read_path(path.p, true, out, why) : -ENOENT;
}

int keyfile_find(const char *file, char **out, struct buf *why)
{
	char *value = getenv("HPKV_API_KEY");
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	int r = -ENOENT;

	if (value)
		r = read_environment(value, !file, out, why);
	if (file)
		return read_path(file, false, out, why);
	if (value)
		return r;
	return directory ? read_systemd(directory, out, why) : -ENOENT;
}
