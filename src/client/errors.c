#include "client/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

int hpkv_code_errno(int code)
{
	switch (code) {
	case 200:
		return 0;
	case 401:
	case 403:
		return -EACCES;
	case 404:
		return -ENOENT;
	case 413:
		return -EFBIG;
	case 429:
		return -EAGAIN;
	default:
		return code >= 400 && code < 500 ? -EINVAL : -EIO;
	}
}

/* What servers and libraries say goes to terminals and logs: no control characters, and no half a character
 * where the text was cut. */
static void text_clean(char *text)
{
	size_t len;

	utf8_replace_controls(text, ' ');
	len = strlen(text);
	for (int i = 0; i < 4 && len > 0 && !utf8_valid(str_of(text, len)); i++)
		text[--len] = '\0';
	if (!utf8_valid(str_of(text, len)))
		for (char *c = text; *c; c++)
			if ((unsigned char)*c >= 0x80)
				*c = '?';
}

static enum hpkv_error_kind kind_of(int err, int code)
{
	if (err == 0)
		return HPKV_ERROR_NONE;
	if (code == 401 || code == 403)
		return HPKV_ERROR_AUTHENTICATION;
	switch (err) {
	case -ETIMEDOUT:
		return HPKV_ERROR_TIMEOUT;
	case -EPROTO:
	case -EPROTONOSUPPORT:
		return HPKV_ERROR_PROTOCOL;
	case -ECANCELED:
		return HPKV_ERROR_CANCELLED;
	case -ECONNREFUSED:
	case -ECONNRESET:
	case -EHOSTUNREACH:
		return HPKV_ERROR_CONNECTION;
	default:
		return code ? HPKV_ERROR_SERVER : HPKV_ERROR_LOCAL;
	}
}

int error_set(struct hpkv_error *error, int err, int code, const char *format, ...)
{
	va_list args;

	if (!error)
		return err;
	error->kind = kind_of(err, code);
	error->err = err;
	error->unknown_outcome = false;
	error->code = code;
	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	text_clean(error->text);
	return err;
}
