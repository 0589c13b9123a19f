/* Names made and removed: directories, unlink. */
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/held.h"
#include "fs/leftover.h"
#include "fs/listing.h"
#include "fs/special.h"

int name_may_be_made(struct node *dir, struct str name, bool is_dir)
{
	CLEANUP(buf_free) struct buf segment = BUF_INIT;
	struct fs *fs = dir->fs;
	int r;

	if (fs->config.read_only)
		return -EROFS;
	r = name.len > NAMES_SHOWN_BYTES ? -ENAMETOOLONG : node_dir_keys(dir); /* longer ones are not listed either */
	if (r == 0)
		r = names_child(&fs->rules, buf_str(&dir->dir->key), buf_str(&dir->dir->record), name, is_dir, NULL,
				NULL);
	if (r < 0 || names_is_value(name))
		return r;
	r = names_segment_from_name(&fs->rules, name, &segment);
	if (r == 0 && names_is_reserved(&fs->rules, buf_str(&dir->dir->key), buf_str(&segment)))
		r = -EEXIST;
	return r;
}

int making_begin(struct fs *fs, uint64_t parent, struct str name, bool is_dir, struct making *making)
{
	CLEANUP_NODE struct node *there = NULL;
	int r = dir_get(fs, parent, &making->dir);

	if (r == 0)
		r = buf_set(&making->name, name);
	if (r < 0)
		return r;
	name = buf_str(&making->name);
	push_name_begin(&making->told, making->dir, name);
	r = name_may_be_made(making->dir, name, is_dir);
	if (r == 0)
		r = lookup_child(making->dir, name, &there);
	if (r == 0)
		return -EEXIST;
	return r == -ENOENT ? held_settle_name(making->dir, name) : r;
}

void making_end(struct making *making)
{
	push_name_end(&making->told);
	buf_free(&making->name);
	node_unref(making->dir);
}

int layout_ensure(struct fs *fs)
{
	int r = 0;

	mutex_lock(&fs->layout_lock);
	if (!fs->layout_written)
		r = layout_write(&fs->layout);
	if (r == -EPROTONOSUPPORT)
		r = -EROFS;
	if (r == 0)
		fs->layout_written = true;
	co_mutex_unlock(&fs->layout_lock);
	return r;
}

/* --- directories --- */

/* Its value is left in *value. */
static co_fn int set_new_record(struct fs *fs, struct str key, const struct record *record, struct buf *value)
{
	int r = record_encode(record, value);

	if (r == 0)
		r = layout_ensure(fs);
	if (r == 0)
		r = store_set(fs->store, key, buf_str(value), (struct store_expect){ .what = STORE_EXPECT_ABSENT });
	return r;
}

static co_fn int make_record(const struct node *dir, struct str key, mode_t mode, const struct fs_maker *maker,
			     struct buf *value)
{
	struct record record;
	int r;

	record_init(&record);
	r = attr_make(dir, S_IFDIR | (mode & 07777), maker, &record);
	if (r == 0)
		r = set_new_record(dir->fs, key, &record, value);
	record_deinit(&record);
	return r;
}

static co_fn int set_mode_of_implied(struct node *dir, struct str key)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	struct record record;
	int r;

	record_init(&record);
	record.mode = dir->mode;
	record.has = RECORD_MODE;
	r = set_new_record(dir->fs, key, &record, &value);
	record_deinit(&record);
	if (r < 0)
		return r;
	node_apply_record(dir, buf_str(&value));
	dir->change_seq = dir->record_seq = fs_tick(dir->fs);
	return 0;
}

static co_fn int ask_implied(struct node *dir)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf record = BUF_INIT;
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	uint64_t seq = fs_tick(dir->fs);
	int r = node_keys(dir, &key, &record);

	if (r == 0)
		r = store_get(dir->fs->store, buf_str(&record), &value);
	if (r == 0)
		node_answer_record(dir, buf_str(&value), seq);
	else if (r == -ENOENT)
		r = set_mode_of_implied(dir, buf_str(&record));
	if (r == 0)
		dir->dir->recorded = true;
	return r;
}

/* What is told of it comes behind the answers. */
static co_fn int record_implied(struct node *dir)
{
	struct push_name told;
	int r;

	push_name_begin(&told, dir->parent, buf_str(&dir->name));
	r = ask_implied(dir);
	push_name_end(&told);
	return r;
}

int dir_anchor(struct node *dir)
{
	CLEANUP_NODE struct node *held = dir;
	int r = 0;

	node_ref(held);
	while (r == 0 && held->parent) {
		struct node *parent = held->parent;

		node_ref(parent);
		if (!held->dir->recorded)
			r = record_implied(held);
		node_unref(held);
		held = parent;
	}
	return r;
}

