#include "fs/ids.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "base/json_depth.h"

/* Chunks deleted side by side: programs wait for the same connection. */
#define REMOVE_WINDOW 4

/* After so many chunks that were not there the next one that is there is asked for: a sparse file may have billions of
 * holes. */
#define ABSENT_IN_A_ROW 32

/* The list of names nests twice. */
#define MAX_NESTING 4

bool id_is_in(struct str value, const struct content_id *id)
{
	return str_starts(value, STR(CONTENT_MAGIC)) && memmem(value.p, value.len, id->hex, CONTENT_ID_LEN);
}

int ids_in_value(struct str value, id_visit *visit, void *arg)
{
	struct content content;
	int r;

	if (!str_starts(value, STR(CONTENT_MAGIC)))
		return 0;
	r = content_decode(value, &content);
	for (unsigned i = 0; r == 0 && content.stub && i < content.part_count; i++)
		if (content.parts[i].kind == CONTENT_CHUNKS)
			r = visit(arg, &content.parts[i].id, content_chunk_count(&content.parts[i]));
	return r;
}

/* --- who may hold it --- */

/* Keys that are there already may be longer than those that this mount makes. */
static struct names_rules existing(const struct layout *layout)
{
	struct names_rules rules = *layout->rules;

	rules.max_key = SIZE_MAX / 2;
	return rules;
}

static int add_name(const struct layout *layout, json_t *names, struct str key)
{
	CLEANUP(buf_free) struct buf path = BUF_INIT;
	struct names_rules rules = existing(layout);
	int r;

	if (key.len == 0)
		return 0;
	r = names_path_from_key(&rules, key, false, &path);
	if (r < 0)
		return r;
	return json_object_set_new(names, path.p, json_true()) < 0 ? -ENOMEM : 0;
}

/* Sends `names` as a merge patch and lets go of it. */
static co_fn int patch_names(const struct layout *layout, struct str key, json_t *names)
{
	json_t *patch = json_pack("{s:i, s:o}", "v", 1, "names", names);
	char *text = patch ? json_dumps(patch, JSON_COMPACT) : NULL;
	int r = text ? store_merge(layout->store, key, str_c(text)) : -ENOMEM;

	json_decref(patch);
	free(text);
	return r;
}

/* *names is a new reference; NULL where there is no list. */
static co_fn int read_names(const struct layout *layout, struct str key, json_t **names)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	json_t *root, *found;
	int r = store_get(layout->store, key, &value);

	*names = NULL;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	root = json_nests_deeper(buf_str(&value), MAX_NESTING) ? NULL : json_loadb(value.p, value.len, 0, NULL);
	found = json_object_get(root, "names");
	if (json_is_object(found) && json_integer_value(json_object_get(root, "v")) == 1)
		*names = json_incref(found);
	json_decref(root);
	return *names ? 0 : -EUCLEAN;
}

/* The path in the list, asked at its key. What is no path names no key. */
static co_fn int path_holds(const struct layout *layout, const char *path, const struct content_id *id,
			    struct str except, bool *held)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	struct names_rules rules = existing(layout);
	int r = names_key_from_path(&rules, str_c(path), &key);

	*held = false;
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	if (str_equal(buf_str(&key), except))
		return 0;
	r = store_get(layout->store, buf_str(&key), &value);
	if (r == 0)
		*held = id_is_in(buf_str(&value), id);
	return r == -ENOENT ? 0 : r;
}

/* Takes the names out of the list that do not hold the id: each by itself, since others add to the list meanwhile. */
static co_fn int drop_names(const struct layout *layout, struct str list, const struct content_id *id)
{
	json_t *names, *gone = json_object();
	const char *path;
	json_t *ignored;
	int r = gone ? read_names(layout, list, &names) : -ENOMEM;
	bool held;

	if (r < 0) {
		json_decref(gone);
		return r;
	}
	json_object_foreach(names, path, ignored) {
		r = path_holds(layout, path, id, STR(""), &held);
		if (r == 0 && !held && json_object_set_new(gone, path, json_null()) < 0)
			r = -ENOMEM;
		if (r < 0)
			break;
	}
	json_decref(names);
	if (r < 0 || json_object_size(gone) == 0) {
		json_decref(gone);
		return r < 0 ? r : -EFBIG;
	}
	return patch_names(layout, list, gone);
}

int id_name(const struct layout *layout, const struct content_id *id, struct str a, struct str b)
{
	CLEANUP(buf_free) struct buf list = BUF_INIT;
	json_t *names = json_object();
	int r = names ? layout_key(layout, &list, "i/%s", id->hex) : -ENOMEM;

	if (r == 0)
		r = add_name(layout, names, a);
	if (r == 0)
		r = add_name(layout, names, b);
	if (r == 0)
		r = patch_names(layout, buf_str(&list), json_incref(names));
	if (r == -EFBIG) {
		r = drop_names(layout, buf_str(&list), id);
		if (r == 0)
			r = patch_names(layout, buf_str(&list), json_incref(names));
	}
	json_decref(names);
	return r;
}

