#include "mount/invalidator.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/log.h"

/* So old must be what goes between requests that never end, and so young each of these: younger ones will be answered soon. */
#define HOLD_US (1 * (uint64_t)CLOCK_US_PER_S)

enum kind {
	KIND_ENTRY, /* a name, and perhaps the inode behind it */
	KIND_INODE,
	KIND_ATTRIBUTES,
};

/* One notification or a pair: first the name, then the inode. */
struct item {
	UT_hash_handle hh;
	struct item *prev, *next; /* in the queue, or in what a busy object holds */
	uint64_t id;              /* 0: none */
	uint64_t seq;             /* when it was queued, or got its inode */
	uint64_t queued_us;
	bool gone; /* a name that leads elsewhere */
	size_t name_len;
	struct {
		uint64_t kind;
		uint64_t number; /* the parent, or the inode */
		char name[];
	} key;
};

/* What requests keep locked. */
struct invalidator_busy {
	UT_hash_handle hh;
	struct {
		uint64_t lock, id;
	} key;
	struct invalidator_mark *marks; /* the oldest first; never empty */
	struct item *held;              /* what came to be written and was passed over, in its order */
};

/* A coroutine that waits. */
struct fence {
	struct fence *prev, *next;
	uint64_t id;
	uint64_t seq; /* of the last item that it waits for */
	size_t left;  /* items */
	bool late;
	struct coroutine *co;
	struct loop_timer timer;
};

enum epoch {
	EPOCH_UNKNOWN,
	EPOCH_KNOWN,
	EPOCH_LACKING,
};

struct invalidator {
	struct loop *loop;
	struct invalidator_kernel kernel;
	bool direct;
	pthread_t thread;
	bool started;
	struct loop_task alone_task;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	struct item *queue;
	struct item *by_key;  /* what is in the queue, and what is held */
	struct item *last;    /* the name that was queued last, and may get an inode yet: not written before */
	struct item *current; /* is being written */
	struct invalidator_busy *busy;
	struct fence *fences;
	uint64_t seq;
	bool waking; /* wake_fences is on its way */
	enum epoch epoch;
	bool epoch_due;
	bool overflowed;
	bool stop;
	struct invalidator_figures figures; /* but `queued` and `held` */
	void (*stopped)(void *arg);
	void *arg;
};

/* --- who waits --- */

static void wake_fences(void *arg)
{
	struct invalidator *invalidator = arg;
	struct fence *fence;

	pthread_mutex_lock(&invalidator->lock);
	invalidator->waking = false;
	DL_FOREACH(invalidator->fences, fence) {
		if (fence->left == 0)
			co_wake(fence->co);
	}
	pthread_mutex_unlock(&invalidator->lock);
}

/* The lock is held. Without memory for the message they wait for their time. */
static void tell_fences(struct invalidator *invalidator, const struct item *written)
{
	struct fence *fence;
	bool any = false;

	DL_FOREACH(invalidator->fences, fence) {
		if (fence->left == 0 || (written && (written->id != fence->id || written->seq > fence->seq)))
			continue;
		fence->left = written ? fence->left - 1 : 0;
		any = any || fence->left == 0;
	}
	if (any && !invalidator->waking)
		invalidator->waking = loop_post(invalidator->loop, wake_fences, invalidator) == 0;
}

static size_t count_items(const struct invalidator *invalidator, uint64_t id)
{
	size_t count = invalidator->current && invalidator->current->id == id;

	for (const struct item *item = invalidator->by_key; item; item = item->hh.next)
		count += item->id == id;
	return count;
}

static void fence_late(struct loop_timer *timer)
{
	struct fence *fence = lws_container_of(timer, struct fence, timer);

	fence->late = true;
	co_wake(fence->co);
}

static bool fence_done(struct invalidator *invalidator, const struct fence *fence)
{
	bool done;

	pthread_mutex_lock(&invalidator->lock);
	done = fence->left == 0 || fence->late;
	pthread_mutex_unlock(&invalidator->lock);
	return done;
}

