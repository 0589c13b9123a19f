/* Appends, where others append as well: PATCH, folds, and what a fold's SET has destroyed. */
#include "fs_rig.h"

#include <stdio.h>

#include "fs/content.h"

/* Of one mount's value limit so much is a chunk: rig_setup's 3,072 characters of base64. */
#define CHUNK 2304

static void prepare(struct rig *rig)
{
	CLEANUP(buf_free) struct buf text = BUF_INIT;

	assert_int_equal(buf_resize(&text, RIG_MAX_VALUE - 100), 0);
	memset(text.p, '0', text.len);
	assert_int_equal(write_file(rig, "other", "\xff"), 0);
	assert_int_equal(write_file(rig, "f", text.p), 0);
	assert_int_equal(look(rig, "f"), 0);
	memstore_limit_value(rig->ms, RIG_MAX_VALUE);
	memstore_log_clear(rig->ms);
}

/* A text of `len` bytes and a newline, all the same letter. */
static void add_line(struct buf *out, char letter, size_t len)
{
	size_t before = out->len;

	assert_int_equal(buf_resize(out, before + len + 1), 0);
	memset(out->p + before, letter, len);
	out->p[before + len] = '\n';
}

static struct content *decode(struct rig *rig, const char *key)
{
	static struct content content;

	assert_non_null(memstore_value(rig->ms, key));
	assert_int_equal(content_decode(str_c(memstore_value(rig->ms, key)), &content), 0);
	return &content;
}

static void assert_file(struct rig *rig, const char *path, struct str bytes)
{
	assert_int_equal(look(rig, path), 0);
	assert_int_equal(rig->entry.st.st_size, bytes.len);
	assert_int_equal(read_file(rig, path), 0);
	assert_str(buf_str(&rig->out), bytes);
}

/* A file of chunks, which both this mount and the test know. */
static void chunked_file(struct rig *rig, struct buf *bytes)
{
	prepare(rig);
	assert_int_equal(buf_resize(bytes, 0), 0);
	add_line(bytes, 'a', 2 * RIG_MAX_VALUE);
	assert_int_equal(write_file(rig, "f", bytes->p), 0);
	assert_int_equal(look(rig, "f"), 0);
	memstore_log_clear(rig->ms);
}

/* --- PATCH --- */

static void a_file_in_chunks_is_appended_to_by_one_patch(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;

	chunked_file(rig, &bytes);
	assert_int_equal(append_file(rig, "f", "more\n"), 0);
	assert_requests(rig, 0, 0, 1, 0, 0);
	assert_int_equal(buf_add_str(&bytes, STR("more\n")), 0);
	assert_file(rig, "f", buf_str(&bytes));
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
}

static void appends_one_after_the_other_are_a_patch_each(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	uint64_t id;

	memstore_put(rig->ms, "log", "1");
	id = id_of(rig, "log");
	memstore_log_clear(rig->ms);
	for (int i = 0; i < 5; i++) {
		/* the kernel knows the name: nothing is looked up */
		assert_int_equal(run(rig, op_open, .id = id, .flags = O_WRONLY | O_APPEND), 0);
		handle = rig->handle;
		assert_int_equal(write_at(rig, handle, 0, "x"), 0);
		assert_int_equal(close_file(rig, handle), 0);
	}
	assert_requests(rig, 0, 0, 5, 0, 0);
	assert_stored(rig, "log", "1xxxxx");
	assert_reads(rig, "log", "1xxxxx");
	assert_int_equal(memstore_count(rig->ms, STORE_GET), 1); /* others may have appended */
}

static void a_log_that_stays_open_is_a_patch_a_line(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "log", "0\n");
	handle = open_file(rig, "log", O_WRONLY | O_APPEND);
	memstore_log_clear(rig->ms);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(write_at(rig, handle, 0, "line\n"), 0);
		assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	}
	assert_requests(rig, 0, 0, 4, 0, 0);
	assert_int_equal(run(rig, op_getattr, .id = id_of(rig, "log")), 0);
	assert_int_equal(rig->entry.st.st_size, 22);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "log", "0\nline\nline\nline\nline\n");
}

