/* Renaming. The store has no rename: the new key is set, then the old one deleted, so that nobody ever finds the
 * content under neither name. What another client wrote to the old key meanwhile is taken along. */
#include <errno.h>
#include <linux/fs.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/listing.h"
#include "fs/special.h"

/* How often a value that others change under a rename is taken along. */
#define RENAME_FOLLOWS 8

/* Requests under way at once while a directory moves. */
#define MOVE_WINDOW 16

static struct store_expect expect_value(struct str value)
{
	return (struct store_expect){ .what = STORE_EXPECT_VALUE, .value = value };
}

/* Deletes `from`, whose value has been set at `to` as `*copied`; follows what changed since. */
static co_fn int delete_followed(struct store *store, struct str from, struct str to, struct buf *copied)
{
	CLEANUP(buf_free) struct buf now = BUF_INIT;

	for (int i = 0; i < RENAME_FOLLOWS; i++) {
		int r = store_get(store, from, &now);

		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return r;
		if (str_equal(buf_str(&now), buf_str(copied))) {
			r = store_delete(store, from, expect_value(buf_str(copied)));
			return r == -ENOENT ? 0 : r;
		}
		r = store_set(store, to, buf_str(&now), expect_value(buf_str(copied)));
		if (r == 0)
			r = buf_set(copied, buf_str(&now));
		if (r < 0)
			return r;
	}
	return -EBUSY;
}

/* --- a file --- */

struct move {
	struct buf key, record, new_key, new_record;
	struct buf value;      /* as it will stand at the new key */
	struct buf old;        /* as it stands at the old one */
	struct buf attributes; /* the record as it will stand; empty: none */
	uint64_t attr_changes;
	uint64_t data_seq;
	size_t length; /* of the data */
	bool dirty;
};

static void move_deinit(struct move *move)
{
	buf_free(&move->key);
	buf_free(&move->record);
	buf_free(&move->new_key);
	buf_free(&move->new_record);
	buf_free(&move->value);
	buf_free(&move->old);
	buf_free(&move->attributes);
}

static int prepare_record(struct move *move, struct node *node)
{
	char hash[CONTENT_HASH_LEN + 1];
	int r = content_hash(buf_str(&move->value), hash);

	if (r == 0 && move->dirty && node->record_has & RECORD_HASH)
		node->wait.bind = true;
	if (r == 0)
		r = attr_record_value(node, hash, &move->attributes);
	move->attr_changes = node->wait.changes;
	if (r == 0 && move->attributes.len > node->fs->config.max_value)
		r = -ENOSPC;
	return r;
}

static co_fn int move_prepare(struct move *move, struct node *node, struct node *new_parent, struct str new_name)
{
	struct fs *fs = node->fs;
	struct file *file = node->file;
	int r = 0;

	if (!file->dirty || file->stored)
		r = value_load(node);
	if (r == 0)
		r = node_keys(node, &move->key, &move->record);
	if (r == 0)
		r = node_dir_keys(new_parent);
	if (r == 0)
		r = names_child(&fs->rules, buf_str(&new_parent->dir->key), buf_str(&new_parent->dir->record), new_name,
				false, &move->new_key, &move->new_record);
	if (r == 0)
		r = buf_set(&move->old, buf_str(&file->value));
	if (r < 0)
		return r;
	move->dirty = file->dirty;
	move->data_seq = file->data_seq;
	move->length = file->data.len;
	if (file->dirty)
		r = content_encode(buf_str(&file->data), fs->config.max_value, &move->value);
	else
		r = buf_set(&move->value, buf_str(&file->value));
	return r < 0 ? r : prepare_record(move, node);
}

/* Attributes go before the value, so that nothing is readable at the new name that was not at the old. */
static co_fn int move_record(struct move *move, struct node *node, const struct node *target)
{
	struct fs *fs = node->fs;
	struct store_expect unknown = { .what = STORE_EXPECT_UNKNOWN };
	int r = 0;

	if (move->attributes.len)
		r = layout_ensure(fs);
	if (move->attributes.len && r == 0)
		r = store_set(fs->store, buf_str(&move->new_record), buf_str(&move->attributes), unknown);
	else if (target && target->record_value.len)
		r = store_delete(fs->store, buf_str(&move->new_record), unknown);
	return r == -ENOENT ? 0 : r;
}