void invalidator_wait(struct invalidator *invalidator, uint64_t id, uint64_t limit_us)
{
	struct fence fence = { .id = id, .co = co_self() };
	bool former, waits;

	pthread_mutex_lock(&invalidator->lock);
	fence.seq = invalidator->seq;
	if (!invalidator->stop)
		fence.left = count_items(invalidator, id);
	waits = fence.left > 0;
	if (waits)
		DL_APPEND(invalidator->fences, &fence);
	pthread_mutex_unlock(&invalidator->lock);
	if (!waits)
		return;
	former = co_uninterruptible(true);
	loop_timer_set(invalidator->loop, &fence.timer, limit_us, fence_late);
	while (!fence_done(invalidator, &fence))
		if (co_wait() < 0)
			continue; /* cannot be: interruptions are off */
	loop_timer_cancel(&fence.timer);
	co_uninterruptible(former);
	pthread_mutex_lock(&invalidator->lock);
	DL_DELETE(invalidator->fences, &fence);
	pthread_mutex_unlock(&invalidator->lock);
}

/* --- what is busy --- */

static struct invalidator_busy *find_busy(const struct invalidator *invalidator, enum invalidator_lock lock,
					  uint64_t id)
{
	struct invalidator_busy *busy = NULL;
	const uint64_t key[2] = { lock, id };

	if (invalidator->busy)
		HASH_FIND(hh, invalidator->busy, key, sizeof(key), busy);
	return busy;
}

/* An old one goes where all requests are young: those come one after the other without end. */
static bool goes_between(const struct invalidator_busy *busy, const struct item *item, uint64_t now)
{
	return now - item->queued_us >= HOLD_US && now - busy->marks->since_us < HOLD_US;
}

/* What an item would have to wait for; NULL: nothing. */
static struct invalidator_busy *blocker(const struct invalidator *invalidator, const struct item *item)
{
	struct invalidator_busy *busy = NULL;

	if (!invalidator->busy)
		return NULL;
	if (item->key.kind == KIND_ENTRY)
		busy = find_busy(invalidator, INVALIDATOR_NAMES, item->key.number);
	if (busy && !goes_between(busy, item, clock_now_us()))
		return busy;
	busy = NULL;
	if (item->id && item->key.kind != KIND_ATTRIBUTES)
		busy = find_busy(invalidator, INVALIDATOR_PAGES, item->id);
	return busy && !goes_between(busy, item, clock_now_us()) ? busy : NULL;
}

static void release_held(struct invalidator *invalidator, struct invalidator_busy *busy)
{
	if (!busy->held)
		return;
	/* in front: what is queued for the same came later */
	DL_CONCAT(busy->held, invalidator->queue);
	invalidator->queue = busy->held;
	busy->held = NULL;
	pthread_cond_signal(&invalidator->changed);
}

void invalidator_begin(struct invalidator *invalidator, enum invalidator_lock lock, uint64_t id,
		       struct invalidator_mark *mark)
{
	struct invalidator_busy *busy;

	pthread_mutex_lock(&invalidator->lock);
	busy = find_busy(invalidator, lock, id);
	if (!busy) {
		busy = calloc(1, sizeof(*busy));
		if (busy) {
			busy->key.lock = lock;
			busy->key.id = id;
			HASH_ADD(hh, invalidator->busy, key, sizeof(busy->key), busy);
			if (!busy->hh.tbl) {
				free(busy);
				busy = NULL;
			}
		}
	}
	/* without memory others wait with what concerns it */
	mark->busy = busy;
	mark->since_us = clock_now_us();
	if (busy)
		DL_APPEND(busy->marks, mark);
	pthread_mutex_unlock(&invalidator->lock);
}

void invalidator_end(struct invalidator *invalidator, struct invalidator_mark *mark)
{
	struct invalidator_busy *busy = STEAL(mark->busy);

	if (!busy)
		return;
	pthread_mutex_lock(&invalidator->lock);
	DL_DELETE(busy->marks, mark);
	if (!busy->marks || (busy->held && goes_between(busy, busy->held, clock_now_us())))
		release_held(invalidator, busy);
	if (!busy->marks) {
		HASH_DEL(invalidator->busy, busy);
		free(busy);
	}
	pthread_mutex_unlock(&invalidator->lock);
}

/* --- writing --- */

/* How many of each kind were written. */
struct written {
	uint64_t entries, inodes, attributes;
};

