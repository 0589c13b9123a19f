/* What is told beside requests that are under way, and beside what is changed here, in each order that matters. */
#include "attr_rig.h"
#include "push_rig.h"

#include "fs/internal.h"

static const char LINK[] = "{\"v\":1,\"mode\":41471,\"target\":\"a\"}";

static int64_t mtime_ns(const struct rig *rig)
{
	return rig->entry.st.st_mtim.tv_sec * INT64_C(1000000000) + rig->entry.st.st_mtim.tv_nsec;
}

/* --- our own echo --- */

static void our_own_echo_changes_nothing(void **state)
{
	struct rig *rig = *state;
	int64_t before;

	for (int early = 0; early < 2; early++) {
		memstore_hold_told(rig->ms, true);
		if (early)
			memstore_add_fault(rig->ms,
					   (struct memstore_fault){ .op = STORE_SET, .hold = MEMSTORE_HOLD_REPLY });
		struct fs_handle *handle = open_file(rig, early ? "early" : "late", O_WRONLY | O_CREAT | O_TRUNC);

		assert_int_equal(write_at(rig, handle, 0, "mine"), 0);
		struct call *call = begin(rig, op_flush, .handle = handle);

		if (early) {
			rig_until_held(rig, 1);
			push_tell(rig);
			memstore_release(rig->ms);
		}
		assert_int_equal(end(call), 0);
		memstore_clear_faults(rig->ms);
		assert_int_equal(run(rig, op_release, .handle = handle), 0);
		assert_int_equal(look(rig, early ? "early" : "late"), 0);
		before = mtime_ns(rig);
		rig_notes_clear(rig);
		push_tell_all(rig);
		assert_int_equal(look(rig, early ? "early" : "late"), 0);
		assert_int_equal(mtime_ns(rig), before);
		assert_int_equal(rig->note_count, 0);
		memstore_log_clear(rig->ms);
		assert_reads(rig, early ? "early" : "late", "mine");
		assert_no_requests(rig);
		assert_null(rig->fs->push.echoes.keys);
	}
}

/* The order in which the store carried them out decides; the reply may come before, between or behind both. */
static void a_foreign_write_about_our_own(void **state)
{
	struct rig *rig = *state;

	for (int foreign_first = 0; foreign_first < 2; foreign_first++) {
		for (int reply = 0; reply < 3; reply++) {
			push_put(rig, "a", "old");
			id_of(rig, "a");
			push_settle(rig);
			memstore_hold_told(rig->ms, true);
			memstore_add_fault(rig->ms,
					   (struct memstore_fault){ .op = STORE_SET,
								    .hold = foreign_first ? MEMSTORE_HOLD_REQUEST
											  : MEMSTORE_HOLD_REPLY });
			struct fs_handle *handle = open_file(rig, "a", O_WRONLY | O_TRUNC);

			assert_int_equal(write_at(rig, handle, 0, "mine"), 0);
			struct call *call = begin(rig, op_flush, .handle = handle);

			rig_until_held(rig, 1);
			memstore_clear_faults(rig->ms);
			memstore_put(rig->ms, "a", "foreign");
			if (foreign_first)
				memstore_release_one(rig->ms);
			for (int i = 0; i < 3; i++) {
				if (i == reply) {
					if (!foreign_first)
						memstore_release(rig->ms);
					assert_int_equal(end(call), 0);
				} else {
					memstore_tell(rig->ms);
					push_settle(rig);
				}
			}
			push_tell_all(rig);
			assert_int_equal(run(rig, op_release, .handle = handle), 0);
			push_tell_all(rig);
			memstore_log_clear(rig->ms);
			assert_reads(rig, "a", foreign_first ? "mine" : "foreign");
			assert_stored(rig, "a", foreign_first ? "mine" : "foreign");
			assert_no_requests(rig);
			memstore_hold_told(rig->ms, false);
		}
	}
}

