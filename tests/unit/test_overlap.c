/* Two connections that notify of the same changes, told once. */
#include "client/overlap.h"

#include "unit.h"

#define KEYS 4
#define CHANGES 200

static struct hpkv_notification change(const char *key, const char *value, int64_t timestamp_ms)
{
	return (struct hpkv_notification){
		.key = hpkv_str(key),
		.value = value ? hpkv_str(value) : (struct hpkv_slice){ 0 },
		.timestamp_ms = timestamp_ms,
	};
}

static bool second(struct overlap *overlap, struct hpkv_notification notification)
{
	bool tell = false;

	assert_int_equal(overlap_second(overlap, &notification, &tell), 0);
	return tell;
}

static bool first(struct overlap *overlap, struct hpkv_notification notification)
{
	return overlap_first(overlap, &notification);
}

static void assert_next_kept(struct overlap *overlap, const char *value)
{
	struct heard *heard = overlap_take(overlap);

	assert_non_null(heard);
	assert_str(str_of(heard->notification.value.data, heard->notification.value.size), str_c(value));
	free(heard);
}

static void one_connection(void **state)
{
	struct overlap overlap = { 0 };

	(void)state;
	assert_true(second(&overlap, change("a", "1", 1)));
	assert_true(second(&overlap, change("a", "1", 1)));
	assert_true(second(&overlap, change("a", NULL, 2)));
	assert_null(overlap_take(&overlap));
	overlap_free(&overlap);
}

static void the_first_is_ahead(void **state)
{
	struct overlap overlap = { 0 };

	(void)state;
	overlap_prepare(&overlap);
	assert_true(first(&overlap, change("a", "1", 1)));
	overlap_begin(&overlap);
	assert_true(first(&overlap, change("a", "2", 2)));
	assert_false(second(&overlap, change("a", "1", 1)));
	assert_true(overlap.synced);
	overlap_end(&overlap);
	assert_null(overlap_take(&overlap));
	assert_false(second(&overlap, change("a", "2", 2)));
	assert_true(second(&overlap, change("a", "3", 3)));
	overlap_free(&overlap);
}

static void the_second_is_ahead(void **state)
{
	struct overlap overlap = { 0 };

	(void)state;
	overlap_prepare(&overlap);
	overlap_begin(&overlap);
	assert_false(second(&overlap, change("a", "2", 2)));
	assert_false(second(&overlap, change("a", "3", 3)));
	assert_true(first(&overlap, change("a", "1", 1)));
	assert_false(overlap.synced);
	assert_true(first(&overlap, change("a", "2", 2)));
	assert_true(overlap.synced);
	overlap_end(&overlap);
	assert_next_kept(&overlap, "3");
	assert_null(overlap_take(&overlap));
	assert_true(second(&overlap, change("a", "4", 4)));
	overlap_free(&overlap);
}

/* Key, value, timestamp, whether it is a number and whether it is a removal: each tells two apart. */
static void what_is_the_same(void **state)
{
	struct overlap overlap = { 0 };
	struct hpkv_notification number = change("a", "1", 1);

	(void)state;
	number.number = true;
	overlap_prepare(&overlap);
	overlap_begin(&overlap);
	assert_true(first(&overlap, change("a", "1", 1)));
	assert_false(second(&overlap, change("b", "1", 1)));
	assert_false(overlap.synced);
	assert_true(first(&overlap, change("c", "1", 1)));
	assert_false(second(&overlap, change("c", "2", 1)));
	assert_true(first(&overlap, change("d", "1", 1)));
	assert_false(second(&overlap, change("d", "1", 2)));
	assert_true(first(&overlap, change("e", "", 1)));
	assert_false(second(&overlap, change("e", NULL, 1)));
	assert_false(second(&overlap, number));
	assert_false(overlap.synced);
	overlap_free(&overlap);
}

static void the_same_twice(void **state)
{
	struct overlap overlap = { 0 };

	(void)state;
	overlap_prepare(&overlap);
	overlap_begin(&overlap);
	assert_true(first(&overlap, change("a", "1", 1)));
	assert_true(first(&overlap, change("a", "1", 1)));
	assert_false(second(&overlap, change("a", "1", 1)));
	overlap_end(&overlap);
	assert_false(second(&overlap, change("a", "1", 1)));
	assert_true(second(&overlap, change("a", "1", 1)));
	overlap_free(&overlap);
}

static void a_second_that_never_stood(void **state)
{
	struct overlap overlap = { 0 };

	(void)state;
	overlap_prepare(&overlap);
	assert_true(first(&overlap, change("a", "1", 1)));
	overlap_cancel(&overlap);
	assert_true(second(&overlap, change("a", "1", 1)));
	overlap_cancel(&overlap);
	assert_true(second(&overlap, change("a", "1", 1)));
	overlap_free(&overlap);
}

