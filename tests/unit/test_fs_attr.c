/* Modes, owners and times: what is sent, when, and what of it holds when others write as well. */
#include "attr_rig.h"

#include "fs/internal.h"

/* First 32 digits of the SHA-256 of "x" and of "y", by sha256sum. */
#define HASH_X "2d711642b726b04401627ca9fbac32f5"
#define HASH_Y "a1fce4363854ff888cff4b8e7875d600"

#define T1 1000000000123456789ll
#define T1_TEXT "1000000000.123456789"

/* --- what is sent, and when --- */

static void several_changes_become_one_patch(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	id_of(rig, "f");
	memstore_log_clear(rig->ms);
	assert_int_equal(change_owner(rig, "f", 7), 0);
	assert_int_equal(change_mode(rig, "f", 0600), 0);
	assert_int_equal(change_mtime(rig, "f", T1), 0);
	assert_no_requests(rig);
	assert_int_equal(run(rig, op_sync), 0);
	assert_requests(rig, 0, 0, 1, 0, 0);
	assert_stored(rig, ".hpkvfs/m/f",
		      "{\"v\":1,\"mode\":33152,\"uid\":7,\"mtime\":\"" T1_TEXT "\",\"hash\":\"" HASH_X "\"}");
	assert_int_equal(run(rig, op_sync), 0);
	assert_no_requests(rig);
}

static void changes_go_by_themselves_after_the_delay(void **state)
{
	struct rig *rig = *state;

	rig->config.attr_delay_us = 1000;
	memstore_put(rig->ms, "f", "x");
	rig_restart(rig);
	assert_int_equal(run(rig, op_start), 0);
	assert_int_equal(change_mode(rig, "f", 0600), 0);
	while (!memstore_value(rig->ms, ".hpkvfs/m/f"))
		loop_once(rig->loop);
	assert_stored(rig, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33152}");
	assert_int_equal(run(rig, op_sync), 0);
}

/* The delay ends while the content is still being written: what holds only for the new one comes behind that. */
static void what_belongs_to_a_value_waits_for_it(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct stat st;

	rig->config.attr_delay_us = 1000;
	memstore_put(rig->ms, "f", "x");
	rig_restart(rig);
	assert_int_equal(run(rig, op_start), 0);
	handle = open_file(rig, "f", O_WRONLY);
	assert_int_equal(run(rig, op_write, .handle = handle, .data = STR("y")), 0);
	assert_int_equal(change_mode(rig, "f", 04700), 0);
	assert_int_equal(change_mtime(rig, "f", T1), 0);
	while (!memstore_value(rig->ms, ".hpkvfs/m/f"))
		loop_once(rig->loop);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(run(rig, op_sync), 0);
	st = fresh_stat(rig, "f");
	assert_int_equal(st.st_mode, S_IFREG | 04700);
	assert_int_equal(mtime_of(&st), T1);
}

static void fsync_sends_them(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "f", "x");
	handle = open_file(rig, "f", O_RDONLY);
	assert_int_equal(change_mode(rig, "f", 0600), 0);
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	assert_requests(rig, 0, 0, 1, 0, 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_no_requests(rig);
}

static void touch_of_a_new_file_is_one_set(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct fs_attr_change now = { .set_mtime = true, .set_atime = true, .mtime_now = true, .mtime_ns = T1 };

	assert_int_equal(look(rig, "f"), -ENOENT);
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_create, .parent = FS_ROOT_ID, .name = "f", .mode = 0644, .flags = O_WRONLY), 0);
	handle = rig->handle;
	assert_int_equal(run(rig, op_setattr, .id = rig->entry.id, .handle = handle, .change = now), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_not_stored(rig, ".hpkvfs/m/f");
}

