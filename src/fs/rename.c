/* Renaming. The store has no rename: the new key is set, then the old one deleted, so that nobody ever finds the
 * content under neither name. What another client wrote to the old key meanwhile is taken along. */
#include "fs/rename.h"

#include <errno.h>
#include <linux/fs.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/held.h"
#include "fs/ids.h"
#include "fs/leftover.h"
#include "fs/listing.h"
#include "fs/move.h"
#include "fs/rights.h"
#include "fs/special.h"

/* --- a file --- */

void file_move_deinit(struct file_move *move)
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

int file_move_prepare_record(struct file_move *move, struct node *node)
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

/* Appends go behind what others have appended under the former name. Those that come while they are sent go later, to the new
 * name. */
static co_fn int append_first(struct node *node)
{
	struct draft *draft = draft_ref(node->file->draft);
	int r = node->file->stored && append_waits(node) ? append_commit(node) : 0;

	if (r == -EAGAIN)
		r = 0; /* it is another draft by now */
	if (r < 0)
		file_commit_ended(node, draft, true, true, r);
	draft_unref(draft);
	return r;
}

static co_fn int move_prepare(struct file_move *move, struct node *node, struct node *target, struct node *new_parent,
			      struct str new_name)
{
	struct fs *fs = node->fs;
	struct file *file = node->file;
	int r = append_first(node);

	if (r == 0 && (!file->dirty || file->stored))
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
	move->stored = file->stored;
	move->dirty = file->dirty && !(file->stored && append_waits(node));
	if (move->dirty) {
		r = commit_prepare(node, &move->commit);
		if (r == 0)
			r = buf_set(&move->value, buf_str(&move->commit.value));
	} else {
		r = buf_set(&move->value, buf_str(&file->value));
	}
	return r < 0 ? r : file_move_prepare_record(move, node);
}

/* May the new record go before the value, or behind it, so that nobody may do more in between than before or after? */
struct turns {
	bool first, last;
	mode_t common; /* permissions of a guard, which goes first where the record comes last and may not */
};

/* What gives way is a file like `like` with the record `old_value` (may be empty), which is left in *old. */
static int compare_rights(const struct file_move *move, const struct node *like, struct str old_value,
			  struct record *old, struct turns *turns)
{
	CLEANUP(record_deinit) struct record new = { 0 };
	struct rights before, after;
	int r = 0;

	/* one that cannot be read is as good as none */
	if (old_value.len)
		r = record_decode(old_value, old);
	if (r != -ENOMEM && move->attributes.len)
		r = record_decode(buf_str(&move->attributes), &new);
	if (r == -ENOMEM)
		return r;
	before = rights_of_record(like, old);
	after = rights_of_record(like, &new);
	*turns = (struct turns){
		.first = rights_within(&after, &before),
		.last = rights_within(&before, &after),
		.common = rights_common(&before, &after),
	};
	return 0;
}

/* What is no regular file ends with its record. */
static co_fn int order_over(struct file_move *move, struct node *target)
{
	CLEANUP(record_deinit) struct record old = { 0 };
	struct turns turns = { 0 };
	int r;

	if (!target->special && !target->file->stored)
		return 0;
	r = compare_rights(move, target, buf_str(&target->record_value), &old, &turns);
	move->record_last = target->special || !turns.first;
	return r == 0 && move->record_last && !turns.last ? attr_guard(target, turns.common) : r;
}

int file_move_order(struct file_move *move, const struct node *like, struct str old_value)
{
	CLEANUP(record_deinit) struct record old = { 0 };
	CLEANUP(buf_free) struct buf guard = BUF_INIT;
	struct fs *fs = like->fs;
	struct turns turns = { 0 };
	int r = compare_rights(move, like, old_value, &old, &turns);

	move->record_last = !turns.first;
	if (r < 0 || turns.first || turns.last)
		return r;
	record_xattr_remove(&old, STR(XATTR_ACL_ACCESS));
	old.mode = S_IFREG | turns.common;
	old.has |= RECORD_MODE;
	r = record_encode(&old, &guard);
	if (r == 0)
		r = layout_ensure(fs);
	return r < 0 ? r
		     : store_set(fs->store, buf_str(&move->new_record), buf_str(&guard),
				 (struct store_expect){ .what = STORE_EXPECT_ANY });
}

int file_move_new_record(struct file_move *move, struct fs *fs, bool replaces)
{
	struct store_expect any = { .what = STORE_EXPECT_ANY };
	int r = 0;

	if (move->attributes.len)
		r = layout_ensure(fs);
	if (move->attributes.len && r == 0)
		r = store_set(fs->store, buf_str(&move->new_record), buf_str(&move->attributes), any);
	else if (replaces)
		r = store_delete(fs->store, buf_str(&move->new_record), any);
	return r == -ENOENT ? 0 : r;
}

