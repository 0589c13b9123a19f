/* Room for what waits while the store fails, or holds requests up. */
#include "room_rig.h"

#include "base/clock.h"

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

		assert_in_range(room_taken(rig), 1, 64 * KIB + SLACK);
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

	room_limit(rig, 64 * KIB);
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

	room_limit(rig, 64 * KIB);
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
		assert_in_range(room_taken(rig), 1, 64 * KIB + SLACK);
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

	room_limit(rig, 64 * KIB);
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

	room_limit(rig, 64 * KIB);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .key = "bad0~", .err = -EIO });
	twin_make(rig, &twins[count], "bad%u~", 0, O_EXCL);
	assert_int_equal(twin_append(rig, &twins[count], TEXT, 3000), 0);
	twin_close(rig, &twins[count]);
	for (unsigned i = 0; i < count; i++) {
		twin_make(rig, &twins[i], "f%u", i, 0);
		for (unsigned part = 0; part < 10; part++)
			assert_int_equal(twin_append(rig, &twins[i], BINARY, 1000), 0);
		assert_in_range(room_taken(rig), 1, 64 * KIB + SLACK);
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

	room_limit(rig, 48 * KIB);
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
		assert_in_range(room_taken(rig), 1, 48 * KIB + SLACK);
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

	room_limit(rig, 64 * KIB);
	for (unsigned i = 0; i < 12; i++)
		twin_make(rig, &twins[i], "f%u", i, 0);
	for (unsigned i = 0; room_taken(rig) < 60 * KIB; i++)
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
	assert_in_range(room_taken(rig), 1, 64 * KIB);
	while (!calls[11]->done) {
		for (unsigned i = 1; i < 12; i++)
			assert_true(calls[i - 1]->done || !calls[i]->done);
		if (memstore_held(rig->ms))
			memstore_release_one(rig->ms);
		loop_once(rig->loop);
		assert_in_range(room_taken(rig), 1, 64 * KIB + SLACK);
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
	room_limit(rig, 64 * KIB);
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
		assert_in_range(room_taken(crowd->rig), 1, 48 * KIB + CROWD * SLACK);
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

	room_limit(rig, 48 * KIB);
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
