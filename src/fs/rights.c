#include "fs/rights.h"

#include "fs/internal.h"

#define PERMISSIONS ((mode_t)07777)

/* To run it as its owner or group is something that may be done with it, too. */
#define COMPARED ((mode_t)06777)

/* Permissions of the owner, the group and others, in the low bits. */
static mode_t part(mode_t mode, unsigned shift)
{
	return mode >> shift & 7;
}

struct rights rights_of_node(const struct node *node)
{
	const struct buf *acl = xattr_find(node, STR(XATTR_ACL_ACCESS));

	return (struct rights){
		.mode = node->mode & PERMISSIONS,
		.uid = node->uid,
		.gid = node->gid,
		.acl = acl ? buf_str(acl) : STR(""),
	};
}

struct rights rights_of_record(const struct node *node, const struct record *record)
{
	const struct fs_config *config = &node->fs->config;
	const struct buf *acl = record_xattr_find(record, STR(XATTR_ACL_ACCESS));

	return (struct rights){
		.mode = attr_file_mode(node->fs, record) & PERMISSIONS,
		.uid = record->has & RECORD_UID ? record->uid : config->uid,
		.gid = record->has & RECORD_GID ? record->gid : config->gid,
		.acl = acl ? buf_str(acl) : STR(""),
	};
}

/* What `b` grants to those who have a part of the mode `a`: surely to the owner of both, and to the rest where owner and group are
 * the same. Else each of them may be anybody by `b`. */
static mode_t granted(const struct rights *a, const struct rights *b)
{
	mode_t least = part(b->mode, 6) & part(b->mode, 3) & part(b->mode, 0);
	mode_t owner = a->uid == b->uid ? part(b->mode, 6) : least;

	if (a->uid == b->uid && a->gid == b->gid)
		return b->mode & COMPARED;
	return owner << 6 | least << 3 | least;
}

bool rights_within(const struct rights *a, const struct rights *b)
{
	if (!str_equal(a->acl, b->acl) || (a->acl.len && (a->uid != b->uid || a->gid != b->gid)))
		return false;
	return !(a->mode & COMPARED & ~granted(a, b));
}

mode_t rights_common(const struct rights *a, const struct rights *b)
{
	mode_t common = a->mode & granted(a, b);

	/* those whom an ACL names may be in any part but the owner's */
	if (a->acl.len || b->acl.len)
		return a->uid == b->uid ? common & 0700 : 0;
	return common;
}
