/* Files larger than a value: which requests they cost, what the store holds then, and what of it is read back. */
#include "chunks_rig.h"

#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

static const char *chunk_of(struct rig *rig, const char *key, unsigned index)
{
	char name[100];
	struct content_part part = part_of(rig, key);

	snprintf(name, sizeof(name), ".hpkvfs/c/%s/%08x", part.id.hex, index);
	return memstore_value(rig->ms, name);
}

/* --- requests --- */

static void a_new_file_is_its_chunks_and_a_set(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(4 * CHUNK + 5);
	struct fs_handle *handle;

	prepare(rig);
	handle = open_file(rig, "f", O_WRONLY | O_CREAT);
	memstore_log_clear(rig->ms);
	assert_int_equal(write_bytes(rig, handle, 0, buf_str(&bytes)), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(memstore_entry(rig->ms, 5)->key.len, 1); /* the switch comes last */
	assert_requests(rig, 0, 6, 0, 0, 0);
	assert_int_equal(part_of(rig, "f").size, bytes.len);
	assert_int_equal(part_of(rig, "f").chunk_size, CHUNK);
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
	assert_requests(rig, 5, 0, 0, 0, 2);
	assert_file(rig, "f", buf_str(&bytes));
	assert_no_requests(rig);
}

static void a_replaced_file_has_a_new_id(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf first = noise(3 * CHUNK), second = noise(2 * CHUNK);
	struct content_id id;

	prepare(rig);
	put_file(rig, "f", buf_str(&first));
	id = part_of(rig, "f").id;
	memstore_log_clear(rig->ms);
	put_file(rig, "f", buf_str(&second));
	assert_requests(rig, 0, 3, 0, 0, 0);
	assert_string_not_equal(part_of(rig, "f").id.hex, id.hex);
	assert_file(rig, "f", buf_str(&second));
}

static void a_change_in_place_is_the_chunks_it_touches(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(100 * CHUNK);
	struct fs_handle *handle;

	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	rig_restart(rig);
	handle = open_file(rig, "f", O_WRONLY);
	memstore_log_clear(rig->ms);
	memset(bytes.p + 50 * CHUNK - 5, 'x', 10);
	assert_int_equal(write_bytes(rig, handle, 50 * CHUNK - 5, STR("xxxxxxxxxx")), 0);
	assert_requests(rig, 2, 0, 0, 0, 0);
	assert_int_equal(close_file(rig, handle), 0);
	/* the first change in place asks who else has the id, and that it knows the layout */
	assert_int_equal(memstore_count(rig->ms, STORE_SET), 2);
	memstore_log_clear(rig->ms);
	assert_file(rig, "f", buf_str(&bytes)); /* 98 and, ahead, none twice */
	assert_int_equal(memstore_count(rig->ms, STORE_GET), 98);
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
}

static void growth_is_the_last_chunk_and_the_new_ones(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(3 * CHUNK + 7);
	struct fs_handle *handle;
	struct content_id id;

	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	id = part_of(rig, "f").id;
	handle = open_file(rig, "f", O_WRONLY);
	memstore_log_clear(rig->ms);
	assert_int_equal(buf_resize(&bytes, 5 * CHUNK), 0);
	memset(bytes.p + 3 * CHUNK + 7, 'y', 2 * CHUNK - 7);
	assert_int_equal(write_bytes(rig, handle, 3 * CHUNK + 7, str_skip(buf_str(&bytes), 3 * CHUNK + 7)), 0);
	assert_int_equal(close_file(rig, handle), 0);
	/* one GET: the key still holds what was read */
	assert_requests(rig, 1, 3, 0, 0, 0);
	assert_string_equal(part_of(rig, "f").id.hex, id.hex);
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
}

static void a_plain_file_that_grows_becomes_chunks_and_plain_again(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	struct fs_handle *handle;

	prepare(rig);
	assert_int_equal(buf_resize(&text, RIG_MAX_VALUE + 1), 0);
	memset(text.p, 'a', text.len);
	put_file(rig, "f", str_of(text.p, RIG_MAX_VALUE - 1));
	assert_int_equal(strlen(memstore_value(rig->ms, "f")), RIG_MAX_VALUE - 1);
	memstore_log_clear(rig->ms);
	assert_int_equal(append_file(rig, "f", "a"), 0);
	assert_requests(rig, 0, 0, 1, 0, 0);
	assert_int_equal(strlen(memstore_value(rig->ms, "f")), RIG_MAX_VALUE);
	assert_int_equal(look(rig, "f"), 0); /* others may have appended before */
	memstore_log_clear(rig->ms);
	assert_int_equal(append_file(rig, "f", "a"), 0);
	assert_requests(rig, 2, 3, 0, 0, 0);
	assert_int_equal(part_of(rig, "f").size, RIG_MAX_VALUE + 1);
	assert_file(rig, "f", buf_str(&text));
	handle = open_file(rig, "f", O_WRONLY);
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .handle = handle,
			     .change = { .set_size = true, .size = RIG_MAX_VALUE }),
			 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_int_equal(strlen(memstore_value(rig->ms, "f")), RIG_MAX_VALUE);
}

