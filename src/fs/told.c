/* What the store tells of, applied to the tree.
 *
 * A notification is as an answer of the store that was asked for when it came: it may make, change and remove nodes, and what
 * was asked for before it does not come over it. Names in directories of which nothing is known are not kept, but the kernel,
 * and whoever asks at this moment, must not go on believing them absent. */
#include "fs/told.h"

#include <errno.h>

#include "base/clock.h"
#include "base/list.h"
#include "fs/base64.h"
#include "fs/held.h"
#include "fs/internal.h"
#include "fs/leftover.h"
#include "fs/listing.h"
#include "fs/news.h"
#include "fs/special.h"

/* Keys whose removal was told last: what is told late of them does not bring them back. */
#define GONE_KEYS 1000

static const struct str VALUE_NAME = { "%=", 2 };

struct gone {
	uint64_t hash; /* of the key */
	int64_t time_ms;
};

/* --- what programs and the kernel are told --- */

static void tell_kernel_of_name(struct node *dir, struct str name)
{
	const struct fs_notify *notify = &dir->fs->notify;

	if (!node_is_held(dir))
		return;
	notify->expire_entry(notify->arg, dir->id, name);
	notify->inval_inode(notify->arg, dir->id);
}

/* A name that was not known: what was said of it before holds no more. */
static void name_came(struct node *dir, struct str name)
{
	node_forget_absent(dir, name);
	tell_kernel_of_name(dir, name);
}

static void made(struct node *dir, struct str name)
{
	node_touch_dir(dir);
	name_came(dir, name);
	news_raise(dir, FS_EVENT_CREATED, name, node_child(dir, name));
}

static void removed(struct node *node, uint64_t seq)
{
	CLEANUP_NODE struct node *held = node;
	struct node *dir = node->parent;

	node_ref(held);
	vanish(node, seq);
	node_touch_dir(dir);
	news_raise(dir, FS_EVENT_REMOVED, buf_str(&held->name), held);
}

/* --- times --- */

static void note_gone(struct fs *fs, struct str key, int64_t time_ms)
{
	struct push *push = &fs->push;

	if (!push->gone)
		push->gone = calloc(GONE_KEYS, sizeof(*push->gone));
	if (push->gone)
		push->gone[push->next_gone++ % GONE_KEYS] = (struct gone){ key_hash(key), time_ms };
}

static bool was_gone_later(const struct fs *fs, struct str key, int64_t time_ms)
{
	uint64_t hash = key_hash(key);

	for (size_t i = 0; fs->push.gone && i < GONE_KEYS; i++)
		if (fs->push.gone[i].hash == hash && fs->push.gone[i].time_ms > time_ms)
			return true;
	return false;
}

/* Told late, or by a clock that was set back: nobody can tell but the store. */
static void doubt(struct node *node)
{
	node->checked_us = 0;
	node_invalidate(node);
}

static void doubt_name(struct node *dir, struct str name)
{
	dir_doubt(dir);
	name_came(dir, name);
}

/* --- a key --- */

struct change {
	struct fs *fs;
	struct str key;
	const struct told *told;
	uint64_t seq;
	bool record;
};

/* New names are kept where all names are, or somebody is asking for them at this moment; and the directory's own value, which no
 * listing of it brings. */
static bool keeps_name(const struct node *dir, struct str name)
{
	return dir->dir->complete || dir->dir->readers || names_is_value(name);
}

/* All that was in it is known, since the subscription began. */
static bool is_whole(const struct node *dir)
{
	return dir->dir->complete && dir->dir->listed_us && dir->dir->listed_seq >= dir->fs->push.since;
}

/* Keys show what they are, whatever else is there. So where programs are told of changes, names are kept though others in the
 * directory are not known: the next change of the same is none of a new one. */
static bool keeps_key(const struct node *dir, struct str name)
{
	return keeps_name(dir, name) || (dir->fs->notify.event && node_is_held(dir));
}

