/* Content whose commit failed, and is sent again: what another client has written since then stays, however this mount has heard
 * of it, and the program is told. */
#include "repeat_rig.h"

static void what_others_did_since_stays(void **state)
{
	static const struct {
		const char *before, *theirs;
	} cases[] = { { "old", "theirs" }, { "old", NULL }, { NULL, "theirs" } };
	struct rig *rig = *state;

	for (enum heard heard = NOT; heard < HEARD_WAYS; heard++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
			struct fs_handle *handle;

			begin_with(rig, cases[i].before, heard);
			handle = write_and_fail(rig, "new");
			change_elsewhere(rig, cases[i].theirs, heard);
			assert_reads(rig, "f", "new");
			assert_lost(rig, handle, cases[i].theirs);
		}
	}
}

static void it_stays_over_several_failures(void **state)
{
	struct rig *rig = *state;

	for (enum heard heard = NOT; heard < HEARD_WAYS; heard++) {
		struct fs_handle *handle;

		begin_with(rig, "old", heard);
		handle = write_and_fail(rig, "new");
		fail_sets(rig, -ETIMEDOUT, 1);
		assert_int_equal(run(rig, op_sync), -ETIMEDOUT);
		change_elsewhere(rig, "theirs", heard);
		memstore_add_fault(rig->ms,
				   (struct memstore_fault){ .op = STORE_GET, .key = "f", .err = -EIO, .times = 1 });
		assert_int_equal(run(rig, op_sync), -EIO);
		assert_reads(rig, "f", "new");
		assert_lost(rig, handle, "theirs");
	}
}

/* Who goes on writing cannot have seen theirs: it is the same change. */
static void it_stays_though_more_is_written(void **state)
{
	struct rig *rig = *state;

	for (enum heard heard = NOT; heard < HEARD_WAYS; heard++) {
		struct fs_handle *handle;

		begin_with(rig, "old", heard);
		handle = write_and_fail(rig, "new");
		change_elsewhere(rig, "theirs", heard);
		assert_int_equal(write_at(rig, handle, 3, "er"), 0);
		assert_reads(rig, "f", "newer");
		assert_lost(rig, handle, "theirs");
	}
}

static void a_program_that_waits_is_told_at_once(void **state)
{
	struct rig *rig = *state;

	for (enum heard heard = NOT; heard < HEARD_WAYS; heard++) {
		for (int closes = 0; closes < 2; closes++) {
			struct fs_handle *handle;

			begin_with(rig, "old", heard);
			handle = write_and_fail(rig, "new");
			change_elsewhere(rig, "theirs", heard);
			assert_int_equal(closes ? run(rig, op_flush, .handle = handle)
						: run(rig, op_fsync, .handle = handle),
					 -EIO);
			assert_theirs(rig, "theirs");
			assert_int_equal(close_file(rig, handle), 0);
		}
	}
}

/* Memory ran short: only what the value was is known. */
static void it_stays_where_the_former_value_is_not_kept(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	for (int early = 0; early < 2; early++) {
		begin_with(rig, "old", NOT);
		handle = open_file(rig, "f", O_RDWR);
		assert_int_equal(write_at(rig, handle, 0, "new"), 0);
		if (early)
			value_drop(push_node(rig, "f"));
		fail_sets(rig, -EIO, 1);
		assert_int_equal(run(rig, op_sync), -EIO);
		if (!early)
			value_drop(push_node(rig, "f"));
		change_elsewhere(rig, "theirs", NOT);
		assert_lost(rig, handle, "theirs");
	}
}

/* Nobody else has changed it: what was sent first has arrived, or has not. */
static void what_nobody_changed_is_sent_again(void **state)
{
	struct rig *rig = *state;

	for (enum heard heard = NOT; heard < HEARD_WAYS; heard++) {
		for (int arrived = 0; arrived < 2; arrived++) {
			struct fs_handle *handle;

			begin_with(rig, "old", heard);
			handle = write_and_wait(rig, "new", arrived);
			assert_stored(rig, "f", arrived ? "new" : "old");
			change_elsewhere(rig, arrived ? "new" : "old", heard);
			assert_int_equal(write_at(rig, handle, 3, "er"), 0);
			assert_int_equal(run(rig, op_sync), 0);
			assert_stored(rig, "f", "newer");
			assert_int_equal(close_file(rig, handle), 0);
			assert_reads(rig, "f", "newer");
		}
	}
}