/* --- sparse --- */

static void holes_are_not_stored(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	prepare(rig);
	handle = open_file(rig, "f", O_RDWR | O_CREAT);
	memstore_log_clear(rig->ms);
	assert_int_equal(write_at(rig, handle, 10 * CHUNK + 3, "x"), 0);
	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .handle = handle,
			     .change = { .set_size = true, .size = (uint64_t)1 << 40 }),
			 0);
	assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	assert_requests(rig, 0, 2, 0, 0, 0);
	assert_int_equal(part_of(rig, "f").size, (uint64_t)1 << 40);
	assert_true(str_starts(part_of(rig, "f").holes, STR("0+10,11+")));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(run(rig, op_lseek, .handle = handle, .flags = SEEK_DATA), 0);
		assert_int_equal(rig->offset, 10 * CHUNK);
		assert_int_equal(run(rig, op_lseek, .handle = handle, .flags = SEEK_HOLE, .offset = 10 * CHUNK + 1), 0);
		assert_int_equal(rig->offset, 11 * CHUNK);
		assert_int_equal(run(rig, op_lseek, .handle = handle, .flags = SEEK_HOLE, .offset = 12 * CHUNK), 0);
		assert_int_equal(rig->offset, 12 * CHUNK);
		assert_int_equal(run(rig, op_lseek, .handle = handle, .flags = SEEK_DATA, .offset = 12 * CHUNK),
				 -ENXIO);
		assert_int_equal(run(rig, op_lseek, .handle = handle, .flags = SEEK_HOLE, .offset = UINT64_MAX),
				 -ENXIO);
		/* the same while it is dirty */
		assert_int_equal(write_at(rig, handle, 10 * CHUNK + 3, "y"), 0);
	}
	assert_int_equal(close_file(rig, handle), 0);
}

/* Another mount may be about to set a stub that names it. */
static void a_punched_chunk_stays_and_is_not_read(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(6 * CHUNK);
	struct fs_handle *handle;

	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	handle = open_file(rig, "f", O_RDWR);
	assert_int_equal(run(rig, op_fallocate, .handle = handle, .flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			     .offset = CHUNK + 5, .size = 3 * CHUNK),
			 0);
	memset(bytes.p + CHUNK + 5, 0, 3 * CHUNK);
	assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	assert_str(part_of(rig, "f").holes, STR("2+2"));
	assert_int_equal(memstore_count(rig->ms, STORE_DELETE), 0);
	assert_non_null(chunk_of(rig, "f", 2));
	assert_file(rig, "f", buf_str(&bytes));
	/* and written again */
	memset(bytes.p + 2 * CHUNK + 1, 'z', 1);
	assert_int_equal(write_at(rig, handle, 2 * CHUNK + 1, "z"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_str(part_of(rig, "f").holes, STR("3+1"));
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
}

/* What is left of it goes under a new id, so that the room of the rest is free again. */
static void more_than_half_that_is_punched_goes_with_the_id(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(6 * CHUNK);
	struct fs_handle *handle;

	rig->config.grace_us = 1000;
	rig_restart(rig);
	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	handle = open_file(rig, "f", O_RDWR);
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_fallocate, .handle = handle, .flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			     .offset = CHUNK, .size = 4 * CHUNK),
			 0);
	memset(bytes.p + CHUNK, 0, 4 * CHUNK);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(memstore_count(rig->ms, STORE_SET), 3);
	assert_str(part_of(rig, "f").holes, STR("1+4"));
	while (memstore_size(rig->ms) > 2 + 2) /* the layout's version, the key, two chunks */
		loop_once(rig->loop);
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
}

