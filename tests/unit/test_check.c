/* fsck's examination: every kind of damage, what is told of it, what its repair changes, and that nothing else is touched. */
#include "check_bench.h"

#include "base/clock.h"
#include "fs/content.h"

/* --- nothing wrong --- */

static void a_whole_tree_is_clean(void **state)
{
	struct bench *bench = *state;

	put_tree(bench);
	assert_clean(bench);
	assert_int_equal(bench->count, 0);
	memstore_limit_pages(bench->rig->ms, 2, 0);
	assert_clean(bench);
	assert_int_equal(bench->count, 0);
}

static void an_empty_store_is_clean(void **state)
{
	struct bench *bench = *state;

	memstore_remove(bench->rig->ms, FS_KEY);
	assert_clean(bench);
	put(bench, "only", "plain");
	assert_clean(bench);
	assert_int_equal(bench->count, 0);
}

static void a_sparse_file_is_clean(void **state)
{
	struct bench *bench = *state;

	put(bench, "file", HOLES);
	for (uint32_t i = 3; i < 10; i++)
		put_chunk(bench, ID, i, CHUNK_SIZE);
	assert_clean(bench);
	assert_int_equal(bench->count, 0);
	put_chunk(bench, ID, 1, CHUNK_SIZE);
	put_chunk(bench, ID, 9999, CHUNK_SIZE);
	assert_clean(bench);
	assert_told(bench, CHECK_KINDS, "", "2 chunks lie in holes or behind the end");
}

static void with_a_prefix_only_that_region_is_looked_at(void **state)
{
	struct bench *bench = *state;

	bench->rules.prefix = STR("p/");
	put(bench, "p/.hpkvfs/fs", FS_VALUE);
	put(bench, "p/.hpkvfs/m/gone", RECORD);
	put(bench, ".hpkvfs/m/gone", RECORD);
	put(bench, ".hpkvfs/foreign", "x");
	assert_fault(bench, CHECK_RECORD, "p/.hpkvfs/m/gone", "not there");
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 1);
	assert_stored(bench->rig, ".hpkvfs/m/gone", RECORD);
	assert_not_stored(bench->rig, "p/.hpkvfs/m/gone");
	assert_clean(bench);
}

static void another_delimiter(void **state)
{
	struct bench *bench = *state;

	bench->rules.delimiter = ':';
	put(bench, FS_KEY, "{\"v\":1,\"delimiter\":\":\"}");
	put(bench, "a:b/c", "text");
	put(bench, ".hpkvfs/m/a:b%2Fc", RECORD);
	put(bench, ".hpkvfs/m/a:", "{\"v\":1,\"mode\":16877}");
	assert_clean(bench);
	memstore_remove(bench->rig->ms, "a:b/c");
	assert_fault(bench, CHECK_RECORD, ".hpkvfs/m/a:b%2Fc", "not there");
}

/* --- what is refused --- */

static void other_layouts_are_refused(void **state)
{
	struct bench *bench = *state;

	put(bench, FS_KEY, "{\"v\":2,\"delimiter\":\"/\"}");
	assert_int_equal(examine(bench), -EPROTONOSUPPORT);
	assert_non_null(strstr(buf_str(&bench->why).p, "version 2"));
	put(bench, FS_KEY, "{\"v\":1,\"delimiter\":\":\"}");
	assert_int_equal(examine(bench), -EPROTONOSUPPORT);
	assert_non_null(strstr(buf_str(&bench->why).p, "delimiter=:"));
	put(bench, FS_KEY, "a foreign text");
	assert_int_equal(examine(bench), -EPROTONOSUPPORT);
	assert_non_null(strstr(buf_str(&bench->why).p, "not one that hpkvfs wrote"));
}

static void errors_of_the_store_end_it(void **state)
{
	struct bench *bench = *state;

	put_tree(bench);
	for (unsigned pass = 0; pass < 3; pass++) {
		memstore_add_fault(bench->rig->ms, (struct memstore_fault){ .any = true, .pass = pass, .err = -EIO });
		assert_int_equal(examine(bench), -EIO);
		memstore_clear_faults(bench->rig->ms);
	}
}

