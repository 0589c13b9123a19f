/* A subscription: what is told is so, in whatever order it comes beside replies; what is known is not asked again; and the kernel
 * is told of what it holds, the name before the inode. */
#include "push_rig.h"

#include <time.h>

#include "fs/base64.h"
#include "fs/internal.h"

static const char LINK[] = "{\"v\":1,\"mode\":41471,\"target\":\"a\"}";

static int64_t mtime_ns(const struct rig *rig)
{
	return rig->entry.st.st_mtim.tv_sec * INT64_C(1000000000) + rig->entry.st.st_mtim.tv_nsec;
}

/* The name's note stands before the inode's. */
static void assert_told_in_order(struct rig *rig, uint64_t parent, const char *name, uint64_t id)
{
	unsigned entry = UINT32_MAX;

	for (unsigned i = 0; i < rig->note_count; i++) {
		if (rig->notes[i].entry && rig->notes[i].id == parent &&
		    str_equal(buf_str(&rig->notes[i].name), str_c(name)))
			entry = i;
		if (!rig->notes[i].entry && rig->notes[i].id == id) {
			assert_true(entry < i);
			return;
		}
	}
	fail_msg("the kernel was not told of %s", name);
}

/* --- what is known --- */

static void what_is_known_is_not_asked_again(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "a", "1");
	push_put(rig, "d/b", "2");
	assert_lists(rig, "", "a d/ ");
	assert_lists(rig, "d", "b ");
	memstore_log_clear(rig->ms);
	rig_expire(rig);
	assert_lists(rig, "", "a d/ ");
	assert_lists(rig, "d", "b ");
	assert_reads(rig, "a", "1");
	assert_reads(rig, "d/b", "2");
	assert_int_equal(look(rig, "none"), -ENOENT);
	assert_int_equal(look(rig, "d/none"), -ENOENT);
	assert_no_requests(rig);
}

static void the_kernel_may_keep_it(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "a", "1");
	push_put(rig, "d/b", "2");
	assert_int_equal(look(rig, "a"), 0);
	assert_true(rig->entry.ttl_us == FS_FOREVER);
	assert_int_equal(look(rig, "d"), 0);
	assert_true(rig->entry.ttl_us == FS_FOREVER);
	assert_int_equal(look(rig, "none"), -ENOENT);
	assert_true(rig->entry.ttl_us == FS_FOREVER);
	assert_int_equal(run(rig, op_getattr, .id = FS_ROOT_ID), 0);
	assert_true(rig->entry.ttl_us == FS_FOREVER);
}

static void a_large_directory_is_asked_name_by_name_and_once(void **state)
{
	struct rig *rig = *state;

	put_numbered(rig, "f%04d", 1500);
	push_settle(rig);
	assert_int_equal(look(rig, "f1200"), 0);
	assert_int_equal(look(rig, "none"), -ENOENT);
	assert_true(rig->entry.ttl_us == FS_FOREVER);
	memstore_log_clear(rig->ms);
	rig_expire(rig);
	assert_int_equal(look(rig, "f1200"), 0);
	assert_int_equal(look(rig, "none"), -ENOENT);
	assert_no_requests(rig);
	push_put(rig, "none", "1");
	assert_true(rig_was_expired(rig, FS_ROOT_ID, "none"));
	assert_reads(rig, "none", "1");
}

static void without_one_nothing_is_believed_for_ever(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "a", "1");
	push_end(rig);
	assert_int_equal(look(rig, "a"), 0);
	assert_true(rig->entry.ttl_us <= RIG_TTL_US);
	assert_int_equal(look(rig, "none"), -ENOENT);
	assert_true(rig->entry.ttl_us == 0);
}

/* --- what changes --- */

static void a_change_is_there_without_a_request(void **state)
{
	struct rig *rig = *state;
	uint64_t id;

	push_put(rig, "a", "1");
	id = id_of(rig, "a");
	memstore_log_clear(rig->ms);
	rig_notes_clear(rig);
	push_put(rig, "a", "changed");
	assert_told_in_order(rig, FS_ROOT_ID, "a", id);
	assert_reads(rig, "a", "changed");
	assert_int_equal(run(rig, op_getattr, .id = id), 0);
	assert_int_equal(rig->entry.st.st_size, 7);
	assert_no_requests(rig);
}