static void a_file_that_was_made_elsewhere_meanwhile_is_appended_to(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_file(rig, "log", O_WRONLY | O_CREAT | O_APPEND);

	memstore_log_clear(rig->ms);
	assert_int_equal(write_at(rig, handle, 0, "own\n"), 0);
	memstore_put(rig->ms, "log", "theirs\n");
	assert_int_equal(close_file(rig, handle), 0);
	assert_requests(rig, 0, 0, 1, 0, 0);
	assert_reads(rig, "log",
		     "theirs\n"
		     "own\n");
}

/* --- folds --- */

/* It was sent in place, where another mount may have made the file longer meanwhile. */
static void assert_last_chunk_is_whole(struct rig *rig, const char *key)
{
	const struct content_part *part = &decode(rig, key)->parts[0];
	char name[100];

	snprintf(name, sizeof(name), ".hpkvfs/c/%s/%08x", part->id.hex, content_chunk_count(part) - 1);
	assert_int_equal(strlen(memstore_value(rig->ms, name)), CHUNK / 3 * 4);
}

static void a_log_by_one_writer_is_one_part(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct fs_handle *handle;
	unsigned folds;

	handle = open_file(rig, "log", O_WRONLY | O_CREAT | O_APPEND);
	for (int i = 0; i < 400; i++) {
		size_t before = bytes.len;

		add_line(&bytes, (char)('a' + i % 26), 60);
		assert_int_equal(write_at(rig, handle, 0, bytes.p + before), 0);
		assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	}
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(decode(rig, "log")->part_count, 1);
	folds = 400 - memstore_count(rig->ms, STORE_PATCH);
	assert_in_range(folds, 2, 12);
	/* each fold sends what is new, and the chunk in which it begins */
	assert_in_range(memstore_count(rig->ms, STORE_SET), folds, 4 * folds);
	assert_last_chunk_is_whole(rig, "log");
	assert_file(rig, "log", buf_str(&bytes));
	rig_restart(rig);
	assert_file(rig, "log", buf_str(&bytes));
}

/* Folds of several mounts are parts, which become fewer when they are many. */
static void many_folds_are_few_parts(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	unsigned most = 0;

	chunked_file(rig, &bytes);
	for (int i = 0; i < 40; i++) {
		size_t before = bytes.len;

		add_line(&bytes, (char)('a' + i % 26), 1500);
		assert_int_equal(append_file(rig, "f", bytes.p + before), 0);
		if (decode(rig, "f")->part_count > most)
			most = decode(rig, "f")->part_count;
		rig_restart(rig);
	}
	assert_in_range(most, 8, 16);
	assert_file(rig, "f", buf_str(&bytes));
}

static void small_binary_appends_are_in_the_stub(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;

	chunked_file(rig, &bytes);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(append_file(rig, "f", "\xff\xfe"), 0);
		assert_requests(rig, 2, 1, 0, 0, 0);
		assert_int_equal(buf_add_str(&bytes, STR("\xff\xfe")), 0);
		assert_int_equal(look(rig, "f"), 0);
		memstore_log_clear(rig->ms);
	}
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
}

