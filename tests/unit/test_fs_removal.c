/* Chunks that nothing names any more: when they go, and what keeps them. */
#include "journal_rig.h"

#include <inttypes.h>

#include "base/clock.h"
#include "fs/ids.h"
#include "fs/internal.h"
#include "fs/removal.h"
#include "layout_example.h"

#define LIST ".hpkvfs/i/" ID

/* Stubs of 10000 bytes in five chunks. */
#define ID_STUB "hpkvfs1 fe19008925f555ca " ID ":10000:2280:b64\n"
#define CHUNKS 5

/* How long it is watched that something does not happen. */
#define QUIET_US 100000

static struct content_id parse_id(const char *text)
{
	struct content_id id;
	int64_t created;

	assert_true(content_id_parse(str_c(text), &id, &created));
	return id;
}

static void put_chunk(struct rig *rig, uint32_t index)
{
	char key[128];

	snprintf(key, sizeof(key), ".hpkvfs/c/" ID "/%08" PRIx32, index);
	memstore_put(rig->ms, key, "MDEyMzQ1Njc4OWFiY2RlZg==");
}

static void put_chunks(struct rig *rig)
{
	for (uint32_t i = 0; i < CHUNKS; i++)
		put_chunk(rig, i);
}

static void remove_id(struct rig *rig, uint32_t count, const char *key)
{
	struct content_id id = parse_id(ID);

	removal_later(rig->fs, &id, count, str_c(key));
}

static void remove_other(struct rig *rig, const char *key)
{
	struct content_id id = parse_id(CHUNK_ID);

	removal_later(rig->fs, &id, CHUNKS, str_c(key));
}

static void until_size(struct rig *rig, size_t size)
{
	while (memstore_size(rig->ms) != size)
		rig_serve(rig, 1000);
	rig_serve(rig, 1000); /* the last answer */
}

static void chunks_go_after_the_grace(void **state)
{
	struct rig *rig = *state;

	rig->config.grace_us = FS_GRACE_US;
	rig_restart(rig);
	put_chunks(rig);
	remove_id(rig, CHUNKS, "f");
	rig_serve(rig, QUIET_US);
	assert_no_requests(rig);
	rig->config.grace_us = GRACE_US;
	rig_restart(rig); /* as a crash would: forgotten */
	rig_serve(rig, QUIET_US);
	assert_no_requests(rig);
	remove_id(rig, CHUNKS, "f");
	until_size(rig, 0);
	assert_requests(rig, 2, 0, 0, CHUNKS, 1);
}

/* Who made the file shorter has removed none. */
static void chunks_behind_the_end_go_with_them(void **state)
{
	struct rig *rig = *state;

	put_chunks(rig);
	for (uint32_t i = CHUNKS; i < CHUNKS + 9; i++)
		put_chunk(rig, i);
	put_chunk(rig, 3000000);
	remove_id(rig, CHUNKS, "f");
	until_size(rig, 0);
	assert_requests(rig, 2, 0, 0, CHUNKS + 9 + 2 * 4 - 1, 3);
	put_chunks(rig);
	memstore_put(rig->ms, ".hpkvfs/c/" ID "/000000G0", "whose key is no chunk's");
	remove_id(rig, CHUNKS, "f");
	until_size(rig, 1);
}

static void the_list_of_names_goes_with_them(void **state)
{
	struct rig *rig = *state;

	put_chunks(rig);
	memstore_put(rig->ms, LIST, "{\"v\":1,\"names\":{\"f\":true,\"d/%=\":true,\"gone\":true}}");
	memstore_put(rig->ms, "d", "plain now");
	remove_id(rig, CHUNKS, "f");
	until_size(rig, 1);
	assert_stored(rig, "d", "plain now");
}

static void what_a_key_holds_stays(void **state)
{
	struct rig *rig = *state;

	put_chunks(rig);
	memstore_put(rig->ms, "f", ID_STUB);
	remove_id(rig, CHUNKS, "f");
	rig_serve(rig, QUIET_US);
	assert_requests(rig, 1, 0, 0, 0, 0);
	assert_int_equal(memstore_size(rig->ms), CHUNKS + 1);
}

