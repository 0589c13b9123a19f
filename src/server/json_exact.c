#include "server/json_exact.h"

#include <errno.h>

#include "base/json_number.h"
#include "base/utf8.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The length of the JSON string that s begins with, its quotes included; all of s where it does not end. */
static size_t string_length(struct str s)
{
	for (size_t i = 1; i < s.len; i++) {
		if (s.p[i] == '\\')
			i++;
		else if (s.p[i] == '"')
			return i + 1;
	}
	return s.len;
}

static bool ends_number(struct str rest)
{
	return rest.len == 0 || strchr(" \t\r\n,]}", rest.p[0]) != NULL;
}

/* Writes `text` with the marks. Whatever else is wrong with it, jansson will find. */
static int mark(struct str text, unsigned max_depth, struct buf *out)
{
	unsigned depth = 0;

	if (buf_reserve(out, text.len + text.len / 8))
		return -ENOMEM;
	while (text.len) {
		char c = text.p[0];
		size_t n = 1;
		int r;

		if (c == '"') {
			n = string_length(text);
			r = buf_add(out, "\"s", 2) || buf_add(out, text.p + 1, n - 1);
		} else if (c == '-' || is_digit(c)) {
			n = json_number_length(text);
			if (!n || !ends_number(str_skip(text, n)))
				return -EINVAL;
			r = buf_add(out, "\"n", 2) || buf_add(out, text.p, n) || buf_add_char(out, '"');
		} else {
			if ((c == '{' || c == '[') && ++depth > max_depth)
				return -E2BIG;
			if ((c == '}' || c == ']') && depth)
				depth--;
			r = buf_add_char(out, c);
		}
		if (r)
			return -ENOMEM;
		text = str_skip(text, n);
	}
	return 0;
}

int json_exact_parse(struct str text, unsigned max_depth, json_t **out)
{
	CLEANUP(buf_free) struct buf marked = BUF_INIT;
	json_error_t error;
	json_t *tree;
	int r = mark(text, max_depth, &marked);

	if (r)
		return r;
	tree = json_loadb(buf_str(&marked).p, marked.len, JSON_ALLOW_NUL, &error);
	if (!tree)
		return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EINVAL;
	*out = tree;
	return 0;
}

static bool marked_with(const json_t *node, char kind, struct str *out)
{
	const char *p = json_string_value(node);

	if (!p || p[0] != kind)
		return false;
	*out = str_of(p + 1, json_string_length(node) - 1);
	return true;
}

bool json_exact_string(const json_t *node, struct str *out)
{
	return marked_with(node, 's', out);
}

bool json_exact_number(const json_t *node, struct str *out)
{
	return marked_with(node, 'n', out);
}

int json_exact_object_read(struct json_exact_object *object, struct str text, unsigned max_depth)
{
	int r;

	object->tree = NULL;
	if (flat_read(&object->flat, text))
		return 0;
	r = json_exact_parse(text, max_depth, &object->tree);
	return r || json_is_object(object->tree) ? r : -ENOTSUP;
}

void json_exact_object_free(struct json_exact_object *object)
{
	json_decref(object->tree);
	object->tree = NULL;
}

static struct flat_value tree_value(const json_t *node)
{
	struct flat_value value = { .kind = FLAT_OTHER };

	if (!node)
		value.kind = FLAT_MISSING;
	else if (json_exact_string(node, &value.text))
		value.kind = FLAT_STRING;
	else if (json_exact_number(node, &value.text))
		value.kind = FLAT_NUMBER;
	else if (json_is_boolean(node))
		value.kind = json_is_true(node) ? FLAT_TRUE : FLAT_FALSE;
	else if (json_is_null(node))
		value.kind = FLAT_NULL;
	return value;
}

struct flat_value json_exact_object_get(const struct json_exact_object *object, const char *marked_name)
{
	if (object->tree)
		return tree_value(json_object_get(object->tree, marked_name));
	return flat_get(&object->flat, str_c(marked_name + 1));
}

/* jansson passes over a failure while it writes a member's name, and then reports success: so it is kept here. */
struct sink {
	struct buf *out;
	int r;
};

static int add_to_sink(const char *p, size_t len, void *arg)
{
	struct sink *sink = arg;

	if (sink->r == 0)
		sink->r = buf_add(sink->out, p, len);
	return sink->r;
}

static int dump(const json_t *node, size_t flags, struct buf *out)
{
	struct sink sink = { .out = out };

	return json_dump_callback(node, add_to_sink, &sink, flags) || sink.r ? -ENOMEM : 0;
}

int json_exact_dump(const json_t *tree, struct buf *out)
{
	CLEANUP(buf_free) struct buf marked = BUF_INIT;
	struct str rest;

	if (dump(tree, JSON_COMPACT, &marked))
		return -ENOMEM;
	rest = buf_str(&marked);
	if (buf_reserve(out, rest.len))
		return -ENOMEM;
	while (rest.len) {
		size_t n = rest.p[0] == '"' ? string_length(rest) : 1;
		int r;

		if (n == 1)
			r = buf_add_char(out, rest.p[0]);
		else if (rest.p[1] == 'n')
			r = buf_add(out, rest.p + 2, n - 3);
		else
			r = buf_add_char(out, '"') || buf_add(out, rest.p + 2, n - 2);
		if (r)
			return -ENOMEM;
		rest = str_skip(rest, n);
	}
	return 0;
}

int json_add_string(struct buf *out, struct str s)
{
	json_t *node;
	int r;

	if (flat_plain(s) && utf8_valid(s)) {
		r = buf_add_char(out, '"') || buf_add_str(out, s) || buf_add_char(out, '"');
		return r ? -ENOMEM : 0;
	}
	node = json_stringn(s.p, s.len);
	if (!node)
		return -EINVAL;
	r = dump(node, JSON_ENCODE_ANY, out);
	json_decref(node);
	return r;
}
