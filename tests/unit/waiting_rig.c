#include "waiting_rig.h"

#define PATTERNS "*.swp:*.swx:*.swpx:4913:.*.??????:sed??????:*~:*.lock:tmp_*_??????:.tmp-*-pack-*"

void use_with(struct rig *rig, const char *names, uint64_t local_ttl_us, uint64_t commit_us)
{
	rig->config.local = STR(PATTERNS);
	rig->config.local_ttl_us = local_ttl_us;
	rig->config.commit_us = commit_us;
	rig_restart(rig);
	assert_int_equal(run(rig, op_start), 0);
	assert_lists(rig, "", names);
	memstore_log_clear(rig->ms);
}

int waiting_setup(void **state)
{
	int r = attr_setup(state);

	use_with(*state, "", LATE_US, LATE_US);
	return r;
}

struct fs_handle *make_temporary(struct rig *rig, const char *name, const char *text, mode_t mode)
{
	struct fs_handle *handle;

	assert_int_equal(run(rig, op_create, .parent = FS_ROOT_ID, .name = name, .mode = mode,
			     .flags = O_CREAT | O_EXCL | O_RDWR),
			 0);
	handle = rig->handle;
	assert_int_equal(write_at(rig, handle, 0, text), 0);
	return handle;
}

void temporary(struct rig *rig, const char *name, const char *text)
{
	assert_int_equal(close_file(rig, make_temporary(rig, name, text, 0644)), 0);
}

int rename_to(struct rig *rig, const char *from, const char *to)
{
	return run(rig, op_rename, .parent = FS_ROOT_ID, .name = from, .new_parent = FS_ROOT_ID, .new_name = to);
}

int remove_file(struct rig *rig, const char *name)
{
	return run(rig, op_unlink, .parent = FS_ROOT_ID, .name = name);
}

void until_stored(struct rig *rig, const char *key)
{
	while (!memstore_value(rig->ms, key))
		loop_once(rig->loop);
}

void until_not_stored(struct rig *rig, const char *key)
{
	while (memstore_value(rig->ms, key))
		loop_once(rig->loop);
}

void fail_sets(struct rig *rig, int err, unsigned times)
{
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_SET, .err = err, .times = times });
}
