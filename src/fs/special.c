/* Symbolic links, FIFOs, sockets and devices: a record and no key. Where the key exists, it is a regular file whatever
 * the record says. */
#include "fs/special.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/leftover.h"
#include "fs/listing.h"
#include "fs/rights.h"

/* --- what an answer says --- */

static bool is_special(const struct record *record)
{
	if (!(record->has & RECORD_MODE))
		return false;
	switch (record->mode & S_IFMT) {
	case S_IFLNK:
		return record->has & RECORD_TARGET;
	case S_IFCHR:
	case S_IFBLK:
		return record->has & RECORD_RDEV;
	case S_IFIFO:
	case S_IFSOCK:
		return true;
	default:
		return false;
	}
}

/* The node's record is `value` now, which still names its type. */
static int update(struct node *node, const struct record *record, struct str value, uint64_t seq)
{
	struct special *special = node->special;

	if (node->change_seq > seq || node->answer_seq > seq)
		return 0;
	if (node->lock.held && !str_equal(buf_str(&node->record_value), value)) {
		node->checked_us = 0; /* what is being done with it goes on with what was known */
		return 0;
	}
	node_checked(node, seq);
	node->answer_seq = seq;
	if (str_equal(buf_str(&node->record_value), value))
		return 0;
	special->rdev = record->rdev;
	node_apply_record(node, value);
	if (str_equal(buf_str(&special->target), buf_str(&record->target)))
		return 0;
	node_invalidate(node);
	return buf_set(&special->target, buf_str(&record->target));
}

static struct node *make(struct node *dir, struct str name, const struct record *record)
{
	CLEANUP_NODE struct node *node = node_new_special(dir->fs);
	CLEANUP(buf_free) struct buf key = BUF_INIT;

	if (!node || buf_set(&node->special->target, buf_str(&record->target)) < 0)
		return NULL;
	node->special->rdev = record->rdev;
	node->mode = record->mode;
	if (node_attach(dir, node, name) < 0)
		return NULL;
	if (node_keys(node, &key, NULL) == 0)
		node_set_ino(node, buf_str(&key));
	node_date(node);
	return node;
}

static int apply(struct node *dir, struct str name, const struct record *record, struct str value, uint64_t seq,
		 uint64_t seen)
{
	struct node *child = node_child(dir, name);

	if (node_removed_since(dir, name, seq, NODE_SPECIAL) || (child && child->dir))
		return 0;
	if (child && !(child->special && (child->mode & S_IFMT) == (record->mode & S_IFMT))) {
		if (!may_vanish(child, seq)) {
			child->checked_us = 0; /* its key may be gone all the same */
			return 0;
		}
		vanish(child, seq);
		child = NULL;
	}
	if (!child)
		child = make(dir, name, record);
	if (!child)
		return -ENOMEM;
	child->seen = child->record_seen = seen;
	return update(child, record, value, seq);
}

int special_apply(struct node *dir, struct str name, struct str value, uint64_t seq, uint64_t seen)
{
	struct record record;
	int r = 0;

	record_init(&record);
	if (record_decode(value, &record) == 0 && is_special(&record))
		r = apply(dir, name, &record, value, seq, seen);
	record_deinit(&record);
	return r;
}

bool special_is_record(struct str value)
{
	struct record record;
	bool special;

	record_init(&record);
	special = record_decode(value, &record) == 0 && is_special(&record);
	record_deinit(&record);
	return special;
}

int special_remains(struct node *dir, struct str name, struct str value, uint64_t seq, uint64_t seen)
{
	if (!special_is_record(value))
		return 0;
	if (!names_is_value(name))
		return special_apply(dir, name, value, seq, seen);
	leftover_add(dir, name, value);
	return 0;
}

/* --- made here --- */

