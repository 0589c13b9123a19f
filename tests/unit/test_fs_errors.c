/* Servers that fail: no error becomes "absent", "empty" or "done". */
#include "fs_rig.h"

static const int server_errors[] = { -ETIMEDOUT, -EIO, -EACCES, -EINVAL, -EPROTO };
#define ERRORS (sizeof(server_errors) / sizeof(*server_errors))

static void fail_all(struct rig *rig, enum store_op op, int err)
{
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = op, .err = err });
}

/* --- reading --- */

static void a_failed_lookup_is_never_absent(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "1");
	memstore_put(rig->ms, "d/f", "2");
	for (size_t i = 0; i < ERRORS; i++) {
		for (unsigned hit = 0; hit < 2; hit++) { /* the range of values, the range of records */
			rig_restart(rig);
			memstore_add_fault(
				rig->ms, (struct memstore_fault){
						 .op = STORE_RANGE, .pass = hit, .times = 1, .err = server_errors[i] });
			assert_int_equal(look(rig, "f"), server_errors[i]);
			assert_int_equal(look(rig, "f"), 0); /* and no memory of it */
			assert_int_equal(look(rig, "none"), -ENOENT);
			memstore_clear_faults(rig->ms);
		}
	}
}

static void a_failed_listing_is_never_empty(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	uint64_t dir;

	memstore_put(rig->ms, "d/f", "1");
	for (size_t i = 0; i < ERRORS; i++) {
		rig_restart(rig);
		dir = id_of(rig, "d");
		fail_all(rig, STORE_RANGE, server_errors[i]);
		assert_int_equal(fs_opendir(rig->fs, dir, &handle), 0);
		assert_int_equal(run(rig, op_readdir, .handle = handle), server_errors[i]);
		memstore_clear_faults(rig->ms);
		assert_int_equal(run(rig, op_readdir, .handle = handle), 0);
		assert_string_equal(rig->out.p, "f ");
		rig_expire(rig);
		fail_all(rig, STORE_RANGE, server_errors[i]);
		assert_int_equal(run(rig, op_readdir, .handle = handle), server_errors[i]);
		memstore_clear_faults(rig->ms);
		fs_releasedir(handle);
	}
}

/* The key of the directory's own name. */
static void a_failed_question_for_a_directorys_value(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	uint64_t dir;

	memstore_put(rig->ms, "d", "value");
	memstore_put(rig->ms, "d/f", "1");
	dir = id_of(rig, "d");
	assert_lists(rig, "d", "%= f ");
	rig_expire(rig);
	assert_int_equal(fs_opendir(rig->fs, dir, &handle), 0);
	fail_all(rig, STORE_GET, -ETIMEDOUT);
	assert_int_equal(run(rig, op_readdir, .handle = handle), -ETIMEDOUT);
	memstore_clear_faults(rig->ms);
	assert_int_equal(run(rig, op_readdir, .handle = handle), 0);
	assert_string_equal(rig->out.p, "%= f ");
	fs_releasedir(handle);
}

static void a_failed_refresh_keeps_the_file(void **state)
{
	struct rig *rig = *state;
	uint64_t file, dir;

	memstore_put(rig->ms, "f", "1");
	memstore_put(rig->ms, ".hpkvfs/m/d/", "{\"v\":1}");
	file = id_of(rig, "f");
	dir = id_of(rig, "d");
	for (size_t i = 0; i < ERRORS; i++) {
		rig_expire(rig);
		memstore_add_fault(rig->ms, (struct memstore_fault){ .any = true, .err = server_errors[i] });
		assert_int_equal(run(rig, op_getattr, .id = file), server_errors[i]);
		assert_int_equal(run(rig, op_getattr, .id = dir), server_errors[i]);
		assert_int_equal(run(rig, op_open, .id = file), server_errors[i]);
		assert_int_equal(look(rig, "f"), server_errors[i]);
		memstore_clear_faults(rig->ms);
		assert_reads(rig, "f", "1");
		assert_int_equal(id_of(rig, "f"), file);
		assert_int_equal(id_of(rig, "d"), dir);
	}
}

