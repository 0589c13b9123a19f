/* Changes in place of files larger than a value, where others change the same file. */
#include "chunks_rig.h"

#include "fs/chunks.h"

/* What is written into a hole while chunks are on their way: the stub, which stays for those, goes on calling it a hole. */
static void a_hole_that_is_written_during_a_commit_in_place(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(2 * CHUNK_WINDOW * CHUNK), changed = noise(3 * CHUNK_WINDOW * CHUNK);
	size_t hole = 2 * CHUNK_WINDOW * CHUNK;
	struct fs_handle *handle;
	struct call *fsync;

	prepare(rig);
	handle = open_file(rig, "f", O_RDWR | O_CREAT);
	assert_int_equal(write_bytes(rig, handle, 0, buf_str(&bytes)), 0);
	assert_int_equal(write_at(rig, handle, changed.len - 1, "x"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	memset(changed.p + hole, 0, changed.len - hole);
	changed.p[changed.len - 1] = 'x';
	handle = open_file(rig, "f", O_RDWR);
	assert_int_equal(write_bytes(rig, handle, 0, str_of(changed.p, hole)), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .hold = MEMSTORE_HOLD_REPLY });
	fsync = begin(rig, op_fsync, .handle = handle);
	rig_until_held(rig, CHUNK_WINDOW);
	memcpy(changed.p + hole + CHUNK, "hello", 5);
	assert_int_equal(write_at(rig, handle, hole + CHUNK, "hello"), 0);
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(fsync), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_file(rig, "f", buf_str(&changed));
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&changed));
}

/* Nothing tells of it; the store is asked once a ttl. */
static void a_change_in_place_of_a_file_replaced_elsewhere_takes_a_new_id(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = noise(3 * CHUNK), second = noise(3 * CHUNK);
	CLEANUP(buf_free) struct buf stub = BUF_INIT;
	struct content_id ids[2];
	struct fs_handle *handle;

	prepare(rig);
	put_file(rig, "f", buf_str(&bytes));
	put_file(rig, "g", buf_str(&second));
	ids[0] = part_of(rig, "f").id;
	ids[1] = part_of(rig, "g").id;
	assert_int_equal(buf_set(&stub, str_c(memstore_value(rig->ms, "g"))), 0);
	handle = open_file(rig, "f", O_RDWR);
	memstore_log_clear(rig->ms);
	for (unsigned i = 0; i < 5; i++) {
		bytes.p[CHUNK + i] = 'x';
		assert_int_equal(write_at(rig, handle, CHUNK + i, "x"), 0);
		if (i == 4)
			memstore_put_str(rig->ms, STR("f"), buf_str(&stub));
		assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
		assert_int_equal(memstore_count_key(rig->ms, STORE_GET, "f"), i == 2 || i == 4);
		memstore_log_clear(rig->ms);
		rig_pass(RIG_TTL_US / 10 * 6); /* that what is stored in place tells nothing of the key */
	}
	for (unsigned i = 0; i < 2; i++)
		assert_string_not_equal(part_of(rig, "f").id.hex, ids[i].hex);
	assert_int_equal(close_file(rig, handle), 0);
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fs_test(a_hole_that_is_written_during_a_commit_in_place),
		fs_test(a_change_in_place_of_a_file_replaced_elsewhere_takes_a_new_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
