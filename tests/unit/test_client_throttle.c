/* The throttle, with invented times. */
#include "client/throttle.h"

#include <errno.h>
#include <math.h>

#include "unit.h"

#define MS 1000ull
#define S 1000000ull
#define START (1000 * S)

static struct throttle made(double rate_per_s)
{
	const struct hpkv_throttle config = { .enabled = true, .rate_per_s = rate_per_s };
	struct throttle throttle;

	assert_int_equal(throttle_check(&config), 0);
	throttle_init(&throttle, &config, 1, START);
	return throttle;
}

/* How many go out from `from` on, asked as soon as the throttle says, until `to`. */
static unsigned count(struct throttle *throttle, uint64_t from, uint64_t to)
{
	unsigned n = 0;

	for (uint64_t now = from; now < to;) {
		uint64_t wait = throttle_take(throttle, now);

		now += wait;
		n += wait == 0;
		assert_true(n < 1000000);
	}
	return n;
}

static void assert_rate(const struct throttle *throttle, uint64_t now, double expected)
{
	double rate = throttle_rate(throttle, now);

	if (fabs(rate - expected) > 1e-6)
		fail_msg("the rate is %f, not %f", rate, expected);
}

/* The end of the pause after a 429. */
static uint64_t refuse(struct throttle *throttle, uint64_t sent, uint64_t now)
{
	throttle_refused(throttle, sent, now);
	return now + throttle_pause_us(throttle, now);
}

static void rates_that_are_no_rates(void **state)
{
	static const double bad[] = { -1, -1e-9, 1e6 + 1, NAN, INFINITY, -INFINITY };
	static const double good[] = { 0, 1e-9, 0.5, 1e6 };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(throttle_check(&(struct hpkv_throttle){ true, bad[i] }), -EINVAL);
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		assert_int_equal(throttle_check(&(struct hpkv_throttle){ true, good[i] }), 0);
}

static void without_a_rate_nothing_waits(void **state)
{
	struct throttle throttle = made(0);

	(void)state;
	for (int i = 0; i < 100000; i++)
		assert_int_equal(throttle_take(&throttle, START), 0);
	assert_rate(&throttle, START, 0);
}

static void a_rate_is_kept(void **state)
{
	struct throttle slow = made(0.5), ten = made(10), fast = made(1000);

	(void)state;
	assert_in_range(count(&slow, START, START + 20 * S), 10, 11);
	assert_in_range(count(&ten, START, START + 10 * S), 100, 101);
	assert_in_range(count(&fast, START, START + 10 * S), 10000, 10100);
	assert_rate(&ten, START + 10 * S, 10);
}

static void a_burst_is_a_tenth_of_a_second(void **state)
{
	struct throttle ten = made(10), fast = made(1000);
	uint64_t idle = START + 3600 * S;

	(void)state;
	assert_int_equal(count(&ten, START, START + 1), 1);
	assert_int_equal(throttle_take(&fast, START), 0);
	assert_int_equal(count(&fast, idle, idle + 1), 100);
}

static void the_wait_is_as_long_as_it_takes(void **state)
{
	struct throttle throttle = made(10);
	uint64_t wait;

	(void)state;
	assert_int_equal(throttle_take(&throttle, START), 0);
	wait = throttle_take(&throttle, START + 30 * MS);
	assert_in_range(wait, 70 * MS, 70 * MS + 2);
	assert_int_equal(throttle_take(&throttle, START + 30 * MS + wait), 0);
}

static void one_that_goes_along_is_waited_for_later(void **state)
{
	struct throttle ten = made(10), hundred = made(100), none = made(0);
	uint64_t now = START;
	unsigned n = 0;

	(void)state;
	assert_int_equal(throttle_take(&ten, START), 0);
	throttle_also(&ten);
	assert_in_range(throttle_take(&ten, START), 200 * MS, 200 * MS + 2);
	while (now < START + 10 * S) {
		uint64_t wait = throttle_take(&hundred, now);

		now += wait;
		if (wait)
			continue;
		throttle_also(&hundred);
		n += 2;
	}
	assert_in_range(n, 998, 1012);
	throttle_also(&none);
	assert_int_equal(throttle_take(&none, START), 0);
}

