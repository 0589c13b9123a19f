/* Backups: `mv f f~`, and then a new `f`. */
#include "waiting_rig.h"

#include "base/clock.h"

static char big[4 * RIG_MAX_VALUE], other[4 * RIG_MAX_VALUE];

/* `f` is stored with "old", and everything is known. */
static void use_f(struct rig *rig, const char *text, uint64_t local_ttl_us)
{
	assert_int_equal(write_file(rig, "f", text), 0);
	use_with(rig, "f ", local_ttl_us, LATE_US);
}

static void test_a_save_of_vim_is_one_set(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_requests(rig, 1, 0, 0, 0, 0);
	assert_stored(rig, "f", "old");
	assert_lists(rig, "", "f~ ");
	assert_reads(rig, "f~", "old");
	assert_int_equal(look(rig, "f"), -ENOENT);
	assert_int_equal(write_file(rig, "f", "new"), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_int_equal(remove_file(rig, "f~"), 0);
	assert_no_requests(rig);
	assert_lists(rig, "", "f ");
	assert_reads(rig, "f", "new");
	assert_int_equal(run(rig, op_end), 0);
	assert_no_requests(rig);
	assert_stored(rig, "f", "new");
}

static void test_the_key_is_never_absent_nor_empty(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	handle = open_file(rig, "f", O_WRONLY | O_CREAT | O_TRUNC);
	assert_stored(rig, "f", "old");
	assert_int_equal(write_at(rig, handle, 0, "new"), 0);
	assert_stored(rig, "f", "old");
	assert_reads(rig, "f", "new");
	assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	assert_stored(rig, "f", "new");
	assert_int_equal(close_file(rig, handle), 0);
}

static void test_what_others_read_is_hidden_here(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	rig_expire(rig);
	assert_lists(rig, "", "f~ ");
	rig_expire(rig);
	assert_int_equal(look(rig, "f"), -ENOENT);
	assert_int_equal(look(rig, "f~"), 0);
	assert_reads(rig, "f~", "old");
}

static void test_it_is_settled_after_a_while(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", SOON_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	until_stored(rig, "f~");
	until_not_stored(rig, "f");
	assert_stored(rig, "f~", "old");
	assert_lists(rig, "", "f~ ");
	rig_expire(rig);
	assert_lists(rig, "", "f~ ");
	assert_int_equal(write_file(rig, "f", "new"), 0);
	assert_stored(rig, "f", "new");
}

static void test_a_backup_that_stays_is_stored_behind_the_new_content(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_int_equal(write_file(rig, "f", "new"), 0);
	assert_not_stored(rig, "f~");
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_sync), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_stored(rig, "f~", "old");
	assert_stored(rig, "f", "new");
	rig_restart(rig);
	assert_lists(rig, "", "f f~ ");
}

static void settle_by_fsync(struct rig *rig)
{
	struct fs_handle *handle = open_file(rig, "f~", O_RDONLY);

	assert_not_stored(rig, "f~");
	assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	assert_int_equal(close_file(rig, handle), 0);
}

static void settle_by_fsync_of_the_folder(struct rig *rig)
{
	assert_int_equal(run(rig, op_fsyncdir, .id = FS_ROOT_ID), 0);
}

static void settle_by_the_end(struct rig *rig)
{
	assert_int_equal(run(rig, op_end), 0);
}

static void settle_by_mode(struct rig *rig)
{
	assert_int_equal(change_mode(rig, "f~", 0600), 0);
}

static void settle_by_xattr(struct rig *rig)
{
	assert_int_equal(set_xattr(rig, "f~", "user.a", "b"), 0);
}

static void settle_by_opening(struct rig *rig)
{
	assert_int_equal(close_file(rig, open_file(rig, "f~", O_RDWR)), 0);
}

static void settle_by_mkdir(struct rig *rig)
{
	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "f", .mode = 0755), 0);
}

static void settle_by_symlink(struct rig *rig)
{
	assert_int_equal(run(rig, op_symlink, .parent = FS_ROOT_ID, .name = "f", .new_name = "x"), 0);
}

