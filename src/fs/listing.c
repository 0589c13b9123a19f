/* Directories as the store has them: whole listings, and single names where a directory is too large for one.
 *
 * Values and records of a directory are read side by side and applied as they come. A key that is also a directory
 * is shown in it, as `%=`: whichever is seen first, the file or the directory, the node of the value moves. */
#include "fs/listing.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/held.h"
#include "fs/leftover.h"
#include "fs/special.h"

static const struct str VALUE_NAME = { "%=", 2 };

/* --- what an answer says, applied to the tree --- */

static struct node *new_child(struct node *dir, struct str name, bool is_dir)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	struct node *node = is_dir ? node_new_dir(dir->fs) : node_new_file(dir->fs);

	if (!node)
		return NULL;
	if (node_attach(dir, node, name) < 0) {
		node_unref(node);
		return NULL;
	}
	if (node_keys(node, &key, NULL) == 0)
		node_set_ino(node, buf_str(&key));
	node_unref(node); /* its place in the directory holds it */
	return node;
}

static int apply_file(struct node *dir, struct str name, struct str value, uint64_t seq, uint64_t seen)
{
	struct node *child = node_child(dir, name);

	if (node_removed_since(dir, name, seq, NODE_FILE))
		return 0;
	if (child && child->special) { /* where the key is, it is a regular file */
		if (!may_vanish(child, seq)) {
			child->seen = seen;
			child->checked_us = 0; /* its record alone may have been changed since */
			return 0;
		}
		vanish(child, seq);
		child = NULL;
	}
	if (!child)
		child = new_child(dir, name, false);
	if (!child)
		return -ENOMEM;
	if (child->file->held)
		return held_replaces(child, value, seq);
	child->seen = seen;
	return value_apply(child, value, seq);
}

/* The value of `name`: in its directory if it is one. */
int apply_value(struct node *dir, struct str name, struct str value, uint64_t seq, uint64_t seen)
{
	struct node *child = node_child(dir, name);

	if (!child && held_hides(dir, name, value))
		return 0;
	if (!child || !child->dir)
		return apply_file(dir, name, value, seq, seen);
	child->dir->value_known_us = clock_now_us();
	if (node_removed_since(dir, name, seq, NODE_FILE))
		return 0;
	return apply_file(child, VALUE_NAME, value, seq, seen);
}

static void forget_name(struct node *node)
{
	const struct fs_notify *notify = &node->fs->notify;
	struct node *parent = node->parent;

	if (node->lookups && parent)
		notify->inval_entry(notify->arg, parent->id, buf_str(&node->name));
}

/* A file whose key has become a directory: the directory takes its place, and it becomes `%=` in it. */
static struct node *file_into_dir(struct node *file)
{
	CLEANUP(buf_free) struct buf name = BUF_INIT;
	struct node *parent = file->parent, *dir;

	if (buf_set(&name, buf_str(&file->name)) < 0)
		return NULL;
	node_ref(file);
	forget_name(file);
	node_detach(file);
	dir = new_child(parent, buf_str(&name), true);
	if (dir && node_attach(dir, file, VALUE_NAME) < 0)
		log_debug("no memory to show a directory's own value");
	node_unref(file);
	return dir;
}

int apply_dir(struct node *dir, struct str name, uint64_t seq, uint64_t seen, struct node **out)
{
	struct node *child = node_child(dir, name);
	bool is_new = !child || !child->dir;

	if (node_removed_since(dir, name, seq, NODE_DIR)) {
		*out = NULL;
		return 0;
	}
	if (child && child->special) {
		leftover_add(dir, name, buf_str(&child->record_value));
		vanish(child, seq);
		child = NULL;
	}
	if (!child)
		child = new_child(dir, name, true);
	else if (child->file)
		child = file_into_dir(child);
	if (!child)
		return -ENOMEM;
	if (is_new)
		node_date(child);
	if (is_new && node_child(child, VALUE_NAME))
		child->dir->value_known_us = clock_now_us();
	child->seen = seen;
	node_checked(child, seq);
	if (child->answer_seq < seq)
		child->answer_seq = seq;
	*out = child;
	return 0;
}