static void large_appends_go_out_early(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = BUF_INIT, all = BUF_INIT;
	struct fs_handle *handle;

	chunked_file(rig, &all);
	add_line(&bytes, 'x', (1 << 20) - 1);
	handle = open_file(rig, "f", O_WRONLY | O_APPEND);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(run(rig, op_write, .handle = handle, .data = buf_str(&bytes)), 0);
		assert_in_range(fs_figures(rig->fs).dirty_bytes, 0, 5 << 20);
		assert_int_equal(buf_add_str(&all, buf_str(&bytes)), 0);
	}
	assert_int_equal(close_file(rig, handle), 0);
	/* little is sent twice */
	assert_in_range(memstore_count(rig->ms, STORE_SET), (10 << 20) / CHUNK, (10 << 20) / CHUNK + 20);
	rig_restart(rig);
	assert_int_equal(look(rig, "f"), 0);
	assert_int_equal(rig->entry.st.st_size, all.len);
	assert_int_equal(run(rig, op_open, .id = rig->entry.id, .flags = O_RDONLY), 0);
	handle = rig->handle;
	assert_int_equal(run(rig, op_read, .handle = handle, .size = all.len), 0);
	assert_str(buf_str(&rig->out), buf_str(&all));
	assert_int_equal(close_file(rig, handle), 0);
}

/* --- what the SET of a fold has destroyed --- */

struct others {
	struct rig *rig;
	const char *puts[4]; /* in turn, right before each GET that is hit; "": removes it; "+...": appends */
	unsigned next;
};

static void come_between(void *arg)
{
	struct others *others = arg;
	const char *value = others->puts[others->next];
	struct memstore *ms = others->rig->ms;

	others->next++;
	if (!value)
		return;
	if (*value == '\0') {
		memstore_remove(ms, "f");
	} else if (*value == '+') {
		CLEANUP(buf_free) struct buf whole = BUF_INIT;

		assert_int_equal(buf_set(&whole, str_c(memstore_value(ms, "f"))), 0);
		assert_int_equal(buf_add_str(&whole, str_c(value + 1)), 0);
		memstore_put_str(ms, STR("f"), buf_str(&whole));
	} else {
		memstore_put(ms, "f", value);
	}
}

/* Others do so right before the second GET of the key, which is that of the fold's SET, and before those behind. */
static void others_come(struct rig *rig, struct others *others)
{
	others->rig = rig;
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){
				   .op = STORE_GET, .key = "f", .pass = 1, .arrived = come_between, .arg = others });
}

/* Appends so much that it takes a fold, and leaves there what is to be expected of it alone. */
static void append_much(struct rig *rig, struct buf *own)
{
	add_line(own, 'o', 200);
	assert_int_equal(append_file(rig, "f", own->p), 0);
	memstore_clear_faults(rig->ms);
}

static void what_was_appended_meanwhile_stays(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf own = BUF_INIT, all = BUF_INIT;
	struct others others = { .puts = { "+theirs\n" } };

	prepare(rig);
	assert_int_equal(buf_set(&all, str_c(memstore_value(rig->ms, "f"))), 0);
	others_come(rig, &others);
	append_much(rig, &own);
	assert_int_equal(buf_add_str(&all, buf_str(&own)), 0);
	assert_int_equal(buf_add_str(&all, STR("theirs\n")), 0);
	assert_file(rig, "f", buf_str(&all));
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&all));
}

static void of_a_file_removed_meanwhile_the_own_text_stays(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf own = BUF_INIT;
	struct others others = { .puts = { "" } };

	prepare(rig);
	others_come(rig, &others);
	append_much(rig, &own);
	assert_stored(rig, "f", own.p);
	assert_file(rig, "f", buf_str(&own));
}

static void another_value_is_put_back(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf own = BUF_INIT, all = BUF_INIT;
	struct others others = { .puts = { "new\n" } };

	prepare(rig);
	others_come(rig, &others);
	append_much(rig, &own);
	assert_int_equal(buf_set(&all, STR("new\n")), 0);
	assert_int_equal(buf_add_str(&all, buf_str(&own)), 0);
	assert_stored(rig, "f", all.p);
	assert_file(rig, "f", buf_str(&all));
}

