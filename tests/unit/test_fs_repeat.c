/* Content whose commit failed, and is sent again: what another client has written since then stays, however this mount has heard
 * of it, and the program is told. */
#include "push_rig.h"
#include "waiting_rig.h"

#include "fs/internal.h"

#define LARGE (3 * RIG_MAX_VALUE)

/* How long it is watched that something does not happen. */
#define QUIET_US 100000

/* How this mount learns what another client does. */
enum heard {
	NOT,
	TOLD,
	LISTED,      /* with the ttl over */
	FOUND_AGAIN, /* with a new subscription */
	HEARD_WAYS,
};

/* NULL: `f` is not there. */
static void put(struct rig *rig, const char *value)
{
	if (value)
		memstore_put(rig->ms, "f", value);
	else if (memstore_value(rig->ms, "f"))
		memstore_remove(rig->ms, "f");
}

/* A filesystem in which the file `f` is stored as `value`, and nothing is sent by time. */
static void begin_with(struct rig *rig, const char *value, enum heard heard)
{
	put(rig, value);
	memstore_clear_faults(rig->ms);
	push_end(rig);
	rig->config.retry_us = LATE_US;
	use_with(rig, value ? "f " : "", LATE_US, 0);
	if (heard == TOLD || heard == FOUND_AGAIN)
		push_begin(rig);
}

/* What another client does. */
static void change_elsewhere(struct rig *rig, const char *value, enum heard heard)
{
	if (heard == FOUND_AGAIN)
		push_end(rig);
	put(rig, value);
	if (heard == FOUND_AGAIN)
		push_begin(rig);
	if (heard == TOLD)
		push_settle(rig);
	if (heard == LISTED) {
		rig_expire(rig);
		assert_lists(rig, "", "f ");
	}
}

/* `text` is written to `f`, and its commit fails in the background. */
static struct fs_handle *write_and_fail(struct rig *rig, const char *text)
{
	struct fs_handle *handle = open_file(rig, "f", O_RDWR | O_CREAT);

	assert_int_equal(write_at(rig, handle, 0, text), 0);
	fail_sets(rig, -EIO, 1);
	assert_int_equal(run(rig, op_sync), -EIO);
	return handle;
}

/* The same, and no answer comes in time. */
static struct fs_handle *write_and_wait(struct rig *rig, const char *text, bool arrives)
{
	struct memstore_fault fault = { .op = STORE_SET, .err = -ETIMEDOUT, .after = arrives, .times = 1 };
	struct fs_handle *handle = open_file(rig, "f", O_RDWR | O_CREAT);

	assert_int_equal(write_at(rig, handle, 0, text), 0);
	memstore_add_fault(rig->ms, fault);
	assert_int_equal(run(rig, op_sync), -ETIMEDOUT);
	return handle;
}

/* `f` is as another client has it. */
static void assert_theirs(struct rig *rig, const char *value)
{
	if (value) {
		assert_stored(rig, "f", value);
		assert_reads(rig, "f", value);
	} else {
		assert_not_stored(rig, "f");
		assert_int_equal(look(rig, "f"), -ENOENT);
	}
}

static void assert_lost(struct rig *rig, struct fs_handle *handle, const char *value)
{
	assert_int_equal(run(rig, op_sync), -EIO);
	assert_theirs(rig, value);
	assert_int_equal(run(rig, op_fsync, .handle = handle), -EIO);
	assert_int_equal(close_file(rig, handle), 0); /* it was told */
	assert_theirs(rig, value);
}

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