static co_fn int move_in_store(struct move *move, struct node *node, struct node *target)
{
	CLEANUP(buf_free) struct buf before = BUF_INIT;
	struct fs *fs = node->fs;
	struct store_expect expect = { .what = STORE_EXPECT_ABSENT };
	int r = move_record(move, node, target);

	if (target && target->file)
		expect = value_expect(target);
	if (r == 0)
		r = buf_set(&before, expect.value);
	if (r < 0)
		return r;
	expect.value = buf_str(&before);
	r = store_set(fs->store, buf_str(&move->new_key), buf_str(&move->value), expect);
	if (r < 0)
		return r;
	if (node->file->stored) {
		if (move->dirty)
			r = store_delete(fs->store, buf_str(&move->key), expect_value(buf_str(&move->old)));
		else
			r = delete_followed(fs->store, buf_str(&move->key), buf_str(&move->new_key), &move->value);
	}
	if ((r == 0 || r == -ENOENT) && node->record_value.len)
		r = store_delete(fs->store, buf_str(&move->record),
				 (struct store_expect){ .what = STORE_EXPECT_UNKNOWN });
	return r == -ENOENT ? 0 : r;
}

/* What a listing has found at the new name meanwhile is what was put there, and the node that was moved takes its place;
 * that of a file may have become a directory, in which the value is shown. */
static struct node *make_room(struct node *parent, struct str *name, bool for_dir)
{
	struct node *there = node_child(parent, *name);

	if (there && there->dir && !for_dir) {
		parent = there;
		*name = STR(NAMES_VALUE);
		there = node_child(parent, *name);
	}
	if (there)
		node_detach(there);
	return parent;
}

static int move_here(struct move *move, struct node *node, struct node *target, struct node *new_parent,
		     struct str new_name)
{
	struct fs *fs = node->fs;
	struct node *old_parent = node->parent, *place;
	int64_t mtime = node->mtime_ns;
	int r;

	if (fs->config.state)
		state_rename(fs->config.state, buf_str(&move->key), buf_str(&move->new_key));
	if (target) {
		attr_drop(target);
		if (target->file)
			value_keep(target);
		node_changed_here(target);
		node_detach(target);
	}
	node_detach(node);
	place = make_room(new_parent, &new_name, false);
	r = node_attach(place, node, new_name);
	node_touch_dir(old_parent);
	node_touch_dir(new_parent);
	if (r < 0)
		return r; /* the next listing finds it again */
	node_keep_ino(node, buf_str(&move->new_key));
	node->file->stored = true;
	node->wait.bind |= move->dirty;
	if (move->dirty)
		file_committed(node, buf_str(&move->value), move->data_seq, move->length, false);
	else if (value_set_here(node, buf_str(&move->value)) < 0)
		value_drop(node);
	node->mtime_ns = mtime;
	attr_stored(node, buf_str(&move->attributes), move->attr_changes);
	node->wait.bind = false;
	node_apply_attributes(node);
	value_remember_time(node);
	return 0;
}

int rename_file(struct node *node, struct node *target, struct node *new_parent, struct str new_name)
{
	struct move move = { 0 };
	int r = move_prepare(&move, node, new_parent, new_name);

	if (r == 0)
		r = move_in_store(&move, node, target);
	if (r == 0)
		r = move_here(&move, node, target, new_parent, new_name);
	else if (target)
		target->checked_us = 0; /* what is there now is to be asked */
	if (r < 0)
		new_parent->dir->complete = false;
	move_deinit(&move);
	return r;
}

/* --- a directory --- */

struct moved_key {
	UT_hash_handle hh;
	char hash[CONTENT_HASH_LEN + 1]; /* of the value that was set at the new key */
	size_t len;
	char key[];
};

/* One of the two walks over the keys of a directory: the first sets the new ones, the second deletes the old. */
struct dir_move {
	struct fs *fs;
	struct str from, to; /* prefixes */
	bool deleting;
	struct moved_key *moved;
	unsigned under_way;
	struct co_queue changed; /* under_way fell */
	int err;                 /* the first */
};

struct key_move {
	struct dir_move *move;
	struct buf key, new_key, value;
	bool copied; /* this very value stands at the new key already */
};

static co_fn int key_move_do(struct key_move *one)
{
	struct store *store = one->move->fs->store;
	struct store_expect unknown = { .what = STORE_EXPECT_UNKNOWN };
	int r = 0;

	if (!one->copied)
		r = store_set(store, buf_str(&one->new_key), buf_str(&one->value), unknown);
	if (r == 0 && one->move->deleting)
		r = delete_followed(store, buf_str(&one->key), buf_str(&one->new_key), &one->value);
	return r;
}

static void key_move_free(struct key_move *one)
{
	buf_free(&one->key);
	buf_free(&one->new_key);
	buf_free(&one->value);
	free(one);
}

static void key_move_run(void *arg)
{
	struct key_move *one = arg;
	struct dir_move *move = one->move;
	int r = key_move_do(one);

	if (r < 0 && move->err == 0)
		move->err = r;
	key_move_free(one);
	move->under_way--;
	co_queue_wake_all(&move->changed);
}

