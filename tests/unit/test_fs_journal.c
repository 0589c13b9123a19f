/* What a mount that dies has begun: written down before the first change, found by others, taken over by one of them, and
 * finished without harm to what was written since. */
#include "fs_rig.h"

#include <linux/fs.h>

#include "fs/journal.h"

/* Longer than what a test does first, short enough to wait for. */
#define GRACE_US 20000
#define BEAT_US 2000

/* How long it is watched that something does not happen. */
#define QUIET_US 100000

#define ID "1a0c4506c000123456789abcdef0123456789abcdef"
#define CHUNK_ID "1a0c4506c001123456789abcdef0123456789abcdef"
#define STUB "hpkvfs1 1cc72b015edf8714 " CHUNK_ID ":10000:2280:b64\n"
#define ENTRY ".hpkvfs/j/" ID
#define OTHER_OWNER "\"owner\":\"0123456789abcdef0123456789abcdef\",\"beat\":1"
#define RENAME "{\"v\":1,\"op\":\"rename\"," OTHER_OWNER ",\"from\":\"d/\",\"to\":\"e/\"}"
#define SECRET_RECORD "{\"v\":1,\"mode\":33152}" /* 0600 */
#define LAYOUT "{\"v\":1,\"delimiter\":\"/\"}"

static int setup(void **state)
{
	struct rig *rig;

	assert_int_equal(rig_setup(state), 0);
	rig = *state;
	rig->config.grace_us = GRACE_US;
	rig->config.beat_us = BEAT_US;
	rig_restart(rig);
	return 0;
}

struct alarm {
	struct loop_timer timer;
	bool fired;
};

static void fired(struct loop_timer *timer)
{
	lws_container_of(timer, struct alarm, timer)->fired = true;
}

static void serve(struct rig *rig, uint64_t us)
{
	struct alarm alarm = { 0 };

	loop_timer_set(rig->loop, &alarm.timer, us, fired);
	while (!alarm.fired)
		loop_once(rig->loop);
}

static int rename_in_root(struct rig *rig, const char *from, const char *to, unsigned flags)
{
	return run(rig, op_rename, .parent = FS_ROOT_ID, .name = from, .new_parent = FS_ROOT_ID, .new_name = to,
		   .flags = (int)flags);
}

/* --- a journal of the test's own: fsck, or another mount --- */

struct asking {
	struct journal journal;
	struct journal_watch *watch;
	struct journal_entry *list, *entry;
	unsigned kept;
	int r;
	bool done;
};

static void look_run(void *arg)
{
	struct asking *asking = arg;

	asking->r = journal_look(&asking->journal, asking->watch, &asking->list);
	asking->done = true;
}

static void finish_run(void *arg)
{
	struct asking *asking = arg;

	asking->r = journal_finish(&asking->journal, asking->entry, &asking->kept);
	asking->done = true;
}

static struct names_rules rules = { .delimiter = '/', .prefix = { "", 0 }, .max_key = RIG_MAX_KEY };

static int ask(struct rig *rig, void (*fn)(void *), struct asking *asking)
{
	struct layout layout = {
		.loop = rig->loop, .store = memstore_store(rig->ms), .rules = &rules, .max_value = RIG_MAX_VALUE
	};

	assert_int_equal(journal_init(&asking->journal, &layout, 60 * 1000000, 10 * 1000000), 0);
	asking->done = false;
	assert_int_equal(co_start(rig->loop, fn, asking), 0);
	while (!asking->done)
		loop_once(rig->loop);
	return asking->r;
}

/* Finishes the one entry that is there, as if it had been watched long enough. */
static int finish_one(struct rig *rig, unsigned *kept)
{
	struct journal_watch watch = { 0 };
	struct asking asking = { .watch = &watch };
	int r;

	assert_int_equal(ask(rig, look_run, &asking), 0);
	asking.entry = asking.list;
	assert_non_null(asking.entry);
	assert_null(asking.entry->next);
	r = ask(rig, finish_run, &asking);
	*kept = asking.kept;
	journal_free(&asking.list);
	journal_watch_deinit(&watch);
	return r;
}

static bool journal_is_empty(const struct rig *rig)
{
	struct str prefix = STR(".hpkvfs/j/");

	for (size_t i = 0; memstore_key(rig->ms, i).p; i++)
		if (str_starts(memstore_key(rig->ms, i), prefix))
			return false;
	return true;
}