static void our_own_content_is_seen_until_the_echo(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "a", "old");
	id_of(rig, "a");
	memstore_hold_told(rig->ms, true);
	memstore_put(rig->ms, "a", "foreign");
	assert_int_equal(write_file(rig, "a", "mine"), 0);
	assert_reads(rig, "a", "mine");
	push_tell(rig); /* the foreign one */
	assert_reads(rig, "a", "mine");
	push_tell_all(rig);
	assert_reads(rig, "a", "mine");
}

static void appends_of_others_are_seen_with_the_echo(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "log", "1\n");
	id_of(rig, "log");
	memstore_hold_told(rig->ms, true);
	memstore_put(rig->ms, "log", "1\n2\n");
	assert_int_equal(append_file(rig, "log", "3\n"), 0);
	push_tell_all(rig);
	memstore_log_clear(rig->ms);
	assert_reads(rig, "log", "1\n2\n3\n");
	assert_no_requests(rig);
	assert_null(rig->fs->push.echoes.keys);
}

static void an_echo_that_does_not_come_ends_the_subscription(void **state)
{
	struct rig *rig = *state;

	memstore_watch(rig->ms, NULL, NULL); /* dead behind a connection that stands */
	assert_int_equal(write_file(rig, "a", "mine"), 0);
	assert_true(rig->fs->push.live);
	while (rig->fs->push.live)
		loop_once(rig->loop);
	assert_int_equal(look(rig, "a"), 0);
	assert_true(rig->entry.ttl_us <= RIG_TTL_US);
}

static void a_change_that_was_refused_has_no_echo(void **state)
{
	struct rig *rig = *state;

	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .err = -EINVAL });
	assert_int_equal(write_file(rig, "a", "mine"), -EINVAL);
	memstore_clear_faults(rig->ms);
	push_settle(rig);
	assert_null(rig->fs->push.echoes.keys);
}

/* --- races with answers --- */

static void a_get_under_way_does_not_come_over_what_was_told(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	push_put(rig, "a", "old");
	assert_int_equal(run(rig, op_open, .id = id_of(rig, "a"), .flags = O_RDONLY), 0);
	handle = rig->handle;
	value_drop(push_node(rig, "a"));
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_GET, .hold = MEMSTORE_HOLD_REPLY });
	struct call *call = begin(rig, op_read, .handle = handle, .size = 100);

	rig_until_held(rig, 1);
	push_put(rig, "a", "new");
	memstore_release(rig->ms);
	assert_int_equal(end(call), 0);
	assert_string_equal(buf_str(&rig->out).p, "new");
	assert_reads(rig, "a", "new");
	assert_int_equal(close_file(rig, handle), 0);
}

static void names_told_while_a_listing_is_under_way(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "d/changes", "old");
	memstore_put(rig->ms, "d/goes", "1");
	memstore_put(rig->ms, ".hpkvfs/m/d/changes", "{\"v\":1,\"mode\":33152}");
	memstore_put(rig->ms, ".hpkvfs/m/d/link", LINK);
	memstore_put(rig->ms, ".hpkvfs/m/d/gets", LINK);
	push_end(rig);
	rig_restart(rig);
	push_begin(rig);
	assert_int_equal(fs_opendir(rig->fs, id_of(rig, "d"), &handle), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_RANGE, .hold = MEMSTORE_HOLD_REPLY });
	struct call *call = begin(rig, op_readdir, .handle = handle);

	rig_until_held(rig, 2);
	push_put(rig, "d/changes", "new");
	push_put(rig, "d/comes", "1");
	push_put(rig, ".hpkvfs/m/d/changes", "{\"v\":1,\"mode\":33216}");
	push_put(rig, "d/gets", "a value");
	push_take(rig, "d/goes");
	push_take(rig, ".hpkvfs/m/d/link");
	push_put(rig, ".hpkvfs/m/d/late", LINK);
	push_put(rig, ".hpkvfs/m/d/sub/", "{\"v\":1,\"mode\":16832}");
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(call), 0);
	fs_releasedir(handle);
	push_settle(rig);
	/* what was removed may have hidden something that its record makes: listed once more */
	assert_int_equal(list_dir(rig, "d"), 0);
	assert_int_equal(words(rig->out.p), 5);
	memstore_log_clear(rig->ms);
	assert_int_equal(list_dir(rig, "d"), 0);
	assert_reads(rig, "d/changes", "new");
	assert_int_equal(push_node(rig, "d/changes")->mode, S_IFREG | 0700);
	assert_reads(rig, "d/comes", "1");
	assert_reads(rig, "d/gets", "a value");
	assert_int_equal(look(rig, "d/goes"), -ENOENT);
	assert_int_equal(look(rig, "d/link"), -ENOENT);
	assert_int_equal(look(rig, "d/late"), 0);
	assert_true(S_ISLNK(rig->entry.st.st_mode));
	assert_int_equal(look(rig, "d/sub"), 0);
	assert_no_requests(rig);
}