static int remember_moved(struct dir_move *move, struct str key, const char *hash)
{
	struct moved_key *moved;

	HASH_FIND(hh, move->moved, key.p, key.len, moved);
	if (!moved) {
		moved = calloc(1, sizeof(*moved) + key.len);
		if (!moved)
			return -ENOMEM;
		moved->len = key.len;
		memcpy(moved->key, key.p, key.len);
		HASH_ADD_KEYPTR(hh, move->moved, moved->key, moved->len, moved);
		if (!moved->hh.tbl) {
			free(moved);
			return -ENOMEM;
		}
	}
	memcpy(moved->hash, hash, sizeof(moved->hash));
	return 0;
}

static int new_key_of(const struct dir_move *move, struct str key, struct buf *out)
{
	int r = buf_set(out, move->to);

	if (r == 0)
		r = buf_add_str(out, str_skip(key, move->from.len));
	if (r == 0 && out->len > move->fs->config.max_key)
		r = -ENAMETOOLONG;
	return r;
}

static int key_move_new(struct dir_move *move, struct str key, struct str value, struct key_move **out)
{
	struct key_move *one = calloc(1, sizeof(*one));
	struct moved_key *moved;
	char hash[CONTENT_HASH_LEN + 1];
	int r = one ? content_hash(value, hash) : -ENOMEM;

	if (r < 0)
		goto fail;
	one->move = move;
	HASH_FIND(hh, move->moved, key.p, key.len, moved);
	one->copied = moved && strcmp(moved->hash, hash) == 0;
	r = new_key_of(move, key, &one->new_key);
	if (r == 0)
		r = buf_set(&one->key, key);
	if (r == 0)
		r = buf_set(&one->value, value);
	if (r == 0 && !move->deleting)
		r = remember_moved(move, key, hash);
	if (r == 0) {
		*out = one;
		return 0;
	}
fail:
	if (one)
		key_move_free(one);
	return r;
}

static co_fn int visit_moving(void *arg, struct str key, struct str value)
{
	struct dir_move *move = arg;
	struct key_move *one = NULL;
	int r;

	while (move->under_way >= MOVE_WINDOW)
		queue_wait(&move->changed);
	if (move->err)
		return move->err;
	r = key_move_new(move, key, value, &one);
	if (r < 0)
		return r;
	move->under_way++;
	if (co_start(move->fs->loop, key_move_run, one) < 0)
		key_move_run(one);
	return 0;
}

/* Lengths are checked before the first write. */
static int visit_length(void *arg, struct str key, struct str value)
{
	CLEANUP(buf_free) struct buf new_key = BUF_INIT;

	(void)value;
	return new_key_of(arg, key, &new_key);
}

static co_fn int move_range(struct dir_move *move, walk_visit *visit)
{
	bool whole;
	int r = walk_range(&move->fs->layout, move->from, true, false, visit, move, &whole);

	while (move->under_way)
		queue_wait(&move->changed);
	return r < 0 ? r : move->err;
}

static void moved_free(struct dir_move *move)
{
	struct moved_key *moved, *next;

	HASH_ITER(hh, move->moved, moved, next) {
		HASH_DEL(move->moved, moved);
		free(moved);
	}
}

/* The key of the directory's own name, `a` beside `a/b`. */
static co_fn int move_own_value(struct fs *fs, struct str from, struct str to)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	struct str key = { from.p, from.len - 1 }, new_key = { to.p, to.len - 1 };
	int r;

	if (key.len <= fs->rules.prefix.len || new_key.len <= fs->rules.prefix.len)
		return 0;
	r = store_get(fs->store, key, &value);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = store_set(fs->store, new_key, buf_str(&value), (struct store_expect){ .what = STORE_EXPECT_UNKNOWN });
	return r < 0 ? r : delete_followed(fs->store, key, new_key, &value);
}

static co_fn int move_keys(struct fs *fs, struct str key, struct str record, struct str new_key, struct str new_record)
{
	struct dir_move values = { .fs = fs, .from = key, .to = new_key };
	struct dir_move records = { .fs = fs, .from = record, .to = new_record };
	int r = move_range(&values, visit_length);

	if (r == 0)
		r = move_range(&records, visit_length);
	if (r == 0)
		r = move_range(&records, visit_moving);
	if (r == 0)
		r = move_range(&values, visit_moving);
	values.deleting = records.deleting = true;
	if (r == 0)
		r = move_own_value(fs, key, new_key);
	if (r == 0)
		r = move_range(&values, visit_moving);
	if (r == 0)
		r = move_range(&records, visit_moving);
	moved_free(&values);
	moved_free(&records);
	return r;
}

/* What was known of it is to be asked for again. */
static void doubt_below(struct node *node)
{
	struct node *child, *next;

	node->checked_us = 0;
	node_invalidate(node);
	if (!node->dir)
		return;
	node->dir->complete = false;
	HASH_ITER(by_name, node->dir->children, child, next)
		doubt_below(child);
}