static void it_ends_when_it_is_told_to(void **state)
{
	struct bench *bench = *state;

	put_tree(bench);
	bench->stop = true;
	assert_int_equal(examine(bench), -ECANCELED);
}

/* --- lost content --- */

static void missing_chunks_are_told_with_their_bytes(void **state)
{
	struct bench *bench = *state;

	put_tree(bench);
	remove_chunk(bench, 1);
	remove_chunk(bench, 2);
	remove_chunk(bench, 4);
	assert_fault(bench, CHECK_LOST, "file",
		     "5440 of 10000 bytes are lost: 2280-6839 (missing), 9120-9999 (missing)");
	assert_int_equal(repair(bench, CHECK_ASKED), 0);
	assert_int_equal(writes(bench), 0);
	assert_fault(bench, CHECK_LOST, "file", "2280-6839");
}

static void damaged_chunks_are_told_with_their_bytes(void **state)
{
	struct bench *bench = *state;

	put_file(bench, "file");
	put(bench, ".hpkvfs/c/" ID "/00000001", "no base64!");
	put_chunk(bench, ID, 3, CHUNK_SIZE - 1);
	assert_fault(bench, CHECK_LOST, "file",
		     "4560 of 10000 bytes are lost: 2280-4559 (not base64), 6840-9119 (too short)");
}

static void a_short_last_chunk_is_told(void **state)
{
	struct bench *bench = *state;

	put_file(bench, "file");
	put_chunk(bench, ID, 4, 10);
	assert_fault(bench, CHECK_LOST, "file", "880 of 10000 bytes are lost: 9120-9999 (too short)");
	put_chunk(bench, ID, 4, CHUNK_SIZE); /* what is behind the end is not read */
	assert_clean(bench);
}

static void a_stub_without_any_chunk(void **state)
{
	struct bench *bench = *state;

	put(bench, "file", STUB);
	assert_fault(bench, CHECK_LOST, "file", "10000 of 10000 bytes are lost: 0-9999 (missing)");
}

static void a_missing_chunk_between_holes(void **state)
{
	struct bench *bench = *state;

	put(bench, "file", HOLES);
	for (uint32_t i = 3; i < 9; i++)
		put_chunk(bench, ID, i, CHUNK_SIZE);
	assert_fault(bench, CHECK_LOST, "file", "2280 of 1000002 bytes are lost: 20520-22799 (missing)");
}

static void the_file_is_replaced(void *arg)
{
	put(arg, "file", "plain now");
}

static void the_chunks_come(void *arg)
{
	put_chunks(arg, ID);
}

/* So many times the key is asked for before `arrived` is called. */
static void when_asked(struct bench *bench, const char *key, unsigned pass, void (*arrived)(void *arg))
{
	memstore_clear_faults(bench->rig->ms);
	memstore_add_fault(bench->rig->ms, (struct memstore_fault){
						   .op = STORE_GET,
						   .key = key,
						   .pass = pass,
						   .times = 1,
						   .arrived = arrived,
						   .arg = bench,
					   });
}

static void what_changes_meanwhile_is_looked_at_again(void **state)
{
	struct bench *bench = *state;

	for (unsigned pass = 1; pass <= 2; pass++) {
		put(bench, "file", STUB);
		when_asked(bench, "file", pass, the_file_is_replaced);
		assert_clean(bench);
		assert_stored(bench->rig, "file", "plain now");
	}
	put(bench, "file", STUB);
	when_asked(bench, "file", 1, the_chunks_come);
	assert_clean(bench);
}

static void what_only_begins_like_a_stub(void **state)
{
	struct bench *bench = *state;

	put(bench, "text", "hpkvfs1 is the word that stubs begin with\n");
	assert_clean(bench);
	assert_told(bench, CHECK_KINDS, "text", "begins like a stub and is none");
}