bool dirty_below(struct node *top)
{
	for (struct node *node = top; node; node = node_next_below(top, node))
		if (!node->dir && ((node->file && (node->file->dirty || node->file->held)) || node->lock.held))
			return true;
	return false;
}

bool may_vanish(struct node *node, uint64_t seq)
{
	return node->parent && node->change_seq <= seq && node->answer_seq <= seq && !node->lock.held &&
	       !dirty_below(node);
}

/* What is made anew at its key is another file. */
static void forget_row(struct node *file)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	struct state *state = file->fs->config.state;

	if (state && node_keys(file, &key, NULL) == 0)
		state_remove(state, buf_str(&key));
}

/* The store no longer has it. A value shown inside of a vanished directory moves back to the key's own name. */
void vanish(struct node *node, uint64_t seq)
{
	CLEANUP_NODE struct node *held = node;
	CLEANUP_NODE struct node *value = NULL;
	CLEANUP(buf_free) struct buf name = BUF_INIT;
	struct node *parent = node->parent;
	const struct fs_notify *notify = &node->fs->notify;

	node_ref(held);
	if (node->dir && (value = node_child(node, VALUE_NAME)) && buf_set(&name, buf_str(&node->name)) == 0) {
		node_ref(value);
		node_detach_since(value, seq);
	} else {
		value = NULL;
	}
	forget_name(node);
	if (node->file)
		forget_row(node);
	if (node->file && node->record_value.len && !special_is_record(buf_str(&node->record_value)))
		leftover_add(parent, buf_str(&node->name), buf_str(&node->record_value));
	if (node_is_held(parent))
		notify->inval_inode(notify->arg, parent->id);
	node_detach_since(node, seq);
	if (value && node_attach(parent, value, buf_str(&name)) < 0)
		log_debug("no memory to show a value again");
}

/* --- listing a directory --- */

struct file_record {
	struct file_record *prev, *next;
	struct buf name, value;
};

struct listing {
	struct node *dir;
	const struct layout *layout;      /* what is asked */
	const struct list_answer *answer; /* by which it was asked before; or NULL */
	struct buf key, record;           /* the directory's, when the listing began */
	uint64_t seq;
	struct file_record *records; /* of files; kept until the values have been read */
	struct co_group group;
	int values_err, records_err, own_err;
	bool values_whole, records_whole;
	bool own_asked;
	struct buf own; /* the value of the directory's own key */
	bool first_page_only;
};

static int visit_value(void *arg, struct str key, struct str value)
{
	struct listing *listing = arg;
	struct node *dir = listing->dir, *child;
	struct fs *fs = dir->fs;
	CLEANUP(buf_free) struct buf name = BUF_INIT;
	struct names_split split;
	int r = names_split(&fs->rules, buf_str(&listing->key), key, &split);

	if (r < 0 || names_key_is_reserved(&fs->rules, key))
		return 0;
	r = names_name_from_segment(&fs->rules, split.segment, &name);
	if (r == -ENOMEM)
		return r;
	if (r < 0 || name.len > NAMES_SHOWN_BYTES) {
		log_warning("a key in the store cannot be shown: its name is not UTF-8 or too long");
		return 0;
	}
	if (!split.deeper)
		return apply_value(dir, buf_str(&name), value, listing->seq, listing->seq);
	r = apply_dir(dir, buf_str(&name), listing->seq, listing->seq, &child);
	if (r == 0 && child)
		child->dir->implied = true;
	return r;
}

static int keep_record(struct listing *listing, struct str name, struct str value)
{
	struct file_record *record = calloc(1, sizeof(*record));

	if (!record || buf_set(&record->name, name) < 0 || buf_set(&record->value, value) < 0) {
		if (record) {
			buf_free(&record->name);
			free(record);
		}
		return -ENOMEM;
	}
	DL_APPEND(listing->records, record);
	return 0;
}