static void resize_file(struct rig *rig, const char *path, uint64_t size)
{
	struct fs_handle *handle = open_file(rig, path, O_WRONLY);

	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, path), .handle = handle,
			     .change = { .set_size = true, .size = size }),
			 0);
	assert_int_equal(close_file(rig, handle), 0);
}

/* Nor by who makes the file longer and dies before each of his writes; and it goes with the id. */
static void what_was_cut_off_stays_and_is_not_read_again(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(9 * CHUNK);
	CLEANUP(buf_free) struct buf shorter = BUF_INIT;
	struct content_id id;

	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	id = part_of(rig, "f").id;
	memstore_log_clear(rig->ms);
	resize_file(rig, "f", 5 * CHUNK + 7);
	assert_requests(rig, 1, 1, 0, 0, 0);
	assert_non_null(chunk_of(rig, "f", 8));
	assert_int_equal(buf_set(&shorter, str_of(bytes.p, 5 * CHUNK + 7)), 0);
	for (unsigned writes = 0; writes <= 3; writes++) {
		struct fs_handle *handle;

		rig_restart(rig);
		handle = open_file(rig, "f", O_WRONLY);
		assert_int_equal(write_at(rig, handle, 7 * CHUNK + 1, "x"), 0);
		memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .pass = writes, .err = -EACCES });
		assert_int_equal(close_file(rig, handle), writes < 3 ? -EACCES : 0);
		memstore_clear_faults(rig->ms);
		rig_restart(rig);
		if (writes == 3) {
			assert_int_equal(buf_resize(&shorter, 7 * CHUNK + 1), 0);
			assert_int_equal(buf_add_str(&shorter, STR("x")), 0);
		}
		assert_file(rig, "f", buf_str(&shorter));
	}
	assert_string_equal(part_of(rig, "f").id.hex, id.hex);
	assert_str(part_of(rig, "f").holes, STR("6+1"));
	resize_file(rig, "f", 9 * CHUNK);
	assert_int_equal(buf_resize(&shorter, 9 * CHUNK), 0);
	rig->config.grace_us = 1000;
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&shorter));
	resize_file(rig, "f", 5 * CHUNK);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
	while (memstore_size(rig->ms) > 1) /* the layout's version */
		loop_once(rig->loop);
}