/* Its checksum is wrong. Its chunks may be all that is left of it. */
static void a_damaged_stub_keeps_its_chunks(void **state)
{
	struct bench *bench = *state;

	put_chunks(bench, OLD);
	put(bench, "file", "hpkvfs1 fe19008925f555ca " OLD ":10000:2280:b64\n");
	assert_fault(bench, CHECK_STUB, "file", "damaged stub");
	assert_int_equal(repair(bench, CHECK_ASKED), 0);
	assert_int_equal(writes(bench), 0);
}

/* --- records --- */

static void records_of_vanished_files_go(void **state)
{
	struct bench *bench = *state;
	size_t size;

	put_tree(bench);
	size = memstore_size(bench->rig->ms);
	put(bench, ".hpkvfs/m/gone", RECORD);
	put(bench, ".hpkvfs/m/deep/gone", "{\"v\":1,\"uid\":7}");
	assert_int_equal(examine(bench), 0);
	assert_told(bench, CHECK_RECORD, ".hpkvfs/m/gone", "not there");
	assert_told(bench, CHECK_RECORD, ".hpkvfs/m/deep/gone", "not there");
	assert_int_equal(faults(bench), 2);
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 2);
	assert_int_equal(writes(bench), 2);
	assert_int_equal(check_count(bench->check, CHECK_RECORD), 0);
	assert_not_stored(bench->rig, ".hpkvfs/m/gone");
	assert_int_equal(memstore_size(bench->rig->ms), size);
	assert_clean(bench);
}

/* A new file's record comes before its value. */
static void a_record_whose_file_comes_stays(void **state)
{
	struct bench *bench = *state;

	put(bench, ".hpkvfs/m/new", RECORD);
	assert_fault(bench, CHECK_RECORD, ".hpkvfs/m/new", "not there");
	put(bench, "new", "text");
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 0);
	assert_int_equal(writes(bench), 0);
	assert_int_equal(check_count(bench->check, CHECK_RECORD), 0);
}

static void the_file_comes(void *arg)
{
	put(arg, "new", "text");
}

static void a_record_whose_file_comes_at_the_last_moment_is_put_back(void **state)
{
	struct bench *bench = *state;

	put(bench, ".hpkvfs/m/new", RECORD);
	assert_fault(bench, CHECK_RECORD, ".hpkvfs/m/new", "not there");
	memstore_add_fault(bench->rig->ms, (struct memstore_fault){ .op = STORE_DELETE,
								    .key = ".hpkvfs/m/new",
								    .times = 1,
								    .arrived = the_file_comes,
								    .arg = bench });
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 0);
	assert_stored(bench->rig, ".hpkvfs/m/new", RECORD);
	assert_clean(bench);
}

/* Whoever makes a file has set it by then. */
static void records_go_after_the_grace(void **state)
{
	struct bench *bench = *state;
	bool kinds[CHECK_KINDS] = { [CHECK_RECORD] = true };

	bench->config.grace_us = 3600ull * CLOCK_US_PER_S;
	put(bench, ".hpkvfs/m/gone", RECORD);
	assert_int_equal(examine(bench), 0);
	assert_in_range(check_delay_us(bench->check, kinds), 3000ull * CLOCK_US_PER_S, bench->config.grace_us);
	kinds[CHECK_RECORD] = false;
	assert_int_equal(check_delay_us(bench->check, kinds), 0);
}

static void damaged_records_go_only_if_it_is_wanted(void **state)
{
	struct bench *bench = *state;

	put(bench, "file", "text");
	put(bench, ".hpkvfs/m/file", "no JSON");
	put(bench, ".hpkvfs/m/dir/", "{\"v\":1,\"mode\":\"a text\"}");
	assert_int_equal(examine(bench), 0);
	assert_told(bench, CHECK_BAD_RECORD, ".hpkvfs/m/file", "no record");
	assert_told(bench, CHECK_BAD_RECORD, ".hpkvfs/m/dir/", "no record");
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 0);
	assert_int_equal(writes(bench), 0);
	assert_int_equal(repair(bench, CHECK_WANTED), 2);
	assert_not_stored(bench->rig, ".hpkvfs/m/file");
	assert_stored(bench->rig, ".hpkvfs/m/dir/", "{\"v\":1}"); /* the directory is still there */
	assert_clean(bench);
}

