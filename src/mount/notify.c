#include "mount/notify.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <unistd.h>

/* Linux 6.16 and later; headers and libfuse are older. */
#define NOTIFY_INC_EPOCH 8

static int inval_entry(void *arg, uint64_t parent, const char *name, size_t len)
{
	return fuse_lowlevel_notify_inval_entry(arg, parent, name, len);
}

static int expire_entry(void *arg, uint64_t parent, const char *name, size_t len)
{
	struct fuse_session *session = arg;
	int r;

#ifdef HPKVFS_FUSE_EXPIRE_FLAGS
	r = fuse_lowlevel_notify_expire_entry(session, parent, name, len, FUSE_LL_EXPIRE_ONLY);
#else
	r = fuse_lowlevel_notify_expire_entry(session, parent, name, len);
#endif
	/* Linux before 6.2 */
	return r == -ENOSYS ? inval_entry(arg, parent, name, len) : r;
}

static int inval_inode(void *arg, uint64_t id)
{
	return fuse_lowlevel_notify_inval_inode(arg, id, 0, 0);
}

static int inval_attributes(void *arg, uint64_t id)
{
	return fuse_lowlevel_notify_inval_inode(arg, id, -1, 0);
}

/* A message without a body. An older kernel answers EINVAL. */
static int expire_all(void *arg)
{
	const struct fuse_out_header message = { .len = sizeof(message), .error = NOTIFY_INC_EPOCH };

	return write(fuse_session_fd(arg), &message, sizeof(message)) < 0 ? -errno : 0;
}

struct invalidator_kernel notify_kernel(struct fuse_session *session)
{
	return (struct invalidator_kernel){
		.expire_entry = expire_entry,
		.inval_entry = inval_entry,
		.inval_inode = inval_inode,
		.inval_attributes = inval_attributes,
		.expire_all = expire_all,
		.arg = session,
	};
}