/* Nothing of what failed is left in it. */
static void wholly_new_content_is_another_change(void **state)
{
	struct rig *rig = *state;
	struct fs_attr_change empty = { .set_size = true };

	for (enum heard heard = NOT; heard < HEARD_WAYS; heard++) {
		for (int truncated = 0; truncated < 2; truncated++) {
			struct fs_handle *handle, *second;

			begin_with(rig, "old", heard);
			handle = write_and_fail(rig, "new");
			change_elsewhere(rig, "theirs", heard);
			second = open_file(rig, "f", truncated ? O_WRONLY : O_WRONLY | O_TRUNC);
			if (truncated)
				assert_int_equal(
					run(rig, op_setattr, .id = id_of(rig, "f"), .handle = second, .change = empty),
					0);
			assert_int_equal(write_at(rig, second, 0, "last"), 0);
			assert_int_equal(close_file(rig, second), 0);
			assert_stored(rig, "f", "last");
			assert_int_equal(close_file(rig, handle), 0);
			assert_reads(rig, "f", "last");
		}
	}
}

/* As the size of `handle`'s file, or with a handle of its own, as another program opens it. */
static struct fs_handle *empty_file(struct rig *rig, struct fs_handle *handle, bool by_size)
{
	struct fs_attr_change empty = { .set_size = true };

	if (!by_size)
		return open_file(rig, "f", O_WRONLY | O_TRUNC);
	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .handle = handle, .change = empty), 0);
	return open_file(rig, "f", O_WRONLY);
}

/* Of what has arrived unheard of nobody but this mount is the author. */
static void wholly_new_content_that_fails_too(void **state)
{
	struct rig *rig = *state;

	for (int way = 0; way < 4; way++) {
		bool by_size = way & 1, under_way = way & 2;
		struct memstore_fault fault = { .op = STORE_SET, .err = -ETIMEDOUT, .after = true, .times = 1 };
		struct fs_handle *handle, *second;
		struct call *sync;

		begin_with(rig, "old", NOT);
		handle = open_file(rig, "f", O_RDWR);
		assert_int_equal(write_at(rig, handle, 0, "new"), 0);
		if (under_way)
			fault.hold = MEMSTORE_HOLD_REQUEST;
		memstore_add_fault(rig->ms, fault);
		sync = begin(rig, op_sync);
		if (under_way) {
			rig_until_held(rig, 1);
			second = empty_file(rig, handle, by_size);
			memstore_release(rig->ms);
		}
		assert_int_equal(end(sync), -ETIMEDOUT);
		if (!under_way)
			second = empty_file(rig, handle, by_size);
		assert_stored(rig, "f", "new");
		assert_int_equal(write_at(rig, second, 0, "last"), 0);
		fail_sets(rig, -EIO, 1);
		assert_int_equal(run(rig, op_sync), -EIO);
		assert_int_equal(run(rig, op_sync), 0);
		assert_stored(rig, "f", "last");
		assert_int_equal(close_file(rig, second), 0);
		assert_int_equal(close_file(rig, handle), 0);
	}
}

/* Nor does what has arrived stay where the file goes from. */
static void a_file_that_was_emptied_leaves_nothing(void **state)
{
	struct rig *rig = *state;

	for (int way = 0; way < 4; way++) {
		struct fs_handle *handle, *second;

		begin_with(rig, NULL, NOT);
		handle = write_and_wait(rig, "new", true);
		second = empty_file(rig, handle, way & 1);
		if (way & 2)
			assert_int_equal(rename_to(rig, "f", "g"), 0);
		else
			assert_int_equal(remove_file(rig, "f"), 0);
		assert_not_stored(rig, "f");
		assert_int_equal(close_file(rig, second), 0);
		assert_int_equal(close_file(rig, handle), 0);
		assert_not_stored(rig, "f");
		if (way & 2)
			assert_int_equal(remove_file(rig, "g"), 0);
	}
}

