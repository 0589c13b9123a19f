#include "attr_rig.h"

int attr_setup(void **state)
{
	struct rig *rig;

	if (rig_setup(state) < 0)
		return -1;
	rig = *state;
	memstore_put(rig->ms, ".hpkvfs/fs", "{\"v\":1,\"delimiter\":\"/\"}");
	assert_int_equal(run(rig, op_start), 0);
	memstore_log_clear(rig->ms);
	return 0;
}

static struct fs_maker maker_of(const struct call *call)
{
	return call->args.maker.uid ? call->args.maker : (struct fs_maker){ .uid = RIG_UID, .gid = RIG_GID };
}

int op_mknod(struct call *call)
{
	struct fs_maker maker = maker_of(call);

	return fs_mknod(call->rig->fs, call->args.parent, str_c(call->args.name), call->args.mode,
			(uint32_t)call->args.size, &maker, &call->entry);
}

int op_symlink(struct call *call)
{
	struct fs_maker maker = maker_of(call);

	return fs_symlink(call->rig->fs, call->args.parent, str_c(call->args.name), str_c(call->args.new_name), &maker,
			  &call->entry);
}

int op_setxattr(struct call *call)
{
	return fs_setxattr(call->rig->fs, call->args.id, str_c(call->args.name), call->args.data, call->args.flags,
			   true);
}

int op_getxattr(struct call *call)
{
	return fs_getxattr(call->rig->fs, call->args.id, str_c(call->args.name), &call->out);
}

int op_listxattr(struct call *call)
{
	int r = fs_listxattr(call->rig->fs, call->args.id, call->args.flags, &call->out);

	for (size_t i = 0; i < call->out.len; i++)
		if (call->out.p[i] == '\0')
			call->out.p[i] = ' ';
	return r;
}

int op_removexattr(struct call *call)
{
	return fs_removexattr(call->rig->fs, call->args.id, str_c(call->args.name));
}

void make_file(struct rig *rig, const char *name, mode_t mode, const char *text)
{
	struct fs_handle *handle;

	assert_int_equal(look(rig, name), -ENOENT);
	memstore_log_clear(rig->ms);
	assert_int_equal(run(rig, op_create, .parent = FS_ROOT_ID, .name = name, .mode = mode, .flags = O_WRONLY), 0);
	handle = rig->handle;
	assert_int_equal(write_at(rig, handle, 0, text), 0);
	assert_int_equal(close_file(rig, handle), 0);
}

static int change(struct rig *rig, const char *path, struct fs_attr_change change)
{
	return run(rig, op_setattr, .id = id_of(rig, path), .change = change);
}

int change_mode(struct rig *rig, const char *path, mode_t mode)
{
	return change(rig, path, (struct fs_attr_change){ .set_mode = true, .mode = mode });
}

int change_owner(struct rig *rig, const char *path, uint32_t uid)
{
	return change(rig, path, (struct fs_attr_change){ .set_uid = true, .uid = uid });
}

int change_mtime(struct rig *rig, const char *path, int64_t ns)
{
	return change(rig, path, (struct fs_attr_change){ .set_mtime = true, .mtime_ns = ns });
}

int set_xattr(struct rig *rig, const char *path, const char *name, const char *value)
{
	return run(rig, op_setxattr, .id = id_of(rig, path), .name = name, .data = str_c(value));
}

struct stat stat_of(struct rig *rig, const char *path)
{
	id_of(rig, path);
	return rig->entry.st;
}

struct stat fresh_stat(struct rig *rig, const char *path)
{
	rig_restart(rig);
	assert_int_equal(run(rig, op_start), 0);
	return stat_of(rig, path);
}

int64_t mtime_of(const struct stat *st)
{
	return st->st_mtim.tv_sec * 1000000000ll + st->st_mtim.tv_nsec;
}
