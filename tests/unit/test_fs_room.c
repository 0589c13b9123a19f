/* Room in memory for what waits, over all files. */
#include "attr_rig.h"

#include "base/clock.h"

#define KIB 1024u
#define CHUNK 2304u
#define PATTERNS "*.swp:.*.??????:*~"
#define LATE_US (3600 * CLOCK_US_PER_S)

/* A write that finds room may bring a chunk into memory, and what lies in a buffer that grows. */
#define SLACK (8 * KIB)

static void limit(struct rig *rig, uint64_t bytes)
{
	rig->config.waiting_most = bytes;
	rig->config.local = STR(PATTERNS);
	rig->config.local_ttl_us = LATE_US;
	rig->config.grace_us = 1000;
	rig_restart(rig);
	assert_int_equal(run(rig, op_start), 0);
	assert_lists(rig, "", "");
	memstore_log_clear(rig->ms);
}

static uint64_t waiting(const struct rig *rig)
{
	return fs_figures(rig->fs).waiting_bytes;
}

/* --- files beside what they should be --- */

enum kind {
	TEXT,
	BINARY
};

struct twin {
	char name[32];
	struct fs_handle *handle;
	uint64_t id;
	struct buf content;
};

static void twin_make(struct rig *rig, struct twin *twin, const char *format, unsigned number, int flags)
{
	*twin = (struct twin){ 0 };
	snprintf(twin->name, sizeof(twin->name), format, number);
	assert_int_equal(run(rig, op_create, .parent = FS_ROOT_ID, .name = twin->name, .mode = 0644,
			     .flags = O_CREAT | O_RDWR | flags),
			 0);
	twin->handle = rig->handle;
	twin->id = rig->entry.id;
}

static void fill(struct buf *bytes, enum kind kind, unsigned seed, size_t len)
{
	buf_clear(bytes);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf_add_char(bytes, kind == TEXT ? (char)('a' + (seed + i * 7) % 26)
								  : (char)(seed * 31 + i * 7)),
				 0);
}

static int twin_append(struct rig *rig, struct twin *twin, enum kind kind, size_t len)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	int r;

	fill(&bytes, kind, (unsigned)(twin->name[1] + twin->content.len), len);
	r = run(rig, op_write, .handle = twin->handle, .offset = twin->content.len, .data = buf_str(&bytes));
	if (r == 0)
		assert_int_equal(buf_add_str(&twin->content, buf_str(&bytes)), 0);
	return r;
}

static void twin_check_handle(struct rig *rig, struct twin *twin)
{
	assert_int_equal(run(rig, op_read, .handle = twin->handle, .size = twin->content.len + 1), 0);
	assert_true(str_equal(buf_str(&rig->out), buf_str(&twin->content)));
}

static void twin_close(struct rig *rig, struct twin *twin)
{
	assert_int_equal(close_file(rig, twin->handle), 0);
	twin->handle = NULL;
}

static void twin_check(struct rig *rig, struct twin *twin)
{
	assert_int_equal(look(rig, twin->name), 0);
	assert_int_equal(run(rig, op_open, .id = rig->entry.id, .flags = O_RDONLY), 0);
	twin->handle = rig->handle;
	twin_check_handle(rig, twin);
	twin_close(rig, twin);
}

static void twins_free(struct twin *twins, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		buf_free(&twins[i].content);
	free(twins);
}

static struct twin *twins_new(unsigned count)
{
	struct twin *twins = calloc(count, sizeof(*twins));

	assert_non_null(twins);
	return twins;
}

static unsigned chunks_stored(const struct rig *rig)
{
	struct str key;
	unsigned count = 0;

	for (size_t i = 0; (key = memstore_key(rig->ms, i)).p; i++)
		count += str_starts(key, STR(".hpkvfs/c/"));
	return count;
}

static void until_no_chunks(struct rig *rig)
{
	while (chunks_stored(rig))
		loop_once(rig->loop);
}

static void check_after_restart(struct rig *rig, struct twin *twins, unsigned count)
{
	assert_int_equal(waiting(rig), 0);
	assert_int_equal(fs_figures(rig->fs).dirty_bytes, 0);
	rig_restart(rig);
	for (unsigned i = 0; i < count; i++)
		twin_check(rig, &twins[i]);
}

/* --- open files --- */

