#include "fs/recovery.h"

#include <errno.h>

#include "base/log.h"
#include "fs/internal.h"

/* Where nothing was found the journal is looked at again after so many times the grace: one request. */
#define QUIET_GRACES 10

static void timer_fired(struct loop_timer *timer);

static void look_after(struct fs *fs, uint64_t delay_us)
{
	if (!fs->ending)
		loop_timer_set(fs->loop, &fs->recovery_timer, delay_us, timer_fired);
}

static const char *kind(enum journal_op op)
{
	switch (op) {
	case JOURNAL_RENAME:
		return "a directory's renaming";
	case JOURNAL_EXCHANGE:
		return "an exchange of two files";
	default:
		return "work";
	}
}

static void forget_implied(struct node *top)
{
	for (struct node *node = top; node; node = node_next_below(top, node))
		if (node->dir)
			node->dir->implied = false;
}

/* A directory that only keys implied does not stay where it has been moved away from. */
static void forget_directory(struct fs *fs, struct str dir_key)
{
	CLEANUP(buf_free) struct buf path = BUF_INIT;
	struct node *node = fs->root;
	struct str rest;

	if (names_path_from_key(&fs->existing, str_of(dir_key.p, dir_key.len - 1), false, &path) < 0)
		return;
	rest = buf_str(&path);
	while (node && node->dir && rest.len) {
		const char *slash = memchr(rest.p, '/', rest.len);
		struct str name = str_of(rest.p, slash ? (size_t)(slash - rest.p) : rest.len);

		node = node_child(node, name);
		rest = str_skip(rest, name.len + (slash ? 1 : 0));
	}
	if (node)
		forget_implied(node);
}

static co_fn int finish(struct fs *fs, struct journal_entry *entry)
{
	bool names = entry->op == JOURNAL_RENAME || entry->op == JOURNAL_EXCHANGE;
	unsigned kept = 0;
	int r;

	/* what is being moved is under both names, and what is made there now would be in its way */
	if (names)
		tree_exclusive(fs);
	r = journal_finish(&fs->journal, entry, &kept);
	if (r == 0 && entry->op == JOURNAL_RENAME)
		forget_directory(fs, buf_str(&entry->from));
	if (names) {
		doubt_below(fs->root);
		tree_exclusive_end(fs);
	}
	if (names && r == 0)
		log_info("finished %s that a mount had left half done", kind(entry->op));
	else if (r < 0 && r != -EALREADY && r != -ECANCELED && r != -EINVAL)
		log_warning("cannot finish %s that a mount has left half done: %s", kind(entry->op), strerror(-r));
	return r;
}

/* True if there is something that may be dead at the next look. */
static co_fn bool look(struct fs *fs)
{
	struct journal_entry *list = NULL, *entry;
	bool more = false;
	int r = journal_look(&fs->journal, &fs->journal_watch, &list);

	if (r < 0) {
		log_debug("the journal cannot be read: %s", strerror(-r));
		return true;
	}
	DL_FOREACH(list, entry) {
		if (entry->op == JOURNAL_UNKNOWN || entry->op == JOURNAL_KEPT || fs->ending)
			continue;
		r = entry->quiet_us < fs->journal.grace_us ? -EAGAIN : finish(fs, entry);
		more |= r < 0 && r != -EINVAL;
	}
	journal_free(&list);
	return more;
}

static void recover(void *arg)
{
	struct fs *fs = arg;
	bool more = look(fs);

	look_after(fs, more ? fs->journal.grace_us / 2 : QUIET_GRACES * fs->journal.grace_us);
	fs_background_end(fs);
}

static void timer_fired(struct loop_timer *timer)
{
	struct fs *fs = lws_container_of(timer, struct fs, recovery_timer);

	if (fs_background_start(fs, recover) < 0)
		look_after(fs, fs->journal.grace_us);
}

void recovery_start(struct fs *fs)
{
	look_after(fs, fs->journal.grace_us / 2);
}

void recovery_soon(struct fs *fs)
{
	look_after(fs, fs->journal.beat_us);
}

void recovery_stop(struct fs *fs)
{
	loop_timer_cancel(&fs->recovery_timer);
}

void recovery_free(struct fs *fs)
{
	recovery_stop(fs);
	journal_watch_deinit(&fs->journal_watch);
}
