/* Coroutines on the loop: code that waits for the store and still reads top to bottom.
 *
 * A function that may wait is marked co_fn and is called from inside a coroutine only. Whatever was
 * true before a wait may be false after it: take what you need again, or hold a reference.
 *
 * One thread (the loop's) runs all coroutines; nothing here is thread-safe. Stacks are 64 KiB (256 KiB
 * under sanitizers) with a guard page, from a pool. */
#ifndef HPKVFS_BASE_COROUTINE_H
#define HPKVFS_BASE_COROUTINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/loop.h"

#define co_fn /* may wait */

struct coroutine;

/* Runs fn(arg) in a new coroutine at once, until it first waits or ends; then returns to the caller. May
 * be called from the loop or from another coroutine. 0, or -ENOMEM: then fn was not called. */
CHECKED int co_start(struct loop *loop, void (*fn)(void *arg), void *arg);

/* The coroutine that runs, or NULL on the loop's own stack. */
struct coroutine *co_self(void);

/* Waits until co_wake(co_self()). Answers 0, or -EINTR when the coroutine was interrupted (co_interrupt)
 * since `co_uninterruptible(true)` was not in force; the interruption is consumed by the call that reports
 * it. A wake that came before the wait is not lost. Spurious returns are possible: check your condition. */
co_fn CHECKED int co_wait(void);

/* Lets a waiting coroutine go on, later, from the loop's own stack. Safe from anywhere on the loop. */
void co_wake(struct coroutine *co);

/* Makes the present or next interruptible wait of `co` answer -EINTR. */
void co_interrupt(struct coroutine *co);

/* While on, interruptions of the running coroutine are kept for later. Answers the former setting. */
bool co_uninterruptible(bool on);

/* Waits for `us` microseconds; -EINTR when interrupted earlier. */
co_fn CHECKED int co_sleep(struct loop *loop, uint64_t us);

/* A queue of coroutines that wait for something to change. {0} before first use. */
struct co_waiter;
struct co_queue {
	struct co_waiter *first;
};

/* Waits for the next co_queue_wake_*. Check the condition again afterwards. -EINTR as co_wait. */
co_fn CHECKED int co_queue_wait(struct co_queue *queue);
void co_queue_wake_all(struct co_queue *queue);
void co_queue_wake_one(struct co_queue *queue);

/* A lock that is handed on in order of arrival. {0} before first use. */
struct co_mutex {
	bool held;
	struct co_queue waiters;
};

/* 0, or -EINTR and not held. */
co_fn CHECKED int co_mutex_lock(struct co_mutex *mutex);
void co_mutex_unlock(struct co_mutex *mutex);

/* Several requests started together and waited for together. {0} before first use; co_group_add before
 * each start, co_group_done in each completion. co_group_wait never answers before all are done: an
 * interruption is kept for the next wait. */
struct co_group {
	unsigned pending;
	struct coroutine *waiter;
};
void co_group_add(struct co_group *group);
void co_group_done(struct co_group *group);
co_fn void co_group_wait(struct co_group *group);

/* Adds one to the group and starts fn(arg), which ends with co_group_done, in a new coroutine; without memory for one it runs
 * in the present one, before this returns. */
co_fn void co_start_beside(struct loop *loop, struct co_group *group, void (*fn)(void *arg), void *arg);

/* Frees the pool of unused stacks (before a leak check). */
void co_pool_free(void);

#endif
