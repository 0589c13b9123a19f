#include "repeat_rig.h"

/* NULL: `f` is not there. */
static void put(struct rig *rig, const char *value)
{
	if (value)
		memstore_put(rig->ms, "f", value);
	else if (memstore_value(rig->ms, "f"))
		memstore_remove(rig->ms, "f");
}

void begin_with(struct rig *rig, const char *value, enum heard heard)
{
	put(rig, value);
	memstore_clear_faults(rig->ms);
	push_end(rig);
	rig->config.retry_us = LATE_US;
	use_with(rig, value ? "f " : "", LATE_US, 0);
	if (heard == TOLD || heard == FOUND_AGAIN)
		push_begin(rig);
}

void change_elsewhere(struct rig *rig, const char *value, enum heard heard)
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

struct fs_handle *write_and_fail(struct rig *rig, const char *text)
{
	struct fs_handle *handle = open_file(rig, "f", O_RDWR | O_CREAT);

	assert_int_equal(write_at(rig, handle, 0, text), 0);
	fail_sets(rig, -EIO, 1);
	assert_int_equal(run(rig, op_sync), -EIO);
	return handle;
}

struct fs_handle *write_and_wait(struct rig *rig, const char *text, bool arrives)
{
	struct memstore_fault fault = { .op = STORE_SET, .err = -ETIMEDOUT, .after = arrives, .times = 1 };
	struct fs_handle *handle = open_file(rig, "f", O_RDWR | O_CREAT);

	assert_int_equal(write_at(rig, handle, 0, text), 0);
	memstore_add_fault(rig->ms, fault);
	assert_int_equal(run(rig, op_sync), -ETIMEDOUT);
	return handle;
}

void assert_theirs(struct rig *rig, const char *value)
{
	if (value) {
		assert_stored(rig, "f", value);
		assert_reads(rig, "f", value);
	} else {
		assert_not_stored(rig, "f");
		assert_int_equal(look(rig, "f"), -ENOENT);
	}
}

void assert_lost(struct rig *rig, struct fs_handle *handle, const char *value)
{
	assert_int_equal(run(rig, op_sync), -EIO);
	assert_theirs(rig, value);
	assert_int_equal(run(rig, op_fsync, .handle = handle), -EIO);
	assert_int_equal(close_file(rig, handle), 0); /* it was told */
	assert_theirs(rig, value);
}

char *large_text(void)
{
	char *text = malloc(LARGE + 1);

	assert_non_null(text);
	memset(text, 'x', LARGE);
	text[LARGE] = '\0';
	return text;
}
