/* Directories read by programs, piece by piece, and what the kernel keeps of them. */
#include "fs_rig.h"

#include "fs/internal.h"

/* --- reading a directory in pieces --- */

struct pieces {
	unsigned left; /* taken before the buffer is full */
	uint64_t next;
	struct buf names;
};

static bool take_some(void *arg, struct str name, const struct fs_entry *entry, uint64_t next)
{
	struct pieces *pieces = arg;

	(void)entry;
	if (pieces->left == 0)
		return false;
	pieces->left--;
	pieces->next = next;
	if (name.p[0] != '.') {
		assert_int_equal(buf_add_str(&pieces->names, name), 0);
		assert_int_equal(buf_add_char(&pieces->names, ' '), 0);
	}
	return true;
}

struct piece_call {
	struct fs_handle *handle;
	struct pieces *pieces;
	int r;
	bool done;
};

static void piece_run(void *arg)
{
	struct piece_call *call = arg;

	call->r = fs_readdir(call->handle, call->pieces->next, true, take_some, call->pieces);
	call->done = true;
}

static void read_piece(struct rig *rig, struct fs_handle *handle, struct pieces *pieces, unsigned count)
{
	struct piece_call call = { .handle = handle, .pieces = pieces };

	pieces->left = count;
	assert_int_equal(co_start(rig->loop, piece_run, &call), 0);
	while (!call.done)
		loop_once(rig->loop);
	assert_int_equal(call.r, 0);
}

static void removals_while_a_directory_is_read(void **state)
{
	struct rig *rig = *state;
	struct pieces pieces = { 0 };
	struct fs_handle *handle;
	char name[16];

	put_numbered(rig, "f%02d", 40);
	assert_int_equal(fs_opendir(rig->fs, FS_ROOT_ID, &handle), 0);
	/* as rm -r in a filesystem without snapshots: what was read goes, and the rest is still all there */
	for (int i = -1; i < 40;) {
		read_piece(rig, handle, &pieces, 3);
		for (int last = i + (i < 0 ? 2 : 3); i < last && i < 40; i++) {
			if (i < 0)
				continue;
			snprintf(name, sizeof(name), "f%02d", i);
			assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = name), 0);
		}
		rig_expire(rig);
	}
	assert_int_equal(words(pieces.names.p), 40);
	assert_int_equal(memstore_size(rig->ms), 0);
	fs_releasedir(handle);
	buf_free(&pieces.names);
}

/* What the sweep takes of a directory that is open would be missing from the pieces still to be read. */
static void a_sweep_while_a_directory_is_read(void **state)
{
	struct rig *rig = *state;
	struct pieces pieces = { 0 };
	struct fs_handle *handle;

	put_numbered(rig, "f%02d", 40);
	assert_int_equal(fs_opendir(rig->fs, FS_ROOT_ID, &handle), 0);
	for (unsigned i = 0; i < 21; i++) {
		read_piece(rig, handle, &pieces, 2);
		rig_expire(rig);
		nodes_sweep(rig->fs);
	}
	assert_int_equal(words(buf_str(&pieces.names).p), 40);
	buf_free(&pieces.names);
	for (uint64_t id = FS_ROOT_ID + 1; id <= FS_ROOT_ID + 40; id++)
		fs_forget(rig->fs, id, 1);
	fs_releasedir(handle);
	nodes_sweep(rig->fs);
	assert_int_equal(fs_figures(rig->fs).nodes, 1);
}

static void entries_that_were_taken_count_as_looked_up(void **state)
{
	struct rig *rig = *state;
	struct pieces pieces = { 0 };
	struct fs_handle *handle;
	uint64_t nodes;

	put_numbered(rig, "f%02d", 10);
	assert_int_equal(fs_opendir(rig->fs, FS_ROOT_ID, &handle), 0);
	read_piece(rig, handle, &pieces, 2 + 4);
	fs_releasedir(handle);
	buf_free(&pieces.names);
	nodes = fs_figures(rig->fs).nodes;
	assert_int_equal(nodes, 1 + 10);
	/* all are removed elsewhere: those that the kernel knows stay until it forgets them */
	for (int i = 0; i < 10; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%02d", i);
		memstore_remove(rig->ms, name);
	}
	rig_expire(rig);
	assert_lists(rig, "", "");
	assert_int_equal(fs_figures(rig->fs).nodes, 1 + 4);
	for (uint64_t id = FS_ROOT_ID + 1; id <= FS_ROOT_ID + 10; id++)
		fs_forget(rig->fs, id, 1);
	assert_int_equal(fs_figures(rig->fs).nodes, 1);
}

static bool count_given(void *arg, struct str name, const struct fs_entry *entry, uint64_t next)
{
	unsigned *given = arg;

	(void)name;
	(void)next;
	*given += entry->id != 0;
	return true;
}

struct reading {
	struct fs_handle *handle;
	unsigned given;
	int r;
};

static void read_plus(void *arg)
{
	struct reading *reading = arg;

	reading->r = fs_readdir(reading->handle, 0, true, count_given, &reading->given);
}

static unsigned given_by_a_listing(struct rig *rig, struct fs_handle *handle)
{
	struct reading reading = { .handle = handle, .r = 1 };

	assert_int_equal(co_start(rig->loop, read_plus, &reading), 0);
	while (reading.r == 1)
		loop_once(rig->loop);
	assert_int_equal(reading.r, 0);
	return reading.given;
}