int file_move_old_record(struct file_move *move, struct node *node)
{
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	struct store *store = node->fs->store;
	struct store_expect any = { .what = STORE_EXPECT_ANY };
	int r = store_get(store, buf_str(&move->record), &now);

	if (r == 0 && !str_equal(buf_str(&now), buf_str(&node->record_value))) {
		node_apply_record(node, buf_str(&now));
		r = file_move_prepare_record(move, node);
		if (r == 0 && move->attributes.len)
			r = store_set(store, buf_str(&move->new_record), buf_str(&move->attributes), any);
	}
	if (r == 0)
		r = store_delete(store, buf_str(&move->record), any);
	return r == -ENOENT ? 0 : r;
}

static co_fn int set_record(struct file_move *move, struct node *node, const struct node *target,
			    struct node *new_parent, struct str new_name)
{
	CLEANUP(buf_free) struct buf leftover = BUF_INIT;
	bool replaces = leftover_take(new_parent, new_name, &leftover) || leftover_may_be(new_parent, new_name) ||
			(target && (target->record_value.len || !target->record_known));

	return file_move_new_record(move, node->fs, replaces);
}

/* Another key may hold its ids, and `i/` says so. */
static void forget_that_alone(struct file *file)
{
	file->own_id = false;
	file->alone_us = 0;
	file_forget_tail(file);
}

/* Before the new key is set. An id that no key holds yet is only remembered to be under that name, in case that this fails. Where
 * the value does not hold it, another name may from an earlier time, and stays remembered. */
static co_fn int name_ids(struct file_move *move, struct file *file, const struct layout *layout)
{
	struct draft *draft = move->commit.draft;

	if (move->dirty && !move->commit.in_place && !draft->in_place && !draft->named && draft->has_id &&
	    id_is_in(buf_str(&move->value), &draft->id)) {
		draft->shared = move->commit.captured;
		return buf_set(&draft->other, buf_str(&move->new_key));
	}
	forget_that_alone(file); /* however this ends */
	return move_name_ids(layout, buf_str(&move->value), buf_str(&move->key), buf_str(&move->new_key));
}

static co_fn int move_in_store(struct file_move *move, struct node *node, struct node *target, struct node *new_parent,
			       struct str new_name, const struct held *held)
{
	CLEANUP(buf_free) struct buf before = BUF_INIT;
	struct fs *fs = node->fs;
	struct store_expect expect = { .what = STORE_EXPECT_ABSENT };
	int r = 0;

	if (target)
		r = order_over(move, target);
	else if (held)
		r = file_move_order(move, held->node, buf_str(&held->node->record_value));
	if (r == 0 && !move->record_last)
		r = set_record(move, node, target, new_parent, new_name);
	if (target && target->file)
		expect = value_expect(target);
	else if (held)
		expect = store_expect_value(buf_str(&held->value));
	if (r == 0)
		r = buf_set(&before, expect.value);
	if (r < 0)
		return r;
	expect.value = buf_str(&before);
	r = name_ids(move, node->file, &fs->layout);
	if (r == 0)
		r = store_set(fs->store, buf_str(&move->new_key), buf_str(&move->value), expect);
	if (r == 0 && move->record_last)
		r = set_record(move, node, target, new_parent, new_name);
	if (r < 0)
		return r;
	if (move->stored) {
		if (move->dirty)
			r = store_delete(fs->store, buf_str(&move->key), store_expect_value(buf_str(&move->old)));
		else
			r = move_delete(&fs->layout, buf_str(&move->key), buf_str(&move->new_key), &move->value);
	}
	if (r == -ENOENT)
		r = 0;
	if (r == 0 && node->record_value.len)
		r = file_move_old_record(move, node);
	return r;
}

static void rename_retire(struct node *target, struct str key)
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

void file_moved(struct file_move *move, struct node *node)
{
	int64_t mtime;
	int r = 0;

	if (!move->dirty) /* another may have written it under the former name meanwhile */
		r = value_apply(node, buf_str(&move->value), fs_tick(node->fs));
	mtime = node->mtime_ns;
	node->file->stored = true;
	forget_that_alone(node->file);
	/* who has found the id under the former name alone may still write in place */
	value_doubt_for(node, node->fs->config.grace_us);
	node->wait.bind |= move->dirty;
	if (move->dirty) {
		struct buf *other = &move->commit.draft->other;

		/* a third name may still hold the id; this one is the file's now */
		commit_done(node, &move->commit, buf_str(&move->old));
		if (str_equal(buf_str(other), buf_str(&move->new_key)))
			buf_free(other);
	} else if (r < 0 || value_set_here(node, buf_str(&move->value)) < 0) {
		value_drop(node);
	}
	node->mtime_ns = mtime;
	node->ctime_ns = clock_real_ns();
	attr_stored(node, buf_str(&move->attributes), move->attr_changes, 0);
	node->wait.bind = false;
	node_apply_attributes(node);
	value_remember_time(node);
}

