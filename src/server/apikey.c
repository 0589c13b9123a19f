#include "server/apikey.h"

#include <errno.h>

#include "base/keyfile.h"

int api_key_read(const char *file, struct buf *out, struct buf *why)
{
	char *key = NULL;
	int r = keyfile_find(file, &key, why);

	if (r == -ENOENT && why->len == 0)
		(void)!buf_add_str(why, STR("no API key: set HPKV_API_KEY or give --api-key-file"));
	if (r)
		return -1;
	r = buf_set(out, str_c(key));
	keyfile_free(key);
	if (r)
		(void)!buf_add_str(why, STR("out of memory"));
	return r ? -1 : 0;
}