static void test_many_open_files_stay_within_the_limit(void **state)
{
	struct rig *rig = *state;
	unsigned count = 40;
	struct twin *twins = twins_new(count);

	limit(rig, 256 * KIB);
	for (unsigned i = 0; i < count; i++)
		twin_make(rig, &twins[i], "f%u", i, i % 2 ? O_TRUNC : O_EXCL);
	for (unsigned round = 0; round < 30; round++) {
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(twin_append(rig, &twins[i], i % 3 ? BINARY : TEXT, 1000), 0);
			assert_in_range(waiting(rig), 1, 256 * KIB + SLACK);
		}
	}
	for (unsigned i = 0; i < count; i++) {
		twin_check_handle(rig, &twins[i]);
		assert_not_stored(rig, twins[i].name); /* none is seen half written */
	}
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

/* Whole chunks of large files need no second sending. */
static void test_whole_chunks_go_first(void **state)
{
	struct rig *rig = *state;
	struct twin *twins = twins_new(11);

	limit(rig, 128 * KIB);
	twin_make(rig, &twins[10], "large%u", 10, 0);
	for (unsigned i = 0; i < 10; i++) {
		twin_make(rig, &twins[i], "f%u", i, 0);
		assert_int_equal(twin_append(rig, &twins[i], TEXT, 2000), 0);
	}
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(twin_append(rig, &twins[10], BINARY, CHUNK / 2), 0);
	for (unsigned i = 0; i <= 10; i++)
		twin_close(rig, &twins[i]);
	/* the layout's version is there: each chunk and each key once */
	assert_int_equal(memstore_count(rig->ms, STORE_SET), 100 + 11);
	assert_int_equal(memstore_count(rig->ms, STORE_GET), 0);
	check_after_restart(rig, twins, 11);
	twins_free(twins, 11);
}

static void test_what_may_be_plain_goes_as_chunks_and_is_plain_in_the_end(void **state)
{
	struct rig *rig = *state;
	unsigned count = 60;
	struct twin *twins = twins_new(count);

	limit(rig, 128 * KIB);
	for (unsigned i = 0; i < count; i++)
		twin_make(rig, &twins[i], "f%u", i, O_EXCL);
	for (unsigned part = 0; part < 3; part++)
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(twin_append(rig, &twins[i], TEXT, 1000), 0);
			assert_in_range(waiting(rig), 1, 128 * KIB + SLACK);
		}
	assert_true(chunks_stored(rig) > 0);
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	for (unsigned i = 0; i < count; i++)
		assert_string_equal(memstore_value(rig->ms, twins[i].name), twins[i].content.p);
	until_no_chunks(rig);
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

/* --- closed files --- */

static void test_closed_local_files_go_before_their_time(void **state)
{
	struct rig *rig = *state;
	unsigned count = 1000;
	struct twin *twins = twins_new(count);

	limit(rig, 128 * KIB);
	for (unsigned i = 0; i < count; i++) {
		twin_make(rig, &twins[i], "f%u~", i, O_EXCL);
		assert_int_equal(twin_append(rig, &twins[i], TEXT, 3), 0);
		assert_in_range(waiting(rig), 1, 128 * KIB + SLACK);
		twin_close(rig, &twins[i]);
	}
	assert_stored(rig, "f0~", twins[0].content.p); /* the oldest first */
	assert_not_stored(rig, "f999~");
	assert_int_equal(memstore_count(rig->ms, STORE_GET), 0);
	assert_int_equal(run(rig, op_sync), 0);
	assert_int_equal(memstore_count(rig->ms, STORE_SET), count);
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

/* Chunks went early, and nobody can read them any more. */
static void test_removed_local_files_leave_nothing(void **state)
{
	struct rig *rig = *state;
	struct twin *twins = twins_new(4);

	limit(rig, 16 * KIB);
	for (unsigned i = 0; i < 4; i++) {
		twin_make(rig, &twins[i], i < 2 ? "f%u~" : ".f%u.swp", i, O_EXCL);
		for (unsigned part = 0; part < (i == 0 ? 20 : 1); part++)
			assert_int_equal(twin_append(rig, &twins[i], BINARY, 2000), 0);
		twin_close(rig, &twins[i]);
	}
	assert_true(chunks_stored(rig) > 0);
	assert_int_equal(
		run(rig, op_rename, .parent = FS_ROOT_ID, .name = "f1~", .new_parent = FS_ROOT_ID, .new_name = "f0~"),
		0);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f0~"), 0);
	assert_int_equal(run(rig, op_rename, .parent = FS_ROOT_ID, .name = ".f2.swp", .new_parent = FS_ROOT_ID,
			     .new_name = ".f3.swp"),
			 0);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = ".f3.swp"), 0);
	assert_int_equal(waiting(rig), 0);
	assert_int_equal(fs_figures(rig->fs).swap_bytes, 0);
	until_no_chunks(rig);
	twins_free(twins, 4);
}

