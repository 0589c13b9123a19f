#include "fs/held.h"

#include <errno.h>
#include <fcntl.h>

#include "base/log.h"
#include "fs/leftover.h"
#include "fs/move.h"
#include "fs/rename.h"

static void held_unref(struct held *held)
{
	if (--held->refs)
		return;
	buf_free(&held->name);
	buf_free(&held->value);
	buf_free(&held->replaced);
	buf_free(&held->replaced_record);
	free(held);
}

static void forget(struct held *held)
{
	struct fs *fs = held->node->fs;

	HASH_DEL(held->dir->dir->held, held);
	DL_DELETE(fs->held, held);
	fs->held_count--;
	fs->held_bytes -= held->value.len;
	held->node->file->held = NULL;
}

/* The caller has a reference of its own to the node. */
static void end(struct held *held)
{
	waiting_end(held->node);
	forget(held);
	node_unref(held->dir);
	node_unref(held->node);
	held_unref(held);
}

void held_free(struct fs *fs)
{
	struct held *held, *next;

	DL_FOREACH_SAFE(fs->held, held, next) {
		forget(held);
		held_unref(held);
	}
}

/* --- names --- */

static struct held *held_find(const struct node *dir, struct str name)
{
	struct held *held;

	HASH_FIND(hh, dir->dir->held, name.p, name.len, held);
	return held;
}

bool held_hides(const struct node *dir, struct str name, struct str value)
{
	const struct held *held = held_find(dir, name);

	return held && str_equal(buf_str(&held->value), value);
}

bool held_is_home(const struct node *node, const struct node *dir, struct str name)
{
	const struct held *held = node->file ? node->file->held : NULL;

	return held && held->dir == dir && str_equal(buf_str(&held->name), name) && !held->claims && !held->taken &&
	       !held->replaced.len;
}

static int note_replaced(const struct node *node, struct buf *replaced, struct str now, uint64_t seq)
{
	return node->lock.held || node->change_seq > seq ? 0 : buf_set(replaced, now);
}

int held_replaces(struct node *node, struct str value, uint64_t seq)
{
	return note_replaced(node, &node->file->held->replaced, value, seq);
}

int held_replaces_record(struct node *node, struct str record, uint64_t seq)
{
	return note_replaced(node, &node->file->held->replaced_record, record, seq);
}

void held_note_taken(const struct node *dir, struct str name)
{
	struct held *held = held_find(dir, name);

	if (held)
		held->taken = true;
}

bool held_wait(const struct node *dir, struct str name)
{
	struct held *held = held_find(dir, name);

	if (!held || !held->deleting)
		return false;
	held->refs++;
	queue_wait(&held->settled);
	held_unref(held);
	return true;
}

struct held *held_claim(const struct node *dir, struct str name)
{
	struct held *held;

	while (held_wait(dir, name))
		continue;
	held = held_find(dir, name);
	if (held) {
		held->refs++;
		held->claims++;
	}
	return held;
}

void held_unclaim(struct held *held)
{
	if (!held)
		return;
	held->claims--;
	held_unref(held);
}

int held_replace(struct node *node)
{
	const struct held *held = held_find(node->parent, buf_str(&node->name));

	return held ? value_apply(node, buf_str(&held->value), fs_tick(node->fs)) : 0;
}

bool held_keeps(const struct fs *fs, const struct content_id *id)
{
	const struct held *held;

	DL_FOREACH(fs->held, held)
		if (body_names_id(held->node->file->body, id))
			return true;
	return false;
}

/* --- the begin --- */

static bool is_written(const struct node *node)
{
	const struct fs_handle *handle;

	DL_FOREACH(node->fs->open, handle)
		if (handle->node == node && (handle->flags & O_ACCMODE) != O_RDONLY)
			return true;
	return false;
}

static bool has_room(const struct fs *fs, size_t bytes)
{
	return fs->held_count < HELD_MOST && fs->held_bytes + bytes <= HELD_MOST_BYTES;
}

