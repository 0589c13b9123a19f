/* The invalidator on a kernel that blocks when it is told to: what goes first, what waits, and for whom. */
#include "mount/invalidator.h"

#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"
#include "unit.h"

/* No test may depend on speed: so long, and no longer, it is waited for what must happen. */
#define PATIENCE_US (30 * (uint64_t)CLOCK_US_PER_S)
/* And so long for what must not. */
#define QUIET_US 50000

static struct loop *loop;
static struct invalidator *invalidator;

/* --- the kernel --- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct buf trace; /* what was written, each with a blank behind it */
static bool blocked;     /* nothing more is written */
static bool entered;     /* and something wants to be */
static uint64_t unknown; /* an inode that the kernel does not hold */
static int all_answer;   /* of expire_all */

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
	char text[64];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	pthread_mutex_lock(&lock);
	while (blocked) {
		entered = true;
		pthread_cond_broadcast(&changed);
		pthread_cond_wait(&changed, &lock);
	}
	assert_int_equal(buf_printf(&trace, "%s ", text), 0);
	pthread_mutex_unlock(&lock);
}

static int expire_entry(void *arg, uint64_t parent, const char *name, size_t len)
{
	(void)arg;
	note("%d/%.*s", (int)parent, (int)len, name);
	return 0;
}

static int inval_entry(void *arg, uint64_t parent, const char *name, size_t len)
{
	(void)arg;
	note("-%d/%.*s", (int)parent, (int)len, name);
	return 0;
}

static int inval_inode(void *arg, uint64_t id)
{
	(void)arg;
	note("%d", (int)id);
	return id == unknown ? -ENOENT : 0;
}

static int inval_attributes(void *arg, uint64_t id)
{
	(void)arg;
	note("a%d", (int)id);
	return 0;
}

static int expire_all(void *arg)
{
	(void)arg;
	note("all");
	return all_answer;
}

