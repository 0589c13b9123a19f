/* Attributes on their way to the store. */
#include "fs/attr.h"

#include <errno.h>

#include "base/log.h"
#include "fs/internal.h"
#include "fs/rights.h"

/* Records sent side by side. */
#define SEND_WINDOW 16

/* --- one record --- */

/* A record that says nothing, or nothing that can be read, is written whole: a PATCH of what is no JSON would append. */
static co_fn int store_record(struct node *node, const struct record *from, const struct record *to, struct str value)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf patch = BUF_INIT;
	CLEANUP(buf_free) struct buf before = BUF_INIT;
	struct fs *fs = node->fs;
	int r = record_encode_patch(from, to, 0, &patch);

	if (r < 0 || patch.len == 0)
		return r;
	if (value.len > fs->config.max_value)
		return -ENOSPC;
	if (node->record_value.len == 0)
		r = layout_ensure(fs);
	if (r == 0)
		r = node_keys(node, NULL, &key);
	if (r == 0)
		r = buf_set(&before, buf_str(&node->record_value));
	if (r < 0)
		return r;
	if (node->record_value.len && from->has == 0)
		return store_set(fs->store, buf_str(&key), value, store_expect_value(buf_str(&before)));
	return store_merge(fs->store, buf_str(&key), buf_str(&patch));
}

static co_fn int send_records(struct node *node, const char *hash, struct record *from, struct record *to)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	uint64_t changes = node->wait.changes;
	unsigned left = attr_left(node, hash);
	int r = attr_records(node, hash, from, to);

	if (r == 0)
		r = record_encode(to, &value);
	if (r < 0)
		return r;
	if (to->has == 0 && node->record_value.len == 0) {
		buf_clear(&value); /* nothing differs from the defaults */
	} else {
		r = store_record(node, from, to, buf_str(&value));
		if (r < 0)
			return r;
	}
	attr_stored(node, buf_str(&value), changes, left);
	return 0;
}

/* What may be otherwise next time; all else can never be stored. */
static bool may_pass(int err)
{
	return err == -ETIMEDOUT || err == -EIO || err == -ECONNRESET || err == -ENOMEM;
}

/* With the node locked. */
static co_fn int send_record(struct node *node, const char *hash)
{
	struct record from, to;
	int r;

	record_init(&from);
	record_init(&to);
	r = send_records(node, hash, &from, &to);
	record_deinit(&from);
	record_deinit(&to);
	if (r == 0 || may_pass(r))
		return r;
	log_error("a change of the attributes of %s was lost: %s", node->name.p ? node->name.p : "the root",
		  strerror(-r));
	attr_drop(node);
	xattrs_forget_changes(node);
	node_apply_attributes(node);
	node_invalidate(node);
	return r == -EPROTONOSUPPORT ? -EPERM : r;
}

/* --- with a value --- */

#define RIGHTS (RECORD_MODE | RECORD_UID | RECORD_GID | RECORD_XATTR)

/* What the store has of it. One that cannot be read is as good as none; -EPROTONOSUPPORT, -ENOMEM. */
static int stored_record(const struct node *node, struct record *record)
{
	int r = node->record_value.len ? record_decode(buf_str(&node->record_value), record) : 0;

	return r == -EINVAL ? 0 : r;
}

static int make_guard(struct node *node, mode_t mode, struct record *from, struct record *to)
{
	const struct buf *acl = xattr_find(node, STR(XATTR_ACL_ACCESS));
	int r = stored_record(node, from);

	if (r == 0)
		r = record_copy(from, to);
	if (r == 0 && acl)
		r = xattr_put(node, STR(XATTR_ACL_ACCESS), buf_str(acl));
	if (r < 0)
		return r;
	record_xattr_remove(to, STR(XATTR_ACL_ACCESS));
	to->mode = ((to->has & RECORD_MODE ? to->mode : node->mode) & S_IFMT) | mode;
	to->has |= RECORD_MODE;
	return 0;
}

int attr_guard(struct node *node, mode_t mode)
{
	CLEANUP(record_deinit) struct record from = { 0 };
	CLEANUP(record_deinit) struct record to = { 0 };
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	int r = make_guard(node, mode, &from, &to);

	if (r == 0)
		r = record_encode(&to, &value);
	if (r == 0)
		r = store_record(node, &from, &to, buf_str(&value));
	if (r < 0)
		return r == -EPROTONOSUPPORT ? -EPERM : r;
	attr_changed(node, RECORD_MODE);
	node_record_checked(node, fs_tick(node->fs));
	if (buf_set(&node->record_value, buf_str(&value)) < 0)
		node->checked_us = 0; /* it is read again */
	node->change_seq = fs_tick(node->fs);
	node_apply_attributes(node);
	return 0;
}

/* How the record in the store and the one that waits are to follow each other. */
enum turn {
	TURN_LATER,   /* the one that waits comes last: whatever comes may be seen with the present one */
	TURN_FIRST,   /* it comes first: what is there may be seen with it */
	TURN_GUARDED, /* neither: it comes last, and a guard first */
};

static enum turn choose_turn(const struct node *node, mode_t *common)
{
	CLEANUP(record_deinit) struct record record = { 0 };
	struct rights before, after = rights_of_node(node);

	if (!(node->wait.members & RIGHTS))
		return TURN_LATER;
	if (stored_record(node, &record) < 0)
		return TURN_FIRST; /* and fails */
	before = rights_of_record(node, &record);
	if (rights_within(&before, &after))
		return TURN_LATER;
	*common = rights_common(&before, &after);
	return node->file->stored && !rights_within(&after, &before) ? TURN_GUARDED : TURN_FIRST;
}

