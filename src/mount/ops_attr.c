#include "mount/ops_attr.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/clock.h"
#include "fs/verbs.h"
#include "mount/hidden.h"
#include "mount/request.h"

#define VERB_WAIT_US (1 * (uint64_t)CLOCK_US_PER_S)

/* --- attributes --- */

static void answer_attr(struct request *request, const struct fs_entry *entry)
{
	fuse_req_t req = answer_take(request);

	if (req)
		fuse_reply_attr(req, &entry->st, kernel_ttl(entry->ttl_us));
}

static void run_getattr(struct request *request)
{
	struct fs_entry entry;
	int r = fs_getattr(request->context->fs, request->id, &entry);

	if (r < 0)
		answer_error(request, r);
	else
		answer_attr(request, &entry);
}

void ops_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file)
{
	struct request *request;

	(void)file;
	if (hidden_getattr(req, id))
		return;
	request = ops_request_new(req, id, run_getattr);
	if (request)
		ops_request_start(request);
}

static void run_setattr(struct request *request)
{
	struct fs_entry entry;
	int r = fs_setattr(request->context->fs, request->id, request->handle, &request->change, &entry);

	if (r < 0)
		answer_error(request, r);
	else
		answer_attr(request, &entry);
}

static int64_t ns_of(struct timespec time)
{
	return (int64_t)time.tv_sec * CLOCK_NS_PER_S + time.tv_nsec;
}

static struct fs_attr_change change_of(const struct stat *st, int set)
{
	struct fs_attr_change change = {
		.set_mode = set & FUSE_SET_ATTR_MODE,
		.set_uid = set & FUSE_SET_ATTR_UID,
		.set_gid = set & FUSE_SET_ATTR_GID,
		.set_size = set & FUSE_SET_ATTR_SIZE,
		.set_mtime = set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW),
		.set_atime = set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW),
		.mtime_now = set & FUSE_SET_ATTR_MTIME_NOW,
		.mode = st->st_mode,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.size = (uint64_t)st->st_size,
		.mtime_ns = ns_of(st->st_mtim),
		.atime_ns = ns_of(st->st_atim),
	};

	if (set & FUSE_SET_ATTR_MTIME_NOW)
		change.mtime_ns = clock_real_ns();
	if (set & FUSE_SET_ATTR_ATIME_NOW)
		change.atime_ns = clock_real_ns();
	return change;
}

void ops_setattr(fuse_req_t req, fuse_ino_t id, struct stat *st, int set, struct fuse_file_info *file)
{
	struct request *request = ops_request_new(req, id, run_setattr);

	if (!request)
		return;
	request->change = change_of(st, set);
	request->handle = handle_of(file);
	request->locks = REQUEST_LOCKS_NAMES;
	ops_request_start(request);
}

/* --- special files --- */

/* mknod(2) of a regular file is a creation without an open file. */
static int make_regular(struct request *request, struct fs_entry *entry)
{
	struct fs_handle *handle;
	int r = fs_create(request->context->fs, request->id, request->name, request->mode, O_WRONLY | O_EXCL,
			  &request->maker, request->thread, entry, &handle);

	if (r < 0)
		return r;
	r = fs_fsync(handle);
	fs_release(handle);
	if (r < 0)
		fs_forget(request->context->fs, entry->id, 1);
	return r;
}

static void run_mknod(struct request *request)
{
	struct fs_entry entry;
	int r;

	if (S_ISREG(request->mode))
		r = make_regular(request, &entry);
	else
		r = fs_mknod(request->context->fs, request->id, request->name, request->mode, (uint32_t)request->device,
			     &request->maker, &entry);
	if (r < 0)
		answer_error(request, r);
	else
		answer_entry(request, &entry);
}

void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
	struct request *request = ops_request_new(req, parent, run_mknod);

	if (!request)
		return;
	request->name = str_c(name);
	request->mode = mode;
	request->device = device;
	request->locks = REQUEST_LOCKS_NAMES;
	ops_request_start(request);
}

static void run_symlink(struct request *request)
{
	struct fs_entry entry;
	int r = fs_symlink(request->context->fs, request->id, request->name, request->new_name, &request->maker,
			   &entry);

	if (r < 0)
		answer_error(request, r);
	else
		answer_entry(request, &entry);
}

void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct request *request = ops_request_new(req, parent, run_symlink);

	if (!request)
		return;
	request->name = str_c(name);
	request->new_name = str_c(target);
	request->locks = REQUEST_LOCKS_NAMES;
	ops_request_start(request);
}