/* What was appended to our value before it was taken back is appended to the one that was put back. */
static void what_was_appended_to_a_value_that_is_taken_back_stays(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf own = BUF_INIT, all = BUF_INIT;
	struct others others = { .puts = { "new\n", "+theirs\n" } };

	prepare(rig);
	others_come(rig, &others);
	append_much(rig, &own);
	assert_int_equal(buf_set(&all, STR("new\n")), 0);
	assert_int_equal(buf_add_str(&all, buf_str(&own)), 0);
	assert_int_equal(buf_add_str(&all, STR("theirs\n")), 0);
	assert_file(rig, "f", buf_str(&all));
}

static void a_put_back_that_destroys_another_value_puts_that_back(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf own = BUF_INIT, all = BUF_INIT;
	struct others others = { .puts = { "new\n", "newest\n" } };

	prepare(rig);
	others_come(rig, &others);
	append_much(rig, &own);
	assert_int_equal(buf_set(&all, STR("newest\n")), 0);
	assert_int_equal(buf_add_str(&all, buf_str(&own)), 0);
	assert_stored(rig, "f", all.p);
}

static void come_for_ever(void *arg)
{
	struct others *others = arg;
	char value[32];

	snprintf(value, sizeof(value), "value %u\n", others->next++);
	memstore_put(others->rig->ms, "f", value);
}

static void others_that_never_rest_are_an_error(void **state)
{
	struct rig *rig = *state;
	struct others others = { .rig = rig };
	CLEANUP(buf_free) struct buf own = BUF_INIT;

	prepare(rig);
	add_line(&own, 'o', 200);
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_GET, .key = "f", .arrived = come_for_ever, .arg = &others });
	assert_int_equal(append_file(rig, "f", "\xff"), -EIO);
	memstore_clear_faults(rig->ms);
	/* what they have put there stays */
	assert_int_equal(strncmp(memstore_value(rig->ms, "f"), "value ", 6), 0);
}

/* The SET of a fold is refused for the rate of requests, behind a GET that was not, and others append before it is sent again. */
static void what_was_appended_between_a_refused_set_and_its_repetition_stays(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf own = BUF_INIT, all = BUF_INIT;
	struct others others = { .rig = rig, .puts = { "+theirs\n", "+more\n" } };

	prepare(rig);
	assert_int_equal(buf_set(&all, str_c(memstore_value(rig->ms, "f"))), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET,
							     .key = "f",
							     .times = 2,
							     .err = -EAGAIN,
							     .arrived = come_between,
							     .arg = &others });
	append_much(rig, &own);
	assert_int_equal(memstore_count_key(rig->ms, STORE_GET, "f"), 4);
	assert_int_equal(memstore_count_key(rig->ms, STORE_SET, "f"), 3);
	assert_int_equal(buf_add_str(&all, buf_str(&own)), 0);
	assert_int_equal(buf_add_str(&all, STR("theirs\nmore\n")), 0);
	assert_file(rig, "f", buf_str(&all));
}

/* As where others have removed the file before the SET was sent again: what the first GET has read is not destroyed. */
static void a_repeated_swap_tells_of_the_last_one(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf own = BUF_INIT;
	struct others others = { .rig = rig, .puts = { "" } };

	prepare(rig);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET,
							     .key = "f",
							     .times = 1,
							     .err = -EAGAIN,
							     .arrived = come_between,
							     .arg = &others });
	append_much(rig, &own);
	assert_stored(rig, "f", own.p);
	assert_file(rig, "f", buf_str(&own));
}

/* With and without GETs that are taken: there is an end to it, and what was refused did nothing. */
static void a_swap_that_is_always_refused_is_an_error(void **state)
{
	struct rig *rig = *state;

	for (int get = 0; get < 2; get++) {
		CLEANUP(buf_free) struct buf own = BUF_INIT, before = BUF_INIT;

		prepare(rig);
		assert_int_equal(buf_set(&before, str_c(memstore_value(rig->ms, "f"))), 0);
		add_line(&own, 'o', 200);
		memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .key = "f", .err = -EAGAIN });
		if (get)
			memstore_add_fault(rig->ms, (struct memstore_fault){
							    .op = STORE_GET, .key = "f", .pass = 1, .err = -EAGAIN });
		assert_int_equal(append_file(rig, "f", own.p), -EIO);
		assert_in_range(memstore_count_key(rig->ms, STORE_SET, "f"), 1, get ? 1 : 10);
		memstore_clear_faults(rig->ms);
		assert_stored(rig, "f", before.p);
	}
}

