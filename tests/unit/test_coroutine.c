/* Coroutines: waits, wakes and interruptions in every order, queues, locks, groups, and many at once. */
#include "base/coroutine.h"

#include "base/clock.h"
#include "unit.h"

static struct loop *loop;

/* What happened, one letter an event. */
static char trace[64];

static void note(char c)
{
	size_t len = strlen(trace);

	assert_true(len + 1 < sizeof(trace));
	trace[len] = c;
	trace[len + 1] = '\0';
}

static int set_up(void **state)
{
	(void)state;
	trace[0] = '\0';
	return loop_new(&loop);
}

static int tear_down(void **state)
{
	(void)state;
	loop_free(loop);
	co_pool_free();
	return 0;
}

/* Runs the loop until `count` events were noted; the test's time limit ends it if they never are. */
static void run_until(size_t count)
{
	while (strlen(trace) < count)
		loop_once(loop);
}

/* Lets everything run that is ready now. */
static void mark(struct loop_timer *timer)
{
	(void)timer;
	note('|');
}

static void settle(void)
{
	struct loop_timer timer = { 0 };
	size_t len = strlen(trace);

	loop_timer_set(loop, &timer, 20000, mark);
	while (!strchr(trace + len, '|'))
		loop_once(loop);
	*strchr(trace + len, '|') = '\0';
}

/* --- waiting and waking --- */

struct waiter {
	struct coroutine *co;
	int rc;
	unsigned waits; /* how often */
};

static void wait_some(void *arg)
{
	struct waiter *w = arg;

	w->co = co_self();
	note('s');
	for (unsigned i = 0; i < w->waits; i++) {
		w->rc = co_wait();
		note(w->rc < 0 ? 'i' : 'w');
		assert_ptr_equal(co_self(), w->co);
	}
	note('e');
}

static void test_runs_at_once(void **state)
{
	struct waiter w = { 0 };

	(void)state;
	assert_null(co_self());
	assert_int_equal(co_start(loop, wait_some, &w), 0);
	assert_string_equal(trace, "se");
	assert_non_null(w.co);
	assert_null(co_self());
}

static void test_wake(void **state)
{
	struct waiter w = { .waits = 2 };

	(void)state;
	assert_int_equal(co_start(loop, wait_some, &w), 0);
	assert_string_equal(trace, "s");
	/* It goes on from the loop, not from here, and once, however often it is woken. */
	co_wake(w.co);
	co_wake(w.co);
	assert_string_equal(trace, "s");
	run_until(2);
	settle();
	assert_string_equal(trace, "sw");
	co_wake(w.co);
	run_until(4);
	assert_string_equal(trace, "swwe");
}

static void wake_self(void *arg)
{
	*(struct coroutine **)arg = co_self();
	co_wake(co_self());
	note(co_wait() == 0 ? 'w' : 'i');
	note(co_wait() == 0 ? 'W' : 'I');
}

static void test_wake_before_wait(void **state)
{
	struct coroutine *co;

	(void)state;
	/* The early wake is not lost, and is used up by the first wait. */
	assert_int_equal(co_start(loop, wake_self, &co), 0);
	settle();
	assert_string_equal(trace, "w");
	co_wake(co);
	run_until(2);
	assert_string_equal(trace, "wW");
}

static struct coroutine *endless;

static void wait_for_interruption(void *arg)
{
	int *rc = arg;

	endless = co_self();
	do
		*rc = co_wait();
	while (*rc == 0);
	note('i');
}

static void test_interrupt(void **state)
{
	struct waiter w = { .waits = 2 };
	int rc = 0;

	(void)state;
	assert_int_equal(co_start(loop, wait_some, &w), 0);
	co_interrupt(w.co);
	co_interrupt(w.co);
	run_until(2);
	settle();
	assert_string_equal(trace, "si");
	assert_int_equal(w.rc, -EINTR);
	/* It was used up: the next wait is a wait. */
	co_wake(w.co);
	run_until(4);
	assert_string_equal(trace, "siwe");
	assert_int_equal(co_start(loop, wait_for_interruption, &rc), 0);
	co_wake(endless);
	settle();
	assert_string_equal(trace, "siwe");
	co_interrupt(endless);
	run_until(5);
	assert_int_equal(rc, -EINTR);
}

static void interrupted_early(void *arg)
{
	(void)arg;
	co_interrupt(co_self());
	note(co_wait() == -EINTR ? 'i' : 'w');
	co_wake(co_self());
	note(co_wait() == 0 ? 'w' : 'i');
}

static void test_interrupt_before_wait(void **state)
{
	(void)state;
	assert_int_equal(co_start(loop, interrupted_early, NULL), 0);
	run_until(2);
	assert_string_equal(trace, "iw");
}

