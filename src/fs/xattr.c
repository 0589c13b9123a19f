/* Extended attributes: kept in the record, changed in memory and sent with the other attributes. */
#include <errno.h>
#include <sys/xattr.h>

#include "base/log.h"
#include "fs/acl.h"
#include "fs/held.h"
#include "fs/internal.h"
#include "fs/verbs.h"

bool xattr_is_security(struct str name)
{
	return str_starts(name, STR("security."));
}

/* --- in memory --- */

static struct xattrs *need(struct node *node)
{
	if (!node->xattrs)
		node->xattrs = calloc(1, sizeof(*node->xattrs));
	return node->xattrs;
}

void xattrs_free(struct node *node)
{
	if (!node->xattrs)
		return;
	record_deinit(&node->xattrs->stored);
	record_deinit(&node->xattrs->set);
	record_deinit(&node->xattrs->gone);
	free(node->xattrs);
	node->xattrs = NULL;
}

void xattrs_forget_changes(struct node *node)
{
	if (!node->xattrs)
		return;
	record_deinit(&node->xattrs->set);
	record_deinit(&node->xattrs->gone);
}

void xattrs_apply(struct node *node, struct record *record, bool own)
{
	struct record *stored;

	if (!record->xattr_count && !node->xattrs)
		return;
	if (!need(node)) {
		log_error("no memory for the extended attributes of a file");
		return;
	}
	stored = &node->xattrs->stored;
	record_deinit(stored);
	stored->xattrs = STEAL(record->xattrs);
	stored->xattr_count = record->xattr_count;
	record->xattr_count = 0;
	for (size_t i = stored->xattr_count; !own && i-- > 0;)
		if (xattr_is_security(buf_str(&stored->xattrs[i].name)))
			record_xattr_remove(stored, buf_str(&stored->xattrs[i].name));
}

const struct buf *xattr_find(const struct node *node, struct str name)
{
	const struct buf *value;

	if (!node->xattrs || record_xattr_find(&node->xattrs->gone, name))
		return NULL;
	value = record_xattr_find(&node->xattrs->set, name);
	return value ? value : record_xattr_find(&node->xattrs->stored, name);
}

int xattr_put(struct node *node, struct str name, struct str value)
{
	int r = need(node) ? record_xattr_set(&node->xattrs->set, name, value) : -ENOMEM;

	if (r < 0)
		return r;
	record_xattr_remove(&node->xattrs->gone, name);
	attr_changed(node, RECORD_XATTR);
	return 0;
}

int xattr_take_away(struct node *node, struct str name)
{
	int r;

	if (!xattr_find(node, name))
		return -ENODATA;
	r = record_xattr_set(&node->xattrs->gone, name, STR(""));
	if (r < 0)
		return r;
	record_xattr_remove(&node->xattrs->set, name);
	attr_changed(node, RECORD_XATTR);
	return 0;
}

/* Puts an xattr in or (value NULL) takes it away, if the record then still fits a value. */
static int change(struct node *node, struct str name, const struct str *value)
{
	CLEANUP(buf_free) struct buf before = BUF_INIT;
	const struct buf *old = xattr_find(node, name);
	bool waited = node->wait.members & RECORD_XATTR;
	int r = old ? buf_set(&before, buf_str(old)) : 0, undone;

	if (r == 0)
		r = value ? xattr_put(node, name, *value) : xattr_take_away(node, name);
	if (r < 0)
		return r;
	r = attr_check(node);
	if (r == 0)
		return 0;
	undone = old ? xattr_put(node, name, buf_str(&before)) : xattr_take_away(node, name);
	if (!waited) {
		xattrs_forget_changes(node);
		node->wait.members &= ~(unsigned)RECORD_XATTR;
	}
	return undone < 0 ? undone : r;
}

/* --- ACLs: the mode goes with them --- */

static bool is_acl(struct str name)
{
	return str_equal(name, STR(XATTR_ACL_ACCESS)) || str_equal(name, STR(XATTR_ACL_DEFAULT));
}

static int set_access_acl(struct node *node, struct str acl, bool keeps_group_id)
{
	mode_t mode = node->mode;
	bool all_in_mode = acl_to_mode(acl, &mode);
	int r;

	if (!keeps_group_id)
		mode &= ~(mode_t)S_ISGID;
	r = change(node, STR(XATTR_ACL_ACCESS), all_in_mode ? NULL : &acl);
	if (r < 0 && !(all_in_mode && r == -ENODATA))
		return r;
	if (mode != node->mode) {
		node->mode = mode;
		attr_changed(node, RECORD_MODE);
	}
	return 0;
}

