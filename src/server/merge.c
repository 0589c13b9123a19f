#include "server/merge.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "base/json_number.h"
#include "server/json_exact.h"

#define MERGE_MAX_DEPTH 512
/* Up to here every whole number is a double of its own. */
#define EXACT_DOUBLE 9007199254740992.0

static void cleanup_json(json_t **tree)
{
	json_decref(*tree);
}

static bool begins_object(struct str s)
{
	while (s.len && strchr(" \t\r\n", s.p[0]))
		s = str_skip(s, 1);
	return s.len && s.p[0] == '{';
}

/* Recursion is bounded by the depth that the parser allowed. */
static int merge_into(json_t *target, json_t *patch)
{
	const char *name;
	json_t *value;

	json_object_foreach(patch, name, value) {
		json_t *old = json_object_get(target, name);
		int r = 0;

		if (json_is_null(value)) {
			(void)json_object_del(target, name);
		} else if (json_is_object(value)) {
			if (!json_is_object(old)) {
				old = json_object();
				r = json_object_set_new(target, name, old);
			}
			if (!r)
				r = merge_into(old, value);
		} else {
			r = json_object_set(target, name, value);
		}
		if (r)
			return -1;
	}
	return 0;
}

static int append(struct str old, struct str patch, struct buf *out, const char **error)
{
	if (!buf_set(out, old) && !buf_add_str(out, patch))
		return 200;
	*error = "Out of memory";
	return 500;
}

int merge_patch(struct str old, struct str patch, struct buf *out, bool *merged, const char **error)
{
	CLEANUP(cleanup_json) json_t *target = NULL;
	CLEANUP(cleanup_json) json_t *change = NULL;
	int r = -EINVAL;

	*merged = false;
	if (begins_object(old) && begins_object(patch)) {
		r = json_exact_parse(old, MERGE_MAX_DEPTH, &target);
		if (!r)
			r = json_exact_parse(patch, MERGE_MAX_DEPTH, &change);
	}
	if (r == -EINVAL)
		return append(old, patch, out, error);
	if (r == -E2BIG) {
		*error = "JSON is nested too deeply";
		return 400;
	}
	buf_clear(out);
	if (r || merge_into(target, change) || json_exact_dump(target, out)) {
		*error = "Out of memory";
		return 500;
	}
	*merged = true;
	return 200;
}

/* 0 and the number, or -1: not a whole number within 64 bits, or not known exactly. */
static int whole_number(struct str text, int64_t *out)
{
	char copy[64], *end;
	double value;

	if (!text.len || json_number_length(text) != text.len || text.len >= sizeof(copy))
		return -1;
	memcpy(copy, text.p, text.len);
	copy[text.len] = 0;
	errno = 0;
	*out = strtoll(copy, &end, 10);
	if (!*end)
		return errno ? -1 : 0;
	value = strtod(copy, NULL);
	if (fabs(value) > EXACT_DOUBLE || value != floor(value))
		return -1;
	*out = (int64_t)value;
	return 0;
}

int merge_add(struct str old, struct str increment, struct buf *out, const char **error)
{
	int64_t a, b, sum;

	if (whole_number(old, &a))
		*error = "Value is not a whole number within 64 bits";
	else if (whole_number(increment, &b))
		*error = "Increment is not a whole number within 64 bits";
	else if (__builtin_add_overflow(a, b, &sum))
		*error = "Result does not fit into 64 bits";
	else
		*error = NULL;
	if (*error)
		return 400;
	buf_clear(out);
	if (buf_printf(out, "%" PRId64, sum)) {
		*error = "Out of memory";
		return 500;
	}
	return 200;
}
