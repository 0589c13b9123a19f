/* What the helper asks is answered at once and from memory, by what the event that it is at says: on the way to the name the
 * directories that were there when the event came; at the name itself nothing before a creation, else what was there, though
 * neither may be so any more. What the kernel holds in the place by now is left alone: a program has looked it up,
 * and is not to lose it.
 *
 * Where nothing is known of what an event is about, it is about a phantom: a node of the kernel's alone, which is
 * looked up by nobody else and forgotten soon. */
#include "mount/inotify_ops.h"

#include <errno.h>
#include <string.h>

#include "mount/inotify.h"
#include "mount/ops.h"
#include "mount/request.h"

/* No other number is so large, but those of hidden.c, which the helper never asks for. */
#define PHANTOM ((uint64_t)1 << 62)

static struct mount_context *context_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static bool by_helper(fuse_req_t req)
{
	return inotify_is_helper(context_of(req)->inotify, fuse_req_ctx(req)->pid);
}

/* --- what the event says --- */

static struct str name_of(const struct inotify_event *event)
{
	return str_c(event->names.p + event->name_at);
}

/* The event that is about this name; NULL: it is about another. */
static const struct inotify_event *event_at(fuse_req_t req, uint64_t parent, const char *name)
{
	const struct inotify_event *event = inotify_current(context_of(req)->inotify);

	return event && event->parent == parent && str_equal(name_of(event), str_c(name)) ? event : NULL;
}

/* The number of the directory of this name on the way; 0: it is not on it. */
static uint64_t on_the_way(const struct inotify_event *event, uint64_t parent, const char *name)
{
	const char *step = event->names.p;
	uint64_t above = FS_ROOT_ID, id;

	for (size_t at = 0; at < event->ids.len; at += sizeof(id), above = id, step += strlen(step) + 1) {
		memcpy(&id, event->ids.p + at, sizeof(id));
		if (above == parent && strcmp(step, name) == 0)
			return id;
	}
	return 0;
}

static bool is_on_the_way(const struct inotify_event *event, uint64_t id)
{
	uint64_t step;

	for (size_t at = 0; at < event->ids.len; at += sizeof(step)) {
		memcpy(&step, event->ids.p + at, sizeof(step));
		if (step == id)
			return true;
	}
	return false;
}

/* --- answers --- */

static struct stat phantom_stat(uint64_t id, mode_t mode)
{
	return (struct stat){
		.st_ino = id,
		.st_mode = mode,
		.st_nlink = 1,
		.st_uid = geteuid(),
		.st_gid = getegid(),
		.st_blksize = 4096,
	};
}

static struct fuse_entry_param param_of(const struct fs_entry *entry)
{
	double ttl = kernel_ttl(entry->ttl_us);

	return (struct fuse_entry_param){
		.ino = entry->id, .attr = entry->st, .attr_timeout = ttl, .entry_timeout = ttl
	};
}

/* What was there, though it may be known no more. The kernel is not to keep it. */
static struct fuse_entry_param former(fuse_req_t req, uint64_t id, mode_t mode)
{
	struct fuse_entry_param param = { 0 };
	struct fs_entry entry;

	if (id && fs_give(context_of(req)->fs, id, &entry)) {
		param.ino = id;
		param.attr = entry.st;
		return param;
	}
	param.ino = id ? id : PHANTOM | inotify_count(context_of(req)->inotify);
	param.attr = phantom_stat(param.ino, mode);
	return param;
}

static void reply_param(fuse_req_t req, const struct fuse_entry_param *param)
{
	struct fs *fs = context_of(req)->fs;

	if (fuse_reply_entry(req, param) < 0)
		fs_forget(fs, param->ino, 1);
}

/* What is known to be there now. */
static void reply_known(fuse_req_t req, const struct fs_found *known)
{
	struct fuse_entry_param param;
	struct fs_entry entry;

	if (!fs_give(context_of(req)->fs, known->id, &entry)) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	param = param_of(&entry);
	reply_param(req, &param);
}

static void reply_former(fuse_req_t req, uint64_t id, mode_t mode)
{
	struct fuse_entry_param param = former(req, id, mode);

	reply_param(req, &param);
}

/* --- the way, and the name --- */

static void lookup_step(fuse_req_t req, uint64_t parent, const char *name)
{
	const struct inotify_event *event = inotify_current(context_of(req)->inotify);
	uint64_t id = event ? on_the_way(event, parent, name) : 0;
	struct fs_found known;
	bool there = fs_find(context_of(req)->fs, parent, str_c(name), &known);

	if (there && (known.id == id || known.held))
		reply_known(req, &known);
	else if (id)
		reply_former(req, id, S_IFDIR | 0700);
	else
		fuse_reply_err(req, ENOENT);
}

static void lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	const struct inotify_event *event;
	struct fs_found known;
	bool there;

	if (!by_helper(req)) {
		mount_ops.lookup(req, parent, name);
		return;
	}
	event = event_at(req, parent, name);
	if (!event) {
		lookup_step(req, parent, name);
		return;
	}
	there = fs_find(context_of(req)->fs, parent, str_c(name), &known);
	if (there && (known.held || event->kind == FS_EVENT_CHANGED))
		reply_known(req, &known);
	else if (event->kind == FS_EVENT_CREATED)
		fuse_reply_err(req, ENOENT);
	else
		reply_former(req, event->id, event->mode);
}

/* --- creation --- */

