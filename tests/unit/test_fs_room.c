/* Room in memory for what waits, over all files. */
#include "room_rig.h"

/* --- open files --- */

static void test_many_open_files_stay_within_the_limit(void **state)
{
	struct rig *rig = *state;
	unsigned count = 40;
	struct twin *twins = twins_new(count);

	room_limit(rig, 256 * KIB);
	for (unsigned i = 0; i < count; i++)
		twin_make(rig, &twins[i], "f%u", i, i % 2 ? O_TRUNC : O_EXCL);
	for (unsigned round = 0; round < 30; round++) {
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(twin_append(rig, &twins[i], i % 3 ? BINARY : TEXT, 1000), 0);
			assert_in_range(room_taken(rig), 1, 256 * KIB + SLACK);
		}
	}
	for (unsigned i = 0; i < count; i++) {
		twin_check_handle(rig, &twins[i]);
		assert_not_stored(rig, twins[i].name); /* none is seen half written */
	}
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

/* Whole chunks of large files need no second sending. */
static void test_whole_chunks_go_first(void **state)
{
	struct rig *rig = *state;
	struct twin *twins = twins_new(11);

	room_limit(rig, 128 * KIB);
	twin_make(rig, &twins[10], "large%u", 10, 0);
	for (unsigned i = 0; i < 10; i++) {
		twin_make(rig, &twins[i], "f%u", i, 0);
		assert_int_equal(twin_append(rig, &twins[i], TEXT, 2000), 0);
	}
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(twin_append(rig, &twins[10], BINARY, CHUNK / 2), 0);
	for (unsigned i = 0; i <= 10; i++)
		twin_close(rig, &twins[i]);
	/* the layout's version is there: each chunk and each key once */
	assert_int_equal(memstore_count(rig->ms, STORE_SET), 100 + 11);
	assert_int_equal(memstore_count(rig->ms, STORE_GET), 0);
	check_after_restart(rig, twins, 11);
	twins_free(twins, 11);
}

static void test_what_may_be_plain_goes_as_chunks_and_is_plain_in_the_end(void **state)
{
	struct rig *rig = *state;
	unsigned count = 60;
	struct twin *twins = twins_new(count);

	room_limit(rig, 128 * KIB);
	for (unsigned i = 0; i < count; i++)
		twin_make(rig, &twins[i], "f%u", i, O_EXCL);
	for (unsigned part = 0; part < 3; part++)
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(twin_append(rig, &twins[i], TEXT, 1000), 0);
			assert_in_range(room_taken(rig), 1, 128 * KIB + SLACK);
		}
	assert_true(chunks_stored(rig) > 0);
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	for (unsigned i = 0; i < count; i++)
		assert_string_equal(memstore_value(rig->ms, twins[i].name), twins[i].content.p);
	until_no_chunks(rig);
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

/* --- closed files --- */

static void test_closed_local_files_go_before_their_time(void **state)
{
	struct rig *rig = *state;
	unsigned count = 1000;
	struct twin *twins = twins_new(count);

	room_limit(rig, 128 * KIB);
	for (unsigned i = 0; i < count; i++) {
		twin_make(rig, &twins[i], "f%u~", i, O_EXCL);
		assert_int_equal(twin_append(rig, &twins[i], TEXT, 3), 0);
		assert_in_range(room_taken(rig), 1, 128 * KIB + SLACK);
		twin_close(rig, &twins[i]);
	}
	assert_stored(rig, "f0~", twins[0].content.p); /* the oldest first */
	assert_not_stored(rig, "f999~");
	assert_int_equal(memstore_count(rig->ms, STORE_GET), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_int_equal(memstore_count(rig->ms, STORE_SET), count);
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

/* Chunks went early, and nobody can read them any more. */
static void test_removed_local_files_leave_nothing(void **state)
{
	struct rig *rig = *state;
	struct twin *twins = twins_new(4);

	room_limit(rig, 16 * KIB);
	for (unsigned i = 0; i < 4; i++) {
		twin_make(rig, &twins[i], i < 2 ? "f%u~" : ".f%u.swp", i, O_EXCL);
		for (unsigned part = 0; part < (i == 0 ? 20 : 1); part++)
			assert_int_equal(twin_append(rig, &twins[i], BINARY, 2000), 0);
		twin_close(rig, &twins[i]);
	}
	assert_true(chunks_stored(rig) > 0);
	assert_int_equal(
		run(rig, op_rename, .parent = FS_ROOT_ID, .name = "f1~", .new_parent = FS_ROOT_ID, .new_name = "f0~"),
		0);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f0~"), 0);
	assert_int_equal(run(rig, op_rename, .parent = FS_ROOT_ID, .name = ".f2.swp", .new_parent = FS_ROOT_ID,
			     .new_name = ".f3.swp"),
			 0);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = ".f3.swp"), 0);
	assert_int_equal(room_taken(rig), 0);
	assert_int_equal(fs_figures(rig->fs).swap_bytes, 0);
	until_no_chunks(rig);
	twins_free(twins, 4);
}

static void test_creating_is_bounded_too(void **state)
{
	struct rig *rig = *state;
	struct twin twin;

	room_limit(rig, 64 * KIB);
	for (unsigned i = 0; i < 500; i++) {
		twin_make(rig, &twin, "f%u~", i, O_EXCL);
		twin_close(rig, &twin);
		assert_in_range(room_taken(rig), 1, 64 * KIB + SLACK);
	}
	assert_int_equal(run(rig, op_sync), 0);
	assert_int_equal(room_taken(rig), 0);
}

