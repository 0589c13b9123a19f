/* Regular files: when what programs write goes to the store, in which requests, and what they read back. */
#include "fs_rig.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* From hpkvfs-layout(7). */
#define EMPTY_STUB "hpkvfs1 380918b946a52664 =\n"
#define BINARY_STUB "hpkvfs1 3075f8383a7618bd =AAH/\n" /* 00 01 ff */

static void echo_into_a_new_file_is_one_set(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	assert_int_equal(look(rig, "f"), -ENOENT);
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_create, .parent = FS_ROOT_ID, .name = "f", .mode = 0644, .flags = O_WRONLY), 0);
	handle = rig->handle;
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0644);
	assert_int_equal(run(rig, op_flush, .handle = handle), 0); /* a shell closes a copy before it writes */
	assert_no_requests(rig);
	assert_int_equal(write_at(rig, handle, 0, "x\n"), 0);
	assert_no_requests(rig);
	assert_not_stored(rig, "f");
	assert_int_equal(run(rig, op_flush, .handle = handle), 0);
	assert_stored(rig, "f", "x\n");
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_int_equal(run(rig, op_flush, .handle = handle), 0);
	assert_int_equal(run(rig, op_release, .handle = handle), 0);
	assert_no_requests(rig);
	assert_int_equal(memstore_size(rig->ms), 1); /* no key of our own beside it */
}

static void echo_into_an_old_file_is_one_set(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "old");
	assert_int_equal(look(rig, "f"), 0);
	memstore_log_clear(rig->ms);
	assert_int_equal(write_file(rig, "f", "new"), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_stored(rig, "f", "new");
}

static void touch_is_one_set_at_release(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_file(rig, "f", O_WRONLY | O_CREAT);

	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_flush, .handle = handle), 0);
	assert_no_requests(rig);
	assert_int_equal(run(rig, op_release, .handle = handle), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_stored(rig, "f", EMPTY_STUB);
	assert_reads(rig, "f", "");
	assert_no_requests(rig);
}

static void truncation_by_open_alone_is_committed_at_release(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "f", "old");
	handle = open_file(rig, "f", O_WRONLY | O_TRUNC);
	assert_int_equal(run(rig, op_flush, .handle = handle), 0);
	assert_stored(rig, "f", "old");
	assert_int_equal(run(rig, op_release, .handle = handle), 0);
	assert_stored(rig, "f", EMPTY_STUB);
}

static void fsync_commits(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_file(rig, "f", O_WRONLY | O_CREAT);

	assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	assert_stored(rig, "f", EMPTY_STUB);
	assert_int_equal(write_at(rig, handle, 0, "abc"), 0);
	assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	assert_stored(rig, "f", "abc");
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_fsync, .handle = handle), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_no_requests(rig);
}

static void small_binary_content_is_one_set(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_file(rig, "f", O_RDWR | O_CREAT);

	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_write, .handle = handle, .data = str_of("\0\1\xff", 3)), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_stored(rig, "f", BINARY_STUB);
	rig_restart(rig);
	assert_int_equal(read_file(rig, "f"), 0);
	assert_str(buf_str(&rig->out), str_of("\0\1\xff", 3));
	assert_requests(rig, 0, 0, 0, 0, 2); /* the listing brings the value along */
}

/* --- appends --- */

static void an_append_is_one_patch(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "log", "one\n");
	assert_int_equal(look(rig, "log"), 0);
	memstore_log_clear(rig->ms);
	assert_int_equal(append_file(rig, "log", "two\n"), 0);
	assert_requests(rig, 0, 0, 1, 0, 0);
	assert_stored(rig, "log", "one\ntwo\n");
	assert_reads(rig, "log", "one\ntwo\n");
}