static int visit_record(void *arg, struct str key, struct str value)
{
	struct listing *listing = arg;
	struct node *dir = listing->dir, *child;
	struct names_split split;
	int r;

	if (str_equal(key, buf_str(&listing->record))) {
		node_answer_record(dir, value, listing->seq);
		return 0;
	}
	r = names_split(&dir->fs->rules, buf_str(&listing->record), key, &split);
	if (r < 0 || !names_valid(&dir->fs->rules, split.segment))
		return 0;
	if (split.rest.len)
		return keep_record(listing, str_of(split.segment.p, split.segment.len + 1), STR(""));
	if (!split.deeper)
		return keep_record(listing, split.segment, value);
	r = apply_dir(dir, split.segment, listing->seq, listing->seq, &child);
	if (r < 0 || !child)
		return r;
	child->dir->recorded = true;
	child->record_seen = listing->seq;
	node_answer_record(child, value, listing->seq);
	return 0;
}

static void walk_values(void *arg)
{
	struct listing *listing = arg;

	listing->values_err = walk_range(listing->layout, buf_str(&listing->key), false, listing->first_page_only,
					 visit_value, listing, &listing->values_whole);
	co_group_done(&listing->group);
}

static void walk_records(void *arg)
{
	struct listing *listing = arg;

	listing->records_err = walk_range(listing->layout, buf_str(&listing->record), false, listing->first_page_only,
					  visit_record, listing, &listing->records_whole);
	co_group_done(&listing->group);
}

static void get_own_value(void *arg)
{
	struct listing *listing = arg;
	struct fs *fs = listing->dir->fs;
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	int r = names_child(&fs->rules, buf_str(&listing->key), buf_str(&listing->record), VALUE_NAME, false, &key,
			    NULL);

	if (r == 0)
		r = store_get(listing->layout->store, buf_str(&key), &listing->own);
	listing->own_err = r == -EINVAL ? -ENOENT : r; /* `%-` in the root has no key of its own */
	co_group_done(&listing->group);
}

/* Where the whole listing shows no key, the record alone may make a file. */
static int apply_special(struct listing *listing, const struct file_record *record)
{
	const struct node *child = node_child(listing->dir, buf_str(&record->name));

	if (!listing->values_whole || (child && (child->dir || child->seen == listing->seq)))
		return 0;
	return special_apply(listing->dir, buf_str(&record->name), buf_str(&record->value), listing->seq, listing->seq);
}

/* A name with the delimiter behind it: there are records below it. */
static bool is_below(const struct file_record *record)
{
	return record->value.len == 0;
}

static void apply_below(struct listing *listing, const struct file_record *record)
{
	struct str name = str_of(record->name.p, record->name.len - 1);
	const struct node *child = node_child(listing->dir, name);

	if (!child || !child->dir)
		leftover_add_below(listing->dir, name);
}

/* It was changed here since the listing was asked for, and what that says of its record may be older or younger than what is
 * known. */
static void doubt_record(struct node *file, struct str value)
{
	if (!str_equal(buf_str(&file->record_value), value))
		file->record_known = false;
}

static int apply_records(struct listing *listing)
{
	struct file_record *record;
	struct node *child, *next;
	struct directory *dir = listing->dir->dir;
	int r;

	if (listing->values_whole && listing->records_whole)
		leftovers_forget(listing->dir, listing->seq);
	DL_FOREACH(listing->records, record) {
		if (is_below(record)) {
			apply_below(listing, record);
			continue;
		}
		r = apply_special(listing, record);
		if (r < 0)
			return r;
		child = node_child(listing->dir, buf_str(&record->name));
		if (listing->values_whole && (!child || (child->dir && !node_child(child, VALUE_NAME))))
			leftover_add(listing->dir, buf_str(&record->name), buf_str(&record->value));
		if (child && child->dir)
			child = node_child(child, VALUE_NAME);
		if (!child || child->special)
			continue;
		if (child->file && child->file->held) {
			r = held_replaces_record(child, buf_str(&record->value), listing->seq);
			if (r < 0)
				return r;
			continue;
		}
		child->record_seen = listing->seq;
		if (child->change_seq > listing->seq) {
			doubt_record(child, buf_str(&record->value));
			continue;
		}
		node_answer_record(child, buf_str(&record->value), listing->seq);
	}
	HASH_ITER(by_name, dir->children, child, next) {
		struct node *file = child->dir ? node_child(child, VALUE_NAME) : child;
		bool told;

		if (!file || !file->file)
			continue;
		if (file == child && names_is_value(buf_str(&child->name))) {
			if (!file->record_known)
				file->checked_us = 0; /* its record lies in the listing of the parent */
			continue;
		}
		if (file->change_seq > listing->seq) {
			if (file->record_seen != listing->seq && listing->records_whole)
				doubt_record(file, STR(""));
			continue;
		}
		told = file->answer_seq > listing->seq; /* meanwhile */
		if (!told && file->seen != listing->seq)
			continue;
		if (told && listing->records_whole)
			node_checked(file, file->answer_seq);
		if (file->record_seen == listing->seq)
			continue;
		if (listing->records_whole)
			node_answer_record(file, STR(""), listing->seq);
		else if (!file->record_known)
			file->checked_us = 0; /* its record may lie behind the page that was read */
	}
	return 0;
}