/* --- chunks of no file --- */

static void chunks_of_no_file_go(void **state)
{
	struct bench *bench = *state;
	size_t size;

	put_tree(bench);
	size = memstore_size(bench->rig->ms);
	put_chunks(bench, OLD);
	put_chunk(bench, OLDER, 7, 3);
	put(bench, ".hpkvfs/i/" OLDER, "{\"v\":1,\"names\":{\"gone\":true,\"plain\":true}}");
	assert_int_equal(examine(bench), 0);
	assert_told(bench, CHECK_ORPHAN, ".hpkvfs/c/" OLD, "5 chunks of no file");
	assert_told(bench, CHECK_ORPHAN, ".hpkvfs/c/" OLDER, "1 chunk of no file");
	assert_int_equal(faults(bench), 2);
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 2);
	assert_int_equal(memstore_size(bench->rig->ms), size);
	assert_clean(bench);
}

static void a_list_of_names_alone_goes(void **state)
{
	struct bench *bench = *state;

	put(bench, ".hpkvfs/i/" OLD, "{\"v\":1,\"names\":{\"gone\":true}}");
	assert_fault(bench, CHECK_ORPHAN, ".hpkvfs/i/" OLD, "no file holds");
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 1);
	assert_int_equal(memstore_size(bench->rig->ms), 1);
	assert_clean(bench);
}

static void young_chunks_stay(void **state)
{
	struct bench *bench = *state;
	struct content_id id;
	char key[TEXT_MAX];

	assert_int_equal(content_id_new(clock_real_ns() / 1000000 - 3500 * 1000, &id), 0);
	put_chunk(bench, id.hex, 0, 3);
	assert_clean(bench);
	assert_told(bench, CHECK_KINDS, "", "1 ids of chunks without a file are too young");
	assert_int_equal(content_id_new(clock_real_ns() / 1000000 - 3700 * 1000, &id), 0);
	put_chunk(bench, id.hex, 0, 3);
	snprintf(key, sizeof(key), ".hpkvfs/c/%s", id.hex);
	assert_fault(bench, CHECK_ORPHAN, key, "1 chunk of no file");
}

static void announced_ids_stay(void **state)
{
	struct bench *bench = *state;

	put_chunks(bench, OLD);
	put(bench, ".hpkvfs/j/" ID, "{\"v\":1,\"op\":\"ids\"," OWNER ",\"ids\":[\"" OLD "\"]}");
	begin_examination(bench);
	while (memstore_count(bench->rig->ms, STORE_RANGE) < 3)
		loop_once(bench->rig->loop);
	put(bench, ".hpkvfs/j/" ID, "{\"v\":1,\"op\":\"ids\"," OWNER "2,\"ids\":[\"" OLD "\"]}");
	assert_int_equal(finish(bench), 0);
	assert_int_equal(faults(bench), 0);
	assert_told(bench, CHECK_KINDS, ".hpkvfs/j/" ID, "under way");
}

static void what_is_announced_meanwhile_stays(void **state)
{
	struct bench *bench = *state;

	put_chunks(bench, OLD);
	assert_fault(bench, CHECK_ORPHAN, ".hpkvfs/c/" OLD, "5 chunks");
	put(bench, ".hpkvfs/j/" ID, "{\"v\":1,\"op\":\"ids\"," OWNER ",\"ids\":[\"" OLD "\"]}");
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 0);
	assert_int_equal(writes(bench), 0);
}