/* More ranges than the line has room for: the smallest are stored as zeros. */
static void a_stub_with_too_many_holes_fits(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct fs_handle *handle;

	prepare(rig);
	assert_int_equal(buf_resize(&bytes, 2100 * CHUNK), 0);
	handle = open_file(rig, "f", O_RDWR | O_CREAT);
	for (unsigned i = 0; i < 700; i++) {
		uint64_t at = (uint64_t)CHUNK * (3 * i + i % 2);

		assert_int_equal(write_at(rig, handle, at, "x"), 0);
		bytes.p[at] = 'x';
	}
	assert_int_equal(buf_resize(&bytes, CHUNK * (3 * 699 + 1) + 1), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_true(strlen(memstore_value(rig->ms, "f")) <= RIG_MAX_VALUE);
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
}

/* --- damage and other writers --- */

static void a_missing_chunk_is_an_error_of_its_file_alone(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(5 * CHUNK);
	char key[100];
	struct fs_handle *handle;

	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	put_file(rig, "g", buf_str(&bytes));
	snprintf(key, sizeof(key), ".hpkvfs/c/%s/00000002", part_of(rig, "f").id.hex);
	for (int i = 0; i < 3; i++) {
		if (i == 0)
			memstore_remove(rig->ms, key);
		else
			memstore_put(rig->ms, key, i == 1 ? "no base64!" : "AAAA" /* too short */);
		rig_restart(rig);
		handle = open_file(rig, "f", O_RDWR);
		assert_int_equal(run(rig, op_read, .handle = handle, .offset = 0, .size = 2 * CHUNK), 0);
		assert_int_equal(rig->out.len, 2 * CHUNK);
		assert_int_equal(run(rig, op_read, .handle = handle, .offset = 2 * CHUNK, .size = 1), -EIO);
		assert_int_equal(run(rig, op_read, .handle = handle, .offset = 0, .size = 5 * CHUNK), -EIO);
		assert_int_equal(write_at(rig, handle, 2 * CHUNK + 1, "x"), -EIO); /* never guessed */
		assert_int_equal(run(rig, op_read, .handle = handle, .offset = 3 * CHUNK, .size = CHUNK), 0);
		assert_str(buf_str(&rig->out), str_of(bytes.p + 3 * CHUNK, CHUNK));
		assert_int_equal(close_file(rig, handle), 0);
		assert_file(rig, "g", buf_str(&bytes));
	}
}

/* A chunk that was read while another mount had made the file shorter. */
static void a_chunk_that_was_too_short_is_read_again(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(3 * CHUNK);
	CLEANUP(buf_free) struct buf whole = BUF_INIT;
	struct fs_handle *handle;
	char key[100];

	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	snprintf(key, sizeof(key), ".hpkvfs/c/%s/00000001", part_of(rig, "f").id.hex);
	assert_int_equal(buf_set(&whole, str_c(memstore_value(rig->ms, key))), 0);
	memstore_put(rig->ms, key, "AAAA");
	rig_restart(rig);
	handle = open_file(rig, "f", O_RDONLY);
	assert_int_equal(run(rig, op_read, .handle = handle, .size = 3 * CHUNK), -EIO);
	memstore_put_str(rig->ms, str_c(key), buf_str(&whole));
	assert_int_equal(run(rig, op_read, .handle = handle, .size = 3 * CHUNK), 0);
	assert_str(buf_str(&rig->out), buf_str(&bytes));
	assert_int_equal(close_file(rig, handle), 0);
}

static void a_reader_goes_on_where_the_file_was_replaced(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf first = noise(3 * CHUNK), second = noise(3 * CHUNK);
	CLEANUP(buf_free) struct buf stub = BUF_INIT;
	struct fs_handle *handle;
	char key[100];

	prepare(rig);
	put_file(rig, "g", buf_str(&second));
	assert_int_equal(buf_set(&stub, str_c(memstore_value(rig->ms, "g"))), 0);
	put_file(rig, "f", buf_str(&first));
	rig_restart(rig);
	handle = open_file(rig, "f", O_RDONLY);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(key, sizeof(key), ".hpkvfs/c/%s/%08x", part_of(rig, "f").id.hex, i);
		memstore_remove(rig->ms, key);
	}
	memstore_put_str(rig->ms, STR("f"), buf_str(&stub));
	assert_int_equal(run(rig, op_read, .handle = handle, .size = 3 * CHUNK), 0);
	assert_str(buf_str(&rig->out), buf_str(&second));
	assert_int_equal(close_file(rig, handle), 0);
}