/* Its record too, where the listing has none; but one that was told of since stays. */
static void vanish_unseen(struct listing *listing, struct node *node)
{
	CLEANUP(buf_free) struct buf name = BUF_INIT;
	CLEANUP(buf_free) struct buf record = BUF_INIT;
	struct node *dir = node->parent;
	uint64_t record_seq = node->record_seq;
	bool listed = node->record_seen == listing->seq;

	if (buf_set(&name, buf_str(&node->name)) < 0 || buf_set(&record, buf_str(&node->record_value)) < 0) {
		dir_doubt(dir);
		vanish(node, listing->seq);
		return;
	}
	vanish(node, listing->seq);
	if (record_seq > listing->seq) {
		if (special_remains(dir, buf_str(&name), buf_str(&record), record_seq, listing->seq) < 0)
			dir_doubt(dir);
	} else if (!listed) {
		buf_clear(&record);
		(void)leftover_take(dir, buf_str(&name), &record);
	}
}

/* The key of a directory's own name lies in the listing of its parent. */
static void remove_unseen_value(struct listing *listing, struct node *dir)
{
	struct node *value = node_child(dir, VALUE_NAME);

	dir->dir->value_known_us = clock_now_us();
	if (value && value->seen != listing->seq && may_vanish(value, listing->seq))
		vanish_unseen(listing, value);
}

static void remove_unseen(struct listing *listing)
{
	struct node *child = node_next_child(listing->dir, 0);

	while (child) {
		uint64_t cookie = child->cookie;
		bool changed = child->change_seq > listing->seq;
		bool seen = child->seen == listing->seq || changed;
		bool value = str_equal(buf_str(&child->name), VALUE_NAME);

		if (child->file && !child->file->held && !value && !seen && child->record_seen != listing->seq)
			doubt_record(child, STR("")); /* where it stays, as it is being changed here */
		if (changed && child->seen != listing->seq)
			child->checked_us = 0; /* its record alone may have been changed since */
		if (child->dir)
			remove_unseen_value(listing, child);
		if (!seen && child->file && child->file->dirty && !child->lock.held)
			value_apply_absence(child, listing->seq);
		else if (!seen && !value && !node_stays(child) && may_vanish(child, listing->seq))
			vanish_unseen(listing, child);
		else if (child->dir && child->change_seq <= listing->seq)
			child->dir->recorded = child->record_seen == listing->seq;
		child = node_next_child(listing->dir, cookie);
	}
}

/* Records of what was covered by a directory, or by what had another type, that has vanished. */
static int apply_uncovered(struct listing *listing)
{
	struct file_record *record;

	DL_FOREACH(listing->records, record) {
		CLEANUP(buf_free) struct buf left = BUF_INIT;
		struct str name = buf_str(&record->name);
		int r;

		if (is_below(record)) {
			apply_below(listing, record);
			continue;
		}
		if (node_child(listing->dir, name))
			continue;
		(void)leftover_take(listing->dir, name, &left);
		r = apply_special(listing, record);
		if (r < 0)
			return r;
		if (!node_child(listing->dir, name))
			leftover_add(listing->dir, name, buf_str(&record->value));
	}
	return 0;
}

static int apply_own_value(struct listing *listing)
{
	struct node *dir = listing->dir;
	struct node *child = node_child(dir, VALUE_NAME);

	if (!listing->own_asked)
		return 0;
	if (listing->own_err && listing->own_err != -ENOENT)
		return listing->own_err;
	dir->dir->value_known_us = clock_now_us();
	if (listing->own_err == 0)
		return apply_file(dir, VALUE_NAME, buf_str(&listing->own), listing->seq, listing->seq);
	if (child && may_vanish(child, listing->seq))
		vanish(child, listing->seq);
	return 0;
}

