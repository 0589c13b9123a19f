/* What is known, given without asking anybody: to a helper of the mount's, which must never wait. */
#include <errno.h>

#include "fs/internal.h"

bool fs_find(struct fs *fs, uint64_t parent, struct str name, struct fs_found *out)
{
	struct node *dir = node_find(fs, parent);
	const struct node *node = dir && dir->dir ? node_child(dir, name) : NULL;

	if (!node)
		return false;
	*out = (struct fs_found){ .id = node->id, .mode = node->mode, .held = node_is_held(node) };
	return true;
}

bool fs_recall(struct fs *fs, uint64_t id, struct fs_entry *out)
{
	const struct node *node = node_find(fs, id);

	if (!node)
		return false;
	node_entry(node, out);
	if (!node_fresh(node) || node_is_unlinked(node))
		out->ttl_us = 0;
	return true;
}

bool fs_give(struct fs *fs, uint64_t id, struct fs_entry *out)
{
	struct node *node = node_find(fs, id);

	if (!node)
		return false;
	node_give(node, out);
	if (!node_fresh(node) || node_is_unlinked(node))
		node->given_us = out->ttl_us = 0;
	return true;
}

int fs_path(struct fs *fs, uint64_t id, struct buf *ids, struct buf *names)
{
	const struct node *node, *dir = node_find(fs, id);
	size_t count = 0, len = 0;
	int r;

	for (node = dir; node && node != fs->root; node = node->parent) {
		count++;
		len += node->name.len + 1;
	}
	if (!node)
		return -ESTALE;
	r = buf_resize(ids, count * sizeof(node->id));
	if (r == 0)
		r = buf_resize(names, len);
	if (r < 0)
		return r;
	/* from the innermost on, so from the end */
	for (node = dir; node != fs->root; node = node->parent) {
		len -= node->name.len + 1;
		memcpy(names->p + len, node->name.p, node->name.len);
		names->p[len + node->name.len] = '\0';
		memcpy(ids->p + --count * sizeof(node->id), &node->id, sizeof(node->id));
	}
	return 0;
}