static void its_time_is_the_notifications(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "a", "1");
	id_of(rig, "a");
	/* within a second of the last change it is the next second: programs compare whole ones */
	rig_serve(rig, 1100000);
	for (int i = 0; i < 2000; i++)
		memstore_put(rig->ms, "other", "x");
	push_put(rig, "a", "2");
	assert_int_equal(look(rig, "a"), 0);
	assert_int_equal(mtime_ns(rig), memstore_time_ms(rig->ms) * 1000000);
}

static void a_new_name_is_there(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "a", "1");
	id_of(rig, "a");
	assert_int_equal(look(rig, "b"), -ENOENT);
	memstore_log_clear(rig->ms);
	rig_notes_clear(rig);
	push_put(rig, "b", "2");
	assert_told_in_order(rig, FS_ROOT_ID, "b", FS_ROOT_ID);
	assert_reads(rig, "b", "2");
	assert_lists(rig, "", "a b ");
	assert_no_requests(rig);
}

static void a_removed_name_is_gone(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "a", "1");
	push_put(rig, "b", "2");
	id_of(rig, "a");
	memstore_log_clear(rig->ms);
	rig_notes_clear(rig);
	push_take(rig, "a");
	assert_told_in_order(rig, FS_ROOT_ID, "a", FS_ROOT_ID);
	assert_int_equal(look(rig, "a"), -ENOENT);
	assert_lists(rig, "", "b ");
	assert_no_requests(rig);
}

static void directories_appear_with_their_keys(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(look(rig, "d"), -ENOENT);
	memstore_log_clear(rig->ms);
	rig_notes_clear(rig);
	push_put(rig, "d/e/f", "1");
	assert_told_in_order(rig, FS_ROOT_ID, "d", FS_ROOT_ID);
	assert_lists(rig, "", "d/ ");
	assert_lists(rig, "d", "e/ ");
	assert_lists(rig, "d/e", "f ");
	assert_reads(rig, "d/e/f", "1");
	assert_int_equal(look(rig, "d/g"), -ENOENT);
	assert_no_requests(rig);
}

static void a_directory_that_another_mount_makes_and_removes(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(look(rig, "d"), -ENOENT);
	push_put(rig, ".hpkvfs/m/d/", "{\"v\":1,\"mode\":16832}");
	assert_int_equal(look(rig, "d"), 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFDIR | 0700);
	push_put(rig, "d/a", "1");
	assert_reads(rig, "d/a", "1");
	push_take(rig, "d/a");
	rig_notes_clear(rig);
	push_take(rig, ".hpkvfs/m/d/");
	assert_true(rig_name_went(rig, FS_ROOT_ID, "d"));
	assert_int_equal(look(rig, "d"), -ENOENT);
	assert_lists(rig, "", "");
}

static void a_file_becomes_a_directory(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "a", "1");
	id_of(rig, "a");
	rig_notes_clear(rig);
	memstore_log_clear(rig->ms);
	push_put(rig, "a/b", "2");
	assert_true(rig_name_went(rig, FS_ROOT_ID, "a"));
	assert_lists(rig, "", "a/ ");
	assert_reads(rig, "a/b", "2");
	assert_reads(rig, "a/%=", "1");
	push_put(rig, "a", "3");
	assert_reads(rig, "a/%=", "3");
	push_take(rig, "a");
	assert_int_equal(look(rig, "a/%="), -ENOENT);
}

static void attributes_change_with_the_record(void **state)
{
	struct rig *rig = *state;
	uint64_t id;

	push_put(rig, "a", "1");
	id = id_of(rig, "a");
	memstore_log_clear(rig->ms);
	rig_notes_clear(rig);
	push_put(rig, ".hpkvfs/m/a", "{\"v\":1,\"mode\":33216,\"uid\":7}");
	assert_told_in_order(rig, FS_ROOT_ID, "a", id);
	assert_int_equal(look(rig, "a"), 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0700);
	assert_int_equal(rig->entry.st.st_uid, 7);
	push_take(rig, ".hpkvfs/m/a");
	assert_int_equal(look(rig, "a"), 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0644);
	assert_int_equal(rig->entry.st.st_uid, RIG_UID);
	assert_no_requests(rig);
}