/* More than a value holds. */
static char *large_text(void)
{
	char *text = malloc(LARGE + 1);

	assert_non_null(text);
	memset(text, 'x', LARGE);
	text[LARGE] = '\0';
	return text;
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

/* --- under another name --- */

/* What becomes of a file whose renaming failed. */
enum after {
	SYNCED,
	RENAMED,
	REMOVED,
	AFTER_WAYS,
};

static void go_on(struct rig *rig, struct fs_handle *handle, enum after after)
{
	const char *name = after == RENAMED ? "h" : "f";

	if (after == SYNCED)
		assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	if (after == RENAMED)
		assert_int_equal(rename_to(rig, "f", "h"), 0);
	if (after == REMOVED)
		assert_int_equal(remove_file(rig, "f"), 0);
	else
		assert_int_equal(write_at(rig, handle, 0, "other"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	if (after != REMOVED)
		assert_int_equal(remove_file(rig, name), 0);
	assert_not_stored(rig, "f");
	assert_not_stored(rig, "h");
}

/* The new name may have it: its chunks stay until nothing does, and are not written in place. */
static void chunks_of_a_renaming_that_failed_stay(void **state)
{
	static const struct memstore_fault faults[] = {
		{ .op = STORE_SET, .key = "g", .err = -ETIMEDOUT, .after = true, .times = 1 },
		{ .op = STORE_DELETE, .key = "f", .err = -ETIMEDOUT, .times = 1 },
	};
	struct rig *rig = *state;
	CLEANUP_FREE char *text = large_text();

	rig->config.grace_us = 1000;
	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults) * AFTER_WAYS; i++) {
		struct fs_handle *handle;

		begin_with(rig, "old", NOT);
		handle = open_file(rig, "f", O_RDWR);
		assert_int_equal(write_at(rig, handle, 0, text), 0);
		memstore_add_fault(rig->ms, faults[i / AFTER_WAYS]);
		assert_int_equal(rename_to(rig, "f", "g"), -ETIMEDOUT);
		go_on(rig, handle, i % AFTER_WAYS);
		rig_serve(rig, QUIET_US);
		rig_restart(rig);
		assert_reads(rig, "g", text);
		assert_int_equal(remove_file(rig, "g"), 0);
		while (rig_chunk_count(rig))
			loop_once(rig->loop);
	}
}

/* What it was then is another's now: it stays as it is there, and may go from there. */
static void what_a_renaming_that_failed_left_is_another_file(void **state)
{
	struct rig *rig = *state;
	CLEANUP_FREE char *text = large_text();
	struct memstore_fault fault = { .op = STORE_SET, .key = "g", .err = -ETIMEDOUT, .after = true, .times = 1 };

	rig->config.grace_us = 1000;
	for (int removed = 1; removed >= 0; removed--) {
		struct fs_handle *handle;

		begin_with(rig, "old", NOT);
		handle = open_file(rig, "f", O_RDWR);
		assert_int_equal(write_at(rig, handle, 0, text), 0);
		memstore_add_fault(rig->ms, fault);
		assert_int_equal(rename_to(rig, "f", "g"), -ETIMEDOUT);
		rig_expire(rig);
		if (removed) {
			assert_reads(rig, "g", text);
			assert_int_equal(remove_file(rig, "g"), 0);
			rig_serve(rig, QUIET_US);
		} else {
			assert_int_equal(write_at(rig, handle, 0, "other"), 0);
		}
		assert_int_equal(close_file(rig, handle), 0);
		rig_serve(rig, QUIET_US);
		rig_restart(rig);
		if (!removed) {
			assert_reads(rig, "g", text);
			assert_int_equal(remove_file(rig, "g"), 0);
		}
		assert_int_equal(read_file(rig, "f"), 0);
		assert_int_equal(rig->out.len, LARGE);
		assert_memory_equal(rig->out.p, removed ? "xxxxx" : "other", 5);
	}
}

/* Both names have them then. */
static void a_renaming_that_failed_and_then_another(void **state)
{
	struct rig *rig = *state;
	CLEANUP_FREE char *text = large_text();
	struct fs_handle *handle;

	begin_with(rig, "old", NOT);
	handle = open_file(rig, "f", O_RDWR);
	assert_int_equal(write_at(rig, handle, 0, text), 0);
	memstore_add_fault(
		rig->ms,
		(struct memstore_fault){ .op = STORE_SET, .key = "g", .err = -ETIMEDOUT, .after = true, .times = 1 });
	assert_int_equal(rename_to(rig, "f", "g"), -ETIMEDOUT);
	assert_int_equal(rename_to(rig, "f", "h"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	rig_restart(rig);
	handle = open_file(rig, "g", O_RDWR);
	assert_int_equal(write_at(rig, handle, 0, "other"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	rig_restart(rig);
	assert_reads(rig, "h", text);
	memcpy(text, "other", 5);
	assert_reads(rig, "g", text);
}

/* The other name may have chunks that what is renamed then has no more. */
static void a_renaming_that_failed_and_then_another_without_chunks(void **state)
{
	static const struct {
		struct memstore_fault fault;
		const char *text; /* what there is instead of the large one */
	} cases[] = {
		{ { .op = STORE_SET, .key = "g", .err = -ETIMEDOUT, .after = true, .times = 1 }, "small" },
		{ { .op = STORE_SET, .key = "g", .err = -ETIMEDOUT, .after = true, .times = 1 }, "" },
		{ { .op = STORE_DELETE, .key = "f", .err = -ETIMEDOUT, .times = 1 }, "small" },
	};
	struct fs_attr_change empty = { .set_size = true };
	struct rig *rig = *state;
	CLEANUP_FREE char *text = large_text();

	rig->config.grace_us = 1000;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct fs_handle *handle;

		begin_with(rig, "old", NOT);
		handle = open_file(rig, "f", O_RDWR);
		assert_int_equal(write_at(rig, handle, 0, text), 0);
		memstore_add_fault(rig->ms, cases[i].fault);
		assert_int_equal(rename_to(rig, "f", "g"), -ETIMEDOUT);
		assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .handle = handle, .change = empty), 0);
		assert_int_equal(write_at(rig, handle, 0, cases[i].text), 0);
		assert_int_equal(rename_to(rig, "f", "h"), 0);
		assert_int_equal(close_file(rig, handle), 0);
		rig_serve(rig, QUIET_US);
		rig_restart(rig);
		assert_reads(rig, "g", text);
		assert_reads(rig, "h", cases[i].text);
		assert_int_equal(remove_file(rig, "h"), 0);
		assert_int_equal(remove_file(rig, "g"), 0);
		while (rig_chunk_count(rig))
			loop_once(rig->loop);
	}
}

/* There the chunks are no more needed. */
static void a_renaming_that_failed_and_then_once_more_without_chunks(void **state)
{
	struct fs_attr_change empty = { .set_size = true };
	struct rig *rig = *state;
	CLEANUP_FREE char *text = large_text();
	struct fs_handle *handle;

	rig->config.grace_us = 1000;
	begin_with(rig, "old", NOT);
	handle = open_file(rig, "f", O_RDWR);
	assert_int_equal(write_at(rig, handle, 0, text), 0);
	memstore_add_fault(
		rig->ms,
		(struct memstore_fault){ .op = STORE_SET, .key = "g", .err = -ETIMEDOUT, .after = true, .times = 1 });
	assert_int_equal(rename_to(rig, "f", "g"), -ETIMEDOUT);
	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .handle = handle, .change = empty), 0);
	assert_int_equal(write_at(rig, handle, 0, "small"), 0);
	rig_expire(rig);
	assert_int_equal(rename_to(rig, "f", "g"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "g", "small");
	while (rig_chunk_count(rig))
		loop_once(rig->loop);
}

/* What was to be renamed is lost; what there is instead can be. */
static void a_renaming_is_told_of_the_loss(void **state)
{
	struct rig *rig = *state;

	for (enum heard heard = NOT; heard < HEARD_WAYS; heard++) {
		struct fs_handle *handle;

		begin_with(rig, "old", heard);
		handle = write_and_fail(rig, "new");
		change_elsewhere(rig, "theirs", heard);
		assert_int_equal(rename_to(rig, "f", "g"), -EIO);
		assert_not_stored(rig, "g");
		assert_theirs(rig, "theirs");
		assert_int_equal(close_file(rig, handle), -EIO);
		assert_int_equal(rename_to(rig, "f", "g"), 0);
		assert_not_stored(rig, "f");
		assert_stored(rig, "g", "theirs");
		assert_int_equal(remove_file(rig, "g"), 0);
	}
}

static void a_renaming_leaves_nothing_under_the_former_name(void **state)
{
	struct rig *rig = *state;

	for (int arrived = 0; arrived < 2; arrived++) {
		begin_with(rig, NULL, NOT);
		struct fs_handle *handle = write_and_wait(rig, "new", arrived);

		assert_int_equal(rename_to(rig, "f", "g"), 0);
		assert_not_stored(rig, "f");
		assert_stored(rig, "g", "new");
		assert_int_equal(close_file(rig, handle), 0);
		assert_int_equal(remove_file(rig, "g"), 0);
	}
}

static void a_removal_leaves_nothing(void **state)
{
	struct rig *rig = *state;

	for (int arrived = 0; arrived < 2; arrived++) {
		begin_with(rig, NULL, NOT);
		struct fs_handle *handle = write_and_wait(rig, "new", arrived);

		assert_int_equal(remove_file(rig, "f"), 0);
		assert_not_stored(rig, "f");
		assert_int_equal(close_file(rig, handle), 0);
		assert_int_equal(run(rig, op_sync), 0);
		assert_not_stored(rig, "f");
	}
}

/* A name of scratch files costs no request, but what may have arrived under the former one is not left there. */
static void a_local_renaming_leaves_nothing_under_the_former_name(void **state)
{
	struct rig *rig = *state;

	begin_with(rig, NULL, NOT);
	temporary(rig, "tmp_pack_a1B2c3", "text");
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_SET, .err = -ETIMEDOUT, .after = true, .times = 1 });
	assert_int_equal(run(rig, op_sync), -ETIMEDOUT);
	assert_int_equal(rename_to(rig, "tmp_pack_a1B2c3", ".tmp-17-pack-abc"), 0);
	assert_int_equal(rename_to(rig, ".tmp-17-pack-abc", "pack-abc"), 0);
	assert_not_stored(rig, "tmp_pack_a1B2c3");
	assert_not_stored(rig, ".tmp-17-pack-abc");
	assert_stored(rig, "pack-abc", "text");
}

