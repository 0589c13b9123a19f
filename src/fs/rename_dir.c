/* Renaming a directory: every key below it moves, under an entry of the journal. */
#include <errno.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/listing.h"
#include "fs/move.h"
#include "fs/recovery.h"

struct dir_rename {
	struct buf key, record, new_key, new_record;
	struct dir_move move;
};

static void dir_rename_deinit(struct dir_rename *rename)
{
	buf_free(&rename->key);
	buf_free(&rename->record);
	buf_free(&rename->new_key);
	buf_free(&rename->new_record);
}

static int make_keys(struct dir_rename *rename, struct node *node, struct node *new_parent, struct str new_name)
{
	struct fs *fs = node->fs;
	int r = node_keys(node, &rename->key, &rename->record);

	if (r == 0)
		r = node_dir_keys(new_parent);
	if (r == 0)
		r = names_child(&fs->rules, buf_str(&new_parent->dir->key), buf_str(&new_parent->dir->record), new_name,
				true, &rename->new_key, &rename->new_record);
	rename->move = (struct dir_move){
		.layout = &fs->layout,
		.from = buf_str(&rename->key),
		.to = buf_str(&rename->new_key),
		.from_record = buf_str(&rename->record),
		.to_record = buf_str(&rename->new_record),
	};
	return r;
}

/* A program that renames waits, and is told beforehand where it would wait longer than for any other answer: mv(1) then copies. */
static co_fn int check_size(struct fs *fs, const struct dir_move *move)
{
	struct move_size size;
	double rate = store_rate(fs->store);
	int r = move_measure(move, &size);

	if (r < 0 || rate <= 0 || fs->config.timeout_us == 0)
		return r;
	return (double)move_requests(&size) / rate > (double)fs->config.timeout_us / 1e6 ? -EXDEV : 0;
}

/* Another may have made something there since the name was looked up. */
static co_fn int check_target(struct fs *fs, struct str new_key)
{
	CLEANUP(store_page_deinit) struct store_page page = { 0 };
	CLEANUP(buf_free) struct buf end = BUF_INIT;
	int r = names_last(new_key, fs->config.max_key, &end);

	if (r == 0)
		r = store_range(fs->store, new_key, buf_str(&end), 1, &page);
	if (r == 0 && page.count && str_starts(page.records[0].key, new_key))
		r = -ENOTEMPTY;
	return r;
}

static json_t *json_of(struct str text)
{
	return json_stringn(text.p, text.len);
}

/* From the first write on. What fails is finished later, by this mount or another. */
static co_fn int move_in_store(struct fs *fs, struct dir_move *move)
{
	struct intent intent;
	int r = layout_ensure(fs);

	if (r == 0)
		r = intent_open(&intent, &fs->journal, "rename",
				json_pack("{s:o, s:o}", "from", json_of(move->from), "to", json_of(move->to)));
	if (r < 0)
		return r;
	r = move_keys(move, &intent);
	intent_close(&intent, r == 0);
	if (r < 0) {
		log_error(
			"renaming a directory stopped half-way: %s; what is missing under one name is under the other, "
			"and it will be finished",
			strerror(-r));
		recovery_soon(fs);
	}
	return r == -EOWNERDEAD ? -EIO : r;
}

void doubt_below(struct node *top)
{
	for (struct node *node = top; node; node = node_next_below(top, node)) {
		node->checked_us = 0;
		node_invalidate(node);
		if (node->dir)
			node->dir->complete = false;
	}
}

static int move_here(const struct dir_rename *rename, struct node *node, struct node *new_parent, struct str new_name)
{
	struct fs *fs = node->fs;
	int r;

	if (fs->config.state)
		state_rename_prefix(fs->config.state, rename->move.from, rename->move.to);
	r = rename_place(node, new_parent, new_name, false);
	fs->tree_generation++;
	if (r == 0)
		node_keep_ino(node, rename->move.to);
	/* what others did below it meanwhile may have been told of the old name, or be told yet */
	if (fs->push.echoes.on) {
		doubt_below(node);
		new_parent->dir->complete = false;
	}
	node_changed_here(node);
	return r;
}

static co_fn int rename_directory(struct dir_rename *rename, struct node *node, struct node *target,
				  struct node *new_parent, struct str new_name)
{
	struct node *old_parent = node->parent;
	int r = check_size(node->fs, &rename->move);

	if (r == 0)
		r = target ? remove_directory(target) : check_target(node->fs, rename->move.to);
	if (r == 0)
		r = dir_anchor(new_parent);
	if (r < 0)
		return r;
	r = move_in_store(node->fs, &rename->move);
	if (r == 0)
		return move_here(rename, node, new_parent, new_name);
	old_parent->dir->complete = new_parent->dir->complete = false;
	doubt_below(node);
	return r;
}

int rename_dir_locked(struct node *node, struct node *target, struct node *new_parent, struct str new_name)
{
	CLEANUP(dir_rename_deinit) struct dir_rename rename = { 0 };
	int r;

	for (const struct node *up = new_parent; up; up = up->parent)
		if (up == node)
			return -EINVAL;
	if (target && !target->dir)
		return -ENOTDIR;
	r = make_keys(&rename, node, new_parent, new_name);
	return r < 0 ? r : rename_directory(&rename, node, target, new_parent, new_name);
}
