#include "mount/ops.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/coroutine.h"
#include "mount/hidden.h"
#include "mount/ops_attr.h"
#include "mount/request.h"

/* How long a close waits for its file's invalidation, which waits for readers whose server does not answer. */
#define FLUSH_WAIT_US (5 * (uint64_t)CLOCK_US_PER_S)

/* An operation that is told by a name in a directory and nothing else. */
static void start_named(fuse_req_t req, fuse_ino_t parent, const char *name, void (*run)(struct request *request))
{
	struct request *request = ops_request_new(req, parent, run);

	if (!request)
		return;
	request->name = str_c(name);
	request->locks = REQUEST_LOCKS_NAMES;
	ops_request_start(request);
}

/* --- answers --- */

static struct fuse_entry_param entry_param(const struct fs_entry *entry)
{
	double ttl = kernel_ttl(entry->ttl_us);

	return (struct fuse_entry_param){
		.ino = entry->id, .attr = entry->st, .attr_timeout = ttl, .entry_timeout = ttl
	};
}

void answer_entry(struct request *request, const struct fs_entry *entry)
{
	struct fuse_entry_param param = entry_param(entry);
	fuse_req_t req = answer_take(request);

	if (!req || fuse_reply_entry(req, &param) < 0)
		fs_forget(request->context->fs, entry->id, 1);
}

/* --- names --- */

/* The kernel remembers that there is no such name. */
static void answer_absence(struct request *request, uint64_t ttl_us)
{
	const struct fuse_entry_param param = { .entry_timeout = kernel_ttl(ttl_us) };
	fuse_req_t req = answer_take(request);

	if (req)
		fuse_reply_entry(req, &param);
}

static void run_lookup(struct request *request)
{
	struct fs_entry entry = { .ttl_us = 0 };
	int r = fs_lookup(request->context->fs, request->id, request->name, &entry);

	if (r == -ENOENT && entry.ttl_us)
		answer_absence(request, entry.ttl_us);
	else if (r < 0)
		answer_error(request, r);
	else
		answer_entry(request, &entry);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (!hidden_lookup(req, parent, name))
		start_named(req, parent, name, run_lookup);
}