static void an_append_keeps_what_others_appended(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "log", "one\n");
	assert_int_equal(look(rig, "log"), 0);
	memstore_put(rig->ms, "log", "one\nforeign\n");
	assert_int_equal(append_file(rig, "log", "two\n"), 0);
	assert_stored(rig, "log", "one\nforeign\ntwo\n");
	assert_reads(rig, "log", "one\nforeign\ntwo\n");
}

static void several_appends_before_the_close_are_one_patch(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "log", "1");
	handle = open_file(rig, "log", O_WRONLY | O_APPEND);
	memstore_log_clear(rig->ms);
	assert_int_equal(write_at(rig, handle, 1, "2"), 0);
	assert_int_equal(write_at(rig, handle, 2, "3"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_requests(rig, 0, 0, 1, 0, 0);
	assert_stored(rig, "log", "123");
}

static void what_patch_would_not_append_is_set(void **state)
{
	static const struct {
		const char *before, *tail, *after;
	} cases[] = {
		{ "{\"a\":1}", "{\"b\":2}", "{\"a\":1}{\"b\":2}" }, /* a merge */
		{ "{\"a\":1}", " \n{\"b\":2}", "{\"a\":1} \n{\"b\":2}" },
		{ EMPTY_STUB, "text", "text" }, /* behind a stub with inline parts only */
		{ "hpkvfs", "1 abc", NULL },    /* begins like a stub only as a whole */
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		CLEANUP(buf_free) struct buf whole = BUF_INIT;

		memstore_put(rig->ms, "f", cases[i].before);
		rig_restart(rig);
		assert_int_equal(append_file(rig, "f", cases[i].tail), 0);
		assert_int_equal(memstore_count(rig->ms, STORE_PATCH), 0);
		assert_int_equal(memstore_count(rig->ms, STORE_SET), 1);
		if (cases[i].after)
			assert_stored(rig, "f", cases[i].after);
		else
			assert_int_equal(strncmp(memstore_value(rig->ms, "f"), "hpkvfs1 ", 8), 0);
		assert_int_equal(buf_set(&whole, str_c(i == 2 ? "" : cases[i].before)), 0);
		assert_int_equal(buf_add_str(&whole, str_c(cases[i].tail)), 0);
		rig_restart(rig);
		assert_reads(rig, "f", whole.p);
	}
}

static void append_made_binary(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "f", "a");
	handle = open_file(rig, "f", O_WRONLY | O_APPEND);
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_write, .handle = handle, .offset = 1, .data = str_of("\0", 1)), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_requests(rig, 2, 1, 0, 0, 0);
	assert_int_equal(read_file(rig, "f"), 0);
	assert_str(buf_str(&rig->out), str_of("a\0", 2));
}

static void an_append_at_a_stale_end_invalidates(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *first, *second;

	memstore_put(rig->ms, "log", "1");
	first = open_file(rig, "log", O_WRONLY | O_APPEND);
	second = open_file(rig, "log", O_WRONLY | O_APPEND);
	assert_int_equal(write_at(rig, first, 1, "22"), 0);
	rig_notes_clear(rig);
	assert_int_equal(write_at(rig, second, 1, "3"), 0);
	assert_true(rig_was_invalidated(rig, id_of(rig, "log")));
	assert_int_equal(close_file(rig, first), 0);
	assert_int_equal(close_file(rig, second), 0);
	assert_stored(rig, "log", "1223");
}

/* While the first append is on its way a second one comes; each arrives once. */
static void an_append_during_the_commit_of_another(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct call *flush;

	memstore_put(rig->ms, "log", "1");
	handle = open_file(rig, "log", O_WRONLY | O_APPEND);
	assert_int_equal(write_at(rig, handle, 1, "2"), 0);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_PATCH, .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	flush = begin(rig, op_flush, .handle = handle);
	rig_until_held(rig, 1);
	assert_int_equal(write_at(rig, handle, 2, "3"), 0);
	memstore_release(rig->ms);
	assert_int_equal(end(flush), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "log", "123");
	assert_reads(rig, "log", "123");
}

