/* POSIX ACLs as the kernel passes them in xattrs: a version, then entries of tag, permissions and id, little-endian. */
#ifndef HPKVFS_FS_ACL_H
#define HPKVFS_FS_ACL_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/buf.h"

/* 0, or -EINVAL where it is no ACL. The others take only what this accepts. */
CHECKED int acl_check(struct str acl);

/* Sets the nine permission bits of *mode by the ACL; answers true where they say all of it. */
bool acl_to_mode(struct str acl, mode_t *mode);

/* chmod(2): owner, others, and the mask (without one the group) get the bits of the mode. */
void acl_chmod(struct buf *acl, mode_t mode);

/* A new file gets `acl`, its directory's default, and loses of it and of *mode what the other does not grant. True where
 * *mode then says all of it. */
bool acl_create(struct buf *acl, mode_t *mode);

#endif
