#include "fs/attr.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/acl.h"
#include "fs/held.h"
#include "fs/internal.h"
#include "fs/leftover.h"

#define SET_ID ((mode_t)(S_ISUID | S_ISGID))

/* What the mount shows by default. */
static mode_t default_mode(const struct node *node)
{
	mode_t umask = node->fs->config.umask;

	if (node->dir)
		return S_IFDIR | (0777 & ~umask);
	return node->file ? S_IFREG | (0666 & ~umask) : node->mode;
}

mode_t attr_file_mode(const struct fs *fs, const struct record *record)
{
	mode_t mode = S_IFREG | (0666 & ~fs->config.umask);

	if (!(record->has & RECORD_MODE))
		return mode;
	/* of what is, or was, no regular file: while one is replaced by the other nobody may do more than with both */
	return S_ISREG(record->mode) ? record->mode : mode & (S_IFREG | record->mode);
}

/* --- from the record --- */

static int64_t ns_of(const struct timespec *time)
{
	return (int64_t)time->tv_sec * CLOCK_NS_PER_S + time->tv_nsec;
}

static struct timespec time_of(int64_t ns)
{
	int64_t rest = ns % CLOCK_NS_PER_S;

	if (rest < 0)
		rest += CLOCK_NS_PER_S;
	return (struct timespec){ .tv_sec = (ns - rest) / CLOCK_NS_PER_S, .tv_nsec = rest };
}

/* Changes below a directory are remembered on this machine, bound to the time that its record had then: whichever is later
 * holds. */
static void apply_dir_time(struct node *node, const struct record *record)
{
	struct state *state = node->fs->config.state;
	char text[RECORD_TIME_SIZE] = "", base[CONTENT_HASH_LEN + 1] = "";

	if ((record->has & RECORD_MTIME) &&
	    (!record_format_time(&record->mtime, text) || content_hash(str_c(text), base) < 0))
		return;
	if (strcmp(base, node->dir->time_base) == 0)
		return;
	memcpy(node->dir->time_base, base, sizeof(base));
	if (node->wait.members & RECORD_MTIME)
		return;
	if (state && node_dir_keys(node) == 0 && state_find(state, buf_str(&node->dir->key), base, &node->mtime_ns))
		return;
	if (record->has & RECORD_MTIME)
		node->mtime_ns = ns_of(&record->mtime);
}

static void apply_time(struct node *node, const struct record *record)
{
	if (node->dir) {
		apply_dir_time(node, record);
		return;
	}
	/* the mtime belongs to one value; of another, written since by who knows no records, it is not the time */
	if (!(record->has & RECORD_MTIME) || !node->own || node->wait.members & RECORD_MTIME || node->wait.bind)
		return;
	if (node->file && node->file->dirty)
		node->file->stored_mtime_ns = ns_of(&record->mtime);
	else
		node->mtime_ns = ns_of(&record->mtime);
}

static void decode(const struct node *node, struct record *record)
{
	int r = node->record_value.len ? record_decode(buf_str(&node->record_value), record) : 0;

	if (r < 0)
		log_warning("the attributes of %s cannot be read (%s): it is shown with the defaults",
			    node->name.p ? node->name.p : "the root", strerror(-r));
}

void node_apply_attributes(struct node *node)
{
	struct fs *fs = node->fs;
	unsigned waiting = node->wait.members;
	struct record record;
	mode_t mode;

	record_init(&record);
	decode(node, &record);
	if (!node->wait.bind)
		node->own = !node->file || ((record.has & RECORD_HASH) && strcmp(record.hash, node->file->hash) == 0);
	node->record_has = record.has;
	mode = node->file ? attr_file_mode(fs, &record) : default_mode(node);
	if (!node->file && (record.has & RECORD_MODE) && (record.mode & S_IFMT) == (node->mode & S_IFMT))
		mode = record.mode;
	if (!node->own)
		mode &= ~SET_ID;
	if (!(waiting & RECORD_MODE))
		node->mode = mode;
	if (!(waiting & RECORD_UID))
		node->uid = record.has & RECORD_UID ? record.uid : fs->config.uid;
	if (!(waiting & RECORD_GID))
		node->gid = record.has & RECORD_GID ? record.gid : fs->config.gid;
	apply_time(node, &record);
	xattrs_apply(node, &record, node->own);
	record_deinit(&record);
}

