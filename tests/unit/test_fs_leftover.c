/* Records without a key, more of them in one directory than are remembered: what is made of their names gets nothing of them, and
 * who only looks asks nothing. */
#include "push_rig.h"
#include "waiting_rig.h"

#include "fs/internal.h"
#include "fs/leftover.h"

#define DEAD "{\"v\":1,\"mode\":33133,\"uid\":5,\"gid\":6,\"xattr\":{\"user.a\":\"MQ==\"}}"
#define RECORDS 1500 /* of these the first 500 are forgotten */

static void put_record(struct rig *rig, const char *format, int number)
{
	char key[64];

	snprintf(key, sizeof(key), format, number);
	memstore_put(rig->ms, key, DEAD);
}

/* The directory `d` is known whole, with the file `d/g`, and the records of files that are gone; `told`: by a subscription. */
static void use_d(struct rig *rig, const char *format, bool told)
{
	memstore_put(rig->ms, "d/g", "content");
	for (int i = 0; i < RECORDS; i++)
		put_record(rig, format, i);
	use_with(rig, "d/ ", LATE_US, LATE_US);
	if (told)
		push_begin(rig);
	assert_lists(rig, "d", "g ");
	id_of(rig, "d/g");
	assert_true(push_node(rig, "d")->dir->complete);
	assert_true(push_node(rig, "d")->dir->leftovers_lost != 0);
	memstore_log_clear(rig->ms);
}

static int move(struct rig *rig, const char *name, const char *new_name)
{
	uint64_t d = id_of(rig, "d");

	return run(rig, op_rename, .parent = d, .name = name, .new_parent = d, .new_name = new_name);
}

static void assert_alive(struct rig *rig, const struct stat *st, mode_t mode)
{
	assert_int_equal(st->st_mode, S_IFREG | mode);
	assert_int_equal(st->st_uid, RIG_UID);
	assert_int_equal(st->st_gid, RIG_GID);
	assert_int_equal(run(rig, op_getxattr, .id = rig->entry.id, .name = "user.a"), -ENODATA);
}

/* Here, and where all is read anew. */
static void assert_shows(struct rig *rig, const char *path, mode_t mode)
{
	struct stat st = stat_of(rig, path);

	assert_alive(rig, &st, mode);
	assert_int_equal(run(rig, op_sync), 0);
	push_settle(rig);
	st = stat_of(rig, path);
	assert_alive(rig, &st, mode);
	st = fresh_stat(rig, path);
	assert_alive(rig, &st, mode);
}

static void create(struct rig *rig, const char *path, mode_t mode, const char *text)
{
	const char *name;
	uint64_t parent = dir_of(rig, path, &name);

	assert_int_equal(run(rig, op_create, .parent = parent, .name = name, .mode = mode, .flags = O_WRONLY), 0);

	struct fs_handle *handle = rig->handle;

	assert_int_equal(write_at(rig, handle, 0, text), 0);
	assert_int_equal(close_file(rig, handle), 0);
}

/* --- what is made --- */

static void a_file_that_is_moved_there(void **state)
{
	struct rig *rig = *state;

	for (int told = 0; told < 2; told++) {
		use_d(rig, ".hpkvfs/m/d/f%04d", told);
		assert_int_equal(move(rig, "g", "f0000"), 0);
		assert_stored(rig, "d/f0000", "content");
		assert_not_stored(rig, ".hpkvfs/m/d/f0000");
		assert_shows(rig, "d/f0000", 0644);
		memstore_remove(rig->ms, "d/f0000");
		push_end(rig);
	}
}

static void a_file_that_is_made_there(void **state)
{
	static const mode_t modes[] = { 0644, 0600 };
	struct rig *rig = *state;

	for (int way = 0; way < 4; way++) {
		mode_t mode = modes[way % 2];

		use_d(rig, ".hpkvfs/m/d/f%04d", way / 2);
		create(rig, "d/f0000", mode, "new");
		assert_stored(rig, "d/f0000", "new");
		assert_shows(rig, "d/f0000", mode);
		memstore_remove(rig->ms, "d/f0000");
		push_end(rig);
	}
}

