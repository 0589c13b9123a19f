/* What the store tells of, applied to the tree.
 *
 * A notification is as an answer of the store that was asked for when it came: it may make, change and remove nodes, and what
 * was asked for before it does not come over it. What of it concerns something that is being changed here waits until that is
 * done; what this mount has sent itself is no news, unless something else was told of the key before its echo (echo.h). Names in directories of which nothing is known are not
 * kept, but the kernel, and whoever asks at this moment, must not go on believing them absent. */
#include "fs/push.h"

#include <errno.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "fs/base64.h"
#include "fs/held.h"
#include "fs/leftover.h"
#include "fs/listing.h"
#include "fs/special.h"

/* More that waits is not kept: then all is asked for again. */
#define DEFERRED_MOST 10000
#define DEFERRED_MOST_BYTES (32u * 1024 * 1024)

/* Names that the kernel believes absent without limit. */
#define ABSENCES_MOST 10000

/* By the server's clock no notification is so far ahead of ours. */
#define AHEAD_MOST_NS (INT64_C(24) * 3600 * CLOCK_NS_PER_S)

/* Of a large directory so many files are asked for one by one; of more it is listed. */
#define ALONE_MOST 10

/* After a failure what is in use is asked for again. */
#define AGAIN_US (1 * CLOCK_US_PER_S)

static const struct str VALUE_NAME = { "%=", 2 };

struct deferred {
	UT_hash_handle hh;
	bool deleted, own;
	struct buf value;
	int64_t time_ms;
	size_t len;
	char key[];
};

struct gone {
	uint64_t hash; /* of the key */
	int64_t time_ms;
};

struct absence {
	UT_hash_handle hh;
	size_t len;
	struct {
		uint64_t dir;
		char name[];
	} key;
};

bool push_keeps(const struct fs *fs, uint64_t seq)
{
	return fs->push.live && seq >= fs->push.since;
}

/* Not by a clock that is far from ours. */
int64_t push_now_ns(const struct fs *fs)
{
	int64_t now = clock_real_ns(), told = fs->push.told_ns;

	return told > 0 && told < now + AHEAD_MOST_NS ? told : now;
}

/* --- names that the kernel believes absent --- */

static size_t absence_size(size_t len)
{
	return sizeof(uint64_t) + len;
}

static struct absence *absence_new(const struct node *dir, struct str name)
{
	struct absence *made = calloc(1, sizeof(*made) + name.len + 1);

	if (!made)
		return NULL;
	made->len = name.len;
	made->key.dir = dir->id;
	memcpy(made->key.name, name.p, name.len);
	return made;
}

static void absence_expire(struct fs *fs, struct absence *absence)
{
	fs->notify.expire_entry(fs->notify.arg, absence->key.dir, str_of(absence->key.name, absence->len));
	HASH_DEL(fs->push.absences, absence);
	free(absence);
}

uint64_t push_give_absent(struct node *dir, struct str name, uint64_t seq)
{
	struct fs *fs = dir->fs;
	struct absence *absence, *known;

	if (!(dir_is_known(dir) && push_keeps(fs, dir->dir->listed_seq)) && !(dir->dir->large && push_keeps(fs, seq)))
		return 0;
	absence = absence_new(dir, name);
	if (!absence)
		return 0;
	HASH_FIND(hh, fs->push.absences, &absence->key, absence_size(name.len), known);
	if (known) {
		free(absence);
		return FS_FOREVER;
	}
	HASH_ADD_KEYPTR(hh, fs->push.absences, &absence->key, absence_size(name.len), absence);
	if (!absence->hh.tbl) {
		free(absence);
		return 0;
	}
	if (HASH_COUNT(fs->push.absences) > ABSENCES_MOST)
		absence_expire(fs, fs->push.absences);
	return FS_FOREVER;
}

/* --- what programs and the kernel are told --- */

static void tell_kernel_of_name(struct node *dir, struct str name)
{
	const struct fs_notify *notify = &dir->fs->notify;

	if (!node_is_held(dir))
		return;
	notify->expire_entry(notify->arg, dir->id, name);
	notify->inval_inode(notify->arg, dir->id);
}

static void raise_event(struct node *dir, enum fs_event event, struct str name, bool is_dir)
{
	const struct fs_notify *notify = &dir->fs->notify;

	if (notify->event && node_is_held(dir))
		notify->event(notify->arg, event, dir->id, name, is_dir);
}

