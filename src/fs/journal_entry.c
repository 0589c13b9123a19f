/* Entries of the journal as they are found: read, and watched until they are dead. */
#include <errno.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/json_depth.h"
#include "base/list.h"
#include "fs/journal.h"
#include "fs/walk.h"

/* An entry nests three times. */
#define MAX_NESTING 8

static const char *const part_names[JOURNAL_PARTS] = {
	[JOURNAL_A] = "a",
	[JOURNAL_B] = "b",
	[JOURNAL_A_RECORD] = "am",
	[JOURNAL_B_RECORD] = "bm",
};

int journal_init(struct journal *journal, const struct layout *layout, uint64_t grace_us, uint64_t beat_us)
{
	struct content_id random;
	int r = content_id_new(clock_real_ns() / 1000000, &random);

	if (r < 0)
		return r;
	*journal = (struct journal){ .layout = *layout, .grace_us = grace_us, .beat_us = beat_us };
	memcpy(journal->owner, random.hex + CONTENT_ID_LEN - JOURNAL_OWNER_LEN, sizeof(journal->owner));
	return 0;
}

int journal_part_key(const struct journal *journal, const char *name, enum journal_part part, struct buf *key)
{
	return layout_key(&journal->layout, key, "j/%s/%s", name, part_names[part]);
}

/* --- life --- */

void journal_entry_free(struct journal_entry *entry)
{
	for (size_t i = 0; i < entry->id_count; i++)
		buf_free(&entry->ids[i].key);
	free(entry->ids);
	for (unsigned i = 0; i < JOURNAL_PARTS; i++)
		buf_free(&entry->parts[i]);
	buf_free(&entry->value);
	buf_free(&entry->from);
	buf_free(&entry->to);
	free(entry);
}

void journal_free(struct journal_entry **list)
{
	struct journal_entry *entry, *next;

	DL_FOREACH_SAFE(*list, entry, next)
		journal_entry_free(entry);
	*list = NULL;
}

/* --- decoding: 0, -EINVAL, -ENOMEM --- */

static int take_string(const json_t *object, const char *name, struct buf *out)
{
	const json_t *string = json_object_get(object, name);

	if (!json_is_string(string))
		return -EINVAL;
	return buf_set(out, str_of(json_string_value(string), json_string_length(string)));
}

static int take_id(const char *text, struct journal_id *out)
{
	int64_t created;

	return content_id_parse(str_c(text), &out->id, &created) ? 0 : -EINVAL;
}

static int take_removed(const char *text, const json_t *member, struct journal_id *out)
{
	json_int_t count = json_integer_value(json_object_get(member, "chunks"));
	int r = take_id(text, out);

	if (count < 0 || count > (json_int_t)CONTENT_MAX_CHUNKS)
		return -EINVAL;
	out->chunk_count = (uint32_t)count;
	return r < 0 ? r : take_string(member, "key", &out->key);
}

static int take_ids(json_t *root, struct journal_entry *entry)
{
	json_t *ids = json_object_get(root, "ids"), *member;
	size_t count = json_array_size(ids) + json_object_size(ids), i;
	const char *name;
	int r = 0;

	entry->ids = calloc(count + 1, sizeof(*entry->ids));
	if (!entry->ids)
		return -ENOMEM;
	if (entry->op == JOURNAL_IDS) {
		json_array_foreach(ids, i, member) {
			r = json_is_string(member) ? take_id(json_string_value(member), &entry->ids[i]) : -EINVAL;
			if (r < 0)
				return r;
			entry->id_count++;
		}
		return json_is_array(ids) ? 0 : -EINVAL;
	}
	json_object_foreach(ids, name, member) {
		r = take_removed(name, member, &entry->ids[entry->id_count++]);
		if (r < 0)
			return r;
	}
	return json_is_object(ids) ? 0 : -EINVAL;
}

static enum journal_op parse_op(const json_t *op)
{
	static const char *const names[] = {
		[JOURNAL_RENAME] = "rename", [JOURNAL_EXCHANGE] = "exchange", [JOURNAL_IDS] = "ids",
		[JOURNAL_REMOVE] = "remove", [JOURNAL_KEPT] = "kept",
	};

	if (!op)
		return JOURNAL_REST;
	for (enum journal_op i = JOURNAL_RENAME; json_is_string(op) && i <= JOURNAL_KEPT; i++)
		if (strcmp(json_string_value(op), names[i]) == 0)
			return i;
	return JOURNAL_UNKNOWN;
}

static int take_members(json_t *root, struct journal_entry *entry)
{
	const json_t *version = json_object_get(root, "v");
	int r = 0;

	if (!json_is_object(root) || !json_is_integer(version) || json_integer_value(version) != 1)
		return -EINVAL;
	entry->op = parse_op(json_object_get(root, "op"));
	switch (entry->op) {
	case JOURNAL_RENAME:
		r = take_string(root, "from", &entry->from);
		return r < 0 ? r : take_string(root, "to", &entry->to);
	case JOURNAL_EXCHANGE:
	case JOURNAL_KEPT:
		entry->ready = json_is_true(json_object_get(root, "ready"));
		r = take_string(root, "a", &entry->from);
		return r < 0 ? r : take_string(root, "b", &entry->to);
	case JOURNAL_IDS:
	case JOURNAL_REMOVE:
		return take_ids(root, entry);
	case JOURNAL_REST:
	case JOURNAL_UNKNOWN:
		break;
	}
	return 0;
}