static co_fn int make_directory(struct node *dir, struct str name, mode_t mode, const struct fs_maker *maker,
				struct node **out)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf record = BUF_INIT;
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	struct fs *fs = dir->fs;
	bool is_new = false;
	int r = node_dir_keys(dir);

	if (r == 0)
		r = names_child(&fs->rules, buf_str(&dir->dir->key), buf_str(&dir->dir->record), name, true, &key,
				&record);
	if (r == 0)
		r = dir_anchor(dir);
	if (r == 0)
		r = make_record(dir, buf_str(&record), mode, maker, &value);
	if (r == 0) {
		is_new = !node_child(dir, name);
		r = apply_dir(dir, name, fs_tick(fs), 0, out);
	}
	if (r < 0)
		return r;
	node_apply_record(*out, buf_str(&value));
	(*out)->dir->recorded = true;
	if (!leftover_take_below(dir, name) && is_new)
		(*out)->dir->complete = true; /* nothing is in it yet */
	(*out)->dir->listed_us = (*out)->dir->value_known_us = clock_now_us();
	node_changed_here(*out);
	(*out)->dir->listed_seq = (*out)->change_seq;
	node_touch_dir(dir);
	return 0;
}

int fs_mkdir(struct fs *fs, uint64_t parent, struct str name, mode_t mode, const struct fs_maker *maker,
	     struct fs_entry *out)
{
	CLEANUP(making_end) struct making making = { 0 };
	struct node *node;
	int r = making_begin(fs, parent, name, true, &making);

	if (r < 0)
		return r;
	tree_shared(fs);
	r = make_directory(making.dir, buf_str(&making.name), mode, maker, &node);
	if (r < 0)
		dir_doubt(making.dir); /* it may be there all the same */
	tree_shared_end(fs);
	if (r < 0)
		return r;
	node_give(node, out);
	return 0;
}

/* What a directory's range of records holds besides its own: of regular files without a key these are left over from
 * files that others deleted, and go with the directory; anything else is content. */
static int only_stale_records(const struct store_page *page, struct str own)
{
	for (size_t i = 0; i < page->count; i++) {
		struct record record;
		bool stale;

		if (str_equal(page->records[i].key, own) || !str_starts(page->records[i].key, own))
			continue;
		record_init(&record);
		stale = record_decode(page->records[i].value, &record) == 0 &&
			(!(record.has & RECORD_MODE) || S_ISREG(record.mode)) &&
			page->records[i].key.p[page->records[i].key.len - 1] != own.p[own.len - 1];
		record_deinit(&record);
		if (!stale)
			return -ENOTEMPTY;
	}
	return page->truncated ? -ENOTEMPTY : 0;
}

static co_fn int nothing_below(struct node *node, struct str key, struct buf *end)
{
	CLEANUP(store_page_deinit) struct store_page page = { 0 };
	struct fs *fs = node->fs;
	int r = names_last(key, fs->config.max_key, end);

	if (r == 0)
		r = store_range(fs->store, key, buf_str(end), 1, &page);
	if (r == 0 && page.count && str_starts(page.records[0].key, key))
		r = -ENOTEMPTY;
	return r;
}

/* The directory's own key, shown as `%=`, is content as well. */
static co_fn int no_value_of_its_own(struct node *node, struct str key, struct str record)
{
	CLEANUP(buf_free) struct buf own = BUF_INIT;
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	int r = names_child(&node->fs->rules, key, record, STR("%="), false, &own, NULL);

	if (r < 0)
		return r == -EINVAL ? 0 : r;
	r = store_get(node->fs->store, buf_str(&own), &value);
	return r == 0 ? -ENOTEMPTY : r == -ENOENT ? 0 : r;
}

static bool has_directories(const struct node *node)
{
	return node->dir->subdirectories != 0;
}

