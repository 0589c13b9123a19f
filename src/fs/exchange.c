/* Two regular files that change places. Both values, and records, are written down before the first is replaced: what the
 * mount has not finished when it dies, another can. */
#include <errno.h>
#include <jansson.h>

#include "base/log.h"
#include "fs/ids.h"
#include "fs/internal.h"
#include "fs/recovery.h"

/* How often it is begun again because others write the files. */
#define EXCHANGE_TRIES 8

/* --- in the store --- */

static co_fn int read_part(struct fs *fs, struct str key, struct journal_entry *entry, enum journal_part part)
{
	int r = store_get(fs->store, key, &entry->parts[part]);

	entry->has[part] = r == 0;
	return r == -ENOENT ? 0 : r;
}

/* `a` is the node whose mode lets others do less. */
static co_fn int read_both(struct node *a, struct node *b, struct journal_entry *entry)
{
	CLEANUP(buf_free) struct buf a_record = BUF_INIT;
	CLEANUP(buf_free) struct buf b_record = BUF_INIT;
	struct fs *fs = a->fs;
	int r = node_keys(a, &entry->from, &a_record);

	if (r == 0)
		r = node_keys(b, &entry->to, &b_record);
	if (r == 0)
		r = read_part(fs, buf_str(&entry->from), entry, JOURNAL_A);
	if (r == 0)
		r = read_part(fs, buf_str(&entry->to), entry, JOURNAL_B);
	if (r == 0 && (!entry->has[JOURNAL_A] || !entry->has[JOURNAL_B]))
		r = -ENOENT;
	if (r == 0)
		r = read_part(fs, buf_str(&a_record), entry, JOURNAL_A_RECORD);
	return r < 0 ? r : read_part(fs, buf_str(&b_record), entry, JOURNAL_B_RECORD);
}

struct naming {
	struct fs *fs;
	const struct journal_entry *entry;
	struct buf part; /* the key under which the journal holds it */
};

static co_fn int name_id(void *arg, const struct content_id *id, uint32_t chunk_count)
{
	struct naming *naming = arg;
	const struct layout *layout = &naming->fs->layout;
	int r = id_name(layout, id, buf_str(&naming->entry->from), buf_str(&naming->entry->to));

	(void)chunk_count;
	return r < 0 ? r : id_name(layout, id, buf_str(&naming->part), STR(""));
}

static co_fn int write_part(struct fs *fs, const struct journal_entry *entry, struct intent *intent,
			    enum journal_part part)
{
	struct naming naming = { .fs = fs, .entry = entry };
	int r = journal_part_key(&fs->journal, intent->name, part, &naming.part);

	if (r == 0)
		r = ids_in_value(buf_str(&entry->parts[part]), name_id, &naming);
	if (r == 0)
		r = intent_sure(intent);
	if (r == 0)
		r = store_set(fs->store, buf_str(&naming.part), buf_str(&entry->parts[part]),
			      (struct store_expect){ .what = STORE_EXPECT_ABSENT });
	buf_free(&naming.part);
	return r;
}

static co_fn int carry_out(struct fs *fs, const struct journal_entry *entry, struct intent *intent)
{
	int r = 0;

	for (enum journal_part part = JOURNAL_A; part < JOURNAL_PARTS && r == 0; part++)
		if (entry->has[part])
			r = write_part(fs, entry, intent, part);
	if (r == 0)
		r = intent_change(intent, json_pack("{s:i, s:b}", "v", 1, "ready", 1));
	return r < 0 ? r : journal_exchange(&fs->journal, entry, intent);
}

/* -EBUSY: others have written one of them, and nothing was done. */
static co_fn int exchange_in_store(struct fs *fs, struct journal_entry *entry)
{
	struct intent intent;
	bool over;
	int r = layout_ensure(fs);

	if (r == 0)
		r = intent_open(&intent, &fs->journal, "exchange",
				json_pack("{s:o, s:o, s:b}", "a", json_stringn(entry->from.p, entry->from.len), "b",
					  json_stringn(entry->to.p, entry->to.len), "ready", 0));
	if (r < 0)
		return r;
	memcpy(entry->name, intent.name, sizeof(entry->name));
	r = carry_out(fs, entry, &intent);
	over = (r == 0 || r == -EBUSY) && !intent.lost;
	intent_close(&intent, false);
	if (over && journal_remove(&fs->journal, entry) < 0)
		over = false;
	if (!over) {
		if (r < 0)
			log_error("exchanging two files stopped half-way: %s; it will be finished", strerror(-r));
		recovery_soon(fs);
	}
	return r == -EOWNERDEAD ? -EIO : r;
}

/* --- in memory --- */