/* With the time of the value, here the SHA-256 of "1", as programs there have set it. */
static void a_time_comes_with_the_record(void **state)
{
	static const char HASH[] = "6b86b273ff34fce19d6b804eff5a3f57";
	struct rig *rig = *state;
	char record[128];
	uint64_t id;

	push_put(rig, "a", "1");
	id = id_of(rig, "a");
	for (int mode = 0600; mode <= 0640; mode += 040) {
		rig_notes_clear(rig);
		snprintf(record, sizeof(record), "{\"v\":1,\"mode\":%d,\"mtime\":\"1000000000.%09d\",\"hash\":\"%s\"}",
			 S_IFREG | mode, mode, HASH);
		push_put(rig, ".hpkvfs/m/a", record);
		assert_told_in_order(rig, FS_ROOT_ID, "a", id);
		assert_int_equal(look(rig, "a"), 0);
		assert_int_equal(rig->entry.st.st_mode, S_IFREG | mode);
		assert_int_equal(rig->entry.st.st_mtim.tv_sec, 1000000000);
		assert_int_equal(rig->entry.st.st_mtim.tv_nsec, mode);
	}
}

/* Its key and its content are those of a file that has gone, its time is not. */
static void a_file_that_is_made_anew_is_new(void **state)
{
	const struct fs_attr_change old = { .set_mtime = true, .mtime_ns = 1000000000000000000 };
	struct rig *rig = *state;

	push_end(rig);
	rig_use_state(rig);
	rig_restart(rig);
	push_begin(rig);
	push_put(rig, "a", "1");
	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "a"), .change = old), 0);
	push_take(rig, "a");
	push_put(rig, "a", "1");
	assert_int_equal(look(rig, "a"), 0);
	assert_true(rig->entry.st.st_mtim.tv_sec > 1000000000);
}

static void symbolic_links_come_change_and_go(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(look(rig, "l"), -ENOENT);
	push_put(rig, ".hpkvfs/m/l", LINK);
	assert_int_equal(look(rig, "l"), 0);
	assert_true(S_ISLNK(rig->entry.st.st_mode));
	assert_int_equal(fs_readlink(rig->fs, rig->entry.id, &rig->out), 0);
	assert_string_equal(rig->out.p, "a");
	push_put(rig, ".hpkvfs/m/l", "{\"v\":1,\"mode\":41471,\"target\":\"bb\"}");
	assert_int_equal(fs_readlink(rig->fs, rig->entry.id, &rig->out), 0);
	assert_string_equal(rig->out.p, "bb");
	push_take(rig, ".hpkvfs/m/l");
	assert_int_equal(look(rig, "l"), -ENOENT);
}

/* Value and record of one change arrive apart, in either order. */
static void a_link_is_replaced_by_a_file_and_the_reverse(void **state)
{
	struct rig *rig = *state;

	push_put(rig, ".hpkvfs/m/x", LINK);
	assert_int_equal(look(rig, "x"), 0);
	push_put(rig, "x", "file");
	assert_reads(rig, "x", "file");
	assert_true(S_ISREG(push_node(rig, "x")->mode));
	push_put(rig, ".hpkvfs/m/x", "{\"v\":1,\"mode\":33152}");
	assert_int_equal(push_node(rig, "x")->mode, S_IFREG | 0600);
	push_put(rig, ".hpkvfs/m/x", LINK);
	assert_true(S_ISREG(push_node(rig, "x")->mode));
	push_take(rig, "x");
	assert_int_equal(look(rig, "x"), 0);
	assert_true(S_ISLNK(rig->entry.st.st_mode));
	push_put(rig, "x", "again");
	assert_reads(rig, "x", "again");
}

