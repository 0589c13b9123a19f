/* Directories: made by records, implied by keys, removed; the layout's own key; names that are reserved. */
#include "fs_rig.h"

#define RECORD(mode) "{\"v\":1,\"mode\":" mode ",\"uid\":1000,\"gid\":1001}"
#define RECORD_755 RECORD("16877")
#define RECORD_700 RECORD("16832")
#define LAYOUT "{\"v\":1,\"delimiter\":\"/\"}"

static int make_dir(struct rig *rig, const char *path)
{
	const char *name;
	uint64_t parent = dir_of(rig, path, &name);

	return run(rig, op_mkdir, .parent = parent, .name = name, .mode = 0755);
}

static int remove_dir(struct rig *rig, const char *path)
{
	const char *name;
	uint64_t parent = dir_of(rig, path, &name);

	return run(rig, op_rmdir, .parent = parent, .name = name);
}

static int remove_file(struct rig *rig, const char *path)
{
	const char *name;
	uint64_t parent = dir_of(rig, path, &name);

	return run(rig, op_unlink, .parent = parent, .name = name);
}

/* --- made --- */

static void mkdir_writes_a_record_and_the_layout_once(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(look(rig, "d"), -ENOENT);
	memstore_log_clear(rig->ms);
	assert_int_equal(make_dir(rig, "d"), 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFDIR | 0755);
	assert_stored(rig, ".hpkvfs/fs", LAYOUT);
	assert_non_null(memstore_value(rig->ms, ".hpkvfs/m/d/"));
	assert_string_equal(memstore_entry(rig->ms, 1)->key.p,
			    ".hpkvfs/fs"); /* behind the GET of it, before the record */
	assert_requests(rig, 1, 2, 0, 0, 0);
	assert_int_equal(make_dir(rig, "e"), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_lists(rig, "d", "");
	assert_no_requests(rig); /* nothing can be in it */
	rig_restart(rig);
	assert_lists(rig, "", "d/ e/ ");
	id_of(rig, "d");
	assert_int_equal(rig->entry.st.st_mode, S_IFDIR | 0755);
	assert_int_equal(rig->entry.st.st_uid, RIG_UID);
}

static void two_mkdirs_at_once_write_the_layout_once(void **state)
{
	struct rig *rig = *state;
	struct call *first, *second;

	assert_int_equal(look(rig, "a"), -ENOENT);
	first = begin(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "a", .mode = 0755);
	second = begin(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "b", .mode = 0755);
	assert_int_equal(end(first), 0);
	assert_int_equal(end(second), 0);
	assert_int_equal(memstore_count_key(rig->ms, STORE_SET, ".hpkvfs/fs"), 1);
}

static void plain_files_write_no_layout(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(write_file(rig, "f", "x"), 0);
	assert_not_stored(rig, ".hpkvfs/fs");
	assert_int_equal(memstore_size(rig->ms), 1);
}

static void what_exists_is_not_made_again(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "1");
	memstore_put(rig->ms, "d/f", "2");
	assert_int_equal(make_dir(rig, "f"), -EEXIST);
	assert_int_equal(make_dir(rig, "d"), -EEXIST);
	assert_int_equal(
		run(rig, op_create, .parent = FS_ROOT_ID, .name = "f", .mode = 0644, .flags = O_WRONLY | O_EXCL),
		-EEXIST);
	assert_int_equal(run(rig, op_create, .parent = FS_ROOT_ID, .name = "d", .mode = 0644, .flags = O_WRONLY),
			 -EISDIR);
}