static void until_empty(struct rig *rig)
{
	while (!journal_is_empty(rig))
		serve(rig, 1000);
	serve(rig, 1000); /* the last answer */
}

/* --- dying at every point --- */

struct scene {
	void (*prepare)(struct rig *rig);
	int (*act)(struct rig *rig);
	void (*check_dead)(struct rig *rig); /* right after the death */
	void (*check_mended)(struct rig *rig,
			     bool done); /* after the next mount has found it; done: the call had succeeded */
};

/* True when the store went away before the call was through. */
static bool dies_after(const struct scene *scene, unsigned requests)
{
	void *state;
	struct rig *rig;
	int r;

	assert_int_equal(setup(&state), 0);
	rig = state;
	memstore_put(rig->ms, ".hpkvfs/fs", LAYOUT);
	scene->prepare(rig);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .any = true, .pass = requests, .err = -EIO });
	r = scene->act(rig);
	rig_restart(rig);
	memstore_clear_faults(rig->ms);
	if (scene->check_dead)
		scene->check_dead(rig);
	assert_int_equal(run(rig, op_start), 0);
	until_empty(rig);
	assert_int_equal(run(rig, op_end), 0);
	rig_restart(rig);
	scene->check_mended(rig, r == 0);
	assert_int_equal(rig_teardown(&state), 0);
	return r < 0;
}

static void die_everywhere(const struct scene *scene)
{
	unsigned requests = 0;

	while (dies_after(scene, requests))
		requests++;
	assert_true(requests > 3);
}

/* --- a directory's renaming --- */

static const char *const tree[][2] = {
	{ "d/a", "one" },
	{ "d/b", "two" },
	{ "d/sub/c", "three" },
	{ "d", "own" },
	{ "d/big", STUB },
	{ ".hpkvfs/m/d/a", SECRET_RECORD },
	{ ".hpkvfs/m/d/link", "{\"v\":1,\"mode\":41471,\"target\":\"a\"}" },
	{ ".hpkvfs/m/d/empty/", "{\"v\":1,\"mode\":16832}" },
	{ ".hpkvfs/m/d", SECRET_RECORD },
};
#define TREE_KEYS (sizeof(tree) / sizeof(tree[0]))

static void put_tree(struct rig *rig)
{
	for (size_t i = 0; i < TREE_KEYS; i++)
		memstore_put(rig->ms, tree[i][0], tree[i][1]);
	id_of(rig, "d");
}

static int move_tree(struct rig *rig)
{
	return rename_in_root(rig, "d", "e", 0);
}

/* The same key below `e`. */
static char *moved_key(const char *key)
{
	char *moved = strdup(key);

	assert_non_null(moved);
	moved[str_starts(str_c(key), STR(".hpkvfs/m/")) ? strlen(".hpkvfs/m/") : 0] = 'e';
	return moved;
}

static void under_one_name_at_least(struct rig *rig)
{
	for (size_t i = 0; i < TREE_KEYS; i++) {
		CLEANUP_FREE char *moved = moved_key(tree[i][0]);
		const char *value = memstore_value(rig->ms, tree[i][0]);

		if (!value)
			value = memstore_value(rig->ms, moved);
		assert_non_null(value);
		assert_string_equal(value, tree[i][1]);
	}
}

static void under_exactly_one_name(struct rig *rig, bool done)
{
	bool moved_all = memstore_value(rig->ms, "e/a");

	assert_true(moved_all || !done);
	for (size_t i = 0; i < TREE_KEYS; i++) {
		CLEANUP_FREE char *moved = moved_key(tree[i][0]);

		assert_stored(rig, moved_all ? moved : tree[i][0], tree[i][1]);
		assert_not_stored(rig, moved_all ? tree[i][0] : moved);
	}
	assert_int_equal(look(rig, moved_all ? "d" : "e"), -ENOENT);
	assert_reads(rig, moved_all ? "e/sub/c" : "d/sub/c", "three");
}

static void a_renaming_that_dies_anywhere_is_finished(void **state)
{
	static const struct scene scene = { put_tree, move_tree, under_one_name_at_least, under_exactly_one_name };

	(void)state;
	die_everywhere(&scene);
}