static void a_record_that_came_before_its_file(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(look(rig, "a"), -ENOENT);
	push_put(rig, ".hpkvfs/m/a", "{\"v\":1,\"mode\":33152}");
	assert_int_equal(look(rig, "a"), -ENOENT);
	memstore_log_clear(rig->ms);
	push_put(rig, "a", "1");
	assert_int_equal(look(rig, "a"), 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
	assert_no_requests(rig);
}

static void assert_private(struct rig *rig, const char *path)
{
	assert_int_equal(look(rig, path), 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
	assert_true(rig->entry.ttl_us == FS_FOREVER);
}

/* Others have made and deleted so many files that not all that is left of them is remembered. */
static void a_record_that_came_before_its_file_beside_many_without(void **state)
{
	static const char *const names[] = { "new", "left0000", "left1099", "left0001", "left0002" };
	static const char RECORD[] = "{\"v\":1,\"mode\":33152}";
	struct rig *rig = *state;
	char key[32];

	for (int listed = 0; listed < 2; listed++) {
		for (int i = 0; i < 1100; i++) {
			snprintf(key, sizeof(key), ".hpkvfs/m/left%04d", i);
			push_put(rig, key, RECORD);
		}
		if (listed) {
			push_end(rig);
			rig_restart(rig);
			push_begin(rig);
		}
		assert_int_equal(list_dir(rig, ""), 0);
		push_put(rig, ".hpkvfs/m/new", RECORD);
		for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
			push_put(rig, names[i], "1");
			assert_private(rig, names[i]);
			push_take(rig, names[i]);
			snprintf(key, sizeof(key), ".hpkvfs/m/%s", names[i]);
			push_take(rig, key);
		}
		/* made here it is another file, for all others too */
		assert_int_equal(write_file(rig, "left0003", "1"), 0);
		push_settle(rig);
		assert_int_equal(look(rig, "left0003"), 0);
		assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0644);
		assert_true(rig->entry.ttl_us == FS_FOREVER);
		assert_stored(rig, ".hpkvfs/m/left0003", "{\"v\":1,\"mode\":33188}");
		assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "left0003"), 0);
		push_settle(rig);
		assert_not_stored(rig, ".hpkvfs/m/left0003");
	}
}

/* The record of a directory's own value lies in what its parent is asked for, of which not all is known. */
static void a_record_that_was_there_before_a_directorys_value(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "a/x", "1");
	memstore_put(rig->ms, ".hpkvfs/m/a", "{\"v\":1,\"mode\":33152}");
	push_large_root(rig);
	assert_lists(rig, "a", "x ");
	push_put(rig, "a", "2");
	assert_private(rig, "a/%=");
}

static void keys_that_nobody_holds_take_no_memory(void **state)
{
	struct rig *rig = *state;
	uint64_t nodes;

	push_put(rig, "d/a", "1");
	push_end(rig);
	rig_restart(rig);
	push_begin(rig);
	nodes = fs_figures(rig->fs).nodes;
	put_numbered(rig, "d/%04d", 1000);
	push_settle(rig);
	assert_int_equal(fs_figures(rig->fs).nodes, nodes);
	assert_int_equal(list_dir(rig, "d"), 0);
	assert_int_equal(words(rig->out.p), 1001);
}

static void what_is_no_name_is_ignored(void **state)
{
	struct rig *rig = *state;

	assert_lists(rig, "", "");
	push_put(rig, ".hpkvfs/m/a/../b", "{\"v\":1}");
	push_put(rig, ".hpkvfs/m/..", LINK);
	push_put(rig, ".hpkvfs/x", "1");
	push_put(rig, ".hpkvfs/c/none/00000000", "1");
	push_put(rig, ".hpkvfs/c/", "1");
	push_put(rig, "\xff", "1");
	push_put(rig, ".hpkvfs/m/a", "no record");
	assert_lists(rig, "", "");
}

/* --- chunks --- */

/* Its last chunk, at `key`, holds `fill` from now on, and so does `text`, which is what the file shows then. */
static void assert_shows_chunk(struct rig *rig, const struct buf *key, char *text, uint64_t start, char fill)
{
	CLEANUP(buf_free) struct buf base64 = BUF_INIT;
	uint64_t id = id_of(rig, "big");
	size_t len = strlen(text) - start;

	rig_notes_clear(rig);
	memstore_log_clear(rig->ms);
	memset(text + start, fill, len);
	assert_int_equal(base64_encode(str_of(text + start, len), &base64), 0);
	memstore_put_str(rig->ms, buf_str(key), buf_str(&base64));
	push_settle(rig);
	assert_told_in_order(rig, FS_ROOT_ID, "big", id);
	assert_reads(rig, "big", text);
}

