/* A mount that was silent for long: fsck may have taken the chunks that it had sent of new content for chunks of no file. */
#include "journal_rig.h"

#include "base/clock.h"

#define LONG_US (2 * 3600 * (uint64_t)CLOCK_US_PER_S)
#define PIECE (256u << 10)
#define PIECES 20
#define SIZE ((size_t)PIECE * PIECES)

static char pattern(size_t at)
{
	return (char)(at * 2654435761u >> 13);
}

#define SHORT_US 1000
#define MINUTE_US (60ull * CLOCK_US_PER_S)

static void setup_rig(struct rig *rig, uint64_t announce_us, uint64_t grace_us)
{
	rig->config.max_value = 128u << 10;
	rig->config.cache_size = 1; /* what was sent is not kept */
	rig->config.announce_us = announce_us;
	rig->config.grace_us = grace_us;
	rig_restart(rig);
	assert_int_equal(run(rig, op_start), 0);
	memstore_put(rig->ms, "f", "old");
}

/* A file that replaces the old content, so large that chunks of it are sent before the commit. */
static struct fs_handle *write_large(struct rig *rig)
{
	struct fs_handle *handle = open_file(rig, "f", O_RDWR | O_TRUNC);
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;

	assert_int_equal(buf_resize(&bytes, PIECE), 0);
	for (size_t i = 0; i < PIECES; i++) {
		for (size_t k = 0; k < PIECE; k++)
			bytes.p[k] = pattern(i * PIECE + k);
		assert_int_equal(run(rig, op_write, .handle = handle, .offset = i * PIECE, .data = buf_str(&bytes)), 0);
	}
	assert_stored(rig, "f", "old");
	assert_true(rig_chunk_count(rig) > 10);
	return handle;
}

#define CHUNKS ".hpkvfs/c/"
#define JOURNAL ".hpkvfs/j/"

/* The first key there that begins so; empty: none. */
static struct str first_key(const struct rig *rig, const char *prefix)
{
	size_t n = 0;

	while (memstore_key(rig->ms, n).p && !str_starts(memstore_key(rig->ms, n), str_c(prefix)))
		n++;
	return memstore_key(rig->ms, n);
}

static void remove_keys(struct rig *rig, const char *prefix)
{
	while (first_key(rig, prefix).p)
		memstore_remove(rig->ms, first_key(rig, prefix).p);
}

static struct content_id id_of_chunks(const struct rig *rig)
{
	struct content_id id;
	int64_t created;

	assert_true(content_id_parse(str_of(first_key(rig, CHUNKS).p + strlen(CHUNKS), CONTENT_ID_LEN), &id, &created));
	return id;
}

static bool names(const struct rig *rig, const struct content_id *id)
{
	return strstr(memstore_value(rig->ms, "f"), id->hex);
}

static void assert_holds(struct rig *rig, size_t size)
{
	struct fs_handle *handle;

	rig->config.cache_size = 2 * SIZE;
	rig_restart(rig);
	handle = open_file(rig, "f", O_RDONLY);
	assert_int_equal(run(rig, op_read, .handle = handle, .size = size + 1), 0);
	assert_int_equal(rig->out.len, size);
	for (size_t i = 0; i < size; i++)
		if (rig->out.p[i] != pattern(i))
			assert_int_equal(i, size);
	assert_int_equal(run(rig, op_release, .handle = handle), 0);
}

static void assert_whole(struct rig *rig)
{
	assert_holds(rig, SIZE);
}

static void assert_old_stays(struct rig *rig)
{
	assert_stored(rig, "f", "old");
	assert_reads(rig, "f", "old");
}

static void chunks_that_went_are_told(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	setup_rig(rig, LONG_US, SHORT_US);
	handle = write_large(rig);
	remove_keys(rig, CHUNKS);
	rig_pass_everywhere(LONG_US);
	assert_int_equal(close_file(rig, handle), -EIO);
	assert_old_stays(rig);
}