static void a_failed_lookup_in_a_large_directory(void **state)
{
	struct rig *rig = *state;
	char key[32];

	for (int i = 0; i < 1200; i++) {
		snprintf(key, sizeof(key), "f%04d", i);
		memstore_put(rig->ms, key, key);
	}
	id_of(rig, "f0000");
	for (unsigned hit = 0; hit < 4; hit++) {
		memstore_add_fault(rig->ms,
				   (struct memstore_fault){ .any = true, .pass = hit, .times = 1, .err = -ETIMEDOUT });
		assert_int_equal(look(rig, "f1150"), -ETIMEDOUT);
		memstore_clear_faults(rig->ms);
	}
	assert_int_equal(look(rig, "f1150"), 0);
	assert_int_equal(look(rig, "none"), -ENOENT);
}

/* Of a file that is known already: its value, its record and the keys below it. */
static void a_failed_refresh_in_a_large_directory(void **state)
{
	struct rig *rig = *state;
	uint64_t file;

	put_numbered(rig, "f%04d", 1200);
	memstore_put(rig->ms, ".hpkvfs/m/f1150", "{\"v\":1,\"mode\":33152}");
	file = id_of(rig, "f1150");
	for (unsigned hit = 0; hit < 3; hit++) {
		rig_expire(rig);
		memstore_add_fault(rig->ms,
				   (struct memstore_fault){ .any = true, .pass = hit, .times = 1, .err = -ETIMEDOUT });
		assert_int_equal(run(rig, op_getattr, .id = file), -ETIMEDOUT);
		memstore_clear_faults(rig->ms);
		assert_int_equal(run(rig, op_getattr, .id = file), 0);
	}
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
}

static void garbage_pages_are_errors(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "d/a", "1");
	memstore_put(rig->ms, "f", "1");
	for (int kind = MEMSTORE_EMPTY_TRUNCATED; kind <= MEMSTORE_NO_ADVANCE; kind++) {
		rig_restart(rig);
		memstore_add_fault(
			rig->ms, (struct memstore_fault){ .op = STORE_RANGE, .garbage = (enum memstore_garbage)kind });
		assert_int_equal(look(rig, "f"), -EIO);
		assert_int_equal(list_dir(rig, ""), -EIO);
		assert_true(memstore_requests(rig->ms) < 30); /* and the server is not asked for ever */
		memstore_clear_faults(rig->ms);
		assert_int_equal(look(rig, "f"), 0);
	}
}

static void an_unlink_or_mkdir_behind_a_failed_lookup(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "1");
	fail_all(rig, STORE_RANGE, -ETIMEDOUT);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), -ETIMEDOUT);
	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "d", .mode = 0755), -ETIMEDOUT);
	assert_int_equal(run(rig, op_create, .parent = FS_ROOT_ID, .name = "f", .mode = 0644, .flags = O_WRONLY),
			 -ETIMEDOUT);
	assert_int_equal(
		run(rig, op_rename, .parent = FS_ROOT_ID, .name = "f", .new_parent = FS_ROOT_ID, .new_name = "g"),
		-ETIMEDOUT);
	assert_stored(rig, "f", "1");
	assert_int_equal(memstore_size(rig->ms), 1);
}

/* --- commits that fail --- */

