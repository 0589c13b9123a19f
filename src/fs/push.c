/* A subscription from its begin to its end: what is told waits for what is being changed here; at the begin all that is in use is
 * asked for again, at the end the kernel is told to ask. */
#include "fs/push.h"

#include <errno.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "fs/internal.h"
#include "fs/listing.h"
#include "fs/news.h"
#include "fs/snapshot.h"
#include "fs/told.h"

/* Names that the kernel believes absent without limit. */
#define ABSENCES_MOST 10000

/* By the server's clock no notification is so far ahead of ours. */
#define AHEAD_MOST_NS (INT64_C(24) * 3600 * CLOCK_NS_PER_S)

/* Of a large directory so many files are asked for one by one; of more it is listed. */
#define ALONE_MOST 10

/* Each of them would take two requests or three; the whole may take a quarter of one for each, so that little is lost where the
 * store has more. */
#define TOGETHER_KEYS_A_DIR (PAGE_RECORDS / 4)
#define TOGETHER_BYTES (16u * 1024 * 1024)

/* After a failure what is in use is asked for again. */
#define AGAIN_US (1 * CLOCK_US_PER_S)

struct absence {
	UT_hash_handle hh;
	size_t len;
	struct {
		uint64_t dir;
		char name[];
	} key;
};

bool push_keeps(const struct fs *fs, uint64_t seq)
{
	return fs->push.live && seq >= fs->push.since;
}

bool answer_holds(const struct fs *fs, uint64_t seq, uint64_t at_us)
{
	return fs->push.live ? push_keeps(fs, seq) : clock_now_us() - at_us < fs->config.ttl_us;
}

bool node_was_checked(const struct node *node)
{
	return node->checked_us && answer_holds(node->fs, node->checked_seq, node->checked_us);
}

/* Not by a clock that is far from ours. */
int64_t push_now_ns(const struct fs *fs)
{
	int64_t now = clock_real_ns(), told = fs->push.told_ns;

	return told > 0 && told < now + AHEAD_MOST_NS ? told : now;
}

/* --- names that the kernel believes absent --- */

static size_t absence_size(size_t len)
{
	return sizeof(uint64_t) + len;
}

static struct absence *absence_new(const struct node *dir, struct str name)
{
	struct absence *made = calloc(1, sizeof(*made) + name.len + 1);

	if (!made)
		return NULL;
	made->len = name.len;
	made->key.dir = dir->id;
	memcpy(made->key.name, name.p, name.len);
	return made;
}

/* `tell`: the kernel believes it no longer. */
static void absence_drop(struct fs *fs, struct absence *absence, bool tell)
{
	if (tell)
		fs->notify.expire_entry(fs->notify.arg, absence->key.dir, str_of(absence->key.name, absence->len));
	HASH_DEL(fs->push.absences, absence);
	free(absence);
}

static void absences_clear(struct fs *fs, bool tell)
{
	struct absence *absence, *next;

	HASH_ITER(hh, fs->push.absences, absence, next)
		absence_drop(fs, absence, tell);
}

uint64_t push_give_absent(struct node *dir, struct str name, uint64_t seq)
{
	struct fs *fs = dir->fs;
	struct absence *absence, *known;

	if (!(dir_is_known(dir) && push_keeps(fs, dir->dir->listed_seq)) && !(dir->dir->large && push_keeps(fs, seq)))
		return 0;
	absence = absence_new(dir, name);
	if (!absence)
		return 0;
	HASH_FIND(hh, fs->push.absences, &absence->key, absence_size(name.len), known);
	if (known) {
		free(absence);
		return FS_FOREVER;
	}
	HASH_ADD_KEYPTR(hh, fs->push.absences, &absence->key, absence_size(name.len), absence);
	if (!absence->hh.tbl) {
		free(absence);
		return 0;
	}
	if (HASH_COUNT(fs->push.absences) > ABSENCES_MOST)
		absence_drop(fs, fs->push.absences, true);
	return FS_FOREVER;
}

/* --- what is told --- */

void push_go_on(struct fs *fs)
{
	if (!fs->exclusive)
		echoes_go_on(&fs->push.echoes);
}

void push_name_begin(struct push_name *held, const struct node *dir, struct str name)
{
	*held = (struct push_name){ .dir = dir, .name = name };
	DL_APPEND(dir->fs->push.names, held);
}