static void what_a_file_holds_meanwhile_stays(void **state)
{
	struct bench *bench = *state;

	put_chunks(bench, OLD);
	assert_fault(bench, CHECK_ORPHAN, ".hpkvfs/c/" OLD, "5 chunks");
	put(bench, "file", "hpkvfs1 fe19008925f555ca " OLD ":10000:2280:b64\n");
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 0);
	assert_int_equal(writes(bench), 0);
}

/* A rename that went past every listing has left its names. */
static void what_a_listed_name_holds_at_the_last_moment_stays(void *arg)
{
	put(arg, "renamed", "hpkvfs1 fe19008925f555ca " OLD ":10000:2280:b64\n");
}

static void what_a_listed_name_holds_stays(void **state)
{
	struct bench *bench = *state;

	put_chunks(bench, OLD);
	put(bench, ".hpkvfs/i/" OLD, "{\"v\":1,\"names\":{\"renamed\":true}}");
	assert_fault(bench, CHECK_ORPHAN, ".hpkvfs/c/" OLD, "5 chunks");
	memstore_add_fault(bench->rig->ms,
			   (struct memstore_fault){ .op = STORE_GET,
						    .key = "renamed",
						    .times = 1,
						    .arrived = what_a_listed_name_holds_at_the_last_moment_stays,
						    .arg = bench });
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 0);
	assert_int_equal(writes(bench), 0);
}

#define ANNOUNCED(id) "{\"v\":1,\"op\":\"ids\"," OWNER ",\"ids\":[\"" id "\"]}"

/* The last listing of files has gone past its key. */
static void the_file_comes_instead_of_its_announcement(void *arg)
{
	struct bench *bench = arg;

	if (!memstore_count_key(bench->rig->ms, STORE_RANGE, "\x01") || memstore_value(bench->rig->ms, "file"))
		return;
	put(bench, "file", "hpkvfs1 fe19008925f555ca " OLD ":10000:2280:b64\n");
	memstore_remove(bench->rig->ms, ".hpkvfs/j/" ID);
}

static void what_is_announced_until_the_file_is_there_stays(void **state)
{
	struct bench *bench = *state;

	put_chunks(bench, OLD);
	assert_fault(bench, CHECK_ORPHAN, ".hpkvfs/c/" OLD, "5 chunks");
	put(bench, ".hpkvfs/j/" ID, ANNOUNCED(OLD));
	memstore_add_fault(bench->rig->ms, (struct memstore_fault){
						   .op = STORE_RANGE,
						   .key = ".hpkvfs/j/",
						   .arrived = the_file_comes_instead_of_its_announcement,
						   .arg = bench,
					   });
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 0);
	assert_non_null(memstore_value(bench->rig->ms, "file"));
	assert_int_equal(writes(bench), 0);
}

/* More than are removed side by side. */
#define MANY 40

static void the_last_is_announced_a_minute_later(void *arg)
{
	struct bench *bench = arg;

	rig_pass(60 * CLOCK_US_PER_S);
	put(bench, ".hpkvfs/j/" ID,
	    ANNOUNCED("00000000027"
		      "0123456789abcdef0123456789abcdef"));
}

static void what_is_announced_while_others_go_stays(void **state)
{
	struct bench *bench = *state;
	char id[CONTENT_ID_LEN + 1];

	for (unsigned i = 0; i < MANY; i++) {
		snprintf(id, sizeof(id), "%011x0123456789abcdef0123456789abcdef", i);
		put_chunk(bench, id, 0, 3);
	}
	assert_int_equal(examine(bench), 0);
	memstore_add_fault(bench->rig->ms, (struct memstore_fault){
						   .op = STORE_DELETE,
						   .times = 1,
						   .arrived = the_last_is_announced_a_minute_later,
						   .arg = bench,
					   });
	assert_int_equal(repair(bench, CHECK_ANY_TIME), MANY - 1);
	assert_int_equal(rig_chunk_count(bench->rig), 1);
}