static void what_is_so_already_is_not_sent(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	id_of(rig, "f");
	memstore_log_clear(rig->ms);
	assert_int_equal(change_mode(rig, "f", 0644), 0);
	assert_int_equal(change_owner(rig, "f", RIG_UID), 0);
	/* there and back again, before it is sent */
	assert_int_equal(change_mode(rig, "f", 0600), 0);
	assert_int_equal(change_mode(rig, "f", 0644), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_no_requests(rig);
}

static void the_mount_s_default_is_written_over_what_a_record_has(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	memstore_put(rig->ms, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33152,\"new\":[1]}");
	assert_int_equal(change_mode(rig, "f", 0644), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_stored(rig, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33188,\"new\":[1]}");
}

static void assert_order(struct rig *rig, const char *first, const char *second)
{
	assert_int_equal(memstore_requests(rig->ms), 2);
	assert_string_equal(memstore_entry(rig->ms, 0)->key.p, first);
	assert_string_equal(memstore_entry(rig->ms, 1)->key.p, second);
	memstore_log_clear(rig->ms);
}

static void a_stricter_mode_comes_before_the_value(void **state)
{
	struct rig *rig = *state;

	make_file(rig, "secret", 0600, "x");
	assert_order(rig, ".hpkvfs/m/secret", "secret");
	make_file(rig, "open", 0666, "x");
	assert_order(rig, "open", ".hpkvfs/m/open");
	assert_int_equal(fresh_stat(rig, "secret").st_mode, S_IFREG | 0600);
	assert_int_equal(stat_of(rig, "open").st_mode, S_IFREG | 0666);
}

static void a_new_file_of_another_owner_that_others_may_not_read(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	assert_int_equal(look(rig, "f"), -ENOENT);
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_create, .parent = FS_ROOT_ID, .name = "f", .mode = 0666, .flags = O_WRONLY,
			     .maker = { .uid = 7, .gid = 8, .umask = 077 }),
			 0);
	handle = rig->handle;
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
	assert_int_equal(write_at(rig, handle, 0, "x"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_order(rig, ".hpkvfs/m/f", "f");
	assert_stored(rig, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33152,\"uid\":7,\"gid\":8}");
}

/* cp -p: everything is known before the first close. */
static void a_copy_with_its_attributes_is_two_requests(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	uint64_t id;

	assert_int_equal(look(rig, "f"), -ENOENT);
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_create, .parent = FS_ROOT_ID, .name = "f", .mode = 0600, .flags = O_WRONLY), 0);
	handle = rig->handle;
	id = rig->entry.id;
	assert_int_equal(write_at(rig, handle, 0, "x"), 0);
	assert_int_equal(run(rig, op_setattr, .id = id, .handle = handle,
			     .change = { .set_mtime = true, .mtime_ns = T1, .set_mode = true, .mode = 0640 }),
			 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_requests(rig, 0, 1, 1, 0, 0);
	assert_stored(rig, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33184,\"mtime\":\"" T1_TEXT "\",\"hash\":\"" HASH_X "\"}");
}

static void a_rename_takes_waiting_changes_along(void **state)
{
	struct rig *rig = *state;

	make_file(rig, ".f.tmp", 0600, "x");
	assert_int_equal(change_mode(rig, ".f.tmp", 0640), 0);
	assert_int_equal(change_mtime(rig, ".f.tmp", T1), 0);
	assert_int_equal(look(rig, "f"), -ENOENT);
	memstore_log_clear(rig->ms);
	assert_int_equal(
		run(rig, op_rename, .parent = FS_ROOT_ID, .name = ".f.tmp", .new_parent = FS_ROOT_ID, .new_name = "f"),
		0);
	assert_int_equal(memstore_count(rig->ms, STORE_PATCH), 0);
	assert_stored(rig, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33184,\"mtime\":\"" T1_TEXT "\",\"hash\":\"" HASH_X "\"}");
	assert_not_stored(rig, ".hpkvfs/m/.f.tmp");
	assert_int_equal(run(rig, op_sync), 0);
	assert_int_equal(memstore_count(rig->ms, STORE_PATCH), 0);
}

static void what_is_unlinked_keeps_its_attributes_to_itself(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	uint64_t id;

	memstore_put(rig->ms, "f", "x");
	handle = open_file(rig, "f", O_RDWR);
	id = id_of(rig, "f");
	assert_int_equal(change_owner(rig, "f", 7), 0);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_setattr, .id = id, .handle = handle, .change = { .set_mode = true, .mode = 0600 }),
			 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_no_requests(rig);
}

/* --- bound to a value --- */