/* --- who commits --- */

static pid_t child_that_waits(void)
{
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		for (;;)
			pause();
	}
	return child;
}

static void end_child(pid_t child)
{
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void the_close_of_an_inherited_copy_commits_nothing(void **state)
{
	struct rig *rig = *state;
	pid_t child = child_that_waits();
	struct fs_handle *handle = open_file(rig, "f", O_WRONLY | O_CREAT);

	assert_int_equal(write_at(rig, handle, 0, "half"), 0);
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_flush, .handle = handle, .pid = child), 0);
	assert_no_requests(rig);
	assert_int_equal(write_at(rig, handle, 4, " whole"), 0);
	assert_int_equal(run(rig, op_flush, .handle = handle), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_stored(rig, "f", "half whole");

	/* once it has written, its close counts */
	assert_int_equal(run(rig, op_write, .handle = handle, .offset = 10, .data = STR("!"), .pid = child), 0);
	assert_int_equal(run(rig, op_flush, .handle = handle, .pid = child), 0);
	assert_stored(rig, "f", "half whole!");
	end_child(child);
	assert_int_equal(close_file(rig, handle), 0);
}

struct thread {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pid_t tid;
	bool over;
};

static void *thread_run(void *arg)
{
	struct thread *thread = arg;

	pthread_mutex_lock(&thread->lock);
	thread->tid = (pid_t)syscall(SYS_gettid);
	pthread_cond_broadcast(&thread->changed);
	while (!thread->over)
		pthread_cond_wait(&thread->changed, &thread->lock);
	pthread_mutex_unlock(&thread->lock);
	return NULL;
}

static void another_thread_of_the_process_commits(void **state)
{
	struct rig *rig = *state;
	struct thread thread = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
	struct fs_handle *handle = open_file(rig, "f", O_WRONLY | O_CREAT);
	pthread_t id;

	assert_int_equal(pthread_create(&id, NULL, thread_run, &thread), 0);
	pthread_mutex_lock(&thread.lock);
	while (!thread.tid)
		pthread_cond_wait(&thread.changed, &thread.lock);
	pthread_mutex_unlock(&thread.lock);
	assert_int_not_equal(thread.tid, getpid());
	assert_int_equal(write_at(rig, handle, 0, "x"), 0);
	assert_int_equal(run(rig, op_flush, .handle = handle, .pid = thread.tid), 0);
	assert_stored(rig, "f", "x");
	pthread_mutex_lock(&thread.lock);
	thread.over = true;
	pthread_cond_broadcast(&thread.changed);
	pthread_mutex_unlock(&thread.lock);
	pthread_join(id, NULL);
	assert_int_equal(close_file(rig, handle), 0);
}

static void a_reader_that_closes_commits_nothing_of_a_writers(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *writer, *reader;

	memstore_put(rig->ms, "f", "old");
	writer = open_file(rig, "f", O_WRONLY | O_TRUNC);
	reader = open_file(rig, "f", O_RDONLY);
	assert_int_equal(write_at(rig, writer, 0, "half"), 0);
	assert_int_equal(read_handle(rig, reader), 0);
	assert_string_equal(rig->out.p, "half"); /* programs here see it at once */
	assert_int_equal(run(rig, op_flush, .handle = reader), 0);
	assert_int_equal(run(rig, op_release, .handle = reader), 0);
	assert_stored(rig, "f", "old");
	assert_int_equal(write_at(rig, writer, 4, " whole"), 0);
	assert_int_equal(close_file(rig, writer), 0);
	assert_stored(rig, "f", "half whole");
}