static void reserved_and_impossible_names(void **state)
{
	struct rig *rig = *state;
	char longest[RIG_MAX_KEY + 1];

	memset(longest, 'n', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	memstore_put(rig->ms, ".hpkvfs/m/d/", RECORD_755);
	memstore_put(rig->ms, "d/.hpkvfs", "hidden");
	memstore_put(rig->ms, ".hpkvfs/c/x", "hidden");
	assert_int_equal(make_dir(rig, ".hpkvfs"), -EEXIST);
	assert_int_equal(make_dir(rig, "d/.hpkvfs"), -EEXIST);
	assert_int_equal(run(rig, op_create, .parent = FS_ROOT_ID, .name = ".hpkvfs", .mode = 0644, .flags = O_WRONLY),
			 -EEXIST);
	assert_int_equal(look(rig, ".hpkvfs"), -ENOENT);
	assert_int_equal(look(rig, "d/.hpkvfs"), -ENOENT);
	assert_lists(rig, "", "d/ ");
	assert_lists(rig, "d", "");
	assert_int_equal(look(rig, "\xff"), -EILSEQ);
	assert_int_equal(make_dir(rig, "\xff"), -EILSEQ);
	assert_int_equal(make_dir(rig, "%="), -EINVAL);
	assert_int_equal(look(rig, longest), -ENAMETOOLONG);
	assert_int_equal(make_dir(rig, longest), -ENAMETOOLONG);
	assert_int_equal(run(rig, op_create, .parent = FS_ROOT_ID, .name = longest, .mode = 0644, .flags = O_WRONLY),
			 -ENAMETOOLONG);
}

static void a_file_is_no_directory(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	uint64_t id;

	memstore_put(rig->ms, "f", "1");
	memstore_put(rig->ms, "d/f", "1");
	id = id_of(rig, "f");
	assert_int_equal(run(rig, op_lookup, .parent = id, .name = "x"), -ENOTDIR);
	assert_int_equal(run(rig, op_mkdir, .parent = id, .name = "x", .mode = 0755), -ENOTDIR);
	assert_int_equal(run(rig, op_create, .parent = id, .name = "x", .mode = 0755, .flags = O_WRONLY), -ENOTDIR);
	assert_int_equal(run(rig, op_unlink, .parent = id, .name = "x"), -ENOTDIR);
	assert_int_equal(run(rig, op_rmdir, .parent = id, .name = "x"), -ENOTDIR);
	assert_int_equal(run(rig, op_rename, .parent = id, .name = "x", .new_parent = id, .new_name = "y"), -ENOTDIR);
	assert_int_equal(fs_opendir(rig->fs, id, &handle), -ENOTDIR);
	assert_int_equal(remove_dir(rig, "f"), -ENOTDIR);
	assert_int_equal(remove_file(rig, "d"), -EISDIR);
	assert_int_equal(run(rig, op_open, .id = id_of(rig, "d"), .flags = O_RDONLY), -EISDIR);
	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "d"), .change = { .set_size = true }), -EISDIR);
}

static void nobody_has_forgotten_ids_of_nobody(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	assert_int_equal(run(rig, op_lookup, .parent = 99, .name = "x"), -ESTALE);
	assert_int_equal(run(rig, op_getattr, .id = 99), -ESTALE);
	assert_int_equal(run(rig, op_mkdir, .parent = 99, .name = "x"), -ESTALE);
	assert_int_equal(run(rig, op_rmdir, .parent = 99, .name = "x"), -ESTALE);
	assert_int_equal(run(rig, op_unlink, .parent = 99, .name = "x"), -ESTALE);
	assert_int_equal(run(rig, op_rename, .parent = 99, .name = "x", .new_parent = 1, .new_name = "y"), -ESTALE);
	assert_int_equal(run(rig, op_setattr, .id = 99), -ESTALE);
	assert_int_equal(fs_opendir(rig->fs, 99, &handle), -ESTALE);
	fs_forget(rig->fs, 99, 1);
	assert_no_requests(rig);
}

static void read_only_refuses_every_change(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "1");
	memstore_put(rig->ms, "d/f", "1");
	fs_set_read_only(rig->fs, true);
	assert_int_equal(make_dir(rig, "x"), -EROFS);
	assert_int_equal(remove_dir(rig, "d"), -EROFS);
	assert_int_equal(remove_file(rig, "f"), -EROFS);
	assert_int_equal(run(rig, op_create, .parent = FS_ROOT_ID, .name = "x", .mode = 0644, .flags = O_WRONLY),
			 -EROFS);
	assert_int_equal(
		run(rig, op_rename, .parent = FS_ROOT_ID, .name = "f", .new_parent = FS_ROOT_ID, .new_name = "g"),
		-EROFS);
	assert_int_equal(run(rig, op_open, .id = id_of(rig, "f"), .flags = O_RDWR), -EROFS);
	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .change = { .set_mode = true }), -EROFS);
	assert_reads(rig, "f", "1");
	fs_set_read_only(rig->fs, false);
	assert_int_equal(make_dir(rig, "x"), 0);
}

