#include "client/client.h"

#include "base/clock.h"

void hpkv_client_stats(const struct hpkv_client *client, struct hpkv_stats *out)
{
	const struct calls *calls = &client->calls;

	*out = client->stats;
	out->state = client->state;
	out->connected = client->state == HPKV_CONNECTED;
	out->reconnect_attempts = client->state == HPKV_RECONNECTING ? client->retry.attempts : 0;
	out->in_flight = calls->table.in_flight;
	out->queued = calls->table.waiting;
	out->current_rate_per_s = throttle_rate(&calls->throttle, clock_now_us());
}

uint64_t hpkv_stats_rtt_us(const struct hpkv_stats *stats, double share)
{
	double wanted = share * (double)stats->rtt_count;
	uint64_t seen = 0;

	for (unsigned i = 0; i < HPKV_RTT_BUCKETS - 1; i++) {
		seen += stats->rtt_us[i];
		if (seen > 0 && (double)seen >= wanted)
			return (uint64_t)1 << i;
	}
	return stats->rtt_count ? stats->rtt_max_us : 0;
}

/* --- throttling --- */

void hpkv_client_throttle_status(const struct hpkv_client *client, struct hpkv_throttle_status *out)
{
	const struct throttle *throttle = &client->calls.throttle;
	uint64_t now_us = clock_now_us();

	*out = (struct hpkv_throttle_status){
		.config = throttle->config,
		.current_rate_per_s = throttle_rate(throttle, now_us),
		.queued = client->calls.table.waiting,
		.pause_ms = (unsigned)((throttle_pause_us(throttle, now_us) + CLOCK_US_PER_MS - 1) / CLOCK_US_PER_MS),
	};
}

int hpkv_client_set_throttle(struct hpkv_client *client, const struct hpkv_throttle *throttle)
{
	int r = throttle_check(throttle);

	if (r)
		return r;
	throttle_set(&client->calls.throttle, throttle, clock_now_us());
	calls_pace_anew(client);
	return 0;
}