/* The second lags behind while a third takes over from it. */
static void one_after_the_other(void **state)
{
	struct overlap overlap = { 0 };

	(void)state;
	overlap_prepare(&overlap);
	overlap_begin(&overlap);
	assert_true(first(&overlap, change("a", "1", 1)));
	overlap_end(&overlap);
	overlap_prepare(&overlap);
	assert_false(first(&overlap, change("a", "1", 1)));
	overlap_begin(&overlap);
	assert_false(second(&overlap, change("a", "1", 1)));
	assert_true(first(&overlap, change("a", "2", 2)));
	overlap_free(&overlap);
}

static void bounded(void **state)
{
	struct overlap overlap = { 0 };
	struct hpkv_notification last = change("a", "1", OVERLAP_MAX);
	bool tell;

	(void)state;
	overlap_prepare(&overlap);
	overlap_begin(&overlap);
	for (int i = 0; i < OVERLAP_MAX; i++)
		assert_false(second(&overlap, change("a", "1", i)));
	assert_int_equal(overlap_second(&overlap, &last, &tell), -ENOBUFS);
	for (int i = 0; i < OVERLAP_MAX + 10; i++)
		assert_true(first(&overlap, change("b", "1", i)));
	assert_int_equal(overlap.told.count, OVERLAP_MAX);
	overlap_free(&overlap);
}

/* --- any two streams --- */

struct run {
	struct overlap overlap;
	struct hpkv_notification all[CHANGES];
	int heard[KEYS]; /* how many of each key */
};

static const char *const keys[KEYS] = { "a", "b", "c", "d" };

static void tell(struct run *run, const struct hpkv_notification *notification)
{
	int key = notification->key.data[0] - 'a', n = 0;

	for (int i = 0; i < CHANGES; i++) {
		if (run->all[i].key.data[0] != keys[key][0] || n++ < run->heard[key])
			continue;
		/* the next of this key that was not told yet */
		assert_int_equal(notification->timestamp_ms, run->all[i].timestamp_ms);
		run->heard[key]++;
		return;
	}
	fail_msg("more was told than there was");
}

static void first_brings(struct run *run, int i)
{
	if (overlap_first(&run->overlap, &run->all[i]))
		tell(run, &run->all[i]);
}

static void second_brings(struct run *run, int i)
{
	if (second(&run->overlap, run->all[i]))
		tell(run, &run->all[i]);
}

/* `start`: the second's first. Each of the two is read as far as chance has it, the first until the second may replace
 * it. */
static void run_once(uint64_t *seed)
{
	struct run run = { 0 };
	int i = 0, j, start = (int)unit_below(seed, CHANGES);
	int prepared = (int)unit_below(seed, (size_t)start + 1);
	int known = prepared + (int)unit_below(seed, (size_t)(CHANGES - prepared));
	struct heard *heard;

	for (int n = 0; n < CHANGES; n++)
		run.all[n] = change(keys[unit_below(seed, KEYS)], unit_below(seed, 5) ? "v" : NULL, n);
	for (; i < prepared; i++)
		second_brings(&run, i); /* there is one connection yet */
	overlap_prepare(&run.overlap);
	for (; i < known; i++)
		first_brings(&run, i);
	overlap_begin(&run.overlap);
	for (j = start; !run.overlap.synced && (i < CHANGES || j < CHANGES);) {
		if (i < CHANGES && (j >= CHANGES || unit_below(seed, 3)))
			first_brings(&run, i++);
		else
			second_brings(&run, j++);
	}
	overlap_end(&run.overlap);
	while ((heard = overlap_take(&run.overlap))) {
		tell(&run, &heard->notification);
		free(heard);
	}
	for (; j < CHANGES; j++)
		second_brings(&run, j);
	assert_int_equal(run.heard[0] + run.heard[1] + run.heard[2] + run.heard[3], CHANGES);
	overlap_free(&run.overlap);
}

static void any_two_streams(void **state)
{
	uint64_t seed = 20240517;

	(void)state;
	for (int i = 0; i < 2000; i++)
		run_once(&seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_connection),      cmocka_unit_test(the_first_is_ahead),
		cmocka_unit_test(the_second_is_ahead), cmocka_unit_test(what_is_the_same),
		cmocka_unit_test(the_same_twice),      cmocka_unit_test(a_second_that_never_stood),
		cmocka_unit_test(one_after_the_other), cmocka_unit_test(bounded),
		cmocka_unit_test(any_two_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
