/* Content that waits: local names, and the timer of open files. */
#include "waiting_rig.h"

static void use(struct rig *rig, uint64_t local_ttl_us, uint64_t commit_us)
{
	use_with(rig, "", local_ttl_us, commit_us);
}

/* What rsync makes of a small file: a temporary, its attributes, its name. */
static void test_new_file_of_rsync_is_two_requests(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = make_temporary(rig, ".f.a1B2c3", "text", 0600);
	struct stat st;

	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(change_mtime(rig, ".f.a1B2c3", 1234567890123456789), 0);
	assert_int_equal(change_mode(rig, ".f.a1B2c3", 0640), 0);
	assert_no_requests(rig);
	assert_int_equal(rename_to(rig, ".f.a1B2c3", "f"), 0);
	assert_requests(rig, 0, 2, 0, 0, 0);
	assert_stored(rig, "f", "text");
	assert_reads(rig, "f", "text");
	rig_restart(rig);
	assert_lists(rig, "", "f ");
	st = stat_of(rig, "f");
	assert_int_equal(st.st_mode, S_IFREG | 0640);
	assert_int_equal(mtime_of(&st), 1234567890123456789);
}

static void test_sed_i_is_one_set(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	assert_int_equal(write_file(rig, "f", "old"), 0);
	memstore_log_clear(rig->ms);
	handle = make_temporary(rig, "sedXy12Zw", "new", 0600);
	assert_int_equal(change_mode(rig, "sedXy12Zw", 0644), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(rename_to(rig, "sedXy12Zw", "f"), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_stored(rig, "f", "new");
	assert_lists(rig, "", "f ");
}

static void test_swap_files_never_leave(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = make_temporary(rig, ".f.swp", "swap", 0600);

	assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_int_equal(rename_to(rig, ".f.swp", ".g.swp"), 0);
	assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_reads(rig, ".g.swp", "swap");
	assert_lists(rig, "", ".g.swp ");
	rig_expire(rig);
	assert_lists(rig, "", ".g.swp ");
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = ".g.swp"), 0);
	assert_lists(rig, "", "");
	temporary(rig, "4913", "");
	assert_int_equal(run(rig, op_end), 0);
	assert_int_equal(memstore_count(rig->ms, STORE_SET), 0);
	assert_int_equal(memstore_count(rig->ms, STORE_PATCH), 0);
	assert_int_equal(memstore_count(rig->ms, STORE_DELETE), 0);
}

static void test_swap_file_under_another_name_is_stored(void **state)
{
	struct rig *rig = *state;

	temporary(rig, ".f.swp", "text");
	assert_int_equal(rename_to(rig, ".f.swp", "f"), 0);
	assert_stored(rig, "f", "text");
}

