/* Single names: what is known of them, and what a directory too large for a listing a lookup must ask. */
#include <errno.h>

#include "base/clock.h"
#include "fs/internal.h"
#include "fs/leftover.h"
#include "fs/listing.h"
#include "fs/special.h"

/* So many files of a directory are asked for one by one in a ttl before it is listed instead. */
#define RECHECKS_A_WINDOW 3

/* A GET or a RANGE of one record, several side by side. */
struct probe {
	struct fs *fs;
	struct co_group *group;
	struct buf key, end; /* end empty: a GET */
	struct buf value;
	struct store_page page;
	int err;
};

static void probe_run(void *arg)
{
	struct probe *probe = arg;
	struct fs *fs = probe->fs;

	if (probe->end.len)
		probe->err = store_range(fs->store, buf_str(&probe->key), buf_str(&probe->end), 1, &probe->page);
	else
		probe->err = store_get(fs->store, buf_str(&probe->key), &probe->value);
	co_group_done(probe->group);
}

static void probe_deinit(struct probe *probe)
{
	buf_free(&probe->key);
	buf_free(&probe->end);
	buf_free(&probe->value);
	store_page_deinit(&probe->page);
}

static co_fn void probe_start(struct probe *probe, struct fs *fs, struct co_group *group)
{
	probe->fs = fs;
	probe->group = group;
	co_start_beside(fs->loop, group, probe_run, probe);
}

/* True if the page shows a key that begins with the one asked from. */
static bool probe_found(const struct probe *probe)
{
	return probe->key.len && probe->page.count && str_starts(probe->page.records[0].key, buf_str(&probe->key));
}

/* What a name that cannot be there is answered. */
static int name_check(struct node *dir, struct str name)
{
	CLEANUP(buf_free) struct buf segment = BUF_INIT;
	struct fs *fs = dir->fs;
	int r = name.len > NAMES_SHOWN_BYTES ? -ENAMETOOLONG : node_dir_keys(dir);

	if (r < 0)
		return r;
	if (names_is_value(name))
		return dir == fs->root ? -ENOENT : 0;
	r = names_segment_from_name(&fs->rules, name, &segment);
	if (r == 0 && names_is_reserved(&fs->rules, buf_str(&dir->dir->key), buf_str(&segment)))
		return -ENOENT;
	return r;
}

/* --- one name, four questions --- */

enum {
	VALUE,
	RECORD,
	BELOW,
	DIR_RECORD,
	PROBES
};

struct single {
	struct node *dir;
	struct str name;
	struct probe probes[PROBES];
	uint64_t seq;
};

static int single_keys(struct single *single)
{
	struct fs *fs = single->dir->fs;
	struct buf *dir_key = &single->dir->dir->key, *dir_record = &single->dir->dir->record;
	struct probe *probes = single->probes;
	int r = names_child(&fs->existing, buf_str(dir_key), buf_str(dir_record), single->name, false,
			    &probes[VALUE].key, &probes[RECORD].key);

	if (r < 0 && r != -EINVAL)
		return r;
	if (probes[VALUE].key.len > fs->config.max_key)
		return -ENAMETOOLONG;
	if (names_is_value(single->name))
		return 0;
	r = names_child(&fs->existing, buf_str(dir_key), buf_str(dir_record), single->name, true, &probes[BELOW].key,
			&probes[DIR_RECORD].key);
	if (r == 0)
		r = names_last(buf_str(&probes[BELOW].key), fs->config.max_key, &probes[BELOW].end);
	/* a name that only its record makes too long may be there, but it has none */
	for (int i = 0; i < PROBES; i++)
		if (probes[i].key.len > fs->config.max_key)
			buf_free(&probes[i].key);
	return r;
}

