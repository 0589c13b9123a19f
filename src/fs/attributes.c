/* Attributes that programs set. Mode and owner of what has a record are changed in it, by PATCH, so that another mount's
 * change of another member stays; of what has none they hold in memory, and times in the state file. */
#include <errno.h>

#include "base/clock.h"
#include "fs/internal.h"

/* A merge patch says the same however often it is sent. */
#define RECORD_REPEATS 3

static co_fn int patch_record(struct fs *fs, struct str key, struct str patch)
{
	int r = -ECONNRESET;

	for (int i = 0; i < RECORD_REPEATS && r == -ECONNRESET; i++)
		r = store_patch(fs->store, key, patch);
	return r == -ECONNRESET ? -EIO : r;
}

static void change_record(const struct fs_attr_change *change, struct record *record)
{
	if (change->set_mode) {
		record->mode = (record->mode & S_IFMT) | (change->mode & 07777);
		record->has |= RECORD_MODE;
	}
	if (change->set_uid) {
		record->uid = change->uid;
		record->has |= RECORD_UID;
	}
	if (change->set_gid) {
		record->gid = change->gid;
		record->has |= RECORD_GID;
	}
}

static co_fn int store_changed(struct node *node, const struct record *from, struct record *to)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf patch = BUF_INIT;
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	int r = node_keys(node, NULL, &key);

	if (r == 0)
		r = record_encode_patch(from, to, 0, &patch);
	if (r == 0)
		r = record_encode(to, &value);
	if (r == 0 && patch.len)
		r = patch_record(node->fs, buf_str(&key), buf_str(&patch));
	if (r == 0)
		r = buf_set(&node->record_value, buf_str(&value));
	return r;
}

/* With the node locked. What cannot be read is not touched: then the change holds in memory only. */
static co_fn int record_change(struct node *node, const struct fs_attr_change *change)
{
	struct record from, to;
	int r;

	record_init(&from);
	record_init(&to);
	if (record_decode(buf_str(&node->record_value), &from) < 0)
		return 0;
	r = record_copy(&from, &to);
	if (r == 0) {
		if (!(to.has & RECORD_MODE))
			to.mode = node->mode;
		change_record(change, &to);
		r = store_changed(node, &from, &to);
	}
	record_deinit(&from);
	record_deinit(&to);
	return r;
}

static co_fn int persist(struct node *node, const struct fs_attr_change *change)
{
	int r = 0;

	if (!change->set_mode && !change->set_uid && !change->set_gid)
		return 0;
	tree_shared(node->fs);
	node_lock(node);
	if (node->record_value.len && !node_is_unlinked(node))
		r = record_change(node, change);
	node_unlock(node);
	tree_shared_end(node->fs);
	return r;
}

static void set_times(struct node *node, const struct fs_attr_change *change)
{
	struct state *state = node->fs->config.state;

	if (change->set_atime) {
		node->atime_ns = change->atime_ns;
		node->atime_set = true;
	}
	node->ctime_ns = clock_real_ns();
	if (!change->set_mtime)
		return;
	node->mtime_ns = change->mtime_ns;
	node->local |= RECORD_MTIME;
	if (node->file && !node->file->dirty)
		value_remember_time(node);
	else if (node->dir && state && node_dir_keys(node) == 0)
		state_put(state, buf_str(&node->dir->key), "", node->mtime_ns);
}

static void set_attributes(struct node *node, const struct fs_attr_change *change)
{
	unsigned set = (change->set_mode ? RECORD_MODE : 0) | (change->set_uid ? RECORD_UID : 0) |
		       (change->set_gid ? RECORD_GID : 0);

	if (change->set_mode)
		node->mode = (node->mode & S_IFMT) | (change->mode & 07777);
	if (change->set_uid)
		node->uid = change->uid;
	if (change->set_gid)
		node->gid = change->gid;
	/* what the record holds now may be changed by it again */
	if (node->record_value.len)
		node->local &= ~set;
	else
		node->local |= set;
	set_times(node, change);
	node->change_seq = fs_tick(node->fs);
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
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (change->set_size) {
		if (node->dir)
			return -EISDIR;
		r = file_resize(node, change->size);
		if (r == 0 && !handle)
			r = file_commit(node);
	}
	if (r == 0)
		r = persist(node, change);
	if (r < 0)
		return r;
	set_attributes(node, change);
	node_entry(node, out);
	return 0;
}
