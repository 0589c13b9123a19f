/* What the parties do, as the kernel would ask it of a mount for a program. */
#include "sim.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <unistd.h>

struct str sim_op_text(const struct sim_op *op, struct buf *buf)
{
	if (op->text)
		return str_c(op->text);
	sim_must(buf_resize(buf, op->count) == 0, "no memory");
	if (op->count)
		memset(buf->p, op->fill, op->count);
	return buf_str(buf);
}

static const struct fs_maker maker = { .uid = 1000, .gid = 1000, .umask = 022 };

/* The directory's id, and the last name. */
static co_fn int walk(struct fs *fs, const char *path, uint64_t *dir, struct str *name)
{
	const char *slash;
	int r = 0;

	*dir = FS_ROOT_ID;
	while (r == 0 && (slash = strchr(path, '/'))) {
		struct fs_entry entry = { 0 };

		r = fs_lookup(fs, *dir, str_of(path, (size_t)(slash - path)), &entry);
		*dir = entry.id;
		path = slash + 1;
	}
	*name = str_c(path);
	return r;
}

static co_fn int open_once(struct fs *fs, const char *path, int flags, mode_t mode, struct fs_handle **handle)
{
	struct fs_entry entry;
	struct str name;
	uint64_t dir;
	bool keep;
	int r = walk(fs, path, &dir, &name);

	if (r == 0)
		r = fs_lookup(fs, dir, name, &entry);
	if (r == -ENOENT && (flags & O_CREAT))
		return fs_create(fs, dir, name, mode ? mode : 0644, flags, &maker, getpid(), &entry, handle);
	return r < 0 ? r : fs_open(fs, entry.id, flags & ~O_CREAT, getpid(), handle, &keep);
}

/* The kernel looks a name up again whose file is stale. */
static co_fn int open_path(struct fs *fs, const char *path, int flags, mode_t mode, struct fs_handle **handle)
{
	int r = open_once(fs, path, flags, mode, handle);

	return r == -ESTALE ? open_once(fs, path, flags, mode, handle) : r;
}

static co_fn void pause_open(struct party *party, const struct sim_op *op)
{
	if (op->pause && co_sleep(party->loop, op->pause * 1000000ull) < 0)
		sim_must(party->dead, "a pause is interrupted");
}

static co_fn int write_and_close(struct party *party, const struct sim_op *op, int flags)
{
	struct fs *fs = party->fs;
	CLEANUP(buf_free) struct buf buf = BUF_INIT;
	struct str text = sim_op_text(op, &buf);
	struct fs_handle *handle;
	int r = open_path(fs, op->path, flags, op->mode, &handle), closed;

	if (r < 0)
		return r;
	r = text.len ? fs_write(handle, op->offset, text, getpid()) : 0;
	pause_open(party, op);
	closed = fs_flush(handle, getpid());
	if (r == 0 && closed == 0 && !text.len)
		closed = fs_fsync(handle); /* what release commits tells nobody of its failure */
	fs_release(handle);
	return r < 0 ? r : closed;
}

static co_fn int read_whole(struct party *party, const struct sim_op *op)
{
	struct buf *out = &party->sim->ops[party->op].read;
	struct fs_handle *handle;
	int r = open_path(party->fs, op->path, O_RDONLY, 0, &handle);

	if (r < 0)
		return r;
	pause_open(party, op);
	r = fs_read(handle, 0, 1 << 20, out);
	fs_release(handle);
	return r;
}

static bool gave(const struct sim_op *op, const char *path, struct str read)
{
	CLEANUP(buf_free) struct buf buf = BUF_INIT;

	return (op->verb == SIM_WRITE || op->verb == SIM_SET) && strcmp(op->path, path) == 0 &&
	       str_equal(sim_op_text(op, &buf), read);
}

bool sim_read_is_whole(const struct sim *sim, unsigned op)
{
	struct str read = buf_str(&sim->ops[op].read);
	const char *path = sim->c->ops[op].path;
	bool whole = false;

	for (unsigned i = 0; i < SIM_OPS_MAX; i++)
		whole |= gave(&sim->c->before[i], path, read) || gave(&sim->c->ops[i], path, read);
	return whole;
}