/* This mount goes on after its store has failed it, and finishes it by itself. */
static void a_renaming_that_fails_is_finished_by_its_own_mount(void **state)
{
	struct rig *rig = *state;

	put_tree(rig);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_DELETE, .pass = 2, .err = -ETIMEDOUT });
	assert_int_equal(move_tree(rig), -ETIMEDOUT);
	memstore_clear_faults(rig->ms);
	assert_int_equal(look(rig, "e/sub/c"), 0);
	until_empty(rig);
	serve(rig, 1000);
	under_exactly_one_name(rig, true);
}

static void ids_get_both_names_before_the_new_one_is_set(void **state)
{
	struct rig *rig = *state;
	bool named = false;

	put_tree(rig);
	memstore_log_clear(rig->ms);
	assert_int_equal(move_tree(rig), 0);
	for (unsigned i = 0; i < memstore_requests(rig->ms); i++) {
		const struct memstore_entry *entry = memstore_entry(rig->ms, i);

		if (entry->op == STORE_PATCH && str_equal(buf_str(&entry->key), STR(".hpkvfs/i/" CHUNK_ID)))
			named = true;
		if (entry->op == STORE_SET && str_equal(buf_str(&entry->key), STR("e/big")))
			assert_true(named);
	}
	assert_true(named);
	assert_stored(rig, ".hpkvfs/i/" CHUNK_ID, "{\"v\":1,\"names\":{\"d/big\":true,\"e/big\":true}}");
}

static void what_differs_is_kept_under_both_names(void **state)
{
	struct rig *rig = *state;
	unsigned kept;

	memstore_put(rig->ms, ENTRY, RENAME);
	memstore_put(rig->ms, "d/both", "old, changed");
	memstore_put(rig->ms, "e/both", "new");
	memstore_put(rig->ms, "d/same", "x");
	memstore_put(rig->ms, "e/same", "x");
	memstore_put(rig->ms, "d/rest", "y");
	memstore_put(rig->ms, "e/made", "z");
	assert_int_equal(finish_one(rig, &kept), 0);
	assert_int_equal(kept, 1);
	assert_stored(rig, "d/both", "old, changed");
	assert_stored(rig, "e/both", "new");
	assert_not_stored(rig, "d/same");
	assert_stored(rig, "e/same", "x");
	assert_not_stored(rig, "d/rest");
	assert_stored(rig, "e/rest", "y");
	assert_stored(rig, "e/made", "z");
	assert_true(journal_is_empty(rig));
	assert_int_equal(memstore_size(rig->ms), 5);
}

struct foreign {
	struct rig *rig;
	const char *key, *value;
};

static void write_foreign(void *arg)
{
	struct foreign *foreign = arg;

	memstore_put(foreign->rig->ms, foreign->key, foreign->value);
}

/* Between the two rounds: neither name is what the other is any more. */
static void what_changes_while_it_is_finished_is_kept(void **state)
{
	struct rig *rig = *state;
	struct foreign old = { rig, "d/a", "newer" };
	unsigned kept;

	memstore_put(rig->ms, ENTRY, RENAME);
	memstore_put(rig->ms, "d/a", "x");
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_SET, .key = "e/a", .arrived = write_foreign, .arg = &old });
	assert_int_equal(finish_one(rig, &kept), 0);
	assert_int_equal(kept, 1);
	assert_stored(rig, "d/a", "newer");
	assert_stored(rig, "e/a", "x");
}

/* --- who is alive, and who takes over --- */

static uint64_t quiet(struct rig *rig, struct journal_watch *watch)
{
	struct asking asking = { .watch = watch };
	uint64_t us;

	assert_int_equal(ask(rig, look_run, &asking), 0);
	us = asking.list->quiet_us;
	journal_free(&asking.list);
	return us;
}

static void an_entry_is_dead_when_it_was_quiet_before_ones_own_eyes(void **state)
{
	struct rig *rig = *state;
	struct journal_watch watch = { 0 };

	memstore_put(rig->ms, ENTRY, RENAME);
	assert_int_equal(quiet(rig, &watch), 0);
	rig_pass(59 * 1000000);
	assert_true(quiet(rig, &watch) >= 59 * 1000000);
	memstore_put(rig->ms, ENTRY,
		     "{\"v\":1,\"op\":\"rename\",\"owner\":\"x\",\"beat\":2,\"from\":\"d/\",\"to\":\"e/\"}");
	assert_int_equal(quiet(rig, &watch), 0);
	rig_pass(59 * 1000000);
	memstore_put(rig->ms, ENTRY "/take", "1"); /* somebody took it over, and has not begun yet */
	assert_int_equal(quiet(rig, &watch), 0);
	rig_pass(61 * 1000000);
	assert_true(quiet(rig, &watch) > 60 * 1000000);
	journal_watch_deinit(&watch);
}