/* 1: the record that waits is to be sent now. */
static co_fn int take_turn(struct node *node)
{
	mode_t common;

	switch (choose_turn(node, &common)) {
	case TURN_GUARDED:
		return attr_guard(node, common);
	case TURN_FIRST:
		return 1;
	case TURN_LATER:
		break;
	}
	return 0;
}

/* The value has failed to follow it: fsck may have removed it since. */
static co_fn int put_record_back(struct node *node)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	int r;

	if (!attr_awaits_value(node))
		return 0;
	r = node_keys(node, NULL, &key);
	if (r == 0)
		r = buf_set(&value, buf_str(&node->record_value));
	if (r == 0)
		r = store_get(node->fs->store, buf_str(&key), &now);
	if (r != -ENOENT)
		return r;
	return store_set(node->fs->store, buf_str(&key), buf_str(&value),
			 (struct store_expect){ .what = STORE_EXPECT_ABSENT });
}

int attr_before_value(struct node *node, struct str value)
{
	char hash[CONTENT_HASH_LEN + 1];
	int r = put_record_back(node);

	if (r < 0)
		return r;
	/* until the record follows, it is not taken for one of another's value */
	if (node->record_has & RECORD_HASH)
		node->wait.bind = true;
	r = take_turn(node);
	if (r != 1)
		return r;
	r = content_hash(value, hash);
	node->wait.bind |= attr_binds(node);
	return r < 0 ? r : send_record(node, hash);
}

int attr_before_chunks(struct node *node)
{
	int r = take_turn(node);

	return r == 1 ? send_record(node, NULL) : r;
}

int attr_after_value(struct node *node)
{
	int r;

	if (!node->wait.bind && !node->wait.members)
		return 0;
	r = send_record(node, node->file->hash);
	if (r == 0) {
		node->wait.bind = false;
		node_apply_attributes(node);
	}
	return r;
}

int attr_after_chunks(struct node *node)
{
	int r;

	attr_changed(node, RECORD_MTIME);
	r = attr_after_value(node);
	/* it may have overwritten the time by which another mount tells of chunks that it has changed */
	value_doubt_for(node, 0);
	return r;
}

/* --- alone --- */

int attr_commit(struct node *node)
{
	struct fs *fs = node->fs;
	bool overwrites;
	int r = 0;

	if (!node->wait.members)
		return 0;
	node_ref(node);
	tree_shared(fs);
	node_lock(node);
	if (node_is_unlinked(node))
		attr_drop(node);
	/* what was never stored goes with its first value */
	overwrites = node->file && node->wait.members & RECORD_MTIME && node->record_has & RECORD_MTIME;
	if (node->wait.members && !(node->file && !node->file->stored))
		r = send_record(node, node->file && !node->file->dirty ? node->file->hash : NULL);
	if (overwrites)
		value_doubt_for(node, 0); /* as attr_after_chunks */
	node_unlock(node);
	tree_shared_end(fs);
	if (node->wait.members && !local_waits(node))
		attr_changed(node, 0);
	node_unref(node);
	return r;
}

int attr_remove(const struct node *node, struct str key)
{
	CLEANUP(buf_free) struct buf before = BUF_INIT;
	struct store_expect expect = { .what = STORE_EXPECT_UNKNOWN };
	int r = buf_set(&before, buf_str(&node->record_value));

	if (r == 0 && node->record_known)
		expect = store_expect_value(buf_str(&before));
	return r < 0 ? r : store_delete(node->fs->store, key, expect);
}

/* --- all --- */

struct round {
	struct fs *fs;
	unsigned left; /* those that waited when it began */
	struct co_group group;
	int err; /* the first */
};

static void send_some(void *arg)
{
	struct round *round = arg;
	struct fs *fs = round->fs;

	while (round->left && fs->attr_waiting) {
		struct node *node = fs->attr_waiting;
		int r;

		round->left--;
		DL_DELETE2(fs->attr_waiting, node, wait.prev, wait.next);
		node->wait.listed = false;
		r = attr_commit(node);
		if (r < 0 && round->err == 0)
			round->err = r;
		node_unref(node);
	}
	co_group_done(&round->group);
}

int attr_commit_all(struct fs *fs)
{
	struct round round = { .fs = fs };
	struct node *node;

	fs->attr_rounds++;
	DL_FOREACH2(fs->attr_waiting, node, wait.next)
	round.left++;
	for (unsigned i = 0; i < SEND_WINDOW && round.left; i++)
		co_start_beside(fs->loop, &round.group, send_some, &round);
	co_group_wait(&round.group);
	/* what another has in hand is on its way too */
	fs->attr_rounds--;
	co_queue_wake_all(&fs->attr_sent);
	while (fs->attr_rounds)
		queue_wait(&fs->attr_sent);
	return round.err;
}

static void send_all(void *arg)
{
	struct fs *fs = arg;

	if (attr_commit_all(fs) < 0)
		log_debug("attributes wait for a store that does not answer");
	fs_background_end(fs);
}

static void delay_is_over(struct loop_timer *timer)
{
	struct fs *fs = lws_container_of(timer, struct fs, attr_timer);

	if (fs_background_start(fs, send_all) == -ENOMEM)
		attr_start_timer(fs);
}

void attr_start_timer(struct fs *fs)
{
	if (!fs->attr_timer.loop)
		loop_timer_set(fs->loop, &fs->attr_timer, fs->config.attr_delay_us, delay_is_over);
}