static void write_name(const struct invalidator_kernel *kernel, const struct item *item)
{
	if (item->gone)
		kernel->inval_entry(kernel->arg, item->key.number, item->key.name, item->name_len);
	else
		kernel->expire_entry(kernel->arg, item->key.number, item->key.name, item->name_len);
}

/* ENOENT is the usual answer: the kernel does not hold it. But an inode whose first reply is just being taken in is
 * not known either, and would stay stale; expiring waits for the directory's lock, and so for that reply. */
static struct written perform(const struct invalidator_kernel *kernel, const struct item *item)
{
	struct written written = { 0 };

	if (item->key.kind == KIND_ATTRIBUTES) {
		kernel->inval_attributes(kernel->arg, item->id);
		written.attributes = 1;
		return written;
	}
	if (item->key.kind == KIND_ENTRY) {
		write_name(kernel, item);
		written.entries++;
	}
	if (!item->id)
		return written;
	written.inodes++;
	if (kernel->inval_inode(kernel->arg, item->id) != -ENOENT || item->key.kind != KIND_ENTRY)
		return written;
	write_name(kernel, item);
	kernel->inval_inode(kernel->arg, item->id);
	written.entries++;
	written.inodes++;
	return written;
}

/* The next that can be written, or NULL. */
static struct item *take(struct invalidator *invalidator)
{
	struct item *item;

	while ((item = invalidator->queue) && item != invalidator->last) {
		struct invalidator_busy *busy = blocker(invalidator, item);

		DL_DELETE(invalidator->queue, item);
		if (!busy) {
			HASH_DEL(invalidator->by_key, item);
			return item;
		}
		DL_APPEND(busy->held, item);
	}
	return NULL;
}

static void count_written(struct invalidator *invalidator, const struct written *written)
{
	invalidator->figures.entries += written->entries;
	invalidator->figures.inodes += written->inodes;
	invalidator->figures.attributes += written->attributes;
}

/* The lock is held, and let go meanwhile. */
static void write_item(struct invalidator *invalidator, struct item *item)
{
	struct written written;

	invalidator->current = item;
	pthread_mutex_unlock(&invalidator->lock);
	written = perform(&invalidator->kernel, item);
	pthread_mutex_lock(&invalidator->lock);
	invalidator->current = NULL;
	count_written(invalidator, &written);
	if (invalidator->fences && item->id)
		tell_fences(invalidator, item);
	free(item);
}

/* Likewise. Waits for nothing, so it comes first. */
static void write_epoch(struct invalidator *invalidator)
{
	int r;

	invalidator->epoch_due = false;
	pthread_mutex_unlock(&invalidator->lock);
	r = invalidator->kernel.expire_all(invalidator->kernel.arg);
	pthread_mutex_lock(&invalidator->lock);
	if (invalidator->epoch == EPOCH_UNKNOWN)
		log_debug("the kernel %s expire all names at once", r == 0 ? "can" : "cannot");
	invalidator->epoch = r == 0 ? EPOCH_KNOWN : EPOCH_LACKING;
	invalidator->figures.all += r == 0;
}

static void *run(void *arg)
{
	struct invalidator *invalidator = arg;
	struct item *item;

	pthread_mutex_lock(&invalidator->lock);
	while (!invalidator->stop) {
		if (invalidator->epoch_due) {
			write_epoch(invalidator);
		} else if ((item = take(invalidator))) {
			write_item(invalidator, item);
		} else {
			if (!invalidator->by_key)
				invalidator->overflowed = false;
			pthread_cond_wait(&invalidator->changed, &invalidator->lock);
		}
	}
	pthread_mutex_unlock(&invalidator->lock);
	/* without memory for the message the end waits until there is some */
	while (invalidator->stopped && loop_post(invalidator->loop, invalidator->stopped, invalidator->arg) < 0)
		usleep(10000);
	return NULL;
}

/* --- queueing --- */

static size_t key_size(size_t name_len)
{
	return 2 * sizeof(uint64_t) + name_len;
}

static struct item *new_item(enum kind kind, uint64_t number, struct str name)
{
	struct item *item = calloc(1, sizeof(*item) + name.len + 1);

