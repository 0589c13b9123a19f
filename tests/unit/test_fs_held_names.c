/* Backups again: what the store has under their two names meanwhile, and with which records. */
#include "push_rig.h"
#include "waiting_rig.h"

/* The new file was there, and is no more: neither is what the store had under the old name. */
static void back_after_the_new_file(void **state)
{
	struct rig *rig = *state;

	for (int moved = 0; moved < 2; moved++) {
		make_file(rig, "f", 0600, "old");
		use_with(rig, "f ", LATE_US, LATE_US);
		assert_int_equal(rename_to(rig, "f", "f~"), 0);
		assert_int_equal(write_file(rig, "f", "new"), 0);
		assert_int_equal(moved ? rename_to(rig, "f", "g") : remove_file(rig, "f"), 0);
		assert_int_equal(rename_to(rig, "f~", "f"), 0);
		assert_reads(rig, "f", "old");
		assert_int_equal(run(rig, op_end), 0);
		assert_stored(rig, "f", "old");
		assert_not_stored(rig, "f~");
		assert_not_stored(rig, ".hpkvfs/m/f~");
		assert_int_equal(fresh_stat(rig, "f").st_mode, S_IFREG | 0600);
		assert_int_equal(remove_file(rig, "f"), 0);
		if (moved)
			assert_int_equal(remove_file(rig, "g"), 0);
		assert_int_equal(memstore_size(rig->ms), 1);
		use_with(rig, "", LATE_US, LATE_US);
	}
}

/* What the store has under the backup's name is another file's, which waits itself. */
static void a_backup_in_the_place_of_one_that_was_moved(void **state)
{
	struct rig *rig = *state;

	for (int removed = 0; removed < 2; removed++) {
		make_file(rig, "f~", 0600, "older");
		make_file(rig, "f", 0644, "old");
		use_with(rig, "f f~ ", LATE_US, LATE_US);
		assert_int_equal(rename_to(rig, "f~", "g~"), 0);
		assert_int_equal(rename_to(rig, "f", "f~"), 0);
		assert_stored(rig, "f~", "old"); /* at once: only one can wait for a name */
		if (removed)
			assert_int_equal(remove_file(rig, "f~"), 0);
		assert_int_equal(run(rig, op_end), 0);
		assert_stored(rig, "g~", "older");
		assert_int_equal(fresh_stat(rig, "g~").st_mode, S_IFREG | 0600);
		if (!removed) {
			assert_stored(rig, "f~", "old");
			assert_int_equal(fresh_stat(rig, "f~").st_mode, S_IFREG | 0644);
			assert_int_equal(remove_file(rig, "f~"), 0);
		}
		assert_int_equal(remove_file(rig, "g~"), 0);
		assert_int_equal(memstore_size(rig->ms), 1);
		use_with(rig, "", LATE_US, LATE_US);
	}
}

static void the_backup_does_not_wear_what_was_left_over(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, ".hpkvfs/m/f~", "{\"v\":1,\"mode\":33152}");
	for (int back = 0; back < 2; back++) {
		assert_int_equal(write_file(rig, "f", "old"), 0);
		use_with(rig, "f ", LATE_US, LATE_US);
		assert_int_equal(rename_to(rig, "f", "f~"), 0);
		if (back) {
			assert_int_equal(rename_to(rig, "f~", "f"), 0);
			assert_int_equal(rename_to(rig, "f", "f~"), 0);
		}
		assert_int_equal(run(rig, op_sync), 0);
		assert_stored(rig, "f~", "old");
		assert_not_stored(rig, ".hpkvfs/m/f~");
		assert_int_equal(remove_file(rig, "f~"), 0);
		memstore_put(rig->ms, ".hpkvfs/m/f~", "{\"v\":1,\"mode\":33152}");
		use_with(rig, "", LATE_US, LATE_US);
	}
}

/* A listing that was asked before is answered after it, and does not know the record yet. */
static void a_listing_meanwhile_does_not_forget_the_record(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *root;
	struct call *list;

	assert_int_equal(write_file(rig, "f~", "older"), 0);
	assert_int_equal(write_file(rig, "f", "old"), 0);
	use_with(rig, "f f~ ", LATE_US, LATE_US);
	rig_expire(rig);
	assert_int_equal(fs_opendir(rig->fs, FS_ROOT_ID, &root), 0);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_RANGE, .times = 2, .hold = MEMSTORE_HOLD_REPLY });
	list = begin(rig, op_readdir, .handle = root);
	rig_until_held(rig, 2);
	memstore_clear_faults(rig->ms);
	assert_int_equal(change_mode(rig, "f", 0600), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_int_equal(rename_to(rig, "f", "f~"), 0);
	memstore_release(rig->ms);
	assert_int_equal(end(list), 0);
	fs_releasedir(root);
	assert_int_equal(write_file(rig, "f", "new"), 0);
	assert_int_equal(run(rig, op_end), 0);
	assert_int_equal(fresh_stat(rig, "f").st_mode, S_IFREG | 0644);
	assert_int_equal(fresh_stat(rig, "f~").st_mode, S_IFREG | 0600);
	assert_int_equal(remove_file(rig, "f"), 0);
	assert_int_equal(remove_file(rig, "f~"), 0);
	assert_int_equal(memstore_size(rig->ms), 1);
}

/* It is hidden by the backup, and goes with it; its record is none of the backup's. */
static void what_another_sets_under_the_backups_name(void **state)
{
	struct rig *rig = *state;

	for (int way = 0; way < 6; way++) {
		bool told = way % 2;

		assert_int_equal(write_file(rig, "f", "old"), 0);
		use_with(rig, "f ", LATE_US, LATE_US);
		if (told)
			push_begin(rig);
		assert_int_equal(rename_to(rig, "f", "f~"), 0);
		memstore_put(rig->ms, "f~", "theirs");
		memstore_put(rig->ms, ".hpkvfs/m/f~", "{\"v\":1,\"mode\":33152}");
		push_settle(rig);
		rig_expire(rig);
		assert_lists(rig, "", "f~ ");
		assert_reads(rig, "f~", "old");
		assert_int_equal(stat_of(rig, "f~").st_mode, S_IFREG | 0644);
		if (way / 2 == 0) {
			assert_int_equal(run(rig, op_sync), 0);
			assert_stored(rig, "f~", "old");
			assert_int_equal(stat_of(rig, "f~").st_mode, S_IFREG | 0644);
			assert_not_stored(rig, ".hpkvfs/m/f~");
		} else if (way / 2 == 1) {
			assert_int_equal(rename_to(rig, "f~", "f"), 0);
			assert_reads(rig, "f", "old");
			assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0644);
			assert_int_equal(rename_to(rig, "f", "f~"), 0);
		}
		assert_int_equal(remove_file(rig, "f~"), 0);
		assert_lists(rig, "", "");
		assert_int_equal(memstore_size(rig->ms), 1);
		if (told)
			push_end(rig);
		use_with(rig, "", LATE_US, LATE_US);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		waiting_test(back_after_the_new_file),
		waiting_test(a_backup_in_the_place_of_one_that_was_moved),
		waiting_test(the_backup_does_not_wear_what_was_left_over),
		waiting_test(a_listing_meanwhile_does_not_forget_the_record),
		waiting_test(what_another_sets_under_the_backups_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
