/* Files whose commit or renaming failed, and that then are renamed or removed: nothing of them is left where they were, and what is
 * under two names belongs to both. */
#include "repeat_rig.h"

static const struct memstore_fault new_name_unanswered = {
	.op = STORE_SET, .key = "g", .err = -ETIMEDOUT, .after = true, .times = 1
};
static const struct memstore_fault old_name_unanswered = {
	.op = STORE_DELETE, .key = "f", .err = -ETIMEDOUT, .times = 1
};

/* `f` has got this content, which waits or is `stored`, and its renaming to `g` fails by the fault. */
static struct fs_handle *write_and_fail_to_rename(struct rig *rig, const char *text, bool stored,
						  struct memstore_fault fault)
{
	struct fs_handle *handle;

	begin_with(rig, "old", NOT);
	handle = open_file(rig, "f", O_RDWR);
	assert_int_equal(write_at(rig, handle, 0, text), 0);
	if (stored)
		assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	memstore_add_fault(rig->ms, fault);
	assert_int_equal(rename_to(rig, "f", "g"), -ETIMEDOUT);
	return handle;
}

/* Then it is emptied and written anew. */
static void write_anew(struct rig *rig, struct fs_handle *handle, const char *text)
{
	struct fs_attr_change empty = { .set_size = true };

	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .handle = handle, .change = empty), 0);
	assert_int_equal(write_at(rig, handle, 0, text), 0);
}

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
	const struct memstore_fault faults[] = { new_name_unanswered, old_name_unanswered };
	struct rig *rig = *state;
	CLEANUP_FREE char *text = large_text();

	rig->config.grace_us = 1000;
	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults) * AFTER_WAYS; i++) {
		struct fs_handle *handle;

		handle = write_and_fail_to_rename(rig, text, false, faults[i / AFTER_WAYS]);
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

	rig->config.grace_us = 1000;
	for (int way = 0; way < 4; way++) {
		bool removed = way & 1, stored = way & 2;
		struct fs_handle *handle;

		handle = write_and_fail_to_rename(rig, text, stored, new_name_unanswered);
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

/* The same where the file has no name any more, and what is written to it is too much to wait. */
static void what_a_renaming_that_failed_left_outlives_the_file(void **state)
{
	struct rig *rig = *state;
	CLEANUP_FREE char *text = large_text();
	CLEANUP(buf_free) struct buf much = BUF_INIT;

	assert_int_equal(buf_resize(&much, FILE_MAX_PENDING + LARGE), 0);
	memset(much.p, 'y', much.len);
	for (int stored = 0; stored < 2; stored++) {
		struct fs_handle *handle;

		handle = write_and_fail_to_rename(rig, text, stored, new_name_unanswered);
		assert_int_equal(remove_file(rig, "f"), 0);
		assert_int_equal(run(rig, op_write, .handle = handle, .data = buf_str(&much)), 0);
		assert_int_equal(close_file(rig, handle), 0);
		rig_restart(rig);
		assert_reads(rig, "g", text);
		assert_int_equal(remove_file(rig, "g"), 0);
	}
}

/* Both names have them then. */
static void a_renaming_that_failed_and_then_another(void **state)
{
	struct rig *rig = *state;
	CLEANUP_FREE char *text = large_text();
	struct fs_handle *handle;

	handle = write_and_fail_to_rename(rig, text, false, new_name_unanswered);
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
	const struct {
		struct memstore_fault fault;
		const char *text; /* what there is instead of the large one */
	} cases[] = {
		{ new_name_unanswered, "small" },
		{ new_name_unanswered, "" },
		{ old_name_unanswered, "small" },
	};
	struct rig *rig = *state;
	CLEANUP_FREE char *text = large_text();

	rig->config.grace_us = 1000;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct fs_handle *handle;

		handle = write_and_fail_to_rename(rig, text, false, cases[i].fault);
		write_anew(rig, handle, cases[i].text);
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
	struct rig *rig = *state;
	CLEANUP_FREE char *text = large_text();
	struct fs_handle *handle;

	rig->config.grace_us = 1000;
	handle = write_and_fail_to_rename(rig, text, false, new_name_unanswered);
	write_anew(rig, handle, "small");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		waiting_test(chunks_of_a_renaming_that_failed_stay),
		waiting_test(what_a_renaming_that_failed_left_is_another_file),
		waiting_test(what_a_renaming_that_failed_left_outlives_the_file),
		waiting_test(a_renaming_that_failed_and_then_another),
		waiting_test(a_renaming_that_failed_and_then_another_without_chunks),
		waiting_test(a_renaming_that_failed_and_then_once_more_without_chunks),
		waiting_test(a_renaming_is_told_of_the_loss),
		waiting_test(a_renaming_leaves_nothing_under_the_former_name),
		waiting_test(a_removal_leaves_nothing),
		waiting_test(a_local_renaming_leaves_nothing_under_the_former_name),
		waiting_test(it_stays_in_a_directory_that_was_renamed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
