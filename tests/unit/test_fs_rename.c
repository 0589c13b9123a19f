/* Renaming: what it costs, what others write meanwhile, and what is seen of it from here while it goes on. */
#include "fs_rig.h"

#include <linux/fs.h>

static int move(struct rig *rig, const char *from, const char *to)
{
	const char *name, *new_name;
	uint64_t parent = dir_of(rig, from, &name), new_parent = dir_of(rig, to, &new_name);

	return run(rig, op_rename, .parent = parent, .name = name, .new_parent = new_parent, .new_name = new_name);
}

/* Of one in the root. */
static struct call *begin_move(struct rig *rig, const char *from, const char *to)
{
	return begin(rig, op_rename, .parent = FS_ROOT_ID, .name = from, .new_parent = FS_ROOT_ID, .new_name = to);
}

static void a_file_is_moved(void **state)
{
	struct rig *rig = *state;
	uint64_t id;

	memstore_put(rig->ms, "a", "content");
	id = id_of(rig, "a");
	memstore_log_clear(rig->ms);
	assert_int_equal(move(rig, "a", "b"), 0);
	assert_requests(rig, 1, 1, 0, 1, 0); /* the GET sees what others wrote meanwhile */
	assert_not_stored(rig, "a");
	assert_stored(rig, "b", "content");
	assert_int_equal(look(rig, "a"), -ENOENT);
	assert_int_equal(id_of(rig, "b"), id);
	assert_reads(rig, "b", "content");
	assert_no_requests(rig);
	assert_lists(rig, "", "b ");
}

static void a_file_replaces_another(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "a", "new");
	memstore_put(rig->ms, "b", "old");
	handle = open_file(rig, "b", O_RDONLY);
	id_of(rig, "a");
	memstore_log_clear(rig->ms);
	assert_int_equal(move(rig, "a", "b"), 0);
	assert_requests(rig, 1, 1, 0, 1, 0);
	assert_stored(rig, "b", "new");
	assert_reads(rig, "b", "new");
	assert_int_equal(read_handle(rig, handle), 0);
	assert_string_equal(rig->out.p, "old"); /* who had it open goes on */
	assert_int_equal(close_file(rig, handle), 0);
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

static void what_a_foreign_client_writes_meanwhile_is_taken_along(void **state)
{
	struct rig *rig = *state;
	struct foreign foreign = { rig, "a", "theirs" };
	time_t before;
	uint64_t id;

	memstore_put(rig->ms, "a", "ours");
	id = id_of(rig, "a");
	before = rig->entry.st.st_mtim.tv_sec;
	assert_reads(rig, "a", "ours");
	rig_notes_clear(rig);
	/* when the new key is set, the old one changes */
	memstore_add_fault(
		rig->ms, (struct memstore_fault){
				 .op = STORE_SET, .key = "b", .times = 1, .arrived = write_foreign, .arg = &foreign });
	assert_int_equal(move(rig, "a", "b"), 0);
	assert_not_stored(rig, "a");
	assert_stored(rig, "b", "theirs");
	assert_true(rig_was_invalidated(rig, id)); /* the kernel has pages of it */
	assert_reads(rig, "b", "theirs");
	assert_false(rig->keep_cache);
	assert_int_equal(look(rig, "b"), 0);
	assert_true(rig->entry.st.st_mtim.tv_sec > before);
}

