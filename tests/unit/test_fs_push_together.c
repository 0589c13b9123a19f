/* A subscription that is found again while many directories are in use: one look at the whole store takes the place of a look at each
 * of them. */
#include "push_rig.h"

#include "fs/internal.h"

#define DIRS 12

static void put_dirs(struct rig *rig, int files)
{
	char key[32];

	for (int dir = 0; dir < DIRS; dir++) {
		for (int file = 0; file < files; file++) {
			snprintf(key, sizeof(key), "d%02d/f%04d", dir, file);
			memstore_put(rig->ms, key, "1");
		}
	}
	push_settle(rig);
}

static void list_dirs(struct rig *rig)
{
	char path[8];

	for (int dir = 0; dir < DIRS; dir++) {
		snprintf(path, sizeof(path), "d%02d", dir);
		assert_int_equal(list_dir(rig, path), 0);
	}
}

static void few_requests_for_many_directories(void **state)
{
	struct rig *rig = *state;
	uint64_t file;

	put_dirs(rig, 2);
	memstore_put(rig->ms, ".hpkvfs/m/d09/", "{\"v\":1,\"mode\":16832}");
	list_dirs(rig);
	file = id_of(rig, "d00/f0000");
	push_end(rig);
	memstore_put(rig->ms, "d00/f0000", "changed");
	memstore_put(rig->ms, "d07/new", "new");
	memstore_remove(rig->ms, "d08/f0001");
	memstore_put(rig->ms, ".hpkvfs/m/d09/", "{\"v\":1,\"mode\":16888}");
	memstore_put(rig->ms, ".hpkvfs/m/d09/f0001", "{\"v\":1,\"mode\":33152}");
	memstore_put(rig->ms, ".hpkvfs/m/d10/link", "{\"v\":1,\"mode\":41471,\"target\":\"a\"}");
	rig_notes_clear(rig);
	memstore_log_clear(rig->ms);
	push_begin(rig);
	assert_requests(rig, 0, 0, 0, 0, 2); /* the values and the records */
	assert_true(rig_was_invalidated(rig, file));
	assert_reads(rig, "d00/f0000", "changed");
	assert_reads(rig, "d07/new", "new");
	assert_lists(rig, "d08", "f0000 ");
	assert_int_equal(push_node(rig, "d09")->mode, S_IFDIR | 0770);
	assert_int_equal(push_node(rig, "d09/f0001")->mode, S_IFREG | 0600);
	assert_int_equal(look(rig, "d10/link"), 0);
	assert_true(S_ISLNK(rig->entry.st.st_mode));
	assert_no_requests(rig);
}

/* Then each is asked for by itself, and of the store little was read in vain. */
static void a_store_that_is_much_larger_is_not_read_whole(void **state)
{
	struct rig *rig = *state;

	put_numbered(rig, "other/f%05d", 4000);
	put_dirs(rig, 1);
	list_dirs(rig);
	push_end(rig);
	memstore_put(rig->ms, "d11/f0000", "changed");
	memstore_log_clear(rig->ms);
	push_begin(rig);
	assert_true(memstore_requests(rig->ms) >= 2 * DIRS);
	assert_true(memstore_requests(rig->ms) <= 3 * DIRS + 20);
	memstore_log_clear(rig->ms);
	assert_reads(rig, "d11/f0000", "changed");
	assert_no_requests(rig);
}

static void what_is_changed_here_meanwhile_stays(void **state)
{
	struct rig *rig = *state;
	struct call *call;

	put_dirs(rig, 2);
	list_dirs(rig);
	push_end(rig);
	memstore_put(rig->ms, "d00/theirs", "1");
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_RANGE, .hold = MEMSTORE_HOLD_REPLY });
	push_begin_soon(rig);
	rig_until_held(rig, 2);
	assert_int_equal(write_file(rig, "d01/ours", "new"), 0);
	assert_int_equal(write_file(rig, "d02/f0000", "changed"), 0);
	assert_int_equal(run(rig, op_unlink, .parent = id_of(rig, "d03"), .name = "f0000"), 0);
	assert_int_equal(run(rig, op_rename, .parent = id_of(rig, "d04"), .name = "f0000",
			     .new_parent = id_of(rig, "d05"), .new_name = "moved"),
			 0);
	push_put(rig, "d06/told", "1");
	push_take(rig, "d07/f0000");
	memstore_clear_faults(rig->ms);
	memstore_log_clear(rig->ms);
	rig_expire(rig);
	call = begin(rig, op_lookup, .parent = id_of(rig, "d00"), .name = "theirs"); /* waits for the same answer */
	memstore_release(rig->ms);
	assert_int_equal(end(call), 0);
	push_settle(rig);
	assert_requests(rig, 0, 0, 0, 0, 2); /* d07: what was removed may have hidden something that its record makes */
	assert_true(rig->fs->push.live);
	assert_lists(rig, "d00", "f0000 f0001 theirs ");
	assert_lists(rig, "d01", "f0000 f0001 ours ");
	assert_reads(rig, "d02/f0000", "changed");
	assert_lists(rig, "d03", "f0001 ");
	assert_lists(rig, "d04", "f0001 ");
	assert_int_equal(look(rig, "d05/moved"), 0);
	assert_int_equal(look(rig, "d06/told"), 0);
	assert_int_equal(look(rig, "d07/f0000"), -ENOENT);
}

/* What was read of a directory that moves meanwhile was read under either name, or none. */
static void a_directory_moves_meanwhile(void **state)
{
	struct rig *rig = *state;

	put_dirs(rig, 2);
	list_dirs(rig);
	push_end(rig);
	memstore_put(rig->ms, "d01/theirs", "1");
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_RANGE, .hold = MEMSTORE_HOLD_REPLY, .times = 2 });
	push_begin_soon(rig);
	rig_until_held(rig, 2);
	assert_int_equal(run(rig, op_rename, .parent = FS_ROOT_ID, .name = "d00", .new_parent = id_of(rig, "d01"),
			     .new_name = "moved"),
			 0);
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	push_settle(rig);
	assert_true(rig->fs->push.live);
	assert_int_equal(look(rig, "d00"), -ENOENT);
	assert_lists(rig, "d01", "f0000 f0001 moved/ theirs ");
	assert_lists(rig, "d01/moved", "f0000 f0001 ");
	assert_reads(rig, "d01/moved/f0001", "1");
}

static void what_fails_is_asked_again(void **state)
{
	struct rig *rig = *state;

	put_dirs(rig, 2);
	list_dirs(rig);
	push_end(rig);
	memstore_put(rig->ms, "d00/f0000", "changed");
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_RANGE, .err = -EIO, .times = 1 });
	push_begin(rig);
	memstore_log_clear(rig->ms);
	assert_reads(rig, "d00/f0000", "changed");
	assert_no_requests(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		push_test(few_requests_for_many_directories),
		push_test(a_store_that_is_much_larger_is_not_read_whole),
		push_test(what_is_changed_here_meanwhile_stays),
		push_test(a_directory_moves_meanwhile),
		push_test(what_fails_is_asked_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