/* A server that never takes two requests at once is not one that nothing can be appended on. */
static void a_swap_that_is_often_refused_is_done_as_well_as_can_be(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf own = BUF_INIT, all = BUF_INIT;

	prepare(rig);
	memstore_refuse_once(rig->ms);
	assert_int_equal(buf_set(&all, str_c(memstore_value(rig->ms, "f"))), 0);
	append_much(rig, &own);
	assert_int_equal(buf_add_str(&all, buf_str(&own)), 0);
	assert_file(rig, "f", buf_str(&all));
}

struct late {
	struct loop_timer timer;
	struct rig *rig;
};

static void let_go(struct loop_timer *timer)
{
	memstore_release(lws_container_of(timer, struct late, timer)->rig->ms);
}

static void let_go_behind(void *arg)
{
	struct late *late = arg;

	loop_timer_set(late->rig->loop, &late->timer, 1, let_go);
}

/* No server has to carry out the requests of one connection in order: the GET may see what the SET behind it has set. */
static void an_own_value_is_not_taken_for_anothers(void **state)
{
	struct rig *rig = *state;
	struct late late = { .rig = rig };
	CLEANUP(buf_free) struct buf own = BUF_INIT, all = BUF_INIT;

	prepare(rig);
	assert_int_equal(buf_set(&all, str_c(memstore_value(rig->ms, "f"))), 0);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){
				   .op = STORE_GET, .key = "f", .pass = 1, .times = 1, .hold = MEMSTORE_HOLD_REQUEST });
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){
				   .op = STORE_SET, .key = "f", .times = 1, .arrived = let_go_behind, .arg = &late });
	append_much(rig, &own);
	assert_int_equal(memstore_count_key(rig->ms, STORE_SET, "f"), 1);
	assert_int_equal(memstore_count_key(rig->ms, STORE_GET, "f"), 2);
	assert_int_equal(buf_add_str(&all, buf_str(&own)), 0);
	assert_file(rig, "f", buf_str(&all));
}

/* Two folds of one value: the second finds the first one's, and neither text is lost. */
static void a_fold_by_another_mount_meanwhile_stays(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf own = BUF_INIT, theirs = BUF_INIT, value = BUF_INIT;
	struct others others = { 0 };

	prepare(rig);
	assert_int_equal(buf_set(&theirs, str_c(memstore_value(rig->ms, "f"))), 0);
	add_line(&theirs, 't', 200);
	add_line(&own, 'o', 200);
	/* their stub, and then the store as it was before */
	assert_int_equal(write_file(rig, "g", theirs.p), 0);
	assert_int_equal(buf_set(&value, str_c(memstore_value(rig->ms, "g"))), 0);
	others.puts[0] = value.p;
	others_come(rig, &others);
	assert_int_equal(append_file(rig, "f", own.p), 0);
	memstore_clear_faults(rig->ms);
	assert_int_equal(buf_add_str(&theirs, buf_str(&own)), 0);
	assert_file(rig, "f", buf_str(&theirs));
}

/* Others have left less room than is known here. */
static void a_patch_that_is_refused_is_a_fold(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf all = BUF_INIT;

	prepare(rig);
	assert_int_equal(buf_set(&all, str_c(memstore_value(rig->ms, "f"))), 0);
	add_line(&all, 't', 80);
	memstore_put(rig->ms, "f", all.p);
	assert_int_equal(append_file(rig, "f", "eighteen and more\n and more\n"), 0);
	assert_int_equal(buf_add_str(&all, STR("eighteen and more\n and more\n")), 0);
	assert_file(rig, "f", buf_str(&all));
}