/* A name that was not known: what was said of it before holds no more. */
static void name_came(struct node *dir, struct str name)
{
	node_forget_absent(dir, name);
	tell_kernel_of_name(dir, name);
}

static void made(struct node *dir, struct str name, bool is_dir)
{
	node_touch_dir(dir);
	name_came(dir, name);
	raise_event(dir, FS_EVENT_CREATED, name, is_dir);
}

static void removed(struct node *dir, struct str name, bool is_dir)
{
	node_touch_dir(dir);
	raise_event(dir, FS_EVENT_REMOVED, name, is_dir);
}

/* --- times --- */

static uint64_t key_hash(struct str key)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (size_t i = 0; i < key.len; i++)
		hash = (hash ^ (unsigned char)key.p[i]) * 0x100000001b3u;
	return hash;
}

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
	dir->dir->complete = false;
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

/* The record of a file that has come: what is in the store of it without a file. */
static void take_record(struct node *dir, struct str name, struct node *file, struct str former)
{
	CLEANUP(buf_free) struct buf left = BUF_INIT;

	if (former.len)
		node_apply_record(file, former);
	else if (leftover_take(dir, name, &left))
		node_apply_record(file, buf_str(&left));
	else if (dir->dir->complete)
		file->record_known = true;
	else
		file->checked_us = 0;
}

static int value_came(struct change *change, struct node *dir, struct str name)
{
	CLEANUP(buf_free) struct buf former = BUF_INIT;
	struct node *there = node_child(dir, name), *node;
	struct file *file = there ? there->file : NULL;
	uint64_t version = file ? file->version : 0;
	int r = 0;

	if (!there && was_gone_later(change->fs, change->key, change->told->time_ms)) {
		doubt_name(dir, name);
		return 0;
	}
	if (!there && !keeps_name(dir, name)) {
		name_came(dir, name);
		return 0;
	}
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
		made(dir, name, false);
	} else if (file->version != version && !file->dirty && !change->told->own) {
		raise_event(dir, FS_EVENT_CHANGED, name, false);
	}
	return 0;
}

static int value_went(struct change *change, struct node *dir, struct str name)
{
	CLEANUP(buf_free) struct buf record = BUF_INIT;
	struct node *node = node_child(dir, name);

	note_gone(change->fs, change->key, change->told->time_ms);
	dir->dir->doubtful = true; /* its record may make another file of that name */
	if (!node) {
		node_note_removed(dir, name);
		return 0;
	}
	if (!node->file || node->file->held)
		return 0;
	if (node->file->dirty) {
		node->file->stored = false;
		return 0;
	}
	if (!may_vanish(node, change->seq))
		return 0;
	if (buf_set(&record, buf_str(&node->record_value)) < 0)
		return -ENOMEM;
	vanish(node, change->seq);
	removed(dir, name, false);
	if (!special_is_record(buf_str(&record)))
		return 0;
	if (names_is_value(name)) /* the directory hides it */
		leftover_add(dir, name, buf_str(&record));
	else if (special_apply(dir, name, buf_str(&record), fs_tick(change->fs), 0) == 0 && node_child(dir, name))
		made(dir, name, false);
	return 0;
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
	int r;

	if (!there && !keeps_name(dir, name)) {
		name_came(dir, name);
		return 0;
	}
	r = special_apply(dir, name, value, change->seq, there ? there->seen : 0);
	node = node_child(dir, name);
	if (r == 0 && node && node != there) {
		leftover_take(dir, name, &left);
		made(dir, name, false);
	}
	return r;
}

static int special_went(struct change *change, struct node *dir, struct str name, struct node *node)
{
	if (!may_vanish(node, change->seq))
		return 0;
	vanish(node, change->seq);
	removed(dir, name, false);
	if (!change->told->deleted)
		leftover_add(dir, name, change->told->value);
	return 0;
}

