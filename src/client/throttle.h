/* How fast requests may go out. No sockets and no clock: every function is told the time, CLOCK_MONOTONIC in
 * microseconds, which never goes back.
 *
 * A token bucket paces to the present rate, with a burst of what a tenth of a second allows. A 429 empties it, pauses
 * everything (longer each time, until a request succeeds) and halves the rate: the one that was set, or where none was,
 * what the server took in the last second. Each second that then passes without a 429 gives a tenth back: of the rate
 * that was set, or of the present one, until that is so high that it is no limit any more. */
#ifndef HPKVFS_CLIENT_THROTTLE_H
#define HPKVFS_CLIENT_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "client/hpkv.h"

/* A tenth of a second each; together the last second. */
#define THROTTLE_SLOTS 10

struct throttle {
	struct hpkv_throttle config;
	double rate;   /* requests a second; 0: no limit */
	bool measured; /* it is half of what the server took before the last 429 */
	double tokens; /* requests that may go out at once, as of filled_us */
	uint64_t filled_us;
	uint64_t step_us;    /* the rate grows a second after this */
	uint64_t pause_us;   /* nothing goes out before */
	uint64_t refused_us; /* the last 429 that counted; 0: none */
	uint64_t delay_us;   /* of the last pause; 0: a success came since */
	uint64_t random;
	uint64_t slot;                  /* number of the newest tenth of a second in `taken` */
	unsigned taken[THROTTLE_SLOTS]; /* requests that the server took, by slot % THROTTLE_SLOTS */
};

/* 0 or -EINVAL (a rate that is negative, not finite or above 1e6). */
CHECKED int throttle_check(const struct hpkv_throttle *config);

/* `config` was checked. Any seed. */
void throttle_init(struct throttle *throttle, const struct hpkv_throttle *config, uint64_t seed, uint64_t now_us);

/* The new rate holds from now on, as if no 429 had come; a pause goes on. */
void throttle_set(struct throttle *throttle, const struct hpkv_throttle *config, uint64_t now_us);

/* 0: one request goes out now. Else the microseconds until one may. */
uint64_t throttle_take(struct throttle *throttle, uint64_t now_us);

/* A request that was sent at sent_us was taken by the server, or refused with 429. Those that were under way together when
 * the first of them was refused count as one refusal. */
void throttle_succeeded(struct throttle *throttle, uint64_t sent_us, uint64_t now_us);
void throttle_refused(struct throttle *throttle, uint64_t sent_us, uint64_t now_us);

/* Requests a second, 0: without limit. */
double throttle_rate(const struct throttle *throttle, uint64_t now_us);

/* What is left of the pause, in microseconds. */
uint64_t throttle_pause_us(const struct throttle *throttle, uint64_t now_us);

#endif