static void growth_over_a_foreign_change_takes_a_new_id(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(3 * CHUNK);
	struct fs_handle *handle;
	struct content_id id;

	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	id = part_of(rig, "f").id;
	handle = open_file(rig, "f", O_WRONLY);
	assert_int_equal(write_at(rig, handle, bytes.len, "more"), 0);
	memstore_put(rig->ms, "f", "foreign");
	assert_int_equal(close_file(rig, handle), 0);
	assert_string_not_equal(part_of(rig, "f").id.hex, id.hex);
	assert_int_equal(buf_add_str(&bytes, STR("more")), 0);
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
}

static void an_id_that_another_name_has_is_not_written_in_place(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(3 * CHUNK), old = BUF_INIT;
	struct fs_handle *handle;
	char key[100];

	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	assert_int_equal(buf_set(&old, buf_str(&bytes)), 0);
	memstore_put(rig->ms, "g", memstore_value(rig->ms, "f"));
	snprintf(key, sizeof(key), ".hpkvfs/i/%s", part_of(rig, "f").id.hex);
	memstore_put(rig->ms, key, "{\"v\":1,\"names\":{\"f\":true,\"g\":true}}");
	rig_restart(rig);
	handle = open_file(rig, "f", O_WRONLY);
	assert_int_equal(write_at(rig, handle, CHUNK, "new"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	memcpy(bytes.p + CHUNK, "new", 3);
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
	assert_file(rig, "g", buf_str(&old));
}

static void text_behind_a_stub_is_folded_by_a_change(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(3 * CHUNK + 1), value = BUF_INIT;
	struct fs_handle *handle;

	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	assert_int_equal(buf_set(&value, str_c(memstore_value(rig->ms, "f"))), 0);
	assert_int_equal(buf_add_str(&value, STR("appended")), 0);
	assert_int_equal(buf_add_str(&bytes, STR("appended")), 0);
	memstore_put_str(rig->ms, STR("f"), buf_str(&value));
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
	handle = open_file(rig, "f", O_WRONLY);
	assert_int_equal(write_at(rig, handle, 5, "in place"), 0);
	memcpy(bytes.p + 5, "in place", 8);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(part_of(rig, "f").size, bytes.len);
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
}

/* --- on the way --- */

static void a_hundred_readers_of_a_chunk_are_one_get(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(3 * CHUNK);
	struct call *calls[100];
	struct fs_handle *handle;

	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	rig_restart(rig);
	handle = open_file(rig, "f", O_RDONLY);
	memstore_log_clear(rig->ms);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_GET, .hold = MEMSTORE_HOLD_REPLY });
	for (unsigned i = 0; i < 100; i++)
		calls[i] = begin(rig, op_read, .handle = handle, .offset = CHUNK + i, .size = 10);
	rig_until_held(rig, 1);
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(end(calls[i]), 0);
		assert_str(buf_str(&rig->out), str_of(bytes.p + CHUNK + i, 10));
	}
	assert_requests(rig, 1, 0, 0, 0, 0);
	assert_int_equal(close_file(rig, handle), 0);
}

static void chunks_are_read_side_by_side(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(50 * CHUNK);
	struct fs_handle *handle;
	struct call *read;

	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	rig_restart(rig);
	handle = open_file(rig, "f", O_RDONLY);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_GET, .hold = MEMSTORE_HOLD_REPLY });
	read = begin(rig, op_read, .handle = handle, .offset = 1, .size = 45 * CHUNK);
	rig_until_held(rig, 32);
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(read), 0);
	assert_true(str_equal(buf_str(&rig->out), str_of(bytes.p + 1, 45 * CHUNK)));
	assert_int_equal(close_file(rig, handle), 0);
}