/* --- lost connections --- */

static void a_lost_patch_is_found_among_others(void **state)
{
	static const char *const texts[] = { "a line that tells whose it is\n", "x\n" };
	struct rig *rig = *state;

	for (int after = 0; after < 2; after++)
		for (int i = 0; i < 2; i++) {
			bool told = i == 0 || !after;
			CLEANUP(buf_free) struct buf all = BUF_INIT;

			memstore_put(rig->ms, "log", "1\n");
			rig_restart(rig);
			id_of(rig, "log");
			memstore_put(rig->ms, "log", "1\ntheirs\n");
			memstore_add_fault(rig->ms,
					   (struct memstore_fault){
						   .op = STORE_PATCH, .times = 1, .err = -ECONNRESET, .after = after });
			assert_int_equal(append_file(rig, "log", texts[i]), told ? 0 : -EIO);
			memstore_clear_faults(rig->ms);
			assert_int_equal(buf_printf(&all, "1\ntheirs\n%s", texts[i]), 0);
			assert_stored(rig, "log", all.p);
			assert_reads(rig, "log", all.p);
		}
}

static void a_fold_whose_connection_is_lost_is_there_once(void **state)
{
	struct rig *rig = *state;

	for (int after = 0; after < 2; after++) {
		CLEANUP(buf_free) struct buf all = BUF_INIT, own = BUF_INIT;

		prepare(rig);
		assert_int_equal(buf_set(&all, str_c(memstore_value(rig->ms, "f"))), 0);
		memstore_add_fault(
			rig->ms, (struct memstore_fault){
					 .op = STORE_SET, .key = "f", .times = 1, .err = -ECONNRESET, .after = after });
		append_much(rig, &own);
		assert_int_equal(buf_add_str(&all, buf_str(&own)), 0);
		assert_file(rig, "f", buf_str(&all));
		rig_restart(rig);
		assert_file(rig, "f", buf_str(&all));
	}
}

/* --- with other changes --- */

static void an_append_and_a_change_elsewhere_are_one_content(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct fs_handle *append, *other;

	chunked_file(rig, &bytes);
	append = open_file(rig, "f", O_WRONLY | O_APPEND);
	other = open_file(rig, "f", O_WRONLY);
	assert_int_equal(write_at(rig, append, 0, "appended"), 0);
	assert_int_equal(write_at(rig, other, bytes.len - 3, "XYZ"), 0);
	assert_int_equal(write_at(rig, append, 0, "again"), 0);
	memcpy(bytes.p + bytes.len - 3, "XYZ", 3);
	assert_int_equal(buf_add_str(&bytes, STR("appendedagain")), 0);
	assert_file(rig, "f", buf_str(&bytes));
	assert_int_equal(close_file(rig, append), 0);
	assert_int_equal(close_file(rig, other), 0);
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
}