static void another_s_value_has_neither_time_nor_set_id_bits(void **state)
{
	struct rig *rig = *state;
	struct stat st;

	memstore_put(rig->ms, "f", "x");
	assert_int_equal(change_mode(rig, "f", 06755), 0);
	assert_int_equal(change_owner(rig, "f", 7), 0);
	assert_int_equal(change_mtime(rig, "f", T1), 0);
	assert_int_equal(set_xattr(rig, "f", "security.capability", "c"), 0);
	assert_int_equal(set_xattr(rig, "f", "user.note", "n"), 0);
	assert_int_equal(run(rig, op_sync), 0);
	st = fresh_stat(rig, "f");
	assert_int_equal(st.st_mode, S_IFREG | 06755);
	assert_true(mtime_of(&st) == T1);
	assert_xattr(rig, "f", "security.capability", "c");

	memstore_put(rig->ms, "f", "y");
	rig_expire(rig);
	for (int i = 0; i < 2; i++) {
		st = i == 0 ? stat_of(rig, "f") : fresh_stat(rig, "f");
		assert_int_equal(st.st_mode, S_IFREG | 0755);
		assert_int_equal(st.st_uid, 7);
		assert_true(mtime_of(&st) > T1);
		assert_no_xattr(rig, "f", "security.capability");
		assert_xattr(rig, "f", "user.note", "n");
	}
}

static void a_local_write_binds_the_record_anew(void **state)
{
	struct rig *rig = *state;
	struct stat st, again;

	memstore_put(rig->ms, "f", "x");
	assert_int_equal(change_mtime(rig, "f", T1), 0);
	assert_int_equal(change_mode(rig, "f", 04755), 0);
	assert_int_equal(run(rig, op_sync), 0);
	memstore_log_clear(rig->ms);
	assert_int_equal(write_file(rig, "f", "y"), 0);
	assert_requests(rig, 0, 1, 1, 0, 0);
	assert_non_null(strstr(memstore_value(rig->ms, ".hpkvfs/m/f"), HASH_Y));
	st = stat_of(rig, "f");
	assert_true(mtime_of(&st) > T1);
	again = fresh_stat(rig, "f");
	assert_true(mtime_of(&again) == mtime_of(&st));
	assert_int_equal(again.st_mode, S_IFREG | 04755);
}

/* The record goes first, and shows the value before it no set-id bits meanwhile; then it is the new value's. */
static void a_stricter_record_is_bound_to_the_value_that_comes(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	memstore_put(rig->ms, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33279}");
	assert_int_equal(change_mode(rig, "f", 04755), 0);
	assert_int_equal(write_file(rig, "f", "y"), 0);
	assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 04755);
	assert_stored(rig, ".hpkvfs/m/f", "{\"v\":1,\"mode\":35309,\"hash\":\"" HASH_Y "\"}");
	assert_int_equal(fresh_stat(rig, "f").st_mode, S_IFREG | 04755);
}

static int op_fsync_attributes(struct call *call)
{
	return attr_commit(node_find(call->rig->fs, call->args.id));
}

/* The record is sent while the file is still open: the value that these are for is not there yet. */
static void what_belongs_to_a_value_that_is_still_to_come_waits_for_it(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct stat st;

	memstore_put(rig->ms, "f", "x");
	for (int recorded = 0; recorded < 2; recorded++) {
		handle = open_file(rig, "f", O_WRONLY);
		assert_int_equal(write_at(rig, handle, 0, "y"), 0);
		assert_int_equal(change_mode(rig, "f", 04755), 0);
		assert_int_equal(set_xattr(rig, "f", "security.capability", "c"), 0);
		assert_int_equal(change_mtime(rig, "f", T1), 0);
		assert_int_equal(run(rig, op_fsync_attributes, .id = id_of(rig, "f")), 0);
		assert_stored(rig, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33261}"); /* for "x", which others still see */
		assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 04755);
		assert_xattr(rig, "f", "security.capability", "c");
		rig_expire(rig); /* what is read again says no more */
		assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 04755);
		assert_int_equal(close_file(rig, handle), 0);
		assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 04755);
		assert_int_equal(run(rig, op_sync), 0);
		st = fresh_stat(rig, "f");
		assert_int_equal(st.st_mode, S_IFREG | 04755);
		assert_true(mtime_of(&st) == T1);
		assert_xattr(rig, "f", "security.capability", "c");
		memstore_put(rig->ms, "f", "x");
		memstore_put(rig->ms, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33261}");
		rig_restart(rig);
	}
}

