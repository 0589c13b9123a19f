/* What is removed or replaced here while a program is about to use it. */
#include "fs_rig.h"

#include "fs/internal.h"

/* `a` is removed, or replaced by `b`. */
static struct call *begin_removal(struct rig *rig, bool replaced)
{
	return replaced ? begin(rig, op_rename, .parent = FS_ROOT_ID, .name = "b", .new_parent = FS_ROOT_ID,
				.new_name = "a")
			: begin(rig, op_unlink, .parent = FS_ROOT_ID, .name = "a");
}

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
		removal = begin_removal(rig, replaced);
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

#define SMALL_CACHE 8192

/* Files beside these, which together are more than what is kept. */
#define OTHERS 6

static void begin_small(struct rig *rig)
{
	char value[RIG_MAX_VALUE], key[16];

	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	for (int i = 0; i < OTHERS; i++) {
		snprintf(key, sizeof(key), "others/%d", i);
		memstore_put(rig->ms, key, value);
	}
	rig->config.cache_size = SMALL_CACHE;
	rig->config.grace_us = 1000;
	rig_restart(rig);
}

/* From here on no value is in memory that may go. */
static void read_others(struct rig *rig)
{
	char name[16];

	for (int i = 0; i < OTHERS; i++) {
		snprintf(name, sizeof(name), "others/%d", i);
		assert_int_equal(read_file(rig, name), 0);
		assert_int_equal(rig->out.len, RIG_MAX_VALUE - 1);
	}
}

/* `b` is written and not sent yet. */
static struct fs_handle *change_b(struct rig *rig)
{
	struct fs_handle *handle = open_file(rig, "b", O_RDWR | O_CREAT);

	assert_int_equal(write_at(rig, handle, 0, "other"), 0);
	return handle;
}

static void what_is_read_meanwhile_does_not_drive_it_out(void **state)
{
	struct rig *rig = *state;

	begin_small(rig);
	for (int replaced = 0; replaced < 2; replaced++) {
		struct fs_handle *handle, *other = NULL;
		struct call *removal;

		assert_int_equal(write_file(rig, "a", "content"), 0);
		handle = open_file(rig, "a", O_RDONLY);
		if (replaced)
			other = change_b(rig);
		memstore_add_fault(rig->ms, (struct memstore_fault){ .op = replaced ? STORE_SET : STORE_DELETE,
								     .key = "a",
								     .hold = MEMSTORE_HOLD_REQUEST });
		removal = begin_removal(rig, replaced);
		rig_until_held(rig, 1);
		read_others(rig);
		memstore_clear_faults(rig->ms);
		memstore_release(rig->ms);
		assert_int_equal(end(removal), 0);
		assert_int_equal(read_handle(rig, handle), 0);
		assert_string_equal(rig->out.p, "content");
		assert_int_equal(close_file(rig, handle), 0);
		if (other)
			assert_int_equal(close_file(rig, other), 0);
		read_others(rig); /* it may go now */
		assert_true(fs_figures(rig->fs).cached_bytes <= SMALL_CACHE);
	}
}

static void the_chunks_of_what_is_replaced_go(void **state)
{
	struct rig *rig = *state;
	char text[3 * RIG_MAX_VALUE];
	struct fs_handle *other;
	struct call *removal;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	begin_small(rig);
	assert_int_equal(write_file(rig, "a", text), 0);
	other = change_b(rig);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_SET, .key = "a", .hold = MEMSTORE_HOLD_REQUEST });
	removal = begin_removal(rig, true);
	rig_until_held(rig, 1);
	read_others(rig);
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(removal), 0);
	assert_int_equal(close_file(rig, other), 0);
	while (rig_chunk_count(rig))
		loop_once(rig->loop);
	assert_stored(rig, "a", "other");
}

/* Its value is there, and is driven out while that of what it replaces is asked for, which another client has removed. */
static void what_is_renamed_is_not_driven_out(void **state)
{
	struct rig *rig = *state;
	char text[3 * RIG_MAX_VALUE];
	struct call *rename;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	begin_small(rig);
	assert_int_equal(write_file(rig, "a", text), 0);
	assert_int_equal(write_file(rig, "b", "other"), 0);
	value_drop(node_find(rig->fs, id_of(rig, "a")));
	memstore_remove(rig->ms, "a");
	/* it is asked for before the lock, with it, and for its chunks */
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_GET, .key = "a", .pass = 2, .hold = MEMSTORE_HOLD_REPLY });
	rename = begin_removal(rig, true);
	rig_until_held(rig, 1);
	read_others(rig);
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(rename), 0);
	assert_stored(rig, "a", "other");
	assert_reads(rig, "a", "other");
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
		fs_test(what_is_read_meanwhile_does_not_drive_it_out),
		fs_test(the_chunks_of_what_is_replaced_go),
		fs_test(what_is_renamed_is_not_driven_out),
		fs_test(what_is_removed_is_stale_when_its_name_is_gone),
		fs_test(what_is_removed_while_it_is_asked_for_can_be_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