/* --- removed --- */

static void rmdir_removes_the_record(void **state)
{
	struct rig *rig = *state;
	uint64_t id;

	assert_int_equal(make_dir(rig, "d"), 0);
	id = rig->entry.id;
	assert_int_equal(remove_dir(rig, "d"), 0);
	assert_not_stored(rig, ".hpkvfs/m/d/");
	assert_int_equal(look(rig, "d"), -ENOENT);
	assert_int_equal(remove_dir(rig, "d"), -ENOENT);
	/* a program may still stand in it */
	assert_int_equal(run(rig, op_getattr, .id = id), 0);
	assert_int_equal(rig->entry.st.st_nlink, 0);
	fs_forget(rig->fs, id, 1);
	assert_int_equal(run(rig, op_getattr, .id = id), -ESTALE);
}

enum {
	DEEP = 4000
};

/* After the rename of the outermost all keys are made anew; and when another mount has removed it, all nodes go. */
static void a_tree_may_be_deeper_than_a_stack(void **state)
{
	static uint64_t ids[DEEP + 1] = { FS_ROOT_ID };
	struct rig *rig = *state;
	const struct str records = STR(".hpkvfs/m/e/");
	size_t at = 0;

	rig->config.max_key = 3 * DEEP;
	rig_restart(rig);
	for (size_t i = 0; i < DEEP; i++) {
		assert_int_equal(run(rig, op_mkdir, .parent = ids[i], .name = "d", .mode = 0755), 0);
		ids[i + 1] = rig->entry.id;
	}
	assert_int_equal(
		run(rig, op_rename, .parent = FS_ROOT_ID, .name = "d", .new_parent = FS_ROOT_ID, .new_name = "e"), 0);
	assert_int_equal(run(rig, op_lookup, .parent = ids[DEEP], .name = "absent"), -ENOENT);
	assert_int_equal(run(rig, op_rmdir, .parent = FS_ROOT_ID, .name = "e"), -ENOTEMPTY);
	for (size_t i = 1; i <= DEEP; i++)
		if (i != DEEP / 2) /* a program is in that one */
			fs_forget(rig->fs, ids[i], 1);
	while (memstore_key(rig->ms, at).len)
		if (str_starts(memstore_key(rig->ms, at), records))
			memstore_remove(rig->ms, memstore_key(rig->ms, at).p);
		else
			at++;
	rig_expire(rig);
	assert_int_equal(look(rig, "e"), -ENOENT);
	assert_int_equal(run(rig, op_getattr, .id = ids[1]), -ESTALE);
	assert_int_equal(run(rig, op_getattr, .id = ids[DEEP / 2]), 0);
	fs_forget(rig->fs, ids[DEEP / 2], 1);
	assert_int_equal(fs_figures(rig->fs).nodes, 1);
}

static void rmdir_refuses_what_is_not_empty(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	assert_int_equal(make_dir(rig, "d"), 0);
	memstore_put(rig->ms, "d/foreign", "1"); /* unknown here */
	assert_int_equal(remove_dir(rig, "d"), -ENOTEMPTY);
	memstore_remove(rig->ms, "d/foreign");
	memstore_put(rig->ms, ".hpkvfs/m/d/sub/", RECORD_755);
	assert_int_equal(remove_dir(rig, "d"), -ENOTEMPTY);
	memstore_remove(rig->ms, ".hpkvfs/m/d/sub/");
	memstore_put(rig->ms, "d", "own value");
	assert_int_equal(remove_dir(rig, "d"), -ENOTEMPTY);
	memstore_remove(rig->ms, "d");
	handle = open_file(rig, "d/f", O_WRONLY | O_CREAT); /* not stored yet */
	assert_int_equal(remove_dir(rig, "d"), -ENOTEMPTY);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(remove_file(rig, "d/f"), 0);
	memstore_put(rig->ms, ".hpkvfs/m/d/f", "{\"v\":1,\"mode\":33152}"); /* left over of a file that is gone */
	assert_int_equal(remove_dir(rig, "d"), 0);
	assert_int_equal(memstore_size(rig->ms), 1); /* the layout */
}

