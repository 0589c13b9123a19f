/* The filesystem as a whole: its start and end, directories read, and what needs no other module. */
#include "fs/fs.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/announce.h"
#include "fs/held.h"
#include "fs/listing.h"
#include "fs/recovery.h"
#include "fs/removal.h"

/* Nodes that nobody needs are looked for this often, and not before twice the ttl. */
#define SWEEP_US (10 * CLOCK_US_PER_S)

static void sweep(struct loop_timer *timer)
{
	struct fs *fs = lws_container_of(timer, struct fs, sweep);
	uint64_t delay = 2 * fs->config.ttl_us > SWEEP_US ? 2 * fs->config.ttl_us : SWEEP_US;

	nodes_sweep(fs);
	loop_timer_set(fs->loop, timer, delay, sweep);
}

static int make_root(struct fs *fs)
{
	struct node *root;

	fs->next_id = FS_ROOT_ID;
	root = node_new_dir(fs);
	if (!root)
		return -ENOMEM;
	fs->root = root;
	node_add_ino(root, FS_ROOT_ID);
	node_date(root);
	return 0;
}

static void set_default(uint64_t *us, uint64_t value)
{
	if (*us == 0)
		*us = value;
}

int fs_new(struct loop *loop, struct store *store, const struct fs_config *config, const struct fs_notify *notify,
	   struct fs **out)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	int r;

	if (!fs)
		return -ENOMEM;
	fs->loop = loop;
	push_init(fs, store);
	fs->config = *config;
	if (!fs->config.cache_size)
		fs->config.cache_size = FS_CACHE_BYTES;
	set_default(&fs->config.grace_us, FS_GRACE_US);
	set_default(&fs->config.beat_us, FS_BEAT_US);
	set_default(&fs->config.announce_us, FS_ANNOUNCE_US);
	set_default(&fs->config.attr_delay_us, FS_ATTR_DELAY_US);
	set_default(&fs->config.retry_us, FS_RETRY_US);
	set_default(&fs->config.waiting_most, FS_WAITING_MOST);
	set_default(&fs->config.together_least, FS_TOGETHER_LEAST);
	fs->notify = *notify;
	fs->tree_generation = 1;
	fs->rules = (struct names_rules){
		.delimiter = config->delimiter,
		.prefix = config->prefix,
		.max_key = config->max_key,
	};
	fs->layout = (struct layout){
		.loop = loop,
		.store = fs->store,
		.rules = &fs->rules,
		.max_value = config->max_value,
	};
	fs->existing = fs->rules;
	r = journal_init(&fs->journal, &fs->layout, fs->config.grace_us, fs->config.beat_us);
	fs->journal.stop = &fs->ending;
	fs->existing.max_key = SIZE_MAX / 2;
	if (r == 0)
		r = names_rules_check(&fs->rules);
	if (r == 0)
		r = buf_set(&fs->reserved, config->prefix);
	if (r == 0)
		r = buf_add_str(&fs->reserved, STR(NAMES_RESERVED "/"));
	if (r == 0)
		r = buf_set(&fs->layout_key, buf_str(&fs->reserved));
	if (r == 0)
		r = buf_add_str(&fs->layout_key, STR("fs"));
	if (r == 0)
		r = make_root(fs);
	if (r < 0) {
		fs_free(fs);
		return r;
	}
	loop_timer_set(loop, &fs->sweep, SWEEP_US, sweep);
	announce_start(fs);
	*out = fs;
	return 0;
}

int fs_set_limits(struct fs *fs, size_t max_key, size_t max_value)
{
	fs->config.max_key = fs->rules.max_key = max_key;
	fs->config.max_value = fs->layout.max_value = max_value;
	return names_rules_check(&fs->rules);
}

void fs_free(struct fs *fs)
{
	struct fs_handle *handle, *next;

	if (!fs)
		return;
	loop_timer_cancel(&fs->sweep);
	loop_timer_cancel(&fs->attr_timer);
	push_free(fs);
	waiting_free(fs);
	removal_free(fs);
	recovery_free(fs);
	announce_free(fs);
	/* the kernel has closed and forgotten everything, whether it said so or not */
	DL_FOREACH_SAFE(fs->open, handle, next) {
		loop_timer_cancel(&handle->copy_expiry);
		free(handle);
	}
	held_free(fs);
	nodes_free(fs);
	chunks_free(fs);
	buf_free(&fs->reserved);
	buf_free(&fs->layout_key);
	free(fs);
}

/* The root is shown before anything in it is listed. */
static co_fn int root_record(struct fs *fs)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	int r = node_keys(fs->root, NULL, &key);

	if (r == 0)
		r = store_get(fs->store, buf_str(&key), &value);
	if (r == 0)
		node_apply_record(fs->root, buf_str(&value));
	return r == -ENOENT ? 0 : r;
}