static void test_creating_is_bounded_too(void **state)
{
	struct rig *rig = *state;
	struct twin twin;

	limit(rig, 64 * KIB);
	for (unsigned i = 0; i < 500; i++) {
		twin_make(rig, &twin, "f%u~", i, O_EXCL);
		twin_close(rig, &twin);
		assert_in_range(waiting(rig), 1, 64 * KIB + SLACK);
	}
	assert_int_equal(run(rig, op_sync), 0);
	assert_int_equal(waiting(rig), 0);
}

static void test_swap_files_are_bounded_all_together(void **state)
{
	struct rig *rig = *state;
	unsigned count = 40;
	struct twin *twins = twins_new(count);
	uint64_t most = 64 * KIB * KIB;

	limit(rig, 16 * KIB * KIB);
	for (unsigned i = 0; i < count; i++) {
		twin_make(rig, &twins[i], "f%u.swp", i, O_EXCL);
		for (unsigned part = 0; part < 4; part++) {
			assert_int_equal(twin_append(rig, &twins[i], BINARY, 512 * KIB), 0);
			assert_in_range(fs_figures(rig->fs).swap_bytes, 1, most + KIB * KIB);
			assert_in_range(waiting(rig), 0, 20 * KIB * KIB);
		}
	}
	assert_true(chunks_stored(rig) > 0);
	for (unsigned i = 0; i < count; i++)
		twin_check_handle(rig, &twins[i]);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = twins[i].name), 0);
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	assert_int_equal(fs_figures(rig->fs).swap_bytes, 0);
	assert_int_equal(waiting(rig), 0);
	twins_free(twins, count);
}

/* --- appends, and files without a name --- */

static void test_appended_text_is_appended_before_its_time(void **state)
{
	struct rig *rig = *state;
	unsigned count = 30;
	struct twin *twins = twins_new(count);

	limit(rig, 64 * KIB);
	for (unsigned i = 0; i < count; i++)
		twin_make(rig, &twins[i], "f%u", i, O_APPEND);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(twin_append(rig, &twins[i], TEXT, 300), 0);
			assert_in_range(waiting(rig), 1, 64 * KIB + SLACK);
		}
	}
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

static void test_removed_files_stay_readable_and_leave_nothing(void **state)
{
	struct rig *rig = *state;
	unsigned count = 20;
	struct twin *twins = twins_new(count);

	limit(rig, 64 * KIB);
	for (unsigned i = 0; i < count; i++) {
		twin_make(rig, &twins[i], "f%u", i, i % 2 ? O_APPEND : 0);
		assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = twins[i].name), 0);
	}
	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(twin_append(rig, &twins[i], BINARY, 1500), 0);
			assert_in_range(waiting(rig), 1, 64 * KIB + SLACK);
		}
	}
	assert_true(chunks_stored(rig) > 0);
	for (unsigned i = 0; i < count; i++)
		twin_check_handle(rig, &twins[i]);
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	assert_int_equal(waiting(rig), 0);
	until_no_chunks(rig);
	assert_lists(rig, "", "");
	twins_free(twins, count);
}

/* --- what cannot be made less --- */

static void test_what_cannot_be_made_less_holds_nobody_up(void **state)
{
	struct rig *rig = *state;
	unsigned count = 100;
	struct twin *twins = twins_new(count);

	limit(rig, 16 * KIB);
	for (unsigned i = 0; i < count; i++)
		twin_make(rig, &twins[i], "f%u", i, 0);
	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(twin_append(rig, &twins[i], BINARY, 700), 0);
			assert_in_range(waiting(rig), 1, count * KIB + SLACK);
		}
	}
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

