/* Renaming. The store has no rename: the new key is set, then the old one deleted, so that nobody ever finds the
 * content under neither name. What another client wrote to the old key meanwhile is taken along. */
#include <errno.h>
#include <linux/fs.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/leftover.h"
#include "fs/listing.h"
#include "fs/move.h"
#include "fs/special.h"

static struct store_expect expect_value(struct str value)
{
	return (struct store_expect){ .what = STORE_EXPECT_VALUE, .value = value };
}

/* --- a file --- */

struct move {
	struct buf key, record, new_key, new_record;
	struct buf value;      /* as it will stand at the new key */
	struct buf old;        /* as it stands at the old one */
	struct buf attributes; /* the record as it will stand; empty: none */
	uint64_t attr_changes;
	struct commit commit; /* where it is dirty */
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
	commit_deinit(&move->commit);
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

static co_fn int move_prepare(struct move *move, struct node *node, struct node *target, struct node *new_parent,
			      struct str new_name)
{
	struct fs *fs = node->fs;
	struct file *file = node->file;
	int r = 0;

	if (!file->dirty || file->stored)
		r = value_load(node);
	if (r == 0 && target && target->file && target->file->stored && target->file->stub && value_load(target) < 0)
		log_debug("which chunks a file had that is replaced cannot be told: they are left to fsck");
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
	if (file->dirty) {
		r = commit_prepare(node, &move->commit);
		if (r == 0)
			r = buf_set(&move->value, buf_str(&move->commit.value));
	} else {
		r = buf_set(&move->value, buf_str(&file->value));
	}
	return r < 0 ? r : prepare_record(move, node);
}

/* Attributes go before the value, so that nothing is readable at the new name that was not at the old. */
static co_fn int move_record(struct move *move, struct node *node, const struct node *target, struct node *new_parent,
			     struct str new_name)
{
	CLEANUP(buf_free) struct buf leftover = BUF_INIT;
	struct fs *fs = node->fs;
	struct store_expect any = { .what = STORE_EXPECT_ANY };
	int r = 0;

	if (move->attributes.len)
		r = layout_ensure(fs);
	if (move->attributes.len && r == 0)
		r = store_set(fs->store, buf_str(&move->new_record), buf_str(&move->attributes), any);
	else if ((target && target->record_value.len) || leftover_take(new_parent, new_name, &leftover))
		r = store_delete(fs->store, buf_str(&move->new_record), any);
	return r == -ENOENT ? 0 : r;
}

/* What another mount has changed in it since it was read goes along. */
static co_fn int delete_record(struct move *move, struct node *node)
{
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	struct store *store = node->fs->store;
	struct store_expect any = { .what = STORE_EXPECT_ANY };
	int r = store_get(store, buf_str(&move->record), &now);

	if (r == 0 && !str_equal(buf_str(&now), buf_str(&node->record_value))) {
		node_apply_record(node, buf_str(&now));
		r = prepare_record(move, node);
		if (r == 0 && move->attributes.len)
			r = store_set(store, buf_str(&move->new_record), buf_str(&move->attributes), any);
	}
	if (r == 0)
		r = store_delete(store, buf_str(&move->record), any);
	return r == -ENOENT ? 0 : r;
}

static co_fn int move_in_store(struct move *move, struct node *node, struct node *target, struct node *new_parent,
			       struct str new_name)
{
	CLEANUP(buf_free) struct buf before = BUF_INIT;
	struct fs *fs = node->fs;
	struct store_expect expect = { .what = STORE_EXPECT_ABSENT };
	int r = move_record(move, node, target, new_parent, new_name);

