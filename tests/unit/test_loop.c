/* The event loop: order of tasks, posting from other threads, timers, watched descriptors. */
#include "base/loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"
#include "unit.h"

static struct loop *loop;
static char trace[64];

static void note(char c)
{
	size_t len = strlen(trace);

	assert_true(len + 1 < sizeof(trace));
	trace[len] = c;
	trace[len + 1] = '\0';
}

static void run_until(size_t count)
{
	while (strlen(trace) < count)
		loop_once(loop);
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
	loop = NULL;
	return 0;
}

/* --- tasks --- */

struct named_task {
	struct loop_task task;
	char name;
	struct named_task *then; /* deferred by this one */
};

static void run_task(struct loop_task *task)
{
	struct named_task *t = lws_container_of(task, struct named_task, task);

	note(t->name);
	if (t->then) {
		struct named_task *then = t->then;

		t->then = NULL;
		loop_defer(loop, &then->task);
	}
}

static void test_defer(void **state)
{
	struct named_task c = { { .fn = run_task }, 'c', NULL };
	struct named_task a = { { .fn = run_task }, 'a', &c };
	struct named_task b = { { .fn = run_task }, 'b', &b };

	(void)state;
	loop_defer(loop, &a.task);
	loop_defer(loop, &b.task);
	loop_defer(loop, &a.task);
	assert_string_equal(trace, "");
	run_until(4);
	assert_string_equal(trace, "abcb");
	loop_defer(loop, &a.task);
	run_until(5);
	assert_string_equal(trace, "abcba");
}

/* --- posts --- */

static void run_post(void *arg)
{
	note(*(const char *)arg);
}

static void stop(void *arg)
{
	loop_stop(arg);
}

static void test_post(void **state)
{
	(void)state;
	assert_int_equal(loop_post(loop, run_post, (char[]){ "a" }), 0);
	assert_int_equal(loop_post(loop, run_post, (char[]){ "b" }), 0);
	assert_int_equal(loop_post(loop, stop, loop), 0);
	assert_string_equal(trace, "");
	loop_run(loop);
	assert_string_equal(trace, "ab");
	/* What was not run is run at the end. */
	assert_int_equal(loop_post(loop, run_post, (char[]){ "c" }), 0);
	loop_free(loop);
	assert_string_equal(trace, "abc");
	loop = NULL;
}

#define POSTS 5000

static unsigned counted, last_seen[2], misordered;

struct posted {
	unsigned thread, number;
};

static void count(void *arg)
{
	struct posted *p = arg;

	if (p->number != last_seen[p->thread] + 1)
		misordered++;
	last_seen[p->thread] = p->number;
	free(p);
	if (++counted == 2 * POSTS)
		loop_stop(loop);
}

static void *post_many(void *arg)
{
	for (unsigned i = 1; i <= POSTS; i++) {
		struct posted *p = malloc(sizeof(*p));

		if (!p)
			return NULL;
		*p = (struct posted){ *(unsigned *)arg, i };
		if (loop_post(loop, count, p) < 0)
			return NULL;
	}
	return arg;
}

static void test_post_from_threads(void **state)
{
	unsigned number[2] = { 0, 1 };
	pthread_t threads[2];

	(void)state;
	counted = misordered = last_seen[0] = last_seen[1] = 0;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, post_many, &number[i]), 0);
	loop_run(loop);
	for (int i = 0; i < 2; i++) {
		void *result;

		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_non_null(result);
	}
	assert_int_equal(counted, 2 * POSTS);
	assert_int_equal(misordered, 0);
}

/* --- timers --- */

struct named_timer {
	struct loop_timer timer;
	char name;
	unsigned again;
};

static void fire(struct loop_timer *timer)
{
	struct named_timer *t = lws_container_of(timer, struct named_timer, timer);

	note(t->name);
	if (t->again) {
		t->again--;
		loop_timer_set(loop, timer, 1000, fire);
	}
}

static void test_timers(void **state)
{
	struct named_timer a = { .name = 'a' }, b = { .name = 'b' }, c = { .name = 'c' },
			   d = { .name = 'd', .again = 2 };
	uint64_t before = clock_now_us();

	(void)state;
	loop_timer_cancel(&a.timer);
	loop_timer_set(loop, &a.timer, 60000, fire);
	loop_timer_set(loop, &b.timer, 20000, fire);
	loop_timer_set(loop, &c.timer, 40000, fire);
	loop_timer_set(loop, &c.timer, 90000, fire); /* moved */
	loop_timer_set(loop, &d.timer, 30000, fire);
	loop_timer_cancel(&d.timer);
	run_until(3);
	assert_string_equal(trace, "bac");
	assert_true(clock_now_us() - before >= 89000);
	loop_timer_set(loop, &d.timer, 0, fire);
	run_until(6);
	assert_string_equal(trace, "bacddd");
}

/* A round does not outlast the timer that fires in it, though nothing else is going on. */
static void test_round_ends_with_timer(void **state)
{
	struct named_timer a = { .name = 'a' };
	uint64_t before = clock_now_us();

	(void)state;
	loop_timer_set(loop, &a.timer, 1000, fire);
	run_until(1);
	assert_true(clock_now_us() - before < 20 * CLOCK_US_PER_S);
}

