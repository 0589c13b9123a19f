#include "fs/news.h"

#include "fs/internal.h"

struct item {
	struct node *node; /* referred to */
	char hash[CONTENT_HASH_LEN + 1];
};

struct news {
	struct node *dir; /* likewise */
	uint64_t seq, next_cookie;
	size_t count;
	struct item items[];
};

void news_raise(struct node *dir, enum fs_event_kind kind, struct str name, struct node *node)
{
	const struct fs_notify *notify = &dir->fs->notify;
	const struct fs_event event = {
		.kind = kind,
		.parent = dir->id,
		.name = name,
		.id = node ? node->id : 0,
		.mode = node ? node->mode : S_IFREG | 0600,
	};

	if (!notify->event || !node_is_held(dir))
		return;
	if (node)
		node->event_seq = fs_tick(dir->fs);
	notify->event(notify->arg, &event);
}

struct news *news_begin(struct node *dir)
{
	struct fs *fs = dir->fs;
	struct node *child;
	struct news *news;

	if (!fs->notify.event || !node_is_held(dir) || !dir->dir->complete)
		return NULL;
	news = calloc(1, sizeof(*news) + HASH_CNT(by_name, dir->dir->children) * sizeof(news->items[0]));
	if (!news)
		return NULL;
	node_ref(dir);
	news->dir = dir;
	news->seq = fs_tick(fs);
	news->next_cookie = dir->dir->next_cookie;
	for (child = node_next_child(dir, 0); child; child = node_next_child(dir, child->cookie)) {
		struct item *item = &news->items[news->count++];

		node_ref(child);
		item->node = child;
		if (child->file)
			memcpy(item->hash, child->file->hash, sizeof(item->hash));
	}
	return news;
}

/* By programs here, or programs have been told of it. */
static bool is_known(const struct news *news, const struct node *node)
{
	return node->gone_here || node->change_seq > news->seq || node->event_seq > news->seq ||
	       names_is_value(buf_str(&node->name)) ||
	       (node->file && (node->file->dirty || node->file->held || node->file->provisional));
}

static void tell_item(const struct news *news, const struct item *item)
{
	struct node *node = item->node;

	if (is_known(news, node))
		return;
	if (!node->parent)
		news_raise(news->dir, FS_EVENT_REMOVED, buf_str(&node->name), node);
	else if (node->parent == news->dir && node->file && strcmp(node->file->hash, item->hash) != 0)
		news_raise(news->dir, FS_EVENT_CHANGED, buf_str(&node->name), node);
}

static void tell(const struct news *news)
{
	struct node *child = node_next_child(news->dir, news->next_cookie - 1);

	for (size_t i = 0; i < news->count; i++)
		tell_item(news, &news->items[i]);
	for (; child; child = node_next_child(news->dir, child->cookie))
		if (!is_known(news, child))
			news_raise(news->dir, FS_EVENT_CREATED, buf_str(&child->name), child);
}

void news_end(struct news *news, bool listed)
{
	if (!news)
		return;
	if (listed && news->dir->dir->complete && !node_is_unlinked(news->dir))
		tell(news);
	for (size_t i = 0; i < news->count; i++)
		node_unref(news->items[i].node);
	node_unref(news->dir);
	free(news);
}
