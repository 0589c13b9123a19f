/* Any value has a content; where it is inline, the value made of it has the same. */
#include "fuzz.h"

#include <errno.h>

#include "fs/content.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str value = str_of((const char *)data, size);
	struct buf bytes = BUF_INIT, again = BUF_INIT, decoded = BUF_INIT;
	struct content content;
	int r;

	must(content_decode(value, &content) == 0);
	r = content_bytes(&content, &bytes);
	must(r == 0 || r == -EOPNOTSUPP);
	if (r == 0) {
		must(content_size(&content) == bytes.len);
		must(content_encode(buf_str(&bytes), SIZE_MAX, &again) == 0);
		must(content_decode(buf_str(&again), &content) == 0);
		must(content_bytes(&content, &decoded) == 0);
		must(str_equal(buf_str(&decoded), buf_str(&bytes)));
	}
	buf_free(&bytes);
	buf_free(&again);
	buf_free(&decoded);
	return 0;
}