static void chunks_that_another_mount_writes_in_place(void **state)
{
	struct rig *rig = *state;
	char *text = malloc(9001);
	struct buf key = BUF_INIT;
	uint64_t chunk_size, start;

	memset(text, 'a', 9000);
	text[9000] = '\0';
	assert_int_equal(write_file(rig, "big", text), 0);
	push_settle(rig);
	assert_reads(rig, "big", text);
	for (size_t i = 0; i < memstore_size(rig->ms); i++)
		if (str_starts(memstore_key(rig->ms, i), STR(".hpkvfs/c/")))
			assert_int_equal(buf_set(&key, memstore_key(rig->ms, i)), 0); /* the last */
	assert_non_null(key.p);
	chunk_size = push_node(rig, "big")->file->body->parts[0].chunk_size;
	start = 9000 / chunk_size * chunk_size;
	assert_shows_chunk(rig, &key, text, start, 'z');
	assert_no_requests(rig);
	/* also where the stub is not in memory any more */
	value_drop(push_node(rig, "big"));
	assert_shows_chunk(rig, &key, text, start, 'y');
	buf_free(&key);
	free(text);
}

/* --- late, twice, and many --- */

static void tell(struct rig *rig, const char *key, const char *value, int64_t time_ms)
{
	struct str text = value ? str_c(value) : STR("");

	fs_notified(rig->fs, str_c(key), value ? &text : NULL, time_ms);
	push_settle(rig);
}

static void what_is_told_late_is_asked(void **state)
{
	struct rig *rig = *state;
	int64_t now;

	push_put(rig, "a", "1");
	id_of(rig, "a");
	push_put(rig, "a", "2");
	push_put(rig, "a", "3");
	now = memstore_time_ms(rig->ms);
	memstore_log_clear(rig->ms);
	tell(rig, "a", "3", now);     /* again */
	tell(rig, "a", "2", now - 1); /* again, and late */
	assert_reads(rig, "a", "3");
	assert_int_equal(memstore_count_key(rig->ms, STORE_GET, "a"), 1);
	tell(rig, "a", NULL, now - 5);
	assert_reads(rig, "a", "3");
	push_take(rig, "a");
	tell(rig, "a", "3", now);
	assert_int_equal(look(rig, "a"), -ENOENT);
	push_put(rig, "a", "4");
	assert_reads(rig, "a", "4");
}

/* One after the other: the directory is known, and no listing would tell. */
static void many_that_are_told_late_are_asked(void **state)
{
	struct rig *rig = *state;
	char name[8];

	put_numbered(rig, "f%d", 10);
	assert_int_equal(list_dir(rig, ""), 0);
	memstore_hold_told(rig->ms, true);
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		memstore_put(rig->ms, name, "new");
		tell(rig, name, "old", 1);
	}
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		assert_int_equal(look(rig, name), 0);
		assert_int_equal(rig->entry.st.st_size, strlen("new"));
	}
}

static void thousands_at_once(void **state)
{
	struct rig *rig = *state;

	assert_lists(rig, "", "");
	for (int i = 0; i < 20000; i++)
		memstore_put(rig->ms, i % 2 ? "a" : "b", i < 19998 ? "old" : "new");
	push_settle(rig);
	assert_reads(rig, "a", "new");
	assert_reads(rig, "b", "new");
	/* of what is being changed here the last is kept */
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .hold = MEMSTORE_HOLD_REPLY });
	struct fs_handle *handle = open_file(rig, "a", O_WRONLY | O_TRUNC);

	assert_int_equal(write_at(rig, handle, 0, "mine"), 0);
	struct call *call = begin(rig, op_flush, .handle = handle);

	rig_until_held(rig, 1);
	for (int i = 0; i < 20000; i++)
		memstore_put(rig->ms, "a", i < 19999 ? "old" : "last");
	push_settle(rig);
	assert_true(fs_figures(rig->fs).deferred <= 1);
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(call), 0);
	assert_int_equal(run(rig, op_release, .handle = handle), 0);
	push_settle(rig);
	assert_reads(rig, "a", "last");
}

/* --- lost and found --- */

static void lost_the_kernel_is_told_to_ask(void **state)
{
	struct rig *rig = *state;
	uint64_t a, d;

	push_put(rig, "a", "1");
	push_put(rig, "d/b", "1");
	a = id_of(rig, "a");
	d = id_of(rig, "d");
	assert_int_equal(look(rig, "none"), -ENOENT);
	rig_notes_clear(rig);
	push_end(rig);
	assert_true(rig_was_expired(rig, FS_ROOT_ID, "a"));
	assert_true(rig_was_expired(rig, FS_ROOT_ID, "d"));
	assert_true(rig_was_expired(rig, FS_ROOT_ID, "none"));
	assert_true(rig_was_invalidated(rig, a));
	assert_true(rig_was_invalidated(rig, d));
	assert_true(rig_was_invalidated(rig, FS_ROOT_ID));
	rig_expire(rig);
	memstore_put(rig->ms, "a", "2");
	assert_reads(rig, "a", "2");
}

