/* Repairs, each after another look: what was found may have been the middle of something. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"
#include "fs/check_internal.h"
#include "fs/ids.h"
#include "fs/walk.h"

/* It is looked this often whether the end was asked for. */
#define WAIT_STEP_US (100u * CLOCK_US_PER_MS)

/* What the journal says is believed for so long while chunks are removed. */
#define LOOK_HOLDS_US (5u * CLOCK_US_PER_S)

struct repair {
	struct check *check;
	const bool *kinds;
	unsigned repaired;
	struct co_mutex looking;
};

int check_wait(struct check *check, uint64_t us)
{
	uint64_t end = clock_now_us() + us, now;

	while ((now = clock_now_us()) < end) {
		if (check->config.stop && *check->config.stop)
			return -ECANCELED;
		check->config.progress(check->config.arg, check->stage, (end - now) / CLOCK_US_PER_S + 1);
		if (co_sleep(check->layout.loop, end - now < WAIT_STEP_US ? end - now : WAIT_STEP_US) < 0)
			continue; /* nobody interrupts this coroutine */
	}
	return 0;
}

/* --- faults of one kind, side by side --- */

struct fault_list {
	struct check_fault **faults;
	size_t count;
};

static int faults_of(const struct repair *repair, enum check_kind kind, struct fault_list *out)
{
	struct check_fault *fault;

	*out = (struct fault_list){ 0 };
	if (!repair->kinds[kind] || !check_count(repair->check, kind))
		return 0;
	out->faults = calloc(check_count(repair->check, kind), sizeof(struct check_fault *));
	if (!out->faults)
		return -ENOMEM;
	DL_FOREACH(repair->check->faults, fault)
		if (fault->kind == kind && !fault->done)
			out->faults[out->count++] = fault;
	return 0;
}

struct crew_list {
	struct repair *repair;
	struct fault_list list;
	int (*fn)(struct repair *repair, struct check_fault *fault);
};

static co_fn int mend_one(void *arg, size_t index)
{
	struct crew_list *work = arg;
	const bool *stop = work->repair->check->config.stop;

	if (stop && *stop)
		return -ECANCELED;
	work->repair->check->config.progress(work->repair->check->config.arg, "repairs", index);
	return work->fn(work->repair, work->list.faults[index]);
}

static co_fn int mend_all(struct repair *repair, enum check_kind kind,
			  co_fn int (*fn)(struct repair *repair, struct check_fault *fault))
{
	struct crew_list work = { .repair = repair, .fn = fn };
	int r = faults_of(repair, kind, &work.list);

	if (r == 0 && work.list.count)
		r = check_each(repair->check, work.list.count, mend_one, &work);
	free(work.list.faults);
	return r;
}

static void mended(struct repair *repair, struct check_fault *fault)
{
	fault->done = true;
	repair->repaired++;
}

/* --- the layout's version --- */

static co_fn int mend_layout(struct repair *repair, struct check_fault *fault)
{
	int r = layout_write(&repair->check->layout);

	if (r == 0)
		mended(repair, fault);
	return r;
}

/* --- the journal --- */

static struct check_fault *fault_of_entry(const struct check *check, struct str key)
{
	struct check_fault *fault;

	DL_FOREACH(check->faults, fault)
		if (str_equal(buf_str(&fault->key), key) && !fault->done)
			return fault;
	return NULL;
}

/* What only another mount was to do is no fault, and done by the way. */
static bool may_finish(const struct repair *repair, const struct journal_entry *entry)
{
	if (entry->quiet_us < repair->check->config.grace_us)
		return false;
	switch (entry->op) {
	case JOURNAL_RENAME:
	case JOURNAL_EXCHANGE:
		return repair->kinds[CHECK_INTENT];
	case JOURNAL_IDS:
	case JOURNAL_REST:
	case JOURNAL_REMOVE:
		return repair->kinds[CHECK_ANNOUNCED];
	default:
		return false;
	}
}

static co_fn int finish_entry(struct repair *repair, struct journal_entry *entry)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	struct check *check = repair->check;
	struct check_fault *fault;
	unsigned kept = 0;
	int r = layout_key(&check->layout, &key, "j/%s", entry->name);

	if (r == 0 && entry->op == JOURNAL_KEPT)
		r = journal_remove(&check->journal, entry);
	else if (r == 0)
		r = journal_finish(&check->journal, entry, &kept);
	if (r == -EALREADY) {
		check_note(check, buf_str(&key), "has changed meanwhile, and is left");
		return 0;
	}
	if (r == -EINVAL || r == -ENAMETOOLONG) {
		check_note(check, buf_str(&key), "cannot be finished, and is left: %s", strerror(-r));
		return 0;
	}
	if (r < 0)
		return r;
	if (kept)
		check_note(check, buf_str(&key), "%u files were changed since it was begun: both values are kept",
			   kept);
	fault = fault_of_entry(check, buf_str(&key));
	if (fault)
		mended(repair, fault);
	return 0;
}

