#include "client/throttle.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"

#define RATE_MOST 1e6
#define RATE_LEAST 1.0
/* A rate that nobody set and that has grown so far, and to twice what the server was found to take, is dropped. */
#define RATE_UNLIMITED 1e4
/* The least that a first 429 is believed to mean: it says little if there were few requests before. */
#define CEILING_FIRST 10.0
#define CUT 0.75
/* What the server took between two 429s is no measure if the time was shorter or longer, or if it seems to be less than
 * this share of the rate. */
#define MEASURE_LEAST_US (CLOCK_US_PER_S / 2)
#define MEASURE_MOST_US (5u * CLOCK_US_PER_S)
#define MEASURE_SHARE 0.8
/* Growth, ten steps a second: in shares of the ceiling up to NEAR and up to the ceiling; beyond it first so many requests
 * a second, the same for all, so that of several clients that share a limit the slower ones gain. */
#define STEP_US (CLOCK_US_PER_S / 10)
#define NEAR 0.95
#define STEP_FAR 0.02
#define STEP_NEAR 0.001
#define STEP_BEYOND 0.01
#define BEYOND_GROWTH 1.05
#define BURST_S 0.1
/* A timer that fires late costs nothing. */
#define BURST_LEAST 1.2
#define PAUSE_FIRST_US (100u * CLOCK_US_PER_MS)
#define PAUSE_MOST_US (5u * CLOCK_US_PER_S)
#define WAIT_MOST_S 3600u
#define SLOT_US (CLOCK_US_PER_S / THROTTLE_SLOTS)

int throttle_check(const struct hpkv_throttle *config)
{
	return config->rate_per_s >= 0 && config->rate_per_s <= RATE_MOST ? 0 : -EINVAL;
}

static double burst(double rate)
{
	return rate * BURST_S > BURST_LEAST ? rate * BURST_S : BURST_LEAST;
}

void throttle_init(struct throttle *throttle, const struct hpkv_throttle *config, uint64_t seed, uint64_t now_us)
{
	*throttle = (struct throttle){ .random = seed };
	throttle_set(throttle, config, now_us);
	throttle->tokens = 1;
	throttle->pause_most_us = PAUSE_MOST_US;
}

void throttle_set(struct throttle *throttle, const struct hpkv_throttle *config, uint64_t now_us)
{
	throttle->config = *config;
	throttle->rate = config->enabled ? config->rate_per_s : 0;
	throttle->ceiling = 0;
	throttle->measured = false;
	throttle->slack = true;
	throttle->filled_us = now_us;
	if (throttle->tokens > burst(throttle->rate))
		throttle->tokens = burst(throttle->rate);
	if (!config->enabled) {
		throttle->pause_us = 0;
		throttle->delay_us = 0;
	}
}

/* --- the rate --- */

static void set_rate(struct throttle *throttle, double rate)
{
	double limit = throttle->config.rate_per_s, least = limit > 0 && limit < RATE_LEAST ? limit : RATE_LEAST;

	throttle->rate = rate > least ? rate : least;
}

/* One step up. */
static void grow(struct throttle *throttle)
{
	double ceiling = throttle->ceiling, limit = throttle->config.rate_per_s, near = NEAR * ceiling;

	if (throttle->rate < near) {
		throttle->rate += STEP_FAR * ceiling;
		throttle->rate = throttle->rate < near ? throttle->rate : near;
	} else if (throttle->rate < ceiling) {
		throttle->rate += STEP_NEAR * ceiling;
	} else {
		throttle->beyond *= BEYOND_GROWTH;
		throttle->rate += throttle->beyond;
	}
	if (limit > 0 && throttle->rate >= limit) {
		throttle->rate = limit;
		throttle->ceiling = 0;
	} else if (limit <= 0 && throttle->rate >= RATE_UNLIMITED && throttle->rate >= 2 * ceiling) {
		throttle->rate = 0;
		throttle->ceiling = 0;
	}
}

/* Fills the bucket and takes the steps that are due. */
static void advance(struct throttle *throttle, uint64_t now_us)
{
	bool full = false;

	if (now_us > throttle->filled_us) {
		throttle->tokens += (double)(now_us - throttle->filled_us) * throttle->rate / CLOCK_US_PER_S;
		throttle->filled_us = now_us;
	}
	if (throttle->tokens > burst(throttle->rate)) {
		throttle->tokens = burst(throttle->rate);
		throttle->slack = true;
		full = true;
	}
	/* beyond the ceiling only if the rate is what requests wait for */
	while (throttle->ceiling > 0 && now_us >= throttle->step_us + STEP_US) {
		throttle->step_us += STEP_US;
		if (full && throttle->rate >= throttle->ceiling)
			throttle->step_us = now_us;
		else
			grow(throttle);
	}
}

double throttle_rate(const struct throttle *throttle, uint64_t now_us)
{
	struct throttle then = *throttle;

	advance(&then, now_us);
	return then.rate;
}

/* What the server took in the last second. */
static double taken_lately(const struct throttle *throttle, uint64_t now_us)
{
	uint64_t slot = now_us / SLOT_US;
	unsigned sum = 0;

	for (uint64_t i = 0; i < THROTTLE_SLOTS; i++)
		if (slot < throttle->slot + THROTTLE_SLOTS - i)
			sum += throttle->taken[(throttle->slot + THROTTLE_SLOTS - i) % THROTTLE_SLOTS];
	return sum;
}