static void test_others_are_stored_by_fsync_and_sync(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = make_temporary(rig, ".f.123456", "one", 0644);

	assert_no_requests(rig);
	assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	assert_stored(rig, ".f.123456", "one");
	/* from then on it is a file like others */
	assert_int_equal(write_at(rig, handle, 0, "two"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, ".f.123456", "two");
	temporary(rig, "g~", "text");
	assert_not_stored(rig, "g~");
	assert_int_equal(run(rig, op_sync), 0);
	assert_stored(rig, "g~", "text");
	temporary(rig, "h~", "text");
	assert_int_equal(run(rig, op_end), 0);
	assert_stored(rig, "h~", "text");
}

/* What git makes of a pack: a temporary that is synced, another name for it, and the one that counts. */
static void test_scratch_files_are_stored_under_the_name_that_counts(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = make_temporary(rig, "tmp_pack_a1B2c3", "text", 0644);

	assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(rename_to(rig, "tmp_pack_a1B2c3", ".tmp-17-pack-abc"), 0);
	assert_no_requests(rig);
	assert_reads(rig, ".tmp-17-pack-abc", "text");
	assert_int_equal(rename_to(rig, ".tmp-17-pack-abc", "pack-abc"), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_stored(rig, "pack-abc", "text");
	assert_lists(rig, "", "pack-abc ");
}

static void test_scratch_files_that_stay_are_stored(void **state)
{
	struct rig *rig = *state;

	use(rig, SOON_US, 0);
	temporary(rig, "tmp_pack_a1B2c3", "one");
	temporary(rig, "tmp_idx_a1B2c3", "two");
	assert_int_equal(rename_to(rig, "tmp_idx_a1B2c3", ".tmp-17-pack-abc"), 0);
	until_stored(rig, "tmp_pack_a1B2c3");
	until_stored(rig, ".tmp-17-pack-abc");
	temporary(rig, "tmp_obj_a1B2c3", "three");
	assert_int_equal(run(rig, op_end), 0);
	assert_stored(rig, "tmp_obj_a1B2c3", "three");
}

/* Content that counts has got a name that happens to be local. */
static void test_a_renaming_to_other_local_names_stores_it(void **state)
{
	struct rig *rig = *state;

	temporary(rig, ".Cargo.lock.a1B2c3", "text");
	assert_int_equal(rename_to(rig, ".Cargo.lock.a1B2c3", "Cargo.lock"), 0);
	assert_stored(rig, "Cargo.lock", "text");
	temporary(rig, "x~", "text");
	assert_int_equal(rename_to(rig, "x~", "x.swp"), 0);
	assert_stored(rig, "x.swp", "text");
}

static void test_others_are_stored_some_time_after_the_last_close(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	use(rig, SOON_US, 0);
	handle = make_temporary(rig, ".f.123456", "text", 0644);
	temporary(rig, "g~", "text");
	until_stored(rig, "g~");
	assert_not_stored(rig, ".f.123456"); /* it is still open */
	assert_int_equal(close_file(rig, handle), 0);
	until_stored(rig, ".f.123456");
}

static void test_local_only_where_made_alone(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(write_file(rig, ".profile.config", "text"), 0);
	assert_stored(rig, ".profile.config", "text");
	memstore_put(rig->ms, "old~", "text");
	rig_expire(rig);
	assert_int_equal(write_file(rig, "old~", "more"), 0);
	assert_stored(rig, "old~", "more");
}

static void test_local_file_that_another_client_makes_too(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = make_temporary(rig, "f~", "ours", 0644);

	memstore_put(rig->ms, "f~", "theirs");
	rig_expire(rig);
	assert_lists(rig, "", "f~ ");
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "f~", "ours"); /* as for any two writers: the last one wins */
}

static void test_removed_local_files_cost_nothing(void **state)
{
	struct rig *rig = *state;

	temporary(rig, ".f.123456", "text");
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = ".f.123456"), 0);
	assert_no_requests(rig);
	assert_lists(rig, "", "");
	assert_int_equal(run(rig, op_end), 0);
	assert_int_equal(memstore_count(rig->ms, STORE_SET), 0);
}

static void test_directory_with_a_local_file_is_not_empty(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "d", .mode = 0755), 0);
	assert_int_equal(run(rig, op_create, .parent = rig->entry.id, .name = "x.swp", .mode = 0644,
			     .flags = O_CREAT | O_EXCL | O_RDWR),
			 0);
	assert_int_equal(close_file(rig, rig->handle), 0);
	assert_int_equal(run(rig, op_rmdir, .parent = FS_ROOT_ID, .name = "d"), -ENOTEMPTY);
	assert_int_equal(rename_to(rig, "d", "e"), 0);
	assert_lists(rig, "e", "x.swp ");
	assert_not_stored(rig, "e/x.swp");
}

/* --- commit= --- */

