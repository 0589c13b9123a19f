/* What another client does is an event, once, behind its invalidation; what programs here do is none. */
#include "push_rig.h"

#include "fs/base64.h"
#include "fs/internal.h"

static const char LINK[] = "{\"v\":1,\"mode\":41471,\"target\":\"a\"}";
static const char DIRECTORY[] = "{\"v\":1,\"mode\":16877}";

/* The events so far. */
static struct buf events;

/* Each stands behind its invalidation. */
static void event(void *arg, const struct fs_event *event)
{
	static const char letters[] = { [FS_EVENT_CREATED] = '+', [FS_EVENT_CHANGED] = '~', [FS_EVENT_REMOVED] = '-' };
	struct rig *rig = arg;
	struct node *node = node_find(rig->fs, event->id);
	const char *kind = S_ISDIR(event->mode) ? "/" : S_ISLNK(event->mode) ? "@" : "";

	assert_int_equal(
		buf_printf(&events, "%c%.*s%s ", letters[event->kind], (int)event->name.len, event->name.p, kind), 0);
	assert_true(node_is_held(node_find(rig->fs, event->parent)));
	if (event->kind == FS_EVENT_CHANGED)
		assert_true(!node_is_held(node) || rig_was_invalidated(rig, event->id));
	else if (event->id)
		assert_true(rig_was_invalidated(rig, event->parent));
}

static int setup(void **state)
{
	int r = push_setup(state);

	((struct rig *)*state)->fs->notify.event = event;
	return r;
}

static int teardown(void **state)
{
	buf_free(&events);
	return rig_teardown(state);
}

#define assert_events(rig, text)                                 \
	do {                                                     \
		assert_string_equal(buf_str(&events).p, (text)); \
		buf_clear(&events);                              \
		rig_notes_clear(rig);                            \
	} while (0)

static void what_comes_changes_and_goes(void **state)
{
	struct rig *rig = *state;

	assert_lists(rig, "", "");
	push_put(rig, "a", "1");
	assert_events(rig, "+a ");
	push_put(rig, "a", "2");
	assert_events(rig, "~a ");
	id_of(rig, "a");
	push_put(rig, "a", "3");
	assert_events(rig, "~a ");
	push_take(rig, "a");
	assert_events(rig, "-a ");
	push_put(rig, "a", "3");
	assert_events(rig, "+a ");
}

/* The record that was there without a file is another by now. */
static void what_comes_after_the_subscription_was_lost(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, ".hpkvfs/m/a", "{\"v\":1,\"mode\":33184}");
	push_large_root(rig);
	rig->fs->notify.event = event;
	assert_int_equal(look(rig, "a"), -ENOENT);
	push_end(rig);
	memstore_put(rig->ms, ".hpkvfs/m/a", "{\"v\":1,\"mode\":33152}");
	push_begin(rig);
	push_put(rig, "a", "1");
	assert_events(rig, "+a ");
	assert_int_equal(look(rig, "a"), 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
}

static void an_equal_value_is_no_event(void **state)
{
	struct rig *rig = *state;

	assert_lists(rig, "", "");
	push_put(rig, "a", "1");
	assert_events(rig, "+a ");
	push_put(rig, "a", "1");
	assert_events(rig, "");
	assert_reads(rig, "a", "1");
	push_put(rig, "a", "1");
	assert_events(rig, "");
}

static void what_programs_here_do_is_no_event(void **state)
{
	struct rig *rig = *state;

	assert_lists(rig, "", "");
	assert_int_equal(write_file(rig, "a", "1"), 0);
	assert_int_equal(write_file(rig, "a", "2"), 0);
	assert_int_equal(append_file(rig, "a", "3"), 0);
	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "d", .mode = 0755), 0);
	assert_int_equal(
		run(rig, op_rename, .parent = FS_ROOT_ID, .name = "a", .new_parent = id_of(rig, "d"), .new_name = "b"),
		0);
	push_settle(rig);
	assert_int_equal(run(rig, op_unlink, .parent = id_of(rig, "d"), .name = "b"), 0);
	assert_int_equal(run(rig, op_rmdir, .parent = FS_ROOT_ID, .name = "d"), 0);
	push_settle(rig);
	assert_events(rig, "");
}

/* Nor is it where not all names are known: nobody has listed anything. */
static void nor_is_it_in_what_nobody_has_listed(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "d/there", "1");
	rig_expire(rig);
	push_end(rig);
	push_begin(rig);
	buf_clear(&events);
	assert_int_equal(write_file(rig, "a", "1"), 0);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "a"), 0);
	push_settle(rig);
	assert_events(rig, "");
}

static void the_first_change_of_what_nobody_has_listed_is_new(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "a", "1");
	assert_events(rig, "+a ");
	push_put(rig, "a", "2");
	assert_events(rig, "~a ");
	push_take(rig, "a");
	assert_events(rig, "-a ");
	/* what is gone without having been seen was there */
	memstore_watch(rig->ms, NULL, NULL);
	memstore_put(rig->ms, "b", "1");
	push_begin(rig);
	push_take(rig, "b");
	assert_events(rig, "-b ");
	/* and is believed by nobody else */
	push_put(rig, "c", "1");
	assert_events(rig, "+c ");
	assert_reads(rig, "c", "1");
	assert_lists(rig, "", "c ");
}

