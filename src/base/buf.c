#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"

int str_compare(struct str a, struct str b)
{
	size_t common = a.len < b.len ? a.len : b.len;
	int order = common ? memcmp(a.p, b.p, common) : 0;

	if (order)
		return order;
	return a.len < b.len ? -1 : a.len > b.len;
}

void buf_free(struct buf *b)
{
	free(b->p);
	*b = BUF_INIT;
}

void buf_wipe(struct buf *b)
{
	if (b->p)
		explicit_bzero(b->p, b->capacity);
	buf_free(b);
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	if (b->p)
		b->p[0] = '\0';
}

int buf_reserve(struct buf *b, size_t extra)
{
	size_t capacity;
	char *p;

	if (extra > SIZE_MAX / 2 - b->len)
		return -ENOMEM;
	if (b->p && b->len + extra < b->capacity)
		return 0;
	/* glibc takes 32 bytes for 24, and 48 for 32 */
	capacity = b->capacity < 24 ? 24 : b->capacity * 2;
	if (capacity < b->len + extra + 1)
		capacity = b->len + extra + 1;
	p = realloc(b->p, capacity);
	if (!p)
		return -ENOMEM;
	b->p = p;
	b->p[b->len] = '\0';
	b->capacity = capacity;
	return 0;
}

int buf_add(struct buf *b, const void *p, size_t len)
{
	int r = buf_reserve(b, len);

	if (r < 0)
		return r;
	if (len)
		memcpy(b->p + b->len, p, len);
	b->len += len;
	b->p[b->len] = '\0';
	return 0;
}

int buf_add_str(struct buf *b, struct str s)
{
	return buf_add(b, s.p, s.len);
}

int buf_add_char(struct buf *b, char c)
{
	return buf_add(b, &c, 1);
}

int buf_add_unsigned(struct buf *b, uint64_t number)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	return buf_add(b, digits + at, sizeof(digits) - at);
}

int buf_add_escaped(struct buf *b, struct str s)
{
	size_t control = 0; /* so many of the bytes to come belong to a control character */
	int r = 0;

	for (; r == 0 && s.len; s = str_skip(s, 1)) {
		char c = *s.p;

		if (!control)
			control = utf8_control(s);
		if (c == '\\')
			r = buf_add_str(b, STR("\\\\"));
		else if (c == '\n')
			r = buf_add_str(b, STR("\\n"));
		else if (c == '\t')
			r = buf_add_str(b, STR("\\t"));
		else if (c == '\r')
			r = buf_add_str(b, STR("\\r"));
		else if (control)
			r = buf_printf(b, "\\x%02x", (unsigned char)c);
		else
			r = buf_add_char(b, c);
		control -= control > 0;
	}
	return r;
}

int buf_printf(struct buf *b, const char *format, ...)
{
	va_list ap;
	int len, r;

	va_start(ap, format);
	len = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	if (len < 0)
		return -ENOMEM;
	r = buf_reserve(b, (size_t)len);
	if (r < 0)
		return r;
	va_start(ap, format);
	vsnprintf(b->p + b->len, (size_t)len + 1, format, ap);
	va_end(ap);
	b->len += (size_t)len;
	return 0;
}

int buf_set(struct buf *b, struct str s)
{
	struct buf copy = BUF_INIT;
	int r = buf_add_str(&copy, s);

	if (r < 0)
		return r;
	buf_free(b);
	*b = copy;
	return 0;
}

int buf_resize(struct buf *b, size_t len)
{
	if (len > b->len) {
		int r = buf_reserve(b, len - b->len);

		if (r < 0)
			return r;
		memset(b->p + b->len, 0, len - b->len);
	}
	b->len = len;
	if (b->p)
		b->p[len] = '\0';
	return 0;
}

struct buf buf_take(struct buf *b)
{
	struct buf taken = *b;

	*b = BUF_INIT;
	return taken;
}
