#include "client/throttle.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"

#define RATE_MOST 1e6
#define RATE_LEAST 1.0
/* A rate that nobody set and that has grown so far is dropped. */
#define RATE_UNLIMITED 1e4
/* The share of a rate that a second without 429 gives back, and the share of a second that a burst may hold. */
#define STEP 0.1
#define BURST_S 0.1
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
	return rate * BURST_S > 1 ? rate * BURST_S : 1;
}

void throttle_init(struct throttle *throttle, const struct hpkv_throttle *config, uint64_t seed, uint64_t now_us)
{
	*throttle = (struct throttle){ .random = seed };
	throttle_set(throttle, config, now_us);
	throttle->tokens = burst(throttle->rate);
}

void throttle_set(struct throttle *throttle, const struct hpkv_throttle *config, uint64_t now_us)
{
	throttle->config = *config;
	throttle->rate = config->enabled ? config->rate_per_s : 0;
	throttle->measured = false;
	throttle->filled_us = now_us;
	if (throttle->tokens > burst(throttle->rate))
		throttle->tokens = burst(throttle->rate);
	if (!config->enabled)
		throttle->pause_us = 0;
}

/* --- the rate --- */

static double grown(const struct throttle *throttle, double rate)
{
	double limit = throttle->config.rate_per_s;

	if (limit > 0)
		return rate + limit * STEP < limit ? rate + limit * STEP : limit;
	rate += rate * STEP;
	return rate < RATE_UNLIMITED ? rate : 0;
}

/* The rate after the seconds that have passed since step_us. It reaches its end in about a hundred of them. */
static double rate_after(const struct throttle *throttle, uint64_t now_us, uint64_t *seconds)
{
	double rate = throttle->rate;

	*seconds = now_us > throttle->step_us ? (now_us - throttle->step_us) / CLOCK_US_PER_S : 0;
	for (uint64_t i = 0; i < *seconds && rate > 0 && rate != throttle->config.rate_per_s; i++)
		rate = grown(throttle, rate);
	return rate;
}

double throttle_rate(const struct throttle *throttle, uint64_t now_us)
{
	uint64_t seconds;

	return rate_after(throttle, now_us, &seconds);
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

static void set_rate(struct throttle *throttle, double rate)
{
	double limit = throttle->config.rate_per_s, least = limit > 0 && limit < RATE_LEAST ? limit : RATE_LEAST;

	throttle->rate = rate > least ? rate : least;
}

static void halve(struct throttle *throttle, uint64_t now_us)
{
	throttle->measured = throttle->rate <= 0;
	set_rate(throttle, (throttle->measured ? taken_lately(throttle, now_us) : throttle->rate) / 2);
}

/* --- sending --- */

static void advance(struct throttle *throttle, uint64_t now_us)
{
	double most;
	uint64_t seconds;

	throttle->rate = rate_after(throttle, now_us, &seconds);
	throttle->step_us += seconds * CLOCK_US_PER_S;
	most = burst(throttle->rate);
	if (now_us > throttle->filled_us) {
		throttle->tokens += (double)(now_us - throttle->filled_us) * throttle->rate / CLOCK_US_PER_S;
		throttle->filled_us = now_us;
	}
	if (throttle->tokens > most)
		throttle->tokens = most;
}

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

uint64_t throttle_take(struct throttle *throttle, uint64_t now_us)
{
	uint64_t pause_us = throttle_pause_us(throttle, now_us);

	if (pause_us)
		return pause_us;
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

void throttle_succeeded(struct throttle *throttle, uint64_t sent_us, uint64_t now_us)
{
	count_taken(throttle, now_us);
	if (sent_us > throttle->refused_us)
		throttle->delay_us = 0;
	else if (throttle->measured && taken_lately(throttle, now_us) / 2 > throttle->rate)
		/* a server says no sooner than yes: these had been taken when the 429 came */
		set_rate(throttle, taken_lately(throttle, now_us) / 2);
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
	halve(throttle, now_us);
	throttle->refused_us = now_us;
	throttle->delay_us = throttle->delay_us ? 2 * throttle->delay_us : PAUSE_FIRST_US;
	if (throttle->delay_us > PAUSE_MOST_US)
		throttle->delay_us = PAUSE_MOST_US;
	throttle->pause_us = now_us + with_jitter(throttle, throttle->delay_us);
	/* the first goes out when the pause is over, and the time of the pause counts for nothing */
	throttle->tokens = 1;
	throttle->filled_us = throttle->pause_us;
	throttle->step_us = throttle->pause_us;
}