static void op_forget(fuse_req_t req, fuse_ino_t id, uint64_t count)
{
	struct mount_context *context = fuse_req_userdata(req);

	fs_forget(context->fs, id, count);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct mount_context *context = fuse_req_userdata(req);

	for (size_t i = 0; i < count; i++)
		fs_forget(context->fs, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void run_mkdir(struct request *request)
{
	struct fs_entry entry;
	int r = fs_mkdir(request->context->fs, request->id, request->name, request->mode, &request->maker, &entry);

	if (r < 0)
		answer_error(request, r);
	else
		answer_entry(request, &entry);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct request *request = ops_request_new(req, parent, run_mkdir);

	if (!request)
		return;
	request->name = str_c(name);
	request->mode = mode;
	request->locks = REQUEST_LOCKS_NAMES;
	ops_request_start(request);
}

static void run_rmdir(struct request *request)
{
	answer_error(request, fs_rmdir(request->context->fs, request->id, request->name));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (hidden_is_name(parent, name))
		fuse_reply_err(req, EPERM);
	else
		start_named(req, parent, name, run_rmdir);
}

static void run_unlink(struct request *request)
{
	answer_error(request, fs_unlink(request->context->fs, request->id, request->name));
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	start_named(req, parent, name, run_unlink);
}

static void run_rename(struct request *request)
{
	answer_error(request, fs_rename(request->context->fs, request->id, request->name, request->new_parent,
					request->new_name, (unsigned)request->flags));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
		      unsigned flags)
{
	struct request *request;

	if (hidden_is(new_parent) || hidden_is_name(parent, name) || hidden_is_name(new_parent, new_name)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	request = ops_request_new(req, parent, run_rename);
	if (!request)
		return;
	request->name = str_c(name);
	request->new_parent = new_parent;
	request->new_name = str_c(new_name);
	request->flags = (int)flags;
	request->locks = REQUEST_LOCKS_NAMES;
	ops_request_start(request);
}

/* --- the whole --- */

static void op_statfs(fuse_req_t req, fuse_ino_t id)
{
	struct mount_context *context = fuse_req_userdata(req);
	struct statvfs st;
	int r = fs_statfs(context->fs, hidden_is(id) ? FS_ROOT_ID : id, &st);

	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_statfs(req, &st);
}

/* --- files --- */

static struct fuse_file_info file_info(struct fs_handle *handle, int flags, bool keep_cache)
{
	struct fuse_file_info file = { .fh = (uint64_t)(uintptr_t)handle, .flags = flags };

	file.keep_cache = keep_cache;
	file.noflush = (flags & O_ACCMODE) == O_RDONLY;
	return file;
}

static void run_open(struct request *request)
{
	struct fs_handle *handle;
	struct fuse_file_info file;
	bool keep_cache;
	fuse_req_t req;
	int r = fs_open(request->context->fs, request->id, request->flags, request->thread, &handle, &keep_cache);

	if (r < 0) {
		answer_error(request, r);
		return;
	}
	/* the kernel leaves this to us where it leaves O_TRUNC to us */
	if (request->flags & O_TRUNC && request->uid != 0)
		fs_drop_set_id(handle);
	file = file_info(handle, request->flags, keep_cache);
	req = answer_take(request);
	if (!req || fuse_reply_open(req, &file) < 0)
		fs_release(handle);
}

static void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file)
{
	struct request *request;

	if (hidden_open(req, id, file))
		return;
	request = ops_request_new(req, id, run_open);
	if (!request)
		return;
	request->flags = file->flags;
	ops_request_start(request);
}

static void run_create(struct request *request)
{
	struct fs_handle *handle;
	struct fs_entry entry;
	struct fuse_entry_param param;
	struct fuse_file_info file;
	struct fs *fs = request->context->fs;
	fuse_req_t req;
	int r = fs_create(fs, request->id, request->name, request->mode, request->flags, &request->maker,
			  request->thread, &entry, &handle);

	if (r < 0) {
		answer_error(request, r);
		return;
	}
	param = entry_param(&entry);
	file = file_info(handle, request->flags, true);
	req = answer_take(request);
	if (!req || fuse_reply_create(req, &param, &file) < 0) {
		fs_release(handle);
		fs_forget(fs, entry.id, 1);
	}
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *file)
{
	struct request *request = ops_request_new(req, parent, run_create);

	if (!request)
		return;
	request->name = str_c(name);
	request->mode = mode;
	request->flags = file->flags;
	request->locks = REQUEST_LOCKS_NAMES;
	ops_request_start(request);
}

static void run_read(struct request *request)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	int r = fs_read(request->handle, request->offset, request->size, &bytes);
	fuse_req_t req;

	if (r < 0) {
		answer_error(request, r);
		return;
	}
	req = answer_take(request);
	if (req)
		fuse_reply_buf(req, bytes.p, bytes.len);
}

static void op_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *file)
{
	struct request *request;

	if (hidden_read(req, id, size, offset, file))
		return;
	request = ops_request_new(req, id, run_read);
	if (!request)
		return;
	request->handle = handle_of(file);
	request->size = size;
	request->offset = (uint64_t)offset;
	request->locks = REQUEST_LOCKS_PAGES;
	ops_request_start(request);
}

static void run_write(struct request *request)
{
	size_t size = request->name.len;
	fuse_req_t req;
	int r;

	if (request->pages)
		r = fs_write_pages(request->handle, request->offset, request->name);
	else
		r = fs_write(request->handle, request->offset, request->name, request->thread);
	if (r < 0) {
		answer_error(request, r);
		return;
	}
	req = answer_take(request);
	if (req)
		fuse_reply_write(req, size);
}

static void op_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *file)
{
	struct request *request = ops_request_new(req, id, run_write);

	if (!request)
		return;
	request->handle = handle_of(file);
	request->name = str_of(data, size);
	request->offset = (uint64_t)offset;
	request->pages = file->writepage;
	request->locks = REQUEST_LOCKS_PAGES;
	ops_request_start(request);
}

static void run_fallocate(struct request *request)
{
	answer_error(request,
		     fs_fallocate(request->handle, request->flags, request->offset, request->size, request->thread));
}