static void one_chunk_that_went_is_enough(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	setup_rig(rig, LONG_US, SHORT_US);
	handle = write_large(rig);
	memstore_remove(rig->ms, first_key(rig, CHUNKS).p);
	rig_pass_everywhere(LONG_US);
	assert_int_equal(run(rig, op_fsync, .handle = handle), -EIO);
	assert_old_stays(rig);
	assert_int_equal(close_file(rig, handle), 0); /* it was told */
	assert_old_stays(rig);
}

/* Nobody waits for that commit: it is not tried without end, and the next call tells. */
static void a_repetition_finds_that_chunks_went(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	setup_rig(rig, LONG_US, SHORT_US);
	handle = write_large(rig);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .key = "f", .times = 1, .err = -EIO });
	assert_int_equal(run(rig, op_sync), -EIO);
	remove_keys(rig, CHUNKS);
	rig_pass_everywhere(LONG_US);
	assert_int_equal(run(rig, op_sync), -EIO);
	assert_old_stays(rig);
	assert_int_equal(run(rig, op_fsync, .handle = handle), -EIO);
	assert_int_equal(run(rig, op_sync), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_old_stays(rig);
}

/* fsck may be at work on the old ones at this moment. */
static void chunks_that_stayed_go_under_a_new_id(void **state)
{
	struct rig *rig = *state;
	struct content_id id;
	struct fs_handle *handle;

	setup_rig(rig, LONG_US, SHORT_US);
	handle = write_large(rig);
	id = id_of_chunks(rig);
	rig_pass_everywhere(LONG_US);
	assert_int_equal(write_at(rig, handle, 5, "x"), 0);
	assert_int_equal(write_at(rig, handle, 5, (char[]){ pattern(5), '\0' }), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_false(names(rig, &id));
	while (str_starts(str_skip(first_key(rig, CHUNKS), strlen(CHUNKS)), str_c(id.hex)))
		rig_serve(rig, 1000); /* the old ones go */
	assert_whole(rig);
}

static void new_chunks_that_cannot_be_sent_go(void **state)
{
	struct rig *rig = *state;
	struct content_id id;
	struct fs_handle *handle;

	setup_rig(rig, LONG_US, SHORT_US);
	handle = write_large(rig);
	id = id_of_chunks(rig);
	rig_pass_everywhere(LONG_US);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .pass = 10, .times = 1, .err = -EIO });
	assert_int_equal(run(rig, op_sync), -EIO);
	assert_int_equal(run(rig, op_sync), 0);
	assert_false(names(rig, &id));
	assert_int_equal(close_file(rig, handle), 0);
	while (rig_chunk_count(rig) > (SIZE - 1) / (96u << 10) + 1)
		rig_serve(rig, 1000);
	assert_whole(rig);
}

/* Of the machine's own clock. */
static uint64_t wait_for_beat(struct rig *rig, unsigned beats)
{
	uint64_t begin = clock_now_us();

	while (memstore_count(rig->ms, STORE_PATCH) < beats)
		rig_serve(rig, 1000);
	return clock_now_us() - begin;
}

static struct fs_handle *write_and_announce(struct rig *rig)
{
	struct fs_handle *handle;

	setup_rig(rig, 20000, MINUTE_US);
	handle = write_large(rig);
	while (!journal_entry_value(rig))
		rig_serve(rig, 1000);
	wait_for_beat(rig, 1); /* it knows by now */
	return handle;
}

static void who_was_never_silent_asks_for_nothing(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = write_and_announce(rig);
	struct content_id id = id_of_chunks(rig);

	for (unsigned i = 0; i < 500; i++) {
		memstore_log_clear(rig->ms);
		rig_pass_everywhere(15ull * CLOCK_US_PER_S);
		assert_true(wait_for_beat(rig, 1) < 10ull * CLOCK_US_PER_S);
	}
	memstore_log_clear(rig->ms);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(memstore_count(rig->ms, STORE_GET), 0);
	assert_true(names(rig, &id));
	assert_whole(rig);
}