static void a_failed_commit_leaves_the_old_content(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	uint64_t id;

	memstore_put(rig->ms, "f", "old");
	id = id_of(rig, "f");
	for (size_t i = 0; i < ERRORS; i++) {
		handle = open_file(rig, "f", O_WRONLY | O_TRUNC);
		assert_int_equal(write_at(rig, handle, 0, "much longer"), 0);
		fail_all(rig, STORE_SET, server_errors[i]);
		rig_notes_clear(rig);
		assert_int_equal(run(rig, op_flush, .handle = handle), server_errors[i]);
		assert_true(rig_was_expired(rig, FS_ROOT_ID, "f"));
		assert_true(rig_was_invalidated(rig, id));
		memstore_clear_faults(rig->ms);
		assert_int_equal(run(rig, op_flush, .handle = handle), 0); /* it was told once */
		assert_int_equal(run(rig, op_release, .handle = handle), 0);
		assert_stored(rig, "f", "old");
		assert_int_equal(run(rig, op_getattr, .id = id), 0);
		assert_int_equal(rig->entry.st.st_size, 3);
		assert_reads(rig, "f", "old");
	}
}

static void a_failed_commit_takes_its_time_back(void **state)
{
	struct rig *rig = *state;
	int64_t before;
	uint64_t id;

	rig_use_state(rig);
	rig_restart(rig);
	memstore_put(rig->ms, "f", "old");
	id = id_of(rig, "f");
	before = rig->entry.st.st_mtim.tv_nsec;
	fail_all(rig, STORE_SET, -EACCES);
	assert_int_equal(write_file(rig, "f", "new"), -EACCES);
	assert_int_equal(run(rig, op_getattr, .id = id), 0);
	assert_int_equal(rig->entry.st.st_mtim.tv_nsec, before);
}

static void a_file_that_was_never_stored_vanishes(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_file(rig, "f", O_RDWR | O_CREAT);
	uint64_t id = id_of(rig, "f");

	assert_int_equal(write_at(rig, handle, 0, "x"), 0);
	fail_all(rig, STORE_SET, -EINVAL);
	rig_notes_clear(rig);
	assert_int_equal(run(rig, op_fsync, .handle = handle), -EINVAL);
	assert_true(rig_was_expired(rig, FS_ROOT_ID, "f"));
	assert_int_equal(look(rig, "f"), -ENOENT);
	assert_lists(rig, "", "");
	assert_int_equal(read_handle(rig, handle), -ESTALE);
	assert_int_equal(write_at(rig, handle, 0, "y"), -ESTALE);
	assert_int_equal(run(rig, op_getattr, .id = id), 0);
	assert_int_equal(rig->entry.st.st_nlink, 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(memstore_size(rig->ms), 0);
}

/* The server stored it and the answer was lost on the way: it is asked what it has. */
static void a_commit_of_unknown_outcome_is_read_again(void **state)
{
	struct rig *rig = *state;

	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .err = -ETIMEDOUT, .after = true });
	assert_int_equal(write_file(rig, "f", "x"), -ETIMEDOUT);
	memstore_clear_faults(rig->ms);
	assert_reads(rig, "f", "x");
}

/* --- lost connections --- */

static void a_lost_set_is_repeated_where_the_old_value_stands(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "old");
	id_of(rig, "f");
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .times = 1, .err = -ECONNRESET });
	memstore_log_clear(rig->ms);
	assert_int_equal(write_file(rig, "f", "new"), 0);
	assert_requests(rig, 1, 2, 0, 0, 0);
	assert_stored(rig, "f", "new");

	memstore_clear_faults(rig->ms);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .times = 1, .err = -ECONNRESET });
	assert_int_equal(write_file(rig, "created", "new"), 0);
	assert_stored(rig, "created", "new");
}

static void a_lost_set_that_arrived_is_not_repeated(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "old");
	id_of(rig, "f");
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_SET, .times = 1, .err = -ECONNRESET, .after = true });
	memstore_log_clear(rig->ms);
	assert_int_equal(write_file(rig, "f", "new"), 0);
	assert_requests(rig, 1, 1, 0, 0, 0);
	assert_stored(rig, "f", "new");
}

static void write_third(void *arg)
{
	memstore_put(arg, "f", "a third value");
}