/* A swap file has room of its own. */
static void test_a_write_that_is_larger_than_the_limit(void **state)
{
	struct rig *rig = *state;
	struct twin twin, swap;

	limit(rig, 4 * KIB);
	twin_make(rig, &swap, "f%u.swp", 0, O_EXCL);
	assert_int_equal(twin_append(rig, &swap, BINARY, 100 * KIB), 0);
	assert_no_requests(rig);
	twin_make(rig, &twin, "g%u", 0, 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(twin_append(rig, &twin, BINARY, 100 * KIB), 0);
	twin_close(rig, &twin);
	twin_check(rig, &twin);
	twin_check_handle(rig, &swap);
	twin_close(rig, &swap);
	buf_free(&twin.content);
	buf_free(&swap.content);
}

/* --- stores that fail or wait --- */

static void fail_all(struct rig *rig, int err)
{
	memstore_add_fault(rig->ms, (struct memstore_fault){ .any = true, .err = err });
}

/* Writes until nothing more is taken. */
static void fill_up(struct rig *rig, struct twin *twins, unsigned count, enum kind kind, int err)
{
	unsigned refused = 0;

	for (unsigned i = 0; refused < 3; i++) {
		int r = twin_append(rig, &twins[i % count], kind, 800);

		assert_in_range(waiting(rig), 1, 64 * KIB + SLACK);
		if (r < 0)
			assert_int_equal(r, err);
		refused += r < 0;
	}
}

static void test_what_was_taken_outlasts_a_store_that_fails(void **state)
{
	struct rig *rig = *state;
	unsigned count = 20;
	struct twin *twins = twins_new(count);
	int errors[] = { -EIO, -ETIMEDOUT, -EACCES, -EIO };

	limit(rig, 64 * KIB);
	for (unsigned i = 0; i < count; i++)
		twin_make(rig, &twins[i], i % 4 ? "f%u" : "f%u~", i, O_EXCL);
	for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		fail_all(rig, errors[i]);
		fill_up(rig, twins, count, BINARY, errors[i]);
		memstore_clear_faults(rig->ms);
		for (unsigned k = 0; k < count; k++) {
			assert_int_equal(twin_append(rig, &twins[k], BINARY, 500), 0);
			twin_check_handle(rig, &twins[k]);
		}
	}
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	assert_int_equal(run(rig, op_sync), 0);
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

static void test_closed_files_outlast_it_too(void **state)
{
	struct rig *rig = *state;
	unsigned count = 0, most = 200;
	struct twin *twins = twins_new(most);
	int r = 0;

	limit(rig, 64 * KIB);
	fail_all(rig, -EIO);
	while (r == 0 && count < most) {
		twin_make(rig, &twins[count], "f%u~", count, O_EXCL);
		r = twin_append(rig, &twins[count], TEXT, 2000);
		twin_close(rig, &twins[count++]);
	}
	assert_int_equal(r, -EIO);
	memstore_clear_faults(rig->ms);
	for (; count < most; count++) {
		twin_make(rig, &twins[count], "f%u~", count, O_EXCL);
		assert_int_equal(twin_append(rig, &twins[count], TEXT, 2000), 0);
		twin_close(rig, &twins[count]);
		assert_in_range(waiting(rig), 1, 64 * KIB + SLACK);
	}
	assert_int_equal(run(rig, op_sync), 0);
	check_after_restart(rig, twins, most);
	twins_free(twins, most);
}

/* The text of an append that fails would be lost. */
static void test_appends_are_not_tried_while_the_store_answers_nothing(void **state)
{
	struct rig *rig = *state;
	unsigned count = 20;
	struct twin *twins = twins_new(count);

	limit(rig, 64 * KIB);
	for (unsigned i = 0; i < count; i++)
		twin_make(rig, &twins[i], "f%u", i, O_APPEND);
	fail_all(rig, -EIO);
	fill_up(rig, twins, count, TEXT, -EIO);
	assert_int_equal(memstore_count(rig->ms, STORE_PATCH), 0);
	memstore_clear_faults(rig->ms);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(twin_append(rig, &twins[i], TEXT, 900), 0);
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

static void test_one_file_that_fails_holds_nobody_up(void **state)
{
	struct rig *rig = *state;
	unsigned count = 30;
	struct twin *twins = twins_new(count + 1);

	limit(rig, 64 * KIB);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .key = "bad0~", .err = -EIO });
	twin_make(rig, &twins[count], "bad%u~", 0, O_EXCL);
	assert_int_equal(twin_append(rig, &twins[count], TEXT, 3000), 0);
	twin_close(rig, &twins[count]);
	for (unsigned i = 0; i < count; i++) {
		twin_make(rig, &twins[i], "f%u", i, 0);
		for (unsigned part = 0; part < 10; part++)
			assert_int_equal(twin_append(rig, &twins[i], BINARY, 1000), 0);
		assert_in_range(waiting(rig), 1, 64 * KIB + SLACK);
	}
	memstore_clear_faults(rig->ms);
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	assert_int_equal(run(rig, op_sync), 0);
	check_after_restart(rig, twins, count + 1);
	twins_free(twins, count + 1);
}