/* What is sent is sent again where it is not known to have arrived; a failure leaves the old content. */
static void chunks_whose_connection_was_lost_are_sent_again(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(5 * CHUNK);
	struct fs_handle *handle;

	prepare(rig);
	for (int after = 0; after < 2; after++) {
		memstore_add_fault(rig->ms, (struct memstore_fault){
						    .op = STORE_SET, .times = 2, .err = -ECONNRESET, .after = after });
		put_file(rig, "f", buf_str(&bytes));
		assert_file(rig, "f", buf_str(&bytes));
		memstore_clear_faults(rig->ms);
		memstore_add_fault(rig->ms, (struct memstore_fault){
						    .op = STORE_SET, .times = 1, .err = -ECONNRESET, .after = after });
		handle = open_file(rig, "f", O_WRONLY);
		bytes.p[7]++;
		assert_int_equal(write_bytes(rig, handle, 0, str_of(bytes.p, 10)), 0); /* in place */
		assert_int_equal(close_file(rig, handle), 0);
		memstore_clear_faults(rig->ms);
		rig_restart(rig);
		assert_file(rig, "f", buf_str(&bytes));
	}
}

static void a_commit_that_fails_leaves_the_old_content_and_nothing_else(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf first = noise(5 * CHUNK), second = noise(5 * CHUNK);
	struct fs_handle *handle;
	size_t keys;

	rig->config.grace_us = 1000;
	rig_restart(rig);
	prepare(rig);
	put_file(rig, "f", buf_str(&first));
	keys = memstore_size(rig->ms);
	for (unsigned pass = 0; pass < 6; pass++) {
		handle = open_file(rig, "f", O_WRONLY | O_TRUNC);
		assert_int_equal(write_bytes(rig, handle, 0, buf_str(&second)), 0);
		memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .pass = pass, .err = -EACCES });
		assert_int_equal(close_file(rig, handle), -EACCES);
		memstore_clear_faults(rig->ms);
		assert_file(rig, "f", buf_str(&first));
		while (memstore_size(rig->ms) > keys)
			loop_once(rig->loop);
	}
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&first));
}

/* The first content is on its way when a program empties the file and writes another. */
static void a_truncation_by_open_during_a_commit(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf first = noise(5 * CHUNK), second = noise(3 * CHUNK);
	struct fs_handle *handle, *other;
	struct call *fsync;

	prepare(rig);
	handle = open_file(rig, "f", O_RDWR | O_CREAT);
	assert_int_equal(write_bytes(rig, handle, 0, buf_str(&first)), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .hold = MEMSTORE_HOLD_REPLY });
	fsync = begin(rig, op_fsync, .handle = handle);
	rig_until_held(rig, 5);
	other = open_file(rig, "f", O_RDWR | O_TRUNC);
	assert_int_equal(write_bytes(rig, other, 0, buf_str(&second)), 0);
	assert_int_equal(read_handle(rig, handle), 0);
	assert_true(str_equal(buf_str(&rig->out), buf_str(&second)));
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(fsync), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(close_file(rig, other), 0);
	assert_file(rig, "f", buf_str(&second));
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&second));
}

/* --- early --- */

static void what_waits_is_bounded(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(256 * 1024);
	struct fs_handle *handle;
	uint64_t most = 0;

	prepare(rig);
	handle = open_file(rig, "f", O_RDWR | O_CREAT);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(write_bytes(rig, handle, i * bytes.len, buf_str(&bytes)), 0);
		if (fs_figures(rig->fs).dirty_bytes > most)
			most = fs_figures(rig->fs).dirty_bytes;
	}
	assert_in_range(most, 1, 5 << 20);
	assert_not_stored(rig, "f");
	/* what is out is read back, and changed */
	assert_int_equal(write_at(rig, handle, CHUNK + 1, "changed"), 0);
	assert_int_equal(run(rig, op_read, .handle = handle, .offset = CHUNK, .size = 20), 0);
	assert_true(memcmp(rig->out.p + 1, "changed", 7) == 0 && rig->out.p[0] == bytes.p[CHUNK]);
	assert_int_equal(close_file(rig, handle), 0);
	rig_restart(rig);
	handle = open_file(rig, "f", O_RDONLY);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(run(rig, op_read, .handle = handle, .offset = i * bytes.len, .size = bytes.len), 0);
		if (i == 0)
			memcpy(rig->out.p + CHUNK + 1, bytes.p + CHUNK + 1, 7);
		assert_true(str_equal(buf_str(&rig->out), buf_str(&bytes)));
	}
	assert_int_equal(run(rig, op_release, .handle = handle), 0);
}

