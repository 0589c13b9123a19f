#include "base/utf8.h"

#include <stdint.h>

/* The length of the sequence that `first` begins, and the range its second byte must lie in (RFC 3629,
 * section 4: this is where overlong forms, surrogates and what lies above U+10FFFF are refused). */
static size_t sequence(unsigned char first, unsigned char *low, unsigned char *high)
{
	*low = 0x80;
	*high = 0xBF;
	if (first < 0x80)
		return 1;
	if (first < 0xC2)
		return 0;
	if (first < 0xE0)
		return 2;
	if (first < 0xF0) {
		if (first == 0xE0)
			*low = 0xA0;
		if (first == 0xED)
			*high = 0x9F;
		return 3;
	}
	if (first > 0xF4)
		return 0;
	if (first == 0xF0)
		*low = 0x90;
	if (first == 0xF4)
		*high = 0x8F;
	return 4;
}

size_t utf8_control(struct str s)
{
	unsigned char first = s.len > 0 ? (unsigned char)s.p[0] : 'x', second = s.len > 1 ? (unsigned char)s.p[1] : 'x';

	if (first < ' ' || first == 0x7f)
		return 1;
	return first == 0xc2 && second >= 0x80 && second < 0xa0 ? 2 : 0;
}

void utf8_replace_controls(char *text, char by)
{
	struct str rest = str_c(text);

	while (rest.len) {
		size_t len = utf8_control(rest);

		memset(text, by, len);
		len = len ? len : 1;
		text += len;
		rest = str_skip(rest, len);
	}
}

/* No early end: so the compiler looks at many bytes at once. */
static bool ascii(struct str s)
{
	unsigned char all = 0;

	for (size_t i = 0; i < s.len; i++)
		all |= (unsigned char)s.p[i];
	return all < 0x80;
}

bool utf8_valid(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	size_t i = 0;

	if (ascii(s))
		return true;
	while (i < s.len) {
		unsigned char low, high;
		size_t len;

		if (p[i] < 0x80) {
			i++;
			continue;
		}
		len = sequence(p[i], &low, &high);
		if (len == 0 || len > s.len - i || p[i + 1] < low || p[i + 1] > high)
			return false;
		for (size_t k = 2; k < len; k++)
			if ((p[i + k] & 0xC0) != 0x80)
				return false;
		i += len;
	}
	return true;
}
