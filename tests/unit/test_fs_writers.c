/* Several programs that write one file through the same mount: what becomes of one's change does not decide over another's. */
#include "chunks_rig.h"
#include "push_rig.h"
#include "waiting_rig.h"

#include "fs/internal.h"

/* How long it is watched that something does not happen. */
#define QUIET_US 100000

/* `mine` is written to `f`, whose commit then is under way until it fails. */
static struct call *begin_to_fail(struct rig *rig, struct fs_handle *handle)
{
	struct memstore_fault fault = {
		.op = STORE_SET, .key = "f", .hold = MEMSTORE_HOLD_REQUEST, .err = -EIO, .times = 1
	};
	struct call *fsync;

	assert_int_equal(write_at(rig, handle, 0, "mine"), 0);
	memstore_add_fault(rig->ms, fault);
	fsync = begin(rig, op_fsync, .handle = handle);
	rig_until_held(rig, 1);
	return fsync;
}

/* What was written before and after the failure are one change. */
static void an_open_with_trunc_during_a_commit_that_fails(void **state)
{
	struct rig *rig = *state;

	for (int stored = 0; stored < 2; stored++) {
		struct fs_handle *handle, *other;
		struct call *fsync;

		if (stored)
			memstore_put(rig->ms, "f", "old");
		rig_expire(rig);
		handle = open_file(rig, "f", O_RDWR | O_CREAT);
		fsync = begin_to_fail(rig, handle);
		other = open_file(rig, "f", O_WRONLY | O_TRUNC);
		assert_int_equal(write_at(rig, other, 0, "the"), 0);
		memstore_release(rig->ms);
		assert_int_equal(end(fsync), -EIO);
		assert_reads(rig, "f", "the");
		assert_int_equal(write_at(rig, other, 3, "irs"), 0);
		assert_int_equal(close_file(rig, other), 0);
		assert_stored(rig, "f", "theirs");
		assert_int_equal(close_file(rig, handle), 0);
		assert_reads(rig, "f", "theirs");
		assert_int_equal(remove_file(rig, "f"), 0);
	}
}

/* Nobody calls any more for what was written last. */
static void what_was_written_and_closed_meanwhile_is_sent(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_file(rig, "f", O_RDWR | O_CREAT), *other;
	struct call *fsync = begin_to_fail(rig, handle), *close;

	other = open_file(rig, "f", O_WRONLY | O_TRUNC);
	assert_int_equal(write_at(rig, other, 0, "theirs"), 0);
	close = begin(rig, op_flush, .handle = other);
	memstore_release(rig->ms);
	assert_int_equal(end(fsync), -EIO);
	assert_int_equal(end(close), 0);
	assert_stored(rig, "f", "theirs");
	assert_int_equal(run(rig, op_release, .handle = other), 0);
	assert_int_equal(close_file(rig, handle), 0);
}

/* Both have written into what was lost. */
static void every_writer_is_told_of_a_loss(void **state)
{
	struct rig *rig = *state;

	for (int waits = 0; waits < 2; waits++) {
		struct fs_handle *handle = open_file(rig, "f", O_RDWR | O_CREAT), *other, *reader;
		struct call *fsync = begin_to_fail(rig, handle), *second = NULL;

		other = open_file(rig, "f", O_WRONLY);
		reader = open_file(rig, "f", O_RDONLY);
		assert_int_equal(write_at(rig, other, 4, "+theirs"), 0);
		if (waits)
			second = begin(rig, op_fsync, .handle = other);
		memstore_release(rig->ms);
		assert_int_equal(end(fsync), -EIO);
		assert_int_equal(waits ? end(second) : run(rig, op_flush, .handle = other), -EIO);
		assert_not_stored(rig, "f");
		assert_int_equal(close_file(rig, other), 0); /* it was told */
		assert_int_equal(close_file(rig, handle), 0);
		assert_int_equal(close_file(rig, reader), 0);
	}
}