static int single_apply(struct single *single)
{
	struct probe *probes = single->probes;
	struct node *child = NULL;
	bool is_dir = probe_found(&probes[BELOW]) || probes[DIR_RECORD].err == 0;
	int r = 0;

	if (is_dir) {
		r = apply_dir(single->dir, single->name, single->seq, single->seq, &child);
		if (r == 0 && child) {
			child->dir->implied |= probe_found(&probes[BELOW]);
			child->dir->recorded = probes[DIR_RECORD].err == 0;
			node_answer_record(child, buf_str(&probes[DIR_RECORD].value), single->seq);
		}
	}
	if (r == 0 && probes[VALUE].err == 0) {
		r = apply_value(single->dir, single->name, buf_str(&probes[VALUE].value), single->seq, single->seq);
		child = node_child(single->dir, single->name);
		if (r == 0 && child && child->file && !child->file->held)
			node_answer_record(child, buf_str(&probes[RECORD].value), single->seq);
	}
	if (r == 0 && !is_dir && probes[VALUE].err == -ENOENT && probes[RECORD].err == 0)
		r = special_apply(single->dir, single->name, buf_str(&probes[RECORD].value), single->seq, single->seq);
	if (r < 0)
		return r;
	child = node_child(single->dir, single->name);
	if (child && child->special && child->seen == single->seq)
		return 0;
	if (child && !is_dir && probes[VALUE].err == -ENOENT && !node_stays(child) && may_vanish(child, single->seq))
		vanish(child, single->seq);
	if (!node_child(single->dir, single->name) && probes[RECORD].err == 0)
		leftover_add(single->dir, single->name, buf_str(&probes[RECORD].value));
	return 0;
}

static co_fn int lookup_single(struct node *dir, struct str name)
{
	struct single single = { .dir = dir, .name = name };
	struct co_group group = { 0 };
	int r;

	tree_shared(dir->fs);
	r = node_dir_keys(dir);
	if (r == 0)
		r = single_keys(&single);
	if (r == 0) {
		single.seq = fs_tick(dir->fs);
		node_readers_add(dir);
		for (int i = 0; i < PROBES; i++) {
			if (single.probes[i].key.len == 0)
				single.probes[i].err = -ENOENT;
			else
				probe_start(&single.probes[i], dir->fs, &group);
		}
		co_group_wait(&group);
		for (int i = 0; i < PROBES && r == 0; i++)
			if (single.probes[i].err != -ENOENT)
				r = single.probes[i].err;
		if (r == 0)
			r = single_apply(&single);
		node_readers_drop(dir);
	}
	tree_shared_end(dir->fs);
	for (int i = 0; i < PROBES; i++)
		probe_deinit(&single.probes[i]);
	return r;
}

/* --- what is known already, asked again --- */

/* The keys that would make a directory of a file's own: it shows as `%=` then, which itself has none. */
static int below_range(const struct node *node, struct str key, struct probe *below)
{
	size_t max_key = node->fs->config.max_key;
	int r;

	if (names_is_value(buf_str(&node->name)) || key.len + 1 >= max_key)
		return 0;
	r = buf_set(&below->key, key);
	if (r == 0)
		r = buf_add_char(&below->key, node->fs->rules.delimiter);
	return r < 0 ? r : names_last(buf_str(&below->key), max_key, &below->end);
}

/* What is known may be younger than the answer: written, moved or being written. */
static int file_is_absent(struct node *node, uint64_t seq)
{
	if (may_vanish(node, seq)) {
		if (special_is_record(buf_str(&node->record_value)))
			dir_doubt(node->parent); /* the record makes another file of that name */
		vanish(node, seq);
		return -ENOENT;
	}
	if (node->file && node->file->dirty && !node->lock.held)
		value_apply_absence(node, seq);
	return node->parent ? 0 : -ENOENT;
}

/* What is asked of a file, or of a special file whose key may have come. */
static int file_answer(struct node *node, const struct probe *value, const struct probe *record, uint64_t seq)
{
	int r = value->err;

	if (node->special)
		return r == 0 ? -ENOENT : r; /* a regular file now: its name is to be looked up anew */
	if (r == 0)
		r = value_apply(node, buf_str(&value->value), seq);
	if (r == 0 && record->key.len)
		node_answer_record(node, buf_str(&record->value), seq);
	return r;
}