/* Nobody has taken it back. */
static void an_announcement_that_stands_is_enough(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = write_and_announce(rig);
	struct content_id id = id_of_chunks(rig);

	rig_pass_everywhere(LONG_US);
	assert_int_equal(close_file(rig, handle), 0);
	assert_true(names(rig, &id));
	assert_whole(rig);
}

/* Another mount found it dead, and a beat that came late has left a rest of it. */
static void an_announcement_that_went_is_not(void **state)
{
	struct rig *rig = *state;

	for (unsigned late = 0; late < 2; late++) {
		struct fs_handle *handle = write_and_announce(rig);
		struct content_id id = id_of_chunks(rig);
		const char *value = journal_entry_value(rig), *owner = strstr(value, "\"owner\":");
		CLEANUP(buf_free) struct buf rest = BUF_INIT;
		CLEANUP(buf_free) struct buf key = BUF_INIT;

		assert_int_equal(buf_printf(&rest, "{\"v\":1,%.*s,\"beat\":1}", 8 + 2 + JOURNAL_OWNER_LEN, owner), 0);
		assert_int_equal(buf_set(&key, first_key(rig, JOURNAL)), 0);
		remove_keys(rig, JOURNAL);
		if (late)
			memstore_put(rig->ms, key.p, rest.p);
		rig_pass_everywhere(LONG_US);
		assert_int_equal(close_file(rig, handle), 0);
		assert_false(names(rig, &id));
		assert_whole(rig);
		remove_keys(rig, JOURNAL);
		remove_keys(rig, CHUNKS);
	}
}

static void an_announcement_that_is_on_its_way_is_not(void **state)
{
	struct rig *rig = *state;
	struct content_id id;
	struct fs_handle *handle;

	setup_rig(rig, 1000000, MINUTE_US);
	handle = write_large(rig);
	id = id_of_chunks(rig);
	assert_null(journal_entry_value(rig));
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_SET, .times = 1, .hold = MEMSTORE_HOLD_REQUEST });
	rig_until_held(rig, 1);
	rig_pass_everywhere(LONG_US);
	assert_int_equal(close_file(rig, handle), 0);
	memstore_release(rig->ms);
	assert_false(names(rig, &id));
	assert_whole(rig);
}

/* Asleep, or without a store, in the middle of a commit. */
static void pass_long(void *arg)
{
	(void)arg;
	rig_pass_everywhere(LONG_US);
}

static void a_silence_in_the_middle_of_a_commit(void **state)
{
	struct rig *rig = *state;
	struct content_id id;
	struct fs_handle *handle;

	setup_rig(rig, LONG_US, SHORT_US);
	handle = write_large(rig);
	id = id_of_chunks(rig);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .times = 1, .arrived = pass_long });
	assert_int_equal(close_file(rig, handle), 0);
	assert_false(names(rig, &id));
	assert_whole(rig);
}

/* --- commits that take long --- */

#define LAYOUT "{\"v\":1,\"delimiter\":\"/\"}"

/* One that replaces the old content, of which nothing is sent before the commit. */
static struct fs_handle *write_less(struct rig *rig, size_t max_value, size_t size)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct fs_handle *handle;

	setup_rig(rig, 20000, MINUTE_US);
	remove_keys(rig, CHUNKS);
	memstore_put(rig->ms, ".hpkvfs/fs", LAYOUT);
	rig->config.max_value = max_value;
	rig_restart(rig);
	assert_int_equal(run(rig, op_start), 0);
	handle = open_file(rig, "f", O_RDWR | O_TRUNC);
	assert_int_equal(buf_resize(&bytes, size), 0);
	for (size_t i = 0; i < size; i++)
		bytes.p[i] = pattern(i);
	assert_int_equal(run(rig, op_write, .handle = handle, .data = buf_str(&bytes)), 0);
	assert_int_equal(rig_chunk_count(rig), 0);
	return handle;
}