static void a_link_that_is_made_there(void **state)
{
	struct rig *rig = *state;

	use_d(rig, ".hpkvfs/m/d/f%04d", true);
	assert_int_equal(run(rig, op_symlink, .parent = id_of(rig, "d"), .name = "f0000", .new_name = "g"), 0);
	assert_int_equal(stat_of(rig, "d/f0000").st_uid, RIG_UID);
	assert_int_equal(fresh_stat(rig, "d/f0000").st_mode, S_IFLNK | 0777);
	assert_int_equal(rig->entry.st.st_uid, RIG_UID);
}

static void a_backup(void **state)
{
	struct rig *rig = *state;

	for (int removed = 0; removed < 2; removed++) {
		use_d(rig, ".hpkvfs/m/d/f%04d~", false);
		assert_int_equal(move(rig, "g", "f0000~"), 0);
		assert_not_stored(rig, "d/f0000~");
		if (removed) {
			assert_int_equal(run(rig, op_unlink, .parent = id_of(rig, "d"), .name = "f0000~"), 0);
			assert_int_equal(run(rig, op_sync), 0);
			assert_not_stored(rig, ".hpkvfs/m/d/f0000~");
		} else {
			assert_shows(rig, "d/f0000~", 0644);
			assert_stored(rig, "d/f0000~", "content");
			memstore_remove(rig->ms, "d/f0000~");
		}
	}
}

/* The value of a directory's own key: its record lies beside those of the directory's neighbours. */
static void the_value_of_a_directory(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "d/f0000/x", "1");
	memstore_put(rig->ms, "d/g", "content");
	for (int i = 0; i < RECORDS; i++)
		put_record(rig, ".hpkvfs/m/d/f%04d", i);
	use_with(rig, "d/ ", LATE_US, LATE_US);
	assert_lists(rig, "d", "f0000/ g ");
	assert_lists(rig, "d/f0000", "x ");
	create(rig, "d/f0000/%=", 0644, "new");
	assert_stored(rig, "d/f0000", "new");
	assert_shows(rig, "d/f0000/%=", 0644);
}