static void masked(void *arg)
{
	struct coroutine **co = arg;

	*co = co_self();
	assert_false(co_uninterruptible(true));
	assert_true(co_uninterruptible(true));
	note(co_wait() == 0 ? 'w' : 'i');
	assert_true(co_uninterruptible(false));
	note(co_wait() == -EINTR ? 'i' : 'w');
}

static void test_uninterruptible(void **state)
{
	struct coroutine *co;

	(void)state;
	assert_int_equal(co_start(loop, masked, &co), 0);
	co_interrupt(co);
	settle();
	assert_string_equal(trace, "");
	co_wake(co);
	run_until(2);
	assert_string_equal(trace, "wi");
}

/* --- nesting, stacks --- */

static void inner(void *arg)
{
	struct coroutine **co = arg;

	*co = co_self();
	note('1');
	assert_int_equal(co_wait(), 0);
	note('4');
}

static void outer(void *arg)
{
	struct coroutine **co = arg;
	struct coroutine *self = co_self();

	note('0');
	assert_int_equal(co_start(loop, inner, co), 0);
	assert_ptr_equal(co_self(), self);
	note('2');
	co_wake(*co);
	note('3');
}

static void test_nested(void **state)
{
	struct coroutine *co;

	(void)state;
	assert_int_equal(co_start(loop, outer, &co), 0);
	run_until(5);
	assert_string_equal(trace, "01234");
}

static int use_stack(size_t depth)
{
	volatile char bytes[1024];

	memset((void *)bytes, (int)depth, sizeof(bytes));
	return depth ? use_stack(depth - 1) + bytes[7] : bytes[0];
}

static void deep(void *arg)
{
	int *sum = arg;

	*sum = use_stack(40); /* of 64 KiB */
	co_wake(co_self());
	assert_int_equal(co_wait(), 0);
	note('e');
}

static void test_stack(void **state)
{
	int sum = 0;

	(void)state;
	assert_int_equal(co_start(loop, deep, &sum), 0);
	run_until(1);
	assert_int_equal(sum, 40 * 41 / 2);
}

struct many {
	unsigned started, ended;
	struct co_queue queue;
};

static void one_of_many(void *arg)
{
	struct many *many = arg;
	unsigned number = many->started++;
	volatile unsigned copy = number;

	for (int i = 0; i < 3; i++)
		assert_int_equal(co_queue_wait(&many->queue), 0);
	assert_int_equal(copy, number);
	many->ended++;
}

/* More than the pool keeps, twice, so that stacks are used again. */
static void test_many(void **state)
{
	(void)state;
	for (int round = 0; round < 2; round++) {
		struct many many = { 0 };

		for (int i = 0; i < 1000; i++)
			assert_int_equal(co_start(loop, one_of_many, &many), 0);
		assert_int_equal(many.started, 1000);
		while (many.ended < 1000) {
			co_queue_wake_all(&many.queue);
			loop_once(loop);
		}
	}
}

/* --- sleeping --- */

static void sleeper(void *arg)
{
	uint64_t *slept = arg;
	uint64_t before = clock_now_us();
	int rc;

	endless = co_self();
	rc = co_sleep(loop, *slept);
	*slept = clock_now_us() - before;
	note(rc == 0 ? 'z' : 'i');
}

static void test_sleep(void **state)
{
	uint64_t slept = 30000;

	(void)state;
	assert_int_equal(co_start(loop, sleeper, &slept), 0);
	/* A wake that is meant for something else does not cut it short. */
	co_wake(endless);
	run_until(1);
	assert_string_equal(trace, "z");
	assert_true(slept >= 29000);
	slept = (uint64_t)3600 * CLOCK_US_PER_S;
	assert_int_equal(co_start(loop, sleeper, &slept), 0);
	co_interrupt(endless);
	run_until(2);
	assert_string_equal(trace, "zi");
}

/* --- queues and locks --- */

static struct co_queue queue;
static struct co_mutex mutex;

struct named {
	char name;
	struct coroutine *co;
};

static void queue_waiter(void *arg)
{
	struct named *n = arg;

	n->co = co_self();
	note(co_queue_wait(&queue) == 0 ? n->name : 'i');
}