/* A mount that holds an unlinked file open may not have said so yet. */
static void chunks_go_after_the_time_for_announcements(void **state)
{
	struct bench *bench = *state;
	const bool kinds[CHECK_KINDS] = { [CHECK_ORPHAN] = true };
	uint64_t begin = clock_now_us();

	put_chunks(bench, OLD);
	assert_int_equal(examine(bench), 0);
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 1);
	assert_true(clock_now_us() - begin >= ANNOUNCE_US + GRACE_US);
	assert_int_equal(memstore_count_key(bench->rig->ms, STORE_RANGE, "\x01"), 1);
	assert_int_equal(check_delay_us(bench->check, kinds), 0);
}

/* --- who holds an id --- */

static void files_that_share_an_id_are_noted(void **state)
{
	struct bench *bench = *state;

	put_file(bench, "file");
	put(bench, "copy", STUB);
	assert_fault(bench, CHECK_NAMES, ".hpkvfs/i/" ID, "does not say that 2 files hold the id");
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 1);
	assert_non_null(strstr(memstore_value(bench->rig->ms, ".hpkvfs/i/" ID), "\"copy\":true"));
	assert_non_null(strstr(memstore_value(bench->rig->ms, ".hpkvfs/i/" ID), "\"file\":true"));
	assert_clean(bench);
}

static void the_names_come(void *arg)
{
	put(arg, ".hpkvfs/i/" ID, "{\"v\":1,\"names\":{\"file\":true,\"copy\":true}}");
}

/* Its names are noted before the second key is set; the list of all lists was read before that. */
static void a_file_that_is_renamed_meanwhile_is_clean(void **state)
{
	struct bench *bench = *state;

	put_file(bench, "file");
	put(bench, "copy", STUB);
	when_asked(bench, "copy", 0, the_names_come);
	assert_clean(bench);
	assert_non_null(memstore_value(bench->rig->ms, ".hpkvfs/i/" ID));
}

static void a_list_that_names_others_is_mended(void **state)
{
	struct bench *bench = *state;

	put_file(bench, "file");
	put(bench, ".hpkvfs/i/" ID, "{\"v\":1,\"names\":{\"gone\":true}}");
	assert_fault(bench, CHECK_NAMES, ".hpkvfs/i/" ID, "does not say that 1 file holds the id");
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 1);
	assert_non_null(strstr(memstore_value(bench->rig->ms, ".hpkvfs/i/" ID), "\"file\":true"));
	assert_clean(bench);
}

static void a_list_that_cannot_be_read_is_mended(void **state)
{
	struct bench *bench = *state;

	put_file(bench, "file");
	put(bench, ".hpkvfs/i/" ID, "no JSON");
	assert_fault(bench, CHECK_NAMES, ".hpkvfs/i/" ID, "cannot be read");
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 1);
	assert_stored(bench->rig, ".hpkvfs/i/" ID, "{\"v\":1,\"names\":{\"file\":true}}");
	assert_clean(bench);
}

/* --- the journal --- */

static void a_half_done_rename_is_finished(void **state)
{
	struct bench *bench = *state;

	put(bench, "to/a", "one");
	put(bench, "from/b", "two");
	put(bench, ".hpkvfs/m/to/b", RECORD);
	put(bench, ".hpkvfs/j/" ID, "{\"v\":1,\"op\":\"rename\"," OWNER ",\"from\":\"from/\",\"to\":\"to/\"}");
	assert_fault(bench, CHECK_INTENT, ".hpkvfs/j/" ID, "the renaming of from/ and to/ is half done");
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 1);
	assert_stored(bench->rig, "to/a", "one");
	assert_stored(bench->rig, "to/b", "two");
	assert_not_stored(bench->rig, "from/b");
	assert_clean(bench);
	assert_int_equal(bench->count, 0);
}