/* --- unlinked --- */

static void an_unlinked_file_keeps_its_chunks_until_the_last_close(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(4 * CHUNK);
	struct fs_handle *handle;
	char key[100];

	rig->config.grace_us = 1000;
	rig_restart(rig);
	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	snprintf(key, sizeof(key), ".hpkvfs/c/%s/00000003", part_of(rig, "f").id.hex);
	rig_restart(rig);
	handle = open_file(rig, "f", O_RDWR);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
	rig_pass(1000000);
	assert_int_equal(run(rig, op_read, .handle = handle, .size = bytes.len), 0);
	assert_true(str_equal(buf_str(&rig->out), buf_str(&bytes)));
	assert_int_equal(write_at(rig, handle, 5, "x"), 0);
	assert_int_equal(run(rig, op_read, .handle = handle, .offset = 5, .size = 1), 0);
	assert_string_equal(rig->out.p, "x");
	assert_non_null(memstore_value(rig->ms, key));
	assert_int_equal(close_file(rig, handle), 0);
	while (memstore_value(rig->ms, key))
		loop_once(rig->loop);
}

static void a_removed_file_leaves_no_chunks(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(4 * CHUNK);

	rig->config.grace_us = 1000;
	rig_restart(rig);
	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	put_file(rig, "f", STR("small"));
	put_file(rig, "f", buf_str(&bytes));
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
	while (memstore_size(rig->ms) > 1) /* the layout's version */
		loop_once(rig->loop);
}

static void a_large_file_that_is_written_moves(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(4 * CHUNK);
	struct fs_handle *handle;

	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	rig_restart(rig);
	handle = open_file(rig, "f", O_RDWR);
	memset(bytes.p + CHUNK, 'n', 3);
	assert_int_equal(write_at(rig, handle, CHUNK, "nnn"), 0);
	assert_int_equal(
		run(rig, op_rename, .parent = FS_ROOT_ID, .name = "f", .new_parent = FS_ROOT_ID, .new_name = "g"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_not_stored(rig, "f");
	assert_file(rig, "g", buf_str(&bytes));
	rig_restart(rig);
	assert_file(rig, "g", buf_str(&bytes));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fs_test(a_new_file_is_its_chunks_and_a_set),
		fs_test(a_replaced_file_has_a_new_id),
		fs_test(a_change_in_place_is_the_chunks_it_touches),
		fs_test(growth_is_the_last_chunk_and_the_new_ones),
		fs_test(a_plain_file_that_grows_becomes_chunks_and_plain_again),
		fs_test(holes_are_not_stored),
		fs_test(a_punched_chunk_stays_and_is_not_read),
		fs_test(more_than_half_that_is_punched_goes_with_the_id),
		fs_test(what_was_cut_off_stays_and_is_not_read_again),
		fs_test(a_stub_with_too_many_holes_fits),
		fs_test(a_missing_chunk_is_an_error_of_its_file_alone),
		fs_test(a_chunk_that_was_too_short_is_read_again),
		fs_test(a_reader_goes_on_where_the_file_was_replaced),
		fs_test(growth_over_a_foreign_change_takes_a_new_id),
		fs_test(an_id_that_another_name_has_is_not_written_in_place),
		fs_test(text_behind_a_stub_is_folded_by_a_change),
		fs_test(a_hundred_readers_of_a_chunk_are_one_get),
		fs_test(chunks_are_read_side_by_side),
		fs_test(chunks_whose_connection_was_lost_are_sent_again),
		fs_test(a_commit_that_fails_leaves_the_old_content_and_nothing_else),
		fs_test(a_truncation_by_open_during_a_commit),
		fs_test(what_waits_is_bounded),
		fs_test(an_unlinked_file_keeps_its_chunks_until_the_last_close),
		fs_test(a_removed_file_leaves_no_chunks),
		fs_test(a_large_file_that_is_written_moves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