/* Of a commit that nobody waited for. */
static void every_writer_is_told_of_a_loss_in_the_background(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle, *other;

	memstore_put(rig->ms, "f", "old");
	rig_expire(rig);
	handle = open_file(rig, "f", O_RDWR);
	other = open_file(rig, "f", O_WRONLY);
	assert_int_equal(write_at(rig, handle, 0, "mine"), 0);
	assert_int_equal(write_at(rig, other, 4, "+theirs"), 0);
	fail_sets(rig, -EINVAL, 1);
	assert_int_equal(run(rig, op_sync), -EINVAL);
	assert_int_equal(close_file(rig, handle), -EINVAL);
	assert_int_equal(write_at(rig, other, 0, "later"), 0);
	assert_int_equal(run(rig, op_fsync, .handle = other), -EINVAL);
	assert_stored(rig, "f", "later");
	assert_int_equal(close_file(rig, other), 0);
}

/* A process that a program has started closes what it has inherited when it ends. */
static void a_child_is_not_told_in_its_parents_place(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "f", "old");
	rig_expire(rig);
	handle = open_file(rig, "f", O_RDWR);
	assert_int_equal(write_at(rig, handle, 0, "mine"), 0);
	fail_sets(rig, -EINVAL, 1);
	assert_int_equal(run(rig, op_sync), -EINVAL);
	assert_int_equal(run(rig, op_flush, .handle = handle, .pid = getppid()), 0);
	assert_int_equal(run(rig, op_flush, .handle = handle), -EINVAL);
	assert_int_equal(run(rig, op_release, .handle = handle), 0);
}

/* What a mapping leaves comes after the close. */
static void a_loss_behind_the_close_is_told_to_the_next(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "f", "old");
	rig_expire(rig);
	handle = open_file(rig, "f", O_RDWR);
	assert_int_equal(run(rig, op_flush, .handle = handle), 0);
	assert_int_equal(write_at(rig, handle, 0, "mine"), 0);
	fail_sets(rig, -EINVAL, 1);
	assert_int_equal(run(rig, op_release, .handle = handle), 0);
	assert_stored(rig, "f", "old");
	handle = open_file(rig, "f", O_RDONLY);
	assert_int_equal(run(rig, op_fsync, .handle = handle), -EINVAL);
	assert_int_equal(close_file(rig, handle), 0);
}

/* The first content is sent for longer than it takes until chunks of no file are removed. */
static void an_open_with_trunc_during_a_long_commit(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf first = noise(5 * CHUNK);

	rig->config.grace_us = 1000;
	rig_restart(rig);
	prepare(rig);
	for (int fails = 0; fails < 2; fails++) {
		struct fs_handle *handle = open_file(rig, "f", O_RDWR | O_CREAT), *other;
		struct call *fsync;

		assert_int_equal(write_bytes(rig, handle, 0, buf_str(&first)), 0);
		memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET,
								     .hold = MEMSTORE_HOLD_REQUEST,
								     .err = fails ? -EIO : 0,
								     .after = true,
								     .pass = 4,
								     .times = 1 });
		fsync = begin(rig, op_fsync, .handle = handle);
		rig_until_held(rig, 1);
		other = open_file(rig, "f", O_RDWR | O_TRUNC);
		rig_serve(rig, QUIET_US);
		assert_int_equal(rig_chunk_count(rig), 4);
		memstore_release(rig->ms);
		assert_int_equal(end(fsync), fails ? -EIO : 0);
		assert_int_equal(memstore_value(rig->ms, "f") != NULL, !fails);
		if (!fails)
			assert_int_equal(rig_chunk_count(rig), 5);
		assert_int_equal(close_file(rig, handle), 0);
		assert_int_equal(write_at(rig, other, 0, "theirs"), 0);
		assert_int_equal(close_file(rig, other), 0);
		assert_stored(rig, "f", "theirs");
		while (rig_chunk_count(rig))
			loop_once(rig->loop);
		assert_int_equal(remove_file(rig, "f"), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		waiting_test(an_open_with_trunc_during_a_commit_that_fails),
		waiting_test(what_was_written_and_closed_meanwhile_is_sent),
		waiting_test(every_writer_is_told_of_a_loss),
		waiting_test(every_writer_is_told_of_a_loss_in_the_background),
		waiting_test(a_child_is_not_told_in_its_parents_place),
		waiting_test(a_loss_behind_the_close_is_told_to_the_next),
		waiting_test(an_open_with_trunc_during_a_long_commit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