static void a_file_never_stored_is_set_under_its_new_name(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_file(rig, "a", O_WRONLY | O_CREAT);

	assert_int_equal(write_at(rig, handle, 0, "x"), 0);
	memstore_log_clear(rig->ms);
	assert_int_equal(move(rig, "a", "b"), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_int_equal(write_at(rig, handle, 1, "y"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "b", "xy");
	assert_not_stored(rig, "a");
}

static void appends_during_a_rename_arrive_once(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct call *rename;

	memstore_put(rig->ms, "a", "1");
	handle = open_file(rig, "a", O_WRONLY | O_APPEND);
	assert_int_equal(write_at(rig, handle, 1, "2"), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_SET, .key = "b", .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	rename = begin_move(rig, "a", "b");
	rig_until_held(rig, 1);
	assert_int_equal(write_at(rig, handle, 2, "3"), 0);
	memstore_release(rig->ms);
	assert_int_equal(end(rename), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "b", "123");
	assert_reads(rig, "b", "123");
}

static void a_write_during_a_rename_goes_to_the_new_name(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct call *rename, *flush;

	memstore_put(rig->ms, "a", "old");
	handle = open_file(rig, "a", O_WRONLY | O_TRUNC);
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_SET, .key = "b", .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	rename = begin_move(rig, "a", "b");
	rig_until_held(rig, 1);
	assert_int_equal(write_at(rig, handle, 0, "new"), 0);
	flush = begin(rig, op_flush, .handle = handle);
	memstore_release(rig->ms);
	assert_int_equal(end(rename), 0);
	assert_int_equal(end(flush), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "b", "new");
	assert_not_stored(rig, "a");
}

static void noreplace_and_other_flags(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "a", "1");
	memstore_put(rig->ms, "b", "2");
	assert_int_equal(run(rig, op_rename, .parent = FS_ROOT_ID, .name = "a", .new_parent = FS_ROOT_ID,
			     .new_name = "b", .flags = RENAME_NOREPLACE),
			 -EEXIST);
	assert_int_equal(run(rig, op_rename, .parent = FS_ROOT_ID, .name = "a", .new_parent = FS_ROOT_ID,
			     .new_name = "b", .flags = RENAME_NOREPLACE | RENAME_EXCHANGE),
			 -EINVAL);
	assert_stored(rig, "a", "1");
	assert_stored(rig, "b", "2");
	assert_int_equal(run(rig, op_rename, .parent = FS_ROOT_ID, .name = "a", .new_parent = FS_ROOT_ID,
			     .new_name = "c", .flags = RENAME_NOREPLACE),
			 0);
	assert_stored(rig, "c", "1");
	memstore_log_clear(rig->ms);
	assert_int_equal(move(rig, "c", "c"), 0);
	assert_no_requests(rig);
}

static void kinds_do_not_replace_each_other(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "1");
	memstore_put(rig->ms, "d/x", "2");
	memstore_put(rig->ms, "e/y", "3");
	assert_int_equal(move(rig, "f", "d"), -EISDIR);
	assert_int_equal(move(rig, "d", "f"), -ENOTDIR);
	assert_int_equal(move(rig, "d", "e"), -ENOTEMPTY);
	assert_int_equal(move(rig, "d", "d/z"), -EINVAL);
	assert_int_equal(move(rig, "f", ".hpkvfs"), -EEXIST);
	assert_int_equal(move(rig, "none", "f"), -ENOENT);
	assert_stored(rig, "f", "1");
	assert_stored(rig, "d/x", "2");
	assert_stored(rig, "e/y", "3");
}

/* --- appends that wait --- */

/* What another appends is known here only where it is looked for. */
static void what_another_has_appended_is_renamed_with_what_waits(void **state)
{
	struct rig *rig = *state;

	for (int known = 0; known < 2; known++) {
		struct fs_handle *handle;

		memstore_put(rig->ms, "log", "0\n");
		rig_expire(rig);
		handle = open_file(rig, "log", O_WRONLY | O_APPEND);
		assert_int_equal(write_at(rig, handle, 2, "ours\n"), 0);
		memstore_put(rig->ms, "log", "0\ntheirs\n");
		if (known) {
			rig_expire(rig);
			id_of(rig, "log");
		}
		assert_int_equal(move(rig, "log", "log.1"), 0);
		assert_not_stored(rig, "log");
		assert_stored(rig, "log.1", "0\ntheirs\nours\n");
		assert_int_equal(write_at(rig, handle, 6, "last\n"), 0);
		assert_int_equal(close_file(rig, handle), 0);
		assert_stored(rig, "log.1", "0\ntheirs\nours\nlast\n");
		assert_reads(rig, "log.1", "0\ntheirs\nours\nlast\n");
	}
}

static void a_new_file_that_another_has_made_is_renamed_with_what_waits(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_file(rig, "log", O_WRONLY | O_CREAT | O_APPEND);

	assert_int_equal(write_at(rig, handle, 0, "ours\n"), 0);
	memstore_put(rig->ms, "log", "theirs\n");
	rig_expire(rig);
	id_of(rig, "log");
	assert_int_equal(move(rig, "log", "log.1"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_not_stored(rig, "log");
	assert_stored(rig, "log.1", "theirs\nours\n");
}

/* Before or while the new name is set. */
static void what_another_has_made_unknown_to_a_new_file_stays(void **state)
{
	struct rig *rig = *state;
	struct foreign foreign = { rig, "log", "theirs\n" };

	for (int during = 0; during < 2; during++) {
		struct fs_handle *handle = open_file(rig, "log", O_WRONLY | O_CREAT | O_APPEND);
		struct call *rename;

		assert_int_equal(write_at(rig, handle, 0, "ours\n"), 0);
		memstore_log_clear(rig->ms);
		if (!during)
			write_foreign(&foreign);
		memstore_add_fault(rig->ms,
				   (struct memstore_fault){
					   .op = STORE_SET, .key = "log.1", .times = 1, .hold = MEMSTORE_HOLD_REPLY });
		rename = begin_move(rig, "log", "log.1");
		rig_until_held(rig, 1);
		assert_requests(rig, 0, 1, 0, 0, 0);
		if (during) {
			write_foreign(&foreign);
			rig_expire(rig);
			assert_int_equal(list_dir(rig, ""), 0);
		}
		memstore_release(rig->ms);
		assert_int_equal(end(rename), 0);
		assert_int_equal(close_file(rig, handle), 0);
		assert_stored(rig, "log", "theirs\n");
		assert_stored(rig, "log.1", "ours\n");
		if (!during) /* else it is known that something is there */
			rig_expire(rig);
		assert_reads(rig, "log", "theirs\n");
		assert_reads(rig, "log.1", "ours\n");
		assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "log"), 0);
		assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "log.1"), 0);
	}
}