static void it_stays_in_a_directory_that_was_renamed(void **state)
{
	struct rig *rig = *state;

	for (int ours = 0; ours < 2; ours++) {
		struct fs_handle *handle;

		begin_with(rig, NULL, NOT);
		memstore_put(rig->ms, "d/f", "old");
		rig_expire(rig);
		handle = open_file(rig, "d/f", O_RDWR);
		assert_int_equal(write_at(rig, handle, 0, "new"), 0);
		fail_sets(rig, -EIO, 1);
		assert_int_equal(run(rig, op_sync), -EIO);
		if (!ours)
			memstore_put(rig->ms, "d/f", "theirs");
		assert_int_equal(rename_to(rig, "d", "e"), 0);
		assert_int_equal(run(rig, op_sync), ours ? 0 : -EIO);
		assert_stored(rig, "e/f", ours ? "new" : "theirs");
		assert_reads(rig, "e/f", ours ? "new" : "theirs");
		assert_int_equal(close_file(rig, handle), ours ? 0 : -EIO);
		memstore_remove(rig->ms, "e/f");
	}
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
		waiting_test(chunks_of_a_renaming_that_failed_stay),
		waiting_test(what_a_renaming_that_failed_left_is_another_file),
		waiting_test(a_renaming_that_failed_and_then_another),
		waiting_test(a_renaming_that_failed_and_then_another_without_chunks),
		waiting_test(a_renaming_that_failed_and_then_once_more_without_chunks),
		waiting_test(a_renaming_is_told_of_the_loss),
		waiting_test(a_renaming_leaves_nothing_under_the_former_name),
		waiting_test(a_removal_leaves_nothing),
		waiting_test(a_local_renaming_leaves_nothing_under_the_former_name),
		waiting_test(it_stays_in_a_directory_that_was_renamed),
		waiting_test(the_record_of_a_new_file_comes_back),
		waiting_test(a_record_that_went_is_not_believed_to_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