static void test_open_files_are_sent_by_time_after_a_first_close(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *first, *second;

	use(rig, LATE_US, SOON_US);
	first = open_file(rig, "f", O_WRONLY | O_CREAT);
	second = open_file(rig, "g", O_WRONLY | O_CREAT);
	assert_int_equal(write_at(rig, first, 0, "half"), 0);
	assert_int_equal(run(rig, op_flush, .handle = second), 0); /* a copy of the descriptor */
	assert_int_equal(write_at(rig, second, 0, "text"), 0);
	until_stored(rig, "g");
	assert_stored(rig, "g", "text");
	assert_not_stored(rig, "f");
	assert_int_equal(write_at(rig, second, 4, " and more"), 0);
	while (strcmp(memstore_value(rig->ms, "g"), "text and more") != 0)
		loop_once(rig->loop);
	assert_int_equal(close_file(rig, first), 0);
	assert_int_equal(close_file(rig, second), 0);
	assert_stored(rig, "f", "half");
}

/* --- commits that fail when nobody waits for them --- */

static void test_what_failed_in_the_background_is_kept_and_sent_again(void **state)
{
	struct rig *rig = *state;

	rig->config.retry_us = SOON_US;
	use(rig, SOON_US, 0);
	fail_sets(rig, -EIO, 3);
	temporary(rig, "f~", "text");
	until_stored(rig, "f~");
	assert_reads(rig, "f~", "text");
	assert_int_equal(memstore_count(rig->ms, STORE_SET), 4);
}

static void test_what_fails_later_is_readable_meanwhile_and_told_by_fsync(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	use(rig, LATE_US, 0);
	handle = open_file(rig, "f", O_RDWR | O_CREAT);
	assert_int_equal(write_at(rig, handle, 0, "text"), 0);
	fail_sets(rig, -ETIMEDOUT, 2);
	assert_int_equal(run(rig, op_sync), -ETIMEDOUT);
	assert_reads(rig, "f", "text");
	assert_int_equal(run(rig, op_fsync, .handle = handle), -ETIMEDOUT);
	assert_int_equal(close_file(rig, handle), 0); /* it was told */
}

static void test_what_is_lost_later_is_told_by_the_next_close(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "f", "old");
	use_with(rig, "f ", LATE_US, 0);
	handle = open_file(rig, "f", O_RDWR);
	assert_int_equal(write_at(rig, handle, 0, "new"), 0);
	fail_sets(rig, -EFBIG, 1);
	assert_int_equal(run(rig, op_sync), -EFBIG);
	assert_reads(rig, "f", "old");
	assert_int_equal(run(rig, op_flush, .handle = handle), -EFBIG);
	assert_int_equal(run(rig, op_flush, .handle = handle), 0);
	assert_int_equal(run(rig, op_release, .handle = handle), 0);
}

static void test_a_repetition_does_not_overwrite_what_others_wrote_meanwhile(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "f", "old");
	rig->config.retry_us = SOON_US;
	use_with(rig, "f ", LATE_US, 0);
	handle = open_file(rig, "f", O_RDWR);
	assert_int_equal(write_at(rig, handle, 0, "new"), 0);
	fail_sets(rig, -EIO, 1);
	assert_int_equal(run(rig, op_sync), -EIO);
	memstore_put(rig->ms, "f", "theirs");
	while (fs_figures(rig->fs).dirty_bytes)
		loop_once(rig->loop);
	assert_stored(rig, "f", "theirs");
	assert_reads(rig, "f", "theirs");
	assert_int_equal(run(rig, op_fsync, .handle = handle), -EIO);
	assert_int_equal(close_file(rig, handle), 0);
}

/* One descriptor is written all the time, each time while the store is asked; another is closed. Its close tells that what was
 * written before it is stored. The rest follows by time. */