/* One writes on while what was there is sent, and another appends in between. */
static void what_is_appended_while_a_log_is_renamed_stays(void **state)
{
	struct rig *rig = *state;
	struct foreign foreign = { rig, "log", "0\nours\ntheirs\n" };
	struct fs_handle *handle;
	struct call *rename;

	memstore_put(rig->ms, "log", "0\n");
	handle = open_file(rig, "log", O_WRONLY | O_APPEND);
	assert_int_equal(write_at(rig, handle, 2, "ours\n"), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_PATCH, .key = "log", .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	memstore_add_fault(
		rig->ms,
		(struct memstore_fault){
			.op = STORE_SET, .key = "log.1", .times = 1, .arrived = write_foreign, .arg = &foreign });
	rename = begin_move(rig, "log", "log.1");
	rig_until_held(rig, 1);
	assert_int_equal(write_at(rig, handle, 6, "more\n"), 0);
	memstore_release(rig->ms);
	assert_int_equal(end(rename), 0);
	assert_not_stored(rig, "log");
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "log.1", "0\nours\ntheirs\nmore\n");
	assert_reads(rig, "log.1", "0\nours\ntheirs\nmore\n");
}

/* What may have arrived is not sent twice, and who wrote it hears of it. */
static void an_append_that_fails_ends_the_renaming(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "log", "0\n");
	handle = open_file(rig, "log", O_WRONLY | O_APPEND);
	assert_int_equal(write_at(rig, handle, 2, "ours\n"), 0);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_PATCH, .times = 1, .err = -ETIMEDOUT, .after = true });
	assert_int_equal(move(rig, "log", "log.1"), -ETIMEDOUT);
	assert_int_equal(close_file(rig, handle), -ETIMEDOUT);
	assert_stored(rig, "log", "0\nours\n");
	assert_not_stored(rig, "log.1");
	assert_reads(rig, "log", "0\nours\n");
}