static void two_writers_see_each_other(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *first = open_file(rig, "f", O_RDWR | O_CREAT);
	struct fs_handle *second = open_file(rig, "f", O_RDWR);

	assert_int_equal(write_at(rig, first, 0, "aaaa"), 0);
	assert_int_equal(write_at(rig, second, 2, "bb"), 0);
	assert_int_equal(read_handle(rig, first), 0);
	assert_string_equal(rig->out.p, "aabb");
	assert_int_equal(close_file(rig, first), 0);
	assert_stored(rig, "f", "aabb");
	assert_int_equal(write_at(rig, second, 4, "c"), 0);
	assert_int_equal(close_file(rig, second), 0);
	assert_stored(rig, "f", "aabbc");
}

static void sync_commits_everything(void **state)
{
	static const char *const names[] = { "a", "b", "c", "d", "e" };
	struct fs_handle *handles[5];
	struct rig *rig = *state;

	for (int i = 0; i < 5; i++) {
		handles[i] = open_file(rig, names[i], O_WRONLY | O_CREAT);
		assert_int_equal(write_at(rig, handles[i], 0, names[i]), 0);
	}
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_sync), 0);
	assert_requests(rig, 0, 5, 0, 0, 0);
	assert_int_equal(fs_figures(rig->fs).dirty_bytes, 0);
	for (int i = 0; i < 5; i++) {
		assert_stored(rig, names[i], names[i]);
		assert_int_equal(close_file(rig, handles[i]), 0);
	}
	assert_no_requests(rig);
}

static void sync_goes_on_behind_a_failure_and_reports_it(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *a = open_file(rig, "a", O_WRONLY | O_CREAT), *b = open_file(rig, "b", O_WRONLY | O_CREAT);

	assert_int_equal(write_at(rig, a, 0, "a"), 0);
	assert_int_equal(write_at(rig, b, 0, "b"), 0);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .key = "a", .err = -EACCES });
	assert_int_equal(run(rig, op_sync), -EACCES);
	assert_not_stored(rig, "a");
	assert_stored(rig, "b", "b");
	assert_int_equal(close_file(rig, a), -EACCES); /* its writer is told as well */
	assert_int_equal(close_file(rig, b), 0);
}

/* --- size --- */

static void truncation_by_path_is_committed_at_once(void **state)
{
	struct rig *rig = *state;
	struct fs_attr_change size = { .set_size = true, .size = 2 };
	uint64_t id;

	memstore_put(rig->ms, "f", "abcdef");
	id = id_of(rig, "f");
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_setattr, .id = id, .change = size), 0);
	assert_int_equal(rig->entry.st.st_size, 2);
	assert_stored(rig, "f", "ab");
	assert_requests(rig, 0, 1, 0, 0, 0);
	size.size = 4;
	assert_int_equal(run(rig, op_setattr, .id = id, .change = size), 0);
	assert_int_equal(read_file(rig, "f"), 0);
	assert_str(buf_str(&rig->out), str_of("ab\0\0", 4));
	size.size = 0;
	assert_int_equal(run(rig, op_setattr, .id = id, .change = size), 0);
	assert_stored(rig, "f", EMPTY_STUB);
}

static void truncation_by_handle_waits_for_the_close(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "f", "abcdef");
	handle = open_file(rig, "f", O_WRONLY);
	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .handle = handle,
			     .change = { .set_size = true, .size = 3 }),
			 0);
	assert_int_equal(rig->entry.st.st_size, 3);
	assert_stored(rig, "f", "abcdef");
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "f", "abc");
}

static void a_hole_reads_as_zeros(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_file(rig, "f", O_RDWR | O_CREAT);

	assert_int_equal(write_at(rig, handle, 3, "x"), 0);
	assert_int_equal(read_handle(rig, handle), 0);
	assert_str(buf_str(&rig->out), str_of("\0\0\0x", 4));
	assert_int_equal(run(rig, op_read, .handle = handle, .offset = 2, .size = 1), 0);
	assert_str(buf_str(&rig->out), str_of("\0", 1));
	assert_int_equal(run(rig, op_read, .handle = handle, .offset = UINT64_MAX, .size = 10), 0);
	assert_int_equal(rig->out.len, 0);
	assert_int_equal(close_file(rig, handle), 0);
	rig_restart(rig);
	assert_int_equal(read_file(rig, "f"), 0);
	assert_str(buf_str(&rig->out), str_of("\0\0\0x", 4));
}