/* Who writes in place changes nothing else that others look at; the value that the time is for may be one that he knew, and that
 * is not there any more. */
static bool tells_of_chunks(struct str before, struct str now)
{
	struct record a, b;
	bool differ = false;

	record_init(&a);
	record_init(&b);
	/* one that cannot be read tells nothing */
	if ((before.len == 0 || record_decode(before, &a) == 0) && now.len && record_decode(now, &b) == 0)
		differ = b.has & RECORD_MTIME &&
			 (!(a.has & RECORD_MTIME) || ns_of(&a.mtime) != ns_of(&b.mtime) || strcmp(a.hash, b.hash) != 0);
	record_deinit(&a);
	record_deinit(&b);
	return differ;
}

/* What the kernel may have been given of it. */
struct shown {
	mode_t mode;
	uint32_t uid, gid;
	int64_t mtime_ns;
};

static struct shown shown_of(const struct node *node)
{
	return (struct shown){ .mode = node->mode, .uid = node->uid, .gid = node->gid, .mtime_ns = node->mtime_ns };
}

static bool is_shown(const struct node *node, const struct shown *before)
{
	return node->mode == before->mode && node->uid == before->uid && node->gid == before->gid &&
	       node->mtime_ns == before->mtime_ns;
}

void node_record_checked(struct node *node, uint64_t seq)
{
	node->record_known = true;
	if (node->record_checked_seq < seq)
		node->record_checked_seq = seq;
}

/* A listing under way may have shown its value, and may yet show that it has a record; and one that came while nobody told of it is
 * to be asked for. */
bool node_record_holds(const struct node *node)
{
	return node->record_known && (!node->fs->push.live || push_keeps(node->fs, node->record_checked_seq));
}

bool attr_awaits_value(const struct node *node)
{
	return node->file && node->file->dirty && !node->file->stored && !node->wait.replace && node->record_value.len;
}

static void apply_record(struct node *node, struct str value)
{
	struct shown before = shown_of(node);
	bool changed;

	if (str_equal(buf_str(&node->record_value), value))
		return;
	if (!value.len && attr_awaits_value(node)) {
		node->record_known = false; /* asked for again once the value is there */
		return;
	}
	changed = node->file && tells_of_chunks(buf_str(&node->record_value), value);
	if (buf_set(&node->record_value, value) < 0)
		buf_clear(&node->record_value);
	node_apply_attributes(node);
	if (changed)
		value_doubt_chunks(node);
	if (!is_shown(node, &before))
		node_invalidate_attributes(node);
}

void node_apply_record(struct node *node, struct str value)
{
	node_record_checked(node, fs_tick(node->fs));
	apply_record(node, value);
}

void node_answer_record(struct node *node, struct str value, uint64_t seq)
{
	if (node->change_seq > seq || node->record_seq > seq)
		return;
	node_record_checked(node, seq);
	apply_record(node, value);
}

void attr_foreign_value(struct node *node)
{
	node->wait.bind = false;
	node->wait.members &= ~(unsigned)RECORD_MTIME;
	node->mode &= ~SET_ID;
	if (node->record_value.len)
		node_apply_attributes(node);
}

/* --- something new --- */

static int make_acls(const struct node *dir, const struct fs_maker *maker, struct record *made)
{
	CLEANUP(buf_free) struct buf acl = BUF_INIT;
	const struct buf *inherited = xattr_find(dir, STR(XATTR_ACL_DEFAULT));
	int r;

	if (S_ISLNK(made->mode))
		return 0;
	if (!inherited || acl_check(buf_str(inherited)) < 0) {
		made->mode &= ~maker->umask;
		return 0;
	}
	r = buf_set(&acl, buf_str(inherited));
	if (r == 0 && !acl_create(&acl, &made->mode))
		r = record_xattr_set(made, STR(XATTR_ACL_ACCESS), buf_str(&acl));
	if (r == 0 && S_ISDIR(made->mode))
		r = record_xattr_set(made, STR(XATTR_ACL_DEFAULT), buf_str(inherited));
	return r;
}

int attr_make(const struct node *dir, mode_t mode, const struct fs_maker *maker, struct record *made)
{
	made->has = RECORD_MODE | RECORD_UID | RECORD_GID;
	made->mode = mode & (S_IFMT | 07777);
	made->uid = maker->uid;
	made->gid = maker->gid;
	if (dir->mode & S_ISGID) {
		made->gid = dir->gid;
		if (S_ISDIR(mode))
			made->mode |= S_ISGID;
	}
	return make_acls(dir, maker, made);
}