static void a_name_told_while_it_is_being_asked_for(void **state)
{
	struct rig *rig = *state;

	for (int removed = 0; removed < 2; removed++) {
		put_numbered(rig, "f%04d", 1500);
		if (removed)
			memstore_put(rig->ms, "g", "1");
		push_end(rig);
		rig_restart(rig);
		push_begin(rig);
		assert_int_equal(look(rig, "f0000"), 0); /* it is large, that is known now */
		memstore_add_fault(rig->ms, (struct memstore_fault){ .any = true, .hold = MEMSTORE_HOLD_REPLY });
		struct call *call = begin(rig, op_lookup, .parent = FS_ROOT_ID, .name = "g");

		rig_until_held(rig, 4);
		if (removed)
			push_take(rig, "g");
		else
			push_put(rig, "g", "1");
		memstore_clear_faults(rig->ms);
		memstore_release(rig->ms);
		assert_int_equal(end(call), removed ? -ENOENT : 0);
		assert_int_equal(look(rig, "g"), removed ? -ENOENT : 0);
		if (!removed)
			push_take(rig, "g");
	}
}

static void what_a_program_changes_is_not_disturbed(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	push_put(rig, "a", "old");
	id_of(rig, "a");
	handle = open_file(rig, "a", O_RDWR);
	assert_int_equal(write_at(rig, handle, 0, "mine"), 0);
	push_put(rig, "a", "foreign");
	assert_int_equal(read_handle(rig, handle), 0);
	assert_string_equal(buf_str(&rig->out).p, "mine");
	push_take(rig, "a");
	assert_int_equal(read_handle(rig, handle), 0);
	assert_string_equal(buf_str(&rig->out).p, "mine");
	assert_int_equal(close_file(rig, handle), 0);
	push_settle(rig);
	assert_stored(rig, "a", "mine");
	assert_reads(rig, "a", "mine");
}

/* What is told is younger than a page on which the file was not: it is known to be there, and does not stay where it is removed or
 * renamed. */
static void a_listing_does_not_come_over_what_was_told_of_a_changed_file(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "d/other", "1");
	for (int renamed = 0; renamed < 2; renamed++) {
		uint64_t dir = id_of(rig, "d");
		struct fs_handle *handle = open_file(rig, "d/f", O_RDWR | O_CREAT);

		assert_int_equal(write_at(rig, handle, 0, "mine"), 0);
		push_end(rig);
		memstore_add_fault(rig->ms, (struct memstore_fault){
						    .op = STORE_RANGE, .key = "d/", .hold = MEMSTORE_HOLD_REPLY });
		push_begin_soon(rig);
		rig_until_held(rig, 1);
		push_put(rig, "d/f", "foreign");
		memstore_clear_faults(rig->ms);
		memstore_release(rig->ms);
		push_settle(rig);
		if (renamed)
			assert_int_equal(
				run(rig, op_rename, .parent = dir, .name = "f", .new_parent = dir, .new_name = "g"), 0);
		else
			assert_int_equal(run(rig, op_unlink, .parent = dir, .name = "f"), 0);
		assert_not_stored(rig, "d/f");
		assert_lists(rig, "d", renamed ? "other g " : "other ");
		assert_int_equal(close_file(rig, handle), 0);
		push_settle(rig);
	}
	assert_stored(rig, "d/g", "mine");
}