/* As rm -r does: what only foreign keys imply goes bottom up, though each directory loses its last key on the way. */
static void removing_a_foreign_tree(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "d/s/t/f", "1");
	memstore_put(rig->ms, "d/s/g", "2");
	assert_lists(rig, "d", "s/ ");
	assert_lists(rig, "d/s", "g t/ ");
	assert_lists(rig, "d/s/t", "f ");
	assert_int_equal(remove_file(rig, "d/s/t/f"), 0);
	rig_expire(rig);
	assert_lists(rig, "d/s", "g t/ "); /* it stays although no key implies it */
	assert_int_equal(remove_dir(rig, "d/s/t"), 0);
	assert_int_equal(remove_file(rig, "d/s/g"), 0);
	assert_int_equal(remove_dir(rig, "d/s"), 0);
	rig_expire(rig);
	assert_lists(rig, "", "d/ ");
	assert_int_equal(remove_dir(rig, "d"), 0);
	assert_lists(rig, "", "");
	assert_int_equal(memstore_size(rig->ms), 0);
}

static void unlink_of_a_plain_file_is_one_delete(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "1");
	memstore_put(rig->ms, "g", "1");
	memstore_put(rig->ms, ".hpkvfs/m/g", "{\"v\":1,\"mode\":33152}");
	id_of(rig, "f");
	memstore_log_clear(rig->ms);
	assert_int_equal(remove_file(rig, "f"), 0);
	assert_requests(rig, 0, 0, 0, 1, 0);
	assert_int_equal(remove_file(rig, "g"), 0);
	assert_requests(rig, 0, 0, 0, 2, 0);
	assert_int_equal(memstore_size(rig->ms), 0);
	assert_lists(rig, "", "");
	assert_no_requests(rig);
}

/* --- a directory by its record alone --- */

static void a_directory_goes_with_its_record(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, ".hpkvfs/m/d/", RECORD_755);
	memstore_put(rig->ms, ".hpkvfs/m/e/", RECORD_755);
	assert_lists(rig, "", "d/ e/ ");
	memstore_remove(rig->ms, ".hpkvfs/m/d/");
	memstore_remove(rig->ms, ".hpkvfs/m/e/");
	rig_expire(rig);
	assert_int_equal(look(rig, "d"), -ENOENT); /* asked for by itself */
	assert_lists(rig, "", "");                 /* listed */
	assert_int_equal(look(rig, "e"), -ENOENT);
}

static void a_directory_stays_while_a_program_writes_in_it(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, ".hpkvfs/m/d/", RECORD_755);
	handle = open_file(rig, "d/f", O_WRONLY | O_CREAT);
	assert_int_equal(write_at(rig, handle, 0, "x"), 0);
	memstore_remove(rig->ms, ".hpkvfs/m/d/");
	rig_expire(rig);
	assert_lists(rig, "", "d/ ");
	assert_int_equal(look(rig, "d"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "d/f", "x");
	rig_expire(rig);
	assert_reads(rig, "d/f", "x");
}

static void a_record_that_changes_elsewhere(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "1");
	memstore_put(rig->ms, ".hpkvfs/m/f", "{\"v\":1,\"mode\":35309,\"uid\":7}"); /* 04755 */
	memstore_put(rig->ms, ".hpkvfs/m/d/", RECORD_755);
	id_of(rig, "f");
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0755); /* set-id bits without the value's hash are void */
	assert_int_equal(rig->entry.st.st_uid, 7);
	memstore_put(rig->ms, ".hpkvfs/m/d/", RECORD_700);
	memstore_remove(rig->ms, ".hpkvfs/m/f");
	rig_expire(rig);
	assert_lists(rig, "", "d/ f ");
	id_of(rig, "d");
	assert_int_equal(rig->entry.st.st_mode, S_IFDIR | 0700);
	id_of(rig, "f");
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0644);
	assert_int_equal(rig->entry.st.st_uid, RIG_UID);
}