static co_fn int change_attributes(struct fs *fs, const char *path, const struct fs_attr_change *change)
{
	struct fs_entry entry;
	struct str name;
	uint64_t dir;
	int r = walk(fs, path, &dir, &name);

	if (r == 0)
		r = fs_lookup(fs, dir, name, &entry);
	if (r == 0)
		r = fs_setattr(fs, entry.id, NULL, change, &entry);
	return r == 0 ? fs_sync(fs) : r;
}

static co_fn int change_xattr(struct fs *fs, const struct sim_op *op)
{
	struct fs_entry entry;
	struct str name;
	uint64_t dir;
	int r = walk(fs, op->path, &dir, &name);

	if (r == 0)
		r = fs_lookup(fs, dir, name, &entry);
	if (r == 0)
		r = fs_setxattr(fs, entry.id, STR("user.note"), str_c(op->text), 0, true);
	return r == 0 ? fs_sync(fs) : r;
}

static co_fn int change_names(struct fs *fs, const struct sim_op *op)
{
	struct fs_entry entry;
	struct str name, to;
	uint64_t dir, to_dir;
	int r = walk(fs, op->path, &dir, &name);

	if (r < 0)
		return r;
	if (op->verb == SIM_UNLINK)
		return fs_unlink(fs, dir, name);
	if (op->verb == SIM_RMDIR)
		return fs_rmdir(fs, dir, name);
	if (op->verb == SIM_MKDIR)
		return fs_mkdir(fs, dir, name, 0755, &maker, &entry);
	r = walk(fs, op->to, &to_dir, &to);
	return r < 0 ? r : fs_rename(fs, dir, name, to_dir, to, op->verb == SIM_EXCHANGE ? RENAME_EXCHANGE : 0);
}

static co_fn int foreign(struct party *party, const struct sim_op *op)
{
	CLEANUP(buf_free) struct buf buf = BUF_INIT;
	struct store_expect unknown = { .what = STORE_EXPECT_UNKNOWN };
	struct str key = str_c(op->path);

	if (op->verb == SIM_DELETE)
		return store_delete(&party->store, key, unknown);
	if (op->verb == SIM_COPY) {
		int r = store_get(&party->store, key, &buf);

		return r < 0 ? r : store_set(&party->store, str_c(op->to), buf_str(&buf), unknown);
	}
	if (op->verb == SIM_PATCH)
		return store_patch(&party->store, key, sim_op_text(op, &buf));
	return store_set(&party->store, key, sim_op_text(op, &buf), unknown);
}

int sim_op_run(struct party *party, const struct sim_op *op)
{
	struct fs_attr_change size = { .set_size = true, .size = op->offset };
	struct fs_attr_change mode = { .set_mode = true, .mode = op->mode };

	switch (op->verb) {
	case SIM_WRITE:
		return write_and_close(party, op, O_WRONLY | O_CREAT | O_TRUNC);
	case SIM_APPEND:
		return write_and_close(party, op, O_WRONLY | O_APPEND);
	case SIM_WRITE_AT:
		return write_and_close(party, op, O_WRONLY);
	case SIM_READ:
		return read_whole(party, op);
	case SIM_RESIZE:
		return change_attributes(party->fs, op->path, &size);
	case SIM_CHMOD:
		return change_attributes(party->fs, op->path, &mode);
	case SIM_XATTR:
		return change_xattr(party->fs, op);
	case SIM_UNLINK:
	case SIM_RENAME:
	case SIM_EXCHANGE:
	case SIM_MKDIR:
	case SIM_RMDIR:
		return change_names(party->fs, op);
	case SIM_SET:
	case SIM_DELETE:
	case SIM_PATCH:
	case SIM_COPY:
		return foreign(party, op);
	case SIM_WAIT:
		return co_sleep(party->loop, (op->offset ? op->offset : 200) * 1000000ull);
	case SIM_CHECK:
		return sim_check(party, NULL);
	case SIM_NONE:
		break;
	}
	return -EINVAL;
}
