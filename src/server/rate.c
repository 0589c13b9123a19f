#include "server/rate.h"

#include "base/clock.h"

#define ONE CLOCK_US_PER_S

void rate_init(struct rate *rate, unsigned per_second, uint64_t now_us)
{
	rate->per_second = per_second;
	rate->available = rate->per_second * ONE;
	rate->filled_us = now_us;
}

bool rate_take(struct rate *rate, uint64_t now_us)
{
	uint64_t elapsed = now_us - rate->filled_us, full = rate->per_second * ONE;

	if (!rate->per_second)
		return true;
	if (elapsed >= CLOCK_US_PER_S || rate->available + elapsed * rate->per_second > full)
		rate->available = full;
	else
		rate->available += elapsed * rate->per_second;
	rate->filled_us = now_us;
	if (rate->available < ONE)
		return false;
	rate->available -= ONE;
	return true;
}