/* --- what listings see of it --- */

static void a_listing_during_a_rename_shows_one_of_each_name(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct call *rename;
	uint64_t id;

	memstore_put(rig->ms, "a", "content");
	id = id_of(rig, "a");
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_SET, .key = "b", .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	rename = begin_move(rig, "a", "b");
	rig_until_held(rig, 1);
	rig_expire(rig);
	assert_lists(rig, "", "a b ");
	memstore_release(rig->ms);
	assert_int_equal(end(rename), 0);
	assert_lists(rig, "", "b ");
	assert_int_equal(id_of(rig, "b"), id);
	handle = open_file(rig, "b", O_WRONLY | O_TRUNC);
	assert_int_equal(write_at(rig, handle, 0, "new"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_reads(rig, "b", "new");
}

/* The old key is gone from the store, and the rename does not know yet. */
static void a_listing_between_the_delete_and_its_answer(void **state)
{
	struct rig *rig = *state;
	struct call *rename, *stat;
	uint64_t id;

	memstore_put(rig->ms, "a", "content");
	id = id_of(rig, "a");
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_DELETE, .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	rename = begin_move(rig, "a", "b");
	rig_until_held(rig, 1);
	rig_expire(rig);
	stat = begin(rig, op_getattr, .id = id);
	assert_int_equal(end(stat), 0);
	assert_int_equal(rig->entry.st.st_nlink, 1);
	assert_int_equal(list_dir(rig, ""), 0);
	memstore_release(rig->ms);
	assert_int_equal(end(rename), 0);
	assert_int_equal(id_of(rig, "b"), id);
	assert_lists(rig, "", "b ");
}

/* The listing was asked for before the rename, and answered after it. */
static void an_older_listing_does_not_undo_a_rename(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *root, *dir;
	struct call *list_root, *list_dir;
	uint64_t d;

	memstore_put(rig->ms, "a", "content");
	memstore_put(rig->ms, "d/b", "replaced");
	id_of(rig, "a");
	id_of(rig, "d/b");
	d = id_of(rig, "d");
	rig_expire(rig);
	assert_int_equal(fs_opendir(rig->fs, FS_ROOT_ID, &root), 0);
	assert_int_equal(fs_opendir(rig->fs, d, &dir), 0);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_RANGE, .times = 4, .hold = MEMSTORE_HOLD_REPLY });
	list_root = begin(rig, op_readdir, .handle = root);
	list_dir = begin(rig, op_readdir, .handle = dir);
	rig_until_held(rig, 4);
	assert_int_equal(run(rig, op_rename, .parent = FS_ROOT_ID, .name = "a", .new_parent = d, .new_name = "b"), 0);
	memstore_release(rig->ms);
	assert_int_equal(end(list_root), 0);
	assert_string_equal(rig->out.p, "d/ ");
	assert_int_equal(end(list_dir), 0);
	assert_string_equal(rig->out.p, "b ");
	fs_releasedir(root);
	fs_releasedir(dir);
	assert_reads(rig, "d/b", "content");
	assert_int_equal(look(rig, "a"), -ENOENT);
}

/* --- files in chunks --- */

#define CHUNK_ID "1a0c4506c001123456789abcdef0123456789abcdef"
#define STUB "hpkvfs1 1cc72b015edf8714 " CHUNK_ID ":10000:2280:b64\n"
#define LIST ".hpkvfs/i/" CHUNK_ID

