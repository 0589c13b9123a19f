#include "server/apikey.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define MAX_KEY_BYTES 1024

/* The first line of a file. 0 or -1. */
static int read_file(const char *path, bool check_mode, struct buf *out, struct buf *why)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char text[MAX_KEY_BYTES + 2] = "";
	struct stat st;
	ssize_t n;
	int r;

	if (fd < 0 || fstat(fd, &st)) {
		(void)!buf_printf(why, "%s: %s", path, strerror(errno));
		return -1;
	}
	if (check_mode && (st.st_mode & (S_IRWXG | S_IRWXO))) {
		(void)!buf_printf(why, "%s: others than its owner have access to it (chmod 600)", path);
		return -1;
	}
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0) {
		(void)!buf_printf(why, "%s: %s", path, strerror(errno));
		return -1;
	}
	r = buf_set(out, str_of(text, strcspn(text, "\r\n")));
	explicit_bzero(text, sizeof(text));
	if (r)
		(void)!buf_printf(why, "no memory");
	return r ? -1 : 0;
}

/* Printable ASCII without spaces: it travels in headers and addresses. */
static int check(struct str key, struct buf *why)
{
	bool valid = key.len > 0 && key.len <= MAX_KEY_BYTES;

	for (size_t i = 0; i < key.len; i++)
		valid = valid && key.p[i] > ' ' && key.p[i] < 127;
	if (!valid)
		(void)!buf_printf(why, "the API key must be 1 to %d printable ASCII characters without spaces",
				  MAX_KEY_BYTES);
	return valid ? 0 : -1;
}

/* The environment's key, wiped from there. NULL: none. */
static char *take_from_environment(void)
{
	char *value = getenv("HPKV_API_KEY"), *copy;

	if (!value)
		return NULL;
	copy = strdup(value);
	/* also what /proc/PID/environ shows */
	explicit_bzero(value, strlen(value));
	unsetenv("HPKV_API_KEY");
	return copy;
}

int api_key_read(const char *file, struct buf *out, struct buf *why)
{
	CLEANUP_FREE char *from_environment = take_from_environment();
	const char *credentials = getenv("CREDENTIALS_DIRECTORY");
	CLEANUP(buf_free) struct buf path = BUF_INIT;
	int r;

	if (file) {
		r = read_file(file, true, out, why);
	} else if (from_environment) {
		r = buf_set(out, str_c(from_environment));
		explicit_bzero(from_environment, strlen(from_environment));
	} else if (credentials && !buf_printf(&path, "%s/hpkv_api_key", credentials)) {
		/* systemd sees to who can read these */
		r = read_file(path.p, false, out, why);
	} else {
		(void)!buf_printf(why, "no API key: set HPKV_API_KEY or give --api-key-file");
		r = -1;
	}
	return r ? -1 : check(buf_str(out), why);
}
