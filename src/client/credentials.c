#include "client/credentials.h"

#include <errno.h>

#include "base/keyfile.h"
#include "client/internal.h"

int credentials_read_fd(int fd, const char *name, char **out, struct hpkv_error *error)
{
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	int r = keyfile_read_fd(fd, name, out, &why);

	return r ? error_set(error, r, 0, "%s", buf_str(&why).p) : 0;
}

int credentials_read(const char *file, char **out, struct hpkv_error *error)
{
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	int r = keyfile_find(file, out, &why);

	if (r == -ENOENT && why.len == 0)
		return error_set(
			error, r, 0,
			"no API key: set HPKV_API_KEY, or name a file that holds it and that only you can read");
	return r ? error_set(error, r, 0, "%s", buf_str(&why).p) : 0;
}

void credentials_free(char *key)
{
	keyfile_free(key);
}