/* The record of a file that has come: what is in the store of it without a file. */
static void take_record(struct node *dir, struct str name, struct node *file, struct str former)
{
	CLEANUP(buf_free) struct buf left = BUF_INIT;
	const struct node *place = leftover_place(dir, name);
	bool known = former.len || leftover_take(dir, name, &left);

	if (known)
		node_apply_record(file, former.len ? former : buf_str(&left));
	if (former.len || (is_whole(place) && (known || !place->dir->leftovers_lost))) {
		node_record_checked(file, fs_tick(dir->fs));
		return;
	}
	file->record_known = false;
	file->checked_us = 0;
}

static int value_came(struct change *change, struct node *dir, struct str name)
{
	CLEANUP(buf_free) struct buf former = BUF_INIT;
	struct node *there = node_child(dir, name), *node;
	struct file *file = there ? there->file : NULL;
	char hash[CONTENT_HASH_LEN + 1] = "";
	int r = 0;

	if (!there && was_gone_later(change->fs, change->key, change->told->time_ms)) {
		doubt_name(dir, name);
		return 0;
	}
	if (!there && !keeps_key(dir, name)) {
		name_came(dir, name);
		return 0;
	}
	if (file)
		memcpy(hash, file->hash, sizeof(hash));
	if (there && there->special)
		r = buf_set(&former, buf_str(&there->record_value));
	if (r == 0)
		r = apply_value(dir, name, change->told->value, change->seq, there ? there->seen : 0);
	node = node_child(dir, name);
	if (r < 0 || !node || !node->file || node->file->held)
		return r;
	node->told_ms = change->told->time_ms;
	if (node->file != file) {
		take_record(dir, name, node, buf_str(&former));
		made(dir, name);
	} else if (strcmp(hash, file->hash) != 0 && !file->dirty && !change->told->own) {
		news_raise(dir, FS_EVENT_CHANGED, name, node);
	}
	return 0;
}

static int value_went(struct change *change, struct node *dir, struct str name)
{
	CLEANUP(buf_free) struct buf record = BUF_INIT;
	struct node *node = node_child(dir, name);
	int r;

	note_gone(change->fs, change->key, change->told->time_ms);
	dir->dir->doubtful |= !change->told->own; /* its record may make another file of that name */
	if (!node) {
		node_note_removed(dir, name);
		if (!dir->dir->complete && !change->told->own)
			news_raise(dir, FS_EVENT_REMOVED, name, NULL);
		return 0;
	}
	if (!node->file)
		return 0;
	if (node->file->held)
		return held_replaces(node, STR(""), change->seq);
	if (node->file->dirty) {
		value_apply_absence(node, change->seq);
		return 0;
	}
	if (!may_vanish(node, change->seq))
		return 0;
	if (buf_set(&record, buf_str(&node->record_value)) < 0)
		return -ENOMEM;
	if (!node->checked_us || !node->record_known)
		dir_doubt(dir); /* its record is to be asked yet, and may alone make a file */
	removed(node, change->seq);
	r = special_remains(dir, name, buf_str(&record), fs_tick(change->fs), 0);
	if (r == 0 && node_child(dir, name))
		made(dir, name);
	return r;
}

/* It is being changed here. */
static bool is_busy(const struct node *dir, struct str name, const struct node *node)
{
	const struct push_name *held;

	if (node && node->lock.held)
		return true;
	DL_FOREACH(dir->fs->push.names, held)
		if (held->dir == dir && str_equal(held->name, name))
			return true;
	return false;
}

static int told_of_value(struct change *change, struct node *dir, struct str name)
{
	struct node *node = node_child(dir, name);

	if (is_busy(dir, name, node))
		return -EAGAIN;
	if (node && node->dir) {
		node->dir->value_known_us = clock_now_us();
		if (change->told->deleted)
			node_note_removed(dir, name); /* listings of `dir` bring it */
		return told_of_value(change, node, VALUE_NAME);
	}
	if (node && node->told_ms > change->told->time_ms) {
		doubt(node);
		return 0;
	}
	return change->told->deleted ? value_went(change, dir, name) : value_came(change, dir, name);
}

/* --- a record --- */