static int file_record(struct change *change, struct node *dir, struct str name)
{
	CLEANUP(buf_free) struct buf left = BUF_INIT;
	struct node *node = node_child(dir, name);
	bool special = !change->told->deleted && special_is_record(change->told->value);

	if (node && node->dir) {
		dir = node;
		name = VALUE_NAME;
		node = node_child(dir, name);
	}
	/* an answer that is under way may bring what it is about */
	if (is_busy(dir, name, node) || (!node && dir->dir->readers))
		return -EAGAIN;
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
		if (node->file || (node->dir && node->dir->implied && !node->dir->complete))
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
	vanish(dir, change->seq);
	leftover_add_below(parent, buf_str(&name));
	removed(parent, buf_str(&name), true);
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
		there->dir->implied |= !change->record && !change->told->deleted;
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
	if (!keeps_name(dir, name)) {
		if (there)
			doubt(there);
		name_came(dir, name);
		return 0;
	}
	r = apply_dir(dir, name, change->seq, change->seq, out);
	if (r < 0 || !*out)
		return r;
	(*out)->dir->implied = !change->record;
	if (!leftover_take_below(dir, name) && !there && dir->dir->complete) { /* there was nothing in it */
		(*out)->dir->complete = true;
		(*out)->dir->listed_us = (*out)->dir->value_known_us = clock_now_us();
		(*out)->dir->listed_seq = change->seq;
	}
	made(dir, name, true);
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

static bool parse_chunk_key(struct str rest, struct content_id *id, uint32_t *index)
{
	int64_t created_ms;
	char text[9], *end;

	if (rest.len != CONTENT_ID_LEN + 1 + 8 || rest.p[CONTENT_ID_LEN] != '/' ||
	    !content_id_parse(str_of(rest.p, CONTENT_ID_LEN), id, &created_ms))
		return false;
	memcpy(text, rest.p + CONTENT_ID_LEN + 1, 8);
	text[8] = '\0';
	*index = (uint32_t)strtoul(text, &end, 16);
	return !*end;
}

static int told_of_chunk(struct fs *fs, struct str rest, const struct told *told)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct chunk_user *user, *first;
	struct content_id id;
	uint32_t index;

	if (told->own || !parse_chunk_key(rest, &id, &index))
		return 0; /* our own are in the pages already */
	HASH_FIND(hh, fs->push.by_id, id.hex, CONTENT_ID_LEN, first);
	if (told->deleted || !first || base64_decode(told->value, &bytes) < 0)
		chunk_drop(fs, &id, index);
	else if (!chunk_told(fs, &id, index, &bytes))
		return 0;
	DL_FOREACH(first, user) {
		user->node->file->version++;
		node_invalidate(user->node);
	}
	return 0;
}

/* --- all --- */

/* -EAGAIN: it concerns what is being changed here. */
static int apply(struct fs *fs, struct str key, const struct told *told)
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

static void deferred_free(struct fs *fs, struct deferred *deferred)
{
	HASH_DEL(fs->push.deferred, deferred);
	fs->push.deferred_bytes -= deferred->value.capacity;
	buf_free(&deferred->value);
	free(deferred);
}

static void deferred_clear(struct fs *fs)
{
	struct deferred *deferred, *next;

	HASH_ITER(hh, fs->push.deferred, deferred, next)
		deferred_free(fs, deferred);
}

/* What is told cannot be kept: all is asked for again. Not at once: whoever finds it still has what an end would free. */
static void overwhelmed(struct fs *fs)
{
	fs->push.overwhelmed = true;
	loop_defer(fs->loop, &fs->push.task);
}

static void give_up(struct fs *fs)
{
	fs->push.overwhelmed = false;
	log_warning("more changes are told than can be kept: everything is asked for again");
	if (fs->notify.echo_missing)
		fs->notify.echo_missing(fs->notify.arg);
	else
		fs_subscription_end(fs);
}

static struct deferred *deferred_find(const struct fs *fs, struct str key)
{
	struct deferred *found;

	HASH_FIND(hh, fs->push.deferred, key.p, key.len, found);
	return found;
}

static struct deferred *deferred_make(struct fs *fs, struct str key)
{
	struct deferred *made = deferred_find(fs, key);

	if (made)
		return made;
	if (HASH_COUNT(fs->push.deferred) >= DEFERRED_MOST || fs->push.deferred_bytes >= DEFERRED_MOST_BYTES)
		return NULL;
	made = calloc(1, sizeof(*made) + key.len);
	if (!made)
		return NULL;
	made->len = key.len;
	memcpy(made->key, key.p, key.len);
	HASH_ADD_KEYPTR(hh, fs->push.deferred, made->key, made->len, made);
	if (made->hh.tbl)
		return made;
	free(made);
	return NULL;
}

