/* What a mount that dies has begun: written down before the first change, found by others, taken over by one of them, and
 * finished without harm to what was written since. */
#include "journal_rig.h"

#include "fs/removal.h"
#include "layout_example.h"

#define RENAME "{\"v\":1,\"op\":\"rename\"," OTHER_OWNER ",\"from\":\"d/\",\"to\":\"e/\"}"

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
	rig_serve(rig, 1000);
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
		rig_serve(rig, 1000);
	memstore_release(rig->ms);
	assert_int_equal(end(rename), 0);
	assert_true(journal_is_empty(rig));
	rig_serve(rig, 5 * BEAT_US);
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
	rig_serve(rig, 10000); /* the others of the same round */
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

static struct fs_handle *open_and_unlink(struct rig *rig, uint64_t beat_us)
{
	struct fs_handle *handle;

	rig->config.announce_us = GRACE_US;
	rig->config.beat_us = beat_us;
	rig_restart(rig);
	memstore_put(rig->ms, "f", STUB);
	handle = open_file(rig, "f", O_RDONLY);
	rig_serve(rig, 2 * GRACE_US);
	assert_null(journal_entry_value(rig)); /* a key names it */
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
	while (!journal_entry_value(rig))
		rig_serve(rig, 1000);
	assert_non_null(strstr(journal_entry_value(rig), "\"op\":\"ids\""));
	assert_non_null(strstr(journal_entry_value(rig), "[\"" CHUNK_ID "\"]"));
	return handle;
}

static void ids_of_a_file_that_is_open_and_removed_are_announced(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_and_unlink(rig, BEAT_US);

	assert_example(rig, "journal-ids");
	memstore_log_clear(rig->ms);
	while (memstore_count(rig->ms, STORE_PATCH) < 2) /* and kept alive */
		rig_serve(rig, 1000);
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
	assert_null(journal_entry_value(rig));
}

static void announcements_of_a_dead_mount_are_forgotten(void **state)
{
	struct rig *rig = *state;

	open_and_unlink(rig, FS_BEAT_US); /* none is under way when it dies */
	rig_restart(rig);                 /* as a crash would */
	assert_non_null(journal_entry_value(rig));
	assert_int_equal(run(rig, op_start), 0);
	until_empty(rig);
	assert_int_equal(run(rig, op_end), 0);
}

/* --- the manual --- */

/* An entry like the example is read as what it says. */
static void assert_reads_example(struct rig *rig, const char *name, enum journal_op op)
{
	CLEANUP(buf_free) struct buf text = layout_example(name);
	struct journal_watch watch = { 0 };
	struct asking asking = { .watch = &watch };

	memstore_put(rig->ms, ENTRY, text.p);
	assert_int_equal(ask(rig, look_run, &asking), 0);
	assert_int_equal(asking.list->op, op);
	memstore_remove(rig->ms, ENTRY);
	journal_free(&asking.list);
	journal_watch_deinit(&watch);
}

/* Holds the answer to one request of the call, looks, and lets it go on. */
static void assert_writes_example(struct rig *rig, enum store_op op, const char *key, struct args args,
				  const char *name)
{
	struct call *rename;

	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = op, .key = key, .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	rename = begin_call(rig, op_rename, args);
	rig_until_held(rig, 1);
	assert_example(rig, name);
	memstore_release(rig->ms);
	assert_int_equal(end(rename), 0);
	memstore_clear_faults(rig->ms);
}

static void the_manual_shows_what_is_written(void **state)
{
	struct rig *rig = *state;
	struct content_id id;
	int64_t created;

	rig->config.grace_us = rig->config.beat_us = 0; /* the defaults: no beat in between */
	rig_restart(rig);
	assert_int_equal(layout_example_count("journal-"), 4);
	memstore_put(rig->ms, "d/x", "1");
	memstore_put(rig->ms, "d/b", "2");
	memstore_put(rig->ms, "a", "3");
	id_of(rig, "a");
	assert_writes_example(rig, STORE_SET, "d/b",
			      (struct args){ .parent = FS_ROOT_ID,
					     .name = "a",
					     .new_parent = id_of(rig, "d"),
					     .new_name = "b",
					     .flags = RENAME_EXCHANGE },
			      "journal-exchange");
	assert_writes_example(
		rig, STORE_SET, "e/x",
		(struct args){ .parent = FS_ROOT_ID, .name = "d", .new_parent = FS_ROOT_ID, .new_name = "e" },
		"journal-rename");
	assert_true(content_id_parse(STR("1a0c4506c000123456789abcdef0123456789abcdef"), &id, &created));
	removal_later(rig->fs, &id, 5, STR("d/film"));
	assert_int_equal(run(rig, op_end), 0);
	assert_example(rig, "journal-remove");
}

static void the_manual_shows_what_is_read(void **state)
{
	struct rig *rig = *state;

	assert_reads_example(rig, "journal-rename", JOURNAL_RENAME);
	assert_reads_example(rig, "journal-exchange", JOURNAL_EXCHANGE);
	assert_reads_example(rig, "journal-ids", JOURNAL_IDS);
	assert_reads_example(rig, "journal-remove", JOURNAL_REMOVE);
}

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
		journal_test(what_is_not_understood_is_left_alone),
		journal_test(rests_go),
		journal_test(ids_of_a_file_that_is_open_and_removed_are_announced),
		journal_test(announcements_end_with_their_mount),
		journal_test(announcements_of_a_dead_mount_are_forgotten),
		journal_test(the_manual_shows_what_is_written),
		journal_test(the_manual_shows_what_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