static void beyond_what_a_file_can_have_is_refused_at_once(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_file(rig, "f", O_RDWR | O_CREAT);

	assert_int_equal(write_at(rig, handle, 0, "ok"), 0);
	assert_int_equal(write_at(rig, handle, (uint64_t)1 << 60, "x"), -EFBIG);
	assert_int_equal(write_at(rig, handle, UINT64_MAX, "x"), -EFBIG);
	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .handle = handle,
			     .change = { .set_size = true, .size = UINT64_MAX }),
			 -EFBIG);
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "f", "ok");
}

/* --- unlinked and gone --- */

static void an_unlinked_file_that_is_open_goes_on(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	uint64_t id;

	memstore_put(rig->ms, "f", "content");
	handle = open_file(rig, "f", O_RDWR);
	id = id_of(rig, "f");
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
	assert_not_stored(rig, "f");
	assert_int_equal(read_handle(rig, handle), 0);
	assert_string_equal(rig->out.p, "content");
	assert_int_equal(write_at(rig, handle, 0, "C"), 0);
	assert_int_equal(read_handle(rig, handle), 0);
	assert_string_equal(rig->out.p, "Content");
	assert_int_equal(run(rig, op_getattr, .id = id), 0);
	assert_int_equal(rig->entry.st.st_nlink, 0);
	assert_int_equal(rig->entry.st.st_size, 7);
	memstore_log_clear(rig->ms);
	assert_int_equal(close_file(rig, handle), 0);
	assert_no_requests(rig);
	assert_not_stored(rig, "f");
}

/* Its content was never read here: it is fetched before it goes. */
static void what_is_open_is_read_before_it_is_unlinked(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	memstore_put(rig->ms, "f", "content");
	handle = open_file(rig, "f", O_RDONLY);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
	assert_int_equal(read_handle(rig, handle), 0);
	assert_string_equal(rig->out.p, "content");
	assert_int_equal(close_file(rig, handle), 0);
}

static void a_file_deleted_elsewhere_is_stale_where_it_is_not_cached(void **state)
{
	struct rig *rig = *state;
	uint64_t id;

	memstore_put(rig->ms, "f", "content");
	id = id_of(rig, "f");
	memstore_remove(rig->ms, "f");
	rig_expire(rig);
	assert_int_equal(run(rig, op_open, .id = id, .flags = O_RDONLY), -ESTALE);
	assert_int_equal(run(rig, op_open, .id = 4711, .flags = O_RDONLY), -ESTALE);
	assert_int_equal(run(rig, op_getattr, .id = id), 0);
	assert_int_equal(rig->entry.st.st_nlink, 0);
	assert_int_equal(look(rig, "f"), -ENOENT);
}

static void unlink_of_a_file_never_stored_asks_nothing(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_file(rig, "f", O_WRONLY | O_CREAT);

	assert_int_equal(write_at(rig, handle, 0, "x"), 0);
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_no_requests(rig);
	assert_int_equal(look(rig, "f"), -ENOENT);
}

/* Another client deletes the file while a program here writes it: the program's content wins. */
static void a_foreign_delete_does_not_lose_what_is_being_written(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct call *stat;
	uint64_t id;

	memstore_put(rig->ms, "f", "old");
	handle = open_file(rig, "f", O_WRONLY);
	id = id_of(rig, "f");
	rig_expire(rig);
	memstore_remove(rig->ms, "f");
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_GET, .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	stat = begin(rig, op_getattr, .id = id);
	rig_until_held(rig, 1);
	assert_int_equal(write_at(rig, handle, 0, "new"), 0);
	memstore_release(rig->ms);
	assert_int_equal(end(stat), 0);
	rig_expire(rig);
	assert_lists(rig, "", "f ");
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "f", "new");
}