/* Its chunks take longer than an id stays young. */
static void assert_is_announced(struct rig *rig, struct call *(*commit)(struct rig *rig, struct fs_handle *handle),
				size_t max_value, size_t size)
{
	struct fs_handle *handle = write_less(rig, max_value, size);
	struct content_id id;
	struct call *call;

	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_SET, .times = 1, .hold = MEMSTORE_HOLD_REQUEST });
	memstore_log_clear(rig->ms);
	call = commit(rig, handle);
	rig_until_held(rig, 1);
	for (unsigned i = 0; i < 2000 && !journal_entry_value(rig); i++)
		rig_serve(rig, 1000);
	assert_non_null(journal_entry_value(rig));
	wait_for_beat(rig, 1); /* it knows by now */
	id = id_of_chunks(rig);
	rig_pass_everywhere(LONG_US);
	memstore_release(rig->ms);
	assert_int_equal(end(call), 0);
	assert_true(names(rig, &id));
}

static struct call *begin_end(struct rig *rig, struct fs_handle *handle)
{
	(void)handle;
	return begin(rig, op_end);
}

static struct call *begin_fsync(struct rig *rig, struct fs_handle *handle)
{
	return begin(rig, op_fsync, .handle = handle);
}

/* Nothing was to be announced before. */
static void what_is_sent_at_the_end_of_a_mount_is_announced(void **state)
{
	struct rig *rig = *state;

	assert_is_announced(rig, begin_end, 128u << 10, PIECE);
	assert_true(journal_is_empty(rig));
	assert_holds(rig, PIECE);
}

/* Two do not fit. */
static void one_id_fits_a_small_value(void **state)
{
	struct rig *rig = *state;

	assert_is_announced(rig, begin_fsync, 140, 1000);
	assert_holds(rig, 1000);
}

#define MANY 1000

/* Each chunk takes that long: for ever, if that were not limited here. */
static void pass_long_each_time(void *arg)
{
	unsigned *times = arg;

	if (++*times < MANY)
		rig_pass_everywhere(LONG_US);
}

/* No announcement fits such a value. */
static void a_commit_that_is_too_slow_each_time_ends(void **state)
{
	struct rig *rig = *state;

	for (unsigned i = 0; i < 3; i++) {
		unsigned times = 0;
		struct fs_handle *handle = write_less(rig, 120, 1000);

		memstore_add_fault(rig->ms, (struct memstore_fault){
						    .op = STORE_SET, .arrived = pass_long_each_time, .arg = &times });
		if (i == 0)
			assert_int_equal(run(rig, op_fsync, .handle = handle), -ETIMEDOUT);
		else
			assert_int_equal(run(rig, i == 1 ? op_sync : op_end), -ETIMEDOUT);
		assert_in_range(times, 1, MANY - 1);
		assert_stored(rig, "f", "old");
		memstore_clear_faults(rig->ms);
		if (i == 1) { /* it is tried again, and the store may be faster then */
			assert_int_equal(run(rig, op_sync), 0);
			assert_int_equal(close_file(rig, handle), 0);
			assert_holds(rig, 1000);
		} else if (i == 0) {
			assert_int_equal(close_file(rig, handle), 0);
			assert_old_stays(rig);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		journal_test(chunks_that_went_are_told),
		journal_test(one_chunk_that_went_is_enough),
		journal_test(a_repetition_finds_that_chunks_went),
		journal_test(chunks_that_stayed_go_under_a_new_id),
		journal_test(new_chunks_that_cannot_be_sent_go),
		journal_test(who_was_never_silent_asks_for_nothing),
		journal_test(an_announcement_that_stands_is_enough),
		journal_test(an_announcement_that_went_is_not),
		journal_test(an_announcement_that_is_on_its_way_is_not),
		journal_test(a_silence_in_the_middle_of_a_commit),
		journal_test(what_is_sent_at_the_end_of_a_mount_is_announced),
		journal_test(one_id_fits_a_small_value),
		journal_test(a_commit_that_is_too_slow_each_time_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
