/* The store's content of a file, in memory: applied from answers, fetched when it is wanted, dropped when it has
 * not been used for long. */
#include <errno.h>

#include "base/clock.h"
#include "fs/internal.h"

static size_t value_memory(const struct file *file)
{
	return file->value.len + (file->body ? file->body->memory : 0);
}

static void lru_remove(struct node *node)
{
	struct fs *fs = node->fs;
	struct file *file = node->file;

	if (!file->in_lru)
		return;
	DL_DELETE2(fs->lru, node, file->lru_prev, file->lru_next);
	file->in_lru = false;
	fs->value_bytes -= value_memory(file);
}

static void lru_add(struct node *node)
{
	struct fs *fs = node->fs;
	struct file *file = node->file;

	lru_remove(node);
	if (file->pinned)
		return;
	DL_APPEND2(fs->lru, node, file->lru_prev, file->lru_next);
	file->in_lru = true;
	fs->value_bytes += value_memory(file);
	cache_trim(fs, node);
}

/* Chunks first: a large file that is read once would drive all values out. */
void cache_trim(struct fs *fs, const struct node *node)
{
	chunks_trim(fs);
	while (fs->value_bytes > fs->config.cache_size && fs->lru && fs->lru != node)
		value_drop(fs->lru);
}

void value_drop(struct node *node)
{
	struct file *file = node->file;

	lru_remove(node);
	file->have_value = false;
	buf_free(&file->value);
	body_unref(STEAL(file->body));
}

void value_keep(struct node *node)
{
	lru_remove(node);
	node->file->stored = false;
}

void value_pin(struct node *node)
{
	if (!node || !node->file)
		return;
	lru_remove(node);
	node->file->pinned = true;
}

void value_unpin(struct node *node)
{
	if (!node || !node->file)
		return;
	node->file->pinned = false;
	if (node->file->have_value && node->file->stored)
		lru_add(node);
}

/* Reads the value into size, stub, body. */
static int decode(struct file *file)
{
	struct body *body = NULL;
	int r = 0;

	if (str_starts(buf_str(&file->value), STR(CONTENT_MAGIC)))
		r = body_new(buf_str(&file->value), &body);
	if (r < 0)
		return r;
	body_unref(STEAL(file->body));
	file->stub = body && body->stub;
	if (file->stub)
		file->body = body;
	else
		body_unref(body);
	file->size = file->stub ? file->body->size : file->value.len;
	return 0;
}

void value_remember_time(struct node *node)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	struct state *state = node->fs->config.state;

	if (state && node->file->stored && node_keys(node, &key, NULL) == 0)
		state_put(state, buf_str(&key), node->file->hash, node->mtime_ns);
}

/* `now`, or the begin of the next second after `before`: programs that compare whole seconds (rsync, make) would miss a
 * change in the same one. */
static int64_t later(int64_t before, int64_t now)
{
	int64_t next;

	if (before == INT64_MIN || before > INT64_MAX - 2 * CLOCK_NS_PER_S)
		return now;
	next = before - before % CLOCK_NS_PER_S + (before % CLOCK_NS_PER_S < 0 ? 0 : CLOCK_NS_PER_S);
	return now > next ? now : next;
}

/* A value seen for the first time has the time that this machine remembers for it, else now; one that changed
 * elsewhere a time strictly later than before. */
static void date(struct node *node, bool first)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	struct state *state = node->fs->config.state;
	struct state_row row = { 0 };
	int64_t now = push_now_ns(node->fs), before = first ? INT64_MIN : node->mtime_ns;

	node->ctime_ns = now;
	if (state && node_keys(node, &key, NULL) == 0 &&
	    state_find(state, buf_str(&key), node->file->hash, &node->mtime_ns)) {
		if (first)
			node->ctime_ns = node->mtime_ns;
		return;
	}
	if (first && state && state_get(state, buf_str(&key), &row) && row.has_mtime)
		before = row.mtime_ns;
	node->mtime_ns = later(before, now);
	value_remember_time(node);
}

static int take(struct node *node, struct str value, char hash[CONTENT_HASH_LEN + 1])
{
	struct file *file = node->file;
	int r = content_hash(value, hash);

	if (r < 0)
		return r;
	lru_remove(node);
	r = buf_set(&file->value, value);
	if (r == 0)
		r = decode(file);
	if (r < 0) {
		value_drop(node);
		return r;
	}
	chunk_users_set(node);
	file->have_value = true;
	file->stored = true;
	file->damaged = file->provisional = false;
	lru_add(node);
	return 0;
}

static bool is_same_part(const struct body_part *a, const struct body_part *b)
{
	return b->chunked && memcmp(a->id.hex, b->id.hex, CONTENT_ID_LEN) == 0 && a->size == b->size &&
	       a->chunk_size == b->chunk_size && a->hole_count == b->hole_count &&
	       (!a->hole_count || memcmp(a->holes, b->holes, a->hole_count * sizeof(*a->holes)) == 0);
}

/* Of `body`, what is not the same in `other` (either may be NULL). Another mount has made such a part longer, shorter, or less
 * of a hole, and may have changed any of its chunks; or it was not looked after while another value stood there. */