static co_fn int refresh_special(struct node *node, const struct probe *record, uint64_t seq)
{
	CLEANUP(buf_free) struct buf name = BUF_INIT;
	struct node *parent = node->parent;
	int r = record->err;

	if (!parent || node->change_seq > seq || node->answer_seq > seq)
		return parent ? 0 : -ENOENT;
	if (r == 0 && special_is_record(buf_str(&record->value))) {
		r = buf_set(&name, buf_str(&node->name));
		if (r == 0)
			r = special_apply(parent, buf_str(&name), buf_str(&record->value), seq, seq);
		return r < 0 || node->parent ? r : -ENOENT;
	}
	return r == 0 || r == -ENOENT ? file_is_absent(node, seq) : r;
}

/* Nor need it be asked for: one that came would have been told of; without a subscription it is asked for as often as the value, but
 * not where a change here makes that doubtful. And of chunks that another mount changes in place only the record tells. */
static bool has_no_record(const struct node *node)
{
	const struct push *push = &node->fs->push;

	if (node->record_value.len || !node->record_known || node->file->stub)
		return false;
	return push->echoes.on ? node->record_checked_seq >= push->since : !node->checked_us;
}

static co_fn int refresh_file(struct node *node)
{
	struct fs *fs = node->fs;
	struct probe value = { 0 }, record = { 0 }, below = { 0 };
	struct co_group group = { 0 };
	uint64_t seq = fs_tick(fs);
	int r = node_keys(node, &value.key, &record.key);

	/* with a key so long it has none */
	if (node->file && record.key.len > fs->config.max_key) {
		buf_free(&record.key);
		node_record_checked(node, seq);
	}
	if (node->file && has_no_record(node))
		buf_free(&record.key);
	if (r == 0)
		r = below_range(node, buf_str(&value.key), &below);
	if (r < 0)
		goto out;
	if (record.key.len)
		probe_start(&record, fs, &group);
	if (below.key.len)
		probe_start(&below, fs, &group);
	probe_start(&value, fs, &group);
	co_group_wait(&group);
	r = value.err ? value.err : below.err;
	if (r == 0 && record.err != -ENOENT)
		r = record.err;
	if (r == 0 && probe_found(&below))
		r = -ENOENT; /* a directory now: its name is to be looked up anew */
	if (r == 0)
		r = file_answer(node, &value, &record, seq);
	if (value.err == -ENOENT)
		r = node->special && !probe_found(&below) ? refresh_special(node, &record, seq)
							  : file_is_absent(node, seq);
out:
	probe_deinit(&value);
	probe_deinit(&record);
	probe_deinit(&below);
	return r;
}

/* A directory that only its record had shown: either still stands, or keys below it do. */
static co_fn int refresh_dir(struct node *node)
{
	struct fs *fs = node->fs;
	struct probe record = { 0 }, below = { 0 };
	struct co_group group = { 0 };
	uint64_t seq = fs_tick(fs);
	int r = node_is_unlinked(node) ? -ENOENT : node_keys(node, &below.key, &record.key);

	if (r == 0)
		r = names_last(buf_str(&below.key), fs->config.max_key, &below.end);
	if (r < 0)
		goto out;
	probe_start(&record, fs, &group);
	probe_start(&below, fs, &group);
	co_group_wait(&group);
	r = below.err ? below.err : record.err == -ENOENT ? 0 : record.err;
	if (r < 0 || node->change_seq > seq || node->answer_seq > seq)
		goto out;
	node->dir->recorded = record.err == 0;
	node->dir->implied |= probe_found(&below);
	node_checked(node, seq);
	if (record.err == 0) {
		node_answer_record(node, buf_str(&record.value), seq);
	} else if (!probe_found(&below)) {
		if (may_vanish(node, seq))
			vanish(node, seq);
		r = node->parent ? 0 : -ENOENT;
	}
out:
	probe_deinit(&record);
	probe_deinit(&below);
	return r;
}