static co_fn int mend_journal(struct repair *repair)
{
	struct journal_entry *entry;
	int r = 0;

	DL_FOREACH(repair->check->entries, entry) {
		if (may_finish(repair, entry) || (entry->op == JOURNAL_KEPT && repair->kinds[CHECK_KEPT]))
			r = finish_entry(repair, entry);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- records --- */

/* True where the key still holds what was found there. */
static co_fn int still_holds(struct check *check, const struct buf *key, const struct buf *value, bool *same)
{
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	int r = store_get(check->layout.store, buf_str(key), &now);

	*same = r == 0 && str_equal(buf_str(&now), buf_str(value));
	return r == -ENOENT ? 0 : r;
}

static co_fn int exists(struct check *check, const struct buf *key, bool *there)
{
	CLEANUP(buf_free) struct buf ignored = BUF_INIT;
	int r = store_get(check->layout.store, buf_str(key), &ignored);

	*there = r == 0;
	return r == -ENOENT ? 0 : r;
}

/* A file that comes at this moment has its record written before it: then it is put back. */
static co_fn int remove_record(struct check *check, struct check_fault *fault, bool *gone)
{
	bool there = false;
	int r = store_delete(check->layout.store, buf_str(&fault->key), store_expect_value(buf_str(&fault->value)));

	if (r == 0 || r == -ENOENT)
		r = exists(check, &fault->file, &there);
	if (r == 0 && there)
		r = store_set(check->layout.store, buf_str(&fault->key), buf_str(&fault->value),
			      (struct store_expect){ .what = STORE_EXPECT_ABSENT });
	*gone = !there;
	return r;
}

static co_fn int mend_record(struct repair *repair, struct check_fault *fault)
{
	struct check *check = repair->check;
	bool same = false, there = false;
	int r;

	if (check_in_journal(check, buf_str(&fault->file)))
		return 0;
	r = still_holds(check, &fault->key, &fault->value, &same);
	if (r == 0 && same)
		r = exists(check, &fault->file, &there);
	if (r == 0 && same && !there) {
		bool gone;

		r = remove_record(check, fault, &gone);
		if (r == 0 && gone)
			repair->repaired++;
	}
	if (r == 0)
		fault->done = true;
	return r;
}

/* A directory stays: its record may be all that there is of it. */
static co_fn int mend_bad_record(struct repair *repair, struct check_fault *fault)
{
	CLEANUP(buf_free) struct buf file = BUF_INIT;
	struct store *store = repair->check->layout.store;
	bool same = false, is_dir;
	int r = check_record_file(repair->check, buf_str(&fault->key), &file, &is_dir);

	if (r == 0)
		r = still_holds(repair->check, &fault->key, &fault->value, &same);
	if (r == 0 && same && is_dir)
		r = store_set(store, buf_str(&fault->key), STR("{\"v\":1}"),
			      store_expect_value(buf_str(&fault->value)));
	else if (r == 0 && same)
		r = store_delete(store, buf_str(&fault->key), store_expect_value(buf_str(&fault->value)));
	if (r < 0 && r != -ENOENT)
		return r;
	repair->repaired += same;
	fault->done = true;
	return 0;
}

/* --- which files hold an id --- */

/* A list that cannot be read cannot be added to. */
static co_fn int remove_unreadable(struct repair *repair, struct check_fault *fault)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	struct check *check = repair->check;
	const struct check_id *id = check_find_id(check, &fault->id);
	struct id_holders ignored;
	int r;

	if (!id->unreadable)
		return 0;
	r = store_get(check->layout.store, buf_str(&fault->key), &value);
	if (r == 0 && id_find_holders(&check->layout, &fault->id, STR(""), STR(""), &ignored) == -EUCLEAN)
		r = store_delete(check->layout.store, buf_str(&fault->key), store_expect_value(buf_str(&value)));
	return r == -ENOENT ? 0 : r;
}

struct naming {
	struct check *check;
	struct str key;
};

static co_fn int name_holder(void *arg, struct check_id *id)
{
	struct naming *naming = arg;
	int r;

	if (!id->wanted)
		return 0;
	r = id_name(&naming->check->layout, &id->id, naming->key, STR(""));
	if (r != -EFBIG && r != -EILSEQ)
		return r;
	check_note(naming->check, naming->key, "cannot be named as a file that holds the id %s", id->id.hex);
	return 0;
}

static co_fn int name_holders_of(void *arg, size_t index)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	struct repair *repair = arg;
	struct naming naming = { .check = repair->check, .key = buf_str(&repair->check->holders.keys[index]) };
	int r = store_get(repair->check->layout.store, naming.key, &value);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return check_scan_ids(repair->check, buf_str(&value), name_holder, &naming);
}