int rename_directory(struct node *node, struct node *new_parent, struct str new_name)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf record = BUF_INIT;
	CLEANUP(buf_free) struct buf new_key = BUF_INIT;
	CLEANUP(buf_free) struct buf new_record = BUF_INIT;
	struct fs *fs = node->fs;
	struct node *old_parent = node->parent;
	int r = node_keys(node, &key, &record);

	if (r == 0)
		r = node_dir_keys(new_parent);
	if (r == 0)
		r = names_child(&fs->rules, buf_str(&new_parent->dir->key), buf_str(&new_parent->dir->record), new_name,
				true, &new_key, &new_record);
	if (r == 0)
		r = move_keys(fs, buf_str(&key), buf_str(&record), buf_str(&new_key), buf_str(&new_record));
	if (r < 0) {
		if (r != -ENAMETOOLONG) /* found before the first write */
			log_error(
				"renaming a directory stopped half-way: %s; what is missing at one name is at the other",
				strerror(-r));
		old_parent->dir->complete = new_parent->dir->complete = false;
		doubt_below(node);
		return r;
	}
	if (fs->config.state)
		state_rename_prefix(fs->config.state, buf_str(&key), buf_str(&new_key));
	node_detach(node);
	r = node_attach(make_room(new_parent, &new_name, true), node, new_name);
	fs->tree_generation++;
	if (r == 0)
		node_keep_ino(node, buf_str(&new_key));
	node_changed_here(node);
	node_touch_dir(old_parent);
	node_touch_dir(new_parent);
	return r;
}

/* --- both --- */

static co_fn int rename_dir_locked(struct node *node, struct node *target, struct node *new_parent, struct str new_name)
{
	int r = 0;

	for (const struct node *up = new_parent; up; up = up->parent)
		if (up == node)
			return -EINVAL;
	if (target)
		r = target->dir ? remove_directory(target) : -ENOTDIR;
	return r < 0 ? r : rename_directory(node, new_parent, new_name);
}

static co_fn int rename_file_locked(struct node *dir, struct str name, struct node *node, struct node *new_dir,
				    struct str new_name, struct node *target)
{
	struct node *first = node, *second = target;
	int r;

	if (target && target->id < node->id) {
		first = target;
		second = node;
	}
	node_lock(first);
	if (second)
		node_lock(second);
	if (node_child(dir, name) != node || node_child(new_dir, new_name) != target)
		r = -EAGAIN; /* others were faster */
	else
		r = node->special ? special_rename(node, target, new_dir, new_name)
				  : rename_file(node, target, new_dir, new_name);
	if (second)
		node_unlock(second);
	node_unlock(first);
	return r;
}

static co_fn int rename_once(struct node *dir, struct str name, struct node *new_dir, struct str new_name,
			     unsigned flags)
{
	CLEANUP_NODE struct node *node = NULL;
	CLEANUP_NODE struct node *target = NULL;
	struct fs *fs = dir->fs;
	int r = lookup_child(dir, name, &node);

	if (r == 0)
		r = name_may_be_made(new_dir, new_name, node->dir != NULL);
	if (r < 0)
		return r;
	r = lookup_child(new_dir, new_name, &target);
	if (r < 0 && r != -ENOENT)
		return r;
	if (target && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (target == node)
		return 0;
	if (!node->dir && target && target->dir)
		return -EISDIR;
	if (target && target->file) {
		r = load_while_stored(target);
		if (r < 0)
			return r;
	}
	if (node->dir) {
		tree_exclusive(fs);
		if (node_child(dir, name) != node || node_child(new_dir, new_name) != target)
			r = -EAGAIN;
		else
			r = rename_dir_locked(node, target, new_dir, new_name);
		tree_exclusive_end(fs);
	} else {
		tree_shared(fs);
		r = rename_file_locked(dir, name, node, new_dir, new_name, target);
		tree_shared_end(fs);
	}
	return r;
}

int fs_rename(struct fs *fs, uint64_t parent, struct str name, uint64_t new_parent, struct str new_name, unsigned flags)
{
	CLEANUP_NODE struct node *dir = NULL;
	CLEANUP_NODE struct node *new_dir = NULL;
	CLEANUP(buf_free) struct buf copy = BUF_INIT;
	CLEANUP(buf_free) struct buf new_copy = BUF_INIT;
	int r = dir_get(fs, parent, &dir);

	if (r == 0)
		r = dir_get(fs, new_parent, &new_dir);
	if (r < 0)
		return r;
	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return -EINVAL;
	r = buf_set(&copy, name);
	if (r == 0)
		r = buf_set(&new_copy, new_name);
	if (r < 0)
		return r;
	do
		r = rename_once(dir, buf_str(&copy), new_dir, buf_str(&new_copy), flags);
	while (r == -EAGAIN);
	return r;
}