int fs_start(struct fs *fs, struct buf *why)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	int r = store_get(fs->store, buf_str(&fs->layout_key), &value);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = layout_check(&fs->layout, buf_str(&value), why);
	if (r < 0)
		return r;
	fs->layout_written = true;
	if (!fs->config.read_only)
		recovery_start(fs);
	return root_record(fs);
}

/* --- names and attributes --- */

int fs_lookup(struct fs *fs, uint64_t parent, struct str name, struct fs_entry *out)
{
	CLEANUP_NODE struct node *dir = NULL;
	CLEANUP_NODE struct node *node = NULL;
	uint64_t seq = fs_tick(fs);
	int r = lookup_path(fs, parent, name, &dir, &node);

	if (r == -ENOENT)
		out->ttl_us = dir ? push_give_absent(dir, name, seq) : 0;
	if (r < 0)
		return r;
	node_give(node, out);
	return 0;
}

int fs_getattr(struct fs *fs, uint64_t id, struct fs_entry *out)
{
	CLEANUP_NODE struct node *node = node_get(fs, id);
	int r;

	if (!node)
		return -ESTALE;
	fs_count(fs, FS_ATTRIBUTES, node_fresh(node));
	r = node_refresh(node);
	/* deleted elsewhere: who has it open sees it as unlinked */
	if (r < 0 && r != -ENOENT)
		return r;
	node_entry(node, out);
	return 0;
}

void fs_unanswered(struct fs *fs, uint64_t id, struct str name)
{
	struct node *node = node_find(fs, id);

	if (!node || !node_is_held(node))
		return;
	node_invalidate(node);
	if (!name.len)
		return;
	fs->notify.expire_entry(fs->notify.arg, id, name);
	fs->notify.inval_inode(fs->notify.arg, id);
}

/* --- directories read --- */

static bool offer_dot(struct node *node, struct str name, uint64_t next, fs_add_entry *add, void *arg)
{
	struct fs_entry entry;

	node_entry(node, &entry);
	entry.id = 0;
	return add(arg, name, &entry, next);
}

/* Half of the ttl, so that the attributes that came with the names hold until they are used. */
static bool copy_may_last(const struct node *node)
{
	const struct directory *dir = node->dir;

	return dir->complete &&
	       (push_keeps(node->fs, dir->listed_seq) || clock_now_us() - dir->listed_us < node->fs->config.ttl_us / 2);
}

/* Who rewinds an open directory reads the copy again, and opens nothing by which it would be renewed. */
static void copy_expired(struct loop_timer *timer)
{
	struct fs_handle *handle = lws_container_of(timer, struct fs_handle, copy_expiry);
	struct fs *fs = handle->fs;

	loop_timer_set(fs->loop, timer, fs->config.ttl_us, copy_expired);
	if (push_keeps(fs, handle->node->dir->listed_seq))
		return;
	handle->node->dir->copy_version = COPY_MIXED;
	fs->notify.inval_inode(fs->notify.arg, handle->node->id);
}

/* The kernel takes an answer into its copy some time after it was given, so a copy is right only if all of it was given at
 * the present version. And it is begun anew only when nobody else can still be filling the old one, with answers
 * from before. A change that is made here makes the kernel drop its copy by itself, but only what it began to fill before. */
enum fs_copy fs_copy(struct fs_handle *handle)
{
	struct directory *dir = handle->node->dir;
	uint64_t ttl_us = handle->fs->config.ttl_us;
	bool keep = dir->copy_version == dir->names_version && copy_may_last(handle->node);

	if ((ttl_us == 0 && !push_keeps(handle->fs, dir->listed_seq)) || (!keep && dir->copiers))
		return FS_COPY_BYPASS;
	handle->copies = true;
	dir->copiers++;
	if (ttl_us)
		loop_timer_set(handle->fs->loop, &handle->copy_expiry, ttl_us, copy_expired);
	if (keep)
		return FS_COPY_KEEP;
	dir->copy_version = 0;
	return FS_COPY_RENEW;
}

void copy_end(struct fs_handle *handle)
{
	if (!handle->copies)
		return;
	handle->node->dir->copiers--;
	loop_timer_cancel(&handle->copy_expiry);
}

static void copy_given(struct fs_handle *handle)
{
	struct directory *dir = handle->node->dir;

	if (!handle->copies)
		return;
	if (dir->copy_version == 0)
		dir->copy_version = dir->names_version;
	else if (dir->copy_version != dir->names_version)
		dir->copy_version = COPY_MIXED;
}