static int set_acl(struct node *node, struct str name, struct str acl, bool keeps_group_id)
{
	int r = acl_check(acl);

	if (r < 0)
		return r;
	if (S_ISLNK(node->mode))
		return -EOPNOTSUPP;
	if (str_equal(name, STR(XATTR_ACL_ACCESS)))
		return set_access_acl(node, acl, keeps_group_id);
	return node->dir ? change(node, name, &acl) : -EACCES;
}

/* --- calls --- */

static int set(struct node *node, struct str name, struct str value, int flags, bool keeps_group_id)
{
	bool there = xattr_find(node, name);

	if (is_acl(name))
		return set_acl(node, name, value, keeps_group_id);
	if (str_starts(name, STR("system.")))
		return -EOPNOTSUPP;
	if (there && flags & XATTR_CREATE)
		return -EEXIST;
	if (!there && flags & XATTR_REPLACE)
		return -ENODATA;
	return change(node, name, &value);
}

int fs_setxattr(struct fs *fs, uint64_t id, struct str name, struct str value, int flags, bool keeps_group_id)
{
	CLEANUP_NODE struct node *node = node_get(fs, id);
	CLEANUP(buf_free) struct buf name_copy = BUF_INIT;
	CLEANUP(buf_free) struct buf value_copy = BUF_INIT;
	int r = node ? 0 : -ESTALE;

	if (r == 0 && fs->config.read_only)
		r = -EROFS;
	if (r == 0)
		r = buf_set(&name_copy, name);
	if (r == 0)
		r = buf_set(&value_copy, value);
	if (r == 0)
		r = node_refresh(node);
	if (r == 0)
		r = held_settle(node);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (verb_is(buf_str(&name_copy)))
		return verb_set(node, buf_str(&name_copy), buf_str(&value_copy));
	r = set(node, buf_str(&name_copy), buf_str(&value_copy), flags, keeps_group_id);
	if (r == 0)
		node_changed_here(node);
	return r;
}

int fs_removexattr(struct fs *fs, uint64_t id, struct str name)
{
	CLEANUP_NODE struct node *node = node_get(fs, id);
	CLEANUP(buf_free) struct buf copy = BUF_INIT;
	int r = node ? 0 : -ESTALE;

	if (r == 0 && fs->config.read_only)
		r = -EROFS;
	if (r == 0)
		r = buf_set(&copy, name);
	if (r == 0)
		r = node_refresh(node);
	if (r == 0)
		r = held_settle(node);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	r = change(node, buf_str(&copy), NULL);
	if (r == -ENODATA && is_acl(buf_str(&copy)))
		return 0;
	if (r == 0)
		node_changed_here(node);
	return r;
}

bool fs_group(struct fs *fs, uint64_t id, uint32_t *gid)
{
	const struct node *node = node_find(fs, id);

	if (node)
		*gid = node->gid;
	return node;
}

static int get(const struct node *node, struct str name, struct buf *out)
{
	const struct buf *value = xattr_find(node, name);

	return value ? buf_set(out, buf_str(value)) : -ENODATA;
}

/* What the kernel asks before every write and every look at permissions is as old as the attributes that it has. */
bool fs_getxattr_at_once(struct fs *fs, uint64_t id, struct str name, struct buf *out, int *r)
{
	const struct node *node = node_find(fs, id);

	if (!node || verb_is(name))
		return false;
	if (!node_fresh(node) && !is_acl(name) && !str_equal(name, STR("security.capability")))
		return false;
	*r = get(node, name, out);
	return true;
}

int fs_getxattr(struct fs *fs, uint64_t id, struct str name, struct buf *out)
{
	CLEANUP_NODE struct node *node = node_get(fs, id);
	CLEANUP(buf_free) struct buf copy = BUF_INIT;
	int r = node ? buf_set(&copy, name) : -ESTALE;

	if (r == 0)
		r = node_refresh(node);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (verb_is(buf_str(&copy)))
		return verb_get(node, buf_str(&copy), out);
	return get(node, buf_str(&copy), out);
}

static int add_names(const struct node *node, const struct record *from, bool all, struct buf *out)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < from->xattr_count; i++) {
		struct str name = buf_str(&from->xattrs[i].name);

		if (!xattr_find(node, name) || (!all && str_starts(name, STR("trusted."))))
			continue;
		if (from == &node->xattrs->stored && record_xattr_find(&node->xattrs->set, name))
			continue;
		r = buf_add_str(out, name);
		if (r == 0)
			r = buf_add_char(out, '\0');
	}
	return r;
}

int fs_listxattr(struct fs *fs, uint64_t id, bool all, struct buf *out)
{
	CLEANUP_NODE struct node *node = node_get(fs, id);
	int r = node ? node_refresh(node) : -ESTALE;

	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	buf_clear(out);
	if (!node->xattrs)
		return 0;
	r = add_names(node, &node->xattrs->stored, all, out);
	return r < 0 ? r : add_names(node, &node->xattrs->set, all, out);
}
