#include "fs/room.h"

#include <errno.h>

#include "base/clock.h"
#include "base/list.h"
#include "fs/internal.h"

/* Files from which room is made before it is looked anew which are the largest, and how many side by side. */
#define BATCH 256
#define WINDOW 16

/* A writer gives up after so many attempts in which nothing went. */
#define FAILURES 3

/* Files by the power of two of what they can give. */
#define SIZES 64

/* What is tried, in this order. */
enum effort {
	EFFORT_WHOLE, /* what need not be sent again */
	EFFORT_ALL,
	EFFORT_AGAIN, /* also where that has failed */
};

struct room_waiter {
	struct room_waiter *prev, *next;
	uint64_t bytes, since_us;
	unsigned failures;
	bool done;
	int err;
	struct co_queue ended;
};

struct batch {
	struct fs *fs;
	enum effort effort;
	struct node *files[BATCH]; /* each referred to */
	size_t count, next;
	uint64_t freed;
	bool answered; /* the store has carried something out */
	int err;
	struct co_group group;
};

/* --- counting --- */

void room_count(struct node *node)
{
	struct file *file = node->file;
	struct room *room = &node->fs->room;

	if (!file->draft)
		return;
	draft_count(file->draft, file->waiting.local == LOCAL_NEVER ? &room->swap_bytes : &room->bytes);
	if (!file->in_room)
		DL_APPEND2(room->files, node, file->room_prev, file->room_next);
	file->in_room = true;
}

void room_forget(struct node *node)
{
	struct file *file = node->file;

	if (file->in_room)
		DL_DELETE2(node->fs->room.files, node, file->room_prev, file->room_next);
	file->in_room = false;
}

static uint64_t limit_of(const struct fs *fs)
{
	return fs->config.waiting_most;
}

static bool fits(const struct fs *fs, uint64_t bytes)
{
	const struct room *room = &fs->room;
	uint64_t limit = limit_of(fs);

	if (room->least)
		limit = room->least + limit / 16;
	return room->bytes + room->promised + bytes <= limit;
}

/* --- which --- */

/* It can be committed before its time. */
static bool goes_as_a_whole(const struct node *node)
{
	const struct file *file = node->file;

	return !node_is_unlinked(node) && (!file->opens || (file->waiting.due_us && !local_waits(node)));
}

static uint64_t can_give(const struct node *node, enum effort effort)
{
	const struct file *file = node->file;
	const struct draft *draft = file->draft;

	if (file->waiting.local == LOCAL_NEVER || (file->waiting.failed && effort < EFFORT_AGAIN))
		return 0;
	if (goes_as_a_whole(node))
		return draft->memory;
	if (!file->opens || (file->append_only && !draft->tail.len))
		return 0;
	if (effort > EFFORT_WHOLE)
		return draft_can_free(draft, true);
	if (append_waits(node))
		return draft->tail.len >= draft->chunk_size ? draft->tail.capacity : 0;
	return draft->size > node->fs->config.max_value ? draft_can_free(draft, false) : 0;
}

static unsigned size_of(uint64_t bytes)
{
	return bytes ? SIZES - 1 - (unsigned)__builtin_clzll(bytes) : 0;
}

/* What files of each size can give, and all together. */
static uint64_t add_up(const struct fs *fs, enum effort effort, uint64_t sizes[SIZES])
{
	const struct node *node;
	uint64_t all = 0;

	memset(sizes, 0, SIZES * sizeof(*sizes));
	DL_FOREACH2(fs->room.files, node, file->room_next)
	{
		uint64_t bytes = can_give(node, effort);

		sizes[size_of(bytes)] += bytes;
		all += bytes;
	}
	return all;
}

static void choose_effort(struct batch *batch, uint64_t wanted, uint64_t sizes[SIZES])
{
	uint64_t all = 0;

	for (batch->effort = EFFORT_WHOLE;; batch->effort++) {
		all = add_up(batch->fs, batch->effort, sizes);
		if (batch->effort == EFFORT_AGAIN || all >= wanted)
			return;
	}
}

/* The largest that give as much as is wanted, and of the smallest of these the oldest. */
static void choose(struct batch *batch, uint64_t wanted)
{
	uint64_t sizes[SIZES], enough = 0;
	unsigned least = SIZES;
	struct node *node;

	choose_effort(batch, wanted, sizes);
	while (least > 0 && enough < wanted)
		enough += sizes[--least];
	for (unsigned round = 0; round < 2; round++) {
		DL_FOREACH2(batch->fs->room.files, node, file->room_next)
		{
			uint64_t bytes = can_give(node, batch->effort);
			bool larger = size_of(bytes) > least;

			if (batch->count == BATCH || (round && wanted == 0))
				return;
			if (!bytes || (round ? size_of(bytes) != least : !larger))
				continue;
			node_ref(node);
			batch->files[batch->count++] = node;
			wanted -= bytes < wanted ? bytes : wanted;
		}
	}
}

/* --- making room --- */