static void a_lost_set_does_not_overwrite_a_third_value(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "old");
	id_of(rig, "f");
	memstore_add_fault(
		rig->ms,
		(struct memstore_fault){ .op = STORE_SET, .err = -ECONNRESET, .arrived = write_third, .arg = rig->ms });
	assert_int_equal(write_file(rig, "f", "new"), -EIO);
	assert_stored(rig, "f", "a third value");
	assert_reads(rig, "f", "a third value");
}

/* The same for a file that was created here: it is there now, by another. */
static void a_lost_create_that_met_another(void **state)
{
	struct rig *rig = *state;

	memstore_add_fault(
		rig->ms,
		(struct memstore_fault){ .op = STORE_SET, .err = -ECONNRESET, .arrived = write_third, .arg = rig->ms });
	assert_int_equal(write_file(rig, "f", "new"), -EIO);
	assert_reads(rig, "f", "a third value");
}

static void a_connection_lost_again_and_again(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "old");
	id_of(rig, "f");
	fail_all(rig, STORE_SET, -ECONNRESET);
	assert_int_equal(write_file(rig, "f", "new"), -EIO);
	memstore_clear_faults(rig->ms);
	assert_reads(rig, "f", "old");
}

static void a_lost_delete(void **state)
{
	struct rig *rig = *state;

	for (int after = 0; after < 2; after++) {
		memstore_put(rig->ms, "f", "old");
		rig_restart(rig);
		memstore_add_fault(
			rig->ms,
			(struct memstore_fault){ .op = STORE_DELETE, .times = 1, .err = -ECONNRESET, .after = after });
		id_of(rig, "f");
		memstore_log_clear(rig->ms);
		assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
		assert_requests(rig, 1, 0, 0, after ? 1 : 2, 0);
		assert_not_stored(rig, "f");
		memstore_clear_faults(rig->ms);
	}
	memstore_put(rig->ms, "f", "old");
	rig_restart(rig);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){
				   .op = STORE_DELETE, .err = -ECONNRESET, .arrived = write_third, .arg = rig->ms });
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), -EIO);
	assert_reads(rig, "f", "a third value");
}

static void a_delete_that_finds_nothing_is_absent(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "old");
	id_of(rig, "f");
	memstore_remove(rig->ms, "f");
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), -ENOENT);
	assert_int_equal(look(rig, "f"), -ENOENT);
}

static void a_failed_delete_keeps_the_file(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "old");
	id_of(rig, "f");
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_DELETE, .times = 1, .err = -ETIMEDOUT });
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), -ETIMEDOUT);
	assert_reads(rig, "f", "old");
	memstore_clear_faults(rig->ms);
	/* it may have arrived all the same */
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_DELETE, .times = 1, .err = -ETIMEDOUT, .after = true });
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), -ETIMEDOUT);
	assert_int_equal(look(rig, "f"), -ENOENT);
}

static void a_lost_append(void **state)
{
	struct rig *rig = *state;

	for (int after = 0; after < 2; after++) {
		memstore_put(rig->ms, "log", "1");
		rig_restart(rig);
		id_of(rig, "log");
		memstore_add_fault(
			rig->ms,
			(struct memstore_fault){ .op = STORE_PATCH, .times = 1, .err = -ECONNRESET, .after = after });
		assert_int_equal(append_file(rig, "log", "2"), 0);
		assert_stored(rig, "log", "12");
		memstore_clear_faults(rig->ms);
	}
	/* where it cannot be told, it is reported, not repeated */
	rig_restart(rig);
	id_of(rig, "log");
	memstore_put(rig->ms, "log", "12foreign");
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_PATCH, .err = -ECONNRESET, .after = true });
	assert_int_equal(append_file(rig, "log", "3"), -EIO);
	assert_int_equal(memstore_count(rig->ms, STORE_PATCH), 1);
	assert_reads(rig, "log", "12foreign3");
}

