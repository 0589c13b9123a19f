#include "fs/waiting.h"

#include <errno.h>
#include <fnmatch.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/internal.h"

/* Swap files in memory, all together. */
#define LOCAL_MOST (64u * 1024 * 1024)

/* Commits side by side. */
#define COMMIT_WINDOW 16

/* --- which names --- */

/* Of these the present content is of use to nobody else, nor after the end of this mount. */
static bool is_never(const char *pattern)
{
	static const char *const never[] = { "*.swp", "*.swx", "*.swpx", "4913" };

	for (size_t i = 0; i < sizeof(never) / sizeof(*never); i++)
		if (strcmp(pattern, never[i]) == 0)
			return true;
	return false;
}

/* These are synced before they are renamed to a name that counts. */
static bool is_scratch(const char *pattern)
{
	return strcmp(pattern, "tmp_*_??????") == 0 || strcmp(pattern, ".tmp-*-pack-*") == 0;
}

enum local local_class(const struct fs *fs, struct str name)
{
	CLEANUP(buf_free) struct buf word = BUF_INIT;
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	struct str patterns = fs->config.local;

	if (!patterns.len || buf_set(&text, name) < 0)
		return LOCAL_NOT;
	while (patterns.len) {
		const char *colon = memchr(patterns.p, ':', patterns.len);
		size_t len = colon ? (size_t)(colon - patterns.p) : patterns.len;

		if (buf_set(&word, str_of(patterns.p, len)) < 0)
			return LOCAL_NOT;
		if (len && fnmatch(word.p, text.p, 0) == 0)
			return is_never(word.p) ? LOCAL_NEVER : is_scratch(word.p) ? LOCAL_SCRATCH : LOCAL_LATER;
		patterns = str_skip(patterns, colon ? len + 1 : len);
	}
	return LOCAL_NOT;
}

static void set_local(struct node *node, enum local local)
{
	node->file->waiting.local = local;
	room_count(node);
}

/* --- the timer --- */

static void set_timer(struct fs *fs);

struct round {
	struct fs *fs;
	uint64_t now_us;
	struct co_group group;
};

static struct node *take_due(struct fs *fs, uint64_t now_us)
{
	struct node *node;

	DL_FOREACH2(fs->waiting, node, file->waiting.next)
	if (node->file->waiting.due_us && node->file->waiting.due_us <= now_us)
		return node;
	return NULL;
}

int waiting_commit(struct node *node)
{
	int r;

	node_ref(node);
	node->file->waiting.due_us = 0;
	set_local(node, LOCAL_NOT);
	r = file_commit_later(node);
	if (!node->file->dirty && !node->file->held)
		waiting_end(node);
	node_unref(node);
	return r;
}

static void commit_some(void *arg)
{
	struct round *round = arg;
	struct fs *fs = round->fs;
	struct node *node;

	while (!fs->ending && (node = take_due(fs, round->now_us)))
		if (waiting_commit(node) < 0)
			log_debug("the commit of a file that waited failed");
	co_group_done(&round->group);
}

static void commit_due(void *arg)
{
	struct fs *fs = arg;
	struct round round = { .fs = fs, .now_us = clock_now_us() };

	for (unsigned i = 0; i < COMMIT_WINDOW && take_due(fs, round.now_us); i++)
		co_start_beside(fs->loop, &round.group, commit_some, &round);
	co_group_wait(&round.group);
	set_timer(fs);
	fs_background_end(fs);
}

static void is_due(struct loop_timer *timer)
{
	struct fs *fs = lws_container_of(timer, struct fs, waiting_timer);

	fs->waiting_next_us = 0;
	if (fs_background_start(fs, commit_due) == -ENOMEM)
		set_timer(fs);
}

static void set_timer_to(struct fs *fs, uint64_t due_us)
{
	uint64_t now = clock_now_us();

	if (fs->waiting_next_us && fs->waiting_next_us <= due_us)
		return;
	fs->waiting_next_us = due_us;
	loop_timer_set(fs->loop, &fs->waiting_timer, due_us > now ? due_us - now : 0, is_due);
}