static void a_stub_is_moved_as_it_is(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "a", STUB);
	id_of(rig, "a");
	memstore_log_clear(rig->ms);
	assert_int_equal(move(rig, "a", "b"), 0);
	assert_int_equal(memstore_entry(rig->ms, 0)->op, STORE_PATCH);
	assert_int_equal(memstore_entry(rig->ms, 1)->op, STORE_SET);
	assert_requests(rig, 1, 1, 1, 1, 0);
	assert_stored(rig, "b", STUB);
	assert_not_stored(rig, "a");
	assert_stored(rig, LIST, "{\"v\":1,\"names\":{\"a\":true,\"b\":true}}");
}

/* Another mount replaces the content while it is moved: its chunks are to be found under both names, too. */
static void a_stub_that_another_writes_meanwhile_is_taken_along(void **state)
{
	struct rig *rig = *state;
	struct foreign foreign = { rig, "a", STUB };

	memstore_put(rig->ms, "a", "plain");
	id_of(rig, "a");
	memstore_add_fault(
		rig->ms, (struct memstore_fault){
				 .op = STORE_SET, .key = "b", .times = 1, .arrived = write_foreign, .arg = &foreign });
	assert_int_equal(move(rig, "a", "b"), 0);
	assert_stored(rig, "b", STUB);
	assert_not_stored(rig, "a");
	assert_stored(rig, LIST, "{\"v\":1,\"names\":{\"a\":true,\"b\":true}}");
}

static void chunks_of_a_file_that_is_replaced_go_later(void **state)
{
	struct rig *rig = *state;

	rig->config.grace_us = 1000;
	rig_restart(rig);
	memstore_put(rig->ms, "a", "new");
	memstore_put(rig->ms, "b", STUB);
	memstore_put(rig->ms, ".hpkvfs/c/" CHUNK_ID "/00000000", "MDEyMzQ1Njc4OWFiY2RlZg==");
	id_of(rig, "a");
	id_of(rig, "b");
	assert_int_equal(move(rig, "a", "b"), 0);
	assert_stored(rig, "b", "new");
	while (memstore_size(rig->ms) != 1)
		loop_once(rig->loop);
	assert_int_equal(run(rig, op_end), 0);
}

static void what_another_mount_changes_in_a_record_goes_along(void **state)
{
	struct rig *rig = *state;
	struct foreign foreign = { rig, ".hpkvfs/m/a", "{\"v\":1,\"mode\":33060}" }; /* 0444 */

	memstore_put(rig->ms, "a", "x");
	memstore_put(rig->ms, ".hpkvfs/m/a", "{\"v\":1,\"mode\":33152}"); /* 0600 */
	id_of(rig, "a");
	memstore_add_fault(
		rig->ms, (struct memstore_fault){
				 .op = STORE_SET, .key = "b", .times = 1, .arrived = write_foreign, .arg = &foreign });
	assert_int_equal(move(rig, "a", "b"), 0);
	assert_stored(rig, ".hpkvfs/m/b", "{\"v\":1,\"mode\":33060}");
	assert_not_stored(rig, ".hpkvfs/m/a");
	id_of(rig, "b");
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0444);
}

/* --- directories --- */

#define KEYS 50

static void put_tree(struct rig *rig, const char *dir, const char *of)
{
	char key[64], value[64];

	for (int i = 0; i < KEYS; i++) {
		snprintf(key, sizeof(key), i % 2 ? "%s/f%02d" : "%s/sub/f%02d", dir, i);
		snprintf(value, sizeof(value), "%s-%02d", of, i);
		memstore_put(rig->ms, key, value);
	}
}

static void assert_tree(struct rig *rig, const char *dir, const char *of)
{
	char key[64], value[64];

	for (int i = 0; i < KEYS; i++) {
		snprintf(key, sizeof(key), i % 2 ? "%s/f%02d" : "%s/sub/f%02d", dir, i);
		snprintf(value, sizeof(value), "%s-%02d", of, i);
		assert_stored(rig, key, value);
		assert_reads(rig, key, value);
	}
}

#define FILE_RECORD "{\"v\":1,\"mode\":33152}" /* 0600 */
#define DIR_RECORD "{\"v\":1,\"mode\":16832}"  /* 0700 */