static void one_goes_along_with_the_one_that_goes_to_see(void **state)
{
	struct throttle throttle = made(100);
	uint64_t end;

	(void)state;
	assert_int_equal(throttle_take(&throttle, START), 0);
	end = refuse(&throttle, START, START + 10 * MS);
	assert_int_equal(throttle_take(&throttle, end), 0);
	throttle_also(&throttle);
	assert_int_equal(throttle_take(&throttle, end + 50 * MS), 50 * MS);
	assert_true(throttle_succeeded(&throttle, end, end + 10 * MS));
	/* two at 75 a second */
	assert_in_range(throttle_take(&throttle, end + 10 * MS), 16 * MS, 17 * MS);
}

static void a_429_pauses_and_cuts(void **state)
{
	struct throttle throttle = made(100);
	uint64_t end;

	(void)state;
	assert_int_equal(throttle_take(&throttle, START), 0);
	end = refuse(&throttle, START, START + 10 * MS);
	assert_in_range(end, START + 60 * MS, START + 110 * MS);
	assert_rate(&throttle, START + 10 * MS, 75);
	assert_int_equal(throttle_take(&throttle, START + 10 * MS), end - START - 10 * MS);
	assert_int_equal(throttle_take(&throttle, end - 1), 1);
	assert_int_equal(throttle_take(&throttle, end), 0);
	/* the others wait for its answer */
	assert_int_equal(throttle_take(&throttle, end + 50 * MS), 50 * MS);
	assert_true(throttle_succeeded(&throttle, end, end + 10 * MS));
	assert_in_range(throttle_take(&throttle, end + 10 * MS), 3 * MS, 3 * MS + 400);
}

static void those_under_way_together_count_once(void **state)
{
	struct throttle throttle = made(100);
	uint64_t end;

	(void)state;
	end = refuse(&throttle, START, START + 10 * MS);
	for (uint64_t i = 1; i < 100; i++)
		throttle_refused(&throttle, START + i * MS / 100, START + 10 * MS + i);
	assert_rate(&throttle, START + 20 * MS, 75);
	assert_int_equal(START + 20 * MS + throttle_pause_us(&throttle, START + 20 * MS), end);
	/* one that was sent afterwards makes the pause longer, and no more: nothing was taken at the new rate yet */
	assert_in_range(refuse(&throttle, end, end + MS), end + 101 * MS, end + 201 * MS);
	assert_rate(&throttle, end + MS, 75);
}

static void pauses_double_up_to_five_seconds(void **state)
{
	struct throttle throttle = made(0);
	uint64_t now = START, full = 100 * MS;

	(void)state;
	for (int i = 0; i < 12; i++) {
		uint64_t end = refuse(&throttle, now, now + MS);

		assert_in_range(end - now - MS, full / 2, full);
		full = 2 * full < 5 * S ? 2 * full : 5 * S;
		now = end;
	}
}

static void a_success_ends_the_doubling(void **state)
{
	struct throttle throttle = made(0);
	uint64_t end = START;

	(void)state;
	for (int i = 0; i < 6; i++)
		end = refuse(&throttle, end, end + MS);
	/* of one that was sent before the 429: tells nothing */
	throttle_succeeded(&throttle, START, end);
	assert_in_range(refuse(&throttle, end, end + MS) - end - MS, 2500 * MS, 5 * S);
	end += 10 * S;
	throttle_succeeded(&throttle, end, end + MS);
	assert_in_range(refuse(&throttle, end + 2 * MS, end + 3 * MS) - end - 3 * MS, 50 * MS, 100 * MS);
}

static void a_set_rate_grows_back_by_steps(void **state)
{
	struct throttle throttle = made(100);
	uint64_t end = refuse(&throttle, START, START + MS);

	(void)state;
	assert_rate(&throttle, end + 100 * MS - 1, 75);
	for (uint64_t i = 0; i <= 10; i++)
		assert_rate(&throttle, end + i * 100 * MS, 75 + 2 * (double)i);
	for (uint64_t i = 0; i < 50; i++)
		assert_rate(&throttle, end + S + i * 100 * MS, 95 + (double)i / 10);
	assert_rate(&throttle, end + 7 * S, 100);
	assert_rate(&throttle, end + 3600 * S, 100);
	/* and it is used: 85 in the first second, then 97.5 in each of five, then 100 */
	throttle_succeeded(&throttle, end, end);
	assert_in_range(count(&throttle, end, end + 10 * S), 965, 975);
}