static int special_came(struct change *change, struct node *dir, struct str name)
{
	CLEANUP(buf_free) struct buf left = BUF_INIT;
	struct node *there = node_child(dir, name), *node;
	struct str value = change->told->value;
	bool doubted = there && !there->checked_us;
	int r;

	if (!there && !keeps_name(dir, name)) {
		name_came(dir, name);
		return 0;
	}
	r = special_apply(dir, name, value, change->seq, there ? there->seen : 0);
	node = node_child(dir, name);
	if (doubted && node == there)
		node->checked_us = 0; /* of the key nothing was told */
	if (r == 0 && node && node != there) {
		leftover_take(dir, name, &left);
		made(dir, name);
	}
	return r;
}

static int special_went(struct change *change, struct node *dir, struct str name, struct node *node)
{
	if (!may_vanish(node, change->seq))
		return 0;
	removed(node, change->seq);
	if (!change->told->deleted)
		leftover_add(dir, name, change->told->value);
	return 0;
}

static int file_record(struct change *change, struct node *dir, struct str name)
{
	CLEANUP(buf_free) struct buf left = BUF_INIT;
	struct node *node = node_child(dir, name);
	bool special = !change->told->deleted && special_is_record(change->told->value);
	bool listing = dir->dir->readers;

	if (node && node->dir) {
		dir = node;
		name = VALUE_NAME;
		node = node_child(dir, name);
	}
	/* an answer that is under way may bring what it is about */
	if (is_busy(dir, name, node) || (!node && (listing || dir->dir->readers)))
		return -EAGAIN;
	if (node && node->file && node->file->held)
		return held_replaces_record(node, change->told->value, change->seq);
	if (node && node->record_told_ms > change->told->time_ms) {
		node->record_known = false;
		doubt(node);
		return 0;
	}
	if (node) {
		node->record_told_ms = change->told->time_ms;
		node->record_seq = change->seq;
	}
	if (node && node->file) {
		node_apply_record(node, change->told->value);
		return 0;
	}
	if (special && !str_equal(name, VALUE_NAME))
		return special_came(change, dir, name);
	if (node)
		return special_went(change, dir, name, node);
	if (change->told->deleted)
		leftover_take(dir, name, &left);
	else if (dir->dir->complete || names_is_value(name))
		leftover_add(dir, name, change->told->value);
	return 0;
}

/* Without a record a directory is what keys below it make of it, as far as is known. */
static bool stands(struct node *dir)
{
	for (struct node *node = dir; node; node = node_next_below(dir, node))
		if (node->file || (node->dir && node->dir->implied && !is_whole(node)))
			return true;
	return false;
}

static int dir_record(struct change *change, struct node *dir)
{
	struct node *parent = dir->parent;
	CLEANUP(buf_free) struct buf name = BUF_INIT;
	CLEANUP(buf_free) struct buf left = BUF_INIT;

	if (dir->lock.held)
		return -EAGAIN;
	if (dir->record_told_ms > change->told->time_ms) {
		doubt(dir);
		return 0;
	}
	dir->record_told_ms = change->told->time_ms;
	dir->record_seq = change->seq;
	node_apply_record(dir, change->told->value);
	dir->dir->recorded = !change->told->deleted;
	if (dir->dir->recorded || !parent)
		return 0;
	if (stands(dir) || !may_vanish(dir, change->seq))
		return 0;
	if (buf_set(&name, buf_str(&dir->name)) < 0)
		return -ENOMEM;
	parent->dir->doubtful = true; /* keys below may have come that nobody told of */
	removed(dir, change->seq);
	leftover_add_below(parent, buf_str(&name));
	if (!leftover_take(parent, buf_str(&name), &left))
		return 0;
	/* of what it has hidden */
	if (special_is_record(buf_str(&left)))
		return special_apply(parent, buf_str(&name), buf_str(&left), fs_tick(change->fs), 0);
	leftover_add(parent, buf_str(&name), buf_str(&left));
	return 0;
}