static void only_one_takes_over(void **state)
{
	struct rig *rig = *state;
	struct journal_watch watch = { 0 };
	struct asking first = { .watch = &watch }, second = { .watch = &watch }, late = { .watch = &watch };

	memstore_put(rig->ms, "d/a", "x");
	memstore_put(rig->ms, ENTRY, RENAME);
	assert_int_equal(ask(rig, look_run, &first), 0);
	assert_int_equal(ask(rig, look_run, &second), 0);
	assert_int_equal(ask(rig, look_run, &late), 0);
	first.entry = first.list;
	second.entry = second.list;
	late.entry = late.list;
	memstore_put(rig->ms, ENTRY "/take", "1");
	assert_int_equal(ask(rig, finish_run, &first), -EALREADY);
	memstore_remove(rig->ms, ENTRY "/take");
	assert_int_equal(ask(rig, finish_run, &second), 0);
	assert_true(journal_is_empty(rig));
	memstore_put(rig->ms, "d/a", "made anew");
	assert_int_equal(ask(rig, finish_run, &late), -EALREADY); /* it is gone: nothing is done, and nothing left */
	assert_true(journal_is_empty(rig));
	assert_stored(rig, "d/a", "made anew");
	journal_free(&first.list);
	journal_free(&second.list);
	journal_free(&late.list);
	journal_watch_deinit(&watch);
}

/* The owner has changed it between the look and the taking over. */
static void one_that_lives_again_is_left_alone(void **state)
{
	struct rig *rig = *state;
	struct foreign beat = { rig, ENTRY, "{\"v\":1,\"op\":\"rename\",\"from\":\"d/\",\"to\":\"e/\",\"beat\":2}" };
	unsigned kept;

	memstore_put(rig->ms, "d/a", "x");
	memstore_put(rig->ms, ENTRY, RENAME);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_ATOMIC, .arrived = write_foreign, .arg = &beat });
	assert_int_equal(finish_one(rig, &kept), -EALREADY);
	assert_stored(rig, "d/a", "x");
	assert_not_stored(rig, "e/a");
}

static void a_mount_at_work_shows_it(void **state)
{
	struct rig *rig = *state;
	struct call *rename;

	put_tree(rig);
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_SET, .key = "e/a", .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	rename = begin(rig, op_rename, .parent = FS_ROOT_ID, .name = "d", .new_parent = FS_ROOT_ID, .new_name = "e");
	rig_until_held(rig, 1);
	memstore_log_clear(rig->ms);
	while (memstore_count(rig->ms, STORE_PATCH) < 3)
		serve(rig, 1000);
	memstore_release(rig->ms);
	assert_int_equal(end(rename), 0);
	assert_true(journal_is_empty(rig));
	serve(rig, 5 * BEAT_US);
	assert_true(journal_is_empty(rig)); /* no beat brings it back */
}

/* A machine that slept finds its work done by another, and keeps its hands off. */
static void who_was_taken_over_writes_no_more(void **state)
{
	struct rig *rig = *state;
	struct call *rename;

	rig->config.grace_us = rig->config.beat_us = 0; /* the defaults */
	rig_restart(rig);
	put_tree(rig);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){
				   .op = STORE_SET, .key = ".hpkvfs/m/e/a", .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	rename = begin(rig, op_rename, .parent = FS_ROOT_ID, .name = "d", .new_parent = FS_ROOT_ID, .new_name = "e");
	rig_until_held(rig, 1);
	serve(rig, 10000); /* the others of the same round */
	rig_pass(120 * 1000000);
	for (size_t i = 0; memstore_key(rig->ms, i).p; i++) {
		struct str key = memstore_key(rig->ms, i);

		if (str_starts(key, STR(".hpkvfs/j/")))
			memstore_put_str(rig->ms, key, STR(RENAME));
	}
	memstore_log_clear(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(rename), -EIO);
	assert_int_equal(memstore_count(rig->ms, STORE_SET), 0);
	assert_int_equal(memstore_count(rig->ms, STORE_PATCH), 0);
	assert_int_equal(memstore_count(rig->ms, STORE_DELETE), 0);
}