/* The kernel links every entry anew that has an id: what it holds and believes anyway goes without. */
static void a_second_listing_gives_only_what_the_kernel_lacks(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;

	put_numbered(rig, "f%02d", 10);
	assert_int_equal(fs_opendir(rig->fs, FS_ROOT_ID, &handle), 0);
	assert_int_equal(given_by_a_listing(rig, handle), 10);
	assert_int_equal(given_by_a_listing(rig, handle), 0);
	fs_forget(rig->fs, id_of(rig, "f03"), 2);
	assert_int_equal(given_by_a_listing(rig, handle), 1);
	memstore_put(rig->ms, "f04", "changed");
	rig_expire(rig);
	assert_int_equal(given_by_a_listing(rig, handle), 10);
	fs_releasedir(handle);
}

/* --- the kernel's copy of a directory's names --- */

static enum fs_copy opened(struct rig *rig, struct fs_handle **handle)
{
	assert_int_equal(fs_opendir(rig->fs, FS_ROOT_ID, handle), 0);
	return fs_copy(*handle);
}

/* Opens, reads and closes the root. */
static enum fs_copy read_root(struct rig *rig)
{
	struct fs_handle *handle;
	enum fs_copy copy = opened(rig, &handle);

	assert_int_equal(run(rig, op_readdir, .handle = handle), 0);
	fs_releasedir(handle);
	return copy;
}

static void a_copy_of_names_is_kept_while_they_are_right(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "a", "1");
	assert_int_equal(read_root(rig), FS_COPY_RENEW);
	assert_int_equal(read_root(rig), FS_COPY_KEEP);
	assert_int_equal(read_root(rig), FS_COPY_KEEP);
	rig_pass(RIG_TTL_US / 2);
	assert_int_equal(read_root(rig), FS_COPY_RENEW);
	rig_pass(RIG_TTL_US / 2);
	assert_int_equal(read_root(rig), FS_COPY_RENEW); /* this one lists again */
	assert_int_equal(read_root(rig), FS_COPY_KEEP);
	memstore_put(rig->ms, "elsewhere", "1");
	rig_pass(RIG_TTL_US / 4);
	assert_int_equal(read_root(rig), FS_COPY_KEEP);
	rig_expire(rig);
	assert_int_equal(look(rig, "elsewhere"), 0);
	assert_int_equal(read_root(rig), FS_COPY_RENEW);
}

static void a_copy_of_names_ends_with_a_change(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "d/x", "1");
	memstore_put(rig->ms, "f", "1");
	read_root(rig);
	write_file(rig, "new", "1");
	assert_int_equal(read_root(rig), FS_COPY_RENEW);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "new"), 0);
	assert_int_equal(read_root(rig), FS_COPY_RENEW);
	assert_int_equal(
		run(rig, op_rename, .parent = FS_ROOT_ID, .name = "f", .new_parent = FS_ROOT_ID, .new_name = "g"), 0);
	assert_int_equal(read_root(rig), FS_COPY_RENEW);
	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "e", .mode = 0755), 0);
	assert_int_equal(read_root(rig), FS_COPY_RENEW);
	assert_int_equal(run(rig, op_rmdir, .parent = FS_ROOT_ID, .name = "e"), 0);
	assert_int_equal(read_root(rig), FS_COPY_RENEW);
	write_file(rig, "g", "no name comes or goes");
	assert_int_equal(read_root(rig), FS_COPY_KEEP);
}

/* The answer to a READDIR may reach the copy long after it was given: as long as the handle is open. */
static void a_copy_of_names_that_was_filled_during_a_change(void **state)
{
	struct rig *rig = *state;
	struct pieces pieces = { 0 };
	struct fs_handle *slow, *other;

	put_numbered(rig, "f%02d", 10);
	assert_int_equal(opened(rig, &slow), FS_COPY_RENEW);
	read_piece(rig, slow, &pieces, 5);
	write_file(rig, "new", "1");
	assert_int_equal(opened(rig, &other), FS_COPY_BYPASS);
	assert_int_equal(run(rig, op_readdir, .handle = other), 0);
	read_piece(rig, slow, &pieces, 20);
	fs_releasedir(slow);
	/* neither by what read past the copy, nor by what was read on both sides of the change */
	assert_int_equal(read_root(rig), FS_COPY_RENEW);
	assert_int_equal(read_root(rig), FS_COPY_KEEP);
	fs_releasedir(other);
	buf_free(&pieces.names);
}

static void two_at_once_do_not_begin_a_copy_of_names(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *first, *second, *third;

	memstore_put(rig->ms, "a", "1");
	assert_int_equal(opened(rig, &first), FS_COPY_RENEW);
	assert_int_equal(opened(rig, &second), FS_COPY_BYPASS);
	assert_int_equal(run(rig, op_readdir, .handle = first), 0);
	assert_int_equal(opened(rig, &third), FS_COPY_KEEP);
	fs_releasedir(first);
	/* the kernel lost its copy, and reads by a handle that should have needed no answer */
	write_file(rig, "new", "1");
	assert_int_equal(run(rig, op_readdir, .handle = third), 0);
	assert_int_equal(read_root(rig), FS_COPY_BYPASS);
	fs_releasedir(third);
	assert_int_equal(read_root(rig), FS_COPY_RENEW);
	assert_int_equal(read_root(rig), FS_COPY_KEEP);
	fs_releasedir(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fs_test(removals_while_a_directory_is_read),
		fs_test(a_sweep_while_a_directory_is_read),
		fs_test(entries_that_were_taken_count_as_looked_up),
		fs_test(a_second_listing_gives_only_what_the_kernel_lacks),
		fs_test(a_copy_of_names_is_kept_while_they_are_right),
		fs_test(a_copy_of_names_ends_with_a_change),
		fs_test(a_copy_of_names_that_was_filled_during_a_change),
		fs_test(two_at_once_do_not_begin_a_copy_of_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