/* Asks and applies. */
static co_fn int list_once(struct listing *listing)
{
	struct node *node = listing->dir;
	struct directory *dir = node->dir;
	struct fs *fs = node->fs;
	int r = node_keys(node, &listing->key, &listing->record);

	if (r < 0)
		return r;
	listing->seq = listing->answer ? listing->answer->seq : fs_tick(fs);
	listing->own_asked =
		node != fs->root && (!dir->value_known_us || clock_now_us() - dir->value_known_us >= fs->config.ttl_us);
	co_start_beside(fs->loop, &listing->group, walk_records, listing);
	if (listing->own_asked)
		co_start_beside(fs->loop, &listing->group, get_own_value, listing);
	co_group_add(&listing->group);
	walk_values(listing);
	co_group_wait(&listing->group);

	r = listing->values_err ? listing->values_err : listing->records_err;
	if (r == 0)
		r = apply_own_value(listing);
	if (r < 0)
		return r;
	r = apply_records(listing);
	if (r < 0)
		return r;
	dir->complete = listing->values_whole && listing->records_whole;
	dir->large = !dir->complete;
	if (dir->complete) {
		remove_unseen(listing);
		r = apply_uncovered(listing);
	}
	if (r < 0) {
		dir->complete = false;
		return r;
	}
	if (node == fs->root)
		node_checked(node,
			     listing->seq); /* its record came along, as of others with the listing of their parent */
	dir->listed_us = dir->doubtful ? 0 : clock_now_us();
	dir->listed_seq = listing->seq;
	return 0;
}

static void listing_deinit(struct listing *listing)
{
	struct file_record *record, *next;

	DL_FOREACH_SAFE(listing->records, record, next) {
		buf_free(&record->name);
		buf_free(&record->value);
		free(record);
	}
	buf_free(&listing->key);
	buf_free(&listing->record);
	buf_free(&listing->own);
}

void dir_doubt(struct node *dir)
{
	dir->dir->complete = false;
	dir->dir->doubtful = true;
}

bool dir_is_known(const struct node *node)
{
	const struct directory *dir = node->dir;

	return dir->complete && dir->listed_us && answer_holds(node->fs, dir->listed_seq, dir->listed_us);
}

void dir_list_begin(struct node *node, bool whole)
{
	struct directory *dir = node->dir;

	dir->listing = true;
	dir->doubtful = false;
	dir->listing_whole = whole;
	node_ref(node);
	node_readers_add(node);
}

void dir_list_end(struct node *node, int err)
{
	struct directory *dir = node->dir;

	node_readers_drop(node);
	dir->listing = false;
	dir->listing_err = err;
	co_queue_wake_all(&dir->listed);
	node_unref(node);
}

static co_fn int list(struct listing *listing)
{
	struct fs *fs = listing->dir->fs;
	int r;

	/* of a directory that is being moved one half would be missing */
	tree_shared(fs);
	if (listing->answer && listing->answer->exclusives != fs->exclusives)
		r = -EAGAIN;
	else
		r = list_once(listing);
	tree_shared_end(fs);
	listing_deinit(listing);
	return r;
}

int dir_list_from(struct node *node, const struct list_answer *answer)
{
	struct listing listing = { .dir = node, .layout = answer->layout, .answer = answer };

	return list(&listing);
}

int dir_list(struct node *node, bool whole)
{
	struct listing listing = { .dir = node, .layout = &node->fs->layout, .first_page_only = !whole };
	struct directory *dir = node->dir;
	int r;

	while (!dir_is_known(node) && dir->listing) {
		bool enough = dir->listing_whole || !whole;

		queue_wait(&dir->listed);
		if (dir->listing_err != -EAGAIN && (enough || dir->listing_err))
			return dir->listing_err;
	}
	if (dir_is_known(node) || (dir->large && !whole))
		return 0;
	dir_list_begin(node, whole);
	r = list(&listing);
	dir_list_end(node, r);
	return r;
}