static void test_what_settles_it(void **state)
{
	static void (*const acts[])(struct rig *) = { settle_by_fsync,   settle_by_fsync_of_the_folder,
						      settle_by_mode,    settle_by_xattr,
						      settle_by_opening, settle_by_mkdir,
						      settle_by_symlink, settle_by_the_end };
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(acts) / sizeof(*acts); i++) {
		use_f(rig, "old", LATE_US);
		assert_int_equal(rename_to(rig, "f", "f~"), 0);
		acts[i](rig);
		assert_stored(rig, "f~", "old");
		assert_not_stored(rig, "f");
		while (memstore_size(rig->ms) > 1) { /* the last is the layout's version */
			struct str key = memstore_key(rig->ms, memstore_size(rig->ms) - 1);

			if (str_equal(key, STR(".hpkvfs/fs")))
				key = memstore_key(rig->ms, 0);
			memstore_remove(rig->ms, key.p);
		}
		use_with(rig, "", LATE_US, LATE_US);
	}
}

static void test_back_again_sends_nothing(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", SOON_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	memstore_log_clear(rig->ms);
	assert_int_equal(rename_to(rig, "f~", "f"), 0);
	assert_no_requests(rig);
	assert_reads(rig, "f", "old");
	assert_lists(rig, "", "f ");
	assert_int_equal(run(rig, op_end), 0);
	assert_stored(rig, "f", "old");
	assert_not_stored(rig, "f~");
}

static void test_back_over_the_new_file(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_int_equal(write_file(rig, "f", "new"), 0);
	assert_int_equal(rename_to(rig, "f~", "f"), 0);
	assert_lists(rig, "", "f ");
	assert_reads(rig, "f", "old");
	assert_stored(rig, "f", "old");
	assert_not_stored(rig, "f~");
}

static void test_another_name_still(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_int_equal(rename_to(rig, "f~", "g"), 0);
	assert_lists(rig, "", "g ");
	assert_stored(rig, "g", "old");
	assert_not_stored(rig, "f");
	assert_not_stored(rig, "f~");
}

static void test_removed_without_a_new_file(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_int_equal(remove_file(rig, "f~"), 0);
	assert_not_stored(rig, "f");
	assert_not_stored(rig, "f~");
	assert_lists(rig, "", "");
	rig_expire(rig);
	assert_lists(rig, "", "");
}

static void test_removed_before_the_new_file_is_closed(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	handle = open_file(rig, "f", O_WRONLY | O_CREAT);
	assert_int_equal(write_at(rig, handle, 0, "new"), 0);
	assert_int_equal(remove_file(rig, "f~"), 0);
	assert_stored(rig, "f", "old");
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "f", "new");
	assert_lists(rig, "", "f ");
}

static void test_both_removed(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_int_equal(write_file(rig, "f", "new"), 0);
	assert_int_equal(remove_file(rig, "f"), 0);
	assert_int_equal(remove_file(rig, "f~"), 0);
	assert_int_equal(run(rig, op_end), 0);
	assert_not_stored(rig, "f");
	assert_not_stored(rig, "f~");
}

