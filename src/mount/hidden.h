/* The mount's own files: `.hpkvfs` in the root, which no listing shows, and in it `stats`, which is written anew for each who
 * opens it. The filesystem knows nothing of them, and nothing of them is in the store. Each function answers true where it has
 * answered the request. */
#ifndef HPKVFS_MOUNT_HIDDEN_H
#define HPKVFS_MOUNT_HIDDEN_H

#include "mount/ops.h"

/* One of them; what is not offered below is refused for it with -EPERM. */
bool hidden_is(fuse_ino_t id);
/* The name of their directory. */
bool hidden_is_name(fuse_ino_t parent, const char *name);

CHECKED bool hidden_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
CHECKED bool hidden_getattr(fuse_req_t req, fuse_ino_t id);
/* Also user.hpkv.stats of the root. */
CHECKED bool hidden_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size);
CHECKED bool hidden_listxattr(fuse_req_t req, fuse_ino_t id, size_t size);
CHECKED bool hidden_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file);
CHECKED bool hidden_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *file);
CHECKED bool hidden_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file);
CHECKED bool hidden_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file);
CHECKED bool hidden_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, bool plus);
CHECKED bool hidden_releasedir(fuse_req_t req, fuse_ino_t id);

#endif