static co_fn int is_named_now(struct repair *repair, struct check_fault *fault)
{
	mended(repair, fault);
	return 0;
}

static co_fn int mend_names(struct repair *repair)
{
	struct check *check = repair->check;
	int r;

	if (!repair->kinds[CHECK_NAMES] || !check_count(check, CHECK_NAMES))
		return 0;
	r = mend_all(repair, CHECK_NAMES, remove_unreadable);
	if (r == 0)
		r = check_each(check, check->holders.count, name_holders_of, repair);
	return r < 0 ? r : mend_all(repair, CHECK_NAMES, is_named_now);
}

/* --- chunks of no file --- */

/* While many go others may be announced. */
static co_fn int look_again(struct repair *repair)
{
	struct check *check = repair->check;
	int r = co_mutex_lock(&repair->looking);

	if (r < 0)
		return r;
	if (clock_now_us() - check->looked_last_us >= LOOK_HOLDS_US)
		r = check_look_at_journal(check);
	co_mutex_unlock(&repair->looking);
	return r;
}

static co_fn int mend_orphan(struct repair *repair, struct check_fault *fault)
{
	struct check *check = repair->check;
	const struct check_id *id = check_find_id(check, &fault->id);
	struct id_holders holders = { 0 };
	int r = look_again(repair);

	if (r < 0)
		return r;
	if (!check_is_orphan(check, id, true)) {
		fault->done = true;
		return 0;
	}
	r = id_find_holders(&check->layout, &id->id, STR(""), STR(""), &holders);
	if (r == -EUCLEAN) {
		/* what it named is unknown, but no file holds the id */
		holders = (struct id_holders){ .listed = true };
		r = 0;
	}
	if (r == 0 && !holders.held) {
		r = id_remove(&check->layout, &id->id, (uint32_t)id->next, holders.listed, check->config.stop);
		if (r == 0)
			repair->repaired++;
	}
	if (r == 0)
		fault->done = true;
	return r;
}

/* What is announced before the last listing may be at a key behind which that has gone by when it is taken back. */
static void spare_announced(struct check *check)
{
	struct check_fault *fault;

	DL_FOREACH(check->faults, fault)
		if (fault->kind == CHECK_ORPHAN && check_journal_holds(check, &fault->id, true))
			fault->done = true;
}

/* Files are listed once more, a good while after the first time: by now an id that was in use then, and named by nothing, is
 * named by a file or announced. */
static co_fn int mend_orphans(struct repair *repair)
{
	struct check *check = repair->check;
	struct check_id *id, *next;
	int r;

	if (!repair->kinds[CHECK_ORPHAN] || !check_count(check, CHECK_ORPHAN))
		return 0;
	HASH_ITER(hh, check->ids, id, next)
		id->wanted = false;
	r = check_look_at_journal(check);
	if (r < 0)
		return r;
	spare_announced(check);
	check->collect = true;
	r = check_list_files(check);
	if (r == 0)
		r = check_look_at_journal(check);
	return r < 0 ? r : mend_all(repair, CHECK_ORPHAN, mend_orphan);
}

/* --- all --- */

uint64_t check_delay_us(const struct check *check, const bool kinds[CHECK_KINDS])
{
	uint64_t passed = clock_now_us() - check->listed_us, delay = 0;

	if (kinds[CHECK_RECORD] && check_count(check, CHECK_RECORD))
		delay = check->config.grace_us;
	if (kinds[CHECK_ORPHAN] && check_count(check, CHECK_ORPHAN))
		delay = check->config.announce_us + check->config.grace_us;
	return delay > passed ? delay - passed : 0;
}

int check_repair(struct check *check, const bool kinds[CHECK_KINDS], unsigned *repaired)
{
	struct repair repair = { .check = check, .kinds = kinds };
	int r = mend_all(&repair, CHECK_LAYOUT, mend_layout);

	if (r == 0)
		r = mend_journal(&repair);
	if (r == 0)
		r = mend_all(&repair, CHECK_BAD_RECORD, mend_bad_record);
	if (r == 0)
		r = mend_names(&repair);
	if (r == 0 && check_delay_us(check, kinds)) {
		check_stage(check, "waiting");
		r = check_wait(check, check_delay_us(check, kinds));
	}
	if (r == 0)
		r = check_look_at_journal(check);
	if (r == 0)
		r = mend_all(&repair, CHECK_RECORD, mend_record);
	if (r == 0)
		r = mend_orphans(&repair);
	*repaired = repair.repaired;
	return r;
}
