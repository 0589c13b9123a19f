/* Handles that are closed while requests use them, and what the kernel is told
 * of requests that it has given up. */
#include "fs_rig.h"

#include "fs/internal.h"

/* A file that is stored, open, and not in memory. */
static struct fs_handle *open_cold(struct rig *rig, int flags)
{
	struct fs_handle *handle;

	assert_int_equal(write_file(rig, "f", "old"), 0);
	handle = open_file(rig, "f", flags);
	value_drop(node_find(rig->fs, id_of(rig, "f")));
	return handle;
}

static struct call *begin_held(struct rig *rig, int (*op)(struct call *), struct args args)
{
	struct call *call;

	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_GET, .hold = MEMSTORE_HOLD_REPLY });
	fs_handle_hold(args.handle);
	call = begin_call(rig, op, args);
	rig_until_held(rig, 1);
	return call;
}

static int end_held(struct call *call)
{
	struct rig *rig = call->rig;
	struct fs_handle *handle = call->args.handle;
	int r;

	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	r = end(call);
	fs_handle_drop(handle);
	return r;
}

static void the_last_close_waits_for_a_read(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_cold(rig, O_RDONLY);
	struct call *read = begin_held(rig, op_read, (struct args){ .handle = handle, .size = 10 });
	struct call *release = begin(rig, op_release, .handle = handle);

	rig_serve(rig, 1000);
	assert_false(release->done);
	assert_int_equal(fs_figures(rig->fs).handles, 1);
	assert_int_equal(end_held(read), 0);
	assert_string_equal(rig->out.p, "old");
	assert_int_equal(end(release), 0);
	assert_int_equal(fs_figures(rig->fs).handles, 0);
}

/* The process has closed the file before its write was done, which that close
 * could not commit. */
static void the_last_close_commits_what_is_written_meanwhile(void **state)
{
	struct rig *rig = *state;

	for (int flushed = 0; flushed < 2; flushed++) {
		struct fs_handle *handle = open_cold(rig, O_WRONLY);
		struct call *write = begin_held(rig, op_write, (struct args){ .handle = handle, .data = STR("new") });
		struct call *release;

		if (flushed)
			assert_int_equal(run(rig, op_flush, .handle = handle), 0);
		release = begin(rig, op_release, .handle = handle);
		rig_serve(rig, 1000);
		assert_false(release->done);
		assert_stored(rig, "f", "old");
		assert_int_equal(end_held(write), 0);
		assert_int_equal(end(release), 0);
		assert_stored(rig, "f", "new");
		assert_int_equal(fs_figures(rig->fs).dirty_bytes, 0);
		assert_int_equal(fs_figures(rig->fs).handles, 0);
	}
}

static void the_last_close_waits_for_all(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_cold(rig, O_RDONLY);
	struct call *release;

	fs_handle_hold(NULL); /* what has none */
	fs_handle_drop(NULL);
	fs_handle_hold(handle);
	fs_handle_hold(handle);
	release = begin(rig, op_release, .handle = handle);
	fs_handle_drop(handle);
	rig_serve(rig, 1000);
	assert_false(release->done);
	fs_handle_drop(handle);
	assert_int_equal(end(release), 0);
}

/* Not a wait: the handle stays behind. */
static void a_closed_directory_stays_for_who_reads_it(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle, *other;
	struct call *readdir;

	memstore_put(rig->ms, "a", "1");
	assert_int_equal(fs_opendir(rig->fs, FS_ROOT_ID, &handle), 0);
	assert_int_equal(fs_copy(handle), FS_COPY_RENEW);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_RANGE, .hold = MEMSTORE_HOLD_REPLY });
	readdir = begin_held(rig, op_readdir, (struct args){ .handle = handle });
	fs_releasedir(handle);
	assert_int_equal(fs_figures(rig->fs).handles, 1);
	assert_int_equal(end_held(readdir), 0);
	assert_string_equal(rig->out.p, "a ");
	assert_int_equal(fs_figures(rig->fs).handles, 0);
	assert_int_equal(fs_opendir(rig->fs, FS_ROOT_ID, &other), 0);
	assert_int_not_equal(fs_copy(other), FS_COPY_BYPASS); /* the first fills the kernel's copy no more */
	fs_releasedir(other);
	assert_int_equal(fs_figures(rig->fs).handles, 0);
}

static void the_kernel_asks_again_for_what_it_has_given_up(void **state)
{
	struct rig *rig = *state;
	uint64_t id;

	assert_int_equal(write_file(rig, "f", "x"), 0);
	id = id_of(rig, "f");
	rig_notes_clear(rig);
	fs_unanswered(rig->fs, id, STR(""));
	assert_true(rig_was_expired(rig, FS_ROOT_ID, "f"));
	assert_true(rig_was_invalidated(rig, id));
	rig_notes_clear(rig);
	fs_unanswered(rig->fs, FS_ROOT_ID, STR("new"));
	assert_true(rig_was_expired(rig, FS_ROOT_ID, "new"));
	assert_true(rig_was_invalidated(rig, FS_ROOT_ID));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fs_test(the_last_close_waits_for_a_read),
		fs_test(the_last_close_commits_what_is_written_meanwhile),
		fs_test(the_last_close_waits_for_all),
		fs_test(a_closed_directory_stays_for_who_reads_it),
		fs_test(the_kernel_asks_again_for_what_it_has_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