static void a_rename_that_fails_at_each_step(void **state)
{
	static const struct {
		enum store_op op;
		bool old_stays, new_there;
	} steps[] = {
		{ STORE_SET, true, false },
		{ STORE_GET, true, true },
		{ STORE_DELETE, true, true },
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		memstore_put(rig->ms, "a", "content");
		if (memstore_value(rig->ms, "b"))
			memstore_remove(rig->ms, "b");
		rig_restart(rig);
		id_of(rig, "a");
		fail_all(rig, steps[i].op, -ETIMEDOUT);
		assert_int_equal(run(rig, op_rename, .parent = FS_ROOT_ID, .name = "a", .new_parent = FS_ROOT_ID,
				     .new_name = "b"),
				 -ETIMEDOUT);
		memstore_clear_faults(rig->ms);
		assert_reads(rig, "a", "content");
		assert_int_equal(look(rig, "b"), steps[i].new_there ? 0 : -ENOENT);
	}
}

static void a_mkdir_of_unknown_outcome_is_looked_for(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(look(rig, "d"), -ENOENT);
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_SET, .key = ".hpkvfs/m/d/", .err = -ETIMEDOUT, .after = true });
	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "d", .mode = 0755), -ETIMEDOUT);
	assert_int_equal(look(rig, "d"), 0);
}

static void an_rmdir_that_cannot_look_removes_nothing(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, ".hpkvfs/m/d/", "{\"v\":1}");
	id_of(rig, "d");
	fail_all(rig, STORE_RANGE, -ETIMEDOUT);
	assert_int_equal(run(rig, op_rmdir, .parent = FS_ROOT_ID, .name = "d"), -ETIMEDOUT);
	memstore_clear_faults(rig->ms);
	fail_all(rig, STORE_GET, -ETIMEDOUT);
	assert_int_equal(run(rig, op_rmdir, .parent = FS_ROOT_ID, .name = "d"), -ETIMEDOUT);
	assert_stored(rig, ".hpkvfs/m/d/", "{\"v\":1}");
}

static void a_start_without_an_answer_fails(void **state)
{
	struct rig *rig = *state;

	for (size_t i = 0; i < ERRORS; i++) {
		fail_all(rig, STORE_GET, server_errors[i]);
		assert_int_equal(run(rig, op_start), server_errors[i]);
		memstore_clear_faults(rig->ms);
	}
	assert_int_equal(run(rig, op_start), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fs_test(a_failed_lookup_is_never_absent),
		fs_test(a_failed_listing_is_never_empty),
		fs_test(a_failed_question_for_a_directorys_value),
		fs_test(a_failed_refresh_keeps_the_file),
		fs_test(a_failed_lookup_in_a_large_directory),
		fs_test(a_failed_refresh_in_a_large_directory),
		fs_test(garbage_pages_are_errors),
		fs_test(an_unlink_or_mkdir_behind_a_failed_lookup),
		fs_test(a_failed_commit_leaves_the_old_content),
		fs_test(a_failed_commit_takes_its_time_back),
		fs_test(a_file_that_was_never_stored_vanishes),
		fs_test(a_commit_of_unknown_outcome_is_read_again),
		fs_test(a_lost_set_is_repeated_where_the_old_value_stands),
		fs_test(a_lost_set_that_arrived_is_not_repeated),
		fs_test(a_lost_set_does_not_overwrite_a_third_value),
		fs_test(a_lost_create_that_met_another),
		fs_test(a_connection_lost_again_and_again),
		fs_test(a_lost_delete),
		fs_test(a_delete_that_finds_nothing_is_absent),
		fs_test(a_failed_delete_keeps_the_file),
		fs_test(a_lost_append),
		fs_test(a_rename_that_fails_at_each_step),
		fs_test(a_mkdir_of_unknown_outcome_is_looked_for),
		fs_test(an_rmdir_that_cannot_look_removes_nothing),
		fs_test(a_start_without_an_answer_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