static void a_directory_is_moved_with_its_records(void **state)
{
	struct rig *rig = *state;
	size_t before;
	uint64_t sub;

	put_tree(rig, "d", "x");
	memstore_put(rig->ms, "d", "own value");
	memstore_put(rig->ms, ".hpkvfs/m/d/", DIR_RECORD);
	memstore_put(rig->ms, ".hpkvfs/m/d/empty/", DIR_RECORD);
	memstore_put(rig->ms, ".hpkvfs/m/d/f01", FILE_RECORD);
	memstore_put(rig->ms, "d2/stays", "1");
	before = memstore_size(rig->ms);
	sub = id_of(rig, "d/sub");
	assert_int_equal(move(rig, "d", "e"), 0);
	assert_int_equal(memstore_size(rig->ms), before + 1); /* the layout's version */
	assert_tree(rig, "e", "x");
	assert_stored(rig, "e", "own value");
	assert_stored(rig, ".hpkvfs/m/e/", DIR_RECORD);
	assert_stored(rig, ".hpkvfs/m/e/empty/", DIR_RECORD);
	assert_stored(rig, ".hpkvfs/m/e/f01", FILE_RECORD);
	assert_stored(rig, "d2/stays", "1");
	assert_int_equal(look(rig, "d"), -ENOENT);
	assert_int_equal(id_of(rig, "e/sub"), sub);
	assert_lists(rig, "", "d2/ e/ ");
	id_of(rig, "e/f01");
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
	rig_restart(rig);
	assert_tree(rig, "e", "x");
	assert_int_equal(look(rig, "d/f01"), -ENOENT);
}

static void a_directory_with_open_files_is_moved(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *stored, *created;

	memstore_put(rig->ms, "d/f", "old");
	stored = open_file(rig, "d/f", O_RDWR);
	created = open_file(rig, "d/new", O_RDWR | O_CREAT);
	assert_int_equal(write_at(rig, stored, 3, "!"), 0);
	assert_int_equal(write_at(rig, created, 0, "x"), 0);
	assert_int_equal(move(rig, "d", "e"), 0);
	assert_int_equal(close_file(rig, stored), 0);
	assert_int_equal(close_file(rig, created), 0);
	assert_stored(rig, "e/f", "old!");
	assert_stored(rig, "e/new", "x");
	assert_int_equal(memstore_size(rig->ms), 3); /* with the layout's version */
}

static void a_directory_replaces_an_empty_one(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "d/f", "1");
	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "e", .mode = 0755), 0);
	assert_int_equal(move(rig, "d", "e"), 0);
	assert_stored(rig, "e/f", "1");
	assert_not_stored(rig, ".hpkvfs/m/e/");
	assert_lists(rig, "", "e/ ");
}

/* A program lists and looks up inside of the directory while half of it is at either name. */
static void reading_a_directory_that_is_being_moved(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct call *rename, *list, *found, *stat;
	uint64_t id, file;

	put_tree(rig, "d", "x");
	id = id_of(rig, "d");
	file = id_of(rig, "d/f49");
	assert_int_equal(fs_opendir(rig->fs, id, &handle), 0);
	rig_expire(rig);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){
				   .op = STORE_DELETE, .pass = KEYS - 3, .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	rename = begin_move(rig, "d", "e");
	rig_until_held(rig, 1);
	list = begin(rig, op_readdir, .handle = handle);
	found = begin(rig, op_lookup, .parent = id, .name = "f01");
	stat = begin(rig, op_getattr, .id = file);
	memstore_release(rig->ms);
	assert_int_equal(end(rename), 0);
	assert_int_equal(end(list), 0);
	assert_non_null(strstr(rig->out.p, "f01 "));
	assert_non_null(strstr(rig->out.p, "f49 "));
	assert_int_equal(end(found), 0);
	assert_int_equal(end(stat), 0);
	assert_int_equal(rig->entry.st.st_nlink, 1);
	fs_releasedir(handle);
	assert_tree(rig, "e", "x");
}