	if (!item)
		return NULL;
	item->queued_us = clock_now_us();
	item->name_len = name.len;
	item->key.kind = kind;
	item->key.number = number;
	if (kind != KIND_ENTRY)
		item->id = number;
	if (name.len)
		memcpy(item->key.name, name.p, name.len);
	return item;
}

/* True: the name is not queued, since all names will be expired. */
static bool overflows(struct invalidator *invalidator, enum kind kind)
{
	if (kind != KIND_ENTRY || invalidator->epoch != EPOCH_KNOWN ||
	    HASH_COUNT(invalidator->by_key) < INVALIDATOR_MAX)
		return false;
	if (!invalidator->overflowed)
		log_debug("too many invalidations at once: all names are expired");
	invalidator->overflowed = true;
	invalidator->figures.overflows++;
	invalidator->epoch_due = true;
	pthread_cond_signal(&invalidator->changed);
	return true;
}

/* Finds or adds; NULL where there is no room or no memory. The lock is held. */
static struct item *queue_item(struct invalidator *invalidator, enum kind kind, uint64_t number, struct str name)
{
	struct item *item = new_item(kind, number, name), *found;

	if (!item) {
		log_error("out of memory: the kernel cannot be told of a change");
		return NULL;
	}
	HASH_FIND(hh, invalidator->by_key, &item->key, key_size(name.len), found);
	if (found || overflows(invalidator, kind)) {
		free(item);
		return found;
	}
	HASH_ADD_KEYPTR(hh, invalidator->by_key, &item->key, key_size(name.len), item);
	if (!item->hh.tbl) {
		free(item);
		log_error("out of memory: the kernel cannot be told of a change");
		return NULL;
	}
	item->seq = ++invalidator->seq;
	DL_APPEND(invalidator->queue, item);
	if (HASH_COUNT(invalidator->by_key) > invalidator->figures.most)
		invalidator->figures.most = HASH_COUNT(invalidator->by_key);
	return item;
}

static void write_here(struct invalidator *invalidator, enum kind kind, uint64_t number, struct str name, bool gone)
{
	struct item *item = new_item(kind, number, name);
	struct written written;

	if (!item)
		return;
	item->gone = gone;
	written = perform(&invalidator->kernel, item);
	count_written(invalidator, &written);
	free(item);
}

/* The lock is held. What was queued last can be written. */
static void pair_is_whole(struct invalidator *invalidator)
{
	invalidator->last = NULL;
	pthread_cond_signal(&invalidator->changed);
}

/* No inode came: whoever queues both does it in one go. */
static void alone_task(struct loop_task *task)
{
	struct invalidator *invalidator = lws_container_of(task, struct invalidator, alone_task);

	pthread_mutex_lock(&invalidator->lock);
	pair_is_whole(invalidator);
	pthread_mutex_unlock(&invalidator->lock);
}

static void queue_name(struct invalidator *invalidator, uint64_t parent, struct str name, bool gone)
{
	if (invalidator->direct) {
		write_here(invalidator, KIND_ENTRY, parent, name, gone);
		return;
	}
	pthread_mutex_lock(&invalidator->lock);
	if (invalidator->last)
		pair_is_whole(invalidator);
	invalidator->last = queue_item(invalidator, KIND_ENTRY, parent, name);
	if (invalidator->last)
		invalidator->last->gone |= gone;
	pthread_mutex_unlock(&invalidator->lock);
	loop_defer(invalidator->loop, &invalidator->alone_task);
}

void invalidator_expire_entry(struct invalidator *invalidator, uint64_t parent, struct str name)
{
	queue_name(invalidator, parent, name, false);
}

void invalidator_inval_entry(struct invalidator *invalidator, uint64_t parent, struct str name)
{
	queue_name(invalidator, parent, name, true);
}

void invalidator_inval_inode(struct invalidator *invalidator, uint64_t id)
{
	struct item *item;

	if (invalidator->direct) {
		write_here(invalidator, KIND_INODE, id, STR(""), false);
		return;
	}
	pthread_mutex_lock(&invalidator->lock);
	item = invalidator->last;
	if (!item || (item->id && item->id != id))
		item = queue_item(invalidator, KIND_INODE, id, STR(""));
	if (item && !item->id) {
		item->id = id;
		item->seq = ++invalidator->seq;
	}
	pair_is_whole(invalidator);
	pthread_mutex_unlock(&invalidator->lock);
}