int node_refresh(struct node *node)
{
	int r;

	if (node_fresh(node))
		return 0;
	tree_shared(node->fs); /* what is being moved is under neither name */
	r = node->dir ? refresh_dir(node) : refresh_file(node);
	tree_shared_end(node->fs);
	return r == -ENOENT && node->gone_here ? 0 : r;
}

/* A few files of a directory are asked for one by one; where more are looked at, a listing is cheaper. But where notifications keep one
 * right, and only these files are doubted, it is not taken again. */
static bool recheck_alone(struct node *dir)
{
	uint64_t now = clock_now_us(), ttl = dir->fs->config.ttl_us;

	if (dir->dir->large || (dir->fs->push.live && dir_is_known(dir)))
		return true;
	if (now - dir->dir->recheck_us >= ttl) {
		dir->dir->recheck_us = now;
		dir->dir->rechecks = 0;
	}
	return dir->dir->rechecks++ < RECHECKS_A_WINDOW;
}

static int take_child(struct node *dir, struct str name, struct node **out)
{
	struct node *child = node_child(dir, name);

	if (!child)
		return -ENOENT;
	node_ref(child);
	*out = child;
	return 0;
}

/* What is said of a name that is not there: -ENAMETOOLONG where it could not be made either. */
static int absent(struct node *dir, struct str name)
{
	int r;

	if (name.len > NAMES_NEW_BYTES)
		return -ENAMETOOLONG;
	if (node_dir_keys(dir) < 0)
		return -ENOENT;
	r = names_child(&dir->fs->rules, buf_str(&dir->dir->key), buf_str(&dir->dir->record), name, false, NULL, NULL);
	return r == -ENAMETOOLONG ? r : -ENOENT;
}

static bool name_is_known(struct node *dir, struct str name)
{
	struct node *child = node_child(dir, name);

	return child ? node_fresh(child) : node_has_absent(dir, name, 0) || dir_is_known(dir);
}

/* `name` is a copy of the caller's, and the caller holds `dir`. */
int lookup_child(struct node *dir, struct str name, struct node **out)
{
	CLEANUP_NODE struct node *child = NULL;
	uint64_t seq;
	int r = name_check(dir, name);

	if (r < 0)
		return r;
	fs_count(dir->fs, FS_NAMES, name_is_known(dir, name));
	if (take_child(dir, name, &child) == 0) {
		if (node_fresh(child) || recheck_alone(dir)) {
			r = node_refresh(child);
			if (r == 0 && child->parent == dir) {
				*out = STEAL(child);
				return 0;
			}
			if (r < 0 && r != -ENOENT)
				return r;
			/* gone, or moved: what a listing said is no longer so */
			dir->dir->complete = false;
		}
	} else if (node_has_absent(dir, name, 0)) {
		return absent(dir, name);
	}
	seq = fs_tick(dir->fs);
	r = dir_list(dir, false);
	if (r == 0 && dir->dir->large)
		r = lookup_single(dir, name);
	if (r < 0)
		return r;
	if (take_child(dir, name, out) == 0)
		return 0;
	if (dir->dir->large)
		node_add_absent(dir, name, seq);
	return absent(dir, name);
}

/* Only who makes a file asks: for all others what is not in a directory that is known costs nothing. In one too large for that it has
 * just been asked for. */
int lookup_to_make(struct node *dir, struct str name, struct node **out)
{
	int r = lookup_child(dir, name, out);

	if (r != -ENOENT || !leftover_may_be(dir, name) ||
	    node_has_absent(dir, name, leftover_place(dir, name)->dir->leftovers_lost))
		return r;
	r = lookup_single(dir, name);
	return r < 0 ? r : take_child(dir, name, out);
}

int lookup_path(struct fs *fs, uint64_t parent, struct str name, struct node **dir, struct node **out)
{
	CLEANUP(buf_free) struct buf copy = BUF_INIT;
	int r = dir_get(fs, parent, dir);

	if (r == 0)
		r = buf_set(&copy, name);
	return r < 0 ? r : lookup_child(*dir, buf_str(&copy), out);
}
