#include "client/token_expiry.h"

#include <jansson.h>
#include <string.h>

#include "base/buf.h"

#define PART_MAX (64 * 1024)
#define LEFT_MAX_MS (10 * INT64_C(366) * 86400 * 1000)

static int sextet(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '-' || c == '+')
		return 62;
	return c == '_' || c == '/' ? 63 : -1;
}

/* base64url, padded or not. False: it is something else. */
static bool decode(struct str text, struct buf *out)
{
	uint32_t bits = 0;
	unsigned count = 0;

	while (text.len && text.p[text.len - 1] == '=')
		text.len--;
	for (size_t i = 0; i < text.len; i++) {
		int value = sextet(text.p[i]);

		if (value < 0)
			return false;
		bits = bits << 6 | (uint32_t)value;
		count += 6;
		if (count < 8)
			continue;
		count -= 8;
		if (buf_add_char(out, (char)(bits >> count & 0xff)))
			return false;
	}
	return true;
}

/* Seconds since the epoch, or 0. */
static double expiry_of(struct str part)
{
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	json_t *claims = NULL;
	double expires = 0;

	if (part.len <= PART_MAX && decode(part, &text))
		claims = json_loadb(buf_str(&text).p, text.len, 0, NULL);
	if (json_is_number(json_object_get(claims, "exp")))
		expires = json_number_value(json_object_get(claims, "exp"));
	else if (json_is_number(json_object_get(claims, "expires")))
		expires = json_number_value(json_object_get(claims, "expires"));
	json_decref(claims);
	return expires;
}

uint64_t token_left_ms(const char *token, int64_t now_ms)
{
	const char *dot = strchr(token, '.');

	/* hpkvd's claims are the first part, a JSON Web Token's the second, behind a header without an expiry */
	for (int i = 0; dot && i < 2; i++) {
		double left = expiry_of(str_of(token, (size_t)(dot - token))) * 1000 - (double)now_ms;

		if (left >= 1 && left <= (double)LEFT_MAX_MS)
			return (uint64_t)left;
		token = dot + 1;
		dot = strchr(token, '.');
	}
	return 0;
}
