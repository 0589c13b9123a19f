#include "base/json_number.h"

static size_t digits(struct str s, size_t at)
{
	size_t start = at;

	while (at < s.len && s.p[at] >= '0' && s.p[at] <= '9')
		at++;
	return at - start;
}

/* What stands behind the whole part: `at` moves on; 0 where it is malformed. */
static size_t fraction_end(struct str s, size_t at)
{
	size_t n;

	if (at == s.len || s.p[at] != '.')
		return at;
	n = digits(s, at + 1);
	return n ? at + 1 + n : 0;
}

static size_t exponent_end(struct str s, size_t at)
{
	size_t n;

	if (at == s.len || (s.p[at] != 'e' && s.p[at] != 'E'))
		return at;
	at++;
	if (at < s.len && (s.p[at] == '+' || s.p[at] == '-'))
		at++;
	n = digits(s, at);
	return n ? at + n : 0;
}

size_t json_number_length(struct str s)
{
	size_t at = s.len && s.p[0] == '-';
	size_t n = digits(s, at);

	if (!n || (n > 1 && s.p[at] == '0'))
		return 0;
	at = fraction_end(s, at + n);
	return at ? exponent_end(s, at) : 0;
}
