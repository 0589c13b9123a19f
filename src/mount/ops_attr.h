/* Operations on attributes, and on files that are more attribute than file: ops.c's table names them. */
#ifndef HPKVFS_MOUNT_OPS_ATTR_H
#define HPKVFS_MOUNT_OPS_ATTR_H

#include <fuse_lowlevel.h>

void ops_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *file);
void ops_setattr(fuse_req_t req, fuse_ino_t id, struct stat *st, int set, struct fuse_file_info *file);

void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device);
void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void ops_readlink(fuse_req_t req, fuse_ino_t id);
void ops_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t new_parent, const char *new_name);

void ops_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size, int flags);
void ops_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size);
void ops_listxattr(fuse_req_t req, fuse_ino_t id, size_t size);
void ops_removexattr(fuse_req_t req, fuse_ino_t id, const char *name);

#endif