static void test_swap_files_are_bounded_all_together(void **state)
{
	struct rig *rig = *state;
	unsigned count = 40;
	struct twin *twins = twins_new(count);
	uint64_t most = 64 * KIB * KIB;

	room_limit(rig, 16 * KIB * KIB);
	for (unsigned i = 0; i < count; i++) {
		twin_make(rig, &twins[i], "f%u.swp", i, O_EXCL);
		for (unsigned part = 0; part < 4; part++) {
			assert_int_equal(twin_append(rig, &twins[i], BINARY, 512 * KIB), 0);
			assert_in_range(fs_figures(rig->fs).swap_bytes, 1, most + KIB * KIB);
			assert_in_range(room_taken(rig), 0, 20 * KIB * KIB);
		}
	}
	assert_true(chunks_stored(rig) > 0);
	for (unsigned i = 0; i < count; i++)
		twin_check_handle(rig, &twins[i]);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = twins[i].name), 0);
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	assert_int_equal(fs_figures(rig->fs).swap_bytes, 0);
	assert_int_equal(room_taken(rig), 0);
	twins_free(twins, count);
}

/* --- appends, and files without a name --- */

static void test_appended_text_is_appended_before_its_time(void **state)
{
	struct rig *rig = *state;
	unsigned count = 30;
	struct twin *twins = twins_new(count);

	room_limit(rig, 64 * KIB);
	for (unsigned i = 0; i < count; i++)
		twin_make(rig, &twins[i], "f%u", i, O_APPEND);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(twin_append(rig, &twins[i], TEXT, 300), 0);
			assert_in_range(room_taken(rig), 1, 64 * KIB + SLACK);
		}
	}
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

static void test_removed_files_stay_readable_and_leave_nothing(void **state)
{
	struct rig *rig = *state;
	unsigned count = 20;
	struct twin *twins = twins_new(count);

	room_limit(rig, 64 * KIB);
	for (unsigned i = 0; i < count; i++) {
		twin_make(rig, &twins[i], "f%u", i, i % 2 ? O_APPEND : 0);
		assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = twins[i].name), 0);
	}
	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(twin_append(rig, &twins[i], BINARY, 1500), 0);
			assert_in_range(room_taken(rig), 1, 64 * KIB + SLACK);
		}
	}
	assert_true(chunks_stored(rig) > 0);
	for (unsigned i = 0; i < count; i++)
		twin_check_handle(rig, &twins[i]);
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	assert_int_equal(room_taken(rig), 0);
	until_no_chunks(rig);
	assert_lists(rig, "", "");
	twins_free(twins, count);
}

/* --- what cannot be made less --- */

static void test_what_cannot_be_made_less_holds_nobody_up(void **state)
{
	struct rig *rig = *state;
	unsigned count = 100;
	struct twin *twins = twins_new(count);

	room_limit(rig, 16 * KIB);
	for (unsigned i = 0; i < count; i++)
		twin_make(rig, &twins[i], "f%u", i, 0);
	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(twin_append(rig, &twins[i], BINARY, 700), 0);
			assert_in_range(room_taken(rig), 1, count * KIB + SLACK);
		}
	}
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

/* A swap file has room of its own. */
static void test_a_write_that_is_larger_than_the_limit(void **state)
{
	struct rig *rig = *state;
	struct twin twin, swap;

	room_limit(rig, 4 * KIB);
	twin_make(rig, &swap, "f%u.swp", 0, O_EXCL);
	assert_int_equal(twin_append(rig, &swap, BINARY, 100 * KIB), 0);
	assert_no_requests(rig);
	twin_make(rig, &twin, "g%u", 0, 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(twin_append(rig, &twin, BINARY, 100 * KIB), 0);
	twin_close(rig, &twin);
	twin_check(rig, &twin);
	twin_check_handle(rig, &swap);
	twin_close(rig, &swap);
	buf_free(&twin.content);
	buf_free(&swap.content);
}

/* A cache that is full of values leaves no place for a chunk. */
static void test_chunks_are_sent_while_the_cache_is_full_of_values(void **state)
{
	struct rig *rig = *state;
	unsigned count = 70;
	struct twin *twins = twins_new(count);

	rig->config.max_value = KIB * KIB;
	room_limit(rig, 512 * KIB);
	for (unsigned i = 0; i < count; i++) {
		twin_make(rig, &twins[i], "f%u", i, 0);
		assert_int_equal(twin_append(rig, &twins[i], TEXT, KIB * KIB), 0);
		twin_close(rig, &twins[i]);
	}
	for (unsigned i = 0; i < 3; i++) {
		buf_free(&twins[i].content);
		twin_make(rig, &twins[i], "g%u", i, 0);
		for (unsigned part = 0; part < 3; part++)
			assert_int_equal(twin_append(rig, &twins[i], BINARY, KIB * KIB), 0);
		twin_close(rig, &twins[i]);
	}
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		room_test(test_many_open_files_stay_within_the_limit),
		room_test(test_whole_chunks_go_first),
		room_test(test_what_may_be_plain_goes_as_chunks_and_is_plain_in_the_end),
		room_test(test_closed_local_files_go_before_their_time),
		room_test(test_removed_local_files_leave_nothing),
		room_test(test_creating_is_bounded_too),
		room_test(test_swap_files_are_bounded_all_together),
		room_test(test_appended_text_is_appended_before_its_time),
		room_test(test_removed_files_stay_readable_and_leave_nothing),
		room_test(test_what_cannot_be_made_less_holds_nobody_up),
		room_test(test_a_write_that_is_larger_than_the_limit),
		room_test(test_chunks_are_sent_while_the_cache_is_full_of_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
