#include "client/scan.h"

#include <errno.h>

#include "base/json_number.h"

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

bool scan_number_valid(struct str s)
{
	return s.len && json_number_length(s) == s.len;
}

uint32_t scan_number_id(struct str s)
{
	uint64_t value = 0;

	if (s.len > 10)
		return 0;
	for (size_t i = 0; i < s.len; i++) {
		if (!digit(s.p[i]))
			return 0;
		value = value * 10 + (uint64_t)(s.p[i] - '0');
	}
	return value <= INT32_MAX ? (uint32_t)value : 0;
}

/* The position behind the string that begins at `from`, or the end of the text. */
static size_t string_end(struct str raw, size_t from)
{
	size_t i = from + 1;

	for (;;) {
		const char *quote = memchr(raw.p + i, '"', raw.len - i);
		size_t at, back;

		if (!quote)
			return raw.len;
		at = (size_t)(quote - raw.p);
		for (back = at; back > i && raw.p[back - 1] == '\\'; back--)
			;
		i = at + 1;
		if ((at - back) % 2 == 0)
			return i;
	}
}

static size_t number_end(struct str raw, size_t from)
{
	size_t i = from;

	while (i < raw.len && (digit(raw.p[i]) || memchr("+-.eE", raw.p[i], 5)))
		i++;
	return i;
}

static int add_number(struct scan *scan, struct str number)
{
	if (scan->count == scan->capacity) {
		size_t capacity = scan->capacity ? scan->capacity * 2 : 16;
		struct str *grown = reallocarray(scan->numbers, capacity, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		scan->numbers = grown;
		scan->capacity = capacity;
	}
	scan->numbers[scan->count] = number;
	return buf_printf(&scan->text, "%zu", scan->count++);
}

int scan_json(struct scan *scan, struct str raw)
{
	size_t copied = 0, depth = 0, i = 0;
	bool at_id = false; /* the last string at depth 1 was "messageId" */
	int r;

	buf_clear(&scan->text);
	scan->count = 0;
	scan->id = 0;
	r = buf_reserve(&scan->text, raw.len + 1);
	while (r == 0 && i < raw.len) {
		char c = raw.p[i];
		size_t end = i + 1;

		if (c == '"') {
			end = string_end(raw, i);
			at_id = depth == 1 && str_equal(str_of(raw.p + i, end - i), STR("\"messageId\""));
		} else if (c == '{' || c == '[') {
			if (++depth > SCAN_MAX_DEPTH)
				return -EPROTO;
		} else if (c == '}' || c == ']') {
			depth -= depth > 0;
		} else if (c == ',') {
			at_id = false;
		} else if (c == '-' || digit(c)) {
			struct str number;

			end = number_end(raw, i);
			number = str_of(raw.p + i, end - i);
			if (!scan_number_valid(number))
				return -EPROTO;
			if (at_id && depth == 1)
				scan->id = scan_number_id(number);
			r = buf_add(&scan->text, raw.p + copied, i - copied);
			if (r == 0)
				r = add_number(scan, number);
			copied = end;
		}
		i = end;
	}
	return r ? r : buf_add(&scan->text, raw.p + copied, raw.len - copied);
}

void scan_free(struct scan *scan)
{
	buf_free(&scan->text);
	free(scan->numbers);
	*scan = (struct scan){ 0 };
}