static void found_again_what_changed_meanwhile_is_told(void **state)
{
	struct rig *rig = *state;
	uint64_t a, b, c;

	push_put(rig, "a", "1");
	push_put(rig, "b", "1");
	push_put(rig, "c", "1");
	push_put(rig, "d/x", "1");
	a = id_of(rig, "a");
	b = id_of(rig, "b");
	c = id_of(rig, "c");
	assert_lists(rig, "d", "x ");
	push_end(rig);
	memstore_put(rig->ms, "a", "2");
	memstore_remove(rig->ms, "b");
	memstore_put(rig->ms, ".hpkvfs/m/c", "{\"v\":1,\"mode\":33152}");
	memstore_put(rig->ms, "d/y", "1");
	rig_notes_clear(rig);
	push_begin(rig);
	assert_told_in_order(rig, FS_ROOT_ID, "a", a);
	assert_true(rig_was_expired(rig, FS_ROOT_ID, "b"));
	assert_told_in_order(rig, FS_ROOT_ID, "c", c);
	assert_false(rig_was_invalidated(rig, b));
	memstore_log_clear(rig->ms);
	rig_expire(rig);
	assert_reads(rig, "a", "2");
	assert_int_equal(look(rig, "b"), -ENOENT);
	assert_int_equal(look(rig, "c"), 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
	assert_lists(rig, "d", "x y ");
	assert_no_requests(rig);
}

/* Of a large directory what the kernel holds is asked for alone, and the rest when somebody looks. */
static void found_again_records_that_came_meanwhile_are_seen(void **state)
{
	static const char RECORD[] = "{\"v\":1,\"mode\":33152}";
	static const char *const names[] = { "f0001", "f1400", "f0002", "f1401" };
	struct rig *rig = *state;
	uint64_t ids[4];

	push_large_root(rig);
	for (int i = 0; i < 4; i++)
		ids[i] = id_of(rig, names[i]);
	fs_forget(rig->fs, ids[2], 1);
	fs_forget(rig->fs, ids[3], 1);
	push_end(rig);
	memstore_put(rig->ms, ".hpkvfs/m/f0001", RECORD);
	memstore_put(rig->ms, ".hpkvfs/m/f1400", RECORD);
	memstore_put(rig->ms, ".hpkvfs/m/f0002", RECORD);
	memstore_put(rig->ms, ".hpkvfs/m/f1401", RECORD);
	rig_notes_clear(rig);
	push_begin(rig);
	assert_true(rig_was_invalidated(rig, ids[0]));
	assert_true(rig_was_invalidated(rig, ids[1]));
	push_put(rig, "f1401", "changed"); /* which says nothing of its record */
	for (int i = 0; i < 4; i++) {
		assert_int_equal(look(rig, names[i]), 0);
		assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
		assert_true(rig->entry.ttl_us == FS_FOREVER);
	}
	memstore_log_clear(rig->ms);
	for (int i = 0; i < 4; i++)
		assert_int_equal(look(rig, names[i]), 0);
	assert_no_requests(rig);
}

static void a_listing_from_before_the_subscription_is_not_enough(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct call *call;
	uint64_t id;

	push_put(rig, "d/a", "1");
	id = id_of(rig, "d/a");
	assert_lists(rig, "d", "a ");
	push_end(rig);
	rig_expire(rig);
	assert_int_equal(fs_opendir(rig->fs, id_of(rig, "d"), &handle), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_RANGE, .hold = MEMSTORE_HOLD_REPLY });
	call = begin(rig, op_readdir, .handle = handle);
	rig_until_held(rig, 2);
	memstore_clear_faults(rig->ms);
	memstore_put(rig->ms, "d/a", "2");
	rig_notes_clear(rig);
	push_begin_soon(rig);
	push_settle(rig);
	memstore_release(rig->ms);
	assert_int_equal(end(call), 0);
	fs_releasedir(handle);
	push_settle(rig);
	assert_true(rig->fs->push.live);
	assert_told_in_order(rig, push_node(rig, "d")->id, "a", id);
	memstore_log_clear(rig->ms);
	assert_reads(rig, "d/a", "2");
	assert_no_requests(rig);
}