void ops_readlink(fuse_req_t req, fuse_ino_t id)
{
	CLEANUP(buf_free) struct buf target = BUF_INIT;
	struct mount_context *context = fuse_req_userdata(req);
	int r = fs_readlink(context->fs, id, &target);

	if (r == 0)
		r = buf_add_char(&target, '\0');
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_readlink(req, target.p);
}

/* The layout has no hard links yet. */
void ops_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t new_parent, const char *new_name)
{
	(void)id;
	(void)new_parent;
	(void)new_name;
	fuse_reply_err(req, EPERM);
}

/* --- xattrs --- */

#define USUAL_GROUPS 32

/* Who cannot be asked is in none. */
static bool in_group(fuse_req_t req, gid_t gid)
{
	gid_t few[USUAL_GROUPS], *groups = few;
	int count = fuse_req_getgroups(req, USUAL_GROUPS, few);
	bool found = fuse_req_ctx(req)->gid == gid;

	if (count > USUAL_GROUPS) {
		groups = calloc((size_t)count, sizeof(*groups));
		count = groups ? fuse_req_getgroups(req, count, groups) : 0;
	}
	for (int i = 0; i < count && !found; i++)
		found = groups[i] == gid;
	if (groups != few)
		free(groups);
	return found;
}

static bool keeps_group_id(struct request *request)
{
	uint32_t gid;

	if (request->uid == 0 || !fs_group(request->context->fs, request->id, &gid))
		return true;
	return in_group(request->req, gid);
}

/* An attribute that does something changes the content, which the kernel must not show from its pages afterwards. It keeps the
 * file locked meanwhile, for which who removes its name may wait with the directory locked, and so may the
 * invalidation: hence the limit. */
static void run_setxattr(struct request *request)
{
	bool verb = verb_is(request->name);
	int r = fs_setxattr(request->context->fs, request->id, request->name, request->new_name, request->flags,
			    keeps_group_id(request));

	if (verb)
		invalidator_wait(request->context->invalidator, request->id, VERB_WAIT_US);
	answer_error(request, r);
}

void ops_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size, int flags)
{
	struct request *request = ops_request_new(req, id, run_setxattr);

	if (!request)
		return;
	request->name = str_c(name);
	request->new_name = str_of(value, size);
	request->flags = flags;
	request->locks = REQUEST_LOCKS_NAMES;
	ops_request_start(request);
}

/* A size of 0 asks how long it is. */
static void reply_bytes(fuse_req_t req, struct str bytes, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, bytes.len);
	else if (bytes.len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, bytes.p, bytes.len);
}

static void answer_bytes(struct request *request, int err, const struct buf *bytes)
{
	fuse_req_t req;

	if (err < 0) {
		answer_error(request, err);
		return;
	}
	req = answer_take(request);
	if (req)
		reply_bytes(req, buf_str(bytes), request->size);
}

static void run_getxattr(struct request *request)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	int r = fs_getxattr(request->context->fs, request->id, request->name, &value);

	answer_bytes(request, r, &value);
}

void ops_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	struct mount_context *context = fuse_req_userdata(req);
	struct request *request;
	int r;

	if (hidden_getxattr(req, id, name, size))
		return;
	if (fs_getxattr_at_once(context->fs, id, str_c(name), &value, &r)) {
		if (r < 0)
			fuse_reply_err(req, -r);
		else
			reply_bytes(req, buf_str(&value), size);
		return;
	}
	request = ops_request_new(req, id, run_getxattr);
	if (!request)
		return;
	request->name = str_c(name);
	request->size = size;
	ops_request_start(request);
}

static void run_listxattr(struct request *request)
{
	CLEANUP(buf_free) struct buf names = BUF_INIT;
	int r = fs_listxattr(request->context->fs, request->id, request->uid == 0, &names);

	answer_bytes(request, r, &names);
}

void ops_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
	struct request *request;

	if (hidden_listxattr(req, id, size))
		return;
	request = ops_request_new(req, id, run_listxattr);
	if (!request)
		return;
	request->size = size;
	ops_request_start(request);
}

static void run_removexattr(struct request *request)
{
	answer_error(request, fs_removexattr(request->context->fs, request->id, request->name));
}

void ops_removexattr(fuse_req_t req, fuse_ino_t id, const char *name)
{
	struct request *request = ops_request_new(req, id, run_removexattr);

	if (!request)
		return;
	request->name = str_c(name);
	request->locks = REQUEST_LOCKS_NAMES;
	ops_request_start(request);
}