bool held_suits(const struct node *node, const struct node *target, const struct node *new_parent, struct str new_name)
{
	const struct fs *fs = node->fs;
	const struct file *file = node->file;

	if (fs->ending || !fs->config.local_ttl_us || local_class(fs, new_name) != LOCAL_LATER)
		return false;
	if (target && (!target->file || target->file->dirty || target->file->opens || target->file->held))
		return false;
	return node->parent == new_parent && file->stored && !file->dirty && !file->held && !file->provisional &&
	       !is_written(node) && !names_is_value(buf_str(&node->name)) &&
	       !held_find(new_parent, buf_str(&node->name)) && !held_find(new_parent, new_name) &&
	       has_room(fs, file->value.len);
}

/* What it replaces here stays in the store until it is settled itself. */
static int take_target(struct held *held, struct node *target, struct str new_name)
{
	int r;

	if (!target) {
		held->record_unknown = !leftover_take(held->dir, new_name, &held->replaced_record) &&
				       leftover_may_be(held->dir, new_name);
		return 0;
	}
	held->record_unknown = !target->record_known;
	r = buf_set(&held->replaced, target->file->stored ? buf_str(&target->file->value) : STR(""));
	if (r == 0)
		r = buf_set(&held->replaced_record, buf_str(&target->record_value));
	return r;
}

static int make(struct node *node, struct node *target, struct str new_name, struct held **out)
{
	struct held *held = calloc(1, sizeof(*held));
	int r;

	if (!held)
		return -ENOMEM;
	held->refs = 1;
	held->dir = node->parent;
	held->node = node;
	r = buf_set(&held->name, buf_str(&node->name));
	if (r == 0)
		r = buf_set(&held->value, buf_str(&node->file->value));
	if (r == 0)
		r = take_target(held, target, new_name);
	if (r < 0) {
		held_unref(held);
		return r;
	}
	*out = held;
	return 0;
}

static int enter(struct held *held)
{
	struct fs *fs = held->node->fs;
	struct directory *dir = held->dir->dir;

	HASH_ADD_KEYPTR(hh, dir->held, held->name.p, held->name.len, held);
	if (!held->hh.tbl)
		return -ENOMEM;
	DL_APPEND(fs->held, held);
	fs->held_count++;
	fs->held_bytes += held->value.len;
	held->node->file->held = held;
	node_ref(held->dir);
	node_ref(held->node);
	return 0;
}

/* Its old row stays until the key is set or deleted: after a crash the file is found there. */
static void remember(struct node *node, struct str new_key)
{
	struct state *state = node->fs->config.state;

	if (state)
		state_put(state, new_key, node->file->hash, node->mtime_ns);
	node_keep_ino(node, new_key);
}

static int begin(struct node *node, struct node *target, struct str new_name, struct str new_key)
{
	struct node *dir = node->parent;
	struct held *held;
	int r = make(node, target, new_name, &held);

	if (r < 0)
		return r;
	r = enter(held);
	if (r < 0) {
		held_unref(held);
		return r;
	}
	if (node->record_value.len)
		leftover_add(dir, buf_str(&held->name), buf_str(&node->record_value));
	if (target) {
		attr_drop(target);
		value_keep(target);
		node_changed_here(target);
		node_detach(target);
	}
	value_keep(node);
	r = rename_place(node, dir, new_name, false);
	if (r < 0) {
		end(held);
		return r;
	}
	if (dir->dir->large)
		node_add_absent(dir, buf_str(&held->name), fs_tick(node->fs));
	remember(node, new_key);
	node_changed_here(node);
	waiting_due_in(node, node->fs->config.local_ttl_us);
	return 0;
}

int held_begin(struct node *node, struct node *target, struct node *new_parent, struct str new_name)
{
	CLEANUP(buf_free) struct buf new_key = BUF_INIT;
	CLEANUP(buf_free) struct buf new_record = BUF_INIT;
	int r = value_reload(node); /* what another has written by now is what is renamed */

	if (r == 0 && target && target->file->stored)
		r = value_load(target);
	if (r == 0)
		r = attr_after_value(node);
	if (r == 0)
		r = node_dir_keys(new_parent);
	if (r == 0)
		r = names_child(&node->fs->rules, buf_str(&new_parent->dir->key), buf_str(&new_parent->dir->record),
				new_name, false, &new_key, &new_record);
	if (r < 0)
		return r;
	if (node_child(new_parent, new_name) != target)
		return -EAGAIN;
	if (!held_suits(node, target, new_parent, new_name) || node->wait.members || !node->file->have_value ||
	    (target && target->file->stored && !target->file->have_value))
		return 1;
	return begin(node, target, new_name, buf_str(&new_key));
}