static void directories_that_nobody_holds_are_silent(void **state)
{
	struct rig *rig = *state;

	assert_lists(rig, "", "");
	push_put(rig, "d/a", "1");
	assert_events(rig, "+d/ ");
	push_put(rig, "d/b", "1");
	assert_events(rig, "");
	id_of(rig, "d");
	push_put(rig, "d/c", "1");
	push_put(rig, "d/a", "2");
	push_take(rig, "d/b");
	assert_events(rig, "+c ~a -b ");
	/* it stays for this mount when its last key goes */
	push_take(rig, "d/a");
	push_take(rig, "d/c");
	assert_events(rig, "-a -c ");
}

static void directories_and_links_with_records(void **state)
{
	struct rig *rig = *state;

	assert_lists(rig, "", "");
	push_put(rig, ".hpkvfs/m/d/", DIRECTORY);
	assert_events(rig, "+d/ ");
	push_put(rig, ".hpkvfs/m/link", LINK);
	assert_events(rig, "+link@ ");
	push_take(rig, ".hpkvfs/m/link");
	push_take(rig, ".hpkvfs/m/d/");
	assert_events(rig, "-link@ -d/ ");
}

static void attributes_are_no_event(void **state)
{
	struct rig *rig = *state;

	assert_lists(rig, "", "");
	push_put(rig, "a", "1");
	buf_clear(&events);
	push_put(rig, ".hpkvfs/m/a", "{\"v\":1,\"mode\":33216}");
	push_take(rig, ".hpkvfs/m/a");
	assert_events(rig, "");
}

static void a_file_and_a_directory_take_turns(void **state)
{
	struct rig *rig = *state;

	assert_lists(rig, "", "");
	push_put(rig, "a", "1");
	push_put(rig, "a/b", "1");
	assert_events(rig, "+a +a/ ");
	push_put(rig, ".hpkvfs/m/e/", DIRECTORY);
	push_put(rig, "e", "its own value");
	assert_events(rig, "+e/ ");
	id_of(rig, "e");
	push_take(rig, "e");
	push_put(rig, "e", "another");
	assert_events(rig, "-%= +%= ");
}

/* What waits to be sent is what programs here see. */
static void under_what_is_being_written_nothing_changes(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	push_put(rig, "a", "1");
	assert_lists(rig, "", "a ");
	buf_clear(&events);
	handle = open_file(rig, "a", O_WRONLY);
	assert_int_equal(write_at(rig, handle, 0, "mine"), 0);
	push_put(rig, "a", "theirs");
	assert_events(rig, "");
	assert_int_equal(close_file(rig, handle), 0);
	push_settle(rig);
	assert_reads(rig, "a", "mine");
	assert_events(rig, "");
	push_put(rig, "a", "theirs");
	assert_events(rig, "~a ");
}

static void chunks_that_another_mount_writes(void **state)
{
	struct rig *rig = *state;
	struct buf key = BUF_INIT, base64 = BUF_INIT;
	char *text = calloc(1, 9001);

	memset(text, 'a', 9000);
	assert_int_equal(write_file(rig, "big", text), 0);
	push_settle(rig);
	assert_reads(rig, "big", text);
	for (size_t i = 0; i < memstore_size(rig->ms) && !key.len; i++)
		if (str_starts(memstore_key(rig->ms, i), STR(".hpkvfs/c/")))
			assert_int_equal(buf_set(&key, memstore_key(rig->ms, i)), 0);
	assert_events(rig, "");
	memset(text, 'z', 9000);
	assert_int_equal(base64_encode(str_of(text, push_node(rig, "big")->file->body->parts[0].chunk_size), &base64),
			 0);
	memstore_put_str(rig->ms, buf_str(&key), buf_str(&base64));
	push_settle(rig);
	assert_events(rig, "~big ");
	memstore_put_str(rig->ms, buf_str(&key), buf_str(&base64));
	push_settle(rig);
	assert_events(rig, "");
	buf_free(&key);
	buf_free(&base64);
	free(text);
}

/* --- found again --- */