/* --- reading --- */

static void a_hundred_readers_of_a_cold_key_are_one_get(void **state)
{
	struct rig *rig = *state;
	struct call *calls[100];
	struct fs_handle *handle;

	for (int i = 0; i < 1500; i++) {
		char key[16];

		snprintf(key, sizeof(key), "k%04d", i);
		memstore_put(rig->ms, key, key);
	}
	handle = open_file(rig, "k1400", O_RDONLY);
	memstore_put(rig->ms, "k1400", "changed");
	rig_expire(rig);
	memstore_log_clear(rig->ms);
	for (int i = 0; i < 100; i++)
		calls[i] = begin(rig, op_getattr, .id = id_of(rig, "k1400"));
	for (int i = 0; i < 100; i++)
		assert_int_equal(end(calls[i]), 0);
	assert_int_equal(memstore_count_key(rig->ms, STORE_GET, "k1400"), 1);
	assert_int_equal(read_handle(rig, handle), 0);
	assert_string_equal(rig->out.p, "changed");
	assert_int_equal(close_file(rig, handle), 0);
}

static void the_kernels_pages_hold_while_the_content_does(void **state)
{
	struct rig *rig = *state;
	uint64_t id;

	memstore_put(rig->ms, "f", "one");
	id = id_of(rig, "f");
	assert_int_equal(close_file(rig, open_file(rig, "f", O_RDONLY)), 0);
	assert_false(rig->keep_cache);
	assert_int_equal(run(rig, op_open, .id = id, .flags = O_RDONLY), 0);
	assert_true(rig->keep_cache);
	assert_int_equal(close_file(rig, rig->handle), 0);
	memstore_put(rig->ms, "f", "two");
	rig_expire(rig);
	assert_int_equal(run(rig, op_open, .id = id, .flags = O_RDONLY), 0);
	assert_false(rig->keep_cache);
	assert_int_equal(close_file(rig, rig->handle), 0);
	assert_reads(rig, "f", "two");
}

/* --- times --- */

static int64_t mtime_of(struct rig *rig, const char *path)
{
	id_of(rig, path);
	return (int64_t)rig->entry.st.st_mtim.tv_sec * 1000000000 + rig->entry.st.st_mtim.tv_nsec;
}

static void mtimes_survive_a_remount(void **state)
{
	struct rig *rig = *state;
	int64_t foreign, own, set;

	rig_use_state(rig);
	rig_restart(rig);
	memstore_put(rig->ms, "foreign", "x");
	memstore_put(rig->ms, "set", "y");
	foreign = mtime_of(rig, "foreign");
	assert_int_equal(write_file(rig, "own", "z"), 0);
	own = mtime_of(rig, "own");
	set = 1234567890123456789;
	assert_int_equal(
		run(rig, op_setattr, .id = id_of(rig, "set"), .change = { .set_mtime = true, .mtime_ns = set }), 0);
	rig_restart(rig);
	assert_int_equal(mtime_of(rig, "foreign"), foreign);
	assert_int_equal(mtime_of(rig, "own"), own);
	assert_int_equal(mtime_of(rig, "set"), set);
	memstore_put(rig->ms, "set", "changed");
	rig_restart(rig);
	assert_true(mtime_of(rig, "set") > set);
	assert_int_equal(run(rig, op_rename, .parent = FS_ROOT_ID, .name = "foreign", .new_parent = FS_ROOT_ID,
			     .new_name = "moved"),
			 0);
	assert_int_equal(mtime_of(rig, "moved"), foreign);
	rig_restart(rig);
	assert_int_equal(mtime_of(rig, "moved"), foreign);
}