/* The text of an append that fails is lost, so none is tried before the store has shown that it answers. */
static co_fn int ask_store(struct batch *batch)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	struct fs *fs = batch->fs;
	int r = batch->answered ? 0 : store_get(fs->store, buf_str(&fs->layout_key), &value);

	return r == -ENOENT ? 0 : r;
}

static co_fn int give(struct batch *batch, struct node *node)
{
	int r = append_waits(node) ? ask_store(batch) : 0;

	if (r < 0 || !node->file->draft || !can_give(node, batch->effort))
		return r;
	if (goes_as_a_whole(node))
		return waiting_commit(node);
	if (append_waits(node) && !node_is_unlinked(node))
		return file_commit_later(node);
	return commit_ahead(node, batch->effort != EFFORT_WHOLE);
}

static bool enough(const struct fs *fs)
{
	return !fs->room.waiters && fs->room.bytes <= limit_of(fs) / 4 * 3;
}

static bool goes_on(const struct batch *batch)
{
	return batch->next < batch->count && !batch->err && !batch->fs->ending && !enough(batch->fs);
}

static uint64_t memory_of(const struct node *node)
{
	return node->file->draft ? node->file->draft->memory : 0;
}

static co_fn void give_next(struct batch *batch)
{
	struct node *node = batch->files[batch->next++];
	uint64_t before = memory_of(node), after;
	int r = give(batch, node);

	after = memory_of(node);
	if (after < before)
		batch->freed += before - after;
	if (r == 0 && after < before)
		batch->answered = true;
	if (r < 0 && !batch->err)
		batch->err = r;
	node->file->waiting.failed = r < 0 && node->file->draft;
	room_changed(batch->fs);
}

static void give_some(void *arg)
{
	struct batch *batch = arg;

	while (goes_on(batch))
		give_next(batch);
	co_group_done(&batch->group);
}

static co_fn void run_batch(struct batch *batch)
{
	struct fs *fs = batch->fs;
	uint64_t low = limit_of(fs) / 4 * 3, now = fs->room.bytes + fs->room.promised;

	choose(batch, now > low ? now - low : 1);
	/* one alone first: where the store is away, others would only wait for the same locks, and then for it, one after another */
	while (goes_on(batch) && !batch->answered)
		give_next(batch);
	for (size_t i = 0; i < WINDOW && goes_on(batch); i++)
		co_start_beside(fs->loop, &batch->group, give_some, batch);
	co_group_wait(&batch->group);
	for (size_t i = 0; i < batch->count; i++)
		node_unref(batch->files[i]);
}

/* --- who waits --- */

static void let_go(struct fs *fs, struct room_waiter *waiter, int err)
{
	DL_DELETE(fs->room.waiters, waiter);
	if (err == 0)
		fs->room.promised += waiter->bytes;
	waiter->err = err;
	waiter->done = true;
	co_queue_wake_all(&waiter->ended);
}

static void let_all_go(struct fs *fs)
{
	while (fs->room.waiters)
		let_go(fs, fs->room.waiters, 0);
}

void room_changed(struct fs *fs)
{
	if (fs->room.bytes <= limit_of(fs))
		fs->room.least = 0;
	while (fs->room.waiters && fits(fs, fs->room.waiters->bytes))
		let_go(fs, fs->room.waiters, 0);
}

/* Nothing went since `began_us`. */
static void tell_failure(struct fs *fs, uint64_t began_us, int err)
{
	uint64_t timeout = fs->config.timeout_us, now = clock_now_us();
	struct room_waiter *waiter, *next;

	DL_FOREACH_SAFE(fs->room.waiters, waiter, next) {
		waiter->failures += waiter->since_us <= began_us;
		if (waiter->failures == FAILURES || (timeout && now - waiter->since_us >= timeout))
			let_go(fs, waiter, err);
	}
}

static void make_room(void *arg)
{
	struct fs *fs = arg;

	while (fs->room.waiters && !fs->ending) {
		struct batch batch = { .fs = fs };
		uint64_t began_us = clock_now_us();

		run_batch(&batch);
		room_changed(fs);
		if (batch.freed)
			continue;
		if (batch.err) {
			tell_failure(fs, began_us, batch.err);
			continue;
		}
		fs->room.least = fs->room.bytes > limit_of(fs) ? fs->room.bytes : 0;
		let_all_go(fs);
	}
	fs->room.making = false;
	let_all_go(fs);
	fs_background_end(fs);
}

bool room_is_short(struct node *node, size_t bytes)
{
	return !local_stays(node) && (node->fs->room.waiters || !fits(node->fs, bytes));
}

int room_wait(struct node *node, size_t bytes)
{
	struct room_waiter waiter = { .bytes = bytes, .since_us = clock_now_us() };
	struct fs *fs = node->fs;
	struct room *room = &fs->room;

	if (!room_is_short(node, bytes))
		return 0;
	DL_APPEND(room->waiters, &waiter);
	if (!room->making) {
		room->making = true;
		if (fs_background_start(fs, make_room) < 0) {
			room->making = false;
			let_all_go(fs);
		}
	}
	while (!waiter.done)
		queue_wait(&waiter.ended);
	if (waiter.err == 0)
		room->promised -= bytes;
	return waiter.err;
}