/* What the server was found to take when it sends a 429 at the present rate. Between two 429s it took all that it would,
 * if all was sent that could be. */
static double found(const struct throttle *throttle, uint64_t now_us)
{
	uint64_t elapsed_us = now_us - throttle->refused_us;
	double least = MEASURE_SHARE * throttle->rate, taken;

	if (!throttle->refused_us || throttle->slack || elapsed_us < MEASURE_LEAST_US || elapsed_us > MEASURE_MOST_US)
		return throttle->rate;
	taken = throttle->since * (double)CLOCK_US_PER_S / (double)elapsed_us;
	if (taken < least)
		return least;
	return taken < throttle->rate ? taken : throttle->rate;
}

static void set_ceiling(struct throttle *throttle, double ceiling)
{
	throttle->ceiling = ceiling;
	throttle->beyond = STEP_BEYOND;
	set_rate(throttle, CUT * ceiling);
}

static void cut(struct throttle *throttle, uint64_t now_us)
{
	throttle->measured = throttle->rate <= 0;
	if (throttle->measured) {
		double taken = taken_lately(throttle, now_us);

		set_ceiling(throttle, taken > CEILING_FIRST ? taken : CEILING_FIRST);
	} else {
		set_ceiling(throttle, found(throttle, now_us));
	}
}

/* --- sending --- */

uint64_t throttle_pause_us(const struct throttle *throttle, uint64_t now_us)
{
	return throttle->pause_us > now_us ? throttle->pause_us - now_us : 0;
}

/* A rate may be so small that no number holds the time; who asks too early asks again. */
static uint64_t wait_for(double seconds)
{
	return seconds < WAIT_MOST_S ? (uint64_t)(seconds * CLOCK_US_PER_S) + 1
				     : WAIT_MOST_S * (uint64_t)CLOCK_US_PER_S;
}

void throttle_bound_pause(struct throttle *throttle, uint64_t most_us)
{
	throttle->pause_most_us = most_us < PAUSE_MOST_US ? most_us : PAUSE_MOST_US;
}

uint64_t throttle_take(struct throttle *throttle, uint64_t now_us)
{
	uint64_t pause_us = throttle_pause_us(throttle, now_us);

	if (pause_us)
		return pause_us;
	if (throttle->delay_us) {
		if (throttle->looked && now_us < throttle->pause_us + throttle->delay_us)
			return throttle->pause_us + throttle->delay_us - now_us;
		throttle->looked = true;
		throttle->pause_us = now_us;
	}
	if (throttle->rate <= 0)
		return 0;
	advance(throttle, now_us);
	if (throttle->rate <= 0)
		return 0;
	/* rounding must not make somebody wait for a millionth of a request */
	if (throttle->tokens < 1 - 1e-6)
		return wait_for((1 - throttle->tokens) / throttle->rate);
	throttle->tokens -= 1;
	return 0;
}

void throttle_also(struct throttle *throttle)
{
	if (throttle->rate > 0)
		throttle->tokens -= 1;
}

/* --- answers --- */

static void count_taken(struct throttle *throttle, uint64_t now_us)
{
	uint64_t slot = now_us / SLOT_US;

	if (slot >= throttle->slot + THROTTLE_SLOTS)
		memset(throttle->taken, 0, sizeof(throttle->taken));
	else
		for (uint64_t i = throttle->slot + 1; i <= slot; i++)
			throttle->taken[i % THROTTLE_SLOTS] = 0;
	throttle->slot = slot;
	throttle->taken[slot % THROTTLE_SLOTS]++;
}

bool throttle_succeeded(struct throttle *throttle, uint64_t sent_us, uint64_t now_us)
{
	bool row = throttle->delay_us != 0;

	count_taken(throttle, now_us);
	if (sent_us > throttle->refused_us) {
		throttle->since++;
		throttle->delay_us = 0;
		return row;
	}
	if (throttle->measured && taken_lately(throttle, now_us) > throttle->ceiling)
		/* a server says no sooner than yes: these had been taken when the 429 came */
		set_ceiling(throttle, taken_lately(throttle, now_us));
	return false;
}

/* From half of it up to the whole, so that many clients do not come back at once. */
static uint64_t with_jitter(struct throttle *throttle, uint64_t delay_us)
{
	throttle->random = throttle->random * 6364136223846793005ull + 1442695040888963407ull;
	return delay_us / 2 + (throttle->random >> 33) % (delay_us / 2 + 1);
}

void throttle_refused(struct throttle *throttle, uint64_t sent_us, uint64_t now_us)
{
	if (!throttle->config.enabled || (throttle->refused_us && sent_us <= throttle->refused_us))
		return;
	advance(throttle, now_us);
	if (!throttle->delay_us)
		cut(throttle, now_us);
	throttle->refused_us = now_us;
	throttle->delay_us = throttle->delay_us ? 2 * throttle->delay_us : PAUSE_FIRST_US;
	if (throttle->delay_us > throttle->pause_most_us)
		throttle->delay_us = throttle->pause_most_us;
	throttle->pause_us = now_us + with_jitter(throttle, throttle->delay_us);
	throttle->looked = false;
	throttle->since = 0;
	throttle->slack = false;
	/* the first goes out when the pause is over, and the time of the pause counts for nothing */
	throttle->tokens = 1;
	throttle->filled_us = throttle->pause_us;
	throttle->step_us = throttle->pause_us;
}
