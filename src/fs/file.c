/* Regular files: what programs write waits in memory, as far as it is not too much, until it is committed.
 *
 * When: at the last close, at fsync, and at a close by a process that opened or wrote the file, if something was
 * written since the last commit. A shell's `echo x > f` creates the file, closes one copy of the descriptor before it
 * writes, and another after: the first close must not send an empty file. */
#include <errno.h>
#include <fcntl.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/held.h"
#include "fs/listing.h"

/* --- what waits --- */

static void drop_draft(struct node *node)
{
	struct draft *draft = STEAL(node->file->draft);

	room_forget(node);
	if (!draft)
		return;
	if (node->file->sending != draft)
		forget_draft(node, draft);
	draft_unref(draft);
	room_changed(node->fs);
}

static void set_draft(struct node *node, struct draft *draft)
{
	struct file *file = node->file;

	if (!file->dirty)
		file->stored_mtime_ns = node->mtime_ns;
	if (file->draft && file->draft->tried)
		draft_follow(draft);
	drop_draft(node);
	file->draft = draft;
	room_count(node);
	file->dirty = true;
	file->append_only = false;
}

int file_make_empty(struct node *node)
{
	struct draft *draft = draft_new(chunk_size_for(node->fs->config.max_value));

	if (!draft)
		return -ENOMEM;
	set_draft(node, draft);
	return 0;
}

void file_forget_changes(struct node *node)
{
	struct file *file = node->file;

	drop_draft(node);
	waiting_end(node);
	file->dirty = false;
	file->written = false;
	file->append_only = false;
}

void file_forget_unnamed(struct node *node)
{
	if (node->file && !node->file->opens)
		file_forget_changes(node);
}

static void changed(struct node *node)
{
	node->file->written = true;
	attr_written(node);
	waiting_changed(node);
}

/* The content as a base for changes. */
static co_fn int begin_change(struct node *node)
{
	struct file *file = node->file;
	struct draft *draft;
	struct body *body;
	int r = file_readable(node);

	if (r < 0 || file->dirty) /* another may have begun while this one waited */
		return r;
	if (file->body)
		body = body_ref(file->body);
	else
		r = body_new(buf_str(&file->value), &body);
	if (r < 0)
		return r;
	draft = draft_new_on(body, chunk_size_for(node->fs->config.max_value));
	body_unref(body);
	if (!draft)
		return -ENOMEM;
	set_draft(node, draft);
	file->append_only = true;
	return 0;
}

/* Brings a chunk that is to be changed in part into memory. */
static co_fn int load_chunk(struct node *node, uint32_t index)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct draft *draft = draft_ref(node->file->draft);
	uint64_t changes, start = index * draft->chunk_size;
	int r;

	do {
		buf_clear(&bytes);
		changes = draft->changes;
		r = content_read(node, draft, start, draft_chunk_len(draft, index), &bytes);
	} while (r == 0 && draft->changes != changes); /* as it is now, not in part as it was */
	if (r == 0 && node->file->draft == draft)
		r = draft_fill(draft, index, buf_str(&bytes));
	draft_unref(draft);
	return r;
}

int file_prepare_change(struct node *node, uint64_t offset, uint64_t len)
{
	struct draft *draft;
	uint32_t index;
	int r;

	for (;;) {
		r = begin_change(node);
		if (r < 0)
			return r;
		draft = node->file->draft;
		if (draft->tail.len && !draft_needs(draft, draft_tail_start(draft), draft->tail.len, &index)) {
			r = draft_settle(draft);
			if (r < 0)
				return r;
		}
		if (!draft->tail.len) {
			node->file->append_only = false; /* from here on there may be slots */
			if (!draft_needs(draft, offset, len, &index))
				return 0;
		}
		r = load_chunk(node, index);
		if (r < 0)
			return r;
	}
}

void file_changed(struct node *node)
{
	node->file->append_only = false;
	changed(node);
}

/* --- commit --- */

/* A change that finally failed leaves no trace: programs see what the store has. */
static void commit_failed(struct node *node, int err)
{
	struct file *file = node->file;
	const char *what = err == -EBUSY ? "another client has changed it meanwhile" : strerror(-err);

	log_error("a change of the file %s was lost: %s", node->name.p ? node->name.p : "", what);
	file_forget_changes(node);
	value_drop(node);
	file->version++;
	node->checked_us = 0;
	if (!file->stored && node->parent) {
		/* it may have arrived all the same: the directory is asked, and what is asked already may bring it */
		dir_doubt(node->parent);
		vanish(node, 0);
		return;
	}
	node->mtime_ns = file->stored_mtime_ns;
	node_invalidate(node);
}