/* As `ln -sf` does. */
static void a_link_in_the_place_of_a_file_leaves_nothing_of_it(void **state)
{
	struct rig *rig = *state;

	for (int arrived = 0; arrived < 2; arrived++) {
		begin_with(rig, NULL, NOT);
		struct fs_handle *handle = write_and_wait(rig, "new", arrived);

		assert_int_equal(run(rig, op_symlink, .parent = FS_ROOT_ID, .name = "l", .new_name = "to"), 0);
		assert_int_equal(rename_to(rig, "l", "f"), 0);
		assert_not_stored(rig, "f");
		assert_int_equal(close_file(rig, handle), 0);
		assert_not_stored(rig, "f");
		rig_restart(rig);
		assert_int_equal(look(rig, "f"), 0);
		assert_true(S_ISLNK(rig->entry.st.st_mode));
		assert_int_equal(remove_file(rig, "f"), 0);
	}
}

/* A new file whose first commit failed, and to which is appended without a pause. */
static void what_follows_an_append_is_another_change(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *log, *other;
	struct call *sync;

	begin_with(rig, NULL, NOT);
	log = open_file(rig, "f", O_WRONLY | O_CREAT | O_APPEND);
	fail_sets(rig, -EIO, 1);
	assert_int_equal(run(rig, op_sync), -EIO);
	assert_int_equal(write_at(rig, log, 0, "a"), 0);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .any = true, .key = "f", .hold = MEMSTORE_HOLD_REPLY, .times = 1 });
	sync = begin(rig, op_sync);
	rig_until_held(rig, 1);
	assert_int_equal(write_at(rig, log, 0, "b"), 0);
	memstore_release(rig->ms);
	assert_int_equal(end(sync), 0);
	assert_false(file_was_tried(push_node(rig, "f")));
	other = open_file(rig, "f", O_WRONLY);
	assert_int_equal(write_at(rig, other, 0, "A"), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_stored(rig, "f", "Ab");
	assert_int_equal(close_file(rig, other), 0);
	assert_int_equal(close_file(rig, log), 0);
}

/* As of any two writers, the last one wins. */
static void what_is_written_during_a_repetition_is_another_change(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct call *sync;

	begin_with(rig, "old", NOT);
	handle = write_and_fail(rig, "new");
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_SET, .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	sync = begin(rig, op_sync);
	rig_until_held(rig, 1);
	assert_int_equal(write_at(rig, handle, 3, "er"), 0);
	memstore_put(rig->ms, "f", "theirs");
	memstore_release(rig->ms);
	assert_int_equal(end(sync), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "f", "newer");
}

static void chunks_that_were_sent_go(void **state)
{
	struct rig *rig = *state;
	CLEANUP_FREE char *text = large_text();

	rig->config.grace_us = 1000;
	for (enum heard heard = NOT; heard < HEARD_WAYS; heard++) {
		struct fs_handle *handle;

		begin_with(rig, "old", heard);
		handle = open_file(rig, "f", O_RDWR);
		assert_int_equal(write_at(rig, handle, 0, text), 0);
		memstore_add_fault(rig->ms,
				   (struct memstore_fault){ .op = STORE_SET, .key = "f", .err = -EIO, .times = 1 });
		assert_int_equal(run(rig, op_sync), -EIO);
		assert_true(rig_chunk_count(rig) > 0);
		change_elsewhere(rig, "theirs", heard);
		assert_lost(rig, handle, "theirs");
		while (rig_chunk_count(rig))
			loop_once(rig->loop);
	}
}

