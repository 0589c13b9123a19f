#include "base/flat.h"

#include "base/json_number.h"
#include "base/utf8.h"

bool flat_plain(struct str s)
{
	unsigned special = 0;

	/* no early end: so the compiler looks at many bytes at once */
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		special |= (unsigned)(c < 0x20) | (unsigned)(c == '"') | (unsigned)(c == '\\');
	}
	return special == 0;
}

static struct str skip_blanks(struct str rest)
{
	size_t i = 0;

	while (i < rest.len && (rest.p[i] == ' ' || rest.p[i] == '\t' || rest.p[i] == '\n' || rest.p[i] == '\r'))
		i++;
	return str_skip(rest, i);
}

/* The byte, and the blanks around it. */
static bool take(struct str *rest, char c)
{
	*rest = skip_blanks(*rest);
	if (rest->len == 0 || rest->p[0] != c)
		return false;
	*rest = skip_blanks(str_skip(*rest, 1));
	return true;
}

static bool read_string(struct str *rest, struct str *out)
{
	const char *end;

	if (rest->len < 2 || rest->p[0] != '"')
		return false;
	end = memchr(rest->p + 1, '"', rest->len - 1);
	if (!end)
		return false;
	*out = str_of(rest->p + 1, (size_t)(end - rest->p) - 1);
	if (!flat_plain(*out) || !utf8_valid(*out))
		return false;
	*rest = str_skip(*rest, out->len + 2);
	return true;
}

static bool read_word(struct str *rest, struct flat_value *out)
{
	static const struct {
		const char *word;
		enum flat_kind kind;
	} words[] = { { "true", FLAT_TRUE }, { "false", FLAT_FALSE }, { "null", FLAT_NULL } };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		struct str word = str_c(words[i].word);

		if (!str_starts(*rest, word))
			continue;
		*out = (struct flat_value){ .kind = words[i].kind };
		*rest = str_skip(*rest, word.len);
		return true;
	}
	return false;
}

static bool read_value(struct str *rest, struct flat_value *out)
{
	size_t len = json_number_length(*rest);

	if (len) {
		*out = (struct flat_value){ .kind = FLAT_NUMBER, .text = str_of(rest->p, len) };
		*rest = str_skip(*rest, len);
		return true;
	}
	*out = (struct flat_value){ .kind = FLAT_STRING };
	return read_string(rest, &out->text) || read_word(rest, out);
}

bool flat_read(struct flat *flat, struct str raw)
{
	struct str rest = raw;

	flat->count = 0;
	if (!take(&rest, '{'))
		return false;
	do {
		size_t n = flat->count;

		if (n == FLAT_MEMBERS || !read_string(&rest, &flat->names[n]) || !take(&rest, ':') ||
		    !read_value(&rest, &flat->values[n]))
			return false;
		flat->count++;
	} while (take(&rest, ','));
	return take(&rest, '}') && rest.len == 0;
}

struct flat_value flat_get(const struct flat *flat, struct str name)
{
	for (size_t i = flat->count; i > 0; i--) {
		if (str_equal(flat->names[i - 1], name))
			return flat->values[i - 1];
	}
	return (struct flat_value){ .kind = FLAT_MISSING };
}