bool file_was_tried(const struct node *node)
{
	return node->file && node->file->draft && node->file->draft->tried;
}

bool file_may_be_stored(const struct node *node)
{
	return node->file && (node->file->stored || file_was_tried(node));
}

static void note_failure(struct draft *draft, const char *before)
{
	if (!draft || draft->tried)
		return;
	draft->tried = true;
	memcpy(draft->before, before, sizeof(draft->before));
}

/* Between a commit that failed and its repetition another client may have changed the file: that stays, whether this mount has heard
 * of it or not. `own`: the hash of what is to be sent. */
static co_fn int check_repetition(struct node *node, struct commit *commit, const char *own)
{
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	char found[CONTENT_HASH_LEN + 1] = "";
	struct draft *draft = commit->draft;
	uint64_t seq = fs_tick(node->fs);
	int r = store_get(node->fs->store, buf_str(&commit->key), &now);
	bool is_own;

	if (r == 0)
		r = content_hash(buf_str(&now), found);
	if (r == 0)
		r = value_apply(node, buf_str(&now), seq);
	else if (r == -ENOENT)
		value_apply_absence(node, seq);
	if (r < 0 && r != -ENOENT)
		return r;
	is_own = strcmp(found, own) == 0 || (found[0] && strcmp(found, draft->sent) == 0);
	if (!is_own && !draft->anew && strcmp(found, draft->before) != 0)
		return -EBUSY;
	draft->anew = false;
	memcpy(draft->before, found, sizeof(found));
	commit->in_place &= strcmp(found, own) == 0; /* else the value is to be set again */
	return 0;
}

static co_fn int send_content(struct node *node, struct commit *commit)
{
	CLEANUP(buf_free) struct buf before = BUF_INIT;
	char own[CONTENT_HASH_LEN + 1];
	struct store_expect expect;
	int r = commit_prepare(node, commit);

	if (r == 0)
		r = content_hash(buf_str(&commit->value), own);
	if (r == 0 && commit->draft->tried)
		r = check_repetition(node, commit, own);
	if (r < 0)
		return r;
	expect = value_expect(node);
	r = buf_set(&before, expect.value); /* the cached value may be dropped meanwhile */
	expect.value = buf_str(&before);
	if (r == 0 && !commit->in_place)
		r = attr_before_value(node, buf_str(&commit->value));
	if (r == 0 && !commit->in_place) {
		memcpy(commit->draft->sent, own, sizeof(own));
		r = store_set(node->fs->store, buf_str(&commit->key), buf_str(&commit->value), expect);
	}
	if (r == -ENOENT)
		r = -EIO; /* a change is never answered so by a server in its senses */
	if (r == 0)
		commit_done(node, commit, buf_str(&before));
	return r;
}

/* *draft: a reference to what was sent, or was to be. *in_place: the value is what it was. */
static co_fn int send_once(struct node *node, struct draft **draft, bool *in_place)
{
	CLEANUP(commit_deinit) struct commit commit = { 0 };
	char before[CONTENT_HASH_LEN + 1] = "";
	int r;

	if (node->file->stored)
		memcpy(before, node->file->hash, sizeof(before));
	r = send_content(node, &commit);
	*draft = draft_ref(commit.draft ? commit.draft : node->file->draft);
	*in_place = commit.in_place;
	if (r < 0)
		note_failure(*draft, before);
	return r;
}

/* What was written while the last was sent. */
static void rest_waits(struct node *node)
{
	struct file *file = node->file;

	if (!file->dirty)
		return;
	file->waiting.retry_us = 0;
	if (file->opens)
		waiting_changed(node);
	else
		waiting_due_in(node, 0); /* the last close has left it to a repetition, which did not know of it */
}

/* Opened with O_TRUNC while that was sent: it would have given way anyway, and what it gives way to may still be written. */
static bool gives_way(struct node *node, const struct draft *draft)
{
	if (!node->file->draft || node->file->draft == draft)
		return false;
	draft_follow(node->file->draft);
	rest_waits(node);
	return true;
}

