/* Stacks come from mmap with a guard page below, and are kept in a pool. Switching is ucontext's; the
 * address sanitizer is told of every switch, since it keeps a shadow of the stack. */
#include "base/coroutine.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

/* gcc has no __has_feature, so the two tests stand apart. */
#if defined(__SANITIZE_ADDRESS__)
#define CO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CO_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define CO_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CO_TSAN 1
#endif
#endif

#ifdef CO_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CO_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if defined(CO_ASAN) || defined(CO_TSAN)
#define STACK_BYTES (256 * 1024)
#else
#define STACK_BYTES (64 * 1024)
#endif
#define POOL_MAX 256

struct coroutine {
	struct coroutine *next_free; /* in the pool */
	struct loop_task task;       /* queued while a wake is on its way */
	struct loop *loop;
	void (*fn)(void *arg);
	void *arg;
	char *stack; /* behind the guard page */
	ucontext_t context;
	ucontext_t *resumer; /* where to go when this one waits or ends */
	struct coroutine *resumer_co;
	bool waiting, woken, interrupted, masked, ended;
#ifdef CO_ASAN
	void *fake_stack;
	const void *resumer_stack;
	size_t resumer_size;
#endif
#ifdef CO_TSAN
	void *fiber, *resumer_fiber;
#endif
};

static _Thread_local struct coroutine *current;
static _Thread_local struct coroutine *pool;
static _Thread_local unsigned pool_count;

static struct coroutine *coroutine_new(void)
{
	long page = sysconf(_SC_PAGESIZE);
	struct coroutine *co = pool;
	char *memory;