static void op_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t size, struct fuse_file_info *file)
{
	struct request *request = ops_request_new(req, id, run_fallocate);

	if (!request)
		return;
	request->handle = handle_of(file);
	request->flags = mode;
	request->offset = (uint64_t)offset;
	request->size = (size_t)size;
	ops_request_start(request);
}

static void run_lseek(struct request *request)
{
	uint64_t found;
	int r = fs_lseek(request->handle, request->offset, request->flags, &found);
	fuse_req_t req;

	if (r < 0) {
		answer_error(request, r);
		return;
	}
	req = answer_take(request);
	if (req)
		fuse_reply_lseek(req, (off_t)found);
}

static void op_lseek(fuse_req_t req, fuse_ino_t id, off_t offset, int whence, struct fuse_file_info *file)
{
	struct request *request;

	if (hidden_is(id)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	request = ops_request_new(req, id, run_lseek);
	if (!request)
		return;
	request->handle = handle_of(file);
	request->flags = whence;
	request->offset = (uint64_t)offset;
	ops_request_start(request);
}

static void run_copy_range(struct request *request)
{
	size_t done = 0, copied;
	fuse_req_t req;
	int r;

	do { /* for whom nobody waits any more, no further */
		r = fs_copy_range(request->handle, request->offset + done, request->to, request->to_offset + done,
				  request->size - done, request->thread, &copied);
		if (r == 0)
			done += copied;
	} while (r == 0 && copied && done < request->size && request->req);
	if (done == 0 && r < 0) {
		answer_error(request, r);
		return;
	}
	req = answer_take(request);
	if (req)
		fuse_reply_write(req, done);
}

static void op_copy_range(fuse_req_t req, fuse_ino_t id, off_t offset, struct fuse_file_info *file, fuse_ino_t to_id,
			  off_t to_offset, struct fuse_file_info *to, size_t size, int flags)
{
	struct request *request;

	(void)flags;
	if (hidden_is(id)) {
		fuse_reply_err(req, EXDEV); /* the kernel reads and writes then */
		return;
	}
	request = ops_request_new(req, to_id, run_copy_range);
	if (!request)
		return;
	request->handle = handle_of(file);
	request->offset = (uint64_t)offset;
	request->to = handle_of(to);
	request->to_offset = (uint64_t)to_offset;
	request->size = size;
	ops_request_start(request);
}

/* Who appends to a file that another has made longer leaves bytes at the wrong place in the kernel's pages: whoever reads after
 * the close must not find them. A close keeps nothing locked. */
static void run_flush(struct request *request)
{
	int r = fs_flush(request->handle, request->thread);

	invalidator_wait(request->context->invalidator, request->id, FLUSH_WAIT_US);
	answer_error(request, r);
}

static void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file)
{
	struct request *request = ops_request_new(req, id, run_flush);

	if (!request)
		return;
	request->handle = handle_of(file);
	request->closing = true;
	ops_request_start(request);
}

static void run_fsync(struct request *request)
{
	answer_error(request, fs_fsync(request->handle));
}

static void op_fsync(fuse_req_t req, fuse_ino_t id, int data_only, struct fuse_file_info *file)
{
	struct request *request = ops_request_new(req, id, run_fsync);

	(void)data_only;
	if (!request)
		return;
	request->handle = handle_of(file);
	ops_request_start(request);
}

static void run_release(struct request *request)
{
	/* the kernel tells nobody the answer, and reads ahead for nobody while a dozen are missing */
	answer_error(request, 0);
	fs_release(request->closed);
}

static void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file)
{
	struct request *request;

	if (hidden_release(req, id, file))
		return;
	request = ops_request_new(req, id, run_release);
	if (!request)
		return;
	request->closed = handle_of(file);
	ops_request_start(request);
}

/* --- directories --- */

static void op_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file)
{
	struct mount_context *context = fuse_req_userdata(req);
	struct fs_handle *handle;
	enum fs_copy copy;
	int r;

	if (hidden_opendir(req, id, file))
		return;
	r = fs_opendir(context->fs, id, &handle);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	copy = fs_copy(handle);
	file->fh = (uint64_t)(uintptr_t)handle;
	file->cache_readdir = copy != FS_COPY_BYPASS;
	file->keep_cache = copy != FS_COPY_RENEW;
	if (fuse_reply_open(req, file) < 0)
		fs_releasedir(handle);
}