static int decode(struct str value, struct journal_entry *entry)
{
	json_t *root = NULL;
	int r = buf_set(&entry->value, value);

	if (r < 0)
		return r;
	if (!json_nests_deeper(value, MAX_NESTING))
		root = json_loadb(value.p, value.len, JSON_ALLOW_NUL, NULL);
	r = take_members(root, entry);
	json_decref(root);
	if (r == -EINVAL)
		entry->op = JOURNAL_UNKNOWN;
	return r == -EINVAL ? 0 : r;
}

/* --- reading --- */

struct reading {
	size_t skip; /* of each key */
	struct journal_entry *list;
};

static int visit(void *arg, struct str key, struct str value)
{
	struct reading *reading = arg;
	struct str tail = str_skip(key, reading->skip), part;
	struct journal_entry *entry = reading->list ? reading->list->prev : NULL; /* the last */
	struct content_id id;
	int64_t created;

	if (tail.len < CONTENT_ID_LEN || !content_id_parse(str_of(tail.p, CONTENT_ID_LEN), &id, &created))
		return 0;
	if (!entry || strcmp(entry->name, id.hex) != 0) {
		entry = calloc(1, sizeof(*entry));
		if (!entry)
			return -ENOMEM;
		memcpy(entry->name, id.hex, sizeof(entry->name));
		entry->op = JOURNAL_REST;
		DL_APPEND(reading->list, entry);
	}
	if (tail.len == CONTENT_ID_LEN)
		return decode(value, entry);
	if (tail.p[CONTENT_ID_LEN] != '/')
		return 0;
	part = str_skip(tail, CONTENT_ID_LEN + 1);
	if (str_equal(part, STR("take")) && value.len)
		entry->taken = strtoll(value.p, NULL, 10);
	for (unsigned i = 0; i < JOURNAL_PARTS; i++) {
		if (!str_equal(part, str_c(part_names[i])))
			continue;
		entry->has[i] = true;
		return buf_set(&entry->parts[i], value);
	}
	return 0;
}

int journal_read(const struct journal *journal, struct journal_entry **list)
{
	CLEANUP(buf_free) struct buf prefix = BUF_INIT;
	struct reading reading = { 0 };
	int r = layout_key(&journal->layout, &prefix, "j/");

	reading.skip = prefix.len;
	if (r == 0)
		r = walk_all(&journal->layout, buf_str(&prefix), visit, &reading);
	if (r < 0) {
		journal_free(&reading.list);
		return r;
	}
	*list = reading.list;
	return 0;
}

/* --- watching --- */

struct journal_seen {
	UT_hash_handle hh;
	char name[CONTENT_ID_LEN + 1];
	struct buf value;
	int64_t taken;
	uint64_t since_us;
	bool present;
};

static void seen_free(struct journal_watch *watch, struct journal_seen *seen)
{
	HASH_DEL(watch->seen, seen);
	buf_free(&seen->value);
	free(seen);
}

void journal_watch_deinit(struct journal_watch *watch)
{
	struct journal_seen *seen, *next;

	HASH_ITER(hh, watch->seen, seen, next)
		seen_free(watch, seen);
}

static struct journal_seen *seen_find(struct journal_watch *watch, const struct journal_entry *entry)
{
	struct journal_seen *seen;

	HASH_FIND_STR(watch->seen, entry->name, seen);
	if (seen)
		return seen;
	seen = calloc(1, sizeof(*seen));
	if (!seen)
		return NULL;
	memcpy(seen->name, entry->name, sizeof(seen->name));
	HASH_ADD_STR(watch->seen, name, seen);
	if (seen->hh.tbl)
		return seen;
	free(seen);
	return NULL;
}

/* `asked` and `answered`: so that no quiet time is too long. */
static int compare(struct journal_watch *watch, struct journal_entry *entry, uint64_t asked, uint64_t answered)
{
	struct journal_seen *seen = seen_find(watch, entry);

	if (!seen)
		return -ENOMEM;
	seen->present = true;
	if (seen->since_us && seen->taken == entry->taken && str_equal(buf_str(&seen->value), buf_str(&entry->value))) {
		entry->quiet_us = asked - seen->since_us;
		return 0;
	}
	seen->taken = entry->taken;
	seen->since_us = answered;
	return buf_set(&seen->value, buf_str(&entry->value));
}

int journal_look(const struct journal *journal, struct journal_watch *watch, struct journal_entry **list)
{
	struct journal_entry *read = NULL, *entry;
	struct journal_seen *seen, *next;
	uint64_t asked = clock_now_us(), answered;
	int r = journal_read(journal, &read);

	if (r < 0)
		return r;
	answered = clock_now_us();
	HASH_ITER(hh, watch->seen, seen, next)
		seen->present = false;
	DL_FOREACH(read, entry)
		if (r == 0)
			r = compare(watch, entry, asked, answered);
	HASH_ITER(hh, watch->seen, seen, next)
		if (!seen->present)
			seen_free(watch, seen);
	if (r < 0) {
		journal_free(&read);
		return r;
	}
	*list = read;
	return 0;
}