int id_find_holders(const struct layout *layout, const struct content_id *id, struct str key, struct str except,
		    struct id_holders *out)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	CLEANUP(buf_free) struct buf list = BUF_INIT;
	json_t *names = NULL, *ignored;
	const char *path;
	bool held = false;
	int r = key.len ? store_get(layout->store, key, &value) : -ENOENT;

	if (r < 0 && r != -ENOENT)
		return r;
	*out = (struct id_holders){ .held = r == 0 && id_is_in(buf_str(&value), id) };
	if (out->held)
		return 0;
	r = layout_key(layout, &list, "i/%s", id->hex);
	if (r == 0)
		r = read_names(layout, buf_str(&list), &names);
	json_object_foreach(names, path, ignored) {
		r = path_holds(layout, path, id, except, &held);
		if (r < 0 || held)
			break;
	}
	out->held = held;
	out->listed = names;
	json_decref(names);
	return r;
}

/* --- removal --- */

struct chunk_delete {
	const struct layout *layout;
	struct co_group *group;
	struct buf key;
	int err;
};

static void chunk_delete_run(void *arg)
{
	struct chunk_delete *one = arg;

	one->err =
		store_delete(one->layout->store, buf_str(&one->key), (struct store_expect){ .what = STORE_EXPECT_ANY });
	co_group_done(one->group);
}

static int chunk_key(const struct layout *layout, const struct content_id *id, uint32_t index, struct buf *key)
{
	return layout_key(layout, key, "c/%s/%0*" PRIx32, id->hex, LAYOUT_INDEX_DIGITS, index);
}

/* Deletes up to REMOVE_WINDOW chunks from *next on, all below `end`, and counts in *absent how many in a row were not there. */
static co_fn int delete_some(const struct layout *layout, const struct content_id *id, uint32_t end, uint32_t *next,
			     uint32_t *absent)
{
	struct chunk_delete some[REMOVE_WINDOW] = { 0 };
	struct co_group group = { 0 };
	unsigned started = 0;
	int r = 0;

	for (; started < REMOVE_WINDOW && *next < end; started++, ++*next) {
		some[started] = (struct chunk_delete){ .layout = layout, .group = &group };
		r = chunk_key(layout, id, *next, &some[started].key);
		if (r < 0)
			break;
		co_start_beside(layout->loop, &group, chunk_delete_run, &some[started]);
	}
	co_group_wait(&group);
	for (unsigned i = 0; i < started; i++) {
		if (some[i].err == 0)
			*absent = 0;
		else if (some[i].err == -ENOENT)
			++*absent;
		else if (r == 0)
			r = some[i].err;
		buf_free(&some[i].key);
	}
	return r;
}

/* The first chunk from *next on that is there; CONTENT_MAX_CHUNKS if there is none. */
static co_fn int skip_absent(const struct layout *layout, const struct content_id *id, uint32_t *next)
{
	CLEANUP(store_page_deinit) struct store_page page = { 0 };
	CLEANUP(buf_free) struct buf start = BUF_INIT;
	CLEANUP(buf_free) struct buf end = BUF_INIT;
	uint32_t found = CONTENT_MAX_CHUNKS;
	int r = chunk_key(layout, id, *next, &start);

	if (r == 0)
		r = chunk_key(layout, id, CONTENT_MAX_CHUNKS - 1, &end);
	if (r == 0)
		r = store_range(layout->store, buf_str(&start), buf_str(&end), 1, &page);
	if (r < 0)
		return r;
	if (page.count && page.records[0].key.len == start.len) {
		char digits[LAYOUT_INDEX_DIGITS + 1] = "";

		memcpy(digits, page.records[0].key.p + start.len - LAYOUT_INDEX_DIGITS, LAYOUT_INDEX_DIGITS);
		found = (uint32_t)strtoul(digits, NULL, 16);
	}
	*next = found < *next ? CONTENT_MAX_CHUNKS : found; /* a key that is no chunk's */
	return 0;
}

/* Behind `count` there are those of a time when the file was longer, and nobody knows how many. */
static co_fn int delete_all(const struct layout *layout, const struct content_id *id, uint32_t count, const bool *stop)
{
	uint32_t next = 0, absent = 0;
	bool ask = count == 0;
	int r = 0;

	while (r == 0 && next < CONTENT_MAX_CHUNKS) {
		bool known = next < count;

		if (stop && *stop)
			return -ECANCELED;
		if (ask) {
			absent = 0;
			r = skip_absent(layout, id, &next);
		} else {
			r = delete_some(layout, id, known ? count : CONTENT_MAX_CHUNKS, &next, &absent);
		}
		ask = !ask && (absent >= (known ? ABSENT_IN_A_ROW : 1) || (known && next == count));
	}
	return r;
}

int id_remove(const struct layout *layout, const struct content_id *id, uint32_t chunk_count, bool listed,
	      const bool *stop)
{
	CLEANUP(buf_free) struct buf list = BUF_INIT;
	int r = layout_key(layout, &list, "i/%s", id->hex);

	if (r == 0)
		r = delete_all(layout, id, chunk_count, stop);
	if (r == 0 && listed)
		r = store_delete(layout->store, buf_str(&list), (struct store_expect){ .what = STORE_EXPECT_ANY });
	return r == -ENOENT ? 0 : r;
}