	if (co) {
		pool = co->next_free;
		pool_count--;
		memory = co->stack;
		*co = (struct coroutine){ .stack = memory };
		return co;
	}
	co = calloc(1, sizeof(*co));
	if (!co)
		return NULL;
	memory = mmap(NULL, STACK_BYTES + (size_t)page, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (memory == MAP_FAILED) {
		free(co);
		return NULL;
	}
	if (mprotect(memory, (size_t)page, PROT_NONE) < 0) {
		munmap(memory, STACK_BYTES + (size_t)page);
		free(co);
		return NULL;
	}
	co->stack = memory + page;
	return co;
}

static void coroutine_destroy(struct coroutine *co)
{
	long page = sysconf(_SC_PAGESIZE);

	munmap(co->stack - page, STACK_BYTES + (size_t)page);
	free(co);
}

static void coroutine_release(struct coroutine *co)
{
#ifdef CO_TSAN
	__tsan_destroy_fiber(co->fiber);
#endif
	if (pool_count >= POOL_MAX) {
		coroutine_destroy(co);
		return;
	}
	co->next_free = pool;
	pool = co;
	pool_count++;
}

void co_pool_free(void)
{
	while (pool) {
		struct coroutine *co = pool;

		pool = co->next_free;
		coroutine_destroy(co);
	}
	pool_count = 0;
}

/* From the coroutine back to whoever resumed it. */
static void switch_out(struct coroutine *co)
{
	current = co->resumer_co;
#ifdef CO_ASAN
	__sanitizer_start_switch_fiber(co->ended ? NULL : &co->fake_stack, co->resumer_stack, co->resumer_size);
#endif
#ifdef CO_TSAN
	__tsan_switch_to_fiber(co->resumer_fiber, 0);
#endif
	swapcontext(&co->context, co->resumer);
#ifdef CO_ASAN
	__sanitizer_finish_switch_fiber(co->fake_stack, &co->resumer_stack, &co->resumer_size);
#endif
}

/* From the loop (or a coroutine that starts another) into `co`, until it waits or ends. */
static void switch_in(struct coroutine *co)
{
	ucontext_t here;
#ifdef CO_ASAN
	void *fake_stack = NULL;
#endif

	co->resumer = &here;
	co->resumer_co = current;
	current = co;
#ifdef CO_ASAN
	__sanitizer_start_switch_fiber(&fake_stack, co->stack, STACK_BYTES);
#endif
#ifdef CO_TSAN
	co->resumer_fiber = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(co->fiber, 0);
#endif
	swapcontext(&here, &co->context);
#ifdef CO_ASAN
	__sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
#endif
	if (co->ended && !co->task.queued)
		coroutine_release(co);
}

/* makecontext passes ints, so the pointer travels in two halves. */
static void entry(unsigned high, unsigned low)
{
	struct coroutine *co = (struct coroutine *)(((uintptr_t)high << 32) | (uintptr_t)low);

#ifdef CO_ASAN
	__sanitizer_finish_switch_fiber(NULL, &co->resumer_stack, &co->resumer_size);
#endif
	co->fn(co->arg);
	co->ended = true;
	switch_out(co);
	abort(); /* nobody resumes what has ended */
}

static void wake_task(struct loop_task *task)
{
	struct coroutine *co = lws_container_of(task, struct coroutine, task);

	if (co->ended)
		coroutine_release(co);
	else if (co->waiting)
		switch_in(co);
}

int co_start(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct coroutine *co = coroutine_new();

	if (!co)
		return -ENOMEM;
	co->loop = loop;
	co->fn = fn;
	co->arg = arg;
	co->task.fn = wake_task;
	getcontext(&co->context);
	co->context.uc_stack.ss_sp = co->stack;
	co->context.uc_stack.ss_size = STACK_BYTES;
	co->context.uc_link = NULL;
#ifdef CO_TSAN
	co->fiber = __tsan_create_fiber(0);
#endif
	makecontext(&co->context, (void (*)(void))entry, 2, (unsigned)((uintptr_t)co >> 32), (unsigned)(uintptr_t)co);
	switch_in(co);
	return 0;
}

struct coroutine *co_self(void)
{
	return current;
}

static bool take_interruption(struct coroutine *co)
{
	if (!co->interrupted || co->masked)
		return false;
	co->interrupted = false;
	return true;
}

int co_wait(void)
{
	struct coroutine *co = current;

	if (take_interruption(co))
		return -EINTR;
	if (!co->woken) {
		co->waiting = true;
		switch_out(co);
		co->waiting = false;
	}
	co->woken = false;
	return take_interruption(co) ? -EINTR : 0;
}

void co_wake(struct coroutine *co)
{
	co->woken = true;
	if (co->waiting)
		loop_defer(co->loop, &co->task);
}

void co_interrupt(struct coroutine *co)
{
	co->interrupted = true;
	if (co->waiting && !co->masked)
		loop_defer(co->loop, &co->task);
}

bool co_uninterruptible(bool on)
{
	bool former = current->masked;

	current->masked = on;
	return former;
}

struct sleeper {
	struct loop_timer timer;
	struct coroutine *co;
	bool fired;
};

static void sleep_over(struct loop_timer *timer)
{
	struct sleeper *sleeper = lws_container_of(timer, struct sleeper, timer);

	sleeper->fired = true;
	co_wake(sleeper->co);
}

int co_sleep(struct loop *loop, uint64_t us)
{
	struct sleeper sleeper = { .co = current };
	int r = 0;

	loop_timer_set(loop, &sleeper.timer, us, sleep_over);
	while (!sleeper.fired && r == 0)
		r = co_wait();
	loop_timer_cancel(&sleeper.timer);
	return r;
}

/* On the waiting coroutine's stack. */
struct co_waiter {
	struct co_waiter *next;
	struct coroutine *co;
	bool done;
};

static void queue_remove(struct co_queue *queue, struct co_waiter *waiter)
{
	for (struct co_waiter **p = &queue->first; *p; p = &(*p)->next)
		if (*p == waiter) {
			*p = waiter->next;
			return;
		}
}

int co_queue_wait(struct co_queue *queue)
{
	struct co_waiter waiter = { .co = current };
	struct co_waiter **last = &queue->first;

	while (*last)
		last = &(*last)->next;
	*last = &waiter;
	while (!waiter.done) {
		int r = co_wait();

		if (r == 0)
			continue;
		if (waiter.done) {
			/* both at once: what was waited for wins, the interruption stays for the next wait */
			waiter.co->interrupted = true;
			break;
		}
		queue_remove(queue, &waiter);
		return r;
	}
	return 0;
}

void co_queue_wake_one(struct co_queue *queue)
{
	struct co_waiter *waiter = queue->first;

	if (!waiter)
		return;
	queue->first = waiter->next;
	waiter->done = true;
	co_wake(waiter->co);
}

void co_queue_wake_all(struct co_queue *queue)
{
	while (queue->first)
		co_queue_wake_one(queue);
}

int co_mutex_lock(struct co_mutex *mutex)
{
	if (!mutex->held) {
		mutex->held = true;
		return 0;
	}
	return co_queue_wait(&mutex->waiters);
}

void co_mutex_unlock(struct co_mutex *mutex)
{
	/* with waiters the lock stays held and changes hands, so that nobody overtakes */
	if (mutex->waiters.first)
		co_queue_wake_one(&mutex->waiters);
	else
		mutex->held = false;
}

void co_group_add(struct co_group *group)
{
	group->pending++;
}

void co_group_done(struct co_group *group)
{
	if (--group->pending == 0 && group->waiter)
		co_wake(group->waiter);
}

void co_group_wait(struct co_group *group)
{
	bool former = co_uninterruptible(true);

	group->waiter = current;
	while (group->pending)
		if (co_wait() < 0)
			break; /* cannot be: interruptions are off */
	group->waiter = NULL;
	co_uninterruptible(former);
}

void co_start_beside(struct loop *loop, struct co_group *group, void (*fn)(void *arg), void *arg)
{
	co_group_add(group);
	if (co_start(loop, fn, arg) < 0)
		fn(arg);
}
