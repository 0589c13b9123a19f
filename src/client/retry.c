#include "client/retry.h"

#include <limits.h>

#include "client/hpkv.h"

bool retry_next(struct retry *retry, uint64_t random)
{
	uint64_t delay_ms = retry->initial_delay_ms;

	if (retry->max_attempts != HPKV_FOREVER && retry->attempts >= retry->max_attempts)
		return false;
	for (unsigned i = 0; i < retry->attempts && delay_ms < retry->max_delay_ms; i++)
		delay_ms *= 2;
	if (delay_ms > retry->max_delay_ms)
		delay_ms = retry->max_delay_ms;
	delay_ms += random % ((uint64_t)retry->jitter_ms + 1);
	retry->delay_ms = delay_ms < UINT_MAX ? (unsigned)delay_ms : UINT_MAX;
	if (retry->attempts < UINT_MAX)
		retry->attempts++;
	return true;
}