static void drop_other_parts(struct fs *fs, const struct body *body, const struct body *other)
{
	for (unsigned i = 0; body && i < body->part_count; i++) {
		const struct body_part *part = &body->parts[i];
		bool stays = !part->chunked;

		for (unsigned k = 0; !stays && other && k < other->part_count; k++)
			stays = is_same_part(part, &other->parts[k]);
		if (!stays)
			chunk_drop_all(fs, &part->id);
	}
}

static bool has_chunks(const struct body *body)
{
	for (unsigned i = 0; i < body->part_count; i++)
		if (body->parts[i].chunked)
			return true;
	return false;
}

void value_doubt_chunks(struct node *node)
{
	struct file *file = node->file;

	if (!file->stub || (file->body && !has_chunks(file->body)))
		return;
	drop_other_parts(node->fs, file->body, NULL);
	file->version++;
	node_invalidate(node);
}

void value_doubt_for(struct node *node, uint64_t us)
{
	uint64_t until = clock_now_us() + us;

	if (node->file->doubt_us < until)
		node->file->doubt_us = until;
}

static void doubt_as_due(struct node *node)
{
	struct file *file = node->file;

	if (!file->doubt_us)
		return;
	if (clock_now_us() >= file->doubt_us)
		file->doubt_us = 0;
	value_doubt_chunks(node);
}

int value_apply(struct node *node, struct str value, uint64_t seq)
{
	struct file *file = node->file;
	char hash[CONTENT_HASH_LEN + 1];
	bool first = !file->hash[0];
	struct body *former;
	int r;

	if (node->change_seq > seq || node->answer_seq > seq)
		return 0;
	node->answer_seq = seq;
	node_checked(node, seq);
	doubt_as_due(node);
	if (file->have_value && file->stored && str_equal(buf_str(&file->value), value)) {
		file->provisional = false;
		return 0;
	}
	former = file->body ? body_ref(file->body) : NULL;
	r = take(node, value, hash);
	if (r == 0) {
		drop_other_parts(node->fs, former, file->body);
		drop_other_parts(node->fs, file->body, former);
	}
	body_unref(former);
	if (r < 0)
		return r;
	if (strcmp(hash, file->hash) == 0)
		return 0;
	memcpy(file->hash, hash, sizeof(hash));
	file->version++;
	file->own_id = false;
	file->alone_us = 0;
	if (file->dirty) {
		file->stored_mtime_ns = clock_real_ns();
		return 0; /* the programs here see their own content, and its time */
	}
	date(node, first);
	if (first && node->record_value.len)
		node_apply_attributes(node);
	if (!first) {
		attr_foreign_value(node);
		node_invalidate(node);
	}
	return 0;
}

void value_apply_absence(struct node *node, uint64_t seq)
{
	if (node->change_seq > seq || node->answer_seq > seq)
		return;
	node->answer_seq = seq;
	node->file->stored = false;
}

int value_set_here(struct node *node, struct str value)
{
	struct file *file = node->file;
	bool kernel_has_it = file->kernel_version == file->version;
	int r = take(node, value, file->hash);

	if (r < 0)
		return r;
	file->version++;
	if (kernel_has_it)
		file->kernel_version = file->version;
	node_stored_here(node);
	value_remember_time(node);
	return 0;
}

void value_touch_here(struct node *node)
{
	struct file *file = node->file;
	bool kernel_has_it = file->kernel_version == file->version;

	file->version++;
	if (kernel_has_it)
		file->kernel_version = file->version;
	node->change_seq = fs_tick(node->fs);
	value_remember_time(node);
}

int value_reload(struct node *node)
{
	value_drop(node);
	return value_load(node);
}

int value_load(struct node *node)
{
	struct fs *fs = node->fs;
	struct file *file = node->file;

	fs_count(fs, FS_CONTENT, file->have_value);
	while (!file->have_value) {
		CLEANUP(buf_free) struct buf key = BUF_INIT;
		CLEANUP(buf_free) struct buf value = BUF_INIT;
		uint64_t seq, generation;
		int r;

		if (file->loading) {
			queue_wait(&file->loaded);
			continue;
		}
		r = node_keys(node, &key, NULL);
		if (r < 0)
			return r;
		seq = fs_tick(fs);
		generation = fs->tree_generation;
		file->loading = true;
		r = store_get(fs->store, buf_str(&key), &value);
		file->loading = false;
		co_queue_wake_all(&file->loaded);
		if (r == 0)
			r = value_apply(node, buf_str(&value), seq);
		if (r == -ENOENT)
			tree_settle(fs);
		if (r == -ENOENT && (node->change_seq > seq || fs->tree_generation != generation))
			continue; /* it was moved or written meanwhile */
		if (r == -ENOENT)
			return -ESTALE;
		if (r < 0)
			return r;
	}
	lru_add(node);
	return 0;
}

struct store_expect value_expect(const struct node *node)
{
	const struct file *file = node->file;

	if (!file->stored)
		return (struct store_expect){ .what = STORE_EXPECT_ABSENT };
	if (!file->have_value)
		return (struct store_expect){ .what = STORE_EXPECT_UNKNOWN };
	return store_expect_value(buf_str(&file->value));
}