void invalidator_inval_attributes(struct invalidator *invalidator, uint64_t id)
{
	if (invalidator->direct) {
		write_here(invalidator, KIND_ATTRIBUTES, id, STR(""), false);
		return;
	}
	pthread_mutex_lock(&invalidator->lock);
	if (queue_item(invalidator, KIND_ATTRIBUTES, id, STR("")))
		pair_is_whole(invalidator);
	pthread_mutex_unlock(&invalidator->lock);
}

bool invalidator_expire_all(struct invalidator *invalidator)
{
	bool can;

	pthread_mutex_lock(&invalidator->lock);
	can = invalidator->epoch == EPOCH_KNOWN;
	if (can) {
		invalidator->epoch_due = true;
		pthread_cond_signal(&invalidator->changed);
	}
	pthread_mutex_unlock(&invalidator->lock);
	return can;
}

/* The kernel holds nothing yet, so one more revalidation tells whether it can do that, and costs nothing. */
void invalidator_start(struct invalidator *invalidator)
{
	pthread_mutex_lock(&invalidator->lock);
	invalidator->epoch_due = true;
	pthread_cond_signal(&invalidator->changed);
	pthread_mutex_unlock(&invalidator->lock);
}

struct invalidator_figures invalidator_figures(struct invalidator *invalidator)
{
	struct invalidator_figures figures;
	struct invalidator_busy *busy;
	struct item *item;

	pthread_mutex_lock(&invalidator->lock);
	figures = invalidator->figures;
	figures.queued = HASH_COUNT(invalidator->by_key) + (invalidator->current != NULL);
	for (busy = invalidator->busy; busy; busy = busy->hh.next)
		DL_FOREACH(busy->held, item)
			figures.held++;
	pthread_mutex_unlock(&invalidator->lock);
	return figures;
}

/* --- lifetime --- */

int invalidator_new(struct loop *loop, const struct invalidator_kernel *kernel, bool direct, struct invalidator **out)
{
	struct invalidator *invalidator = calloc(1, sizeof(*invalidator));
	int r;

	if (!invalidator)
		return -ENOMEM;
	invalidator->loop = loop;
	invalidator->kernel = *kernel;
	invalidator->direct = direct;
	invalidator->alone_task.fn = alone_task;
	pthread_mutex_init(&invalidator->lock, NULL);
	pthread_cond_init(&invalidator->changed, NULL);
	r = pthread_create(&invalidator->thread, NULL, run, invalidator);
	if (r) {
		invalidator_free(invalidator);
		return -r;
	}
	invalidator->started = true;
	*out = invalidator;
	return 0;
}

void invalidator_stop(struct invalidator *invalidator, void (*stopped)(void *arg), void *arg)
{
	pthread_mutex_lock(&invalidator->lock);
	invalidator->stopped = stopped;
	invalidator->arg = arg;
	invalidator->stop = true;
	tell_fences(invalidator, NULL);
	pthread_cond_signal(&invalidator->changed);
	pthread_mutex_unlock(&invalidator->lock);
}

void invalidator_free(struct invalidator *invalidator)
{
	struct invalidator_busy *busy, *next_busy;
	struct item *item, *next;

	if (!invalidator)
		return;
	if (invalidator->started) {
		pthread_mutex_lock(&invalidator->lock);
		invalidator->stop = true;
		pthread_cond_signal(&invalidator->changed);
		pthread_mutex_unlock(&invalidator->lock);
		pthread_join(invalidator->thread, NULL);
	}
	if (invalidator->waking)
		loop_run_posted(invalidator->loop);
	while (invalidator->alone_task.queued)
		loop_once(invalidator->loop);
	HASH_ITER(hh, invalidator->by_key, item, next) {
		HASH_DEL(invalidator->by_key, item);
		free(item);
	}
	HASH_ITER(hh, invalidator->busy, busy, next_busy) {
		HASH_DEL(invalidator->busy, busy);
		free(busy);
	}
	pthread_cond_destroy(&invalidator->changed);
	pthread_mutex_destroy(&invalidator->lock);
	free(invalidator);
}