/* What was told while the key was asked for, and a program began to change the file. */
static void an_answer_does_not_come_over_what_was_told_of_a_changed_file(void **state)
{
	struct rig *rig = *state;

	for (int there = 0; there < 2; there++) {
		struct fs_handle *handle;
		struct node *node;
		struct call *call;

		push_put(rig, "a", "old");
		node = push_node(rig, "a");
		handle = open_file(rig, "a", O_RDWR);
		memstore_hold_told(rig->ms, true);
		if (there)
			memstore_remove(rig->ms, "a");
		node->checked_us = 0;
		memstore_add_fault(rig->ms,
				   (struct memstore_fault){ .op = STORE_GET, .key = "a", .hold = MEMSTORE_HOLD_REPLY });
		call = begin(rig, op_getattr, .id = node->id);
		rig_until_held(rig, 1);
		assert_int_equal(write_at(rig, handle, 0, "mine"), 0);
		if (there)
			memstore_put(rig->ms, "a", "foreign");
		else
			memstore_remove(rig->ms, "a");
		while (memstore_tell(rig->ms))
			push_settle(rig);
		memstore_clear_faults(rig->ms);
		memstore_release(rig->ms);
		assert_int_equal(end(call), 0);
		assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "a"), 0);
		assert_not_stored(rig, "a");
		assert_int_equal(close_file(rig, handle), 0);
		memstore_hold_told(rig->ms, false);
		push_settle(rig);
	}
}

/* The kernel shows pages of what there was, and its length. */
static void an_append_to_what_was_removed(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	uint64_t id;

	push_put(rig, "log", "old\n");
	id = id_of(rig, "log");
	assert_reads(rig, "log", "old\n");
	handle = open_file(rig, "log", O_WRONLY | O_APPEND);
	assert_int_equal(write_at(rig, handle, 4, "mine\n"), 0);
	push_take(rig, "log");
	rig_notes_clear(rig);
	assert_int_equal(close_file(rig, handle), 0);
	push_settle(rig);
	assert_stored(rig, "log", "mine\n");
	assert_true(rig_was_invalidated(rig, id));
	assert_reads(rig, "log", "mine\n");
	assert_false(rig->keep_cache);
}

/* Chunks that are written in place are in no file any more: all goes once more, and the last one wins. */
static void what_was_changed_in_place_is_removed_or_replaced(void **state)
{
	struct rig *rig = *state;
	char text[4 * RIG_MAX_VALUE + 1], *value;
	struct fs_handle *handle;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int replaced = 0; replaced < 2; replaced++) {
		memset(text, 'x', 10);
		assert_int_equal(write_file(rig, "big", text), 0);
		push_settle(rig);
		value = strdup(memstore_value(rig->ms, "big"));
		assert_non_null(value);
		handle = open_file(rig, "big", O_RDWR);
		assert_int_equal(write_at(rig, handle, 5, "mine"), 0);
		memcpy(text + 5, "mine", 4);
		if (replaced)
			push_put(rig, "big", "theirs");
		else
			push_take(rig, "big");
		assert_int_equal(close_file(rig, handle), 0);
		push_settle(rig);
		assert_non_null(memstore_value(rig->ms, "big"));
		assert_string_not_equal(memstore_value(rig->ms, "big"), value);
		assert_reads(rig, "big", text);
		push_end(rig);
		rig_restart(rig);
		assert_reads(rig, "big", text);
		push_begin(rig);
		free(value);
	}
}

static void what_is_open_is_read_on_when_it_is_removed(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	push_put(rig, "a", "content");
	id_of(rig, "a");
	handle = open_file(rig, "a", O_RDONLY);
	push_take(rig, "a");
	assert_int_equal(look(rig, "a"), -ENOENT);
	assert_int_equal(read_handle(rig, handle), 0);
	assert_string_equal(buf_str(&rig->out).p, "content");
	assert_int_equal(close_file(rig, handle), 0);
}