static void until_all_is_asked_again_nothing_is_believed_for_ever(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "a", "1");
	id_of(rig, "a");
	push_end(rig);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_RANGE, .hold = MEMSTORE_HOLD_REQUEST, .times = 2 });
	fs_subscription_begin(rig->fs);
	rig_until_held(rig, 2);
	assert_int_equal(look(rig, "a"), 0);
	assert_true(rig->entry.ttl_us <= RIG_TTL_US);
	memstore_release(rig->ms);
	push_settle(rig);
	assert_int_equal(look(rig, "a"), 0);
	assert_true(rig->entry.ttl_us == FS_FOREVER);
}

static void what_cannot_be_asked_is_asked_again(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "a", "1");
	id_of(rig, "a");
	push_end(rig);
	memstore_put(rig->ms, "a", "2");
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_RANGE, .err = -EIO, .times = 1 });
	push_begin(rig); /* waits until it is live */
	memstore_log_clear(rig->ms);
	assert_reads(rig, "a", "2");
	assert_no_requests(rig);
}

/* Also if nothing of a directory could be had at first. */
static void what_cannot_be_asked_at_all_is_asked_again(void **state)
{
	struct rig *rig = *state;
	uint64_t id;

	push_put(rig, "a", "1");
	id = id_of(rig, "a");
	push_end(rig);
	memstore_put(rig->ms, "a", "2");
	rig_notes_clear(rig);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_RANGE, .err = -EIO, .times = 2 });
	push_begin(rig);
	assert_told_in_order(rig, FS_ROOT_ID, "a", id);
	memstore_log_clear(rig->ms);
	assert_reads(rig, "a", "2");
	assert_no_requests(rig);
}

static void absences_are_bounded(void **state)
{
	struct rig *rig = *state;
	char name[16];

	assert_lists(rig, "", "");
	for (int i = 0; i < 10001; i++) {
		snprintf(name, sizeof(name), "n%05d", i);
		assert_int_equal(look(rig, name), -ENOENT);
	}
	assert_true(rig_was_expired(rig, FS_ROOT_ID, "n00000"));
	assert_false(rig_was_expired(rig, FS_ROOT_ID, "n00001"));
	assert_int_equal(fs_figures(rig->fs).absences, 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		push_test(what_is_known_is_not_asked_again),
		push_test(the_kernel_may_keep_it),
		push_test(a_large_directory_is_asked_name_by_name_and_once),
		push_test(without_one_nothing_is_believed_for_ever),
		push_test(a_change_is_there_without_a_request),
		push_test(its_time_is_the_notifications),
		push_test(a_new_name_is_there),
		push_test(a_removed_name_is_gone),
		push_test(directories_appear_with_their_keys),
		push_test(a_directory_that_another_mount_makes_and_removes),
		push_test(a_file_becomes_a_directory),
		push_test(attributes_change_with_the_record),
		push_test(a_time_comes_with_the_record),
		push_test(a_file_that_is_made_anew_is_new),
		push_test(symbolic_links_come_change_and_go),
		push_test(a_link_is_replaced_by_a_file_and_the_reverse),
		push_test(a_record_that_came_before_its_file),
		push_test(a_record_that_came_before_its_file_beside_many_without),
		push_test(a_record_that_was_there_before_a_directorys_value),
		push_test(keys_that_nobody_holds_take_no_memory),
		push_test(what_is_no_name_is_ignored),
		push_test(chunks_that_another_mount_writes_in_place),
		push_test(what_is_told_late_is_asked),
		push_test(many_that_are_told_late_are_asked),
		push_test(thousands_at_once),
		push_test(lost_the_kernel_is_told_to_ask),
		push_test(found_again_what_changed_meanwhile_is_told),
		push_test(found_again_records_that_came_meanwhile_are_seen),
		push_test(a_listing_from_before_the_subscription_is_not_enough),
		push_test(until_all_is_asked_again_nothing_is_believed_for_ever),
		push_test(what_cannot_be_asked_is_asked_again),
		push_test(what_cannot_be_asked_at_all_is_asked_again),
		push_test(absences_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