/* rsync writes, sets the time, then closes or not: the time is the one that was set. */
static void a_time_set_before_the_commit_stays(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	int64_t set = 1000000000000000001;

	rig_use_state(rig);
	rig_restart(rig);
	handle = open_file(rig, "f", O_WRONLY | O_CREAT);
	assert_int_equal(write_at(rig, handle, 0, "x"), 0);
	assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .handle = handle,
			     .change = { .set_mtime = true, .mtime_ns = set }),
			 0);
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(mtime_of(rig, "f"), set);
	rig_restart(rig);
	assert_int_equal(mtime_of(rig, "f"), set);
}

static void a_foreign_change_moves_the_time_and_invalidates(void **state)
{
	struct rig *rig = *state;
	int64_t before;
	uint64_t id;

	memstore_put(rig->ms, "f", "one");
	before = mtime_of(rig, "f");
	id = rig->entry.id;
	rig_expire(rig);
	assert_int_equal(mtime_of(rig, "f"), before); /* the same value: the same time */
	memstore_put(rig->ms, "f", "two");
	rig_expire(rig);
	rig_notes_clear(rig);
	assert_true(mtime_of(rig, "f") > before);
	assert_true(rig_was_expired(rig, FS_ROOT_ID, "f"));
	assert_true(rig_was_invalidated(rig, id));
}

static void inode_numbers_survive_a_remount_and_a_rename(void **state)
{
	struct rig *rig = *state;
	ino_t ino;

	memstore_put(rig->ms, "d/f", "x");
	id_of(rig, "d/f");
	ino = rig->entry.st.st_ino;
	rig_restart(rig);
	id_of(rig, "d/f");
	assert_int_equal(rig->entry.st.st_ino, ino);
	assert_int_equal(
		run(rig, op_rename, .parent = id_of(rig, "d"), .name = "f", .new_parent = FS_ROOT_ID, .new_name = "g"),
		0);
	id_of(rig, "g");
	assert_int_equal(rig->entry.st.st_ino, ino);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fs_test(echo_into_a_new_file_is_one_set),
		fs_test(echo_into_an_old_file_is_one_set),
		fs_test(touch_is_one_set_at_release),
		fs_test(truncation_by_open_alone_is_committed_at_release),
		fs_test(fsync_commits),
		fs_test(small_binary_content_is_one_set),
		fs_test(an_append_is_one_patch),
		fs_test(an_append_keeps_what_others_appended),
		fs_test(several_appends_before_the_close_are_one_patch),
		fs_test(what_patch_would_not_append_is_set),
		fs_test(append_made_binary),
		fs_test(an_append_at_a_stale_end_invalidates),
		fs_test(an_append_during_the_commit_of_another),
		fs_test(the_close_of_an_inherited_copy_commits_nothing),
		fs_test(another_thread_of_the_process_commits),
		fs_test(a_reader_that_closes_commits_nothing_of_a_writers),
		fs_test(two_writers_see_each_other),
		fs_test(sync_commits_everything),
		fs_test(sync_goes_on_behind_a_failure_and_reports_it),
		fs_test(truncation_by_path_is_committed_at_once),
		fs_test(truncation_by_handle_waits_for_the_close),
		fs_test(a_hole_reads_as_zeros),
		fs_test(beyond_what_a_file_can_have_is_refused_at_once),
		fs_test(an_unlinked_file_that_is_open_goes_on),
		fs_test(what_is_open_is_read_before_it_is_unlinked),
		fs_test(a_file_deleted_elsewhere_is_stale_where_it_is_not_cached),
		fs_test(unlink_of_a_file_never_stored_asks_nothing),
		fs_test(a_foreign_delete_does_not_lose_what_is_being_written),
		fs_test(a_hundred_readers_of_a_cold_key_are_one_get),
		fs_test(the_kernels_pages_hold_while_the_content_does),
		fs_test(mtimes_survive_a_remount),
		fs_test(a_time_set_before_the_commit_stays),
		fs_test(a_foreign_change_moves_the_time_and_invalidates),
		fs_test(inode_numbers_survive_a_remount_and_a_rename),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