/* It makes no sense, or what it moves is too long for the options of this examination. */
static void an_entry_that_cannot_be_finished_stops_nothing(void **state)
{
	struct bench *bench = *state;

	bench->rules.max_key = 20;
	put(bench, "from/a-long-name", "text");
	put(bench, ".hpkvfs/j/" ID, "{\"v\":1,\"op\":\"rename\"," OWNER ",\"from\":\"from/\",\"to\":\"to/\"}");
	put(bench, ".hpkvfs/j/" OLD,
	    "{\"v\":1,\"op\":\"rename\"," OWNER ",\"from\":\"from/\",\"to\":\"to/much-longer/\"}");
	put(bench, ".hpkvfs/j/" OLDER, "{\"v\":1,\"op\":\"rename\"," OWNER ",\"from\":\"a/\",\"to\":\"a/b/\"}");
	put_chunk(bench, OLD, 0, 3);
	assert_int_equal(examine(bench), 0);
	assert_int_equal(faults(bench), 4);
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 2);
	assert_int_equal(check_count(bench->check, CHECK_INTENT), 2);
	assert_told(bench, CHECK_KINDS, ".hpkvfs/j/" OLD, "cannot be finished");
	assert_told(bench, CHECK_KINDS, ".hpkvfs/j/" OLDER, "cannot be finished");
	assert_int_equal(rig_chunk_count(bench->rig), 0);
	assert_stored(bench->rig, "to/a-long-name", "text");
}

static void what_a_dead_mount_announced_goes(void **state)
{
	struct bench *bench = *state;

	put(bench, ".hpkvfs/j/" ID, "{\"v\":1,\"op\":\"ids\"," OWNER ",\"ids\":[\"" OLD "\"]}");
	put_chunks(bench, OLD);
	assert_int_equal(examine(bench), 0);
	assert_told(bench, CHECK_ANNOUNCED, ".hpkvfs/j/" ID, "a mount that has died");
	assert_told(bench, CHECK_ORPHAN, ".hpkvfs/c/" OLD, "5 chunks");
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 2);
	assert_int_equal(memstore_size(bench->rig->ms), 1);
	assert_clean(bench);
}

static void what_is_left_to_the_next_mount_is_no_fault(void **state)
{
	struct bench *bench = *state;

	put_chunks(bench, OLD);
	put(bench, ".hpkvfs/j/" ID,
	    "{\"v\":1,\"op\":\"remove\"," OWNER ",\"ids\":{\"" OLD "\":{\"chunks\":5,\"key\":\"file\"}}}");
	assert_clean(bench);
	assert_told(bench, CHECK_KINDS, ".hpkvfs/j/" ID, "left to the next mount");
	repair(bench, CHECK_ANY_TIME);
	assert_int_equal(memstore_size(bench->rig->ms), 1);
}

/* --- the rest --- */

static void foreign_keys_are_told_and_left(void **state)
{
	static const char *const keys[] = {
		".hpkvfs/other",
		".hpkvfs/c/short/00000000",
		".hpkvfs/c/" ID "/0000000G",
		".hpkvfs/c/" ID "/ffffffff",
		".hpkvfs/i/short",
		".hpkvfs/j/short",
		".hpkvfs/m/../a",
		".hpkvfs/m/a//b",
	};
	struct bench *bench = *state;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		put(bench, keys[i], RECORD);
	put(bench, ".hpkvfs/m/newer", "{\"v\":2}");
	assert_int_equal(examine(bench), 0);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		assert_told(bench, CHECK_FOREIGN, keys[i], "is ");
	assert_told(bench, CHECK_FOREIGN, ".hpkvfs/m/newer", "newer version");
	assert_int_equal(faults(bench), sizeof(keys) / sizeof(keys[0]) + 1);
	assert_int_equal(repair(bench, CHECK_ASKED), 0);
	assert_int_equal(writes(bench), 0);
}

static void a_missing_version_is_written_if_it_is_wanted(void **state)
{
	struct bench *bench = *state;

	memstore_remove(bench->rig->ms, FS_KEY);
	put(bench, ".hpkvfs/m/dir/", "{\"v\":1,\"mode\":16877}");
	assert_fault(bench, CHECK_LAYOUT, FS_KEY, "missing");
	assert_int_equal(repair(bench, CHECK_ANY_TIME), 0);
	assert_int_equal(repair(bench, CHECK_WANTED), 1);
	assert_stored(bench->rig, FS_KEY, FS_VALUE);
	assert_clean(bench);
}

