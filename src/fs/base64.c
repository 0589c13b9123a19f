#include "fs/base64.h"

#include <errno.h>
#include <stdint.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(struct str bytes, struct buf *text)
{
	const unsigned char *in = (const unsigned char *)bytes.p;
	size_t at = 0;
	char *out;
	int rc = buf_reserve(text, base64_length(bytes.len));

	if (rc < 0 || bytes.len == 0)
		return rc;
	out = text->p + text->len;
	for (; at < bytes.len; at += 3, out += 4) {
		size_t have = bytes.len - at < 3 ? bytes.len - at : 3;
		uint32_t bits = (uint32_t)in[at] << 16;

		if (have > 1)
			bits |= (uint32_t)in[at + 1] << 8;
		if (have > 2)
			bits |= in[at + 2];
		out[0] = digits[bits >> 18];
		out[1] = digits[bits >> 12 & 63];
		out[2] = have > 1 ? digits[bits >> 6 & 63] : '=';
		out[3] = have > 2 ? digits[bits & 63] : '=';
	}
	*out = '\0';
	text->len += base64_length(bytes.len);
	return 0;
}

/* 0 to 63, or -1. */
static int digit_value(char c)
{
	static const signed char values[256] = {
		['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
		['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
		['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
		['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
		['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
		['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
		['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
		['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
	};

	return values[(unsigned char)c] - 1;
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
	char *out;
	int rc;

	if (!base64_check(text, &left))
		return -EINVAL;
	rc = buf_reserve(bytes, left);
	if (rc < 0 || left == 0)
		return rc;
	out = bytes->p + bytes->len;
	bytes->len += left;
	for (size_t at = 0; at < text.len; at += 4) {
		size_t take = left < 3 ? left : 3;
		uint32_t bits = 0;

		for (size_t i = 0; i < 4; i++)
			bits = bits << 6 | (uint32_t)(text.p[at + i] == '=' ? 0 : digit_value(text.p[at + i]));
		for (size_t i = 0; i < take; i++)
			*out++ = (char)(bits >> (16 - 8 * i) & 0xff);
		left -= take;
	}
	*out = '\0';
	return 0;
}