static void test_queue(void **state)
{
	struct named n[] = { { 'a', NULL }, { 'b', NULL }, { 'c', NULL }, { 'd', NULL } };

	(void)state;
	co_queue_wake_one(&queue);
	co_queue_wake_all(&queue);
	for (int i = 0; i < 4; i++)
		assert_int_equal(co_start(loop, queue_waiter, &n[i]), 0);
	/* A wake of the coroutine is not one of the queue. */
	co_wake(n[0].co);
	settle();
	assert_string_equal(trace, "");
	co_queue_wake_one(&queue);
	run_until(1);
	settle();
	assert_string_equal(trace, "a");
	/* Who is interrupted stands in the queue no more. */
	co_interrupt(n[1].co);
	run_until(2);
	assert_string_equal(trace, "ai");
	co_queue_wake_all(&queue);
	run_until(4);
	assert_string_equal(trace, "aicd");
	assert_null(queue.first);
}

static void waiter_then_wait(void *arg)
{
	struct named *n = arg;

	n->co = co_self();
	note(co_queue_wait(&queue) == 0 ? 'q' : 'i');
	note(co_wait() == -EINTR ? 'I' : 'w');
}

/* Woken and interrupted before it ran: it has what it waited for, and hears of the interruption next. */
static void test_queue_woken_and_interrupted(void **state)
{
	struct named n = { 0 };

	(void)state;
	assert_int_equal(co_start(loop, waiter_then_wait, &n), 0);
	co_queue_wake_one(&queue);
	co_interrupt(n.co);
	run_until(2);
	assert_string_equal(trace, "qI");
	assert_null(queue.first);
}

static void locker(void *arg)
{
	struct named *n = arg;

	n->co = co_self();
	if (co_mutex_lock(&mutex) < 0) {
		note('i');
		return;
	}
	note(n->name);
	assert_int_equal(co_wait(), 0);
	co_mutex_unlock(&mutex);
}

static void test_mutex(void **state)
{
	struct named n[] = { { 'a', NULL }, { 'b', NULL }, { 'c', NULL }, { 'd', NULL } };

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(co_start(loop, locker, &n[i]), 0);
	assert_string_equal(trace, "a");
	co_interrupt(n[1].co);
	run_until(2);
	assert_string_equal(trace, "ai");
	co_wake(n[0].co);
	run_until(3);
	settle();
	assert_string_equal(trace, "aic");
	co_wake(n[2].co);
	run_until(4);
	assert_string_equal(trace, "aicd");
	assert_true(mutex.held);
	co_wake(n[3].co);
	settle();
	assert_false(mutex.held);
}

static void test_mutex_is_handed_on(void **state)
{
	struct named n[] = { { 'a', NULL }, { 'b', NULL }, { 'c', NULL } };

	(void)state;
	assert_int_equal(co_start(loop, locker, &n[0]), 0);
	assert_int_equal(co_start(loop, locker, &n[1]), 0);
	co_wake(n[0].co);
	while (mutex.waiters.first)
		loop_once(loop);
	/* b has been given the lock, whether it ran yet or not: c cannot overtake, nor can b's interruption lose it. */
	assert_int_equal(co_start(loop, locker, &n[2]), 0);
	run_until(2);
	assert_string_equal(trace, "ab");
	co_wake(n[1].co);
	run_until(3);
	assert_string_equal(trace, "abc");
	co_wake(n[2].co);
	settle();
	assert_false(mutex.held);
}

/* --- groups --- */

static struct co_group group;

static void part_done(struct loop_timer *timer)
{
	(void)timer;
	note('d');
	co_group_done(&group);
}

static void joiner(void *arg)
{
	struct loop_timer timers[3] = { 0 };

	*(struct coroutine **)arg = co_self();
	co_group_wait(&group); /* nothing to wait for */
	for (int i = 0; i < 3; i++) {
		co_group_add(&group);
		loop_timer_set(loop, &timers[i], 2000 + 1000 * (uint64_t)i, part_done);
	}
	co_group_wait(&group);
	note('j');
	note(co_wait() == -EINTR ? 'I' : 'w');
}

/* It waits for all, interrupted or not: the interruption comes with the next wait. */
static void test_group(void **state)
{
	struct coroutine *co;

	(void)state;
	assert_int_equal(co_start(loop, joiner, &co), 0);
	co_interrupt(co);
	co_wake(co);
	run_until(5);
	assert_string_equal(trace, "dddjI");
}

#define CO_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CO_TEST(test_runs_at_once),
		CO_TEST(test_wake),
		CO_TEST(test_wake_before_wait),
		CO_TEST(test_interrupt),
		CO_TEST(test_interrupt_before_wait),
		CO_TEST(test_uninterruptible),
		CO_TEST(test_nested),
		CO_TEST(test_stack),
		CO_TEST(test_many),
		CO_TEST(test_sleep),
		CO_TEST(test_queue),
		CO_TEST(test_queue_woken_and_interrupted),
		CO_TEST(test_mutex),
		CO_TEST(test_mutex_is_handed_on),
		CO_TEST(test_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
