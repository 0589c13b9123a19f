#include "fs/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/list.h"
#include "fs/check_internal.h"
#include "fs/fs.h"
#include "fs/ids.h"

/* Files, records, ids that are looked at side by side. */
#define WINDOW 16

#define ORPHAN_US (3600ull * CLOCK_US_PER_S)

enum check_cure check_cure(enum check_kind kind)
{
	static const enum check_cure cures[CHECK_KINDS] = {
		[CHECK_LAYOUT] = CHECK_WANTED,      [CHECK_INTENT] = CHECK_ANY_TIME, [CHECK_KEPT] = CHECK_ASKED,
		[CHECK_ANNOUNCED] = CHECK_ANY_TIME, [CHECK_RECORD] = CHECK_ANY_TIME, [CHECK_BAD_RECORD] = CHECK_WANTED,
		[CHECK_NAMES] = CHECK_ANY_TIME,     [CHECK_ORPHAN] = CHECK_ANY_TIME, [CHECK_LOST] = CHECK_NEVER,
		[CHECK_STUB] = CHECK_NEVER,         [CHECK_FOREIGN] = CHECK_NEVER,
	};

	return cures[kind];
}

const char *check_question(enum check_kind kind)
{
	static const char *const questions[CHECK_KINDS] = {
		[CHECK_LAYOUT] = "Write the layout's version",
		[CHECK_INTENT] = "Finish what is half done",
		[CHECK_KEPT] = "Remove the values that were kept",
		[CHECK_ANNOUNCED] = "Remove what dead mounts have left in the journal",
		[CHECK_RECORD] = "Remove records of files that are not there",
		[CHECK_BAD_RECORD] = "Remove damaged records",
		[CHECK_NAMES] = "Note which files hold the ids",
		[CHECK_ORPHAN] = "Remove chunks that belong to no file",
	};

	return questions[kind];
}

/* --- small things --- */

int check_go_on(struct check *check)
{
	if (check->config.stop && *check->config.stop)
		return -ECANCELED;
	check->config.progress(check->config.arg, check->stage, ++check->seen);
	return 0;
}

void check_stage(struct check *check, const char *stage)
{
	check->stage = stage;
	check->seen = 0;
	check->config.progress(check->config.arg, stage, 0);
}

void check_note(struct check *check, struct str key, const char *format, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	check->config.note(check->config.arg, key, text);
}

static void fault_free(struct check_fault *fault)
{
	buf_free(&fault->key);
	buf_free(&fault->value);
	buf_free(&fault->file);
	free(fault);
}

struct check_fault *check_add_fault(struct check *check, enum check_kind kind, struct str key, struct str text)
{
	struct check_finding finding = { .kind = kind, .key = key, .text = text };
	struct check_fault *fault = calloc(1, sizeof(*fault));

	if (!fault)
		return NULL;
	fault->kind = kind;
	if (buf_set(&fault->key, key) < 0) {
		fault_free(fault);
		return NULL;
	}
	DL_APPEND(check->faults, fault);
	check->config.found(check->config.arg, &finding);
	return fault;
}