/* An append of unknown outcome is not sent again: it would be there twice. */
void file_commit_ended(struct node *node, const struct draft *draft, bool appends, bool later, int err)
{
	struct waiting *waiting = &node->file->waiting;

	if (gives_way(node, draft))
		return;
	if (later && !appends && commit_may_pass(node->file->draft, err)) {
		if (node->fs->ending)
			log_error("a change of the file %s was lost: %s", node->name.p ? node->name.p : "",
				  strerror(-err));
		else if (!waiting->retry_us)
			log_warning("a change of the file %s cannot be stored now, and is tried again: %s",
				    node->name.p ? node->name.p : "", strerror(-err));
		waiting_retry(node);
	} else if (err != -ENOMEM) {
		commit_failed(node, err);
		err = err == -EBUSY ? -EIO : err;
		if (!handles_lose(node, err) && later)
			node->file->lost = err;
	}
}

/* A renaming that waits: it stays as it is here, and is tried again. */
static co_fn int commit_held(struct node *node)
{
	bool tried = node->file->waiting.retry_us != 0;
	int r = held_settle_locked(node);

	if (r == 0)
		return 0;
	if (node->fs->ending)
		log_error("the renaming of a file to %s was lost: %s", node->name.p, strerror(-r));
	else if (!tried)
		log_warning("the renaming of a file to %s cannot be stored now, and is tried again: %s", node->name.p,
			    strerror(-r));
	waiting_retry(node);
	return r;
}

/* All that was written before. Not what is written meanwhile: where there is always more, no close would ever end. */
static co_fn int commit_content(struct node *node, bool later)
{
	struct draft *draft = NULL;
	bool in_place = false, appends;
	int r;

	do {
		draft_unref(STEAL(draft));
		appends = append_waits(node);
		if (appends) {
			draft = draft_ref(node->file->draft);
			in_place = false;
			r = append_commit(node);
		} else {
			r = send_once(node, &draft, &in_place);
		}
	} while (r == -EAGAIN && node->file->dirty && !node_is_unlinked(node)); /* it is another draft by now */
	if (r < 0 && r != -EAGAIN)
		file_commit_ended(node, draft, appends, later, r);
	draft_unref(draft);
	if (r < 0)
		return r == -EAGAIN ? 0 : r == -EBUSY ? -EIO : r;
	rest_waits(node);
	return in_place ? attr_after_chunks(node) : attr_after_value(node);
}

static co_fn int commit(struct node *node, bool later)
{
	struct fs *fs = node->fs;
	int r = 0;

	if (!node->file->dirty && !node->file->held)
		return 0;
	node_ref(node);
	tree_shared(fs);
	node_lock(node);
	if (node->file->held)
		r = commit_held(node);
	/* what has no name any more ends with its last close */
	if (r == 0 && node->file->dirty && !node_is_unlinked(node))
		r = commit_content(node, later);
	node_unlock(node);
	tree_shared_end(fs);
	node_unref(node);
	return r;
}

int file_commit(struct node *node)
{
	return commit(node, false);
}

int file_commit_later(struct node *node)
{
	return commit(node, true);
}

/* --- handles --- */

static int truncate_on_open(struct node *node, int flags)
{
	int r;

	if (!(flags & O_TRUNC) || (flags & O_ACCMODE) == O_RDONLY)
		return 0;
	r = file_make_empty(node);
	if (r == 0)
		attr_written(node);
	return r;
}

/* Who only appends need not know what others have appended before. */
static co_fn int refresh_for(struct node *node, int flags)
{
	bool appends = (flags & O_ACCMODE) == O_WRONLY && flags & O_APPEND;

	if (node->file->provisional && !appends)
		node->checked_us = 0;
	return node_refresh(node);
}

/* Its removal is under way, or was done while the open was: what can be read no more is not opened. The kernel looks the name up
 * again after the first ESTALE only, so that comes when the name is no more the file's. */
static co_fn int readable_for_open(struct node *node)
{
	while (node->lock.held || node_is_unlinked(node)) {
		int r = file_readable(node);

		if (r != -ESTALE || !node->lock.held)
			return r;
		node_lock(node);
		node_unlock(node);
	}
	return 0;
}

