/* Two files that change places: all that happens to others and to the mount in between. */
#include "journal_rig.h"

#define OPEN_RECORD "{\"v\":1,\"mode\":33188}" /* 0644 */

static void put_two(struct rig *rig)
{
	memstore_put(rig->ms, "a", "secret");
	memstore_put(rig->ms, ".hpkvfs/m/a", SECRET_RECORD);
	memstore_put(rig->ms, "b", "public");
	id_of(rig, "a");
	id_of(rig, "b");
}

static int exchange_two(struct rig *rig)
{
	return rename_in_root(rig, "a", "b", RENAME_EXCHANGE);
}

/* At no moment is either content under no name, nor the secret one where others may read it. */
static void both_are_somewhere(struct rig *rig)
{
	const char *a = memstore_value(rig->ms, "a"), *b = memstore_value(rig->ms, "b");
	bool kept = false;

	for (size_t i = 0; memstore_key(rig->ms, i).p; i++)
		kept |= str_starts(memstore_key(rig->ms, i), STR(".hpkvfs/j/"));
	assert_true(kept || strcmp(a, b) != 0);
	if (strcmp(a, "secret") == 0)
		assert_stored(rig, ".hpkvfs/m/a", SECRET_RECORD);
	if (strcmp(b, "secret") == 0)
		assert_stored(rig, ".hpkvfs/m/b", SECRET_RECORD);
}

static void exchanged_or_not(struct rig *rig, bool done)
{
	bool moved = strcmp(memstore_value(rig->ms, "a"), "public") == 0;

	assert_true(moved || !done);
	assert_stored(rig, moved ? "b" : "a", "secret");
	assert_stored(rig, moved ? "a" : "b", "public");
	assert_stored(rig, moved ? ".hpkvfs/m/b" : ".hpkvfs/m/a", SECRET_RECORD);
	assert_not_stored(rig, moved ? ".hpkvfs/m/a" : ".hpkvfs/m/b");
	assert_int_equal(memstore_size(rig->ms), 4);
}

static void an_exchange_that_dies_anywhere_is_finished(void **state)
{
	static const struct scene scene = { put_two, exchange_two, both_are_somewhere, exchanged_or_not };

	(void)state;
	die_everywhere(&scene);
}

static void two_files_change_places(void **state)
{
	struct rig *rig = *state;
	uint64_t a, b;

	put_two(rig);
	memstore_put(rig->ms, "b", STUB);
	memstore_put(rig->ms, ".hpkvfs/m/b", OPEN_RECORD);
	rig_expire(rig);
	a = id_of(rig, "a");
	b = id_of(rig, "b");
	assert_int_equal(exchange_two(rig), 0);
	assert_stored(rig, "a", STUB);
	assert_stored(rig, "b", "secret");
	assert_stored(rig, ".hpkvfs/m/a", OPEN_RECORD);
	assert_stored(rig, ".hpkvfs/m/b", SECRET_RECORD);
	assert_true(journal_is_empty(rig));
	assert_int_equal(id_of(rig, "b"), a);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
	assert_int_equal(id_of(rig, "a"), b);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0644);
	assert_reads(rig, "b", "secret");
	assert_non_null(strstr(memstore_value(rig->ms, ".hpkvfs/i/" CHUNK_ID), "\"a\":true,\"b\":true"));
	assert_non_null(strstr(memstore_value(rig->ms, ".hpkvfs/i/" CHUNK_ID), "/j/"));
}

static void what_others_write_before_an_exchange_is_exchanged(void **state)
{
	struct rig *rig = *state;
	struct foreign foreign = { rig, "b", "theirs" };

	put_two(rig);
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_PATCH, .times = 1, .arrived = write_foreign, .arg = &foreign });
	assert_int_equal(exchange_two(rig), 0);
	assert_stored(rig, "a", "theirs");
	assert_stored(rig, "b", "secret");
	assert_reads(rig, "a", "theirs");
	assert_true(journal_is_empty(rig));
}

static void what_is_written_while_it_is_dirty_is_exchanged(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	put_two(rig);
	handle = open_file(rig, "a", O_RDWR);
	assert_int_equal(write_at(rig, handle, 0, "SEC"), 0);
	assert_int_equal(exchange_two(rig), 0);
	assert_stored(rig, "b", "SECret");
	assert_int_equal(write_at(rig, handle, 0, "sec"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "b", "secret");
	assert_stored(rig, "a", "public");
}

static void only_files_that_are_there_are_exchanged(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "d/x", "1");
	put_two(rig);
	assert_int_equal(rename_in_root(rig, "a", "d", RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(rename_in_root(rig, "d", "a", RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(rename_in_root(rig, "a", "none", RENAME_EXCHANGE), -ENOENT);
	assert_int_equal(rename_in_root(rig, "a", "b", RENAME_EXCHANGE | RENAME_NOREPLACE), -EINVAL);
	assert_int_equal(rename_in_root(rig, "a", "b", RENAME_WHITEOUT), -EINVAL);
	assert_int_equal(rename_in_root(rig, "a", "a", RENAME_EXCHANGE), 0);
	assert_stored(rig, "a", "secret");
	assert_stored(rig, "b", "public");
}

/* Where a third value stands, it cannot be told which of the two it was written over. */
static void an_exchange_in_doubt_keeps_all_values(void **state)
{
	struct rig *rig = *state;
	unsigned kept;

	memstore_put(rig->ms, ENTRY,
		     "{\"v\":1,\"op\":\"exchange\"," OTHER_OWNER ",\"a\":\"a\",\"b\":\"b\",\"ready\":true}");
	memstore_put(rig->ms, ENTRY "/a", "one");
	memstore_put(rig->ms, ENTRY "/b", "two");
	memstore_put(rig->ms, "a", "third");
	memstore_put(rig->ms, "b", "two");
	assert_int_equal(finish_one(rig, &kept), 0);
	assert_int_equal(kept, 1);
	assert_stored(rig, "a", "third");
	assert_stored(rig, "b", "two");
	assert_stored(rig, ENTRY "/a", "one");
	assert_stored(rig, ENTRY "/b", "two");
	assert_non_null(strstr(memstore_value(rig->ms, ENTRY), "\"op\":\"kept\""));
	assert_int_equal(finish_one(rig, &kept), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_exchange_that_dies_anywhere_is_finished),
		journal_test(two_files_change_places),
		journal_test(what_others_write_before_an_exchange_is_exchanged),
		journal_test(what_is_written_while_it_is_dirty_is_exchanged),
		journal_test(only_files_that_are_there_are_exchanged),
		journal_test(an_exchange_in_doubt_keeps_all_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
