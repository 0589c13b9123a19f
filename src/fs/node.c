/* Nodes: their tables, their place in the tree, their keys and attributes. Nothing here waits. */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/held.h"
#include "fs/leftover.h"

/* A name that was removed here while answers were under way that may still bring it. */
struct tomb {
	UT_hash_handle hh;
	uint64_t seq;
	enum node_kind kind; /* what was removed */
	size_t len;
	char name[];
};

static int by_id_compare(struct node *a, struct node *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

static int by_ino_compare(struct node *a, struct node *b)
{
	return a->ino < b->ino ? -1 : a->ino > b->ino;
}

static int by_cookie_compare(struct node *a, struct node *b)
{
	return a->cookie < b->cookie ? -1 : a->cookie > b->cookie;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
RB_GENERATE_STATIC(id_tree, node, by_id, by_id_compare)
RB_GENERATE_STATIC(ino_tree, node, by_ino, by_ino_compare)
RB_GENERATE_STATIC(cookie_tree, node, by_cookie, by_cookie_compare)
#pragma GCC diagnostic pop

/* So many nodes are kept that nobody needs but whoever asks for them again. */
#define NODES_MOST 50000

/* Cookies 1 and 2 are "." and "..". */
#define FIRST_COOKIE 3

/* --- life --- */

static struct node *node_new(struct fs *fs)
{
	struct node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->fs = fs;
	node->id = fs->next_id++;
	node->refs = 1;
	node->uid = fs->config.uid;
	node->gid = fs->config.gid;
	RB_INSERT(id_tree, &fs->by_id, node);
	fs->node_count++;
	return node;
}

struct node *node_new_file(struct fs *fs)
{
	struct file *file = calloc(1, sizeof(*file));
	struct node *node = file ? node_new(fs) : NULL;

	if (!node) {
		free(file);
		return NULL;
	}
	node->file = file;
	node->mode = S_IFREG | (0666 & ~fs->config.umask);
	return node;
}

struct node *node_new_dir(struct fs *fs)
{
	struct directory *dir = calloc(1, sizeof(*dir));
	struct node *node = dir ? node_new(fs) : NULL;

	if (!node) {
		free(dir);
		return NULL;
	}
	node->dir = dir;
	RB_INIT(&dir->cookies);
	dir->next_cookie = FIRST_COOKIE;
	dir->names_version = 1;
	node->mode = S_IFDIR | (0777 & ~fs->config.umask);
	return node;
}

struct node *node_new_special(struct fs *fs)
{
	struct special *special = calloc(1, sizeof(*special));
	struct node *node = special ? node_new(fs) : NULL;

	if (!node) {
		free(special);
		return NULL;
	}
	node->special = special;
	return node;
}

static void tombs_clear(struct directory *dir)
{
	struct tomb *tomb, *next;

	HASH_ITER(hh, dir->tombs, tomb, next) {
		HASH_DEL(dir->tombs, tomb);
		free(tomb);
	}
}

static void node_free(struct node *node)
{
	struct fs *fs = node->fs;

	RB_REMOVE(id_tree, &fs->by_id, node);
	fs->node_count--;
	if (node->ino)
		RB_REMOVE(ino_tree, &fs->by_ino, node);
	if (node->file) {
		waiting_end(node);
		room_forget(node);
		value_drop(node);
		chunk_users_forget(node);
		draft_unref(node->file->draft);
		file_forget_tail(node->file);
		free(node->file);
	}
	if (node->dir) {
		tombs_clear(node->dir);
		leftovers_forget(node, UINT64_MAX);
		for (size_t i = 0; i < ABSENT_NAMES; i++)
			buf_free(&node->dir->absent[i].name);
		buf_free(&node->dir->key);
		buf_free(&node->dir->record);
		free(node->dir);
	}
	if (node->special) {
		buf_free(&node->special->target);
		free(node->special);
	}
	xattrs_free(node);
	buf_free(&node->name);
	buf_free(&node->record_value);
	free(node);
}

void nodes_free(struct fs *fs)
{
	struct node *node;

	/* the tables of names first: they lie in the nodes that they name */
	for (node = node_next(fs, NULL); node; node = node_next(fs, node))
		if (node->dir && node->dir->children)
			HASH_CLEAR(by_name, node->dir->children);
	while ((node = node_next(fs, NULL)))
		node_free(node);
}

static bool in_use(const struct node *node)
{
	return node->refs || node->lookups || node == node->fs->root;
}

static void take_out(struct node *node, uint64_t seq);

/* A directory that vanished goes with what was cached below it: from the leaves up, since a tree may be deeper than a
 * stack. */
static void node_free_if_unused(struct node *top)
{
	struct node *node = top, *child, *parent;

	if (top->parent || in_use(top))
		return;
	while (node) {
		child = node->dir ? RB_MIN(cookie_tree, &node->dir->cookies) : NULL;
		if (child && in_use(child)) {
			take_out(child, fs_tick(child->fs));
		} else if (child) {
			node = child;
		} else {
			parent = node == top ? NULL : node->parent;
			if (parent)
				take_out(node, fs_tick(node->fs));
			node_free(node);
			node = parent;
		}
	}
}

struct node *node_find(struct fs *fs, uint64_t id)
{
	struct node probe = { .id = id };

	return id == FS_ROOT_ID ? fs->root : RB_FIND(id_tree, &fs->by_id, &probe);
}

struct node *node_next(struct fs *fs, struct node *node)
{
	return node ? RB_NEXT(id_tree, &fs->by_id, node) : RB_MIN(id_tree, &fs->by_id);
}

struct node *node_get(struct fs *fs, uint64_t id)
{
	struct node *node = node_find(fs, id);

	if (node)
		node_ref(node);
	return node;
}

int dir_get(struct fs *fs, uint64_t id, struct node **dir)
{
	struct node *node = node_find(fs, id);

	if (!node)
		return -ESTALE;
	if (!node->dir)
		return -ENOTDIR;
	node_ref(node);
	*dir = node;
	return 0;
}

void node_ref(struct node *node)
{
	node->refs++;
}

void node_unref(struct node *node)
{
	if (!node)
		return;
	node->refs--;
	node_free_if_unused(node);
}

void node_unref_cleanup(struct node **node)
{
	node_unref(*node);
}

void fs_forget(struct fs *fs, uint64_t id, uint64_t count)
{
	struct node *node = node_find(fs, id);

	if (!node)
		return;
	node->lookups -= count < node->lookups ? count : node->lookups;
	node_free_if_unused(node);
}

/* --- place in the tree --- */

static void tomb_take(struct directory *dir, struct str name)
{
	struct tomb *tomb;

	HASH_FIND(hh, dir->tombs, name.p, name.len, tomb);
	if (!tomb)
		return;
	HASH_DEL(dir->tombs, tomb);
	free(tomb);
}

int node_attach(struct node *parent, struct node *node, struct str name)
{
	struct directory *dir = parent->dir;
	int r = buf_set(&node->name, name);

	if (r < 0)
		return r;
	HASH_ADD_KEYPTR(by_name, dir->children, node->name.p, node->name.len, node);
	if (!node->by_name.tbl)
		return -ENOMEM;
	node->cookie = dir->next_cookie++;
	dir->names_version++;
	RB_INSERT(cookie_tree, &dir->cookies, node);
	node->parent = parent;
	node->gone_here = false;
	if (node->dir)
		dir->subdirectories++;
	tomb_take(dir, name);
	held_note_taken(parent, name);
	return 0;
}

/* Lack of memory here lets an old answer bring a removed name back until the next listing: harmless. */
static void tomb_add(struct directory *dir, struct str name, uint64_t seq, enum node_kind kind)
{
	struct tomb *tomb;

	tomb_take(dir, name);
	tomb = malloc(sizeof(*tomb) + name.len);
	if (!tomb)
		return;
	tomb->seq = seq;
	tomb->kind = kind;
	tomb->len = name.len;
	memcpy(tomb->name, name.p, name.len);
	HASH_ADD_KEYPTR(hh, dir->tombs, tomb->name, tomb->len, tomb);
	if (!tomb->hh.tbl)
		free(tomb);
}

void node_detach(struct node *node)
{
	node->gone_here |= node->parent != NULL;
	node_detach_since(node, fs_tick(node->fs));
}

static enum node_kind kind_of(const struct node *node)
{
	return node->dir ? NODE_DIR : node->special ? NODE_SPECIAL : NODE_FILE;
}

static void take_out(struct node *node, uint64_t seq)
{
	struct directory *dir = node->parent->dir;

	dir->names_version++;
	if (node->special && !node->checked_us)
		dir_doubt(node->parent); /* the key may be there */
	if (dir->readers)
		tomb_add(dir, buf_str(&node->name), seq, kind_of(node));
	HASH_DELETE(by_name, dir->children, node);
	RB_REMOVE(cookie_tree, &dir->cookies, node);
	if (node->dir)
		dir->subdirectories--;
	node->parent = NULL;
	if (node->dir)
		node->fs->tree_generation++; /* keys below it are no more */
}

void node_detach_since(struct node *node, uint64_t seq)
{
	if (!node->parent)
		return;
	take_out(node, seq);
	node_free_if_unused(node);
}

struct node *node_next_below(const struct node *top, struct node *node)
{
	struct node *next = node->dir ? RB_MIN(cookie_tree, &node->dir->cookies) : NULL;

	while (!next && node != top) {
		next = RB_NEXT(cookie_tree, &node->parent->dir->cookies, node);
		node = node->parent;
	}
	return next;
}

struct node *node_child(struct node *parent, struct str name)
{
	struct node *node;

	HASH_FIND(by_name, parent->dir->children, name.p, name.len, node);
	return node;
}

bool node_removed_since(struct node *parent, struct str name, uint64_t seq, enum node_kind kind)
{
	struct tomb *tomb;

	HASH_FIND(hh, parent->dir->tombs, name.p, name.len, tomb);
	if (!tomb || tomb->seq <= seq)
		return false;
	if (kind != tomb->kind)
		dir_doubt(parent);
	return true;
}

void node_note_removed(struct node *parent, struct str name)
{
	if (parent->dir->readers)
		tomb_add(parent->dir, name, fs_tick(parent->fs), NODE_FILE);
}

void node_readers_add(struct node *dir)
{
	dir->dir->readers++;
}

void node_readers_drop(struct node *dir)
{
	if (--dir->dir->readers)
		return;
	tombs_clear(dir->dir);
	push_go_on(dir->fs);
}

struct node *node_next_child(struct node *parent, uint64_t cookie)
{
	struct node wanted = { .cookie = cookie + 1 };

	return RB_NFIND(cookie_tree, &parent->dir->cookies, &wanted);
}

/* --- keys --- */

static bool has_keys(const struct node *node)
{
	return node->dir->record.p &&
	       (node == node->fs->root || node->dir->keys_generation == node->fs->tree_generation);
}

/* From those of the directory that it is in. */
static int make_keys(struct node *node)
{
	struct fs *fs = node->fs;
	struct directory *dir = node->dir;
	int r;

	if (node == fs->root) {
		r = buf_set(&dir->key, fs->rules.prefix);
		return r < 0 ? r : names_root_record(&fs->rules, &dir->record);
	}
	r = names_child(&fs->existing, buf_str(&node->parent->dir->key), buf_str(&node->parent->dir->record),
			buf_str(&node->name), true, &dir->key, &dir->record);
	if (r == 0)
		dir->keys_generation = fs->tree_generation;
	return r;
}

/* From the outermost that has none yet inwards: a tree may be deeper than a stack. */
int node_dir_keys(struct node *node)
{
	CLEANUP_FREE struct node **stale = NULL;
	struct node *dir = node;
	size_t count = 0;
	int r = 0;

	for (; dir; dir = dir->parent) {
		if (dir != node->fs->root && !dir->parent)
			return -ESTALE;
		if (has_keys(dir))
			break;
		count++;
	}
	if (count == 0)
		return 0;
	stale = malloc(count * sizeof(struct node *));
	if (!stale)
		return -ENOMEM;
	dir = node;
	for (size_t i = count; i > 0; i--, dir = dir->parent)
		stale[i - 1] = dir;
	for (size_t i = 0; i < count && r == 0; i++)
		r = make_keys(stale[i]);
	return r;
}

int node_keys(struct node *node, struct buf *key, struct buf *record)
{
	struct node *parent = node->parent;
	int r;

	if (node->dir) {
		r = node_dir_keys(node);
		if (r == 0 && key)
			r = buf_set(key, buf_str(&node->dir->key));
		if (r == 0 && record)
			r = buf_set(record, buf_str(&node->dir->record));
		return r;
	}
	if (!parent)
		return -ESTALE;
	r = node_dir_keys(parent);
	if (r < 0)
		return r;
	return names_child(&node->fs->existing, buf_str(&parent->dir->key), buf_str(&parent->dir->record),
			   buf_str(&node->name), false, key, record);
}

/* FNV-1a, then the finalizer of splitmix64: keys that differ in their last byte lie far apart. */
uint64_t key_hash(struct str key)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (size_t i = 0; i < key.len; i++)
		hash = (hash ^ (unsigned char)key.p[i]) * 0x100000001b3u;
	hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;
	hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
	return hash ^ (hash >> 31);
}

static bool ino_is_taken(struct fs *fs, uint64_t ino)
{
	struct node probe = { .ino = ino };

	return RB_FIND(ino_tree, &fs->by_ino, &probe);
}

void node_add_ino(struct node *node, uint64_t ino)
{
	node->ino = ino;
	RB_INSERT(ino_tree, &node->fs->by_ino, node);
}

void node_set_ino(struct node *node, struct str key)
{
	struct fs *fs = node->fs;
	struct state_row row = { 0 };
	uint64_t usual = key_hash(key) >> 1; /* some programs read it as signed */
	uint64_t ino = usual;

	if (fs->config.state && state_get(fs->config.state, key, &row) && row.ino)
		ino = row.ino;
	while (ino <= FS_ROOT_ID || ino_is_taken(fs, ino))
		ino++;
	node_add_ino(node, ino);
	if (fs->config.state && ino != row.ino && ino != usual)
		state_put_ino(fs->config.state, key, ino);
}

void node_keep_ino(struct node *node, struct str key)
{
	if (node->fs->config.state && node->ino)
		state_put_ino(node->fs->config.state, key, node->ino == key_hash(key) >> 1 ? 0 : node->ino);
}

/* --- attributes --- */

bool node_stays(const struct node *node)
{
	return node->dir && node->dir->implied && !node->dir->recorded;
}

bool node_fresh(const struct node *node)
{
	if (node->gone_here || (node->file && (node->file->dirty || node->file->held || node_is_unlinked(node))))
		return true;
	if (node == node->fs->root || node_stays(node))
		return true;
	if (node->file && !node_record_holds(node))
		return false;
	return node_was_checked(node);
}

void node_checked(struct node *node, uint64_t seq)
{
	node->checked_us = clock_now_us();
	node->checked_seq = seq;
}

bool node_is_unlinked(const struct node *node)
{
	return !node->parent && node != node->fs->root;
}

uint64_t node_size(const struct node *node)
{
	if (node->special)
		return node->special->target.len;
	if (!node->file)
		return 0;
	return node->file->dirty ? node->file->draft->size : node->file->size;
}

static struct timespec timespec_of(int64_t ns)
{
	int64_t s = ns / CLOCK_NS_PER_S, rest = ns % CLOCK_NS_PER_S;

	if (rest < 0) {
		s--;
		rest += CLOCK_NS_PER_S;
	}
	return (struct timespec){ .tv_sec = s, .tv_nsec = rest };
}

static nlink_t link_count(const struct node *node)
{
	if (node_is_unlinked(node))
		return 0;
	if (node->dir && node->dir->complete)
		return 2 + node->dir->subdirectories;
	return 1;
}

void node_entry(const struct node *node, struct fs_entry *out)
{
	uint64_t now = clock_now_us(), ttl = node->fs->config.ttl_us;
	uint64_t age = node->checked_us ? now - node->checked_us : 0;
	uint64_t size = node_size(node);

	*out = (struct fs_entry){
		.id = node->id,
		.ttl_us = age < ttl ? ttl - age : 0,
		.st = {
			.st_ino = node_number(node),
			.st_mode = node->mode,
			.st_nlink = link_count(node),
			.st_uid = node->uid,
			.st_gid = node->gid,
			.st_rdev = node->special ? node->special->rdev : 0,
			.st_size = (off_t)size,
			.st_blocks = (blkcnt_t)(size / 512 + (size % 512 != 0)),
			.st_blksize = 4096,
			.st_mtim = timespec_of(node->mtime_ns),
			.st_ctim = timespec_of(node->ctime_ns),
			.st_atim = timespec_of(node->atime_set ? node->atime_ns : node->mtime_ns),
		},
	};
	if (node_fresh(node) && (node->dir || (node->file && node->file->dirty)))
		out->ttl_us = ttl;
	if (node->checked_us && push_keeps(node->fs, node->checked_seq) &&
	    !(node->file && (node->file->dirty || !node_record_holds(node))))
		out->ttl_us = FS_FOREVER;
}

void node_give(struct node *node, struct fs_entry *out)
{
	node_entry(node, out);
	node->lookups++;
	node->given_us = out->ttl_us == FS_FOREVER ? FS_FOREVER : clock_now_us() + out->ttl_us;
}

bool node_is_held(const struct node *node)
{
	return node->lookups || node == node->fs->root;
}

bool node_is_given(const struct node *node, uint64_t now_us)
{
	return node->lookups && node->given_us > now_us + node->fs->config.ttl_us / 2;
}

uint64_t node_number(const struct node *node)
{
	return node->ino ? node->ino : node->id;
}

void node_add_absent(struct node *node, struct str name, uint64_t seq)
{
	struct directory *dir = node->dir;
	size_t slot = dir->next_absent++ % ABSENT_NAMES;

	dir->absent[slot].seq = seq;
	/* without memory it is asked for again */
	dir->absent[slot].at_us = buf_set(&dir->absent[slot].name, name) == 0 ? clock_now_us() : 0;
}

bool node_has_absent(const struct node *node, struct str name, uint64_t since)
{
	const struct directory *dir = node->dir;

	for (size_t i = 0; i < ABSENT_NAMES; i++)
		if (dir->absent[i].at_us && dir->absent[i].seq >= since &&
		    answer_holds(node->fs, dir->absent[i].seq, dir->absent[i].at_us) &&
		    str_equal(buf_str(&dir->absent[i].name), name))
			return true;
	return false;
}

void node_forget_absent(struct node *node, struct str name)
{
	struct directory *dir = node->dir;

	for (size_t i = 0; i < ABSENT_NAMES; i++)
		if (dir->absent[i].at_us && str_equal(buf_str(&dir->absent[i].name), name))
			dir->absent[i].at_us = 0;
}

void node_stored_here(struct node *node)
{
	node->change_seq = fs_tick(node->fs);
	if (node->checked_us || !node->special) /* of a key in its place this says nothing */
		node_checked(node, node->change_seq);
}

void node_changed_here(struct node *node)
{
	node_stored_here(node);
	node->ctime_ns = clock_real_ns();
}

/* Of files that of their value; of others what the record says comes before it, but for directories (attributes.c). */
void node_remember_time(struct node *node)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	struct state *state = node->fs->config.state;

	if (node->file)
		value_remember_time(node);
	else if (state && node_keys(node, &key, NULL) == 0)
		state_put(state, buf_str(&key), node->dir ? node->dir->time_base : "", node->mtime_ns);
}