static void growth_is_the_same_however_often_it_is_asked(void **state)
{
	struct throttle once = made(100), often;
	uint64_t end = refuse(&once, START, START + MS);

	(void)state;
	often = once;
	for (uint64_t now = end; now < end + 3500 * MS; now += MS)
		(void)throttle_take(&often, now);
	(void)throttle_take(&once, end + 3500 * MS);
	assert_rate(&once, end + 3500 * MS, 97.5);
	assert_rate(&often, end + 3500 * MS, 97.5);
}

static void never_below_one_a_second(void **state)
{
	struct throttle five = made(5), half = made(0.5);
	uint64_t now = START;

	(void)state;
	for (int i = 0; i < 10; i++) {
		now += 10 * MS;
		throttle_refused(&five, now - MS, now);
		throttle_refused(&half, now - MS, now);
		throttle_succeeded(&five, now + MS, now + MS);
		throttle_succeeded(&half, now + MS, now + MS);
	}
	assert_rate(&five, now, 1);
	assert_rate(&half, now, 0.5);
}

/* What the server took, evenly, in the time before `to`. */
static void succeed(struct throttle *throttle, uint64_t from, uint64_t to, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t now = from + (to - from) * i / n;

		assert_int_equal(throttle_take(throttle, now), 0);
		throttle_succeeded(throttle, now, now);
	}
}

static void without_a_rate_it_is_measured(void **state)
{
	struct throttle throttle = made(0), idle = made(0), burst = made(0);

	(void)state;
	succeed(&throttle, START, START + 2 * S, 80);
	throttle_refused(&throttle, START + 2 * S - MS, START + 2 * S - MS);
	assert_rate(&throttle, START + 2 * S, 30);
	/* long ago is not lately, and few requests say little */
	succeed(&idle, START, START + S, 1000);
	throttle_refused(&idle, START + 60 * S, START + 60 * S + MS);
	assert_rate(&idle, START + 60 * S + MS, 7.5);
	succeed(&burst, START, START + MS, 32);
	throttle_refused(&burst, START, START + 2 * MS);
	assert_rate(&burst, START + 2 * MS, 24);
}

/* A server may answer those that it refuses before those that it took. */
static void what_was_taken_is_measured_though_its_answers_come_later(void **state)
{
	struct throttle throttle = made(0);
	uint64_t end = refuse(&throttle, START, START + MS);

	(void)state;
	assert_rate(&throttle, START + MS, 7.5);
	for (unsigned i = 0; i < 40; i++)
		throttle_succeeded(&throttle, START, START + 2 * MS);
	assert_rate(&throttle, START + 2 * MS, 30);
	/* what was sent since is no measure */
	for (unsigned i = 0; i < 200; i++)
		throttle_succeeded(&throttle, end, end + MS);
	assert_rate(&throttle, end + MS, 30);
}

/* Sends as fast as the rate allows, and everything is taken. */
static double used(struct throttle *throttle, uint64_t from, uint64_t to)
{
	for (uint64_t now = from; now < to;) {
		uint64_t wait = throttle_take(throttle, now);

		if (!wait)
			throttle_succeeded(throttle, now, now);
		if (!wait && throttle_rate(throttle, now) <= 0)
			return 0;
		now += wait;
	}
	return throttle_rate(throttle, to);
}

