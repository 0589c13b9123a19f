/* Files by the ids of their chunks: what is told of a chunk concerns the files that show it. */
#include "base/list.h"
#include "fs/internal.h"

static void add(struct node *node, const struct content_id *id)
{
	struct fs *fs = node->fs;
	struct chunk_user *user = calloc(1, sizeof(*user)), *first;

	if (!user)
		return; /* its chunks are old until the value is looked at again */
	user->id = *id;
	user->node = node;
	HASH_FIND(hh, fs->push.by_id, id->hex, CONTENT_ID_LEN, first);
	if (!first) {
		HASH_ADD_KEYPTR(hh, fs->push.by_id, user->id.hex, CONTENT_ID_LEN, user);
		if (!user->hh.tbl) {
			free(user);
			return;
		}
	}
	DL_APPEND(first, user);
	user->more = node->file->chunk_users;
	node->file->chunk_users = user;
}

static void drop(struct chunk_user *user)
{
	struct fs *fs = user->node->fs;
	struct chunk_user *first, *head;

	HASH_FIND(hh, fs->push.by_id, user->id.hex, CONTENT_ID_LEN, first);
	head = first;
	if (first == user)
		HASH_DEL(fs->push.by_id, user);
	DL_DELETE(head, user);
	/* without memory the others of this id are as above */
	if (first == user && head)
		HASH_ADD_KEYPTR(hh, fs->push.by_id, head->id.hex, CONTENT_ID_LEN, head);
	free(user);
}

void chunk_users_forget(struct node *node)
{
	while (node->file->chunk_users) {
		struct chunk_user *user = node->file->chunk_users;

		node->file->chunk_users = user->more;
		drop(user);
	}
}

void chunk_users_set(struct node *node)
{
	const struct body *body = node->file->body;

	chunk_users_forget(node);
	for (unsigned i = 0; body && i < body->part_count; i++)
		if (body->parts[i].chunked)
			add(node, &body->parts[i].id);
}