	if (target && target->file)
		expect = value_expect(target);
	if (r == 0)
		r = buf_set(&before, expect.value);
	if (r < 0)
		return r;
	expect.value = buf_str(&before);
	if (!move->dirty || move->commit.in_place || move->commit.draft->in_place)
		r = move_name_ids(&fs->layout, buf_str(&move->value), buf_str(&move->key), buf_str(&move->new_key));
	if (r == 0)
		r = store_set(fs->store, buf_str(&move->new_key), buf_str(&move->value), expect);
	if (r < 0)
		return r;
	if (node->file->stored) {
		if (move->dirty)
			r = store_delete(fs->store, buf_str(&move->key), expect_value(buf_str(&move->old)));
		else
			r = move_delete(&fs->layout, buf_str(&move->key), buf_str(&move->new_key), &move->value);
	}
	if (r == -ENOENT)
		r = 0;
	if (r == 0 && node->record_value.len)
		r = delete_record(move, node);
	return r;
}

void rename_retire(struct node *target, struct str key)
{
	attr_drop(target);
	if (target->file && !target->file->opens)
		forget_ids(target->fs, NULL, buf_str(&target->file->value), key);
	if (target->file)
		value_keep(target);
	node_changed_here(target);
	node_detach(target);
	file_forget_unnamed(target);
}

int rename_place(struct node *node, struct node *new_parent, struct str new_name, bool in_dir)
{
	struct node *old_parent = node->parent, *place = new_parent, *there;
	int r;

	node_detach(node);
	there = node_child(place, new_name);
	if (there && there->dir && in_dir) {
		place = there;
		new_name = STR(NAMES_VALUE);
		there = node_child(place, new_name);
	}
	if (there)
		node_detach(there);
	r = node_attach(place, node, new_name);
	node_touch_dir(old_parent);
	node_touch_dir(new_parent);
	return r;
}

static int move_here(struct move *move, struct node *node, struct node *target, struct node *new_parent,
		     struct str new_name)
{
	struct fs *fs = node->fs;
	int64_t mtime = node->mtime_ns;
	int r;

	if (fs->config.state)
		state_rename(fs->config.state, buf_str(&move->key), buf_str(&move->new_key));
	if (target)
		rename_retire(target, buf_str(&move->new_key));
	r = rename_place(node, new_parent, new_name, true);
	if (r < 0)
		return r;
	node_keep_ino(node, buf_str(&move->new_key));
	node->file->stored = true;
	node->file->own_id = false; /* `i/` names another key now */
	node->file->tail_id = (struct content_id){ 0 };
	node->file->alone_us = 0;
	/* who has found the id under the former name alone may still write in place */
	value_doubt_for(node, node->fs->config.grace_us);
	node->wait.bind |= move->dirty;
	if (move->dirty)
		commit_done(node, &move->commit, buf_str(&move->old));
	else if (value_set_here(node, buf_str(&move->value)) < 0)
		value_drop(node);
	node->mtime_ns = mtime;
	node->ctime_ns = clock_real_ns();
	attr_stored(node, buf_str(&move->attributes), move->attr_changes);
	node->wait.bind = false;
	node_apply_attributes(node);
	value_remember_time(node);
	return 0;
}

/* A swap file that gets another swap file's name: nothing of it leaves this machine. */
static int rename_swap(struct node *node, struct node *target, struct node *new_parent, struct str new_name)
{
	int r;

	if (target) {
		attr_drop(target);
		node_changed_here(target);
		node_detach(target);
		file_forget_unnamed(target);
	}
	r = rename_place(node, new_parent, new_name, true);
	node_changed_here(node);
	return r;
}

int rename_file(struct node *node, struct node *target, struct node *new_parent, struct str new_name)
{
	struct move move = { 0 };
	int r;

	if (local_stays(node) && (!target || (target->file && local_waits(target))) &&
	    local_class(node->fs, new_name) == LOCAL_NEVER)
		return rename_swap(node, target, new_parent, new_name);
	r = move_prepare(&move, node, target, new_parent, new_name);
	if (r == 0)
		r = move_in_store(&move, node, target, new_parent, new_name);
	if (r == 0)
		r = move_here(&move, node, target, new_parent, new_name);
	else if (target)
		target->checked_us = 0; /* what is there now is to be asked */
	if (r < 0)
		new_parent->dir->complete = false;
	move_deinit(&move);
	return r;
}

/* --- both --- */

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
	if (flags & RENAME_EXCHANGE)
		return target ? rename_exchange(dir, name, node, new_dir, new_name, target) : -ENOENT;
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
	if (flags != 0 && flags != RENAME_NOREPLACE && flags != RENAME_EXCHANGE)
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