void node_touch_dir(struct node *dir)
{
	dir->mtime_ns = dir->ctime_ns = clock_real_ns();
	dir->wait.members &= ~(unsigned)RECORD_MTIME;
	dir->wait.changes++;
	node_remember_time(dir);
}

/* A row that is bound to a record's time is looked at again when the record is known. */
void node_date(struct node *node)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	struct state *state = node->fs->config.state;
	struct state_row row = { 0 };

	node->mtime_ns = node->ctime_ns = clock_real_ns();
	if (!state || node_keys(node, &key, NULL) < 0)
		return;
	if (!state_get(state, buf_str(&key), &row) || !row.has_mtime)
		state_put(state, buf_str(&key), "", node->mtime_ns);
	else if (!row.hash[0])
		node->mtime_ns = node->ctime_ns = row.mtime_ns;
}

/* The order is that of the kernel's locks: first the name, then the inode. */
void node_invalidate(struct node *node)
{
	const struct fs_notify *notify = &node->fs->notify;

	if (!node_is_held(node))
		return;
	node->given_us = 0;
	if (node->parent)
		notify->expire_entry(notify->arg, node->parent->id, buf_str(&node->name));
	notify->inval_inode(notify->arg, node->id);
}

void node_invalidate_attributes(struct node *node)
{
	const struct fs_notify *notify = &node->fs->notify;

	if (!notify->inval_attributes) {
		node_invalidate(node);
		return;
	}
	if (!node_is_held(node))
		return;
	node->given_us = 0;
	if (node->parent)
		notify->expire_entry(notify->arg, node->parent->id, buf_str(&node->name));
	notify->inval_attributes(notify->arg, node->id);
}