int fs_open(struct fs *fs, uint64_t id, int flags, pid_t pid, struct fs_handle **out, bool *keep_cache)
{
	CLEANUP_NODE struct node *node = node_get(fs, id);
	struct fs_handle *handle;
	int r;

	if (!node)
		return -ESTALE;
	if (!node->file)
		return node->dir ? -EISDIR : -ENXIO;
	if (fs->config.read_only && (flags & O_ACCMODE) != O_RDONLY)
		return -EROFS;
	r = refresh_for(node, flags);
	if (r == 0 && (flags & O_ACCMODE) != O_RDONLY)
		r = held_settle(node);
	if (r == 0)
		r = readable_for_open(node);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r; /* the kernel then looks the name up again */
	handle = handle_new(node, flags, pid);
	if (!handle)
		return -ENOMEM;
	r = truncate_on_open(node, flags);
	if (r < 0) {
		handle_free(handle);
		return r;
	}
	*keep_cache = node->file->kernel_version == node->file->version;
	node->file->kernel_version = node->file->version;
	*out = handle;
	return 0;
}

static int new_file(struct node *dir, struct str name, mode_t mode, int flags, const struct fs_maker *maker,
		    struct node **out)
{
	CLEANUP_NODE struct node *node = node_new_file(dir->fs);
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	int r;

	if (!node)
		return -ENOMEM;
	r = node_attach(dir, node, name);
	if (r < 0)
		return r;
	r = node_keys(node, &key, NULL);
	if (r == 0)
		r = held_replace(node);
	if (r == 0)
		r = file_make_empty(node);
	if (r == 0)
		r = attr_new_file(node, dir, mode, maker);
	if (r < 0) {
		node_detach(node);
		return r;
	}
	node_set_ino(node, buf_str(&key));
	node->mtime_ns = clock_real_ns();
	node_changed_here(node);
	node_touch_dir(dir);
	/* elsewhere it may be there, and appended to, by now */
	node->file->append_only = !(flags & (O_EXCL | O_TRUNC)) && !node->file->stored;
	if (flags & O_EXCL)
		local_begin(node);
	*out = STEAL(node);
	return 0;
}

/* -ENOENT: a file can be made of that name. */
static co_fn int find_or_free(struct node *dir, struct str name, struct node **out)
{
	int r;

	do
		r = lookup_to_make(dir, name, out);
	while (r == -ENOENT && held_wait(dir, name));
	return r;
}

int fs_create(struct fs *fs, uint64_t parent, struct str name, mode_t mode, int flags, const struct fs_maker *maker,
	      pid_t pid, struct fs_entry *entry, struct fs_handle **out)
{
	CLEANUP_NODE struct node *dir = NULL;
	CLEANUP_NODE struct node *node = NULL;
	CLEANUP(buf_free) struct buf copy = BUF_INIT;
	struct fs_handle *handle;
	int r = dir_get(fs, parent, &dir);

	if (r < 0)
		return r;
	r = buf_set(&copy, name);
	if (r == 0)
		r = room_wait(dir, DRAFT_BYTES);
	if (r == 0)
		r = name_may_be_made(dir, buf_str(&copy), false);
	if (r == 0)
		r = find_or_free(dir, buf_str(&copy), &node);
	if (r == 0 && (flags & O_EXCL))
		return -EEXIST;
	if (r == 0 && node->dir)
		return -EISDIR;
	if (r == 0 && node->special)
		return -ESTALE; /* the kernel then looks the name up again */
	if (r == 0 && (flags & O_ACCMODE) != O_RDONLY)
		r = held_settle(node);
	if (r == 0)
		r = truncate_on_open(node, flags);
	else if (r == -ENOENT)
		r = new_file(dir, buf_str(&copy), mode, flags, maker, &node);
	if (r < 0)
		return r;
	handle = handle_new(node, flags, pid);
	if (!handle)
		return -ENOMEM;
	node->file->kernel_version = node->file->version;
	node_give(node, entry);
	*out = handle;
	return 0;
}

/* `offset` is where an append turns out to go. */
static co_fn int prepare_write(struct fs_handle *handle, uint64_t *offset, size_t len, bool append)
{
	struct node *node = handle->node;
	uint64_t limit;
	int r;

	do {
		r = begin_change(node);
		if (r < 0)
			return r;
		if (append)
			*offset = node->file->draft->size;
		limit = draft_size_limit(node->file->draft);
		if (*offset > limit || len > limit - *offset)
			return -EFBIG;
		if (append && node->file->append_only)
			return 0;
		r = file_prepare_change(node, *offset, len);
	} while (r == 0 && append && node->file->draft->size != *offset);
	return r;
}

/* Too much waits. */
static co_fn int make_room(struct node *node)
{
	int r;

	if (append_waits(node) && !node_is_unlinked(node))
		return file_commit(node);
	r = file_prepare_change(node, 0, 0);
	return r < 0 ? r : commit_early(node);
}