static void an_append_is_cut_off_again(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct fs_handle *handle;

	chunked_file(rig, &bytes);
	handle = open_file(rig, "f", O_WRONLY | O_APPEND);
	assert_int_equal(write_at(rig, handle, 0, "appended"), 0);
	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .handle = handle,
			     .change = { .set_size = true, .size = bytes.len + 3 }),
			 0);
	assert_int_equal(write_at(rig, handle, 0, "+"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(buf_add_str(&bytes, STR("app+")), 0);
	rig_restart(rig);
	assert_file(rig, "f", buf_str(&bytes));
}

static void appends_and_writes_during_a_fold(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf all = BUF_INIT, own = BUF_INIT;

	for (int change = 0; change < 2; change++) {
		struct fs_handle *handle, *other;
		struct call *flush;

		prepare(rig);
		assert_int_equal(buf_set(&all, str_c(memstore_value(rig->ms, "f"))), 0);
		buf_clear(&own);
		add_line(&own, 'o', 200);
		handle = open_file(rig, "f", O_WRONLY | O_APPEND);
		other = open_file(rig, "f", O_WRONLY);
		assert_int_equal(write_at(rig, handle, 0, own.p), 0);
		memstore_add_fault(rig->ms,
				   (struct memstore_fault){
					   .op = STORE_SET, .key = "f", .times = 1, .hold = MEMSTORE_HOLD_REPLY });
		flush = begin(rig, op_flush, .handle = handle);
		rig_until_held(rig, 1);
		assert_int_equal(write_at(rig, handle, 0, "behind\n"), 0);
		if (change)
			assert_int_equal(write_at(rig, other, 0, "first"), 0);
		memstore_release(rig->ms);
		assert_int_equal(end(flush), 0);
		assert_int_equal(close_file(rig, handle), 0);
		assert_int_equal(close_file(rig, other), 0);
		memstore_clear_faults(rig->ms);
		assert_int_equal(buf_add_str(&all, buf_str(&own)), 0);
		assert_int_equal(buf_add_str(&all, STR("behind\n")), 0);
		if (change)
			memcpy(all.p, "first", 5);
		assert_file(rig, "f", buf_str(&all));
		rig_restart(rig);
		assert_file(rig, "f", buf_str(&all));
	}
}

static void where_data_and_holes_are_with_appends_that_wait(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct fs_handle *handle;

	chunked_file(rig, &bytes);
	handle = open_file(rig, "f", O_WRONLY | O_APPEND);
	assert_int_equal(write_at(rig, handle, 0, "appended"), 0);
	assert_int_equal(run(rig, op_lseek, .handle = handle, .flags = SEEK_DATA, .offset = 5), 0);
	assert_int_equal(rig->offset, 5);
	assert_int_equal(run(rig, op_lseek, .handle = handle, .flags = SEEK_DATA, .offset = bytes.len + 2), 0);
	assert_int_equal(rig->offset, bytes.len + 2);
	assert_int_equal(run(rig, op_lseek, .handle = handle, .flags = SEEK_HOLE, .offset = 5), 0);
	assert_int_equal(rig->offset, bytes.len + 8);
	assert_int_equal(close_file(rig, handle), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fs_test(a_file_in_chunks_is_appended_to_by_one_patch),
		fs_test(appends_one_after_the_other_are_a_patch_each),
		fs_test(a_log_that_stays_open_is_a_patch_a_line),
		fs_test(a_file_that_was_made_elsewhere_meanwhile_is_appended_to),
		fs_test(a_log_by_one_writer_is_one_part),
		fs_test(many_folds_are_few_parts),
		fs_test(small_binary_appends_are_in_the_stub),
		fs_test(large_appends_go_out_early),
		fs_test(what_was_appended_meanwhile_stays),
		fs_test(of_a_file_removed_meanwhile_the_own_text_stays),
		fs_test(another_value_is_put_back),
		fs_test(what_was_appended_to_a_value_that_is_taken_back_stays),
		fs_test(a_put_back_that_destroys_another_value_puts_that_back),
		fs_test(others_that_never_rest_are_an_error),
		fs_test(what_was_appended_between_a_refused_set_and_its_repetition_stays),
		fs_test(a_repeated_swap_tells_of_the_last_one),
		fs_test(a_swap_that_is_always_refused_is_an_error),
		fs_test(a_swap_that_is_often_refused_is_done_as_well_as_can_be),
		fs_test(an_own_value_is_not_taken_for_anothers),
		fs_test(a_fold_by_another_mount_meanwhile_stays),
		fs_test(a_patch_that_is_refused_is_a_fold),
		fs_test(a_lost_patch_is_found_among_others),
		fs_test(a_fold_whose_connection_is_lost_is_there_once),
		fs_test(an_append_and_a_change_elsewhere_are_one_content),
		fs_test(an_append_is_cut_off_again),
		fs_test(appends_and_writes_during_a_fold),
		fs_test(where_data_and_holes_are_with_appends_that_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