/* --- memory --- */

static bool evictable(const struct node *node, bool too_many)
{
	if (node->refs || node->lookups || node_stays(node) || (!too_many && node_fresh(node)))
		return false;
	if (node->file)
		return !node->file->dirty && !node->file->held;
	return node->special || (!node->dir->children && !node->dir->listing);
}

/* Children that neither the kernel nor anybody else refers to and that would have to be asked for again anyway, or are more
 * than there is room for. */
static void sweep_dir(struct node *node)
{
	struct node *child = node_next_child(node, 0);

	/* nobody is to take a node that is out of use for one that was removed */
	if (node->dir->readers || node->dir->opens)
		return;
	while (child) {
		uint64_t cookie = child->cookie;

		if (evictable(child, node->fs->node_count > NODES_MOST)) {
			node->dir->complete = false;
			node_detach(child);
		}
		child = node_next_child(node, cookie);
	}
}

void nodes_sweep(struct fs *fs)
{
	struct node *node, *next;

	/* sweeping may free the next node, so the step is taken after it */
	for (node = node_next(fs, NULL); node; node = next) {
		if (node->dir) {
			node_ref(node);
			sweep_dir(node);
			next = node_next(fs, node);
			node_unref(node);
		} else {
			next = node_next(fs, node);
		}
	}
}