static void defer(struct fs *fs, struct str key, const struct told *told)
{
	struct deferred *deferred = deferred_make(fs, key);
	int r = deferred ? 0 : -ENOMEM;

	if (r == 0) {
		deferred->deleted = told->deleted;
		deferred->own = told->own;
		deferred->time_ms = told->time_ms;
		fs->push.deferred_bytes -= deferred->value.capacity;
		r = buf_set(&deferred->value, told->deleted ? STR("") : told->value);
		fs->push.deferred_bytes += deferred->value.capacity;
	}
	if (r < 0)
		overwhelmed(fs);
}

static void apply_deferred(struct loop_task *task)
{
	struct fs *fs = lws_container_of(task, struct fs, push.task);
	struct deferred *deferred, *next;

	if (fs->push.overwhelmed) {
		give_up(fs);
		return;
	}
	HASH_ITER(hh, fs->push.deferred, deferred, next) {
		struct told told = { .deleted = deferred->deleted,
				     .value = buf_str(&deferred->value),
				     .time_ms = deferred->time_ms,
				     .own = deferred->own };
		int r = apply(fs, str_of(deferred->key, deferred->len), &told);

		if (r == -EAGAIN)
			continue;
		deferred_free(fs, deferred);
		if (r < 0)
			overwhelmed(fs);
	}
}

void push_go_on(struct fs *fs)
{
	if (fs->push.deferred && !fs->exclusive)
		loop_defer(fs->loop, &fs->push.task);
}

void push_name_begin(struct push_name *held, const struct node *dir, struct str name)
{
	*held = (struct push_name){ .dir = dir, .name = name };
	DL_APPEND(dir->fs->push.names, held);
}

void push_name_end(struct push_name *held)
{
	DL_DELETE(held->dir->fs->push.names, held);
	push_go_on(held->dir->fs);
}

/* Not at once: who has sent it has not been told yet. */
static void settled(void *arg, struct str key, const struct told *told)
{
	struct fs *fs = arg;

	defer(fs, key, told);
	push_go_on(fs);
}

static bool recall(void *arg, struct str key, struct buf *value, struct told *told)
{
	struct fs *fs = arg;
	struct deferred *deferred = deferred_find(fs, key);

	if (!deferred)
		return false;
	*told = (struct told){ .deleted = deferred->deleted, .time_ms = deferred->time_ms, .own = deferred->own };
	fs->push.deferred_bytes -= deferred->value.capacity;
	buf_free(value);
	*value = buf_take(&deferred->value);
	deferred_free(fs, deferred);
	return true;
}

static void echo_missing(void *arg)
{
	struct fs *fs = arg;

	log_warning("a change was not announced by the server: the subscription is made anew");
	if (fs->notify.echo_missing)
		fs->notify.echo_missing(fs->notify.arg);
	else
		fs_subscription_end(fs);
}

void fs_notified(struct fs *fs, struct str key, const struct str *value, int64_t time_ms)
{
	struct told told = { .deleted = !value, .value = value ? *value : STR(""), .time_ms = time_ms };
	int r;

	if (!fs->push.subscribed)
		return;
	fs->push.told++;
	if (echoes_hear(&fs->push.echoes, key, &told))
		return;
	r = deferred_find(fs, key) ? -EAGAIN : apply(fs, key, &told);
	if (r == -EAGAIN)
		defer(fs, key, &told);
	else if (r < 0)
		overwhelmed(fs);
}

/* --- begin --- */

static bool goes_on(const struct fs *fs, unsigned period)
{
	return fs->push.period == period && !fs->ending;
}

static bool in_use(const struct node *dir)
{
	return dir->dir && !node_is_unlinked(dir) && (dir->lookups || dir == dir->fs->root || dir->dir->children) &&
	       dir->dir->listed_us;
}

static co_fn int ask_alone(struct node *dir, unsigned period)
{
	struct node *child = node_next_child(dir, 0);
	int r = 0;

	while (child && goes_on(dir->fs, period) && (r == 0 || r == -ENOENT)) {
		uint64_t cookie = child->cookie;

		node_ref(child);
		if (child->lookups) {
			child->checked_us = 0;
			r = node_refresh(child);
		}
		node_unref(child);
		child = node_next_child(dir, cookie);
	}
	return r == -ENOENT ? 0 : r;
}

static unsigned held_children(struct node *dir)
{
	unsigned count = 0;

	for (struct node *child = node_next_child(dir, 0); child; child = node_next_child(dir, child->cookie))
		count += child->lookups != 0;
	return count;
}