static co_fn int write_at(struct fs_handle *handle, uint64_t offset, struct str data, pid_t pid, bool append)
{
	CLEANUP(buf_free) struct buf copy = BUF_INIT;
	struct node *node = handle->node;
	struct file *file = node->file;
	uint64_t told = offset;
	uint32_t index;
	int r = 0;

	if (append && file->draft)
		offset = file->draft->size;
	if (!file->draft || room_is_short(node, data.len) ||
	    (!(append && file->append_only) &&
	     (file->draft->tail.len || draft_needs(file->draft, offset, data.len, &index)))) {
		/* the bytes lie in a buffer that the next request overwrites */
		r = buf_set(&copy, data);
		data = buf_str(&copy);
	}
	if (r == 0)
		r = room_wait(node, data.len);
	if (r == 0)
		r = prepare_write(handle, &offset, data.len, append);
	if (r == 0)
		r = append && file->append_only ? draft_append(file->draft, data)
						: draft_write(file->draft, offset, data);
	if (r < 0)
		return r;
	if (!append)
		file->append_only = false;
	changed(node);
	handle_wrote(handle, pid);
	if (append && told != offset)
		node_invalidate(node); /* the kernel put the bytes where it thought the end was */
	return commit_is_due(node) && !local_stays(node) ? make_room(node) : 0;
}

int fs_write(struct fs_handle *handle, uint64_t offset, struct str data, pid_t pid)
{
	return write_at(handle, offset, data, pid, handle->flags & O_APPEND);
}

int fs_write_pages(struct fs_handle *handle, uint64_t offset, struct str data)
{
	return write_at(handle, offset, data, 0, false);
}

static int take_lost(struct fs_handle *handle)
{
	struct file *file = handle->node->file;
	int err = handle->lost ? handle->lost : file->lost;

	handle->lost = file->lost = 0;
	return err;
}

int fs_flush(struct fs_handle *handle, pid_t pid)
{
	struct file *file = handle->node->file;
	int r = 0, lost = 0;

	file->closed_once = true;
	if (file->dirty && file->written && !local_waits(handle->node) && handle_has_part(handle, pid))
		r = file_commit(handle->node);
	/* a child of the program that wrote closes what it has inherited: it is not the one to be told */
	if ((handle->lost || file->lost) && (handle->flags & O_ACCMODE) != O_RDONLY && handle_has_part(handle, pid))
		lost = take_lost(handle);
	return r < 0 ? r : lost;
}

int fs_fsync(struct fs_handle *handle)
{
	struct file *file = handle->node->file;
	int r = file && !local_is_scratch(handle->node) ? file_commit(handle->node) : 0;
	int lost = file ? take_lost(handle) : 0;

	if (r == 0)
		r = lost;
	return r < 0 ? r : attr_commit(handle->node);
}

/* What was removed here while it was open: now nobody reads it any more. */
static void end_unlinked(struct node *node)
{
	struct file *file = node->file;

	if (file->opens != 1 || !node_is_unlinked(node) || file->stored)
		return;
	if (file->have_value)
		forget_ids(node->fs, NULL, buf_str(&file->value), STR(""));
	file_forget_changes(node);
}

void fs_release(struct fs_handle *handle)
{
	struct node *node = handle->node;
	bool writable = (handle->flags & O_ACCMODE) != O_RDONLY;

	while (handle->holds)
		queue_wait(&handle->let_go);
	/* a reader that goes does not send what another is in the middle of writing */
	if ((writable || node->file->opens == 1) && !local_waits(node) && !node->file->waiting.retry_us &&
	    file_commit_later(node) < 0)
		log_debug("the last close of a file found nobody to tell of its loss");
	end_unlinked(node);
	if (node->file->opens == 1) {
		node->file->closed_once = false;
		if (handle->lost)
			node->file->lost = handle->lost;
		local_closed(node);
	}
	handle_free(handle);
}

/* --- size --- */

int file_resize(struct node *node, uint64_t size)
{
	struct file *file = node->file;
	int r = room_wait(node, 0);

	if (r < 0)
		return r;
	if (size == 0 && !file->dirty)
		r = file_make_empty(node);
	else
		r = file_prepare_change(node, 0, 0);
	if (r < 0)
		return r;
	if (size > draft_size_limit(file->draft))
		return -EFBIG;
	draft_resize(file->draft, size);
	if (size == 0)
		draft_begin_anew(file->draft);
	file_changed(node);
	return 0;
}
