/* What a program computes from the statistics. */
#include "client/hpkv.h"

#include <math.h>

#include "unit.h"

static void none_yet(void **state)
{
	const struct hpkv_stats stats = { 0 };

	(void)state;
	assert_int_equal(hpkv_stats_rtt_us(&stats, 0.5), 0);
	assert_int_equal(hpkv_stats_rtt_us(&stats, 1), 0);
}

static void shares(void **state)
{
	struct hpkv_stats stats = { .rtt_count = 100, .rtt_max_us = 5000000000 };

	(void)state;
	stats.rtt_us[0] = 1;
	stats.rtt_us[7] = 49;
	stats.rtt_us[10] = 49;
	stats.rtt_us[HPKV_RTT_BUCKETS - 1] = 1;
	assert_int_equal(hpkv_stats_rtt_us(&stats, 0), 1);
	assert_int_equal(hpkv_stats_rtt_us(&stats, 0.01), 1);
	assert_int_equal(hpkv_stats_rtt_us(&stats, 0.02), 128);
	assert_int_equal(hpkv_stats_rtt_us(&stats, 0.5), 128);
	assert_int_equal(hpkv_stats_rtt_us(&stats, 0.51), 1024);
	assert_int_equal(hpkv_stats_rtt_us(&stats, 0.99), 1024);
	/* the last bucket has no bound but the longest of all */
	assert_int_equal(hpkv_stats_rtt_us(&stats, 1), 5000000000);
}

static void shares_that_are_none(void **state)
{
	struct hpkv_stats stats = { .rtt_count = 2, .rtt_max_us = 60 };

	(void)state;
	stats.rtt_us[3] = 1;
	stats.rtt_us[6] = 1;
	assert_int_equal(hpkv_stats_rtt_us(&stats, -1), 8);
	assert_int_equal(hpkv_stats_rtt_us(&stats, 2), 60);
	assert_int_equal(hpkv_stats_rtt_us(&stats, NAN), 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(none_yet),
		cmocka_unit_test(shares),
		cmocka_unit_test(shares_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