/* What was sent first has arrived unheard of; since then the file has become again as long as it was. */
static void growth_that_is_taken_back(void **state)
{
	struct rig *rig = *state;
	struct fs_attr_change former = { .set_size = true, .size = LARGE };
	CLEANUP_FREE char *text = large_text();
	struct fs_handle *handle;

	begin_with(rig, NULL, NOT);
	assert_int_equal(write_file(rig, "f", text), 0);
	handle = open_file(rig, "f", O_RDWR);
	assert_int_equal(write_at(rig, handle, LARGE, "more"), 0);
	memstore_add_fault(
		rig->ms,
		(struct memstore_fault){ .op = STORE_SET, .key = "f", .err = -ETIMEDOUT, .after = true, .times = 1 });
	assert_int_equal(run(rig, op_sync), -ETIMEDOUT);
	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .handle = handle, .change = former), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_reads(rig, "f", text);
	rig_restart(rig);
	assert_reads(rig, "f", text);
}

/* fsck takes the record of a file whose value has not come for one that was left over. */
static void the_record_of_a_new_file_comes_back(void **state)
{
	struct rig *rig = *state;

	for (enum heard heard = NOT; heard < HEARD_WAYS; heard++) {
		struct fs_handle *handle;

		begin_with(rig, NULL, heard);
		handle = make_temporary(rig, "f", "secret", 0600);
		assert_int_equal(set_xattr(rig, "f", "user.a", "b"), 0);
		memstore_add_fault(
			rig->ms, (struct memstore_fault){ .op = STORE_SET, .key = "f", .err = -ETIMEDOUT, .times = 1 });
		assert_int_equal(run(rig, op_sync), -ETIMEDOUT);
		assert_non_null(memstore_value(rig->ms, ".hpkvfs/m/f"));
		if (heard == FOUND_AGAIN)
			push_end(rig);
		memstore_remove(rig->ms, ".hpkvfs/m/f");
		if (heard == FOUND_AGAIN)
			push_begin(rig);
		if (heard == TOLD)
			push_settle(rig);
		if (heard == LISTED)
			rig_expire(rig);
		assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0600);
		assert_int_equal(run(rig, op_sync), 0);
		assert_int_equal(close_file(rig, handle), 0);
		assert_stored(rig, "f", "secret");
		assert_int_equal(fresh_stat(rig, "f").st_mode, S_IFREG | 0600);
		assert_xattr(rig, "f", "user.a", "b");
		memstore_remove(rig->ms, ".hpkvfs/m/f");
	}
}

/* Another client removes the file with its record, and makes it again without one, while it is written here. */
static void a_record_that_went_is_not_believed_to_stay(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33152}");
	begin_with(rig, "old", TOLD);
	handle = open_file(rig, "f", O_RDWR);
	assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0600);
	assert_int_equal(write_at(rig, handle, 0, "new"), 0);
	change_elsewhere(rig, NULL, TOLD);
	memstore_remove(rig->ms, ".hpkvfs/m/f");
	push_settle(rig);
	change_elsewhere(rig, "theirs", TOLD);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "f", "new");
	assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0644);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		waiting_test(what_others_did_since_stays),
		waiting_test(it_stays_over_several_failures),
		waiting_test(it_stays_though_more_is_written),
		waiting_test(a_program_that_waits_is_told_at_once),
		waiting_test(it_stays_where_the_former_value_is_not_kept),
		waiting_test(what_nobody_changed_is_sent_again),
		waiting_test(wholly_new_content_is_another_change),
		waiting_test(wholly_new_content_that_fails_too),
		waiting_test(a_file_that_was_emptied_leaves_nothing),
		waiting_test(a_link_in_the_place_of_a_file_leaves_nothing_of_it),
		waiting_test(what_follows_an_append_is_another_change),
		waiting_test(what_is_written_during_a_repetition_is_another_change),
		waiting_test(chunks_that_were_sent_go),
		waiting_test(growth_that_is_taken_back),
		waiting_test(the_record_of_a_new_file_comes_back),
		waiting_test(a_record_that_went_is_not_believed_to_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