static void a_path_that_is_being_renamed(void **state)
{
	struct rig *rig = *state;

	for (int at = 0; at < 2; at++) {
		push_put(rig, "a", "content");
		assert_reads(rig, "a", "content");
		assert_int_equal(look(rig, "b"), -ENOENT);
		memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_DELETE, .hold = MEMSTORE_HOLD_REPLY });
		struct call *call = begin(rig, op_rename, .parent = FS_ROOT_ID, .name = "a", .new_parent = FS_ROOT_ID,
					  .new_name = "b");

		rig_until_held(rig, 1);
		push_put(rig, at ? "b" : "a", "foreign");
		memstore_clear_faults(rig->ms);
		memstore_release(rig->ms);
		assert_int_equal(end(call), 0);
		push_settle(rig);
		assert_reads(rig, "b", at ? "foreign" : "content");
		if (at)
			assert_int_equal(look(rig, "a"), -ENOENT);
		else
			assert_reads(rig, "a", "foreign");
		assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "b"), 0);
		push_settle(rig);
	}
}

static void below_a_directory_that_is_being_renamed(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "d/a", "1");
	push_put(rig, "d/b", "1");
	assert_lists(rig, "d", "a b ");
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_DELETE, .key = "d/a", .hold = MEMSTORE_HOLD_REQUEST });
	struct call *call =
		begin(rig, op_rename, .parent = FS_ROOT_ID, .name = "d", .new_parent = FS_ROOT_ID, .new_name = "e");

	rig_until_held(rig, 1);
	push_put(rig, "e/a", "foreign");
	push_put(rig, "e/c", "foreign");
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(call), 0);
	push_settle(rig);
	assert_reads(rig, "e/a", "foreign");
	assert_reads(rig, "e/b", "1");
	assert_reads(rig, "e/c", "foreign");
}

/* --- beside what is made here --- */

/* While `name` is made in the root, another client sets `key`: after so many of the requests for it were carried out, and before they
 * are answered. False: there are not so many. */
static bool set_while_it_is_made(struct rig *rig, int (*op)(struct call *), const char *name, const char *key,
				 unsigned requests, bool doubt)
{
	struct call *call;
	bool held;
	int r;

	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .any = true, .pass = requests, .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	call = begin(rig, op, .parent = FS_ROOT_ID, .name = name, .new_name = "to", .mode = 0755);
	while (!call->done && !memstore_held(rig->ms))
		loop_once(rig->loop);
	held = memstore_held(rig->ms);
	if (held && doubt)
		dir_doubt(rig->fs->root);
	if (held)
		push_put(rig, key, "theirs");
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	r = end(call);
	assert_true(r == 0 || (held && r == -EEXIST));
	push_settle(rig);
	return held;
}

static void a_key_set_below_a_directory_that_is_being_made(void **state)
{
	struct rig *rig = *state;
	unsigned requests = 0, largest;
	char name[16], key[20];
	bool held;

	for (int large = 0; large < 2; large++) {
		if (large)
			push_large_root(rig);
		largest = requests = 0;
		do {
			snprintf(name, sizeof(name), "%s%u", large ? "m" : "n", requests);
			snprintf(key, sizeof(key), "%s/x", name);
			held = set_while_it_is_made(rig, op_mkdir, name, key, requests, !large);
			assert_lists(rig, name, held ? "x " : "");
			assert_int_equal(read_file(rig, key), held ? 0 : -ENOENT);
			largest = requests++;
		} while (held);
		assert_true(largest >= 1);
	}
}

static void a_key_set_where_a_link_is_being_made(void **state)
{
	struct rig *rig = *state;
	unsigned requests = 0, largest;
	char name[16];
	bool held;

	for (int large = 0; large < 2; large++) {
		if (large)
			push_large_root(rig);
		largest = requests = 0;
		do {
			snprintf(name, sizeof(name), "%s%u", large ? "m" : "n", requests);
			held = set_while_it_is_made(rig, op_symlink, name, name, requests, !large);
			assert_int_equal(look(rig, name), 0);
			assert_true(held ? S_ISREG(rig->entry.st.st_mode) : S_ISLNK(rig->entry.st.st_mode));
			if (held)
				assert_reads(rig, name, "theirs");
			largest = requests++;
		} while (held);
		assert_true(largest >= 1);
	}
}

