#include "fs/layout.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"

/* Longer than any tail: kinds, ids, indexes, none of them names of files. */
#define TAIL_SIZE 128

int layout_key(const struct layout *layout, struct buf *key, const char *format, ...)
{
	CLEANUP(buf_free) struct buf made = BUF_INIT;
	char tail[TAIL_SIZE];
	va_list ap;
	int r;

	va_start(ap, format);
	vsnprintf(tail, sizeof(tail), format, ap);
	va_end(ap);
	r = buf_set(&made, layout->rules->prefix);
	if (r == 0)
		r = buf_add_str(&made, STR(NAMES_RESERVED "/"));
	if (r == 0)
		r = buf_add_str(&made, str_c(tail));
	if (r < 0)
		return r;
	buf_free(key);
	*key = buf_take(&made);
	return 0;
}

/* --- the layout's version --- */

/* Longer is not ours; and the parser's recursion must stay small on a coroutine's stack. */
#define LAYOUT_MAX_BYTES 128

bool layout_parse_index(struct str text, uint32_t *index)
{
	uint32_t n = 0;

	if (text.len != LAYOUT_INDEX_DIGITS)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return false;
		n = n << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
	}
	*index = n;
	return true;
}

bool layout_parse_chunk(struct str tail, struct content_id *id, uint32_t *index)
{
	int64_t created_ms;

	return tail.len > CONTENT_ID_LEN && tail.p[CONTENT_ID_LEN] == '/' &&
	       content_id_parse(str_of(tail.p, CONTENT_ID_LEN), id, &created_ms) &&
	       layout_parse_index(str_skip(tail, CONTENT_ID_LEN + 1), index) && *index < CONTENT_MAX_CHUNKS;
}

int layout_check(const struct layout *layout, struct str value, struct buf *why)
{
	CLEANUP(buf_free) struct buf region = BUF_INIT;
	json_error_t error;
	json_t *root = value.len <= LAYOUT_MAX_BYTES ? json_loadb(value.p, value.len, 0, &error) : NULL;
	json_t *version = json_object_get(root, "v");
	const char *delimiter = json_string_value(json_object_get(root, "delimiter"));
	bool refused = true;
	int r = layout_key(layout, &region, "%s", "");

	if (r < 0)
		refused = false;
	else if (!json_is_integer(version) || !delimiter || strlen(delimiter) != 1)
		r = buf_printf(why, "the key %sfs is not one that hpkvfs wrote; another program's data is below %s",
			       region.p, region.p);
	else if (json_integer_value(version) > LAYOUT_VERSION)
		r = buf_printf(why, "the store has layout version %lld, this hpkvfs knows %d: use a newer hpkvfs",
			       (long long)json_integer_value(version), LAYOUT_VERSION);
	else if (delimiter[0] != layout->rules->delimiter)
		r = buf_printf(why, "the store was written with delimiter=%s: mount it so", delimiter);
	else
		refused = false;
	json_decref(root);
	if (r == 0 && refused)
		return -EPROTONOSUPPORT;
	return r;
}

/* Another mount may have been faster, and have written another delimiter. */
int layout_write(const struct layout *layout)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	char delimiter[] = { layout->rules->delimiter, '\0' };
	json_t *root;
	char *text;
	int r = layout_key(layout, &key, "fs");

	if (r == 0)
		r = store_get(layout->store, buf_str(&key), &value);
	if (r == 0) {
		r = layout_check(layout, buf_str(&value), &why);
		if (r == -EPROTONOSUPPORT)
			log_error("%s", buf_str(&why).p);
		return r;
	}
	if (r != -ENOENT)
		return r;
	root = json_pack("{s:i, s:s}", "v", LAYOUT_VERSION, "delimiter", delimiter);
	text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	if (!text)
		return -ENOMEM;
	r = store_set(layout->store, buf_str(&key), str_c(text), (struct store_expect){ .what = STORE_EXPECT_ABSENT });
	free(text);
	return r;
}