int fs_readdir(struct fs_handle *handle, uint64_t offset, bool plus, fs_add_entry *add, void *arg)
{
	struct node *node = handle->node, *child;
	uint64_t now;
	int r;

	if (offset == 0) {
		fs_count(node->fs, FS_LISTINGS, dir_is_known(node));
		r = node_is_unlinked(node) ? 0 : dir_list(node, true);
		if (r < 0)
			return r;
	}
	copy_given(handle);
	if (offset == 0) {
		if (!offer_dot(node, STR("."), 1, add, arg))
			return 0;
		offset = 1;
	}
	if (offset == 1) {
		if (!offer_dot(node->parent ? node->parent : node, STR(".."), 2, add, arg))
			return 0;
		offset = 2;
	}
	now = clock_now_us();
	for (child = node_next_child(node, offset); child; child = node_next_child(node, child->cookie)) {
		struct fs_entry entry = { .st = { .st_ino = node_number(child), .st_mode = child->mode } };
		bool give = plus && !node_is_given(child, now);

		if (give)
			node_entry(child, &entry);
		if (!add(arg, buf_str(&child->name), &entry, child->cookie))
			break;
		if (give)
			node_give(child, &entry);
	}
	return 0;
}

/* --- the whole --- */

int fs_sync(struct fs *fs)
{
	struct node *node, *next;
	int first = 0, r;

	for (node = node_next(fs, NULL); node; node = next) {
		node_ref(node);
		r = node->file && !local_stays(node) ? file_commit_later(node) : 0;
		if (r < 0 && first == 0)
			first = r;
		next = node_next(fs, node); /* the table may have changed, but what is referred to stays in it */
		node_unref(node);
	}
	r = attr_commit_all(fs);
	return first ? first : r;
}

int fs_fsyncdir(struct fs *fs, uint64_t id)
{
	CLEANUP_NODE struct node *node = node_get(fs, id);
	int r;

	if (!node)
		return -ESTALE;
	r = node->dir ? held_settle_in(node) : -ENOTDIR;
	return r < 0 ? r : attr_commit(node);
}

int fs_background_start(struct fs *fs, void (*fn)(void *arg))
{
	return fs->ending ? -ESHUTDOWN : fs_background_start_late(fs, fn);
}

int fs_background_start_late(struct fs *fs, void (*fn)(void *arg))
{
	int r;

	fs->background++;
	r = co_start(fs->loop, fn, fs);
	if (r < 0)
		fs->background--;
	return r;
}

void fs_background_end(struct fs *fs)
{
	fs->background--;
	co_queue_wake_all(&fs->background_ended);
}

int fs_end(struct fs *fs)
{
	int r;

	fs->ending = true; /* from here on what goes on in the background comes to an end */
	loop_timer_cancel(&fs->removal_timer);
	loop_timer_cancel(&fs->attr_timer);
	loop_timer_cancel(&fs->waiting_timer);
	recovery_stop(fs);
	fs_subscription_end(fs);
	r = fs_sync(fs);
	while (fs->background)
		queue_wait(&fs->background_ended);
	announce_end(fs);
	removal_leave(fs);
	return r;
}

void fs_set_read_only(struct fs *fs, bool on)
{
	fs->config.read_only = on;
}

struct fs_figures fs_figures(const struct fs *fs)
{
	struct fs_figures figures = {
		.nodes = fs->node_count,
		.handles = fs->handles,
		.background = fs->background,
		.waiting_bytes = fs->room.bytes,
		.swap_bytes = fs->room.swap_bytes,
		.cached_bytes = fs->value_bytes,
	};
	const struct node *node;

	memcpy(figures.hits, fs->hits, sizeof(figures.hits));
	memcpy(figures.misses, fs->misses, sizeof(figures.misses));
	push_figures(fs, &figures);
	DL_FOREACH2(fs->room.files, node, file->room_next)
	figures.dirty_bytes += node->file->draft->dirty_bytes;
	return figures;
}

/* What its record's key, the longer one, leaves for a directory's name. */
static int name_room(struct node *dir, size_t *out)
{
	size_t taken, max_key = dir->fs->config.max_key;
	int r = node_dir_keys(dir);

	if (r < 0)
		return r;
	taken = dir->dir->record.len + 1;
	*out = taken >= max_key ? 0 : max_key - taken < NAMES_NEW_BYTES ? max_key - taken : NAMES_NEW_BYTES;
	return 0;
}

/* A store has no known size: what df shows is room without end, and the longest name. */
int fs_statfs(struct fs *fs, uint64_t id, struct statvfs *out)
{
	struct node *node = node_find(fs, id);
	struct node *dir = node && !node->dir ? node->parent : node;
	size_t room = 0;
	int r = dir ? name_room(dir, &room) : -ESTALE;

	if (r == -ESTALE) /* removed */
		r = name_room(fs->root, &room);
	if (r < 0)
		return r;
	*out = (struct statvfs){
		.f_bsize = 4096,
		.f_frsize = 4096,
		.f_blocks = (fsblkcnt_t)1 << 38,
		.f_bfree = (fsblkcnt_t)1 << 38,
		.f_bavail = (fsblkcnt_t)1 << 38,
		.f_files = (fsfilcnt_t)1 << 32,
		.f_ffree = (fsfilcnt_t)1 << 32,
		.f_favail = (fsfilcnt_t)1 << 32,
		.f_namemax = room,
	};
	return 0;
}