/* The time and the set-id bits belong to one value, by its SHA-256. */
static void a_record_for_one_value(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "1");
	memstore_put(
		rig->ms, ".hpkvfs/m/f",
		"{\"v\":1,\"mode\":35309,\"mtime\":\"1000000000.000000005\",\"hash\":\"6b86b273ff34fce19d6b804eff5a3f57\"}");
	id_of(rig, "f");
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 04755);
	assert_int_equal(rig->entry.st.st_mtim.tv_sec, 1000000000);
	memstore_put(rig->ms, "f", "2");
	rig_expire(rig);
	assert_lists(rig, "", "f ");
	id_of(rig, "f");
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0755);
	assert_true(rig->entry.st.st_mtim.tv_sec > 1000000000);
	memstore_put(rig->ms, "f", "1");
	rig_expire(rig);
	assert_lists(rig, "", "f ");
	id_of(rig, "f");
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 04755);
	assert_int_equal(rig->entry.st.st_mtim.tv_sec, 1000000000);
}

/* --- `a` beside `a/b` --- */

static void the_value_first_then_the_directory(void **state)
{
	struct rig *rig = *state;
	uint64_t value;

	memstore_put(rig->ms, "a", "value");
	assert_lists(rig, "", "a ");
	value = id_of(rig, "a");
	memstore_put(rig->ms, "a/b", "below");
	rig_expire(rig);
	rig_notes_clear(rig);
	assert_lists(rig, "", "a/ ");
	assert_true(rig_was_expired(rig, FS_ROOT_ID, "a"));
	assert_lists(rig, "a", "%= b ");
	assert_int_equal(id_of(rig, "a/%="), value); /* who has it open goes on */
	assert_reads(rig, "a/%=", "value");
	assert_reads(rig, "a/b", "below");
	/* the directory stays, for this mount, when its last key goes */
	memstore_remove(rig->ms, "a/b");
	rig_expire(rig);
	assert_lists(rig, "", "a/ ");
	assert_lists(rig, "a", "%= ");
	assert_reads(rig, "a/%=", "value");
	rig_restart(rig);
	assert_lists(rig, "", "a ");
}

static void the_directory_first_then_the_value(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "a/b", "below");
	assert_lists(rig, "a", "b ");
	memstore_put(rig->ms, "a", "value");
	rig_expire(rig);
	assert_lists(rig, "a", "b %= "); /* asked for by itself */
	memstore_put(rig->ms, "a", "changed");
	rig_expire(rig);
	assert_lists(rig, "", "a/ "); /* comes along with the parent's */
	assert_reads(rig, "a/%=", "changed");
	memstore_remove(rig->ms, "a");
	rig_expire(rig);
	assert_lists(rig, "a", "b ");
	assert_int_equal(look(rig, "a/%="), -ENOENT);
	memstore_put(rig->ms, "a", "again");
	rig_expire(rig);
	assert_lists(rig, "", "a/ ");
	memstore_remove(rig->ms, "a");
	rig_expire(rig);
	assert_lists(rig, "", "a/ ");
	assert_lists(rig, "a", "b ");
}

static void the_record_of_a_directory_beside_its_value(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "a", "value");
	memstore_put(rig->ms, ".hpkvfs/m/a", "{\"v\":1,\"mode\":33152}"); /* of the value: 0600 */
	memstore_put(rig->ms, ".hpkvfs/m/a/", RECORD_700);
	assert_lists(rig, "", "a/ ");
	assert_lists(rig, "a", "%= ");
	id_of(rig, "a/%=");
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
	memstore_remove(rig->ms, ".hpkvfs/m/a/");
	rig_expire(rig);
	assert_lists(rig, "", "a ");
	assert_reads(rig, "a", "value");
	id_of(rig, "a");
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
}

static void the_value_is_made_and_removed_by_its_name(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(make_dir(rig, "a"), 0);
	assert_int_equal(write_file(rig, "a/%=", "value"), 0);
	assert_stored(rig, "a", "value");
	assert_lists(rig, "a", "%= ");
	assert_lists(rig, "", "a/ ");
	assert_int_equal(remove_file(rig, "a/%="), 0);
	assert_not_stored(rig, "a");
	assert_lists(rig, "a", "");
	assert_int_equal(remove_dir(rig, "a"), 0);
	assert_int_equal(look(rig, "%="), -ENOENT);
}

/* --- the layout --- */

