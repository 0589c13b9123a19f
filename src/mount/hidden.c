#include "mount/hidden.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "mount/request.h"

/* The filesystem's own numbers grow from FS_ROOT_ID. */
#define DIR_ID (UINT64_MAX - 1)
#define STATS_ID (UINT64_MAX - 2)

#define STATS_XATTR "user.hpkv.stats"

/* Who asks how long the figures are asks for them next, and they may be longer then. */
#define STATS_ROOM 256

static const char *const names[] = { ".", "..", "stats" };
static const fuse_ino_t ids[] = { DIR_ID, FS_ROOT_ID, STATS_ID };
#define NAMES (sizeof(names) / sizeof(names[0]))

bool hidden_is(fuse_ino_t id)
{
	return id == DIR_ID || id == STATS_ID;
}

bool hidden_is_name(fuse_ino_t parent, const char *name)
{
	return parent == FS_ROOT_ID && strcmp(name, ".hpkvfs") == 0;
}

/* Its size is 0, as of files in /proc: nobody knows what will be read. */
static struct stat attributes(fuse_req_t req, fuse_ino_t id)
{
	const struct mount_context *context = fuse_req_userdata(req);

	return (struct stat){
		.st_ino = id,
		.st_mode = id == STATS_ID ? S_IFREG | 0444 : S_IFDIR | 0555,
		.st_nlink = id == STATS_ID ? 1 : 2,
		.st_uid = context->uid,
		.st_gid = context->gid,
		.st_atim = context->begun,
		.st_mtim = context->begun,
		.st_ctim = context->begun,
	};
}

static struct fuse_entry_param entry_param(fuse_req_t req, fuse_ino_t id)
{
	const double ttl = kernel_ttl(FS_FOREVER);

	return (struct fuse_entry_param){
		.ino = id, .attr = attributes(req, id), .attr_timeout = ttl, .entry_timeout = ttl
	};
}

bool hidden_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param param;

	if (hidden_is_name(parent, name)) {
		param = entry_param(req, DIR_ID);
	} else if (hidden_is(parent)) {
		if (strcmp(name, "stats") != 0) {
			fuse_reply_err(req, ENOENT);
			return true;
		}
		param = entry_param(req, STATS_ID);
	} else {
		return false;
	}
	fuse_reply_entry(req, &param);
	return true;
}

bool hidden_getattr(fuse_req_t req, fuse_ino_t id)
{
	struct stat st;

	if (!hidden_is(id))
		return false;
	st = attributes(req, id);
	fuse_reply_attr(req, &st, kernel_ttl(FS_FOREVER));
	return true;
}

static void reply_stats(fuse_req_t req, size_t size)
{
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	struct mount_context *context = fuse_req_userdata(req);
	int r = context->stats(context, &text);

	if (r < 0)
		fuse_reply_err(req, -r);
	else if (size == 0)
		fuse_reply_xattr(req, text.len + STATS_ROOM);
	else if (text.len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, text.p, text.len);
}

bool hidden_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
	if (id == FS_ROOT_ID && strcmp(name, STATS_XATTR) == 0)
		reply_stats(req, size);
	else if (hidden_is(id))
		fuse_reply_err(req, ENODATA);
	else
		return false;
	return true;
}

bool hidden_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
	if (!hidden_is(id))
		return false;
	if (size == 0)
		fuse_reply_xattr(req, 0);
	else
		fuse_reply_buf(req, NULL, 0);
	return true;
}

/* --- stats --- */

static void text_free(struct buf *text)
{
	if (text)
		buf_free(text);
	free(text);
}

static struct buf *text_of(const struct fuse_file_info *file)
{
	return (struct buf *)(uintptr_t)file->fh;
}

/* Not through the page cache, which would keep the first figures and stop at a size of 0. */
bool hidden_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file)
{
	struct mount_context *context = fuse_req_userdata(req);
	struct buf *text;
	int r;

	if (!hidden_is(id))
		return false;
	if ((file->flags & O_ACCMODE) != O_RDONLY || file->flags & O_TRUNC) {
		fuse_reply_err(req, EACCES);
		return true;
	}
	text = calloc(1, sizeof(*text));
	r = text ? context->stats(context, text) : -ENOMEM;
	file->fh = (uint64_t)(uintptr_t)text;
	file->direct_io = true;
	file->noflush = true;
	if (r < 0) {
		fuse_reply_err(req, -r);
		text_free(text);
	} else if (fuse_reply_open(req, file) < 0) {
		text_free(text);
	}
	return true;
}

bool hidden_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *file)
{
	const struct buf *text;
	size_t at, left;

	if (!hidden_is(id))
		return false;
	text = text_of(file);
	at = (uint64_t)offset < text->len ? (size_t)offset : text->len;
	left = text->len - at;
	fuse_reply_buf(req, text->p + at, left < size ? left : size);
	return true;
}

bool hidden_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file)
{
	if (!hidden_is(id))
		return false;
	text_free(text_of(file));
	fuse_reply_err(req, 0);
	return true;
}

/* --- their directory --- */

bool hidden_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file)
{
	if (!hidden_is(id))
		return false;
	fuse_reply_open(req, file);
	return true;
}

static size_t add_name(fuse_req_t req, char *at, size_t room, size_t i, bool plus)
{
	struct fuse_entry_param param = entry_param(req, ids[i]);

	if (!plus)
		return fuse_add_direntry(req, at, room, names[i], &param.attr, (off_t)i + 1);
	if (ids[i] != STATS_ID)
		param.ino = 0; /* no lookup */
	return fuse_add_direntry_plus(req, at, room, names[i], &param, (off_t)i + 1);
}

bool hidden_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, bool plus)
{
	char bytes[4096];
	size_t used = 0, need;

	if (!hidden_is(id))
		return false;
	if (size > sizeof(bytes))
		size = sizeof(bytes);
	for (size_t i = offset > 0 ? (size_t)offset : 0; i < NAMES; i++) {
		need = add_name(req, bytes + used, size - used, i, plus);
		if (need > size - used)
			break;
		used += need;
	}
	fuse_reply_buf(req, bytes, used);
	return true;
}

bool hidden_releasedir(fuse_req_t req, fuse_ino_t id)
{
	if (!hidden_is(id))
		return false;
	fuse_reply_err(req, 0);
	return true;
}