/* Faults that come and go: what a call has said holds. */
static void test_now_and_then_a_failure(void **state)
{
	struct rig *rig = *state;
	unsigned count = 16;
	struct twin *twins = twins_new(count);

	limit(rig, 48 * KIB);
	for (unsigned i = 0; i < count; i++)
		twin_make(rig, &twins[i], "f%u", i, O_EXCL);
	for (unsigned step = 0; step < 3000; step++) {
		memstore_clear_faults(rig->ms);
		memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET,
								     .pass = step % 7,
								     .times = step % 5 + 1,
								     .err = step % 3 ? -EIO : -ETIMEDOUT,
								     .after = step % 2 });
		if (twin_append(rig, &twins[step % count], BINARY, 100 + step % 900) < 0)
			twin_check_handle(rig, &twins[step % count]);
		assert_in_range(waiting(rig), 1, 48 * KIB + SLACK);
	}
	memstore_clear_faults(rig->ms);
	for (unsigned i = 0; i < count; i++)
		twin_close(rig, &twins[i]);
	check_after_restart(rig, twins, count);
	twins_free(twins, count);
}

/* --- who waits --- */

static void test_writers_wait_and_go_on_in_order(void **state)
{
	struct rig *rig = *state;
	struct twin *twins = twins_new(12);
	struct call *calls[12];

	limit(rig, 64 * KIB);
	for (unsigned i = 0; i < 12; i++)
		twin_make(rig, &twins[i], "f%u", i, 0);
	for (unsigned i = 0; waiting(rig) < 60 * KIB; i++)
		assert_int_equal(twin_append(rig, &twins[i % 12], BINARY, 2000), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .hold = MEMSTORE_HOLD_REQUEST });
	for (unsigned i = 0; i < 12; i++) {
		CLEANUP(buf_free) struct buf bytes = BUF_INIT;

		fill(&bytes, BINARY, i, 10 * KIB);
		calls[i] = begin(rig, op_write, .handle = twins[i].handle, .offset = twins[i].content.len,
				 .data = buf_str(&bytes));
		assert_int_equal(buf_add_str(&twins[i].content, buf_str(&bytes)), 0);
	}
	rig_until_held(rig, 1);
	for (unsigned i = 0; i < 12; i++)
		assert_false(calls[i]->done);
	assert_in_range(waiting(rig), 1, 64 * KIB);
	while (!calls[11]->done) {
		for (unsigned i = 1; i < 12; i++)
			assert_true(calls[i - 1]->done || !calls[i]->done);
		if (memstore_held(rig->ms))
			memstore_release_one(rig->ms);
		loop_once(rig->loop);
		assert_in_range(waiting(rig), 1, 64 * KIB + SLACK);
	}
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(end(calls[i]), 0);
	for (unsigned i = 0; i < 12; i++)
		twin_close(rig, &twins[i]);
	check_after_restart(rig, twins, 12);
	twins_free(twins, 12);
}