static void a_local_write_does_not_revive_what_another_s_has_ended(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	assert_int_equal(change_mode(rig, "f", 04755), 0);
	assert_int_equal(set_xattr(rig, "f", "security.capability", "c"), 0);
	assert_int_equal(run(rig, op_sync), 0);
	memstore_put(rig->ms, "f", "another's");
	rig_expire(rig);
	assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0755);
	assert_int_equal(write_file(rig, "f", "x"), 0);
	assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0755);
	assert_int_equal(fresh_stat(rig, "f").st_mode, S_IFREG | 0755);
	assert_no_xattr(rig, "f", "security.capability");
}

static void a_record_without_time_is_left_alone_by_a_write(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	memstore_put(rig->ms, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33152}");
	id_of(rig, "f");
	memstore_log_clear(rig->ms);
	assert_int_equal(write_file(rig, "f", "y"), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
}

static void content_replaced_by_who_may_not_keep_set_id_bits(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "f", "x");
	assert_int_equal(change_mode(rig, "f", 06755), 0);
	handle = open_file(rig, "f", O_WRONLY | O_TRUNC);
	fs_drop_set_id(handle);
	assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0755);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_int_equal(fresh_stat(rig, "f").st_mode, S_IFREG | 0755);
}

/* --- others --- */

static void another_mount_s_change_of_another_member_stays(void **state)
{
	struct rig *rig = *state;
	struct stat st;

	memstore_put(rig->ms, "f", "x");
	memstore_put(rig->ms, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33188,\"uid\":5,\"xattr\":{\"user.a\":\"MQ==\"}}");
	assert_int_equal(change_mode(rig, "f", 0600), 0);
	assert_int_equal(set_xattr(rig, "f", "user.b", "2"), 0);
	memstore_put(rig->ms, ".hpkvfs/m/f",
		     "{\"v\":1,\"mode\":33188,\"uid\":6,\"xattr\":{\"user.a\":\"MQ==\",\"user.c\":\"Mw==\"}}");
	assert_int_equal(run(rig, op_sync), 0);
	st = fresh_stat(rig, "f");
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(st.st_uid, 6);
	assert_xattr(rig, "f", "user.a", "1");
	assert_xattr(rig, "f", "user.b", "2");
	assert_xattr(rig, "f", "user.c", "3");
}

/* To a file that had none, and that is looked at alone. */
static void another_mount_s_first_record_is_seen(void **state)
{
	struct rig *rig = *state;

	for (int large = 0; large < 2; large++) {
		const char *name = large ? "f1400" : "a";
		char record[32];

		if (large)
			put_numbered(rig, "f%04d", 1500);
		else
			memstore_put(rig->ms, name, "text");
		rig_restart(rig);
		assert_int_equal(stat_of(rig, name).st_mode, S_IFREG | 0644);
		snprintf(record, sizeof(record), ".hpkvfs/m/%s", name);
		memstore_put(rig->ms, record, "{\"v\":1,\"mode\":33152}");
		assert_int_equal(stat_of(rig, name).st_mode, S_IFREG | 0644);
		rig_expire(rig);
		assert_int_equal(stat_of(rig, name).st_mode, S_IFREG | 0600);
	}
}

static void an_answer_from_before_does_not_undo_a_change(void **state)
{
	struct rig *rig = *state;
	struct call *call;

	memstore_put(rig->ms, "f", "x");
	memstore_put(rig->ms, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33188}");
	id_of(rig, "f");
	rig_expire(rig);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){
				   .op = STORE_GET, .key = ".hpkvfs/m/f", .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	call = begin(rig, op_getattr, .id = rig->entry.id);
	rig_until_held(rig, 1);
	/* a second look does not wait for the first */
	memstore_clear_faults(rig->ms);
	assert_int_equal(change_mode(rig, "f", 0600), 0);
	assert_int_equal(run(rig, op_sync), 0);
	memstore_release(rig->ms);
	assert_int_equal(end(call), 0);
	assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0600);
}