/* All of it at once: what can be repaired is, and of the rest the same is told again. */
static void all_damage_together(void **state)
{
	struct bench *bench = *state;

	put_tree(bench);
	remove_chunk(bench, 0);
	put(bench, "copy", STUB);
	put_chunk(bench, OLD, 0, 3);
	put(bench, ".hpkvfs/m/gone", RECORD);
	put(bench, ".hpkvfs/m/bad", "[");
	put(bench, ".hpkvfs/other", "x");
	put(bench, ".hpkvfs/j/" OLDER, "{\"v\":1,\"op\":\"rename\"," OWNER ",\"from\":\"deep/\",\"to\":\"to/\"}");
	assert_int_equal(examine(bench), 0);
	assert_int_equal(faults(bench), 8);
	assert_int_equal(check_count(bench->check, CHECK_LOST), 2);
	assert_int_equal(repair(bench, CHECK_WANTED), 5);
	assert_int_equal(examine(bench), 0);
	assert_int_equal(faults(bench), 3);
	assert_told(bench, CHECK_LOST, "file", "0-2279 (missing)");
	assert_told(bench, CHECK_LOST, "copy", "0-2279 (missing)");
	assert_told(bench, CHECK_FOREIGN, ".hpkvfs/other", "");
	assert_stored(bench->rig, "to/er/plain", "text");
	assert_int_equal(repair(bench, CHECK_WANTED), 0);
	assert_int_equal(writes(bench), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		check_test(a_whole_tree_is_clean),
		check_test(an_empty_store_is_clean),
		check_test(a_sparse_file_is_clean),
		check_test(with_a_prefix_only_that_region_is_looked_at),
		check_test(another_delimiter),
		check_test(other_layouts_are_refused),
		check_test(errors_of_the_store_end_it),
		check_test(it_ends_when_it_is_told_to),
		check_test(missing_chunks_are_told_with_their_bytes),
		check_test(damaged_chunks_are_told_with_their_bytes),
		check_test(a_short_last_chunk_is_told),
		check_test(a_stub_without_any_chunk),
		check_test(a_missing_chunk_between_holes),
		check_test(what_changes_meanwhile_is_looked_at_again),
		check_test(what_only_begins_like_a_stub),
		check_test(a_damaged_stub_keeps_its_chunks),
		check_test(records_of_vanished_files_go),
		check_test(a_record_whose_file_comes_stays),
		check_test(a_record_whose_file_comes_at_the_last_moment_is_put_back),
		check_test(records_go_after_the_grace),
		check_test(damaged_records_go_only_if_it_is_wanted),
		check_test(chunks_of_no_file_go),
		check_test(a_list_of_names_alone_goes),
		check_test(young_chunks_stay),
		check_test(announced_ids_stay),
		check_test(what_is_announced_meanwhile_stays),
		check_test(what_a_file_holds_meanwhile_stays),
		check_test(what_is_announced_until_the_file_is_there_stays),
		check_test(what_is_announced_while_others_go_stays),
		check_test(what_a_listed_name_holds_stays),
		check_test(chunks_go_after_the_time_for_announcements),
		check_test(files_that_share_an_id_are_noted),
		check_test(a_file_that_is_renamed_meanwhile_is_clean),
		check_test(a_list_that_names_others_is_mended),
		check_test(a_list_that_cannot_be_read_is_mended),
		check_test(a_half_done_rename_is_finished),
		check_test(an_entry_that_cannot_be_finished_stops_nothing),
		check_test(what_a_dead_mount_announced_goes),
		check_test(what_is_left_to_the_next_mount_is_no_fault),
		check_test(foreign_keys_are_told_and_left),
		check_test(a_missing_version_is_written_if_it_is_wanted),
		check_test(all_damage_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