/* Who has waited for as long as requests wait gets an answer, and who has not goes on waiting. */
static void test_a_writer_waits_as_long_as_other_requests(void **state)
{
	struct rig *rig = *state;
	struct twin twin;
	struct call *early, *late;
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;

	rig->config.timeout_us = 30 * CLOCK_US_PER_S;
	limit(rig, 64 * KIB);
	twin_make(rig, &twin, "f%u", 0, 0);
	assert_int_equal(twin_append(rig, &twin, BINARY, 60 * KIB), 0);
	fill(&bytes, BINARY, 1, 20 * KIB);
	memstore_add_fault(
		rig->ms,
		(struct memstore_fault){
			.op = STORE_SET, .times = 40, .err = -EIO, .after = true, .hold = MEMSTORE_HOLD_REQUEST });
	early = begin(rig, op_write, .handle = twin.handle, .offset = twin.content.len, .data = buf_str(&bytes));
	rig_until_held(rig, 20);
	rig_pass(20 * CLOCK_US_PER_S);
	late = begin(rig, op_write, .handle = twin.handle, .offset = twin.content.len, .data = buf_str(&bytes));
	rig_pass(10 * CLOCK_US_PER_S);
	assert_false(early->done);
	memstore_release(rig->ms);
	assert_int_equal(end(early), -EIO);
	assert_false(late->done);
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(late), 0);
	assert_int_equal(buf_add_str(&twin.content, buf_str(&bytes)), 0);
	twin_close(rig, &twin);
	twin_check(rig, &twin);
	buf_free(&twin.content);
}

#define room_test(name) cmocka_unit_test_setup_teardown(name, attr_setup, rig_teardown)

/* --- at random --- */

#define CROWD 12

struct crowd {
	struct rig *rig;
	struct twin *twins;
	struct call *calls[CROWD];
	bool unlinked[CROWD];
	unsigned seed, names;
};

static unsigned below(struct crowd *crowd, unsigned limit)
{
	crowd->seed = crowd->seed * 1103515245 + 12345;
	return (crowd->seed >> 8) % limit;
}

/* .handle is closed, and what has the name, or is made, is open in its place. */
static co_fn int op_reopen(struct call *call)
{
	int r = op_flush(call);

	if (r == 0)
		r = op_release(call);
	return r < 0 ? r : op_create(call);
}

static struct call *begin_write(struct crowd *crowd, struct twin *twin)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	size_t offset = below(crowd, 3) ? twin->content.len : below(crowd, (unsigned)twin->content.len + 1);

	fill(&bytes, below(crowd, 2) ? TEXT : BINARY, crowd->seed, 1 + below(crowd, 3000));
	if (twin->content.len < offset + bytes.len)
		assert_int_equal(buf_resize(&twin->content, offset + bytes.len), 0);
	memcpy(twin->content.p + offset, bytes.p, bytes.len);
	return begin(crowd->rig, op_write, .handle = twin->handle, .offset = offset, .data = buf_str(&bytes));
}

static struct call *begin_rename(struct crowd *crowd, struct twin *twin)
{
	char before[sizeof(twin->name)];

	memcpy(before, twin->name, sizeof(before));
	snprintf(twin->name, sizeof(twin->name), below(crowd, 2) ? "f%u" : "f%u~", crowd->names++);
	return begin(crowd->rig, op_rename, .parent = FS_ROOT_ID, .name = before, .new_parent = FS_ROOT_ID,
		     .new_name = twin->name);
}

static struct call *begin_reopen(struct crowd *crowd, unsigned number)
{
	struct twin *twin = &crowd->twins[number];

	if (crowd->unlinked[number]) {
		buf_clear(&twin->content);
		snprintf(twin->name, sizeof(twin->name), below(crowd, 2) ? "f%u" : "f%u~", crowd->names++);
	}
	crowd->unlinked[number] = false;
	return begin(crowd->rig, op_reopen, .parent = FS_ROOT_ID, .name = twin->name, .mode = 0644,
		     .handle = twin->handle, .flags = O_CREAT | O_RDWR);
}

static struct call *begin_something(struct crowd *crowd, unsigned number)
{
	struct twin *twin = &crowd->twins[number];
	struct fs_attr_change change = { .set_size = true };

	switch (below(crowd, 16)) {
	case 0:
		return begin_reopen(crowd, number);
	case 1:
		return begin(crowd->rig, op_fsync, .handle = twin->handle);
	case 2:
		if (!crowd->unlinked[number])
			return begin_rename(crowd, twin);
		break;
	case 3:
		if (crowd->unlinked[number])
			break;
		crowd->unlinked[number] = true;
		return begin(crowd->rig, op_unlink, .parent = FS_ROOT_ID, .name = twin->name);
	case 4:
		change.size = below(crowd, 20000);
		assert_int_equal(buf_resize(&twin->content, change.size), 0);
		return begin(crowd->rig, op_setattr, .id = twin->id, .handle = twin->handle, .change = change);
	default:
		break;
	}
	return begin_write(crowd, twin);
}