int held_take_back(struct node *node)
{
	CLEANUP(buf_free) struct buf leftover = BUF_INIT;
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf held_key = BUF_INIT;
	struct held *held = node->file->held;
	struct state *state = node->fs->config.state;
	int64_t mtime = node->mtime_ns;
	int r = node_keys(node, &held_key, NULL);

	if (r < 0)
		return r;
	held->refs++;
	leftover_take(held->dir, buf_str(&held->name), &leftover);
	if (held->replaced_record.len)
		leftover_add(held->dir, buf_str(&node->name), buf_str(&held->replaced_record));
	r = rename_place(node, held->dir, buf_str(&held->name), false);
	if (r == 0 && state)
		state_remove(state, buf_str(&held_key));
	if (r == 0 && node_keys(node, &key, NULL) == 0)
		node_keep_ino(node, buf_str(&key));
	end(held);
	node->file->stored = true;
	if (value_set_here(node, buf_str(&held->value)) < 0)
		value_drop(node);
	node->mtime_ns = mtime;
	value_remember_time(node);
	node_changed_here(node);
	node->checked_us = 0; /* nobody has asked for it since */
	held_unref(held);
	return r;
}

/* --- the end --- */

static int find_keys(struct held *held, struct file_move *move)
{
	struct fs *fs = held->node->fs;
	int r = node_dir_keys(held->dir);

	if (r == 0)
		r = names_child(&fs->existing, buf_str(&held->dir->dir->key), buf_str(&held->dir->dir->record),
				buf_str(&held->name), false, &move->key, &move->record);
	if (r == 0)
		r = node_keys(held->node, &move->new_key, &move->new_record);
	if (r == 0)
		r = buf_set(&move->value, buf_str(&held->value));
	return r;
}

static co_fn int set_record(struct held *held, struct file_move *move)
{
	int r = file_move_new_record(move, held->node->fs, held->replaced_record.len || held->record_unknown);

	if (r == 0)
		held->record_unknown = false;
	return r < 0 ? r : buf_set(&held->replaced_record, buf_str(&move->attributes));
}

static co_fn int set_new(struct held *held, struct file_move *move)
{
	struct fs *fs = held->node->fs;
	struct store_expect expect = { .what = STORE_EXPECT_ABSENT };
	int r = file_move_prepare_record(move, held->node);

	if (held->replaced.len)
		expect = store_expect_value(buf_str(&held->replaced));
	if (r == 0 && held->replaced.len)
		r = file_move_order(move, held->node, buf_str(&held->replaced_record));
	if (r == 0 && !move->record_last)
		r = set_record(held, move);
	if (r == 0)
		r = move_name_ids(&fs->layout, buf_str(&move->value), buf_str(&move->key), buf_str(&move->new_key));
	if (r == 0)
		r = store_set(fs->store, buf_str(&move->new_key), buf_str(&move->value), expect);
	if (r == 0 && move->record_last)
		r = set_record(held, move);
	if (r < 0)
		return r;
	if (!str_equal(buf_str(&held->replaced), buf_str(&held->value)))
		forget_ids(fs, NULL, buf_str(&held->replaced), buf_str(&move->new_key));
	return buf_set(&held->replaced, buf_str(&held->value)); /* from here on it stands there */
}

