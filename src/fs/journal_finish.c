/* What a dead mount has begun: taken over and brought to its end. */
#include <errno.h>
#include <jansson.h>

#include "base/list.h"
#include "base/log.h"
#include "fs/ids.h"
#include "fs/journal.h"
#include "fs/move.h"

static const struct store_expect any = { .what = STORE_EXPECT_ANY };

static co_fn int delete_key(const struct journal *journal, struct str key)
{
	int r = store_delete(journal->layout.store, key, any);

	return r == -ENOENT ? 0 : r;
}

/* Parts first: an entry without them is forgotten, and parts without an entry are deleted as a rest. */
int journal_remove(const struct journal *journal, const struct journal_entry *entry)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	int r = 0;

	for (enum journal_part i = JOURNAL_A; i < JOURNAL_PARTS && r == 0; i++) {
		if (!entry->has[i])
			continue;
		r = journal_part_key(journal, entry->name, i, &key);
		if (r == 0)
			r = delete_key(journal, buf_str(&key));
	}
	if (r == 0)
		r = layout_key(&journal->layout, &key, "j/%s", entry->name);
	if (r == 0)
		r = delete_key(journal, buf_str(&key));
	if (r == 0)
		r = layout_key(&journal->layout, &key, "j/%s/take", entry->name);
	return r < 0 ? r : delete_key(journal, buf_str(&key));
}

/* --- taking over --- */

/* The counter may come after the entry has gone, and would then make it look as if it had not. */
static co_fn int check_unchanged(const struct journal *journal, const struct journal_entry *entry, struct str counter)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	int r = layout_key(&journal->layout, &key, "j/%s", entry->name);

	if (r == 0)
		r = store_get(journal->layout.store, buf_str(&key), &now);
	if (r == -ENOENT && entry->value.len == 0)
		return 0;
	if (r == -ENOENT) {
		r = delete_key(journal, counter);
		return r < 0 ? r : -EALREADY;
	}
	if (r == 0 && !str_equal(buf_str(&now), buf_str(&entry->value)))
		r = -EALREADY;
	return r;
}

static co_fn int take_over(const struct journal *journal, const struct journal_entry *entry)
{
	CLEANUP(buf_free) struct buf counter = BUF_INIT;
	int64_t taken;
	int r = layout_key(&journal->layout, &counter, "j/%s/take", entry->name);

	if (r == 0)
		r = store_atomic(journal->layout.store, buf_str(&counter), 1, &taken);
	if (r < 0)
		return r;
	if (taken != entry->taken + 1)
		return -EALREADY;
	return check_unchanged(journal, entry, buf_str(&counter));
}

/* --- the kinds --- */

static co_fn int finish_rename(const struct journal *journal, const struct journal_entry *entry, struct intent *intent,
			       unsigned *kept)
{
	CLEANUP(buf_free) struct buf from_record = BUF_INIT;
	CLEANUP(buf_free) struct buf to_record = BUF_INIT;
	struct dir_move move = {
		.layout = &journal->layout,
		.from = buf_str(&entry->from),
		.to = buf_str(&entry->to),
		.finishing = true,
	};
	int r = names_record_of_dir(journal->layout.rules, move.from, &from_record);

	if (r == 0)
		r = names_record_of_dir(journal->layout.rules, move.to, &to_record);
	if (r < 0)
		return r;
	move.from_record = buf_str(&from_record);
	move.to_record = buf_str(&to_record);
	r = move_keys(&move, intent);
	*kept += move.kept;
	return r;
}

/* --- exchange --- */

/* What one of the keys holds, and held before. */
struct side {
	struct buf key, now;
	bool absent;
	const struct buf *own, *others; /* NULL: nothing */
};

static void side_deinit(struct side *side)
{
	buf_free(&side->key);
	buf_free(&side->now);
}

static bool holds(const struct side *side, const struct buf *value)
{
	if (!value)
		return side->absent;
	return !side->absent && str_equal(buf_str(&side->now), buf_str(value));
}

static co_fn int side_read(const struct journal *journal, const struct journal_entry *entry, enum journal_part own,
			   enum journal_part others, struct side *side)
{
	int r = store_get(journal->layout.store, buf_str(&side->key), &side->now);

	side->absent = r == -ENOENT;
	side->own = entry->has[own] ? &entry->parts[own] : NULL;
	side->others = entry->has[others] ? &entry->parts[others] : NULL;
	return r == -ENOENT ? 0 : r;
}

static co_fn int side_swap(const struct journal *journal, struct side *side, struct intent *intent)
{
	struct store_expect expect = { .what = STORE_EXPECT_ABSENT };
	int r = intent_sure(intent);

	if (r < 0 || holds(side, side->others))
		return r;
	if (!side->absent)
		expect = store_expect_value(buf_str(&side->now));
	if (side->others)
		return store_set(journal->layout.store, buf_str(&side->key), buf_str(side->others), expect);
	r = store_delete(journal->layout.store, buf_str(&side->key), expect);
	return r == -ENOENT ? 0 : r;
}

/* In the order in which it was begun: the record and the value of one key, then the value and the record of the other. */
enum {
	B_RECORD,
	B_VALUE,
	A_VALUE,
	A_RECORD,
	SIDES
};