static void run_fsyncdir(struct request *request)
{
	answer_error(request, fs_fsyncdir(request->context->fs, request->id));
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int data_only, struct fuse_file_info *file)
{
	struct request *request = ops_request_new(req, id, run_fsyncdir);

	(void)data_only;
	(void)file;
	if (!request)
		return;
	request->locks = REQUEST_LOCKS_NAMES;
	ops_request_start(request);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file)
{
	if (hidden_releasedir(req, id))
		return;
	fs_releasedir(handle_of(file));
	fuse_reply_err(req, 0);
}

/* A page of a directory in the kernel's form. */
struct dir_page {
	struct request *request;
	char *bytes;
	size_t used;
	struct buf ids; /* uint64_t each: of the entries that count as looked up */
};

/* Names end in a NUL as well. */
static bool add_entry(void *arg, struct str name, const struct fs_entry *entry, uint64_t next)
{
	struct dir_page *page = arg;
	struct request *request = page->request;
	size_t room = request->size - page->used, need;
	char *at = page->bytes + page->used;

	if (!request->req)
		return false;
	if (request->plus) {
		struct fuse_entry_param param = entry_param(entry);

		if (buf_reserve(&page->ids, sizeof(entry->id)) < 0)
			return false;
		need = fuse_add_direntry_plus(request->req, at, room, name.p, &param, (off_t)next);
	} else {
		need = fuse_add_direntry(request->req, at, room, name.p, &entry->st, (off_t)next);
	}
	if (need > room)
		return false;
	page->used += need;
	if (request->plus && entry->id && buf_add(&page->ids, &entry->id, sizeof(entry->id)) < 0)
		return false;
	return true;
}

static void forget_page(struct dir_page *page)
{
	for (size_t at = 0; at < page->ids.len; at += sizeof(uint64_t)) {
		uint64_t id;

		memcpy(&id, page->ids.p + at, sizeof(id));
		fs_forget(page->request->context->fs, id, 1);
	}
}

static void run_readdir(struct request *request)
{
	struct dir_page page = { .request = request, .bytes = malloc(request->size) };
	fuse_req_t req;
	int r = page.bytes ? fs_readdir(request->handle, request->offset, request->plus, add_entry, &page) : -ENOMEM;

	if (r < 0) {
		answer_error(request, r);
	} else {
		req = answer_take(request);
		if (!req || fuse_reply_buf(req, page.bytes, page.used) < 0)
			forget_page(&page);
	}
	buf_free(&page.ids);
	free(page.bytes);
}

static void start_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *file,
			  bool plus)
{
	struct request *request;

	if (hidden_readdir(req, id, size, offset, plus))
		return;
	request = ops_request_new(req, id, run_readdir);
	if (!request)
		return;
	request->handle = handle_of(file);
	request->size = size;
	request->offset = (uint64_t)offset;
	request->plus = plus;
	request->locks = REQUEST_LOCKS_NAMES;
	ops_request_start(request);
}

static void op_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *file)
{
	start_readdir(req, id, size, offset, file, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *file)
{
	start_readdir(req, id, size, offset, file, true);
}

/* --- the session --- */

/* Pages are dropped when we say so, not when a size or time differs; attributes come with listings, always. With asynchronous
 * direct I/O a killed program that reads past the pages would wait for the answer all the same. */
static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct mount_context *context = userdata;
	const unsigned unwanted = FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_SPLICE_READ |
				  FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_ASYNC_DIO;

	/* with ACLs the umask is ours to apply: a directory's default ACL takes its place */
	conn->want |= conn->capable &
		      (FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_READDIRPLUS | FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK);
	conn->want &= ~unwanted;
	context->ready(context);
}

const struct fuse_lowlevel_ops mount_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = ops_getattr,
	.setattr = ops_setattr,
	.mknod = ops_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = ops_symlink,
	.readlink = ops_readlink,
	.rename = op_rename,
	.link = ops_link,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_range,
	.flush = op_flush,
	.fsync = op_fsync,
	.release = op_release,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.setxattr = ops_setxattr,
	.getxattr = ops_getxattr,
	.listxattr = ops_listxattr,
	.removexattr = ops_removexattr,
};