/* The directory `name`, which the change shows to be one. 1: *out is set. 0: nothing is known of it. */
static int enter(struct change *change, struct node *dir, struct str name, bool own_record, struct node **out)
{
	struct node *there = node_child(dir, name);
	int r;

	if (is_busy(dir, name, there))
		return -EAGAIN;
	if (there && there->dir) {
		*out = there;
		if (!change->record && !change->told->deleted) {
			there->dir->implied = true;
			there->answer_seq = change->seq;
		}
		return 1;
	}
	if (change->record && dir->dir->readers)
		return -EAGAIN;
	if (change->told->deleted)
		return 0;
	if (change->record && !own_record) {
		leftover_add_below(dir, name);
		return 0;
	}
	if (!keeps_key(dir, name)) {
		if (there)
			doubt(there);
		name_came(dir, name);
		return 0;
	}
	r = apply_dir(dir, name, change->seq, change->seq, out);
	if (r < 0 || !*out)
		return r;
	(*out)->dir->implied = !change->record;
	if (!leftover_take_below(dir, name) && !there && is_whole(dir)) { /* there was nothing in it */
		(*out)->dir->complete = true;
		(*out)->dir->listed_us = (*out)->dir->value_known_us = clock_now_us();
		(*out)->dir->listed_seq = change->seq;
	}
	made(dir, name);
	return 1;
}

static int walk(struct change *change)
{
	CLEANUP(buf_free) struct buf name = BUF_INIT;
	const struct names_rules *rules = &change->fs->rules;
	struct node *dir = change->fs->root;
	struct names_split split;

	for (;;) {
		int r = node_dir_keys(dir);
		struct str prefix = change->record ? buf_str(&dir->dir->record) : buf_str(&dir->dir->key);

		if (r < 0)
			return r;
		if (change->record && str_equal(change->key, prefix))
			return dir_record(change, dir);
		if (names_split(rules, prefix, change->key, &split) < 0)
			return 0;
		if (change->record)
			r = names_valid(rules, split.segment) ? buf_set(&name, split.segment) : -EILSEQ;
		else
			r = names_name_from_segment(rules, split.segment, &name);
		if (r == -ENOMEM)
			return r;
		if (r < 0 || name.len > NAMES_SHOWN_BYTES)
			return 0; /* no name that is shown */
		if (!split.deeper)
			return change->record ? file_record(change, dir, buf_str(&name))
					      : told_of_value(change, dir, buf_str(&name));
		r = enter(change, dir, buf_str(&name), split.rest.len == 0, &dir);
		if (r <= 0)
			return r;
	}
}

/* --- a chunk --- */

static int told_of_chunk(struct fs *fs, struct str rest, const struct told *told)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct chunk_user *user, *first;
	struct content_id id;
	uint32_t index;

	if (told->own || !layout_parse_chunk(rest, &id, &index))
		return 0; /* our own are in the pages already */
	HASH_FIND(hh, fs->push.by_id, id.hex, CONTENT_ID_LEN, first);
	if (told->deleted || !first || base64_decode(told->value, &bytes) < 0)
		chunk_drop(fs, &id, index);
	else if (!chunk_told(fs, &id, index, &bytes))
		return 0;
	DL_FOREACH(first, user) {
		struct node *node = user->node;

		node->file->version++;
		node_invalidate(node);
		if (node->parent && !node->file->dirty)
			news_raise(node->parent, FS_EVENT_CHANGED, buf_str(&node->name), node);
	}
	return 0;
}

/* --- all --- */

int told_apply(struct fs *fs, struct str key, const struct told *told)
{
	struct change change = { .fs = fs, .key = key, .told = told, .seq = fs_tick(fs) };
	struct str rest;
	int r;

	if (fs->exclusive)
		return -EAGAIN;
	fs->push.told_ns = told->time_ms > 0 && told->time_ms < INT64_MAX / 1000000 ? told->time_ms * 1000000 : 0;
	if (str_starts(key, buf_str(&fs->reserved))) {
		rest = str_skip(key, fs->reserved.len);
		change.record = str_starts(rest, STR("m/"));
		r = change.record ? walk(&change) : 0;
		if (str_starts(rest, STR("c/")))
			r = told_of_chunk(fs, str_skip(rest, 2), told);
	} else {
		r = names_key_is_reserved(&fs->rules, key) ? 0 : walk(&change);
	}
	fs->push.told_ns = 0;
	return r;
}
