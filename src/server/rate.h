/* A limit on requests a second: a bucket that holds one second's worth. */
#ifndef HPKVFS_SERVER_RATE_H
#define HPKVFS_SERVER_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct rate {
	uint64_t per_second; /* 0: no limit */
	uint64_t available;  /* in millionths of a request */
	uint64_t filled_us;  /* when it was last filled up */
};

void rate_init(struct rate *rate, unsigned per_second, uint64_t now_us);

/* True: go ahead; false: above the limit. */
bool rate_take(struct rate *rate, uint64_t now_us);

#endif