/* The open was on its way when the file was removed, or replaced: it is read for as long as it is open. */
static void what_is_read_here_stays(void **state)
{
	static char big[4 * RIG_MAX_VALUE];
	struct rig *rig = *state;

	memset(big, 'a', sizeof(big) - 1);
	for (int replaced = 0; replaced < 2; replaced++) {
		struct fs_handle *handle;
		uint64_t id;

		assert_int_equal(write_file(rig, "f", big), 0);
		assert_int_equal(write_file(rig, "g", "text"), 0);
		rig_restart(rig); /* nothing of it is in memory */
		assert_int_equal(look(rig, "g"), 0);
		id = id_of(rig, "f");
		if (replaced)
			assert_int_equal(rename_in_root(rig, "g", "f", 0), 0);
		else
			assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
		assert_int_equal(run(rig, op_open, .id = id, .flags = O_RDONLY), 0);
		handle = rig->handle;
		rig_serve(rig, QUIET_US);
		assert_int_equal(read_handle(rig, handle), 0);
		assert_string_equal(rig->out.p, big);
		assert_int_equal(close_file(rig, handle), 0);
		while (rig_chunk_count(rig))
			rig_serve(rig, 1000);
	}
}

/* The kernel then looks the name up again. */
static void what_can_be_read_no_more_is_not_opened(void **state)
{
	struct rig *rig = *state;
	struct call *unlink, *open;
	uint64_t id;

	memstore_put(rig->ms, "f", "text");
	memstore_put(rig->ms, "g", "text");
	id = id_of(rig, "f");
	value_drop(node_find(rig->fs, id));
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
	assert_int_equal(run(rig, op_open, .id = id, .flags = O_RDWR), -ESTALE);
	/* on its way to the store */
	id = id_of(rig, "g");
	value_drop(node_find(rig->fs, id));
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_DELETE, .hold = MEMSTORE_HOLD_REPLY });
	unlink = begin(rig, op_unlink, .parent = FS_ROOT_ID, .name = "g");
	rig_until_held(rig, 1);
	open = begin(rig, op_open, .id = id, .flags = O_RDWR);
	rig_serve(rig, 1000);
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	assert_int_equal(end(unlink), 0);
	assert_int_equal(end(open), -ESTALE);
}

static void what_another_name_holds_stays(void **state)
{
	struct rig *rig = *state;

	put_chunks(rig);
	memstore_put(rig->ms, LIST, "{\"v\":1,\"names\":{\"f\":true,\"d/g\":true}}");
	memstore_put(rig->ms, "d/g", ID_STUB "and appended");
	remove_id(rig, CHUNKS, "f");
	rig_serve(rig, QUIET_US);
	assert_int_equal(memstore_size(rig->ms), CHUNKS + 2);
	assert_int_equal(memstore_count(rig->ms, STORE_DELETE), 0);
}

/* A stub with a wrong checksum is a plain value; someone may mend it. */
static void what_a_damaged_stub_names_stays(void **state)
{
	struct rig *rig = *state;

	put_chunks(rig);
	memstore_put(rig->ms, "f", "hpkvfs1 0000000000000000 " ID ":10000:2280:b64\n");
	remove_id(rig, CHUNKS, "f");
	rig_serve(rig, QUIET_US);
	assert_int_equal(memstore_size(rig->ms), CHUNKS + 1);
}

static void a_list_that_cannot_be_read_keeps_the_chunks(void **state)
{
	static const char *const lists[] = { "x", "{}", "{\"v\":2,\"names\":{}}", "{\"v\":1,\"names\":[]}",
					     "{\"v\":1,\"names\":{\"a\":[[[[[[1]]]]]]}}" };
	struct rig *rig = *state;

	put_chunks(rig);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		memstore_put(rig->ms, LIST, lists[i]);
		remove_id(rig, CHUNKS, "f");
		rig_serve(rig, QUIET_US);
		assert_int_equal(memstore_size(rig->ms), CHUNKS + 1);
	}
}