/* Not where a file was made or moved there: its commit replaces the value. Nor where another client has changed it. */
static co_fn int delete_old(struct held *held, struct file_move *move,
			    co_fn int (*delete_record)(struct file_move *move, struct node *node))
{
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	struct fs *fs = held->node->fs;
	struct store_expect expect = store_expect_value(buf_str(&held->value));
	int r;

	if (node_child(held->dir, buf_str(&held->name)) || held->claims)
		return 0;
	held->deleting = true;
	r = store_get(fs->store, buf_str(&move->key), &now);
	if (r == 0 && str_equal(buf_str(&now), buf_str(&held->value))) {
		r = store_delete(fs->store, buf_str(&move->key), expect);
		if ((r == 0 || r == -ENOENT) && held->node->record_value.len)
			r = delete_record(move, held->node);
		node_note_removed(held->dir, buf_str(&held->name));
		if ((r == 0 || r == -ENOENT) && fs->config.state)
			state_remove(fs->config.state, buf_str(&move->key));
	}
	held->deleting = false;
	co_queue_wake_all(&held->settled);
	return r == -ENOENT ? 0 : r;
}

int held_settle_locked(struct node *node)
{
	struct held *held = node->file->held;
	struct file_move move = { 0 };
	int r = find_keys(held, &move);

	held->refs++;
	if (r == 0)
		r = set_new(held, &move);
	if (r == 0)
		r = delete_old(held, &move, file_move_old_record);
	if (r == 0) {
		end(held);
		file_moved(&move, node);
	}
	held_unref(held);
	file_move_deinit(&move);
	return r;
}

int held_settle(struct node *node)
{
	return node->file && node->file->held ? file_commit(node) : 0;
}

static co_fn int settle(const struct held *held)
{
	CLEANUP_NODE struct node *node = held->node;

	node_ref(node);
	return file_commit(node);
}

int held_settle_name(const struct node *dir, struct str name)
{
	const struct held *held = held_find(dir, name);

	return held ? settle(held) : 0;
}

int held_settle_in(const struct node *dir)
{
	int r = 0;

	while (r == 0 && dir->dir->held)
		r = settle(dir->dir->held);
	return r;
}

static bool is_in(const struct node *dir, const struct node *node)
{
	for (; dir; dir = dir->parent)
		if (dir == node)
			return true;
	return false;
}

static struct held *find_below(const struct fs *fs, const struct node *node, const struct node *new_parent,
			       struct str new_name)
{
	struct held *held;

	DL_FOREACH(fs->held, held)
		if (is_in(held->dir, node) || (held->dir == new_parent && str_equal(buf_str(&held->name), new_name)))
			return held;
	return NULL;
}

bool held_is_below(const struct fs *fs, const struct node *node, const struct node *new_parent, struct str new_name)
{
	return find_below(fs, node, new_parent, new_name) != NULL;
}

int held_settle_below(const struct node *node, const struct node *new_parent, struct str new_name)
{
	const struct held *held;
	int r = 0;

	while (r == 0 && (held = find_below(node->fs, node, new_parent, new_name)))
		r = settle(held);
	return r;
}

/* What it says by now goes to no other name. */
static co_fn int remove_record(struct file_move *move, struct node *node)
{
	int r = attr_remove(node, buf_str(&move->record));

	return r == -ENOENT ? 0 : r;
}

int held_unlink(struct node *node)
{
	struct held *held = node->file->held;
	struct fs *fs = node->fs;
	struct store_expect expect = store_expect_value(buf_str(&held->replaced));
	struct file_move move = { 0 };
	int r = find_keys(held, &move);

	held->refs++;
	if (r == 0 && held->replaced.len)
		r = store_delete(fs->store, buf_str(&move.new_key), expect);
	if ((r == 0 || r == -ENOENT) && (held->replaced_record.len || held->record_unknown))
		r = store_delete(fs->store, buf_str(&move.new_record),
				 (struct store_expect){ .what = STORE_EXPECT_UNKNOWN });
	if (r == 0 || r == -ENOENT)
		r = delete_old(held, &move, remove_record);
	if (r == 0) {
		end(held);
		forget_ids(fs, NULL, buf_str(&held->value), buf_str(&move.key));
		if (!str_equal(buf_str(&held->replaced), buf_str(&held->value)))
			forget_ids(fs, NULL, buf_str(&held->replaced), buf_str(&move.new_key));
		buf_clear(&node->record_value); /* it was that of the old key */
	}
	held_unref(held);
	file_move_deinit(&move);
	return r;
}