/* What was read right before is what was moved. */
static void settle(struct node *node, const struct journal_entry *entry, enum journal_part value,
		   enum journal_part record)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	struct file *file = node->file;

	file->own_id = false; /* `i/` names others now */
	file_forget_tail(file);
	file->alone_us = 0;
	value_doubt_for(node, node->fs->config.grace_us);
	if (!file->have_value || !str_equal(buf_str(&file->value), buf_str(&entry->parts[value]))) {
		value_drop(node);
		node->checked_us = 0;
		node_invalidate(node);
	}
	node_apply_record(node, buf_str(&entry->parts[record]));
	node_changed_here(node);
	if (node_keys(node, &key, NULL) == 0)
		node_keep_ino(node, buf_str(&key));
	value_remember_time(node);
}

static void forget_both(struct node *a, struct node *b)
{
	struct node *nodes[] = { a, b };

	for (int i = 0; i < 2; i++) {
		if (nodes[i]->parent)
			dir_doubt(nodes[i]->parent);
		doubt_below(nodes[i]);
	}
}

static int exchange_here(struct node *a, struct node *b, const struct journal_entry *entry)
{
	CLEANUP(buf_free) struct buf a_name = BUF_INIT;
	CLEANUP(buf_free) struct buf b_name = BUF_INIT;
	CLEANUP_NODE struct node *a_parent = a->parent;
	CLEANUP_NODE struct node *b_parent = b->parent;
	struct state *state = a->fs->config.state;
	int r;

	if (a_parent)
		node_ref(a_parent);
	if (b_parent)
		node_ref(b_parent);
	r = a_parent && b_parent ? buf_set(&a_name, buf_str(&a->name)) : -ESTALE;
	if (r == 0)
		r = buf_set(&b_name, buf_str(&b->name));
	if (r < 0)
		return r;
	if (state) {
		state_remove(state, buf_str(&entry->from));
		state_remove(state, buf_str(&entry->to));
	}
	node_detach(a);
	node_detach(b);
	r = node_attach(b_parent, a, buf_str(&b_name));
	if (r == 0)
		r = node_attach(a_parent, b, buf_str(&a_name));
	node_touch_dir(a_parent);
	node_touch_dir(b_parent);
	if (r < 0) {
		dir_doubt(a_parent); /* found again by the next listing */
		dir_doubt(b_parent);
		return r;
	}
	settle(a, entry, JOURNAL_A, JOURNAL_A_RECORD);
	settle(b, entry, JOURNAL_B, JOURNAL_B_RECORD);
	return 0;
}

static bool is_stricter(const struct node *a, const struct node *b)
{
	return (a->mode & ~b->mode & 0777) == 0;
}

/* With both locked, and nothing of them waiting to be sent. -EBUSY: others write them without end. */
static co_fn int exchange_locked(struct node *a, struct node *b)
{
	int r = -EBUSY;

	if (!is_stricter(a, b)) {
		struct node *other = a;

		a = b;
		b = other;
	}
	for (int i = 0; i < EXCHANGE_TRIES && r == -EBUSY; i++) {
		struct journal_entry *entry = calloc(1, sizeof(*entry));

		r = entry ? read_both(a, b, entry) : -ENOMEM;
		if (r == 0)
			r = exchange_in_store(a->fs, entry);
		if (r == 0)
			r = exchange_here(a, b, entry);
		if (entry)
			journal_entry_free(entry);
	}
	if (r < 0)
		forget_both(a, b);
	return r;
}

static co_fn int commit_both(struct node *a, struct node *b)
{
	int r = file_commit(a);

	if (r == 0)
		r = file_commit(b);
	if (r == 0)
		r = attr_commit(a);
	return r < 0 ? r : attr_commit(b);
}

static bool waits(const struct node *node)
{
	return node->file->dirty || !node->file->stored || node->wait.members;
}

int rename_exchange(struct node *dir, struct str name, struct node *a, struct node *new_dir, struct str new_name,
		    struct node *b)
{
	struct node *first = a->id < b->id ? a : b, *second = a->id < b->id ? b : a;
	struct fs *fs = dir->fs;
	int r;

	if (!a->file || !b->file)
		return -EINVAL;
	if (a == b)
		return 0;
	r = commit_both(a, b);
	if (r < 0)
		return r;
	tree_shared(fs);
	node_lock(first);
	node_lock(second);
	if (node_child(dir, name) != a || node_child(new_dir, new_name) != b || waits(a) || waits(b))
		r = -EAGAIN;
	else
		r = exchange_locked(a, b);
	node_unlock(second);
	node_unlock(first);
	tree_shared_end(fs);
	return r;
}