static void a_foreign_layout_is_refused(void **state)
{
	static const struct {
		const char *layout, *why;
	} cases[] = {
		{ "{\"v\":2,\"delimiter\":\"/\"}", "newer" },
		{ "{\"v\":1,\"delimiter\":\":\"}", "delimiter=:" },
		{ "{\"v\":1}", "another program" },
		{ "{\"v\":\"1\",\"delimiter\":\"/\"}", "another program" },
		{ "garbage", "another program" },
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		memstore_put(rig->ms, ".hpkvfs/fs", cases[i].layout);
		rig_restart(rig);
		assert_int_equal(run(rig, op_start), -EPROTONOSUPPORT);
		assert_non_null(strstr(rig->out.p, cases[i].why));
		assert_requests(rig, 1, 0, 0, 0, 0);
	}
	memstore_put(rig->ms, ".hpkvfs/fs", LAYOUT);
	rig_restart(rig);
	assert_int_equal(run(rig, op_start), 0);
	memstore_log_clear(rig->ms);
	assert_int_equal(make_dir(rig, "d"), 0);
	assert_int_equal(memstore_count_key(rig->ms, STORE_SET, ".hpkvfs/fs"), 0);
}

/* Two mounts of an empty store with different delimiters: the second to write a record finds the first's. */
static void a_layout_that_another_mount_has_written_since(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(run(rig, op_start), 0);
	memstore_put(rig->ms, ".hpkvfs/fs", "{\"v\":1,\"delimiter\":\":\"}");
	assert_int_equal(make_dir(rig, "d"), -EROFS);
	assert_stored(rig, ".hpkvfs/fs", "{\"v\":1,\"delimiter\":\":\"}");
	assert_int_equal(memstore_size(rig->ms), 1);
}

static void other_delimiters_and_a_prefix(void **state)
{
	static const char delimiters[] = { ':', '"', '\\', '\t', '\x1f' };
	struct rig *rig = *state;
	char key[32];

	for (size_t i = 0; i < sizeof(delimiters); i++) {
		rig->config.delimiter = delimiters[i];
		rig->config.prefix = STR("app.");
		rig_restart(rig);
		assert_int_equal(run(rig, op_start), 0);
		assert_int_equal(make_dir(rig, "d"), 0);
		assert_int_equal(write_file(rig, "d/f", "x"), 0);
		snprintf(key, sizeof(key), "app.d%cf", delimiters[i]);
		assert_stored(rig, key, "x");
		rig_restart(rig);
		assert_int_equal(run(rig, op_start), 0); /* it reads what it has written */
		assert_lists(rig, "", "d/ ");
		assert_reads(rig, "d/f", "x");
		assert_int_equal(remove_file(rig, "d/f"), 0);
		assert_int_equal(remove_dir(rig, "d"), 0);
		memstore_remove(rig->ms, "app..hpkvfs/fs");
		assert_int_equal(memstore_size(rig->ms), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fs_test(mkdir_writes_a_record_and_the_layout_once),
		fs_test(two_mkdirs_at_once_write_the_layout_once),
		fs_test(plain_files_write_no_layout),
		fs_test(what_exists_is_not_made_again),
		fs_test(reserved_and_impossible_names),
		fs_test(a_file_is_no_directory),
		fs_test(nobody_has_forgotten_ids_of_nobody),
		fs_test(read_only_refuses_every_change),
		fs_test(rmdir_removes_the_record),
		fs_test(a_tree_may_be_deeper_than_a_stack),
		fs_test(rmdir_refuses_what_is_not_empty),
		fs_test(removing_a_foreign_tree),
		fs_test(unlink_of_a_plain_file_is_one_delete),
		fs_test(a_directory_goes_with_its_record),
		fs_test(a_directory_stays_while_a_program_writes_in_it),
		fs_test(a_record_that_changes_elsewhere),
		fs_test(a_record_for_one_value),
		fs_test(the_value_first_then_the_directory),
		fs_test(the_directory_first_then_the_value),
		fs_test(the_record_of_a_directory_beside_its_value),
		fs_test(the_value_is_made_and_removed_by_its_name),
		fs_test(a_foreign_layout_is_refused),
		fs_test(a_layout_that_another_mount_has_written_since),
		fs_test(other_delimiters_and_a_prefix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