void push_name_end(struct push_name *held)
{
	if (!held->dir)
		return;
	DL_DELETE(held->dir->fs->push.names, held);
	push_go_on(held->dir->fs);
}

static int apply(void *arg, struct str key, const struct told *told)
{
	return told_apply(arg, key, told);
}

static void lost(void *arg, const char *why)
{
	struct fs *fs = arg;

	log_warning("%s", why);
	if (fs->notify.echo_missing)
		fs->notify.echo_missing(fs->notify.arg);
	else
		fs_subscription_end(fs);
}

void fs_notified(struct fs *fs, struct str key, const struct str *value, int64_t time_ms)
{
	const struct told told = { .deleted = !value, .value = value ? *value : STR(""), .time_ms = time_ms };

	echoes_hear(&fs->push.echoes, key, &told);
}

/* --- begin --- */

static bool goes_on(const struct fs *fs, unsigned period)
{
	return fs->push.period == period && !fs->ending;
}

static bool in_use(const struct node *dir)
{
	return dir->dir && !node_is_unlinked(dir) && (dir->lookups || dir == dir->fs->root || dir->dir->children) &&
	       dir->dir->listed_seq;
}

static int unless_gone(int r)
{
	return r == -ENOENT || r == -ESTALE ? 0 : r;
}

static co_fn int ask_alone(struct node *dir, unsigned period)
{
	struct node *child = node_next_child(dir, 0);
	int r = 0;

	while (child && goes_on(dir->fs, period) && r == 0) {
		uint64_t cookie = child->cookie;

		node_ref(child);
		if (child->lookups) {
			child->checked_us = 0;
			r = unless_gone(node_refresh(child));
		}
		node_unref(child);
		child = node_next_child(dir, cookie);
	}
	return r;
}

static unsigned held_children(struct node *dir)
{
	unsigned count = 0;

	for (struct node *child = node_next_child(dir, 0); child; child = node_next_child(dir, child->cookie))
		count += child->lookups != 0;
	return count;
}

/* A listing that was under way is older. */
static co_fn int list_since(struct node *dir, unsigned period)
{
	int r;

	do {
		dir->dir->listed_us = 0;
		r = dir_list(dir, true);
	} while (r == 0 && goes_on(dir->fs, period) && dir->dir->listed_seq < dir->fs->push.since);
	return r;
}

static co_fn int ask_dir(struct node *dir, unsigned period)
{
	struct news *news;
	int r;

	if (dir->dir->listed_us && dir->dir->listed_seq >= dir->fs->push.since)
		return 0;
	dir->dir->listed_us = 0; /* until it is answered, nothing of before holds */
	if (dir->dir->large && held_children(dir) <= ALONE_MOST)
		return ask_alone(dir, period);
	news = news_begin(dir);
	r = list_since(dir, period);
	news_end(news, r == 0);
	return unless_gone(r);
}

/* Directories that are asked for at once. */
struct together {
	struct node **dirs;
	size_t count;
};

static bool is_to_be_listed(const struct node *node)
{
	return in_use(node) && !node->dir->listing && node->dir->listed_seq < node->fs->push.since;
}

static int collect(struct fs *fs, struct together *together)
{
	struct node *node = NULL;
	size_t count = 0;

	while ((node = node_next(fs, node)))
		count += is_to_be_listed(node);
	if (count < fs->config.together_least)
		return 0;
	together->dirs = calloc(count, sizeof(struct node *));
	if (!together->dirs)
		return -ENOMEM;
	while ((node = node_next(fs, node)))
		if (is_to_be_listed(node))
			together->dirs[together->count++] = node;
	return 0;
}