static void a_listing_above_a_directory_that_is_being_moved(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct call *rename, *list;
	uint64_t id;

	put_tree(rig, "d", "x");
	id = id_of(rig, "d");
	rig_expire(rig);
	assert_int_equal(fs_opendir(rig->fs, FS_ROOT_ID, &handle), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_SET, .pass = 10, .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	rename = begin_move(rig, "d", "e");
	rig_until_held(rig, 1);
	list = begin(rig, op_readdir, .handle = handle);
	memstore_release(rig->ms);
	assert_int_equal(end(rename), 0);
	assert_int_equal(end(list), 0);
	fs_releasedir(handle);
	assert_lists(rig, "", "e/ ");
	assert_int_equal(id_of(rig, "e"), id);
}

static void a_foreign_write_into_a_directory_that_is_being_moved(void **state)
{
	struct rig *rig = *state;
	struct foreign while_copying = { rig, "d/f01", "theirs" }, while_deleting = { rig, "d/f03", "later" };

	put_tree(rig, "d", "x");
	memstore_add_fault(
		rig->ms,
		(struct memstore_fault){
			.op = STORE_SET, .key = "e/f01", .times = 1, .arrived = write_foreign, .arg = &while_copying });
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_GET,
							     .key = "d/f03",
							     .times = 1,
							     .arrived = write_foreign,
							     .arg = &while_deleting });
	assert_int_equal(move(rig, "d", "e"), 0);
	assert_stored(rig, "e/f01", "theirs");
	assert_not_stored(rig, "d/f01");
	assert_stored(rig, "e/f03", "later");
	assert_not_stored(rig, "d/f03");
}

static void lengths_are_checked_before_the_first_write(void **state)
{
	struct rig *rig = *state;
	char key[RIG_MAX_KEY], name[200];

	memset(key, 'k', sizeof(key));
	memcpy(key, "d/", 2);
	key[RIG_MAX_KEY - 100] = '\0';
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	memstore_put(rig->ms, "d/short", "1");
	memstore_put(rig->ms, key, "2");
	id_of(rig, "d");
	memstore_log_clear(rig->ms);
	assert_int_equal(move(rig, "d", name), -ENAMETOOLONG);
	assert_int_equal(memstore_count(rig->ms, STORE_SET), 0);
	assert_stored(rig, "d/short", "1");
	assert_reads(rig, "d/short", "1");
}

/* 50 keys are 150 requests: at 10 a second 15 seconds. */
static void what_would_take_too_long_is_refused_before_the_first_write(void **state)
{
	struct rig *rig = *state;

	rig->config.timeout_us = 14 * 1000000;
	rig_restart(rig);
	put_tree(rig, "d", "x");
	id_of(rig, "d");
	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "e", .mode = 0755), 0);
	memstore_log_clear(rig->ms);
	memstore_set_rate(rig->ms, 10);
	assert_int_equal(move(rig, "d", "e"), -EXDEV);
	assert_int_equal(memstore_count(rig->ms, STORE_SET) + memstore_count(rig->ms, STORE_DELETE), 0);
	assert_tree(rig, "d", "x");
	assert_lists(rig, "e", "");
	memstore_set_rate(rig->ms, 12);
	assert_int_equal(move(rig, "d", "e"), 0);
	assert_tree(rig, "e", "x");
}

/* Made by another after the name was looked up. */
static void what_is_there_by_now_is_not_overwritten(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "d/f", "1");
	id_of(rig, "d");
	assert_int_equal(look(rig, "e"), -ENOENT);
	memstore_put(rig->ms, "e/f", "theirs");
	assert_int_equal(move(rig, "d", "e"), -ENOTEMPTY);
	assert_stored(rig, "d/f", "1");
	assert_stored(rig, "e/f", "theirs");
}