static void a_damaged_record_is_passed_over_and_written_anew(void **state)
{
	static const char *const damaged[] = { "not json", "[1]", "{\"v\":1,\"mode\":\"x\"}", "{\"mode\":33152}", "" };
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	memstore_put(rig->ms, "g", "y");
	memstore_put(rig->ms, ".hpkvfs/m/g", "{\"v\":1,\"mode\":33152}");
	for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
		memstore_put(rig->ms, ".hpkvfs/m/f", damaged[i]);
		assert_int_equal(fresh_stat(rig, "f").st_mode, S_IFREG | 0644);
		assert_reads(rig, "f", "x");
		assert_int_equal(stat_of(rig, "g").st_mode, S_IFREG | 0600);
		assert_int_equal(change_mode(rig, "f", 0640), 0);
		assert_int_equal(run(rig, op_sync), 0);
		assert_stored(rig, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33184}");
	}
}

static void a_newer_version_s_record_is_not_touched(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	memstore_put(rig->ms, ".hpkvfs/m/f", "{\"v\":2,\"mode\":33152}");
	assert_int_equal(change_mode(rig, "f", 0600), -EPERM);
	assert_int_equal(set_xattr(rig, "f", "user.a", "1"), -EPERM);
	assert_int_equal(write_file(rig, "f", "y"), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_stored(rig, "f", "y");
	assert_stored(rig, ".hpkvfs/m/f", "{\"v\":2,\"mode\":33152}");
}

static void what_is_left_of_a_deleted_file_is_not_the_next_one_s(void **state)
{
	static const char LEFT[] =
		"{\"v\":1,\"mode\":36351,\"uid\":5,\"mtime\":\"" T1_TEXT "\",\"xattr\":{\"user.a\":\"MQ==\"}}";
	struct rig *rig = *state;

	for (int i = 0; i < 4; i++) {
		memstore_put(rig->ms, ".hpkvfs/m/f", LEFT);
		rig_restart(rig);
		assert_int_equal(run(rig, op_start), 0);
		if (i == 1) { /* deleted elsewhere while it is shown here */
			memstore_put(rig->ms, "f", "x");
			id_of(rig, "f");
			memstore_remove(rig->ms, "f");
			rig_expire(rig);
		}
		if (i == 2)
			put_numbered(rig, "%05d", 1500);
		if (i == 3) {
			make_file(rig, "g", 0644, "x");
			assert_int_equal(look(rig, "f"), -ENOENT);
			assert_int_equal(run(rig, op_rename, .parent = FS_ROOT_ID, .name = "g",
					     .new_parent = FS_ROOT_ID, .new_name = "f"),
					 0);
		} else {
			make_file(rig, "f", 0640, "x");
		}
		struct stat st = fresh_stat(rig, "f");

		assert_int_equal(st.st_mode, S_IFREG | (i == 3 ? 0644 : 0640));
		assert_int_equal(st.st_uid, RIG_UID);
		assert_true(mtime_of(&st) > T1);
		assert_no_xattr(rig, "f", "user.a");
		memstore_remove(rig->ms, "f");
	}
}

/* --- failures --- */

static void a_change_that_can_never_be_stored_is_reported_and_dropped(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	assert_int_equal(change_mode(rig, "f", 0600), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_PATCH, .err = -EACCES });
	assert_int_equal(run(rig, op_sync), -EACCES);
	memstore_clear_faults(rig->ms);
	assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0644);
	assert_true(rig_was_invalidated(rig, id_of(rig, "f")));
	assert_int_equal(run(rig, op_sync), 0);
}

static void a_change_waits_for_a_store_that_does_not_answer(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	assert_int_equal(change_mode(rig, "f", 0600), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_PATCH, .err = -ETIMEDOUT });
	assert_int_equal(run(rig, op_sync), -ETIMEDOUT);
	assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0600);
	memstore_clear_faults(rig->ms);
	assert_int_equal(run(rig, op_sync), 0);
	assert_int_equal(fresh_stat(rig, "f").st_mode, S_IFREG | 0600);
}