static void holes_cost_next_to_nothing(void **state)
{
	struct rig *rig = *state;

	put_chunk(rig, 3);
	put_chunk(rig, 2000000);
	put_chunk(rig, 4000000000u - 1);
	remove_id(rig, 4000000000u, "f");
	until_size(rig, 0);
	assert_true(memstore_requests(rig->ms) < 200);
}

static void a_store_that_fails_is_asked_again(void **state)
{
	struct rig *rig = *state;

	put_chunks(rig);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_GET, .times = 1, .err = -ETIMEDOUT });
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_DELETE, .times = 3, .err = -EIO });
	remove_id(rig, CHUNKS, "f");
	until_size(rig, 0);
}

static int visit_count(void *arg, const struct content_id *id, uint32_t chunk_count)
{
	assert_string_equal(id->hex, ID);
	assert_int_equal(chunk_count, CHUNKS);
	++*(unsigned *)arg;
	return 0;
}

static void ids_of_a_value(void **state)
{
	struct content_id id = parse_id(ID), other = parse_id(CHUNK_ID);
	unsigned count = 0;

	(void)state;

	assert_int_equal(ids_in_value(STR("plain " ID), visit_count, &count), 0);
	assert_int_equal(ids_in_value(STR("hpkvfs1 380918b946a52664 =\n" ID), visit_count, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(ids_in_value(STR(ID_STUB), visit_count, &count), 0);
	assert_int_equal(count, 1);
	assert_true(id_is_in(STR(ID_STUB), &id));
	assert_false(id_is_in(STR(ID_STUB), &other));
	assert_false(id_is_in(STR("plain " ID), &id));
}

/* --- the end of a mount --- */

static void what_is_left_at_the_end_is_done_by_the_next_mount(void **state)
{
	struct rig *rig = *state;

	rig->config.grace_us = FS_GRACE_US;
	rig_restart(rig);
	put_chunks(rig);
	remove_id(rig, CHUNKS, "f");
	remove_other(rig, "held");
	memstore_put(rig->ms, "held", STUB);
	memstore_put(rig->ms, ".hpkvfs/c/" CHUNK_ID "/00000000", "MDEyMzQ1Njc4OWFiY2RlZg==");
	assert_int_equal(run(rig, op_end), 0);
	assert_int_equal(memstore_size(rig->ms), CHUNKS + 4); /* with the layout's version and the one key */
	rig->config.grace_us = GRACE_US;
	rig_restart(rig);
	assert_int_equal(run(rig, op_start), 0);
	until_size(rig, 3);
	assert_stored(rig, "held", STUB);
	assert_int_equal(run(rig, op_end), 0);
	rig_restart(rig);
	assert_int_equal(memstore_size(rig->ms), 3);
}

/* No key is longer than a value may be, and an unmount takes no longer than some keys. */
static void very_much_that_is_left_is_left_to_fsck(void **state)
{
	struct rig *rig = *state;
	char key[300];

	rig->config.grace_us = FS_GRACE_US;
	rig_restart(rig);
	memstore_limit_value(rig->ms, RIG_MAX_VALUE);
	memset(key, 'k', sizeof(key));
	for (int i = 0; i < 1000; i++) {
		struct content_id id;

		snprintf(key + 280, 20, "%d", i);
		assert_int_equal(content_id_new(i, &id), 0);
		removal_later(rig->fs, &id, CHUNKS, str_c(key));
	}
	assert_int_equal(run(rig, op_end), 0);
	assert_int_equal(memstore_count(rig->ms, STORE_SET), 16 + 1);
}

static void an_end_does_not_wait_for_much_that_is_to_be_removed(void **state)
{
	struct rig *rig = *state;

	for (uint32_t i = 0; i < 2000; i++)
		put_chunk(rig, i);
	remove_id(rig, 2000, "f");
	while (memstore_size(rig->ms) == 2000)
		rig_serve(rig, 1000);
	assert_int_equal(run(rig, op_end), 0);
	assert_true(memstore_size(rig->ms) > 1000);
	rig_restart(rig);
	assert_int_equal(run(rig, op_start), 0);
	until_size(rig, 1);
}

/* --- names of an id --- */

struct naming {
	struct layout layout;
	const char *a, *b;
	int r;
	bool done;
};

static void name_run(void *arg)
{
	struct naming *naming = arg;
	struct content_id id = parse_id(ID);

	naming->r = id_name(&naming->layout, &id, str_c(naming->a), str_c(naming->b));
	naming->done = true;
}

static int name(struct rig *rig, const char *a, const char *b)
{
	struct names_rules rules = { .delimiter = '/', .prefix = rig->config.prefix, .max_key = RIG_MAX_KEY };
	struct naming naming = {
		.layout = { .loop = rig->loop,
			    .store = memstore_store(rig->ms),
			    .rules = &rules,
			    .max_value = RIG_MAX_VALUE },
		.a = a,
		.b = b,
	};

	assert_int_equal(co_start(rig->loop, name_run, &naming), 0);
	while (!naming.done)
		loop_once(rig->loop);
	return naming.r;
}

static void names_are_as_the_manual_shows_them(void **state)
{
	CLEANUP(buf_free) struct buf example = layout_example("names");
	struct rig *rig = *state;

	example.p[example.len - 1] = '\0'; /* the newline */
	assert_int_equal(name(rig, "photos/old name.jpg", "photos/new name.jpg"), 0);
	assert_stored(rig, LIST, example.p);
}

static void names_are_added(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(name(rig, "a", "d//x"), 0);
	assert_stored(rig, LIST, "{\"v\":1,\"names\":{\"a\":true,\"d/%-/x\":true}}");
	assert_int_equal(name(rig, "b", ""), 0);
	assert_stored(rig, LIST, "{\"v\":1,\"names\":{\"a\":true,\"d/%-/x\":true,\"b\":true}}");
	assert_requests(rig, 0, 0, 2, 0, 0);
	put_chunks(rig);
	memstore_put(rig->ms, "d//x", ID_STUB);
	remove_id(rig, CHUNKS, "a");
	rig_serve(rig, QUIET_US);
	assert_int_equal(memstore_size(rig->ms), CHUNKS + 2);
}

static void a_list_too_long_loses_the_names_that_hold_nothing(void **state)
{
	struct rig *rig = *state;
	char key[64];

	memstore_limit_value(rig->ms, 300);
	memstore_put(rig->ms, "held", ID_STUB);
	assert_int_equal(name(rig, "held", "never there"), 0);
	for (int i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "a/name/that/takes/room/%d", i);
		assert_int_equal(name(rig, key, ""), 0);
	}
	assert_non_null(strstr(memstore_value(rig->ms, LIST), "\"held\":true"));
	assert_non_null(strstr(memstore_value(rig->ms, LIST), key));
	assert_null(strstr(memstore_value(rig->ms, LIST), "never there"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		journal_test(chunks_go_after_the_grace),
		journal_test(chunks_behind_the_end_go_with_them),
		journal_test(the_list_of_names_goes_with_them),
		journal_test(what_a_key_holds_stays),
		journal_test(what_is_read_here_stays),
		journal_test(what_can_be_read_no_more_is_not_opened),
		journal_test(what_another_name_holds_stays),
		journal_test(what_a_damaged_stub_names_stays),
		journal_test(a_list_that_cannot_be_read_keeps_the_chunks),
		journal_test(holes_cost_next_to_nothing),
		journal_test(a_store_that_fails_is_asked_again),
		journal_test(ids_of_a_value),
		journal_test(what_is_left_at_the_end_is_done_by_the_next_mount),
		journal_test(very_much_that_is_left_is_left_to_fsck),
		journal_test(an_end_does_not_wait_for_much_that_is_to_be_removed),
		journal_test(names_are_as_the_manual_shows_them),
		journal_test(names_are_added),
		journal_test(a_list_too_long_loses_the_names_that_hold_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