int check_keys_add(struct check_keys *keys, struct str key)
{
	struct buf *grown;
	size_t capacity = keys->capacity ? keys->capacity * 2 : 16;

	if (keys->count == keys->capacity) {
		grown = reallocarray(keys->keys, capacity, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		keys->keys = grown;
		keys->capacity = capacity;
	}
	keys->keys[keys->count] = BUF_INIT;
	if (buf_set(&keys->keys[keys->count], key) < 0)
		return -ENOMEM;
	keys->count++;
	return 0;
}

void check_keys_free(struct check_keys *keys)
{
	for (size_t i = 0; i < keys->count; i++)
		buf_free(&keys->keys[i]);
	free(keys->keys);
	*keys = (struct check_keys){ 0 };
}

int check_hash(struct str key, uint64_t *hash)
{
	char text[CONTENT_HASH_LEN + 1];
	int r = content_hash(key, text);

	if (r < 0)
		return r;
	text[16] = '\0';
	*hash = strtoull(text, NULL, 16);
	return 0;
}

/* --- several side by side --- */

struct crew {
	size_t next, count;
	int (*fn)(void *arg, size_t index);
	void *arg;
	struct co_group group;
	int err;
};

static void crew_work(void *arg)
{
	struct crew *crew = arg;

	while (crew->err == 0 && crew->next < crew->count) {
		int r = crew->fn(crew->arg, crew->next++);

		if (r < 0 && crew->err == 0)
			crew->err = r;
	}
	co_group_done(&crew->group);
}

int check_each(struct check *check, size_t count, co_fn int (*fn)(void *arg, size_t index), void *arg)
{
	struct crew crew = { .count = count, .fn = fn, .arg = arg };

	for (size_t i = 0; i < WINDOW && i < count; i++)
		co_start_beside(check->layout.loop, &crew.group, crew_work, &crew);
	co_group_wait(&crew.group);
	return crew.err;
}

/* --- the journal --- */

static bool is_dead(const struct check *check, const struct journal_entry *entry)
{
	return entry->quiet_us >= check->config.grace_us;
}

bool check_in_journal(const struct check *check, struct str key)
{
	const struct journal_entry *entry;

	DL_FOREACH(check->entries, entry) {
		if (entry->op == JOURNAL_RENAME &&
		    (str_starts(key, buf_str(&entry->from)) || str_starts(key, buf_str(&entry->to))))
			return true;
		if (entry->op == JOURNAL_EXCHANGE &&
		    (str_equal(key, buf_str(&entry->from)) || str_equal(key, buf_str(&entry->to))))
			return true;
	}
	return false;
}

static bool names_id(const struct buf *text, const struct content_id *id)
{
	return text->len && memmem(text->p, text->len, id->hex, CONTENT_ID_LEN);
}

static bool entry_names(const struct journal_entry *entry, const struct content_id *id)
{
	if (names_id(&entry->value, id))
		return true;
	for (unsigned i = 0; i < JOURNAL_PARTS; i++)
		if (names_id(&entry->parts[i], id))
			return true;
	return false;
}

bool check_journal_holds(const struct check *check, const struct content_id *id, bool all)
{
	const struct journal_entry *entry;

	DL_FOREACH(check->entries, entry)
		if ((all || entry->op != JOURNAL_IDS || !is_dead(check, entry)) && entry_names(entry, id))
			return true;
	return false;
}

int check_look_at_journal(struct check *check)
{
	struct journal_entry *entries;
	uint64_t asked = clock_now_us();
	int r = journal_look(&check->journal, &check->watch, &entries);

	if (r < 0)
		return r;
	journal_free(&check->entries);
	check->entries = entries;
	check->looked_last_us = asked;
	return 0;
}

/* An entry is dead if it has been quiet for a grace, as can be said of none that was seen once. */
static co_fn int watch_journal(struct check *check)
{
	const struct journal_entry *entry;
	uint64_t passed = clock_now_us() - check->looked_us;
	bool any = false;
	int r = 0;

	DL_FOREACH(check->entries, entry)
		any = any || (entry->op != JOURNAL_UNKNOWN && entry->op != JOURNAL_KEPT);
	if (any && passed < check->config.grace_us) {
		check_stage(check, "waiting whether what is under way goes on");
		r = check_wait(check, check->config.grace_us - passed);
	}
	return r < 0 ? r : check_look_at_journal(check);
}

static int add_entry(struct check *check, const struct journal_entry *entry)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	bool dead = is_dead(check, entry);
	enum check_kind kind = CHECK_INTENT;
	int r = layout_key(&check->layout, &key, "j/%s", entry->name);

	if (r < 0)
		return r;
	switch (entry->op) {
	case JOURNAL_UNKNOWN:
		kind = CHECK_FOREIGN;
		r = buf_set(&text, STR("is no entry of the journal that this version can read"));
		break;
	case JOURNAL_KEPT:
		kind = CHECK_KEPT;
		r = buf_printf(&text, "keeps the former values, at %s/a and %s/b, of %s and %s", key.p, key.p,
			       buf_str(&entry->from).p, buf_str(&entry->to).p);
		break;
	case JOURNAL_RENAME:
	case JOURNAL_EXCHANGE:
		r = buf_printf(&text, "%s of %s and %s is half done",
			       entry->op == JOURNAL_RENAME ? "the renaming" : "the exchange", buf_str(&entry->from).p,
			       buf_str(&entry->to).p);
		break;
	case JOURNAL_REMOVE:
		check_note(check, buf_str(&key), "removed files' chunks are left to the next mount");
		return 0;
	case JOURNAL_IDS:
	case JOURNAL_REST:
		kind = CHECK_ANNOUNCED;
		r = buf_set(&text, STR("was left by a mount that has died"));
		break;
	}
	if (r < 0)
		return r;
	if (!dead && kind != CHECK_FOREIGN && kind != CHECK_KEPT) {
		check_note(check, buf_str(&key), "is under way");
		return 0;
	}
	return check_add_fault(check, kind, buf_str(&key), buf_str(&text)) ? 0 : -ENOMEM;
}

