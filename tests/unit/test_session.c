/* The connection to the kernel, at its end: told is whether the mount still stands. */
#include "mount/session.h"

#include <fcntl.h>
#include <unistd.h>

#include "unit.h"

/* Writes into what is there in place of /dev/fuse. */
static int kernel;
static struct mount_context context;
static struct session *session;
static unsigned failed, closed;

static void ended(void *arg, bool mounted)
{
	assert_ptr_equal(arg, &context);
	if (mounted)
		failed++;
	else
		closed++;
}

static int set_up(void **state)
{
	int ends[2];

	(void)state;
	failed = closed = 0;
	assert_int_equal(loop_new(&context.loop), 0);
	assert_int_equal(session_new(&context, false, &session), 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	kernel = ends[1];
	assert_int_equal(session_start(session, ends[0], ended, &context), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	session_free(session);
	loop_free(context.loop);
	return 0;
}

static void close_it(void)
{
	close(kernel);
	while (!closed)
		loop_once(context.loop);
}

static void test_closed(void **state)
{
	(void)state;
	close_it();
	assert_int_equal(failed, 0);
	assert_int_equal(closed, 1);
}

static void test_failed(void **state)
{
	(void)state;
	/* less than the head of a request */
	assert_int_equal(write(kernel, "half", 4), 4);
	while (!failed && !closed)
		loop_once(context.loop);
	assert_int_equal(failed, 1);
	assert_int_equal(closed, 0);
	/* it goes on reading, for what the kernel waits for while it unmounts */
	assert_int_equal(write(kernel, "half", 4), 4);
	close_it();
	assert_int_equal(failed, 1);
	assert_int_equal(closed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_closed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_failed, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