/* sed -i~, rsync -b */
static void test_a_file_that_is_moved_there_replaces_it(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", LATE_US);
	temporary(rig, "sedXy12Zw", "new");
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_requests(rig, 1, 0, 0, 0, 0);
	assert_stored(rig, "f", "old");
	assert_int_equal(rename_to(rig, "sedXy12Zw", "f"), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_stored(rig, "f", "new");
	assert_int_equal(run(rig, op_end), 0);
	assert_stored(rig, "f", "new");
	assert_stored(rig, "f~", "old");
}

static void test_an_older_backup_stays_until_then(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(write_file(rig, "f~", "older"), 0);
	assert_int_equal(write_file(rig, "f", "old"), 0);
	use_with(rig, "f f~ ", LATE_US, LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_requests(rig, 1, 0, 0, 0, 0);
	assert_stored(rig, "f", "old");
	assert_stored(rig, "f~", "older");
	rig_expire(rig);
	assert_lists(rig, "", "f~ ");
	assert_reads(rig, "f~", "old");
	assert_int_equal(write_file(rig, "f", "new"), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_stored(rig, "f", "new");
	assert_stored(rig, "f~", "old");
	/* and once more */
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_int_equal(remove_file(rig, "f~"), 0);
	assert_not_stored(rig, "f~");
	assert_not_stored(rig, "f");
	assert_lists(rig, "", "");
}

static void test_twice_in_a_row(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "one", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_int_equal(write_file(rig, "f", "two"), 0);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_stored(rig, "f", "two");
	assert_int_equal(write_file(rig, "f", "three"), 0);
	assert_reads(rig, "f~", "two");
	assert_int_equal(run(rig, op_end), 0);
	assert_stored(rig, "f", "three");
	assert_stored(rig, "f~", "two");
}

static void test_two_backups_of_one_name(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "one", LATE_US);
	assert_int_equal(rename_to(rig, "f", "a~"), 0);
	assert_int_equal(write_file(rig, "f", "two"), 0);
	assert_int_equal(rename_to(rig, "f", "b~"), 0);
	assert_stored(rig, "f", "two");
	assert_stored(rig, "a~", "one");
	assert_lists(rig, "", "a~ b~ ");
	assert_int_equal(run(rig, op_end), 0);
	assert_not_stored(rig, "f");
	assert_stored(rig, "b~", "two");
}

/* --- other clients --- */

static void test_a_foreign_change_that_was_not_seen_before_is_renamed(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", LATE_US);
	memstore_put(rig->ms, "f", "theirs");
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_reads(rig, "f~", "theirs");
	assert_int_equal(write_file(rig, "f", "new"), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_stored(rig, "f", "new");
	assert_stored(rig, "f~", "theirs");
}

static void test_a_foreign_change_of_the_key_stays(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	memstore_put(rig->ms, "f", "theirs");
	rig_expire(rig);
	assert_lists(rig, "", "f~ f ");
	assert_reads(rig, "f", "theirs");
	assert_int_equal(run(rig, op_sync), 0);
	assert_stored(rig, "f", "theirs");
	assert_stored(rig, "f~", "old");
}

static void test_a_foreign_change_that_was_not_seen_stays(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	memstore_put(rig->ms, "f", "theirs");
	assert_int_equal(run(rig, op_sync), 0);
	assert_stored(rig, "f", "theirs");
	assert_stored(rig, "f~", "old");
	rig_expire(rig);
	assert_lists(rig, "", "f~ f ");
}

static void test_a_foreign_removal_leaves_the_backup(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	memstore_remove(rig->ms, "f");
	rig_expire(rig);
	assert_lists(rig, "", "f~ ");
	assert_int_equal(run(rig, op_sync), 0);
	assert_not_stored(rig, "f");
	assert_stored(rig, "f~", "old");
}

/* --- while it is settled --- */

/* The old key is about to be deleted: who makes a file there comes after that. */
static void test_a_new_file_while_the_old_key_is_deleted(void **state)
{
	struct rig *rig = *state;
	struct call *sync, *create;
	struct fs_handle *handle;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_DELETE, .key = "f", .hold = MEMSTORE_HOLD_REQUEST });
	sync = begin(rig, op_sync);
	rig_until_held(rig, 1);
	create = begin(rig, op_create, .parent = FS_ROOT_ID, .name = "f", .mode = 0644, .flags = O_CREAT | O_WRONLY);
	rig_serve(rig, 10 * SOON_US);
	assert_false(create->done);
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(sync), 0);
	assert_int_equal(end(create), 0);
	handle = rig->handle;
	assert_int_equal(write_at(rig, handle, 0, "new"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "f", "new");
	assert_stored(rig, "f~", "old");
	assert_lists(rig, "", "f~ f ");
}

static void test_a_move_under_way_keeps_the_old_key(void **state)
{
	struct rig *rig = *state;
	struct call *move;

	use_f(rig, "old", LATE_US);
	temporary(rig, "sedXy12Zw", "new");
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_SET, .key = "f", .hold = MEMSTORE_HOLD_REPLY });
	move = begin(rig, op_rename, .parent = FS_ROOT_ID, .name = "sedXy12Zw", .new_parent = FS_ROOT_ID,
		     .new_name = "f");
	rig_until_held(rig, 1);
	assert_int_equal(close_file(rig, open_file(rig, "f~", O_RDWR)), 0); /* settles it */
	assert_stored(rig, "f~", "old");
	assert_stored(rig, "f", "new");
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(move), 0);
	assert_stored(rig, "f", "new");
	assert_lists(rig, "", "f~ f ");
}

static void test_an_answer_from_before_does_not_bring_it_back(void **state)
{
	struct rig *rig = *state;
	struct call *list;

	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	rig_expire(rig);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_RANGE, .hold = MEMSTORE_HOLD_REPLY });
	list = begin(rig, op_lookup, .parent = FS_ROOT_ID, .name = "f");
	rig_until_held(rig, 2);
	assert_int_equal(run(rig, op_sync), 0);
	assert_not_stored(rig, "f");
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(list), -ENOENT);
}