static void set_blocked(bool on)
{
	pthread_mutex_lock(&lock);
	blocked = on;
	entered = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* The thread is inside of a notification, and stays there until set_blocked(false). */
static void occupy(void)
{
	set_blocked(true);
	invalidator_inval_attributes(invalidator, 999); /* no pair with what was queued before */
	pthread_mutex_lock(&lock);
	while (!entered)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static bool trace_is(const char *expected)
{
	bool is;

	pthread_mutex_lock(&lock);
	is = str_equal(buf_str(&trace), str_c(expected));
	pthread_mutex_unlock(&lock);
	return is;
}

static void tick(struct loop_timer *timer)
{
	(void)timer;
}

/* Serves the loop for a moment. */
static void serve(uint64_t us)
{
	struct loop_timer timer = { 0 };

	for (uint64_t end = clock_now_us() + us; clock_now_us() < end;) {
		loop_timer_set(loop, &timer, 1000, tick);
		loop_once(loop);
	}
	loop_timer_cancel(&timer);
}

static void wait_trace(const char *expected)
{
	uint64_t end = clock_now_us() + PATIENCE_US;

	while (!trace_is(expected) && clock_now_us() < end)
		serve(1000);
	if (!trace_is(expected))
		fail_msg("written: \"%s\", not \"%s\"", buf_str(&trace).p, expected);
}

/* And nothing more comes. */
static void stays(const char *expected)
{
	wait_trace(expected);
	serve(QUIET_US);
	assert_true(trace_is(expected));
}

static void expire(uint64_t parent, const char *name)
{
	invalidator_expire_entry(invalidator, parent, str_c(name));
}

/* --- the frame --- */

static int set_up(void **state)
{
	const struct invalidator_kernel kernel = {
		.expire_entry = expire_entry,
		.inval_entry = inval_entry,
		.inval_inode = inval_inode,
		.inval_attributes = inval_attributes,
		.expire_all = expire_all,
	};

	(void)state;
	blocked = false;
	unknown = 0;
	all_answer = 0;
	if (loop_new(&loop))
		return -1;
	return invalidator_new(loop, &kernel, false, &invalidator);
}

static int tear_down(void **state)
{
	(void)state;
	set_blocked(false);
	invalidator_free(invalidator);
	loop_free(loop);
	co_pool_free();
	buf_free(&trace);
	return 0;
}

/* --- what is written --- */

static void test_a_pair_and_its_order(void **state)
{
	(void)state;
	occupy();
	expire(1, "a");
	invalidator_inval_inode(invalidator, 2);
	expire(1, "b");
	invalidator_inval_attributes(invalidator, 3);
	invalidator_inval_inode(invalidator, 4);
	set_blocked(false);
	stays("a999 1/a 2 1/b a3 4 ");
}

/* An inode whose reply the kernel is just taking in. */
static void test_an_unknown_inode(void **state)
{
	(void)state;
	unknown = 2;
	expire(1, "a");
	invalidator_inval_inode(invalidator, 2);
	wait_trace("1/a 2 1/a 2 ");
	invalidator_inval_inode(invalidator, 2);
	stays("1/a 2 1/a 2 2 ");
}

/* What is said of a name beside that must not make less of it. */
static void test_a_name_that_leads_elsewhere(void **state)
{
	(void)state;
	unknown = 3;
	occupy();
	expire(1, "a");
	invalidator_inval_inode(invalidator, 2);
	invalidator_inval_entry(invalidator, 1, str_c("a"));
	invalidator_inval_entry(invalidator, 1, str_c("b"));
	invalidator_inval_inode(invalidator, 3);
	expire(1, "b");
	set_blocked(false);
	stays("a999 -1/a 2 -1/b 3 -1/b 3 ");
	expire(1, "a");
	stays("a999 -1/a 2 -1/b 3 -1/b 3 1/a ");
}

static void wait_empty(void)
{
	for (uint64_t end = clock_now_us() + PATIENCE_US; invalidator_figures(invalidator).queued; usleep(1000))
		assert_true(clock_now_us() < end);
}

static void test_what_is_queued_is_queued_once(void **state)
{
	struct invalidator_figures figures;

	(void)state;
	occupy();
	for (int i = 0; i < 3; i++) {
		expire(1, "a");
		invalidator_inval_inode(invalidator, 2);
		invalidator_inval_attributes(invalidator, 2);
		invalidator_inval_inode(invalidator, 5);
	}
	assert_int_equal(invalidator_figures(invalidator).queued, 1 + 3); /* with what is being written */
	set_blocked(false);
	stays("a999 1/a 2 a2 5 ");
	expire(1, "a");
	stays("a999 1/a 2 a2 5 1/a ");
	wait_empty();
	figures = invalidator_figures(invalidator);
	assert_int_equal(figures.most, 3);
	assert_int_equal(figures.entries, 2);
	assert_int_equal(figures.inodes, 2);
	assert_int_equal(figures.attributes, 2);
	assert_int_equal(figures.all, 0);
}

/* --- all at once --- */

static void test_a_kernel_that_can_expire_all(void **state)
{
	(void)state;
	assert_false(invalidator_expire_all(invalidator));
	invalidator_start(invalidator);
	wait_trace("all ");
	while (!invalidator_expire_all(invalidator)) /* its answer is taken a moment later */
		usleep(1000);
	wait_trace("all all ");
	occupy();
	expire(1, "a");
	assert_true(invalidator_expire_all(invalidator));
	assert_true(invalidator_expire_all(invalidator));
	set_blocked(false);
	stays("all all a999 all 1/a ");
	assert_int_equal(invalidator_figures(invalidator).all, 3);
}

static void test_a_kernel_that_cannot(void **state)
{
	(void)state;
	all_answer = -EINVAL;
	invalidator_start(invalidator);
	stays("all ");
	assert_false(invalidator_expire_all(invalidator));
	stays("all ");
}

static void queue_many(unsigned count)
{
	char name[16];

	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%u", i);
		expire(1, name);
		invalidator_inval_inode(invalidator, 1000 + i);
	}
}

/* No inode is left out: nothing else would drop its pages. */
static void test_too_many_names(void **state)
{
	(void)state;
	invalidator_start(invalidator);
	wait_trace("all ");
	while (!invalidator_expire_all(invalidator))
		usleep(1000);
	wait_trace("all all ");
	occupy();
	queue_many(INVALIDATOR_MAX + 10);
	assert_int_equal(invalidator_figures(invalidator).queued, 1 + INVALIDATOR_MAX + 10);
	assert_int_equal(invalidator_figures(invalidator).overflows, 10);
	set_blocked(false);
	wait_empty();
	assert_int_equal(invalidator_figures(invalidator).all, 3);
}

static void test_too_many_names_for_an_old_kernel(void **state)
{
	(void)state;
	all_answer = -EINVAL;
	invalidator_start(invalidator);
	wait_trace("all ");
	occupy();
	queue_many(INVALIDATOR_MAX + 10);
	assert_int_equal(invalidator_figures(invalidator).queued, 1 + INVALIDATOR_MAX + 10);
	assert_int_equal(invalidator_figures(invalidator).overflows, 0);
}

/* --- requests that are not answered --- */

static void test_others_overtake(void **state)
{
	struct invalidator_mark first = { 0 }, second = { 0 };

	(void)state;
	invalidator_begin(invalidator, INVALIDATOR_NAMES, 1, &first);
	expire(1, "a");
	expire(2, "b");
	expire(1, "c");
	invalidator_inval_inode(invalidator, 1);
	stays("2/b ");
	assert_int_equal(invalidator_figures(invalidator).held, 2);
	invalidator_begin(invalidator, INVALIDATOR_NAMES, 1, &second);
	invalidator_end(invalidator, &first);
	stays("2/b ");
	invalidator_end(invalidator, &second);
	stays("2/b 1/a 1/c 1 ");
	invalidator_end(invalidator, &second);
	assert_int_equal(invalidator_figures(invalidator).held, 0);
}

static void test_what_is_held_comes_before_what_is_queued_later(void **state)
{
	struct invalidator_mark mark = { 0 };

	(void)state;
	invalidator_begin(invalidator, INVALIDATOR_NAMES, 1, &mark);
	expire(1, "a");
	stays("");
	occupy();
	expire(1, "b");
	invalidator_end(invalidator, &mark);
	expire(1, "c");
	expire(1, "a");
	set_blocked(false);
	stays("a999 1/a 1/b 1/c ");
}

static void test_pages_and_names_are_different(void **state)
{
	struct invalidator_mark pages = { 0 }, names = { 0 };

	(void)state;
	invalidator_begin(invalidator, INVALIDATOR_PAGES, 5, &pages);
	invalidator_begin(invalidator, INVALIDATOR_NAMES, 6, &names);
	invalidator_inval_inode(invalidator, 5);
	invalidator_inval_attributes(invalidator, 5);
	expire(5, "a");
	invalidator_inval_inode(invalidator, 6);
	stays("a5 5/a 6 ");
	expire(7, "b");
	invalidator_inval_inode(invalidator, 5);
	stays("a5 5/a 6 ");
	invalidator_end(invalidator, &pages);
	stays("a5 5/a 6 5 7/b 5 ");
	invalidator_end(invalidator, &names);
}

/* One request after the other, none of which takes long: something must be written between them. */
static void test_a_folder_that_is_always_busy(void **state)
{
	struct invalidator_mark marks[2] = { 0 };
	uint64_t begun = clock_now_us();

	(void)state;
	invalidator_begin(invalidator, INVALIDATOR_NAMES, 1, &marks[0]);
	expire(1, "a");
	for (unsigned i = 1; !trace_is("1/a "); i++) {
		assert_true(clock_now_us() - begun < PATIENCE_US);
		invalidator_begin(invalidator, INVALIDATOR_NAMES, 1, &marks[i % 2]);
		invalidator_end(invalidator, &marks[(i + 1) % 2]);
		serve(10000);
		if (clock_now_us() - begun < CLOCK_US_PER_S / 2)
			assert_true(trace_is(""));
	}
	invalidator_end(invalidator, &marks[0]);
	invalidator_end(invalidator, &marks[1]);
}

/* Of a request that hangs nothing is known: what concerns it waits as long as it does. */
static void test_a_request_that_hangs(void **state)
{
	struct invalidator_mark mark = { 0 };

	(void)state;
	invalidator_begin(invalidator, INVALIDATOR_NAMES, 1, &mark);
	expire(1, "a");
	serve(1300000);
	expire(1, "b");
	stays("");
	invalidator_end(invalidator, &mark);
	stays("1/a 1/b ");
}

/* --- who waits --- */

struct waiter {
	uint64_t id, limit_us;
	bool done;
};

static void wait_main(void *arg)
{
	struct waiter *waiter = arg;

	invalidator_wait(invalidator, waiter->id, waiter->limit_us);
	waiter->done = true;
}

static void start(struct waiter *waiter, uint64_t id, uint64_t limit_us)
{
	*waiter = (struct waiter){ .id = id, .limit_us = limit_us };
	assert_int_equal(co_start(loop, wait_main, waiter), 0);
}

static void test_who_has_nothing_to_wait_for(void **state)
{
	struct waiter waiter;

	(void)state;
	start(&waiter, 5, PATIENCE_US);
	assert_true(waiter.done);
	occupy();
	invalidator_inval_inode(invalidator, 6);
	start(&waiter, 5, PATIENCE_US);
	assert_true(waiter.done);
}

static void serve_until(const bool *done)
{
	for (uint64_t end = clock_now_us() + PATIENCE_US; !*done; serve(1000))
		assert_true(clock_now_us() < end);
}

static void test_who_waits_for_what_is_queued(void **state)
{
	struct waiter first, second;
	struct invalidator_mark mark = { 0 };

	(void)state;
	occupy();
	expire(1, "a");
	invalidator_inval_inode(invalidator, 5);
	invalidator_inval_attributes(invalidator, 5);
	start(&first, 5, PATIENCE_US);
	start(&second, 999, PATIENCE_US); /* is being written */
	invalidator_begin(invalidator, INVALIDATOR_PAGES, 5, &mark);
	invalidator_inval_inode(invalidator, 5); /* later */
	serve(QUIET_US);
	assert_false(first.done || second.done);
	set_blocked(false);
	serve_until(&second.done);
	serve(QUIET_US);
	assert_false(first.done);
	invalidator_end(invalidator, &mark);
	serve_until(&first.done);
}

static void test_a_wait_ends_with_its_time(void **state)
{
	struct waiter waiter;
	uint64_t begun = clock_now_us();

	(void)state;
	occupy();
	invalidator_inval_inode(invalidator, 5);
	start(&waiter, 5, 100000);
	serve_until(&waiter.done);
	assert_true(clock_now_us() - begun >= 100000);
}

/* --- the end --- */

static void stopped(void *arg)
{
	*(bool *)arg = true;
}

static void test_an_end_with_much_to_do(void **state)
{
	struct invalidator_mark mark = { 0 };
	struct waiter waiter;
	bool ended = false;

	(void)state;
	invalidator_begin(invalidator, INVALIDATOR_NAMES, 1, &mark);
	expire(1, "a");
	occupy();
	expire(2, "b");
	invalidator_inval_inode(invalidator, 5);
	start(&waiter, 5, PATIENCE_US);
	invalidator_stop(invalidator, stopped, &ended);
	serve_until(&waiter.done);
	assert_false(ended);
	set_blocked(false);
	serve_until(&ended);
	assert_true(trace_is("a999 "));
	start(&waiter, 5, PATIENCE_US);
	assert_true(waiter.done);
	invalidator_end(invalidator, &mark);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_pair_and_its_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_an_unknown_inode, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_name_that_leads_elsewhere, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_queued_is_queued_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_kernel_that_can_expire_all, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_kernel_that_cannot, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_many_names, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_many_names_for_an_old_kernel, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_others_overtake, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_held_comes_before_what_is_queued_later, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pages_and_names_are_different, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_folder_that_is_always_busy, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_request_that_hangs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_has_nothing_to_wait_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_waits_for_what_is_queued, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_wait_ends_with_its_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_an_end_with_much_to_do, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
