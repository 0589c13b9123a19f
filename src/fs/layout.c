#include "fs/layout.h"

#include <stdarg.h>
#include <stdio.h>

/* Longer than any tail: kinds, ids, indexes, none of them names of files. */
#define TAIL_SIZE 128

int layout_key(const struct layout *layout, struct buf *key, const char *format, ...)
{
	CLEANUP(buf_free) struct buf made = BUF_INIT;
	char tail[TAIL_SIZE];
	va_list ap;
	int r;

	va_start(ap, format);
	vsnprintf(tail, sizeof(tail), format, ap);
	va_end(ap);
	r = buf_set(&made, layout->rules->prefix);
	if (r == 0)
		r = buf_add_str(&made, STR(NAMES_RESERVED "/"));
	if (r == 0)
		r = buf_add_str(&made, str_c(tail));
	if (r < 0)
		return r;
	buf_free(key);
	*key = buf_take(&made);
	return 0;
}