/* Which members say something. */
static unsigned not_default(const struct node *node)
{
	const struct fs_config *config = &node->fs->config;

	return (node->mode != default_mode(node) ? RECORD_MODE : 0) | (node->uid != config->uid ? RECORD_UID : 0) |
	       (node->gid != config->gid ? RECORD_GID : 0);
}

int attr_new_file(struct node *node, const struct node *dir, mode_t mode, const struct fs_maker *maker)
{
	struct record made;
	unsigned members;
	int r;

	record_init(&made);
	r = attr_make(dir, S_IFREG | (mode & 07777), maker, &made);
	if (r == 0) {
		node_record_checked(node, fs_tick(node->fs));
		node->wait.replace = leftover_take(node->parent, buf_str(&node->name), &node->record_value);
		node->record_known =
			node->wait.replace || !leftover_place(node->parent, buf_str(&node->name))->dir->leftovers_lost;
		if (node->wait.replace)
			node_apply_attributes(node);
		xattrs_free(node);
		node->mode = made.mode;
		node->uid = made.uid;
		node->gid = made.gid;
		members = node->wait.replace ? RECORD_MODE | RECORD_UID | RECORD_GID : not_default(node);
		if (members)
			attr_changed(node, members);
	}
	for (size_t i = 0; r == 0 && i < made.xattr_count; i++)
		r = xattr_put(node, buf_str(&made.xattrs[i].name), buf_str(&made.xattrs[i].value));
	record_deinit(&made);
	return r;
}

/* --- what the record is to be --- */

/* What holds only for a value that is there no more. */
static void strip_void(struct record *record)
{
	if (record->has & RECORD_MODE)
		record->mode &= ~SET_ID;
	record->has &= ~(unsigned)(RECORD_MTIME | RECORD_HASH);
	for (size_t i = record->xattr_count; i-- > 0;)
		if (xattr_is_security(buf_str(&record->xattrs[i].name)) &&
		    !record_xattr_remove(record, buf_str(&record->xattrs[i].name)))
			return;
}

static bool sets_security(const struct node *node)
{
	if (!(node->wait.members & RECORD_XATTR) || !node->xattrs)
		return false;
	for (size_t i = 0; i < node->xattrs->set.xattr_count; i++)
		if (xattr_is_security(buf_str(&node->xattrs->set.xattrs[i].name)))
			return true;
	return false;
}

/* Which of these members belong to the value that a program sees. */
static unsigned of_value(const struct node *node, unsigned members)
{
	unsigned found = members & RECORD_MTIME;

	if (members & RECORD_MODE && node->mode & SET_ID)
		found |= RECORD_MODE;
	return sets_security(node) ? found | RECORD_XATTR : found;
}

/* Does what is to be stored belong to the present value? */
static bool binds(const struct node *node, unsigned members)
{
	return node->file && (node->wait.bind || of_value(node, members));
}

bool attr_binds(const struct node *node)
{
	return binds(node, node->wait.members);
}

static int add_xattrs(const struct node *node, bool valued, struct record *to)
{
	const struct xattrs *xattrs = node->xattrs;
	int r = 0;

	if (!xattrs)
		return 0;
	for (size_t i = 0; r == 0 && i < xattrs->set.xattr_count; i++) {
		const struct record_xattr *xattr = &xattrs->set.xattrs[i];

		if (valued || !xattr_is_security(buf_str(&xattr->name)))
			r = record_xattr_set(to, buf_str(&xattr->name), buf_str(&xattr->value));
	}
	for (size_t i = 0; r == 0 && i < xattrs->gone.xattr_count; i++)
		record_xattr_remove(to, buf_str(&xattrs->gone.xattrs[i].name));
	return r;
}

