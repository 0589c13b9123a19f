/* When a lost connection is tried again. */
#include "client/retry.h"

#include <limits.h>

#include "client/hpkv.h"
#include "unit.h"

static void doubles_up_to_the_limit(void **state)
{
	static const unsigned expected[] = { 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000 };
	struct retry retry = { .max_attempts = 8, .initial_delay_ms = 1000, .max_delay_ms = 30000 };

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		assert_true(retry_next(&retry, UINT64_MAX));
		assert_int_equal(retry.delay_ms, expected[i]);
		assert_int_equal(retry.attempts, i + 1);
	}
	assert_false(retry_next(&retry, 0));
	assert_int_equal(retry.attempts, 8);
}

static void never(void **state)
{
	struct retry retry = { .initial_delay_ms = 1, .max_delay_ms = 1 };

	(void)state;
	assert_false(retry_next(&retry, 0));
}

static void for_ever(void **state)
{
	struct retry retry = { .max_attempts = HPKV_FOREVER, .initial_delay_ms = 3, .max_delay_ms = 100 };

	(void)state;
	for (int i = 0; i < 100000; i++)
		assert_true(retry_next(&retry, 0));
	assert_int_equal(retry.delay_ms, 100);
	retry.attempts = UINT_MAX;
	assert_true(retry_next(&retry, 0));
	assert_int_equal(retry.attempts, UINT_MAX);
}

static void a_first_delay_above_the_limit(void **state)
{
	struct retry retry = { .max_attempts = 2, .initial_delay_ms = 500, .max_delay_ms = 20 };

	(void)state;
	assert_true(retry_next(&retry, 0));
	assert_int_equal(retry.delay_ms, 20);
}

/* Each time from nothing to the whole jitter can be added, also to the longest delay. */
static void jitter(void **state)
{
	unsigned seen[4] = { 0 };
	uint64_t seed = 7;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		struct retry retry = { .max_attempts = 1, .initial_delay_ms = 10, .max_delay_ms = 10, .jitter_ms = 3 };

		assert_true(retry_next(&retry, unit_random(&seed)));
		assert_in_range(retry.delay_ms, 10, 13);
		seen[retry.delay_ms - 10]++;
	}
	for (int i = 0; i < 4; i++)
		assert_true(seen[i] > 0);
}

static void the_largest_numbers(void **state)
{
	struct retry retry = {
		.max_attempts = 40, .initial_delay_ms = 1, .max_delay_ms = UINT_MAX, .jitter_ms = UINT_MAX
	};

	(void)state;
	for (int i = 0; i < 40; i++)
		assert_true(retry_next(&retry, UINT_MAX));
	assert_int_equal(retry.delay_ms, UINT_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(doubles_up_to_the_limit),
		cmocka_unit_test(never),
		cmocka_unit_test(for_ever),
		cmocka_unit_test(a_first_delay_above_the_limit),
		cmocka_unit_test(jitter),
		cmocka_unit_test(the_largest_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
