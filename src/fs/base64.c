#include "fs/base64.h"

#include <errno.h>
#include <stdint.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(struct str bytes, struct buf *text)
{
	const unsigned char *in = (const unsigned char *)bytes.p;
	size_t at = 0;
	int rc = buf_reserve(text, base64_length(bytes.len));

	for (; rc == 0 && at < bytes.len; at += 3) {
		size_t have = bytes.len - at < 3 ? bytes.len - at : 3;
		uint32_t bits = (uint32_t)in[at] << 16;
		char four[4];

		if (have > 1)
			bits |= (uint32_t)in[at + 1] << 8;
		if (have > 2)
			bits |= in[at + 2];
		four[0] = digits[bits >> 18];
		four[1] = digits[bits >> 12 & 63];
		four[2] = have > 1 ? digits[bits >> 6 & 63] : '=';
		four[3] = have > 2 ? digits[bits & 63] : '=';
		rc = buf_add(text, four, 4);
	}
	return rc;
}

/* 0 to 63, or -1. */
static int digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

/* Signs of padding at the end: 0 to 2. */
static size_t padding(struct str text)
{
	if (text.len < 4 || text.p[text.len - 1] != '=')
		return 0;
	return text.p[text.len - 2] == '=' ? 2 : 1;
}

bool base64_check(struct str text, size_t *len)
{
	size_t pad = padding(text);
	int last = 0;

	if (text.len % 4 != 0)
		return false;
	for (size_t i = 0; i < text.len - pad; i++) {
		last = digit_value(text.p[i]);
		if (last < 0)
			return false;
	}
	/* The bits of the last digit that no byte takes must be zero. */
	if ((pad == 1 && last & 3) || (pad == 2 && last & 15))
		return false;
	*len = text.len / 4 * 3 - pad;
	return true;
}

int base64_decode(struct str text, struct buf *bytes)
{
	size_t left;
	int rc;

	if (!base64_check(text, &left))
		return -EINVAL;
	rc = buf_reserve(bytes, left);
	for (size_t at = 0; rc == 0 && at < text.len; at += 4) {
		size_t take = left < 3 ? left : 3;
		uint32_t bits = 0;
		unsigned char three[3];

		for (size_t i = 0; i < 4; i++)
			bits = bits << 6 | (uint32_t)(text.p[at + i] == '=' ? 0 : digit_value(text.p[at + i]));
		three[0] = (unsigned char)(bits >> 16);
		three[1] = (unsigned char)(bits >> 8);
		three[2] = (unsigned char)bits;
		rc = buf_add(bytes, three, take);
		left -= take;
	}
	return rc;
}