static void fire_and_free(struct loop_timer *timer)
{
	note('f');
	free(lws_container_of(timer, struct named_timer, timer));
}

static void test_timer_freed_by_itself(void **state)
{
	struct named_timer *t = calloc(1, sizeof(*t));

	(void)state;
	assert_non_null(t);
	loop_timer_set(loop, &t->timer, 1000, fire_and_free);
	run_until(1);
	assert_string_equal(trace, "f");
}

/* --- descriptors --- */

struct watched {
	int fd;
	struct loop_fd *watch;
	bool free_at_once;
};

static void readable(void *arg)
{
	struct watched *w = arg;
	char c;

	while (read(w->fd, &c, 1) == 1)
		note(c);
	if (w->free_at_once) {
		loop_fd_free(w->watch);
		w->watch = NULL;
	}
}

static void closed(void *arg)
{
	(void)arg;
	note('!');
}

static void test_descriptor(void **state)
{
	struct watched w = { 0 };
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	w.fd = ends[0];
	assert_int_equal(loop_fd_new(loop, ends[0], readable, closed, &w, &w.watch), 0);
	assert_true(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
	assert_int_equal(write(ends[1], "ab", 2), 2);
	run_until(2);
	assert_int_equal(write(ends[1], "c", 1), 1);
	run_until(3);
	assert_string_equal(trace, "abc");
	/* The other end gone: once told. */
	close(ends[1]);
	run_until(4);
	assert_string_equal(trace, "abc!");
	loop_fd_free(w.watch);
	/* The caller's descriptor is still the caller's. */
	assert_int_equal(close(ends[0]), 0);
}

static void test_descriptor_freed_by_itself(void **state)
{
	struct named_timer t = { .name = 't' };
	struct watched w = { .free_at_once = true };
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	w.fd = ends[0];
	assert_int_equal(loop_fd_new(loop, ends[0], readable, closed, &w, &w.watch), 0);
	assert_int_equal(write(ends[1], "a", 1), 1);
	run_until(1);
	assert_null(w.watch);
	assert_int_equal(write(ends[1], "b", 1), 1);
	close(ends[1]);
	loop_timer_set(loop, &t.timer, 20000, fire);
	run_until(2);
	assert_string_equal(trace, "at");
	close(ends[0]);
	loop_fd_free(NULL);
}

static void test_bad_descriptor(void **state)
{
	struct loop_fd *watch = NULL;

	(void)state;
	assert_int_equal(loop_fd_new(loop, -1, readable, NULL, NULL, &watch), -EBADF);
	assert_null(watch);
}

/* --- kept bytes --- */

static void test_keep(void **state)
{
	const int numbers[] = { 1, 2, 1 };
	const int *first = loop_keep(loop, &numbers[0], sizeof(int)),
		  *second = loop_keep(loop, &numbers[1], sizeof(int));

	(void)state;
	assert_int_equal(*first, 1);
	assert_int_equal(*second, 2);
	assert_ptr_equal(loop_keep(loop, &numbers[2], sizeof(int)), first);
	assert_ptr_not_equal(loop_keep(loop, numbers, 2 * sizeof(int)), first);
}

#define LOOP_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

/* --- limits --- */

static void ignore(void *arg)
{
	(void)arg;
}

/* More descriptors than the loop may hold are refused, and do no harm to those that it has. */
static void as_many_as_allowed(void **state)
{
	struct loop *small;
	struct loop_fd *watches[16];
	int pipe_fds[2], r = 0;
	size_t count = 0;

	(void)state;
	assert_int_equal(loop_new_for(&small, 8), 0);
	assert_int_equal(pipe(pipe_fds), 0);
	while (count < 16 && (r = loop_fd_new(small, pipe_fds[0], ignore, NULL, NULL, &watches[count])) == 0)
		count++;
	assert_true(count >= 4 && count <= 8);
	assert_true(r < 0);
	loop_fd_free(watches[--count]);
	/* the descriptor is closed by the loop, soon */
	for (int i = 0; r < 0 && i < 100; i++) {
		assert_int_equal(loop_post(small, ignore, NULL), 0);
		loop_once(small);
		r = loop_fd_new(small, pipe_fds[0], ignore, NULL, NULL, &watches[count]);
	}
	assert_int_equal(r, 0);
	for (size_t i = 0; i <= count; i++)
		loop_fd_free(watches[i]);
	loop_free(small);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOP_TEST(test_defer),
		LOOP_TEST(test_post),
		LOOP_TEST(test_post_from_threads),
		LOOP_TEST(test_timers),
		LOOP_TEST(test_round_ends_with_timer),
		LOOP_TEST(test_timer_freed_by_itself),
		LOOP_TEST(test_keep),
		LOOP_TEST(test_descriptor),
		LOOP_TEST(test_descriptor_freed_by_itself),
		LOOP_TEST(test_bad_descriptor),
		cmocka_unit_test(as_many_as_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