static void a_change_made_while_the_one_before_is_sent(void **state)
{
	struct rig *rig = *state;
	struct call *call;

	memstore_put(rig->ms, "f", "x");
	assert_int_equal(change_mode(rig, "f", 0600), 0);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_PATCH, .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	call = begin(rig, op_sync);
	rig_until_held(rig, 1);
	assert_int_equal(change_mode(rig, "f", 0640), 0);
	memstore_release(rig->ms);
	assert_int_equal(end(call), 0);
	assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0640);
	assert_int_equal(run(rig, op_sync), 0);
	assert_int_equal(fresh_stat(rig, "f").st_mode, S_IFREG | 0640);
}

static void a_value_that_fails_leaves_what_was_there(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "f", "x");
	assert_int_equal(change_mtime(rig, "f", T1), 0);
	assert_int_equal(run(rig, op_sync), 0);
	handle = open_file(rig, "f", O_WRONLY | O_TRUNC);
	assert_int_equal(write_at(rig, handle, 0, "y"), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .key = "f", .err = -EACCES });
	assert_int_equal(close_file(rig, handle), -EACCES);
	memstore_clear_faults(rig->ms);
	assert_int_equal(run(rig, op_sync), 0);
	assert_reads(rig, "f", "x");
	struct stat st = fresh_stat(rig, "f");

	assert_true(mtime_of(&st) == T1);
}

/* --- times --- */

static void atime_is_as_set_else_the_mtime_and_never_a_request(void **state)
{
	struct rig *rig = *state;
	struct stat st;

	memstore_put(rig->ms, "f", "x");
	st = stat_of(rig, "f");
	assert_true(st.st_atim.tv_sec == st.st_mtim.tv_sec && st.st_atim.tv_nsec == st.st_mtim.tv_nsec);
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .change = { .set_atime = true, .atime_ns = T1 }),
			 0);
	st = stat_of(rig, "f");
	assert_int_equal(st.st_atim.tv_nsec, 123456789);
	assert_int_equal(run(rig, op_sync), 0);
	assert_no_requests(rig);
}

static void times_before_1970_and_far_ahead(void **state)
{
	static const int64_t times[] = {
		-1, -500000000, -1000000000, 0, 1, 2534023007999999999ll, 4102444800000000001
	};
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		struct stat st;

		assert_int_equal(change_mtime(rig, "f", times[i]), 0);
		assert_int_equal(run(rig, op_sync), 0);
		st = fresh_stat(rig, "f");
		assert_true(mtime_of(&st) == times[i]);
	}
}

static void a_directory_s_time_is_seen_by_others(void **state)
{
	struct rig *rig = *state;
	struct stat st;

	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "d", .mode = 0755), 0);
	assert_int_equal(write_file(rig, "d/f", "x"), 0);
	assert_int_equal(change_mtime(rig, "d", T1), 0);
	assert_int_equal(run(rig, op_sync), 0);
	st = fresh_stat(rig, "d");
	assert_true(mtime_of(&st) == T1);
	assert_int_equal(write_file(rig, "d/f", "y"), 0); /* nothing comes or goes */
	st = stat_of(rig, "d");
	assert_true(mtime_of(&st) == T1);
	assert_int_equal(write_file(rig, "d/g", "y"), 0);
	st = stat_of(rig, "d");
	assert_true(mtime_of(&st) > T1);
}

static void of_a_directory_s_two_times_the_later_change_holds(void **state)
{
	struct rig *rig = *state;
	struct stat st, changed;

	rig_use_state(rig);
	rig_restart(rig);
	assert_int_equal(run(rig, op_start), 0);
	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "d", .mode = 0755), 0);
	assert_int_equal(change_mtime(rig, "d", T1), 0);
	assert_int_equal(run(rig, op_sync), 0);
	st = fresh_stat(rig, "d");
	assert_true(mtime_of(&st) == T1);
	assert_int_equal(write_file(rig, "d/f", "x"), 0);
	changed = stat_of(rig, "d");
	assert_true(mtime_of(&changed) > T1);
	st = fresh_stat(rig, "d");
	assert_true(mtime_of(&st) == mtime_of(&changed));
	/* another machine sets it */
	memstore_put(rig->ms, ".hpkvfs/m/d/", "{\"v\":1,\"mode\":16877,\"mtime\":\"1000000001.000000000\"}");
	st = fresh_stat(rig, "d");
	assert_true(mtime_of(&st) == 1000000001000000000ll);
}