static co_fn int remove_records(struct fs *fs, const struct store_page *page, struct str own)
{
	for (size_t i = 0; i < page->count; i++) {
		struct str key = page->records[i].key;
		int r;

		if (!str_starts(key, own))
			continue;
		r = store_delete(fs->store, key, store_expect_value(page->records[i].value));
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return 0;
}

int remove_directory(struct node *node)
{
	CLEANUP(store_page_deinit) struct store_page records = { 0 };
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf record = BUF_INIT;
	CLEANUP(buf_free) struct buf end = BUF_INIT;
	struct fs *fs = node->fs;
	int r = node_keys(node, &key, &record);

	if (r == 0 && (has_directories(node) || dirty_below(node)))
		r = -ENOTEMPTY;
	if (r == 0)
		r = nothing_below(node, buf_str(&key), &end);
	if (r == 0)
		r = no_value_of_its_own(node, buf_str(&key), buf_str(&record));
	if (r == 0)
		r = names_last(buf_str(&record), fs->config.max_key, &end);
	if (r == 0)
		r = store_range(fs->store, buf_str(&record), buf_str(&end), PAGE_RECORDS, &records);
	if (r == 0)
		r = only_stale_records(&records, buf_str(&record));
	if (r == 0 && dirty_below(node)) /* made while the store was asked */
		r = -ENOTEMPTY;
	if (r == 0)
		r = remove_records(fs, &records, buf_str(&record));
	if (r < 0)
		return r;
	if (fs->config.state)
		state_remove(fs->config.state, buf_str(&key));
	if (node->parent) {
		if (leftover_take(node->parent, buf_str(&node->name), &end))
			dir_doubt(node->parent); /* what it has hidden */
		node_touch_dir(node->parent);
		node_detach(node);
	}
	return 0;
}

int fs_rmdir(struct fs *fs, uint64_t parent, struct str name)
{
	CLEANUP_NODE struct node *dir = NULL;
	CLEANUP_NODE struct node *node = NULL;
	int r = fs->config.read_only ? -EROFS : lookup_path(fs, parent, name, &dir, &node);

	if (r < 0)
		return r;
	if (!node->dir)
		return -ENOTDIR;
	tree_shared(fs);
	node_lock(node);
	r = node->parent == dir ? remove_directory(node) : -ENOENT;
	node_unlock(node);
	tree_shared_end(fs);
	return r;
}

/* --- unlink --- */

int load_while_stored(struct node *node)
{
	struct file *file = node->file;
	int r;

	if (!file || !file->stored || (file->dirty && !file->stub) || (!file->opens && !file->stub))
		return 0;
	r = value_load(node);
	return r == -ESTALE ? 0 : r;
}

static co_fn int unlink_locked(struct node *node)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf record = BUF_INIT;
	CLEANUP(buf_free) struct buf before = BUF_INIT;
	struct fs *fs = node->fs;
	struct store_expect expect;
	int r = 0, gone = 0;

	/* opened since that was done without the lock, or not kept that long */
	r = load_while_stored(node);
	/* who has it open may read it when the last that names its chunks is gone: as for any file, its key tells */
	if (r == 0 && node->file->held)
		r = node->file->opens ? held_settle_locked(node) : held_unlink(node);
	if (r == 0)
		r = node_keys(node, &key, &record);
	expect = value_expect(node);
	if (r == 0)
		r = buf_set(&before, expect.value);
	if (r < 0)
		return r;
	expect.value = buf_str(&before);
	if (file_may_be_stored(node))
		gone = store_delete(fs->store, buf_str(&key), expect);
	if (gone == -ENOENT && !node->file->stored)
		gone = 0; /* it has not arrived */
	if (gone < 0 && gone != -ENOENT) {
		node->checked_us = 0; /* it may be gone all the same: asked again */
		return gone;
	}
	if (node->file->stored && !node->file->opens)
		forget_ids(fs, NULL, buf_str(&before), buf_str(&key));
	if (node->record_value.len || !node->record_known) {
		r = attr_remove(node, buf_str(&record));
		if (r < 0 && r != -ENOENT)
			log_warning("a file was removed, but not its attributes, which go with its directory: %s",
				    strerror(-r));
	}
	attr_drop(node);
	value_keep(node);
	if (fs->config.state)
		state_remove(fs->config.state, buf_str(&key));
	node_changed_here(node);
	if (node->parent) {
		node_touch_dir(node->parent);
		if (node->parent->dir->large)
			node_add_absent(node->parent, buf_str(&node->name), node->change_seq);
		node_detach(node);
	}
	file_forget_unnamed(node);
	return gone;
}

int fs_unlink(struct fs *fs, uint64_t parent, struct str name)
{
	CLEANUP_NODE struct node *dir = NULL;
	CLEANUP_NODE struct node *node = NULL;
	int r = fs->config.read_only ? -EROFS : lookup_path(fs, parent, name, &dir, &node);

	if (r < 0)
		return r;
	if (node->dir)
		return -EISDIR;
	r = load_while_stored(node);
	if (r < 0)
		return r;
	tree_shared(fs);
	node_lock(node);
	value_pin(node);
	if (node->parent != dir)
		r = -ENOENT;
	else
		r = node->special ? special_unlink(node) : unlink_locked(node);
	value_unpin(node);
	node_unlock(node);
	tree_shared_end(fs);
	return r;
}
