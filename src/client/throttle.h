/* How fast requests may go out. No sockets and no clock: every function is told the time, CLOCK_MONOTONIC in
 * microseconds, which never goes back.
 *
 * A token bucket paces to the present rate, with a burst of what a tenth of a second allows. A 429 pauses everything, at
 * first for a moment; while 429s follow without a success between them the pauses double, and after each one request
 * goes out alone to see. The first of such a row cuts the rate too: to three quarters of the ceiling, which is the rate
 * at which the 429 came, or what the server took since the one before if that was less. From there it grows in a second to
 * just below the ceiling, in some more to the ceiling, and beyond it at first hardly and then faster and faster, but only
 * while requests wait for it: where it is no hindrance, nothing shows that the server would take more. Where no rate was
 * set there is none up to the first 429, and none again once it has grown very high. */
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
	double rate;    /* requests a second; 0: no limit */
	double ceiling; /* about what the server was found to take; 0: the rate is what was set */
	double beyond;  /* the next step beyond the ceiling */
	bool measured;  /* the ceiling is what the server took in the last second before the first 429 */
	double tokens;  /* requests that may go out at once, as of filled_us; below 0: a debt */
	uint64_t filled_us;
	uint64_t step_us;    /* the rate grows a step after this */
	uint64_t pause_us;   /* nothing goes out before */
	uint64_t refused_us; /* the last 429 that counted; 0: none */
	uint64_t pause_most_us;
	uint64_t delay_us; /* of the last pause; 0: a success came since */
	bool looked;       /* the one request that goes out after that pause has gone */
	unsigned since;    /* requests sent after refused_us that the server took */
	bool slack;        /* since then some could have gone out that did not */
	uint64_t random;
	uint64_t slot;                  /* number of the newest tenth of a second in `taken` */
	unsigned taken[THROTTLE_SLOTS]; /* requests that the server took, by slot % THROTTLE_SLOTS */
};

/* 0 or -EINVAL (a rate that is negative, not finite or above 1e6). */
CHECKED int throttle_check(const struct hpkv_throttle *config);

/* `config` was checked. Any seed. */
void throttle_init(struct throttle *throttle, const struct hpkv_throttle *config, uint64_t seed, uint64_t now_us);

/* Pauses are at most so long, so that a request with little time is sent within it. */
void throttle_bound_pause(struct throttle *throttle, uint64_t most_us);

/* The new rate holds from now on, as if no 429 had come; a pause goes on. */
void throttle_set(struct throttle *throttle, const struct hpkv_throttle *config, uint64_t now_us);

/* 0: one request goes out now. Else the microseconds until one may. */
uint64_t throttle_take(struct throttle *throttle, uint64_t now_us);

/* One more goes out together with that one. It is a debt, which those that come later wait for: the rate stays what it is. */
void throttle_also(struct throttle *throttle);

/* A request that was sent at sent_us was taken by the server, or refused with 429. Those that were under way together when
 * the first of them was refused count as one refusal. throttle_succeeded: true if throttle_take may allow now what it told
 * to wait. */
bool throttle_succeeded(struct throttle *throttle, uint64_t sent_us, uint64_t now_us);
void throttle_refused(struct throttle *throttle, uint64_t sent_us, uint64_t now_us);

/* Requests a second, 0: without limit. */
double throttle_rate(const struct throttle *throttle, uint64_t now_us);

/* What is left of the pause, in microseconds. */
uint64_t throttle_pause_us(const struct throttle *throttle, uint64_t now_us);

#endif