/* While the value is not there that they are for (not `valued`) set-id bits may be taken away, but not given. */
static int add_waiting(const struct node *node, unsigned members, bool valued, struct record *to)
{
	mode_t set_id = valued ? SET_ID : to->has & RECORD_MODE ? to->mode & SET_ID : 0;

	if (members & RECORD_MODE)
		to->mode = node->mode & (~SET_ID | set_id);
	if (members & RECORD_UID)
		to->uid = node->uid;
	if (members & RECORD_GID)
		to->gid = node->gid;
	if (members & RECORD_MTIME)
		to->mtime = time_of(node->mtime_ns);
	to->has |= members & (RECORD_MODE | RECORD_UID | RECORD_GID | RECORD_MTIME);
	return members & RECORD_XATTR ? add_xattrs(node, valued, to) : 0;
}

/* A member that no record had and that is as it would be without. */
static void drop_defaults(const struct node *node, const struct record *from, struct record *to)
{
	const struct fs_config *config = &node->fs->config;
	unsigned added = to->has & ~from->has;

	if (node->special)
		return;
	if (added & RECORD_MODE && to->mode == default_mode(node))
		to->has &= ~(unsigned)RECORD_MODE;
	if (added & RECORD_UID && to->uid == config->uid)
		to->has &= ~(unsigned)RECORD_UID;
	if (added & RECORD_GID && to->gid == config->gid)
		to->has &= ~(unsigned)RECORD_GID;
}

static int build(const struct node *node, const char *hash, const struct record *from, struct record *to)
{
	unsigned members = node->wait.members;
	bool valued = !node->file || (hash && hash[0]), bind;
	int r;

	if (!valued)
		members &= ~(unsigned)RECORD_MTIME;
	bind = valued && binds(node, members);
	if (bind && !node->own)
		strip_void(to);
	if (bind && node->wait.bind && from->has & RECORD_MTIME)
		members |= RECORD_MTIME;
	if (node->file)
		to->has &= ~(unsigned)(RECORD_TARGET | RECORD_RDEV);
	r = add_waiting(node, members, valued, to);
	if (r == 0 && bind) {
		memcpy(to->hash, hash, sizeof(to->hash));
		to->has |= RECORD_HASH;
	}
	drop_defaults(node, from, to);
	return r;
}

unsigned attr_left(const struct node *node, const char *hash)
{
	return node->file && !(hash && hash[0]) ? of_value(node, node->wait.members) : 0;
}

int attr_records(const struct node *node, const char *hash, struct record *from, struct record *to)
{
	int r = node->record_value.len ? record_decode(buf_str(&node->record_value), from) : 0;

	if (r < 0 && r != -EINVAL) /* a damaged one is as good as none */
		return r;
	r = node->wait.replace ? 0 : record_copy(from, to);
	return r < 0 ? r : build(node, hash, from, to);
}

int attr_record_value(const struct node *node, const char *hash, struct buf *value)
{
	struct record from, to;
	int r;

	record_init(&from);
	record_init(&to);
	r = attr_records(node, hash, &from, &to);
	if (r == -EPROTONOSUPPORT)
		r = buf_set(value, buf_str(&node->record_value));
	else if (r == 0 && to.has)
		r = record_encode(&to, value);
	else if (r == 0)
		buf_clear(value);
	record_deinit(&from);
	record_deinit(&to);
	return r;
}

int attr_check(const struct node *node)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	struct record from, to;
	int r;

	record_init(&from);
	record_init(&to);
	/* with the longest members that it may get */
	r = attr_records(node, node->file ? "00000000000000000000000000000000" : NULL, &from, &to);
	if (r == 0)
		r = record_encode(&to, &value);
	if (r == 0 && value.len > node->fs->config.max_value)
		r = -ENOSPC;
	record_deinit(&from);
	record_deinit(&to);
	return r == -EPROTONOSUPPORT ? -EPERM : r;
}

/* --- changes --- */

void attr_changed(struct node *node, unsigned members)
{
	struct fs *fs = node->fs;

	node->wait.changes++;
	if (node_is_unlinked(node) && !(node->file && node->file->dirty && !node->file->stored))
		return; /* it holds in memory as long as the node */
	node->wait.members |= members;
	if (node->wait.listed)
		return;
	node->wait.listed = true;
	node_ref(node);
	DL_APPEND2(fs->attr_waiting, node, wait.prev, wait.next);
	attr_start_timer(fs);
}

void attr_written(struct node *node)
{
	node->mtime_ns = node->ctime_ns = clock_real_ns();
	node->wait.members &= ~(unsigned)RECORD_MTIME;
	node->wait.changes++;
}

void attr_drop(struct node *node)
{
	node->wait.members = 0;
	node->wait.bind = node->wait.replace = false;
}