static co_fn int store_new(struct node *dir, struct str name, struct str value)
{
	CLEANUP(buf_free) struct buf record = BUF_INIT;
	CLEANUP(buf_free) struct buf leftover = BUF_INIT;
	struct store_expect before = { .what = STORE_EXPECT_ABSENT };
	struct fs *fs = dir->fs;
	int r = value.len > fs->config.max_value ? -ENOSPC : node_dir_keys(dir);

	if (r == 0)
		r = names_child(&fs->rules, buf_str(&dir->dir->key), buf_str(&dir->dir->record), name, false, NULL,
				&record);
	if (r == 0)
		r = dir_anchor(dir);
	if (r == 0)
		r = layout_ensure(fs);
	if (leftover_take(dir, name, &leftover))
		before = store_expect_value(buf_str(&leftover));
	return r < 0 ? r : store_set(fs->store, buf_str(&record), value, before);
}

static co_fn int make_special(struct node *dir, struct str name, struct record *made, struct node **out)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	uint64_t seq;
	int r = record_encode(made, &value);

	if (r == 0)
		r = store_new(dir, name, buf_str(&value));
	if (r < 0)
		return r;
	seq = fs_tick(dir->fs);
	*out = node_child(dir, name);
	if (*out && !(*out)->special)
		return -EEXIST; /* another client has set the key meanwhile */
	r = apply(dir, name, made, buf_str(&value), seq, 0);
	if (r < 0)
		return r;
	*out = node_child(dir, name);
	if (!*out)
		return -EEXIST;
	node_changed_here(*out);
	node_touch_dir(dir);
	return 0;
}

static co_fn int create(struct fs *fs, uint64_t parent, struct str name, struct record *made,
			const struct fs_maker *maker, struct fs_entry *out)
{
	CLEANUP(making_end) struct making making = { 0 };
	struct node *node;
	int r = making_begin(fs, parent, name, false, &making);

	if (r == 0)
		r = attr_make(making.dir, made->mode, maker, made);
	if (r < 0)
		return r;
	made->has |= S_ISLNK(made->mode) ? RECORD_TARGET : 0;
	made->has |= S_ISCHR(made->mode) || S_ISBLK(made->mode) ? RECORD_RDEV : 0;
	tree_shared(fs);
	r = make_special(making.dir, buf_str(&making.name), made, &node);
	if (r < 0)
		dir_doubt(making.dir); /* it may be there all the same */
	tree_shared_end(fs);
	if (r < 0)
		return r;
	node_give(node, out);
	return 0;
}

int fs_mknod(struct fs *fs, uint64_t parent, struct str name, mode_t mode, uint32_t rdev, const struct fs_maker *maker,
	     struct fs_entry *out)
{
	struct record made;
	int r;

	if (!S_ISFIFO(mode) && !S_ISSOCK(mode) && !S_ISCHR(mode) && !S_ISBLK(mode))
		return -EINVAL;
	record_init(&made);
	made.mode = mode;
	made.rdev = rdev;
	r = create(fs, parent, name, &made, maker, out);
	record_deinit(&made);
	return r;
}

int fs_symlink(struct fs *fs, uint64_t parent, struct str name, struct str target, const struct fs_maker *maker,
	       struct fs_entry *out)
{
	struct record made;
	int r;

	record_init(&made);
	made.mode = S_IFLNK | 0777;
	r = record_set_target(&made, target);
	if (r == 0)
		r = create(fs, parent, name, &made, maker, out);
	record_deinit(&made);
	return r;
}

int fs_readlink(struct fs *fs, uint64_t id, struct buf *out)
{
	const struct node *node = node_find(fs, id);

	if (!node)
		return -ESTALE;
	return S_ISLNK(node->mode) && node->special ? buf_set(out, buf_str(&node->special->target)) : -EINVAL;
}

/* --- removed, moved --- */

int special_unlink(struct node *node)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf record = BUF_INIT;
	struct fs *fs = node->fs;
	int r = node_keys(node, &key, &record);

	if (r < 0)
		return r;
	r = attr_remove(node, buf_str(&record));
	if (r < 0 && r != -ENOENT) {
		node->checked_us = 0;
		return r;
	}
	attr_drop(node);
	if (fs->config.state)
		state_remove(fs->config.state, buf_str(&key));
	node_changed_here(node);
	if (node->parent) {
		node_touch_dir(node->parent);
		node_detach(node);
	}
	return r;
}

struct special_move {
	struct buf key, record, new_key, new_record, old, value;
	struct buf guard; /* empty, or what stands there until the file that is replaced has lost its key */
	struct buf patch; /* makes `value` of it */
};