static void test_a_store_that_fails_for_a_while(void **state)
{
	struct rig *rig = *state;

	rig->config.retry_us = SOON_US;
	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .err = -EIO, .times = 3 });
	assert_int_equal(run(rig, op_sync), -EIO);
	assert_stored(rig, "f", "old");
	assert_reads(rig, "f~", "old");
	until_stored(rig, "f~");
	until_not_stored(rig, "f");
	assert_reads(rig, "f~", "old");
}

static void test_a_deletion_that_fails_is_repeated(void **state)
{
	struct rig *rig = *state;

	rig->config.retry_us = SOON_US;
	use_f(rig, "old", LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_DELETE, .err = -EIO, .times = 2 });
	assert_int_equal(run(rig, op_sync), -EIO);
	assert_lists(rig, "", "f~ ");
	until_not_stored(rig, "f");
	assert_stored(rig, "f~", "old");
}

/* --- attributes --- */

static void test_each_has_its_own_attributes(void **state)
{
	struct rig *rig = *state;

	make_file(rig, "f", 0600, "old");
	assert_int_equal(change_mtime(rig, "f", 1234567890123456789), 0);
	assert_int_equal(run(rig, op_sync), 0);
	use_with(rig, "f ", LATE_US, LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_requests(rig, 1, 0, 0, 0, 0);
	assert_int_equal(stat_of(rig, "f~").st_mode, S_IFREG | 0600);
	rig_expire(rig);
	make_file(rig, "f", 0640, "new");
	assert_int_equal(run(rig, op_end), 0);
	rig_restart(rig);
	assert_lists(rig, "", "f f~ ");
	assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0640);
	assert_int_equal(stat_of(rig, "f~").st_mode, S_IFREG | 0600);
	assert_int_equal(stat_of(rig, "f~").st_mtim.tv_sec, 1234567890);
	assert_int_not_equal(stat_of(rig, "f").st_mtim.tv_sec, 1234567890);
}

static void test_attributes_that_wait_go_before(void **state)
{
	struct rig *rig = *state;

	use_f(rig, "old", LATE_US);
	assert_int_equal(change_mode(rig, "f", 0600), 0);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_stored(rig, "f", "old");
	assert_int_equal(run(rig, op_end), 0);
	rig_restart(rig);
	assert_lists(rig, "", "f~ ");
	assert_int_equal(stat_of(rig, "f~").st_mode, S_IFREG | 0600);
	assert_not_stored(rig, ".hpkvfs/m/f");
}

/* Another may write the same in other words: the store's own merging of a PATCH does. */
static void test_removed_its_record_goes_whatever_it_says(void **state)
{
	struct rig *rig = *state;

	make_file(rig, "f", 0600, "old");
	use_with(rig, "f ", LATE_US, LATE_US);
	assert_stored(rig, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33152}");
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	memstore_put(rig->ms, ".hpkvfs/m/f", "{\"mode\":33152,\"v\":1}");
	assert_int_equal(remove_file(rig, "f~"), 0);
	assert_not_stored(rig, "f");
	assert_not_stored(rig, "f~");
	assert_not_stored(rig, ".hpkvfs/m/f");
	assert_not_stored(rig, ".hpkvfs/m/f~");
}

/* --- chunks --- */

static void test_chunks_stay_for_the_backup(void **state)
{
	struct rig *rig = *state;

	rig->config.grace_us = SOON_US;
	use_f(rig, big, LATE_US);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_int_equal(write_file(rig, "f", other), 0);
	rig_serve(rig, 50 * SOON_US); /* many times the grace */
	assert_reads(rig, "f~", big);
	assert_int_equal(run(rig, op_sync), 0);
	rig_restart(rig);
	assert_reads(rig, "f~", big);
	assert_reads(rig, "f", other);
}

static void test_chunks_go_with_the_backup(void **state)
{
	struct rig *rig = *state;
	size_t before;

	rig->config.grace_us = SOON_US;
	use_f(rig, big, LATE_US);
	before = rig_chunk_count(rig);
	assert_true(before > 4);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_int_equal(write_file(rig, "f", other), 0);
	assert_int_equal(rig_chunk_count(rig), 2 * before);
	assert_int_equal(remove_file(rig, "f~"), 0);
	while (rig_chunk_count(rig) != before)
		loop_once(rig->loop);
	rig_restart(rig);
	assert_reads(rig, "f", other);
}