/* --- exchange --- */

#define OPEN_RECORD "{\"v\":1,\"mode\":33188}" /* 0644 */

static void put_two(struct rig *rig)
{
	memstore_put(rig->ms, "a", "secret");
	memstore_put(rig->ms, ".hpkvfs/m/a", SECRET_RECORD);
	memstore_put(rig->ms, "b", "public");
	id_of(rig, "a");
	id_of(rig, "b");
}

static int exchange_two(struct rig *rig)
{
	return rename_in_root(rig, "a", "b", RENAME_EXCHANGE);
}

/* At no moment is either content under no name, nor the secret one where others may read it. */
static void both_are_somewhere(struct rig *rig)
{
	const char *a = memstore_value(rig->ms, "a"), *b = memstore_value(rig->ms, "b");
	bool kept = false;

	for (size_t i = 0; memstore_key(rig->ms, i).p; i++)
		kept |= str_starts(memstore_key(rig->ms, i), STR(".hpkvfs/j/"));
	assert_true(kept || strcmp(a, b) != 0);
	if (strcmp(a, "secret") == 0)
		assert_stored(rig, ".hpkvfs/m/a", SECRET_RECORD);
	if (strcmp(b, "secret") == 0)
		assert_stored(rig, ".hpkvfs/m/b", SECRET_RECORD);
}

static void exchanged_or_not(struct rig *rig, bool done)
{
	bool moved = strcmp(memstore_value(rig->ms, "a"), "public") == 0;

	assert_true(moved || !done);
	assert_stored(rig, moved ? "b" : "a", "secret");
	assert_stored(rig, moved ? "a" : "b", "public");
	assert_stored(rig, moved ? ".hpkvfs/m/b" : ".hpkvfs/m/a", SECRET_RECORD);
	assert_not_stored(rig, moved ? ".hpkvfs/m/a" : ".hpkvfs/m/b");
	assert_int_equal(memstore_size(rig->ms), 4);
}

static void an_exchange_that_dies_anywhere_is_finished(void **state)
{
	static const struct scene scene = { put_two, exchange_two, both_are_somewhere, exchanged_or_not };

	(void)state;
	die_everywhere(&scene);
}

static void two_files_change_places(void **state)
{
	struct rig *rig = *state;
	uint64_t a, b;

	put_two(rig);
	memstore_put(rig->ms, "b", STUB);
	memstore_put(rig->ms, ".hpkvfs/m/b", OPEN_RECORD);
	rig_expire(rig);
	a = id_of(rig, "a");
	b = id_of(rig, "b");
	assert_int_equal(exchange_two(rig), 0);
	assert_stored(rig, "a", STUB);
	assert_stored(rig, "b", "secret");
	assert_stored(rig, ".hpkvfs/m/a", OPEN_RECORD);
	assert_stored(rig, ".hpkvfs/m/b", SECRET_RECORD);
	assert_true(journal_is_empty(rig));
	assert_int_equal(id_of(rig, "b"), a);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
	assert_int_equal(id_of(rig, "a"), b);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0644);
	assert_reads(rig, "b", "secret");
	assert_non_null(strstr(memstore_value(rig->ms, ".hpkvfs/i/" CHUNK_ID), "\"a\":true,\"b\":true"));
	assert_non_null(strstr(memstore_value(rig->ms, ".hpkvfs/i/" CHUNK_ID), "/j/"));
}

static void what_others_write_before_an_exchange_is_exchanged(void **state)
{
	struct rig *rig = *state;
	struct foreign foreign = { rig, "b", "theirs" };

	put_two(rig);
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_PATCH, .times = 1, .arrived = write_foreign, .arg = &foreign });
	assert_int_equal(exchange_two(rig), 0);
	assert_stored(rig, "a", "theirs");
	assert_stored(rig, "b", "secret");
	assert_reads(rig, "a", "theirs");
	assert_true(journal_is_empty(rig));
}