void attr_stored(struct node *node, struct str value, uint64_t changes, unsigned left)
{
	int64_t mtime = node->mtime_ns;

	if (node->wait.changes == changes) {
		node->wait.members = left;
		node->wait.replace = false;
		if (!(left & RECORD_XATTR))
			xattrs_forget_changes(node);
	}
	node_record_checked(node, fs_tick(node->fs));
	if (buf_set(&node->record_value, value) < 0)
		node->checked_us = 0; /* it is read again */
	if (node->dir)
		node->dir->recorded = true;
	if (node->record_value.len)
		node->own |= node->wait.bind;
	node->change_seq = fs_tick(node->fs);
	node_apply_attributes(node);
	if (node->dir && node->wait.changes != changes && node->mtime_ns != mtime) {
		node->mtime_ns = mtime; /* something was made or removed in it meanwhile */
		node_remember_time(node);
	}
}

static void set_times(struct node *node, const struct fs_attr_change *change)
{
	bool fresh = node->file && (node->file->dirty || !node->file->stored);

	if (change->set_atime) {
		node->atime_ns = change->atime_ns;
		node->atime_set = true;
	}
	node->ctime_ns = clock_real_ns();
	if (!change->set_mtime)
		return;
	node->mtime_ns = change->mtime_ns;
	if (change->mtime_now && fresh) { /* as a write: others see the value change */
		node->wait.members &= ~(unsigned)RECORD_MTIME;
		node->wait.changes++;
	} else {
		attr_changed(node, RECORD_MTIME);
	}
	if (!fresh)
		node_remember_time(node);
}

static int set_mode(struct node *node, mode_t mode)
{
	CLEANUP(buf_free) struct buf acl = BUF_INIT;
	const struct buf *old = xattr_find(node, STR(XATTR_ACL_ACCESS));
	int r = 0;

	mode = (node->mode & S_IFMT) | (mode & 07777);
	if (mode == node->mode)
		return 0;
	if (old && acl_check(buf_str(old)) == 0) {
		r = buf_set(&acl, buf_str(old));
		if (r == 0) {
			acl_chmod(&acl, mode);
			r = xattr_put(node, STR(XATTR_ACL_ACCESS), buf_str(&acl));
		}
	}
	if (r < 0)
		return r;
	node->mode = mode;
	attr_changed(node, RECORD_MODE);
	return 0;
}

static int set_attributes(struct node *node, const struct fs_attr_change *change)
{
	unsigned changed = 0;
	int r = change->set_mode ? set_mode(node, change->mode) : 0;

	if (r < 0)
		return r;
	if (change->set_uid && node->uid != change->uid) {
		node->uid = change->uid;
		changed |= RECORD_UID;
	}
	if (change->set_gid && node->gid != change->gid) {
		node->gid = change->gid;
		changed |= RECORD_GID;
	}
	if (changed)
		attr_changed(node, changed);
	set_times(node, change);
	node->change_seq = fs_tick(node->fs);
	return 0;
}

int fs_setattr(struct fs *fs, uint64_t id, struct fs_handle *handle, const struct fs_attr_change *change,
	       struct fs_entry *out)
{
	CLEANUP_NODE struct node *node = node_get(fs, id);
	int r;

	if (!node)
		return -ESTALE;
	if (fs->config.read_only)
		return -EROFS;
	r = node_refresh(node);
	if (r == 0)
		r = held_settle(node);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (change->set_size) {
		if (!node->file)
			return node->dir ? -EISDIR : -EINVAL;
		r = file_resize(node, change->size);
	}
	if (r == 0 && node->record_value.len)
		r = attr_check(node);
	if (r == 0)
		r = set_attributes(node, change);
	if (r == 0 && change->set_size && !handle && !local_waits(node))
		r = file_commit(node);
	if (r < 0)
		return r;
	node_entry(node, out);
	return 0;
}

void fs_drop_set_id(struct fs_handle *handle)
{
	struct node *node = handle->node;
	mode_t drop = S_ISUID;

	/* without it the bit means locks that bind, not a group */
	if (node->mode & S_IXGRP)
		drop |= S_ISGID;
	if (!(node->mode & drop))
		return;
	node->mode &= ~drop;
	attr_changed(node, RECORD_MODE);
	node_invalidate(node);
}