static int add_entries(struct check *check)
{
	const struct journal_entry *entry;

	DL_FOREACH(check->entries, entry) {
		int r = add_entry(check, entry);

		if (r < 0)
			return r;
	}
	return 0;
}

/* --- ids --- */

int64_t check_id_age_us(const struct check_id *id)
{
	struct content_id ignored;
	int64_t created_ms;

	if (!content_id_parse(str_of(id->id.hex, CONTENT_ID_LEN), &ignored, &created_ms))
		return 0;
	return clock_real_ns() / 1000 - created_ms * (int64_t)CLOCK_US_PER_MS;
}

bool check_is_orphan(const struct check *check, const struct check_id *id, bool all)
{
	return id->holders == 0 && check_id_age_us(id) >= (int64_t)check->config.orphan_us &&
	       !check_journal_holds(check, &id->id, all);
}

bool check_needs_names(const struct check_id *id)
{
	if (id->holders == 0)
		return false;
	if (id->unreadable || (id->listed && id->named_holders == 0))
		return true;
	return id->holders > 1 && id->named_holders < id->holders;
}

/* Marks what the second listing is for. */
static bool want_holders(struct check *check)
{
	struct check_id *id, *next;
	bool any = false;

	HASH_ITER(hh, check->ids, id, next) {
		id->wanted = check_needs_names(id);
		any = any || id->wanted || check_is_orphan(check, id, false);
	}
	return any;
}

static int add_names_fault(struct check *check, const struct check_id *id)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	struct check_fault *fault;
	int r = layout_key(&check->layout, &key, "i/%s", id->id.hex);

	if (r == 0 && id->unreadable)
		r = buf_set(&text, STR("cannot be read"));
	else if (r == 0)
		r = buf_printf(&text, "does not say that %u file%s the id", id->holders,
			       id->holders == 1 ? " holds" : "s hold");
	if (r < 0)
		return r;
	fault = check_add_fault(check, CHECK_NAMES, buf_str(&key), buf_str(&text));
	if (fault)
		fault->id = id->id;
	return fault ? 0 : -ENOMEM;
}

static int add_orphan(struct check *check, const struct check_id *id)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	struct check_fault *fault;
	int r = layout_key(&check->layout, &key, "%s/%s", id->chunks ? "c" : "i", id->id.hex);

	if (r == 0 && id->chunks)
		r = buf_printf(&text, "has %u chunk%s of no file", id->chunks, id->chunks == 1 ? "" : "s");
	else if (r == 0)
		r = buf_set(&text, STR("is about an id that no file holds"));
	if (r < 0)
		return r;
	fault = check_add_fault(check, CHECK_ORPHAN, buf_str(&key), buf_str(&text));
	if (fault)
		fault->id = id->id;
	return fault ? 0 : -ENOMEM;
}

/* What the names in `i/ID` hold is looked up: a rename can have carried a file past a listing. */
static co_fn int judge_id(struct check *check, const struct check_id *id)
{
	struct id_holders holders = { 0 };
	int r;

	if (check_needs_names(id))
		return add_names_fault(check, id);
	if (id->holders || check_journal_holds(check, &id->id, false))
		return 0;
	if (!check_is_orphan(check, id, false)) {
		check->young++;
		return 0;
	}
	r = id->listed ? id_find_holders(&check->layout, &id->id, STR(""), STR(""), &holders) : 0;
	if (r < 0 && r != -EUCLEAN)
		return r;
	return holders.held ? 0 : add_orphan(check, id);
}