/* What the creation of the event gives: the node that is there, or else a phantom. False: nothing that the helper could make so. */
static bool created(fuse_req_t req, uint64_t parent, const char *name, mode_t type, struct fuse_entry_param *param)
{
	const struct inotify_event *event = event_at(req, parent, name);
	struct fs_found known;
	struct fs_entry entry;

	if (!event || event->kind != FS_EVENT_CREATED || (event->mode & S_IFMT) != type)
		return false;
	if (!fs_find(context_of(req)->fs, parent, str_c(name), &known)) {
		*param = former(req, 0, event->mode);
		return true;
	}
	if ((known.mode & S_IFMT) != type || !fs_give(context_of(req)->fs, known.id, &entry))
		return false;
	*param = param_of(&entry);
	return true;
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t type)
{
	struct fuse_entry_param param;

	if (created(req, parent, name, type, &param))
		reply_param(req, &param);
	else
		fuse_reply_err(req, ESTALE);
}

static void mknod_(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
	if (by_helper(req))
		make(req, parent, name, mode & S_IFMT);
	else
		mount_ops.mknod(req, parent, name, mode, device);
}

static void mkdir_(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	if (by_helper(req))
		make(req, parent, name, S_IFDIR);
	else
		mount_ops.mkdir(req, parent, name, mode);
}

static void symlink_(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	if (by_helper(req))
		make(req, parent, name, S_IFLNK);
	else
		mount_ops.symlink(req, target, parent, name);
}

/* --- attributes: as they are, whatever is set --- */

static bool attributes(fuse_req_t req, uint64_t id, struct fs_entry *out)
{
	const struct inotify_event *event = inotify_current(context_of(req)->inotify);
	bool folder = event && is_on_the_way(event, id);

	if (fs_recall(context_of(req)->fs, id, out))
		return true;
	if (!folder && !(event && (id == event->id || id & PHANTOM)))
		return false;
	*out = (struct fs_entry){ .id = id, .st = phantom_stat(id, folder ? S_IFDIR | 0700 : event->mode) };
	return true;
}

static void reply_attributes(fuse_req_t req, uint64_t id)
{
	struct fs_entry entry;

	if (attributes(req, id, &entry))
		fuse_reply_attr(req, &entry.st, kernel_ttl(entry.ttl_us));
	else
		fuse_reply_err(req, ESTALE);
}

static void getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file)
{
	if (by_helper(req))
		reply_attributes(req, id);
	else
		mount_ops.getattr(req, id, file);
}

static void setattr(fuse_req_t req, fuse_ino_t id, struct stat *st, int set, struct fuse_file_info *file)
{
	if (by_helper(req))
		reply_attributes(req, id);
	else
		mount_ops.setattr(req, id, st, set, file);
}

/* --- open files: without a handle, and the kernel keeps its pages --- */

static void open_without_handle(struct fuse_file_info *file)
{
	file->fh = 0;
	file->keep_cache = 1;
	file->noflush = 1;
}

static void create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *file)
{
	struct fs *fs = context_of(req)->fs;
	struct fuse_entry_param param;

	if (!by_helper(req)) {
		mount_ops.create(req, parent, name, mode, file);
		return;
	}
	if (!created(req, parent, name, S_IFREG, &param)) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	open_without_handle(file);
	if (fuse_reply_create(req, &param, file) < 0)
		fs_forget(fs, param.ino, 1);
}

static void open_(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file)
{
	struct fs_entry entry;

	if (!by_helper(req)) {
		mount_ops.open(req, id, file);
		return;
	}
	if (!attributes(req, id, &entry) || !S_ISREG(entry.st.st_mode)) {
		fuse_reply_err(req, ESTALE);
	} else if (entry.st.st_mode & 0111) {
		fuse_reply_err(req, ETXTBSY);
	} else {
		open_without_handle(file);
		fuse_reply_open(req, file);
	}
}

/* The kernel closes in nobody's name. */
static void flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file)
{
	if (file->fh)
		mount_ops.flush(req, id, file);
	else
		fuse_reply_err(req, 0);
}

static void release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file)
{
	if (file->fh)
		mount_ops.release(req, id, file);
	else
		fuse_reply_err(req, 0);
}

/* --- removal --- */

/* By the time a program has looked up what has come in the place, that stays. */
static void removed(fuse_req_t req, uint64_t parent, const char *name)
{
	const struct inotify_event *event = event_at(req, parent, name);
	struct fs_found known;
	bool taken = fs_find(context_of(req)->fs, parent, str_c(name), &known) && known.held;

	fuse_reply_err(req, event && event->kind == FS_EVENT_REMOVED && !taken ? 0 : ESTALE);
}

static void unlink_(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (by_helper(req))
		removed(req, parent, name);
	else
		mount_ops.unlink(req, parent, name);
}

static void rmdir_(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (by_helper(req))
		removed(req, parent, name);
	else
		mount_ops.rmdir(req, parent, name);
}

/* The kernel asks for ACLs, which are known as far as anything is. */
static void getxattr_(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	int r;

	if (by_helper(req) && !fs_getxattr_at_once(context_of(req)->fs, id, str_c(name), &value, &r))
		fuse_reply_err(req, ENODATA);
	else
		mount_ops.getxattr(req, id, name, size);
}

struct fuse_lowlevel_ops inotify_ops(void)
{
	struct fuse_lowlevel_ops ops = mount_ops;

	ops.lookup = lookup;
	ops.getattr = getattr;
	ops.setattr = setattr;
	ops.getxattr = getxattr_;
	ops.mknod = mknod_;
	ops.mkdir = mkdir_;
	ops.symlink = symlink_;
	ops.unlink = unlink_;
	ops.rmdir = rmdir_;
	ops.create = create;
	ops.open = open_;
	ops.flush = flush;
	ops.release = release;
	return ops;
}