/* The new content never came: the key has the old one for good. */
static void test_chunks_stay_for_the_key_when_the_backup_was_opened_late(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *made, *late;
	uint64_t id;

	rig->config.grace_us = SOON_US;
	use_f(rig, big, LATE_US);
	id = id_of(rig, "f");
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	made = open_file(rig, "f", O_WRONLY | O_CREAT);
	assert_int_equal(write_at(rig, made, 0, "new"), 0);
	assert_int_equal(remove_file(rig, "f~"), 0);
	assert_int_equal(run(rig, op_open, .id = id, .flags = O_RDONLY), 0);
	late = rig->handle;
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .key = "f", .err = -EIO, .times = 1 });
	assert_int_equal(close_file(rig, made), -EIO);
	assert_int_equal(close_file(rig, late), 0);
	rig_serve(rig, 50 * SOON_US);
	rig_restart(rig);
	assert_reads(rig, "f", big);
}

/* --- directories --- */

static void test_a_directory_that_is_renamed_settles_what_is_in_it(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "d", .mode = 0755), 0);
	assert_int_equal(write_file(rig, "d/f", "old"), 0);
	use_with(rig, "d/ ", LATE_US, LATE_US);
	assert_int_equal(run(rig, op_rename, .parent = id_of(rig, "d"), .name = "f", .new_parent = id_of(rig, "d"),
			     .new_name = "f~"),
			 0);
	assert_stored(rig, "d/f", "old");
	assert_int_equal(run(rig, op_rmdir, .parent = FS_ROOT_ID, .name = "d"), -ENOTEMPTY);
	assert_int_equal(rename_to(rig, "d", "e"), 0);
	assert_stored(rig, "e/f~", "old");
	assert_not_stored(rig, "d/f");
	assert_not_stored(rig, "e/f");
	assert_lists(rig, "e", "f~ ");
}

static void test_not_across_directories_nor_while_it_is_written(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	use_f(rig, "old", LATE_US);
	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "d", .mode = 0755), 0);
	handle = open_file(rig, "f", O_WRONLY);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	assert_stored(rig, "f~", "old");
	assert_not_stored(rig, "f");
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(run(rig, op_rename, .parent = FS_ROOT_ID, .name = "f~", .new_parent = id_of(rig, "d"),
			     .new_name = "g~"),
			 0);
	assert_stored(rig, "d/g~", "old");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		waiting_test(test_a_save_of_vim_is_one_set),
		waiting_test(test_the_key_is_never_absent_nor_empty),
		waiting_test(test_what_others_read_is_hidden_here),
		waiting_test(test_it_is_settled_after_a_while),
		waiting_test(test_a_backup_that_stays_is_stored_behind_the_new_content),
		waiting_test(test_what_settles_it),
		waiting_test(test_back_again_sends_nothing),
		waiting_test(test_back_over_the_new_file),
		waiting_test(test_another_name_still),
		waiting_test(test_removed_without_a_new_file),
		waiting_test(test_removed_before_the_new_file_is_closed),
		waiting_test(test_both_removed),
		waiting_test(test_a_file_that_is_moved_there_replaces_it),
		waiting_test(test_an_older_backup_stays_until_then),
		waiting_test(test_twice_in_a_row),
		waiting_test(test_two_backups_of_one_name),
		waiting_test(test_a_foreign_change_that_was_not_seen_before_is_renamed),
		waiting_test(test_a_foreign_change_of_the_key_stays),
		waiting_test(test_a_foreign_change_that_was_not_seen_stays),
		waiting_test(test_a_foreign_removal_leaves_the_backup),
		waiting_test(test_a_new_file_while_the_old_key_is_deleted),
		waiting_test(test_a_move_under_way_keeps_the_old_key),
		waiting_test(test_an_answer_from_before_does_not_bring_it_back),
		waiting_test(test_a_store_that_fails_for_a_while),
		waiting_test(test_a_deletion_that_fails_is_repeated),
		waiting_test(test_each_has_its_own_attributes),
		waiting_test(test_attributes_that_wait_go_before),
		waiting_test(test_removed_its_record_goes_whatever_it_says),
		waiting_test(test_chunks_stay_for_the_backup),
		waiting_test(test_chunks_go_with_the_backup),
		waiting_test(test_chunks_stay_for_the_key_when_the_backup_was_opened_late),
		waiting_test(test_a_directory_that_is_renamed_settles_what_is_in_it),
		waiting_test(test_not_across_directories_nor_while_it_is_written),
	};

	memset(big, 'a', sizeof(big) - 1);
	memset(other, 'b', sizeof(other) - 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