static co_fn int list_together(struct fs *fs, const struct together *together, unsigned period)
{
	struct snapshot *snapshot = NULL;
	struct list_answer answer;
	size_t i;
	int r;

	tree_settle(fs);
	answer = (struct list_answer){ .seq = fs_tick(fs), .exclusives = fs->exclusives };
	r = snapshot_take(&fs->layout, together->count * TOGETHER_KEYS_A_DIR, TOGETHER_BYTES, &snapshot);
	if (r == 0)
		answer.layout = snapshot_layout(snapshot);
	for (i = 0; r == 0 && i < together->count && goes_on(fs, period); i++) {
		struct node *dir = together->dirs[i];
		struct news *news;

		dir->dir->listed_us = 0; /* until it is answered, nothing of before holds */
		news = news_begin(dir);
		r = node_is_unlinked(dir) ? 0 : dir_list_from(dir, &answer);
		news_end(news, r == 0);
		dir_list_end(dir, r);
		r = unless_gone(r);
	}
	for (; i < together->count; i++)
		dir_list_end(together->dirs[i], -EAGAIN);
	snapshot_free(snapshot);
	return r == -E2BIG || r == -EAGAIN ? 0 : r;
}

/* What is left is asked for one by one. */
static co_fn int ask_together(struct fs *fs, unsigned period)
{
	struct together together = { 0 };
	int r = collect(fs, &together);

	for (size_t i = 0; i < together.count; i++)
		dir_list_begin(together.dirs[i], true);
	if (together.count)
		r = list_together(fs, &together, period);
	free(together.dirs);
	return r;
}

static co_fn int ask_for_all(struct fs *fs, unsigned period)
{
	struct node *node, *next;
	int r = ask_together(fs, period);

	for (node = node_next(fs, NULL); node && r == 0 && goes_on(fs, period); node = next) {
		node_ref(node);
		if (in_use(node))
			r = ask_dir(node, period);
		next = node_next(fs, node);
		node_unref(node);
	}
	return r;
}

static void ask_again(void *arg)
{
	struct fs *fs = arg;
	unsigned period = fs->push.period;

	while (goes_on(fs, period)) {
		if (ask_for_all(fs, period) == 0) {
			if (goes_on(fs, period))
				fs->push.live = true;
			break;
		}
		if (co_sleep(fs->loop, AGAIN_US) < 0)
			continue;
	}
	fs_background_end(fs);
}

void fs_subscription_begin(struct fs *fs)
{
	fs_subscription_end(fs);
	if (fs->ending)
		return;
	fs->push.period++;
	fs->push.since = fs_tick(fs);
	echoes_begin(&fs->push.echoes);
	if (fs_background_start(fs, ask_again) < 0)
		echoes_overflow(&fs->push.echoes);
}

/* --- end --- */

static void forget_copies(struct fs *fs)
{
	struct fs_handle *handle;

	DL_FOREACH(fs->open, handle)
		if (handle->copies)
			handle->node->dir->copy_version = COPY_MIXED;
}

/* Pages of what is open are read without asking. */
static void tell_kernel_to_ask(struct fs *fs)
{
	const struct fs_notify *notify = &fs->notify;
	bool names = !notify->expire_all || !notify->expire_all(notify->arg);
	struct node *node;

	absences_clear(fs, names);
	for (node = node_next(fs, NULL); node; node = node_next(fs, node)) {
		if (!node_is_held(node))
			continue;
		node->given_us = 0;
		if (names && node->parent)
			notify->expire_entry(notify->arg, node->parent->id, buf_str(&node->name));
		if (notify->inval_attributes && !(node->file && node->file->opens) && !(node->dir && node->dir->opens))
			notify->inval_attributes(notify->arg, node->id);
		else
			notify->inval_inode(notify->arg, node->id);
	}
}

void fs_subscription_end(struct fs *fs)
{
	struct push *push = &fs->push;

	if (!push->echoes.on)
		return;
	push->live = false;
	push->period++;
	echoes_end(&push->echoes);
	free(STEAL(push->gone));
	push->next_gone = 0;
	forget_copies(fs);
	if (!fs->ending)
		tell_kernel_to_ask(fs);
}

void push_figures(const struct fs *fs, struct fs_figures *figures)
{
	figures->deferred = fs->push.echoes.ready;
	figures->absences = HASH_COUNT(fs->push.absences);
}

void push_init(struct fs *fs, struct store *store)
{
	struct push *push = &fs->push;

	push->echoes.apply = apply;
	push->echoes.lost = lost;
	push->echoes.arg = fs;
	echoes_init(&push->echoes, store, fs->loop);
	fs->store = &push->echoes.store;
}

void push_free(struct fs *fs)
{
	fs->ending = true;
	fs_subscription_end(fs);
	absences_clear(fs, false);
	echoes_free(&fs->push.echoes);
}