static void end_one(struct crowd *crowd, unsigned number)
{
	bool opens = crowd->calls[number]->op == op_reopen;

	assert_int_equal(end(crowd->calls[number]), 0);
	crowd->calls[number] = NULL;
	if (!opens)
		return;
	crowd->twins[number].handle = crowd->rig->handle;
	crowd->twins[number].id = crowd->rig->entry.id;
}

static void nothing(struct loop_timer *timer)
{
	(void)timer;
}

static void serve(struct rig *rig)
{
	struct loop_timer timer = { 0 };

	loop_timer_set(rig->loop, &timer, 1, nothing);
	loop_once(rig->loop);
	loop_timer_cancel(&timer);
}

/* The store holds requests or replies, and lets them go one by one. */
static void hold_some(struct crowd *crowd)
{
	enum memstore_hold holds[] = { MEMSTORE_GO, MEMSTORE_HOLD_REQUEST, MEMSTORE_HOLD_REPLY };

	memstore_clear_faults(crowd->rig->ms);
	memstore_add_fault(crowd->rig->ms, (struct memstore_fault){ .any = true, .hold = holds[below(crowd, 3)] });
}

static void crowd_steps(struct crowd *crowd, unsigned steps)
{
	for (; steps > 0; steps--) {
		unsigned number = below(crowd, CROWD);

		if (steps % 64 == 0)
			hold_some(crowd);
		if (crowd->calls[number] && crowd->calls[number]->done)
			end_one(crowd, number);
		if (!crowd->calls[number])
			crowd->calls[number] = begin_something(crowd, number);
		if (memstore_held(crowd->rig->ms) && below(crowd, 2))
			memstore_release_one(crowd->rig->ms);
		serve(crowd->rig);
		assert_in_range(waiting(crowd->rig), 1, 48 * KIB + CROWD * SLACK);
	}
	memstore_clear_faults(crowd->rig->ms);
	memstore_release(crowd->rig->ms);
	for (unsigned i = 0; i < CROWD; i++)
		if (crowd->calls[i])
			end_one(crowd, i);
}

/* Each file by one program, all of them at once. */
static void test_a_crowd(void **state)
{
	struct crowd crowd = { .rig = *state, .twins = twins_new(CROWD) };
	struct rig *rig = *state;

	limit(rig, 48 * KIB);
	for (unsigned i = 0; i < CROWD; i++)
		twin_make(rig, &crowd.twins[i], "f%u", crowd.names++, O_EXCL);
	for (crowd.seed = 1; crowd.seed < 20; crowd.seed++) {
		unsigned seed = crowd.seed;

		crowd_steps(&crowd, 400);
		for (unsigned i = 0; i < CROWD; i++)
			twin_check_handle(rig, &crowd.twins[i]);
		crowd.seed = seed;
	}
	for (unsigned i = 0; i < CROWD; i++) {
		if (crowd.unlinked[i]) {
			crowd.calls[i] = begin_reopen(&crowd, i);
			end_one(&crowd, i);
		}
		twin_close(rig, &crowd.twins[i]);
	}
	assert_int_equal(run(rig, op_sync), 0);
	check_after_restart(rig, crowd.twins, CROWD);
	twins_free(crowd.twins, CROWD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		room_test(test_many_open_files_stay_within_the_limit),
		room_test(test_whole_chunks_go_first),
		room_test(test_what_may_be_plain_goes_as_chunks_and_is_plain_in_the_end),
		room_test(test_closed_local_files_go_before_their_time),
		room_test(test_removed_local_files_leave_nothing),
		room_test(test_creating_is_bounded_too),
		room_test(test_swap_files_are_bounded_all_together),
		room_test(test_appended_text_is_appended_before_its_time),
		room_test(test_removed_files_stay_readable_and_leave_nothing),
		room_test(test_what_cannot_be_made_less_holds_nobody_up),
		room_test(test_a_write_that_is_larger_than_the_limit),
		room_test(test_what_was_taken_outlasts_a_store_that_fails),
		room_test(test_closed_files_outlast_it_too),
		room_test(test_appends_are_not_tried_while_the_store_answers_nothing),
		room_test(test_one_file_that_fails_holds_nobody_up),
		room_test(test_now_and_then_a_failure),
		room_test(test_writers_wait_and_go_on_in_order),
		room_test(test_a_writer_waits_as_long_as_other_requests),
		room_test(test_a_crowd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
