#include "mount/invalidator.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/log.h"
#include "config.h"

/* One notification or a pair: first the name, then the inode. Its key is the name with its parent, or, where
 * there is no name, the inode. */
struct item {
	UT_hash_handle hh;
	struct item *prev, *next;
	uint64_t id; /* 0: none */
	bool named;
	size_t name_len;
	struct {
		uint64_t number; /* the parent, or the inode */
		char name[];
	} key;
};

struct invalidator {
	struct fuse_session *session;
	pthread_t thread;
	bool started;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	struct item *queue;
	struct item *by_key;
	struct item *last; /* the name that was queued last, if nothing came after it */
	bool stop;
	bool overflowed;
	struct loop *loop;
	void (*stopped)(void *arg);
	void *arg;
};

/* --- writing --- */

static int expire(struct fuse_session *session, uint64_t parent, const char *name, size_t len)
{
	int r;

#ifdef HPKVFS_FUSE_EXPIRE_FLAGS
	r = fuse_lowlevel_notify_expire_entry(session, parent, name, len, FUSE_LL_EXPIRE_ONLY);
#else
	r = fuse_lowlevel_notify_expire_entry(session, parent, name, len);
#endif
	/* Linux before 6.2 */
	return r == -ENOSYS ? fuse_lowlevel_notify_inval_entry(session, parent, name, len) : r;
}

static int invalidate(struct fuse_session *session, uint64_t id)
{
	return fuse_lowlevel_notify_inval_inode(session, id, 0, 0);
}

/* ENOENT is the usual answer: the kernel does not hold it. But an inode whose first reply is just being taken in is
 * not known either, and would stay stale; expiring waits for the directory's lock, and so for that reply. */
static void perform(struct fuse_session *session, const struct item *item)
{
	if (item->named)
		expire(session, item->key.number, item->key.name, item->name_len);
	if (!item->id || invalidate(session, item->id) != -ENOENT || !item->named)
		return;
	expire(session, item->key.number, item->key.name, item->name_len);
	invalidate(session, item->id);
}

static struct item *take_first(struct invalidator *invalidator)
{
	struct item *item = invalidator->queue;

	DL_DELETE(invalidator->queue, item);
	HASH_DEL(invalidator->by_key, item);
	if (invalidator->last == item)
		invalidator->last = NULL;
	return item;
}

static void *run(void *arg)
{
	struct invalidator *invalidator = arg;

	pthread_mutex_lock(&invalidator->lock);
	while (!invalidator->stop) {
		struct item *item;

		if (!invalidator->queue) {
			invalidator->overflowed = false;
			pthread_cond_wait(&invalidator->changed, &invalidator->lock);
			continue;
		}
		item = take_first(invalidator);
		pthread_mutex_unlock(&invalidator->lock);
		perform(invalidator->session, item);
		free(item);
		pthread_mutex_lock(&invalidator->lock);
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
	return sizeof(uint64_t) + name_len;
}

/* Finds or adds; NULL where there is no room or no memory. The lock is held. */
static struct item *queue_item(struct invalidator *invalidator, bool named, uint64_t number, struct str name)
{
	struct item *item = calloc(1, sizeof(*item) + name.len + 1), *found;

	if (!item)
		return NULL;
	item->named = named;
	item->name_len = name.len;
	item->key.number = number;
	if (name.len)
		memcpy(item->key.name, name.p, name.len);
	HASH_FIND(hh, invalidator->by_key, &item->key, key_size(name.len), found);
	if (found) {
		free(item);
		return found;
	}
	if (HASH_COUNT(invalidator->by_key) >= INVALIDATOR_MAX) {
		if (!invalidator->overflowed)
			log_warning("too many invalidations at once: what programs see may be old for ttl= seconds");
		invalidator->overflowed = true;
		free(item);
		return NULL;
	}
	HASH_ADD_KEYPTR(hh, invalidator->by_key, &item->key, key_size(name.len), item);
	if (!item->hh.tbl) {
		free(item);
		return NULL;
	}
	DL_APPEND(invalidator->queue, item);
	pthread_cond_signal(&invalidator->changed);
	return item;
}

void invalidator_expire_entry(struct invalidator *invalidator, uint64_t parent, struct str name)
{
	pthread_mutex_lock(&invalidator->lock);
	invalidator->last = queue_item(invalidator, true, parent, name);
	pthread_mutex_unlock(&invalidator->lock);
}

void invalidator_inval_inode(struct invalidator *invalidator, uint64_t id)
{
	struct item *item;

	pthread_mutex_lock(&invalidator->lock);
	item = invalidator->last;
	if (!item || (item->id && item->id != id))
		item = queue_item(invalidator, false, id, STR(""));
	if (item)
		item->id = id;
	invalidator->last = NULL;
	pthread_mutex_unlock(&invalidator->lock);
}

/* --- lifetime --- */

int invalidator_new(struct fuse_session *session, struct invalidator **out)
{
	struct invalidator *invalidator = calloc(1, sizeof(*invalidator));
	int r;

	if (!invalidator)
		return -ENOMEM;
	invalidator->session = session;
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

void invalidator_stop(struct invalidator *invalidator, struct loop *loop, void (*stopped)(void *arg), void *arg)
{
	pthread_mutex_lock(&invalidator->lock);
	invalidator->loop = loop;
	invalidator->stopped = stopped;
	invalidator->arg = arg;
	invalidator->stop = true;
	pthread_cond_signal(&invalidator->changed);
	pthread_mutex_unlock(&invalidator->lock);
}

void invalidator_free(struct invalidator *invalidator)
{
	if (!invalidator)
		return;
	if (invalidator->started) {
		pthread_mutex_lock(&invalidator->lock);
		invalidator->stop = true;
		pthread_cond_signal(&invalidator->changed);
		pthread_mutex_unlock(&invalidator->lock);
		pthread_join(invalidator->thread, NULL);
	}
	while (invalidator->queue)
		free(take_first(invalidator));
	pthread_cond_destroy(&invalidator->changed);
	pthread_mutex_destroy(&invalidator->lock);
	free(invalidator);
}