static void without_a_rate_it_grows_until_it_is_no_limit(void **state)
{
	struct throttle throttle = made(0);
	double before, after;
	uint64_t end;

	(void)state;
	succeed(&throttle, START, START + S, 100);
	end = refuse(&throttle, START + S - MS, START + S - MS);
	before = used(&throttle, end, end + 6 * S);
	assert_true(before > 99 && before < 101);
	for (uint64_t i = 6; i < 60 && before > 0; i++, before = after) {
		after = used(&throttle, end + i * S, end + (i + 1) * S);
		if (after <= before && after > 0)
			fail_msg("%f after %f in second %u", after, before, (unsigned)i);
		assert_true(before > 150 || i < 20);
	}
	assert_rate(&throttle, end + 60 * S, 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(throttle_take(&throttle, end + 60 * S), 0);
}

static void a_rate_that_is_no_hindrance_stays(void **state)
{
	struct throttle throttle = made(0);
	uint64_t end;

	(void)state;
	succeed(&throttle, START, START + S, 100);
	end = refuse(&throttle, START + S - MS, START + S - MS);
	succeed(&throttle, end, end + 100 * S, 1000);
	assert_true(fabs(throttle_rate(&throttle, end + 100 * S) - 100) < 0.2);
}

static void another_rate_holds_at_once(void **state)
{
	struct throttle throttle = made(1);

	(void)state;
	assert_int_equal(throttle_take(&throttle, START), 0);
	assert_in_range(throttle_take(&throttle, START), S - 2, S + 2);
	throttle_set(&throttle, &(struct hpkv_throttle){ true, 100 }, START);
	assert_in_range(throttle_take(&throttle, START), 10 * MS - 2, 10 * MS + 2);
	throttle_set(&throttle, &(struct hpkv_throttle){ true, 0 }, START);
	assert_int_equal(throttle_take(&throttle, START), 0);
	throttle_set(&throttle, &(struct hpkv_throttle){ true, 2 }, START);
	assert_in_range(count(&throttle, START, START + 10 * S), 19, 21);
}

static void a_rate_of_next_to_nothing(void **state)
{
	const double rates[] = { 1e-13, 1e-300, 5e-324 };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct throttle throttle = made(rates[i]);

		assert_int_equal(throttle_take(&throttle, START), 0);
		assert_in_range(throttle_take(&throttle, START), 60 * S, 86400 * S);
		assert_in_range(throttle_take(&throttle, START + 86400 * S), 60 * S, 86400 * S);
	}
}

static void another_rate_does_not_end_a_pause(void **state)
{
	struct throttle throttle = made(100);
	uint64_t end = refuse(&throttle, START, START + MS);

	(void)state;
	throttle_set(&throttle, &(struct hpkv_throttle){ true, 1000 }, START + 2 * MS);
	assert_int_equal(START + 2 * MS + throttle_take(&throttle, START + 2 * MS), end);
	assert_int_equal(throttle_take(&throttle, end), 0);
	assert_rate(&throttle, end, 1000);
}

static void switched_off_it_does_nothing(void **state)
{
	struct throttle throttle;

	(void)state;
	throttle_init(&throttle, &(struct hpkv_throttle){ false, 1 }, 1, START);
	throttle_refused(&throttle, START, START + MS);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(throttle_take(&throttle, START + MS), 0);
	assert_rate(&throttle, START + MS, 0);
	throttle = made(100);
	throttle_refused(&throttle, START, START + MS);
	throttle_set(&throttle, &(struct hpkv_throttle){ 0 }, START + 2 * MS);
	assert_int_equal(throttle_take(&throttle, START + 2 * MS), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rates_that_are_no_rates),
		cmocka_unit_test(without_a_rate_nothing_waits),
		cmocka_unit_test(a_rate_is_kept),
		cmocka_unit_test(a_burst_is_a_tenth_of_a_second),
		cmocka_unit_test(the_wait_is_as_long_as_it_takes),
		cmocka_unit_test(one_that_goes_along_is_waited_for_later),
		cmocka_unit_test(one_goes_along_with_the_one_that_goes_to_see),
		cmocka_unit_test(a_429_pauses_and_cuts),
		cmocka_unit_test(those_under_way_together_count_once),
		cmocka_unit_test(pauses_double_up_to_five_seconds),
		cmocka_unit_test(a_success_ends_the_doubling),
		cmocka_unit_test(a_set_rate_grows_back_by_steps),
		cmocka_unit_test(growth_is_the_same_however_often_it_is_asked),
		cmocka_unit_test(never_below_one_a_second),
		cmocka_unit_test(without_a_rate_it_is_measured),
		cmocka_unit_test(what_was_taken_is_measured_though_its_answers_come_later),
		cmocka_unit_test(without_a_rate_it_grows_until_it_is_no_limit),
		cmocka_unit_test(a_rate_that_is_no_hindrance_stays),
		cmocka_unit_test(another_rate_holds_at_once),
		cmocka_unit_test(a_rate_of_next_to_nothing),
		cmocka_unit_test(another_rate_does_not_end_a_pause),
		cmocka_unit_test(switched_off_it_does_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