static void a_failure_half_way_loses_nothing(void **state)
{
	struct rig *rig = *state;
	char key[64];

	put_tree(rig, "d", "x");
	id_of(rig, "d/f01");
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_DELETE, .pass = 20, .err = -ETIMEDOUT });
	assert_int_equal(move(rig, "d", "e"), -ETIMEDOUT);
	memstore_clear_faults(rig->ms);
	for (int i = 0; i < KEYS; i++) {
		snprintf(key, sizeof(key), i % 2 ? "e/f%02d" : "e/sub/f%02d", i);
		assert_int_equal(look(rig, key), 0);
		key[0] = 'd';
		assert_int_equal(look(rig, key), memstore_value(rig->ms, key) ? 0 : -ENOENT);
	}
	/* again, to the end */
	assert_int_equal(
		run(rig, op_rename, .parent = FS_ROOT_ID, .name = "d", .new_parent = FS_ROOT_ID, .new_name = "g"), 0);
	assert_lists(rig, "", "e/ g/ ");
}

/* A file in a directory that was seen later than the file: the end of the filesystem frees both once. */
static void a_file_moved_into_a_younger_directory(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "a", "1");
	id_of(rig, "a");
	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "d", .mode = 0755), 0);
	assert_int_equal(move(rig, "a", "d/a"), 0);
	assert_stored(rig, "d/a", "1");
	assert_reads(rig, "d/a", "1");
}

static void the_value_of_a_directory_is_moved_out_and_in(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "a", "value");
	memstore_put(rig->ms, "a/b", "below");
	assert_int_equal(move(rig, "a/%=", "c"), 0);
	assert_stored(rig, "c", "value");
	assert_not_stored(rig, "a");
	assert_lists(rig, "a", "b ");
	assert_int_equal(move(rig, "c", "a/%="), 0);
	assert_stored(rig, "a", "value");
	assert_not_stored(rig, "c");
	assert_lists(rig, "", "a/ ");
	assert_int_equal(move(rig, "a/%=", "%="), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fs_test(a_file_is_moved),
		fs_test(a_file_replaces_another),
		fs_test(what_a_foreign_client_writes_meanwhile_is_taken_along),
		fs_test(a_file_never_stored_is_set_under_its_new_name),
		fs_test(appends_during_a_rename_arrive_once),
		fs_test(a_write_during_a_rename_goes_to_the_new_name),
		fs_test(noreplace_and_other_flags),
		fs_test(kinds_do_not_replace_each_other),
		fs_test(what_another_has_appended_is_renamed_with_what_waits),
		fs_test(a_new_file_that_another_has_made_is_renamed_with_what_waits),
		fs_test(what_another_has_made_unknown_to_a_new_file_stays),
		fs_test(what_is_appended_while_a_log_is_renamed_stays),
		fs_test(an_append_that_fails_ends_the_renaming),
		fs_test(a_listing_during_a_rename_shows_one_of_each_name),
		fs_test(a_listing_between_the_delete_and_its_answer),
		fs_test(an_older_listing_does_not_undo_a_rename),
		fs_test(a_stub_is_moved_as_it_is),
		fs_test(a_stub_that_another_writes_meanwhile_is_taken_along),
		fs_test(chunks_of_a_file_that_is_replaced_go_later),
		fs_test(what_another_mount_changes_in_a_record_goes_along),
		fs_test(a_directory_is_moved_with_its_records),
		fs_test(a_directory_with_open_files_is_moved),
		fs_test(a_directory_replaces_an_empty_one),
		fs_test(reading_a_directory_that_is_being_moved),
		fs_test(a_listing_above_a_directory_that_is_being_moved),
		fs_test(a_foreign_write_into_a_directory_that_is_being_moved),
		fs_test(lengths_are_checked_before_the_first_write),
		fs_test(what_would_take_too_long_is_refused_before_the_first_write),
		fs_test(what_is_there_by_now_is_not_overwritten),
		fs_test(a_failure_half_way_loses_nothing),
		fs_test(a_file_moved_into_a_younger_directory),
		fs_test(the_value_of_a_directory_is_moved_out_and_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
