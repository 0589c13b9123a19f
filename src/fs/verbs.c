#include "fs/verbs.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "base/json_depth.h"
#include "fs/internal.h"

#define VERBS "user.hpkv."
#define KEY VERBS "key"
#define INCREMENT VERBS "incr"
#define PATCH VERBS "patch"

/* The parser goes down by recursion, on a coroutine's stack. */
#define MAX_NESTING 64

/* The longest decimal number of 64 bits. */
#define NUMBER_BYTES 20

bool verb_is(struct str name)
{
	return str_starts(name, STR(VERBS));
}

/* A whole number and nothing else. */
static bool parse_number(struct str text, int64_t *number)
{
	char copy[NUMBER_BYTES + 1] = "";
	char *end;
	long long parsed;

	if (text.len == 0 || text.len > NUMBER_BYTES || memchr(text.p, 0, text.len))
		return false;
	memcpy(copy, text.p, text.len);
	if (!strchr("-0123456789", copy[0]))
		return false;
	errno = 0;
	parsed = strtoll(copy, &end, 10);
	if (errno || *end || end == copy)
		return false;
	*number = parsed;
	return true;
}

static bool is_json_object(struct str text)
{
	json_error_t error;
	json_t *json = json_nests_deeper(text, MAX_NESTING) ? NULL : json_loadb(text.p, text.len, 0, &error);
	bool object = json_is_object(json);

	json_decref(json);
	return object;
}

static co_fn int get_number(struct node *node, struct buf *out)
{
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	int64_t number;
	int r = node->file ? content_read(node, NULL, 0, NUMBER_BYTES + 1, &text) : -ENODATA;

	if (r < 0)
		return r;
	return parse_number(buf_str(&text), &number) ? buf_set(out, buf_str(&text)) : -ENODATA;
}

int verb_get(struct node *node, struct str name, struct buf *out)
{
	if (str_equal(name, STR(KEY)))
		return node_keys(node, out, NULL);
	return str_equal(name, STR(INCREMENT)) ? get_number(node, out) : -ENODATA;
}

/* What came of it is as another client's change, so that the kernel drops what it holds. */
static int changed_to(struct node *node, struct str value)
{
	node->answer_seq = fs_tick(node->fs);
	return value_apply(node, value, node->answer_seq);
}

static co_fn int increment(struct node *node, struct str key, struct str value)
{
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	int64_t number, sum;
	int r = parse_number(value, &number) ? 0 : -EINVAL;

	if (r == 0)
		r = store_atomic(node->fs->store, key, number, &sum);
	if (r == 0)
		r = buf_printf(&text, "%lld", (long long)sum);
	return r < 0 ? r : changed_to(node, buf_str(&text));
}

static co_fn int patch(struct node *node, struct str key, struct str value)
{
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	struct store *store = node->fs->store;
	int r = is_json_object(value) ? store_get(store, key, &now) : -EINVAL;

	if (r == 0 && !is_json_object(buf_str(&now)))
		r = -EINVAL; /* the store would append */
	if (r == 0)
		r = store_merge(store, key, value);
	if (r == 0)
		r = store_get(store, key, &now);
	return r < 0 ? r : changed_to(node, buf_str(&now));
}

static co_fn int set_locked(struct node *node, struct str name, struct str value)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	int r = node_keys(node, &key, NULL);

	if (r == 0)
		r = str_equal(name, STR(INCREMENT)) ? increment(node, buf_str(&key), value)
						    : patch(node, buf_str(&key), value);
	if (r == -ECONNRESET || r == -ENOENT)
		r = -EIO;
	if (r < 0)
		node->checked_us = 0;
	return r;
}

int verb_set(struct node *node, struct str name, struct str value)
{
	struct fs *fs = node->fs;
	int r;

	if (!node->file || (!str_equal(name, STR(INCREMENT)) && !str_equal(name, STR(PATCH))))
		return -EPERM;
	r = file_commit(node);
	if (r < 0)
		return r;
	tree_shared(fs);
	node_lock(node);
	r = set_locked(node, name, value);
	node_unlock(node);
	tree_shared_end(fs);
	return r;
}