static co_fn int ask_dir(struct node *dir, unsigned period)
{
	int r;

	if (push_keeps(dir->fs, dir->dir->listed_seq) || dir->dir->listed_seq >= dir->fs->push.since)
		return 0;
	dir->dir->listed_us = 0;
	if (dir->dir->large && held_children(dir) <= ALONE_MOST)
		return ask_alone(dir, period);
	r = dir_list(dir, true);
	return r == -ENOENT || r == -ESTALE ? 0 : r;
}

static co_fn int ask_for_all(struct fs *fs, unsigned period)
{
	struct node *node, *next;
	int r = 0;

	for (node = fs->by_id; node && r == 0 && goes_on(fs, period); node = next) {
		node_ref(node);
		if (in_use(node))
			r = ask_dir(node, period);
		next = node->by_id.next;
		node_unref(node);
	}
	return r;
}

static void ask_again(void *arg)
{
	struct fs *fs = arg;
	unsigned period = fs->push.period;

	while (goes_on(fs, period)) {
		if (ask_for_all(fs, period) == 0) {
			if (goes_on(fs, period))
				fs->push.live = true;
			break;
		}
		if (co_sleep(fs->loop, AGAIN_US) < 0)
			continue;
	}
	fs_background_end(fs);
}

void fs_subscription_begin(struct fs *fs)
{
	fs_subscription_end(fs);
	if (fs->ending)
		return;
	fs->push.subscribed = true;
	fs->push.begun++;
	fs->push.period++;
	fs->push.since = fs_tick(fs);
	echoes_begin(&fs->push.echoes);
	if (fs_background_start(fs, ask_again) < 0)
		overwhelmed(fs);
}

/* --- end --- */

static void forget_copies(struct fs *fs)
{
	struct fs_handle *handle;

	DL_FOREACH(fs->open, handle)
		if (handle->copies)
			handle->node->dir->copy_version = COPY_MIXED;
}

/* Pages of what is open are read without asking. */
static void tell_kernel_to_ask(struct fs *fs)
{
	const struct fs_notify *notify = &fs->notify;
	bool names = !notify->expire_all || !notify->expire_all(notify->arg);
	struct absence *absence, *next_absence;
	struct node *node, *next;

	HASH_ITER(hh, fs->push.absences, absence, next_absence) {
		if (names) {
			absence_expire(fs, absence);
			continue;
		}
		HASH_DEL(fs->push.absences, absence);
		free(absence);
	}
	HASH_ITER(by_id, fs->by_id, node, next) {
		if (!node_is_held(node))
			continue;
		node->given_us = 0;
		if (names && node->parent)
			notify->expire_entry(notify->arg, node->parent->id, buf_str(&node->name));
		if (notify->inval_attributes && !(node->file && node->file->opens) && !(node->dir && node->dir->opens))
			notify->inval_attributes(notify->arg, node->id);
		else
			notify->inval_inode(notify->arg, node->id);
	}
}

void fs_subscription_end(struct fs *fs)
{
	struct push *push = &fs->push;

	if (!push->subscribed)
		return;
	push->subscribed = push->live = push->overwhelmed = false;
	push->period++;
	echoes_end(&push->echoes);
	deferred_clear(fs);
	free(STEAL(push->gone));
	push->next_gone = 0;
	forget_copies(fs);
	if (!fs->ending)
		tell_kernel_to_ask(fs);
}

void push_figures(const struct fs *fs, struct fs_figures *figures)
{
	figures->live = fs->push.live;
	figures->subscriptions = fs->push.begun;
	figures->notifications = fs->push.told;
	figures->echoes = fs->push.echoes.matched;
	figures->deferred = HASH_COUNT(fs->push.deferred);
	figures->absences = HASH_COUNT(fs->push.absences);
}

void push_init(struct fs *fs, struct store *store)
{
	struct push *push = &fs->push;

	push->task.fn = apply_deferred;
	push->echoes.settled = settled;
	push->echoes.recall = recall;
	push->echoes.missing = echo_missing;
	push->echoes.arg = fs;
	echoes_init(&push->echoes, store, fs->loop);
	fs->store = &push->echoes.store;
}

void push_free(struct fs *fs)
{
	struct absence *absence, *next;

	fs->ending = true;
	fs_subscription_end(fs);
	HASH_ITER(hh, fs->push.absences, absence, next) {
		HASH_DEL(fs->push.absences, absence);
		free(absence);
	}
	while (fs->push.task.queued)
		loop_once(fs->loop);
}