static void what_is_written_while_it_is_dirty_is_exchanged(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	put_two(rig);
	handle = open_file(rig, "a", O_RDWR);
	assert_int_equal(write_at(rig, handle, 0, "SEC"), 0);
	assert_int_equal(exchange_two(rig), 0);
	assert_stored(rig, "b", "SECret");
	assert_int_equal(write_at(rig, handle, 0, "sec"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "b", "secret");
	assert_stored(rig, "a", "public");
}

static void only_files_that_are_there_are_exchanged(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "d/x", "1");
	put_two(rig);
	assert_int_equal(rename_in_root(rig, "a", "d", RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(rename_in_root(rig, "d", "a", RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(rename_in_root(rig, "a", "none", RENAME_EXCHANGE), -ENOENT);
	assert_int_equal(rename_in_root(rig, "a", "b", RENAME_EXCHANGE | RENAME_NOREPLACE), -EINVAL);
	assert_int_equal(rename_in_root(rig, "a", "b", RENAME_WHITEOUT), -EINVAL);
	assert_int_equal(rename_in_root(rig, "a", "a", RENAME_EXCHANGE), 0);
	assert_stored(rig, "a", "secret");
	assert_stored(rig, "b", "public");
}

/* Where a third value stands, it cannot be told which of the two it was written over. */
static void an_exchange_in_doubt_keeps_all_values(void **state)
{
	struct rig *rig = *state;
	unsigned kept;

	memstore_put(rig->ms, ENTRY,
		     "{\"v\":1,\"op\":\"exchange\"," OTHER_OWNER ",\"a\":\"a\",\"b\":\"b\",\"ready\":true}");
	memstore_put(rig->ms, ENTRY "/a", "one");
	memstore_put(rig->ms, ENTRY "/b", "two");
	memstore_put(rig->ms, "a", "third");
	memstore_put(rig->ms, "b", "two");
	assert_int_equal(finish_one(rig, &kept), 0);
	assert_int_equal(kept, 1);
	assert_stored(rig, "a", "third");
	assert_stored(rig, "b", "two");
	assert_stored(rig, ENTRY "/a", "one");
	assert_stored(rig, ENTRY "/b", "two");
	assert_non_null(strstr(memstore_value(rig->ms, ENTRY), "\"op\":\"kept\""));
	assert_int_equal(finish_one(rig, &kept), -EINVAL);
}

/* --- other entries --- */

static void what_is_not_understood_is_left_alone(void **state)
{
	static const char *const values[] = {
		"x",
		"[]",
		"{\"v\":2,\"op\":\"rename\"}",
		"{\"v\":1,\"op\":\"dance\"}",
		"{\"v\":1,\"op\":5}",
		"{\"v\":1,\"op\":\"rename\",\"from\":\"d/\"}",
		"{\"v\":1,\"op\":\"remove\",\"ids\":{\"x\":{}}}",
		"{\"v\":1,\"op\":\"ids\",\"ids\":[\"x\"]}",
		"{\"v\":1,\"op\":\"rename\",\"from\":\"\",\"to\":\"e/\"}",
		"{\"v\":1,\"op\":\"rename\",\"from\":\"d\",\"to\":\"e/\"}",
		"{\"v\":1,\"op\":\"rename\",\"from\":\"d/\",\"to\":\"d/e/\"}",
		"{\"v\":1,\"op\":\"rename\",\"from\":\".hpkvfs/m/\",\"to\":\"e/\"}",
		"{\"v\":1,\"op\":\"exchange\",\"a\":\"d/a\",\"b\":\".hpkvfs/fs\"}",
		"{\"v\":1,\"op\":\"ids\",\"ids\":[[[[[[[[[[[1]]]]]]]]]]]}",
	};
	struct rig *rig = *state;
	unsigned kept;

	memstore_put(rig->ms, "d/a", "x");
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		memstore_put(rig->ms, ENTRY, values[i]);
		assert_int_equal(finish_one(rig, &kept), -EINVAL);
		assert_stored(rig, ENTRY, values[i]);
		assert_int_equal(memstore_size(rig->ms), 2);
	}
}

/* A beat that came after the end, and parts whose entry has gone. */
static void rests_go(void **state)
{
	struct rig *rig = *state;
	unsigned kept;

	memstore_put(rig->ms, ENTRY, "{\"v\":1,\"owner\":\"x\",\"beat\":3}");
	assert_int_equal(finish_one(rig, &kept), 0);
	assert_true(journal_is_empty(rig));
	memstore_put(rig->ms, ENTRY "/b", "two");
	memstore_put(rig->ms, ENTRY "/take", "4");
	assert_int_equal(finish_one(rig, &kept), 0);
	assert_true(journal_is_empty(rig));
	memstore_put(rig->ms, ENTRY, "{\"v\":1,\"op\":\"ids\"," OTHER_OWNER ",\"ids\":[\"" CHUNK_ID "\"]}");
	assert_int_equal(finish_one(rig, &kept), 0);
	assert_true(journal_is_empty(rig));
}

/* --- announcements --- */

static const char *announced(const struct rig *rig)
{
	for (size_t i = 0; memstore_key(rig->ms, i).p; i++) {
		struct str key = memstore_key(rig->ms, i);

		if (str_starts(key, STR(".hpkvfs/j/")) &&
		    !memchr(key.p + strlen(".hpkvfs/j/"), '/', key.len - strlen(".hpkvfs/j/")))
			return memstore_value(rig->ms, key.p);
	}
	return NULL;
}

static struct fs_handle *open_and_unlink(struct rig *rig, uint64_t beat_us)
{
	struct fs_handle *handle;

	rig->config.announce_us = GRACE_US;
	rig->config.beat_us = beat_us;
	rig_restart(rig);
	memstore_put(rig->ms, "f", STUB);
	handle = open_file(rig, "f", O_RDONLY);
	serve(rig, 2 * GRACE_US);
	assert_null(announced(rig)); /* a key names it */
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
	while (!announced(rig))
		serve(rig, 1000);
	assert_non_null(strstr(announced(rig), "\"op\":\"ids\""));
	assert_non_null(strstr(announced(rig), "[\"" CHUNK_ID "\"]"));
	return handle;
}

static void ids_of_a_file_that_is_open_and_removed_are_announced(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_and_unlink(rig, BEAT_US);

	memstore_log_clear(rig->ms);
	while (memstore_count(rig->ms, STORE_PATCH) < 2) /* and kept alive */
		serve(rig, 1000);
	assert_int_equal(close_file(rig, handle), 0);
	until_empty(rig);
	assert_int_equal(run(rig, op_end), 0);
}

static void announcements_end_with_their_mount(void **state)
{
	struct rig *rig = *state;

	open_and_unlink(rig, BEAT_US);
	assert_int_equal(run(rig, op_end), 0);
	rig_restart(rig);
	assert_null(announced(rig));
}

static void announcements_of_a_dead_mount_are_forgotten(void **state)
{
	struct rig *rig = *state;

	open_and_unlink(rig, FS_BEAT_US); /* none is under way when it dies */
	rig_restart(rig);                 /* as a crash would */
	assert_non_null(announced(rig));
	assert_int_equal(run(rig, op_start), 0);
	until_empty(rig);
	assert_int_equal(run(rig, op_end), 0);
}

#define journal_test(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_renaming_that_dies_anywhere_is_finished),
		journal_test(a_renaming_that_fails_is_finished_by_its_own_mount),
		journal_test(ids_get_both_names_before_the_new_one_is_set),
		journal_test(what_differs_is_kept_under_both_names),
		journal_test(what_changes_while_it_is_finished_is_kept),
		journal_test(an_entry_is_dead_when_it_was_quiet_before_ones_own_eyes),
		journal_test(only_one_takes_over),
		journal_test(one_that_lives_again_is_left_alone),
		journal_test(a_mount_at_work_shows_it),
		journal_test(who_was_taken_over_writes_no_more),
		cmocka_unit_test(an_exchange_that_dies_anywhere_is_finished),
		journal_test(two_files_change_places),
		journal_test(what_others_write_before_an_exchange_is_exchanged),
		journal_test(what_is_written_while_it_is_dirty_is_exchanged),
		journal_test(only_files_that_are_there_are_exchanged),
		journal_test(an_exchange_in_doubt_keeps_all_values),
		journal_test(what_is_not_understood_is_left_alone),
		journal_test(rests_go),
		journal_test(ids_of_a_file_that_is_open_and_removed_are_announced),
		journal_test(announcements_end_with_their_mount),
		journal_test(announcements_of_a_dead_mount_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