static void close_beside_a_writer(struct rig *rig, const char *first, const char *whole, int flags, enum store_op op)
{
	struct fs_handle *writer, *handle;
	struct call *flush;

	memstore_put(rig->ms, "f", "0");
	use_with(rig, "f ", LATE_US, SOON_US);
	writer = open_file(rig, "f", O_WRONLY | flags);
	handle = open_file(rig, "f", O_WRONLY | flags);
	assert_int_equal(write_at(rig, handle, 1, "1"), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = op, .hold = MEMSTORE_HOLD_REPLY });
	flush = begin(rig, op_flush, .handle = handle);
	rig_until_held(rig, 1);
	assert_int_equal(write_at(rig, writer, 2, "2"), 0);
	memstore_release_one(rig->ms);
	while (!flush->done && !memstore_held(rig->ms))
		loop_once(rig->loop);
	assert_true(flush->done);
	assert_int_equal(end(flush), 0);
	assert_stored(rig, "f", first);
	assert_reads(rig, "f", whole);
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	while (fs_figures(rig->fs).dirty_bytes)
		loop_once(rig->loop);
	assert_stored(rig, "f", whole);
	assert_int_equal(close_file(rig, writer), 0);
	assert_int_equal(run(rig, op_release, .handle = handle), 0);
}

static void test_a_close_waits_for_no_writer(void **state)
{
	close_beside_a_writer(*state, "01", "012", 0, STORE_SET);
	close_beside_a_writer(*state, "01", "012", O_APPEND, STORE_PATCH);
}

/* What is written while a repetition is on its way; the last close comes during it or behind it. */
static void test_what_is_written_during_a_repetition_is_stored(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "f", "0");
	rig->config.retry_us = SOON_US;
	use_with(rig, "f ", LATE_US, 0);
	for (unsigned during = 0; during < 2; during++) {
		handle = open_file(rig, "f", O_WRONLY);
		assert_int_equal(write_at(rig, handle, 1, during ? "3" : "1"), 0);
		fail_sets(rig, -EIO, 1);
		assert_int_equal(run(rig, op_sync), -EIO);
		memstore_clear_faults(rig->ms);
		memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .hold = MEMSTORE_HOLD_REPLY });
		rig_until_held(rig, 1);
		assert_int_equal(write_at(rig, handle, 2, during ? "4" : "2"), 0);
		memstore_clear_faults(rig->ms);
		if (during)
			assert_int_equal(run(rig, op_release, .handle = handle), 0);
		memstore_release(rig->ms);
		if (!during) {
			rig_serve(rig, 10 * SOON_US); /* where that is not enough, it is as in the other turn */
			assert_int_equal(run(rig, op_release, .handle = handle), 0);
		}
		while (fs_figures(rig->fs).dirty_bytes)
			loop_once(rig->loop);
		assert_stored(rig, "f", during ? "034" : "012");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		waiting_test(test_new_file_of_rsync_is_two_requests),
		waiting_test(test_sed_i_is_one_set),
		waiting_test(test_swap_files_never_leave),
		waiting_test(test_swap_file_under_another_name_is_stored),
		waiting_test(test_others_are_stored_by_fsync_and_sync),
		waiting_test(test_scratch_files_are_stored_under_the_name_that_counts),
		waiting_test(test_scratch_files_that_stay_are_stored),
		waiting_test(test_a_renaming_to_other_local_names_stores_it),
		waiting_test(test_others_are_stored_some_time_after_the_last_close),
		waiting_test(test_local_only_where_made_alone),
		waiting_test(test_local_file_that_another_client_makes_too),
		waiting_test(test_removed_local_files_cost_nothing),
		waiting_test(test_directory_with_a_local_file_is_not_empty),
		waiting_test(test_open_files_are_sent_by_time_after_a_first_close),
		waiting_test(test_what_failed_in_the_background_is_kept_and_sent_again),
		waiting_test(test_what_fails_later_is_readable_meanwhile_and_told_by_fsync),
		waiting_test(test_what_is_lost_later_is_told_by_the_next_close),
		waiting_test(test_a_repetition_does_not_overwrite_what_others_wrote_meanwhile),
		waiting_test(test_a_close_waits_for_no_writer),
		waiting_test(test_what_is_written_during_a_repetition_is_stored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
