#include "fs/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/walk.h"

#define FIRST_ENTRIES 256

/* Places in `bytes`, which moves while it grows. */
struct entry {
	size_t key, key_len, value_len; /* the value lies behind the key */
};

struct snapshot {
	struct store store;
	struct layout layout; /* the same store's, but with `store` */
	const struct layout *from;
	size_t most_keys, most_bytes;
	struct buf reserved;
	struct entry *entries; /* by key, once all is read */
	size_t count, room;
	struct buf bytes;
	struct co_group group;
	int records_err;
};

static struct str entry_key(const struct snapshot *snapshot, const struct entry *entry)
{
	return str_of(snapshot->bytes.p + entry->key, entry->key_len);
}

static struct str entry_value(const struct snapshot *snapshot, const struct entry *entry)
{
	return str_of(snapshot->bytes.p + entry->key + entry->key_len, entry->value_len);
}

/* --- reading --- */

static int add(struct snapshot *snapshot, struct str key, struct str value)
{
	struct entry entry = { .key = snapshot->bytes.len, .key_len = key.len, .value_len = value.len };
	struct entry *grown;
	int r;

	if (snapshot->count >= snapshot->most_keys || snapshot->bytes.len + key.len + value.len > snapshot->most_bytes)
		return -E2BIG;
	if (snapshot->count == snapshot->room) {
		size_t room = snapshot->room ? 2 * snapshot->room : FIRST_ENTRIES;

		grown = reallocarray(snapshot->entries, room, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		snapshot->entries = grown;
		snapshot->room = room;
	}
	r = buf_add_str(&snapshot->bytes, key);
	if (r == 0)
		r = buf_add_str(&snapshot->bytes, value);
	if (r == 0)
		snapshot->entries[snapshot->count++] = entry;
	return r;
}

static int visit_file(void *arg, struct str key, struct str value)
{
	struct snapshot *snapshot = arg;

	return str_starts(key, buf_str(&snapshot->reserved)) ? 0 : add(snapshot, key, value);
}

static int visit_record(void *arg, struct str key, struct str value)
{
	return add(arg, key, value);
}

static void walk_records(void *arg)
{
	CLEANUP(buf_free) struct buf prefix = BUF_INIT;
	struct snapshot *snapshot = arg;
	int r = layout_key(snapshot->from, &prefix, "m/");

	if (r == 0)
		r = walk_all(snapshot->from, buf_str(&prefix), visit_record, snapshot);
	snapshot->records_err = r;
	co_group_done(&snapshot->group);
}

static int compare_entries(const void *a, const void *b, void *arg)
{
	return str_compare(entry_key(arg, a), entry_key(arg, b));
}

static co_fn int read_all(struct snapshot *snapshot)
{
	int r = layout_key(snapshot->from, &snapshot->reserved, "%s", "");

	if (r < 0)
		return r;
	co_start_beside(snapshot->from->loop, &snapshot->group, walk_records, snapshot);
	r = walk_files(snapshot->from, visit_file, snapshot);
	co_group_wait(&snapshot->group);
	if (r == 0)
		r = snapshot->records_err;
	if (r == 0 && snapshot->count)
		qsort_r(snapshot->entries, snapshot->count, sizeof(*snapshot->entries), compare_entries, snapshot);
	return r;
}

/* --- answers --- */

struct answer {
	struct loop_task task;
	struct snapshot *snapshot;
	enum store_op op;
	struct buf key, end;
	unsigned limit;
	store_done *done;
	void *arg;
};

/* The first that is not below `key`. */
static size_t find(const struct snapshot *snapshot, struct str key)
{
	size_t low = 0, high = snapshot->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (str_compare(entry_key(snapshot, &snapshot->entries[middle]), key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void answer_get(const struct answer *answer)
{
	const struct snapshot *snapshot = answer->snapshot;
	size_t at = find(snapshot, buf_str(&answer->key));
	struct store_reply reply = { .err = -ENOENT };

	if (at < snapshot->count && str_equal(entry_key(snapshot, &snapshot->entries[at]), buf_str(&answer->key)))
		reply = (struct store_reply){ .value = entry_value(snapshot, &snapshot->entries[at]) };
	answer->done(answer->arg, &reply);
}

static void answer_range(const struct answer *answer)
{
	const struct snapshot *snapshot = answer->snapshot;
	size_t at = find(snapshot, buf_str(&answer->key));
	CLEANUP_FREE struct store_record *records = calloc(answer->limit, sizeof(*records));
	struct store_reply reply = { .records = records };

	for (; records && at < snapshot->count; at++) {
		const struct entry *entry = &snapshot->entries[at];

		if (str_compare(entry_key(snapshot, entry), buf_str(&answer->end)) > 0)
			break;
		reply.truncated = reply.count == answer->limit;
		if (reply.truncated)
			break;
		records[reply.count++] =
			(struct store_record){ entry_key(snapshot, entry), entry_value(snapshot, entry) };
	}
	if (!records)
		reply.err = -ENOMEM;
	answer->done(answer->arg, &reply);
}

static void answer_free(struct answer *answer)
{
	buf_free(&answer->key);
	buf_free(&answer->end);
	free(answer);
}

static void answer_task(struct loop_task *task)
{
	struct answer *answer = lws_container_of(task, struct answer, task);

	if (answer->op == STORE_GET)
		answer_get(answer);
	else
		answer_range(answer);
	answer_free(answer);
}

static int submit(struct store *store, const struct store_request *request, store_done *done, void *arg)
{
	struct snapshot *snapshot = lws_container_of(store, struct snapshot, store);
	struct answer *answer = calloc(1, sizeof(*answer));

	if (!answer)
		return -ENOMEM;
	answer->task.fn = answer_task;
	answer->snapshot = snapshot;
	answer->op = request->op;
	answer->limit = request->limit;
	answer->done = done;
	answer->arg = arg;
	if (buf_set(&answer->key, request->key) < 0 || buf_set(&answer->end, request->end) < 0) {
		answer_free(answer);
		return -ENOMEM;
	}
	loop_defer(snapshot->from->loop, &answer->task);
	return 0;
}

/* --- lifetime --- */

int snapshot_take(const struct layout *layout, size_t most_keys, size_t most_bytes, struct snapshot **out)
{
	static const struct store_ops ops = { .submit = submit };
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
	int r;

	if (!snapshot)
		return -ENOMEM;
	snapshot->from = layout;
	snapshot->most_keys = most_keys;
	snapshot->most_bytes = most_bytes;
	snapshot->store.ops = &ops;
	snapshot->layout = *layout;
	snapshot->layout.store = &snapshot->store;
	r = read_all(snapshot);
	if (r < 0)
		snapshot_free(snapshot);
	else
		*out = snapshot;
	return r;
}

const struct layout *snapshot_layout(const struct snapshot *snapshot)
{
	return &snapshot->layout;
}

void snapshot_free(struct snapshot *snapshot)
{
	if (!snapshot)
		return;
	buf_free(&snapshot->reserved);
	buf_free(&snapshot->bytes);
	free(snapshot->entries);
	free(snapshot);
}