/* While the renaming waits for what else is done with the link. */
static void a_key_set_where_a_link_is_to_be_moved(void **state)
{
	struct rig *rig = *state;
	struct call *sync, *move;
	struct node *link;

	memstore_put(rig->ms, ".hpkvfs/m/a", LINK);
	push_large_root(rig);
	link = push_node(rig, "a");
	assert_int_equal(change_owner(rig, "a", 7), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_PATCH, .hold = MEMSTORE_HOLD_REPLY });
	sync = begin(rig, op_sync, 0);
	rig_until_held(rig, 1);
	move = begin(rig, op_rename, .parent = FS_ROOT_ID, .name = "a", .new_parent = FS_ROOT_ID, .new_name = "b");
	while (!link->lock.waiters.first)
		loop_once(rig->loop);
	push_put(rig, "b", "theirs");
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(sync), 0);
	assert_int_equal(end(move), 0);
	push_settle(rig);
	assert_stored(rig, "b", "theirs");
	assert_reads(rig, "b", "theirs");
	assert_int_equal(look(rig, "a"), -ENOENT);
}

/* A directory that is in no record gets one before something is made in it that has no key. The answer comes behind that to another
 * change, after which all is applied that was told until then. */
static void a_record_set_after_ours_of_the_directory_in_which_a_link_is_made(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct call *flush, *link;

	push_put(rig, "f", "old");
	push_put(rig, "d/a", "1");
	assert_lists(rig, "d", "a ");
	handle = open_file(rig, "f", O_WRONLY | O_TRUNC);
	assert_int_equal(write_at(rig, handle, 0, "mine"), 0);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_SET, .key = "f", .hold = MEMSTORE_HOLD_REPLY });
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_SET, .key = ".hpkvfs/m/d/", .hold = MEMSTORE_HOLD_REPLY });
	flush = begin(rig, op_flush, .handle = handle);
	rig_until_held(rig, 1);
	link = begin(rig, op_symlink, .parent = id_of(rig, "d"), .name = "l", .new_name = "to");
	rig_until_held(rig, 2);
	push_put(rig, "f", "theirs");
	push_put(rig, ".hpkvfs/m/d/", "{\"v\":1,\"mode\":16832}");
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(flush), 0);
	assert_int_equal(end(link), 0);
	assert_int_equal(run(rig, op_release, .handle = handle), 0);
	push_settle(rig);
	assert_reads(rig, "f", "theirs");
	assert_stored(rig, ".hpkvfs/m/d/", "{\"v\":1,\"mode\":16832}");
	assert_int_equal(look(rig, "d"), 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFDIR | 0700);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		push_test(our_own_echo_changes_nothing),
		push_test(a_foreign_write_about_our_own),
		push_test(our_own_content_is_seen_until_the_echo),
		push_test(appends_of_others_are_seen_with_the_echo),
		push_test(an_echo_that_does_not_come_ends_the_subscription),
		push_test(a_change_that_was_refused_has_no_echo),
		push_test(a_get_under_way_does_not_come_over_what_was_told),
		push_test(names_told_while_a_listing_is_under_way),
		push_test(a_name_told_while_it_is_being_asked_for),
		push_test(what_a_program_changes_is_not_disturbed),
		push_test(a_listing_does_not_come_over_what_was_told_of_a_changed_file),
		push_test(an_answer_does_not_come_over_what_was_told_of_a_changed_file),
		push_test(an_append_to_what_was_removed),
		push_test(what_was_changed_in_place_is_removed_or_replaced),
		push_test(what_is_open_is_read_on_when_it_is_removed),
		push_test(a_path_that_is_being_renamed),
		push_test(below_a_directory_that_is_being_renamed),
		push_test(a_key_set_below_a_directory_that_is_being_made),
		push_test(a_key_set_where_a_link_is_being_made),
		push_test(a_key_set_where_a_link_is_to_be_moved),
		push_test(a_record_set_after_ours_of_the_directory_in_which_a_link_is_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