static co_fn int read_sides(const struct journal *journal, const struct journal_entry *entry, struct side sides[SIDES])
{
	const struct names_rules *rules = journal->layout.rules;
	int r = names_record_of_file(rules, buf_str(&entry->from), &sides[A_RECORD].key);

	if (r == 0)
		r = names_record_of_file(rules, buf_str(&entry->to), &sides[B_RECORD].key);
	if (r == 0)
		r = buf_set(&sides[A_VALUE].key, buf_str(&entry->from));
	if (r == 0)
		r = buf_set(&sides[B_VALUE].key, buf_str(&entry->to));
	if (r == 0)
		r = side_read(journal, entry, JOURNAL_A, JOURNAL_B, &sides[A_VALUE]);
	if (r == 0)
		r = side_read(journal, entry, JOURNAL_B, JOURNAL_A, &sides[B_VALUE]);
	if (r == 0)
		r = side_read(journal, entry, JOURNAL_A_RECORD, JOURNAL_B_RECORD, &sides[A_RECORD]);
	if (r == 0)
		r = side_read(journal, entry, JOURNAL_B_RECORD, JOURNAL_A_RECORD, &sides[B_RECORD]);
	return r;
}

static bool is_known(const struct side *side)
{
	return holds(side, side->own) || holds(side, side->others);
}

/* The two values are not in doubt, but where they belong. */
static co_fn int keep_exchange(const struct journal_entry *entry, struct intent *intent, unsigned *kept)
{
	++*kept;
	log_error(
		"finishing the exchange of %s and %s: another has written one of them since; what both held before is at "
		"keys a and b below j/%s, and stays there",
		buf_str(&entry->from).p, buf_str(&entry->to).p, entry->name);
	return intent_change(intent, json_pack("{s:i, s:s}", "v", 1, "op", "kept"));
}

int journal_exchange(const struct journal *journal, const struct journal_entry *entry, struct intent *intent)
{
	struct side sides[SIDES] = { 0 };
	int r = read_sides(journal, entry, sides);

	if (r == 0 && (!is_known(&sides[A_VALUE]) || !is_known(&sides[B_VALUE])))
		r = -EBUSY;
	for (unsigned i = 0; i < SIDES && r == 0; i++)
		if (is_known(&sides[i])) /* attributes that were set since stay */
			r = side_swap(journal, &sides[i], intent);
	for (unsigned i = 0; i < SIDES; i++)
		side_deinit(&sides[i]);
	return r;
}

static co_fn int finish_exchange(const struct journal *journal, const struct journal_entry *entry,
				 struct intent *intent, unsigned *kept)
{
	int r;

	if (!entry->ready || !entry->has[JOURNAL_A] || !entry->has[JOURNAL_B])
		return 0;
	r = journal_exchange(journal, entry, intent);
	return r == -EBUSY ? keep_exchange(entry, intent, kept) : r;
}

static co_fn int finish_remove(const struct journal *journal, const struct journal_entry *entry, struct intent *intent)
{
	for (size_t i = 0; i < entry->id_count; i++) {
		const struct journal_id *id = &entry->ids[i];
		struct id_holders holders;
		int r = intent_sure(intent);

		if (r == 0)
			r = id_find_holders(&journal->layout, &id->id, buf_str(&id->key), STR(""), &holders);
		if (r == 0 && !holders.held)
			r = id_remove(&journal->layout, &id->id, id->chunk_count, holders.listed, journal->stop);
		if (r < 0 && r != -EUCLEAN)
			return r;
	}
	return 0;
}

static co_fn int finish(const struct journal *journal, const struct journal_entry *entry, struct intent *intent,
			unsigned *kept)
{
	switch (entry->op) {
	case JOURNAL_RENAME:
		return finish_rename(journal, entry, intent, kept);
	case JOURNAL_EXCHANGE:
		return finish_exchange(journal, entry, intent, kept);
	case JOURNAL_REMOVE:
		return finish_remove(journal, entry, intent);
	case JOURNAL_IDS:
	case JOURNAL_REST:
		return 0;
	case JOURNAL_KEPT:
	case JOURNAL_UNKNOWN:
		break;
	}
	return -EINVAL;
}

/* Anyone can write an entry: only keys that a mount of this prefix can have renamed are touched. */
static bool is_ours(const struct names_rules *rules, struct str key)
{
	return key.len > rules->prefix.len && str_starts(key, rules->prefix) && !names_key_is_reserved(rules, key);
}

static bool makes_sense(const struct names_rules *rules, const struct journal_entry *entry)
{
	struct str from = buf_str(&entry->from), to = buf_str(&entry->to);

	switch (entry->op) {
	case JOURNAL_RENAME:
		return is_ours(rules, from) && is_ours(rules, to) && from.p[from.len - 1] == rules->delimiter &&
		       to.p[to.len - 1] == rules->delimiter && !str_starts(from, to) && !str_starts(to, from);
	case JOURNAL_EXCHANGE:
		return is_ours(rules, from) && is_ours(rules, to) && !str_equal(from, to);
	case JOURNAL_UNKNOWN:
	case JOURNAL_KEPT:
		return false;
	case JOURNAL_REST:
	case JOURNAL_IDS:
	case JOURNAL_REMOVE:
		break;
	}
	return true;
}

int journal_finish(const struct journal *journal, struct journal_entry *entry, unsigned *kept)
{
	struct intent intent;
	unsigned here = 0;
	int r;

	if (!makes_sense(journal->layout.rules, entry))
		return -EINVAL;
	r = take_over(journal, entry);
	if (r < 0)
		return r;
	if (entry->op == JOURNAL_REST)
		return journal_remove(journal, entry);
	r = intent_adopt(&intent, journal, entry->name);
	if (r < 0)
		return r;
	r = finish(journal, entry, &intent, &here);
	intent_close(&intent, false);
	*kept += here;
	if (r == 0 && !(entry->op == JOURNAL_EXCHANGE && here))
		r = journal_remove(journal, entry);
	return r;
}