static void the_root_has_attributes_too(void **state)
{
	struct rig *rig = *state;
	struct fs_attr_change change = { .set_mode = true, .mode = 01770, .set_mtime = true, .mtime_ns = T1 };

	assert_int_equal(run(rig, op_setattr, .id = FS_ROOT_ID, .change = change), 0);
	assert_int_equal(run(rig, op_sync), 0);
	rig_restart(rig);
	assert_int_equal(run(rig, op_start), 0);
	assert_int_equal(run(rig, op_getattr, .id = FS_ROOT_ID), 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFDIR | 01770);
	assert_true(mtime_of(&rig->entry.st) == T1);
}

/* --- creation --- */

static void a_set_group_id_directory_gives_its_group(void **state)
{
	struct rig *rig = *state;
	uint64_t id;

	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "d", .mode = 02775, .maker = { 7, 70, 0 }),
			 0);
	id = rig->entry.id;
	assert_int_equal(run(rig, op_mkdir, .parent = id, .name = "e", .mode = 0755, .maker = { 8, 80, 0 }), 0);
	assert_int_equal(rig->entry.st.st_gid, 70);
	assert_int_equal(rig->entry.st.st_mode, S_IFDIR | 02755);
	assert_int_equal(
		run(rig, op_create, .parent = id, .name = "f", .mode = 0644, .flags = O_WRONLY, .maker = { 8, 80, 0 }),
		0);
	assert_int_equal(rig->entry.st.st_gid, 70);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0644);
	assert_int_equal(close_file(rig, rig->handle), 0);
	assert_int_equal(fresh_stat(rig, "d/f").st_gid, 70);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		attr_test(several_changes_become_one_patch),
		attr_test(changes_go_by_themselves_after_the_delay),
		attr_test(what_belongs_to_a_value_waits_for_it),
		attr_test(fsync_sends_them),
		attr_test(touch_of_a_new_file_is_one_set),
		attr_test(what_is_so_already_is_not_sent),
		attr_test(the_mount_s_default_is_written_over_what_a_record_has),
		attr_test(a_stricter_mode_comes_before_the_value),
		attr_test(a_new_file_of_another_owner_that_others_may_not_read),
		attr_test(a_copy_with_its_attributes_is_two_requests),
		attr_test(a_rename_takes_waiting_changes_along),
		attr_test(what_is_unlinked_keeps_its_attributes_to_itself),
		attr_test(another_s_value_has_neither_time_nor_set_id_bits),
		attr_test(a_local_write_binds_the_record_anew),
		attr_test(a_stricter_record_is_bound_to_the_value_that_comes),
		attr_test(a_local_write_does_not_revive_what_another_s_has_ended),
		attr_test(a_record_without_time_is_left_alone_by_a_write),
		attr_test(what_belongs_to_a_value_that_is_still_to_come_waits_for_it),
		attr_test(content_replaced_by_who_may_not_keep_set_id_bits),
		attr_test(another_mount_s_change_of_another_member_stays),
		attr_test(another_mount_s_first_record_is_seen),
		attr_test(an_answer_from_before_does_not_undo_a_change),
		attr_test(a_damaged_record_is_passed_over_and_written_anew),
		attr_test(a_newer_version_s_record_is_not_touched),
		attr_test(what_is_left_of_a_deleted_file_is_not_the_next_one_s),
		attr_test(a_change_that_can_never_be_stored_is_reported_and_dropped),
		attr_test(a_change_waits_for_a_store_that_does_not_answer),
		attr_test(a_change_made_while_the_one_before_is_sent),
		attr_test(a_value_that_fails_leaves_what_was_there),
		attr_test(atime_is_as_set_else_the_mtime_and_never_a_request),
		attr_test(times_before_1970_and_far_ahead),
		attr_test(a_directory_s_time_is_seen_by_others),
		attr_test(of_a_directory_s_two_times_the_later_change_holds),
		attr_test(the_root_has_attributes_too),
		attr_test(a_set_group_id_directory_gives_its_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