static co_fn int judge_ids(struct check *check)
{
	struct check_id *id, *next;
	int r = 0;

	HASH_ITER(hh, check->ids, id, next) {
		r = judge_id(check, id);
		if (r < 0)
			return r;
	}
	if (check->young)
		check_note(check, STR(""), "%u ids of chunks without a file are too young to be judged", check->young);
	if (check->spare)
		check_note(check, STR(""),
			   "%llu chunks lie in holes or behind the end of their files, and go with them",
			   (unsigned long long)check->spare);
	return 0;
}

/* --- the whole --- */

static co_fn int read_layout(struct check *check, struct buf *why)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	int r = layout_key(&check->layout, &key, "fs");

	if (r == 0)
		r = store_get(check->layout.store, buf_str(&key), &value);
	if (r == 0)
		return layout_check(&check->layout, buf_str(&value), why);
	check->layout_missing = r == -ENOENT;
	return r == -ENOENT ? 0 : r;
}

static int add_layout_fault(struct check *check)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	int r;

	if (!check->layout_missing || !check->any_reserved)
		return 0;
	r = layout_key(&check->layout, &key, "fs");
	if (r < 0)
		return r;
	return check_add_fault(check, CHECK_LAYOUT, buf_str(&key), STR("is missing beside other reserved keys"))
		       ? 0
		       : -ENOMEM;
}

int check_examine(struct check *check, struct buf *why)
{
	int r;

	check_stage(check, "layout");
	r = read_layout(check, why);
	if (r == 0)
		r = check_look_at_journal(check);
	check->looked_us = clock_now_us();
	if (r == 0)
		r = check_list_reserved(check);
	if (r == 0)
		r = add_layout_fault(check);
	if (r == 0)
		r = check_list_files(check);
	check->listed_us = clock_now_us();
	if (r == 0)
		r = check_suspects(check);
	if (r == 0)
		r = watch_journal(check);
	if (r == 0)
		r = add_entries(check);
	if (r == 0)
		r = check_list_records(check);
	if (r == 0 && want_holders(check)) {
		check->collect = true;
		r = check_list_files(check);
		if (r == 0)
			r = check_list_names(check);
		if (r == 0)
			r = check_holders_again(check);
	}
	return r < 0 ? r : judge_ids(check);
}

unsigned check_count(const struct check *check, enum check_kind kind)
{
	const struct check_fault *fault;
	unsigned count = 0;

	DL_FOREACH(check->faults, fault)
		count += fault->kind == kind && !fault->done;
	return count;
}

int check_new(const struct check_config *config, struct check **out)
{
	struct check *check = calloc(1, sizeof(*check));
	int r;

	if (!check)
		return -ENOMEM;
	check->config = *config;
	if (!check->config.grace_us)
		check->config.grace_us = FS_GRACE_US;
	if (!check->config.announce_us)
		check->config.announce_us = FS_ANNOUNCE_US;
	if (!check->config.orphan_us)
		check->config.orphan_us = ORPHAN_US;
	check->layout = config->layout;
	check->existing = *config->layout.rules;
	check->existing.max_key = SIZE_MAX / 2;
	r = layout_key(&check->layout, &check->reserved, "%s", "");
	if (r == 0)
		r = journal_init(&check->journal, &check->layout, check->config.grace_us, FS_BEAT_US);
	check->journal.stop = config->stop;
	if (r < 0) {
		check_free(check);
		return r;
	}
	*out = check;
	return 0;
}

void check_free(struct check *check)
{
	struct check_fault *fault, *next;

	if (!check)
		return;
	DL_FOREACH_SAFE(check->faults, fault, next)
		fault_free(fault);
	journal_free(&check->entries);
	journal_watch_deinit(&check->watch);
	check_lists_free(check);
	check_keys_free(&check->suspects);
	check_keys_free(&check->holders);
	buf_free(&check->reserved);
	free(check);
}
