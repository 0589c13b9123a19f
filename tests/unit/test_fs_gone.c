/* What is removed or replaced here while a program is about to use it. */
#include "fs_rig.h"

#include "fs/internal.h"

/* Opened while the removal waits for its turn, and then driven out of memory by other files. */
static void what_was_opened_before_the_removal_is_read(void **state)
{
	struct rig *rig = *state;

	for (int replaced = 0; replaced < 2; replaced++) {
		struct fs_attr_change change = { .set_mode = true, .mode = 0600 };
		struct fs_handle *handle;
		struct call *chmod, *removal;
		struct node *node;

		assert_int_equal(write_file(rig, "a", "content"), 0);
		assert_int_equal(write_file(rig, "b", "other"), 0);
		node = node_find(rig->fs, id_of(rig, "a"));
		assert_int_equal(run(rig, op_setattr, .id = node->id, .change = change), 0);
		memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_PATCH, .hold = MEMSTORE_HOLD_REPLY });
		chmod = begin(rig, op_sync);
		rig_until_held(rig, 1);
		if (replaced)
			removal = begin(rig, op_rename, .parent = FS_ROOT_ID, .name = "b", .new_parent = FS_ROOT_ID,
					.new_name = "a");
		else
			removal = begin(rig, op_unlink, .parent = FS_ROOT_ID, .name = "a");
		assert_int_equal(run(rig, op_open, .id = node->id, .flags = O_RDONLY), 0);
		handle = rig->handle;
		value_drop(node);
		memstore_clear_faults(rig->ms);
		memstore_release(rig->ms);
		assert_int_equal(end(chmod), 0);
		assert_int_equal(end(removal), 0);
		assert_int_equal(read_handle(rig, handle), 0);
		assert_string_equal(rig->out.p, "content");
		assert_int_equal(close_file(rig, handle), 0);
	}
}

/* The kernel looks a name up once more after an ESTALE, and tells the program of the next: the first comes when the name is no
 * more the file's. */
static void what_is_removed_is_stale_when_its_name_is_gone(void **state)
{
	struct rig *rig = *state;
	struct fs_attr_change change = { .set_mode = true, .mode = 0600 };
	struct call *removal, *open;
	struct node *node;

	assert_int_equal(write_file(rig, "a", "content"), 0);
	node = node_find(rig->fs, id_of(rig, "a"));
	assert_int_equal(run(rig, op_setattr, .id = node->id, .change = change), 0);
	assert_int_equal(run(rig, op_sync), 0);
	value_drop(node);
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_DELETE, .key = ".hpkvfs/m/a", .hold = MEMSTORE_HOLD_REPLY });
	removal = begin(rig, op_unlink, .parent = FS_ROOT_ID, .name = "a");
	rig_until_held(rig, 1);
	open = begin(rig, op_open, .id = node->id, .flags = O_RDONLY);
	rig_serve(rig, 1000);
	assert_false(open->done);
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(removal), 0);
	assert_int_equal(end(open), -ESTALE);
	assert_int_equal(look(rig, "a"), -ENOENT);
}

/* Who has found the name changes what it was, as on any disk: no ESTALE. */
static void what_is_removed_while_it_is_asked_for_can_be_changed(void **state)
{
	struct rig *rig = *state;

	for (int is_dir = 0; is_dir < 2; is_dir++) {
		struct fs_attr_change change = { .set_mode = true, .mode = 0700 };
		struct call *chmod;
		uint64_t id;

		if (is_dir)
			assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "a", .mode = 0755), 0);
		else
			assert_int_equal(write_file(rig, "a", "content"), 0);
		id = id_of(rig, "a");
		rig_expire(rig);
		memstore_add_fault(
			rig->ms, (struct memstore_fault){ .op = STORE_GET, .times = 1, .hold = MEMSTORE_HOLD_REQUEST });
		chmod = begin(rig, op_setattr, .id = id, .change = change);
		rig_until_held(rig, 1);
		memstore_clear_faults(rig->ms);
		assert_int_equal(run(rig, is_dir ? op_rmdir : op_unlink, .parent = FS_ROOT_ID, .name = "a"), 0);
		memstore_release(rig->ms);
		assert_int_equal(end(chmod), 0);
		assert_int_equal(run(rig, op_setattr, .id = id, .change = change), 0);
		assert_int_equal(run(rig, op_sync), 0);
		assert_not_stored(rig, "a");
		assert_not_stored(rig, ".hpkvfs/m/a");
		assert_not_stored(rig, ".hpkvfs/m/a/");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fs_test(what_was_opened_before_the_removal_is_read),
		fs_test(what_is_removed_is_stale_when_its_name_is_gone),
		fs_test(what_is_removed_while_it_is_asked_for_can_be_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