static void set_timer(struct fs *fs)
{
	uint64_t next = 0;
	struct node *node;

	DL_FOREACH2(fs->waiting, node, file->waiting.next)
	{
		uint64_t due = node->file->waiting.due_us;

		if (due && (!next || due < next))
			next = due;
	}
	if (next)
		set_timer_to(fs, next);
}

static void list(struct node *node)
{
	struct waiting *waiting = &node->file->waiting;

	if (waiting->listed)
		return;
	waiting->listed = true;
	DL_APPEND2(node->fs->waiting, node, file->waiting.prev, file->waiting.next);
}

void waiting_due_in(struct node *node, uint64_t delay_us)
{
	list(node);
	node->file->waiting.due_us = clock_now_us() + delay_us;
	set_timer_to(node->fs, node->file->waiting.due_us);
}

void waiting_retry(struct node *node)
{
	struct waiting *waiting = &node->file->waiting;
	uint64_t delay = waiting->retry_us ? 2 * waiting->retry_us : node->fs->config.retry_us;

	waiting->retry_us = delay < FS_RETRY_MOST_US ? delay : FS_RETRY_MOST_US;
	waiting_due_in(node, waiting->retry_us);
}

void waiting_end(struct node *node)
{
	struct waiting *waiting = &node->file->waiting;

	if (waiting->listed)
		DL_DELETE2(node->fs->waiting, node, file->waiting.prev, file->waiting.next);
	*waiting = (struct waiting){ 0 };
}

void waiting_free(struct fs *fs)
{
	loop_timer_cancel(&fs->waiting_timer);
}

void waiting_changed(struct node *node)
{
	struct file *file = node->file;

	if (file->closed_once && file->dirty && !file->waiting.due_us && !local_waits(node) &&
	    node->fs->config.commit_us)
		waiting_due_in(node, node->fs->config.commit_us);
}

/* --- local names --- */

void local_begin(struct node *node)
{
	set_local(node, local_class(node->fs, buf_str(&node->name)));
	if (node->file->waiting.local)
		list(node);
}

bool local_waits(const struct node *node)
{
	const struct file *file = node->file;

	return file && (file->held || (file->waiting.local != LOCAL_NOT && file->dirty && !file->stored));
}

bool local_stays(struct node *node)
{
	if (!local_waits(node) || node->file->waiting.local != LOCAL_NEVER)
		return false;
	if (node->fs->room.swap_bytes <= LOCAL_MOST)
		return true;
	if (!node->fs->local_full)
		log_warning("swap files take more than %u MiB: they go to the store as other files do",
			    LOCAL_MOST >> 20);
	node->fs->local_full = true;
	set_local(node, LOCAL_LATER);
	if (!node->file->opens)
		local_closed(node);
	return false;
}

bool local_is_scratch(struct node *node)
{
	return local_stays(node) || (local_waits(node) && node->file->waiting.local == LOCAL_SCRATCH);
}

bool local_may_move(struct node *node, const struct node *target, struct str new_name)
{
	enum local class;

	if (!local_waits(node) || node->file->held || file_was_tried(node))
		return false;
	if (target && (!target->file || !local_waits(target) || target->file->held || file_was_tried(target)))
		return false;
	/* under other names what was put there by renaming is content that counts */
	class = local_class(node->fs, new_name);
	if (class != LOCAL_SCRATCH && class != LOCAL_NEVER)
		return false;
	return class != LOCAL_NEVER || local_stays(node);
}

void local_moved(struct node *node)
{
	set_local(node, local_class(node->fs, buf_str(&node->name)));
	node->file->waiting.due_us = 0;
	if (!node->file->opens)
		local_closed(node);
}

void local_closed(struct node *node)
{
	if (local_waits(node) &&
	    (node->file->waiting.local == LOCAL_LATER || node->file->waiting.local == LOCAL_SCRATCH))
		waiting_due_in(node, node->fs->config.local_ttl_us);
}