/* Another client's file, which came after all was listed, and which nothing here knows. */
static void what_is_replaced_unknown_goes_with_its_record(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	use_d(rig, ".hpkvfs/m/d/f%04d", false);
	assert_int_equal(run(rig, op_create, .parent = id_of(rig, "d"), .name = "new", .mode = 0644, .flags = O_WRONLY),
			 0);
	handle = rig->handle;
	assert_false(node_find(rig->fs, rig->entry.id)->record_known);
	memstore_put(rig->ms, ".hpkvfs/m/d/new", DEAD);
	push_node(rig, "d")->dir->leftovers_lost = 0; /* as a listing that was asked before leaves it */
	assert_int_equal(move(rig, "g", "new"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "d/new", "content");
	assert_shows(rig, "d/new", 0644);
}

/* As it comes about: another client deletes files, and knows nothing of records. */
static void files_that_another_client_has_deleted(void **state)
{
	struct rig *rig = *state;
	char key[64];

	put_numbered(rig, "d/f%04d", 1100);
	for (int i = 0; i < 1100; i++)
		put_record(rig, ".hpkvfs/m/d/f%04d", i);
	memstore_put(rig->ms, "d/g", "content");
	use_with(rig, "d/ ", LATE_US, LATE_US);
	push_begin(rig);
	assert_int_equal(list_dir(rig, "d"), 0);
	for (int i = 0; i < 1100; i++) {
		snprintf(key, sizeof(key), "d/f%04d", i);
		memstore_remove(rig->ms, key);
	}
	push_settle(rig);
	assert_lists(rig, "d", "g ");
	assert_true(push_node(rig, "d")->dir->leftovers_lost != 0);
	create(rig, "d/tmp", 0644, "new");
	push_settle(rig);
	assert_int_equal(move(rig, "tmp", "f0000"), 0);
	create(rig, "d/f0001", 0600, "new");
	push_settle(rig);
	assert_shows(rig, "d/f0000", 0644);
	assert_shows(rig, "d/f0001", 0600);
}

/* Another client's file, which nothing here knows yet, is found when its name is asked for. */
static void another_clients_file_is_found_before_one_is_made(void **state)
{
	struct rig *rig = *state;

	use_d(rig, ".hpkvfs/m/d/f%04d", false);
	memstore_put(rig->ms, "d/f0000", "theirs");
	assert_int_equal(run(rig, op_create, .parent = id_of(rig, "d"), .name = "f0000", .mode = 0644,
			     .flags = O_WRONLY | O_EXCL),
			 -EEXIST);
	assert_reads(rig, "d/f0000", "theirs");
}

/* --- what it costs --- */

static void who_only_looks_asks_nothing(void **state)
{
	struct rig *rig = *state;
	char path[64];

	use_d(rig, ".hpkvfs/m/d/f%04d", true);
	rig_expire(rig);
	for (int i = 0; i < 20; i++) {
		snprintf(path, sizeof(path), "d/f%04d", i);
		assert_int_equal(look(rig, path), -ENOENT);
		assert_true(rig->entry.ttl_us == FS_FOREVER);
	}
	assert_int_equal(look(rig, "d/none"), -ENOENT);
	assert_lists(rig, "d", "g ");
	assert_int_equal(run(rig, op_unlink, .parent = id_of(rig, "d"), .name = "f0000"), -ENOENT);
	assert_int_equal(move(rig, "none", "f0000"), -ENOENT);
	assert_no_requests(rig);
}

/* One name is asked for at once; of what is remembered nothing is asked. */
static void who_makes_one_asks_for_its_name_alone(void **state)
{
	struct rig *rig = *state;

	use_d(rig, ".hpkvfs/m/d/f%04d", true);
	create(rig, "d/f0000", 0600, "new");
	assert_int_equal(memstore_count_key(rig->ms, STORE_GET, ".hpkvfs/m/d/f0000"), 1);
	assert_int_equal(memstore_count(rig->ms, STORE_GET), 3);
	assert_int_equal(memstore_count(rig->ms, STORE_RANGE), 1);
	push_settle(rig);
	memstore_log_clear(rig->ms);
	create(rig, "d/f1499", 0600, "new");
	assert_int_equal(memstore_count(rig->ms, STORE_GET), 0);
	assert_int_equal(memstore_count(rig->ms, STORE_RANGE), 0);
	push_settle(rig);
	memstore_log_clear(rig->ms);
	assert_int_equal(move(rig, "g", "f0001"), 0);
	assert_requests(rig, 1, 1, 0, 2, 0); /* as ever, and the record's DELETE */
}

/* Its lookup has brought what is left of it, but what was forgotten since is asked for again. */
static void in_a_large_directory_it_was_asked_for_already(void **state)
{
	struct rig *rig = *state;

	push_large_root(rig);
	put_record(rig, ".hpkvfs/m/n%d", 1);
	for (int later = 0; later < 2; later++) {
		rig->fs->root->dir->leftovers_lost = fs_tick(rig->fs);
		assert_int_equal(look(rig, "n0"), -ENOENT);
		assert_int_equal(look(rig, "n1"), -ENOENT);
		memstore_log_clear(rig->ms);
		if (later) {
			leftovers_forget(rig->fs->root, fs_tick(rig->fs));
			rig->fs->root->dir->leftovers_lost = fs_tick(rig->fs);
		}
		create(rig, "n0", 0644, "new");
		create(rig, "n1", 0644, "new");
		assert_int_equal(memstore_count(rig->ms, STORE_RANGE), later ? 2 : 0);
		push_settle(rig);
		assert_int_equal(stat_of(rig, "n1").st_mode, S_IFREG | 0644);
		assert_int_equal(rig->entry.st.st_uid, RIG_UID);
		assert_int_equal(remove_file(rig, "n0"), 0);
		assert_int_equal(remove_file(rig, "n1"), 0);
		push_settle(rig);
		put_record(rig, ".hpkvfs/m/n%d", 1);
		push_end(rig);
		rig_restart(rig);
		push_begin(rig);
		assert_int_equal(look(rig, "f0000"), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		waiting_test(a_file_that_is_moved_there),
		waiting_test(a_file_that_is_made_there),
		waiting_test(a_link_that_is_made_there),
		waiting_test(a_backup),
		waiting_test(the_value_of_a_directory),
		waiting_test(what_is_replaced_unknown_goes_with_its_record),
		waiting_test(files_that_another_client_has_deleted),
		waiting_test(another_clients_file_is_found_before_one_is_made),
		waiting_test(who_only_looks_asks_nothing),
		waiting_test(who_makes_one_asks_for_its_name_alone),
		waiting_test(in_a_large_directory_it_was_asked_for_already),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