int rename_here(struct node *node, struct node *target, struct str key, struct node *new_parent, struct str new_name,
		struct str new_key)
{
	struct fs *fs = node->fs;
	int r;

	if (fs->config.state)
		state_rename(fs->config.state, key, new_key);
	if (target)
		rename_retire(target, new_key);
	r = rename_place(node, new_parent, new_name, node->file != NULL);
	if (r == 0)
		node_keep_ino(node, new_key);
	return r;
}

/* From one local name to another: nothing of it leaves this machine. */
static int rename_local(struct node *node, struct node *target, struct node *new_parent, struct str new_name)
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
	if (r == 0)
		local_moved(node);
	return r;
}

static co_fn int rename_now(struct node *node, struct node *target, struct node *new_parent, struct str new_name)
{
	struct file_move move = { 0 };
	struct held *held = target ? NULL : held_claim(new_parent, new_name);
	bool bare = target && !target->record_value.len;
	int r = move_prepare(&move, node, target, new_parent, new_name);

	if (r == 0)
		r = move_in_store(&move, node, target, new_parent, new_name, held);
	if (r == 0 && node->file->stored && !move.stored)
		dir_doubt(node->parent); /* another has made a file there meanwhile, which stays */
	if (r == 0)
		r = rename_here(node, target, buf_str(&move.key), new_parent, new_name, buf_str(&move.new_key));
	else if (target)
		target->checked_us = 0; /* what is there now is to be asked */
	if (r == 0)
		file_moved(&move, node);
	if (bare && target->record_value.len)
		node->record_known = false; /* it has come meanwhile */
	if (r < 0)
		dir_doubt(new_parent);
	held_unclaim(held);
	file_move_deinit(&move);
	return r;
}

int rename_file(struct node *node, struct node *target, struct node *new_parent, struct str new_name)
{
	int r = 1;

	if (local_may_move(node, target, new_name))
		return rename_local(node, target, new_parent, new_name);
	if (!target && held_is_home(node, new_parent, new_name))
		return held_take_back(node);
	if (node->file->held || file_was_tried(node) || (target && target->file && target->file->held))
		return -EAGAIN; /* it has become so since it was settled */
	if (held_suits(node, target, new_parent, new_name))
		r = held_begin(node, target, new_parent, new_name);
	return r == 1 ? rename_now(node, target, new_parent, new_name) : r;
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
	value_pin(node);
	value_pin(target);
	r = target ? load_while_stored(target) : 0; /* as in unlink_locked */
	if (r == 0 && (node_child(dir, name) != node || node_child(new_dir, new_name) != target))
		r = -EAGAIN; /* others were faster */
	if (r == 0)
		r = node->special ? special_rename(node, target, new_dir, new_name)
				  : rename_file(node, target, new_dir, new_name);
	value_unpin(target);
	value_unpin(node);
	if (second)
		node_unlock(second);
	node_unlock(first);
	return r;
}

/* What waits for its renaming is renamed, unless it only goes back. */
static co_fn int settle_both(struct node *node, struct node *new_dir, struct str new_name, struct node *target)
{
	int r;

	if (node->dir)
		return held_settle_below(node, new_dir, new_name);
	if (!target && held_is_home(node, new_dir, new_name))
		return 0;
	r = held_settle(node);
	/* what of it may have arrived under its present name, or what others have there instead, does not stay there */
	if (r == 0 && file_was_tried(node))
		r = file_commit_later(node);
	if (r == 0 && target)
		r = held_settle(target);
	/* only one can be held of a name */
	if (r == 0 && node->parent && local_class(node->fs, new_name) == LOCAL_LATER)
		r = held_settle_name(node->parent, buf_str(&node->name));
	if (r == 0 && node->special)
		r = held_settle_name(new_dir, new_name);
	return r;
}

static co_fn int rename_once(struct node *dir, struct str name, struct node *new_dir, struct str new_name,
			     unsigned flags)
{
	CLEANUP_NODE struct node *node = NULL;
	CLEANUP_NODE struct node *target = NULL;
	CLEANUP(push_name_end) struct push_name told = { 0 };
	struct fs *fs = dir->fs;
	int r = lookup_child(dir, name, &node);

	if (r == 0)
		r = name_may_be_made(new_dir, new_name, node->dir != NULL);
	if (r < 0)
		return r;
	push_name_begin(&told, new_dir, new_name);
	r = lookup_child(new_dir, new_name, &target);
	if (r < 0 && r != -ENOENT)
		return r;
	if (target && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	r = settle_both(node, new_dir, new_name, target);
	if (r < 0)
		return r;
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
		if (node_child(dir, name) != node || node_child(new_dir, new_name) != target ||
		    held_is_below(fs, node, new_dir, new_name))
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