static int make_guard(struct special_move *move, const struct node *target)
{
	CLEANUP(record_deinit) struct record old = { 0 };
	CLEANUP(record_deinit) struct record new = { 0 };
	CLEANUP(record_deinit) struct record guard = { 0 };
	struct rights before, after;
	int r = 0;

	/* one that cannot be read is as good as none */
	if (target->record_value.len && record_decode(buf_str(&target->record_value), &old) == -ENOMEM)
		return -ENOMEM;
	r = record_decode(buf_str(&move->value), &new);
	if (r == 0)
		r = record_copy(&new, &guard);
	if (r < 0)
		return r;
	before = rights_of_record(target, &old);
	after = rights_of_record(target, &new);
	if (rights_within(&after, &before))
		return 0;
	guard.mode = (new.mode &S_IFMT) | rights_common(&after, &before);
	r = record_encode(&guard, &move->guard);
	return r < 0 ? r : record_encode_patch(&guard, &new, 0, &move->patch);
}

static co_fn int prepare(struct special_move *move, struct node *node, struct node *target, struct node *new_parent,
			 struct str new_name)
{
	int r = node_keys(node, &move->key, &move->record);

	if (r == 0)
		r = node_dir_keys(new_parent);
	if (r == 0)
		r = names_child(&node->fs->rules, buf_str(&new_parent->dir->key), buf_str(&new_parent->dir->record),
				new_name, false, &move->new_key, &move->new_record);
	if (r == 0)
		r = buf_set(&move->old, buf_str(&node->record_value));
	if (r == 0)
		r = attr_record_value(node, NULL, &move->value);
	if (r == 0 && target && file_may_be_stored(target))
		r = make_guard(move, target);
	return r;
}

/* The file that has its key there goes on until the key is deleted. */
static co_fn int replace_file(const struct special_move *move, struct node *target)
{
	CLEANUP(buf_free) struct buf before = BUF_INIT;
	struct store_expect expect = value_expect(target);
	struct store *store = target->fs->store;
	int r = buf_set(&before, expect.value);

	expect.value = buf_str(&before);
	if (r == 0)
		r = store_delete(store, buf_str(&move->new_key), expect);
	if ((r == 0 || r == -ENOENT) && move->patch.len)
		r = store_merge(store, buf_str(&move->new_record), buf_str(&move->patch));
	return r == -ENOENT ? 0 : r;
}

/* The new record first, so that it is never under neither name. */
static co_fn int move_in_store(struct special_move *move, struct node *node, struct node *target,
			       struct node *new_parent, struct str new_name)
{
	struct store *store = node->fs->store;
	struct store_expect any = { .what = STORE_EXPECT_ANY };
	struct store_expect before = { .what = STORE_EXPECT_VALUE };
	uint64_t changes = node->wait.changes;
	int r = prepare(move, node, target, new_parent, new_name);

	if (r == 0)
		r = dir_anchor(new_parent);
	if (r == 0)
		r = store_set(store, buf_str(&move->new_record), buf_str(move->guard.len ? &move->guard : &move->value),
			      any);
	if (r == 0)
		attr_stored(node, buf_str(&move->value), changes, 0);
	if (r == 0 && target && file_may_be_stored(target))
		r = replace_file(move, target);
	before.value = buf_str(&move->old);
	if (r == 0)
		r = store_delete(store, buf_str(&move->record), before);
	return r == -ENOENT ? 0 : r;
}

int special_rename(struct node *node, struct node *target, struct node *new_parent, struct str new_name)
{
	struct special_move move = { 0 };
	int r = move_in_store(&move, node, target, new_parent, new_name);

	if (r == 0)
		r = rename_here(node, target, buf_str(&move.key), new_parent, new_name, buf_str(&move.new_key));
	else if (target)
		target->checked_us = 0; /* what is there now is to be asked */
	if (r == 0)
		node_changed_here(node);
	if (r < 0)
		dir_doubt(new_parent);
	buf_free(&move.key);
	buf_free(&move.record);
	buf_free(&move.new_key);
	buf_free(&move.new_record);
	buf_free(&move.old);
	buf_free(&move.value);
	buf_free(&move.guard);
	buf_free(&move.patch);
	return r;
}