static void what_changed_while_nothing_was_told(void **state)
{
	struct rig *rig = *state;

	push_put(rig, "a", "1");
	push_put(rig, "b", "1");
	push_put(rig, "same", "1");
	push_put(rig, "d/x", "1");
	push_put(rig, "quiet/x", "1");
	push_put(rig, ".hpkvfs/m/e/", DIRECTORY);
	push_put(rig, ".hpkvfs/m/link", LINK);
	assert_lists(rig, "", "a b same d/ quiet/ e/ link ");
	assert_lists(rig, "d", "x ");
	id_of(rig, "d");
	push_end(rig);
	buf_clear(&events);
	memstore_put(rig->ms, "a", "2");
	memstore_remove(rig->ms, "b");
	memstore_put(rig->ms, "same", "1");
	memstore_put(rig->ms, "d/y", "1");
	memstore_put(rig->ms, "new", "1");
	memstore_put(rig->ms, "quiet/y", "1");
	memstore_put(rig->ms, "deep/er/x", "1");
	memstore_remove(rig->ms, ".hpkvfs/m/e/");
	memstore_remove(rig->ms, ".hpkvfs/m/link");
	assert_int_equal(write_file(rig, "mine", "1"), 0);
	rig_expire(rig);
	push_begin(rig);
	assert_events(rig, "~a -b -e/ -link@ +deep/ +new +y ");
	/* once */
	push_end(rig);
	push_begin(rig);
	assert_events(rig, "");
}

static void told(void *arg, struct str key, const struct str *value, int64_t time_ms)
{
	struct rig *rig = arg;

	fs_notified(rig->fs, key, value, time_ms);
}

static void what_is_told_and_done_here_while_it_is_asked_for(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	push_put(rig, "a", "1");
	push_put(rig, "b", "1");
	push_put(rig, "c", "1");
	assert_lists(rig, "", "a b c ");
	push_end(rig);
	buf_clear(&events);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_RANGE, .hold = MEMSTORE_HOLD_REQUEST, .times = 2 });
	handle = open_file(rig, "c", O_WRONLY);
	memstore_watch(rig->ms, told, rig);
	fs_subscription_begin(rig->fs);
	rig_until_held(rig, 2);
	memstore_put(rig->ms, "a", "2");
	memstore_remove(rig->ms, "b");
	memstore_put(rig->ms, "new", "1");
	memstore_put(rig->ms, "dir/x", "1");
	assert_int_equal(write_at(rig, handle, 0, "mine"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	memstore_release(rig->ms);
	push_settle(rig);
	assert_events(rig, "~a -b +new +dir/ ");
}

/* --- from memory --- */

static void what_is_known_is_given_without_asking(void **state)
{
	struct rig *rig = *state;
	struct fs_found known;
	struct fs_entry entry;
	struct buf ids = BUF_INIT, names = BUF_INIT;
	uint64_t id;

	push_put(rig, "d/e/a", "123");
	assert_lists(rig, "", "d/ ");
	assert_lists(rig, "d", "e/ ");
	assert_lists(rig, "d/e", "a ");
	memstore_log_clear(rig->ms);
	rig_expire(rig);
	assert_true(fs_find(rig->fs, id_of(rig, "d/e"), STR("a"), &known));
	assert_true(S_ISREG(known.mode) && !known.held);
	assert_true(fs_recall(rig->fs, known.id, &entry));
	assert_int_equal(entry.st.st_size, 3);
	assert_true(fs_give(rig->fs, known.id, &entry));
	assert_true(entry.ttl_us == FS_FOREVER);
	assert_true(fs_find(rig->fs, id_of(rig, "d/e"), STR("a"), &known) && known.held);
	assert_false(fs_find(rig->fs, known.id, STR("a"), &known));
	assert_false(fs_find(rig->fs, FS_ROOT_ID, STR("none"), &known));
	assert_false(fs_recall(rig->fs, 1 << 30, &entry) || fs_give(rig->fs, 1 << 30, &entry));
	assert_int_equal(fs_path(rig->fs, FS_ROOT_ID, &ids, &names), 0);
	assert_int_equal(ids.len + names.len, 0);
	assert_int_equal(fs_path(rig->fs, id_of(rig, "d/e"), &ids, &names), 0);
	assert_true(str_equal(buf_str(&names), STR("d\0e\0")));
	assert_int_equal(ids.len, 2 * sizeof(id));
	memcpy(&id, ids.p + sizeof(id), sizeof(id));
	assert_int_equal(id, id_of(rig, "d/e"));
	assert_int_equal(fs_path(rig->fs, 1 << 30, &ids, &names), -ESTALE);
	assert_no_requests(rig);
	buf_free(&ids);
	buf_free(&names);
}

#define events_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		events_test(what_comes_changes_and_goes),
		events_test(what_comes_after_the_subscription_was_lost),
		events_test(an_equal_value_is_no_event),
		events_test(what_programs_here_do_is_no_event),
		events_test(nor_is_it_in_what_nobody_has_listed),
		events_test(the_first_change_of_what_nobody_has_listed_is_new),
		events_test(directories_that_nobody_holds_are_silent),
		events_test(directories_and_links_with_records),
		events_test(attributes_are_no_event),
		events_test(a_file_and_a_directory_take_turns),
		events_test(under_what_is_being_written_nothing_changes),
		events_test(chunks_that_another_mount_writes),
		events_test(what_changed_while_nothing_was_told),
		events_test(what_is_told_and_done_here_while_it_is_asked_for),
		events_test(what_is_known_is_given_without_asking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
