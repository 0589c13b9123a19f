/* Counters of the server, shown as Prometheus text. The loop's thread only. */
#ifndef HPKVFS_SERVER_METRICS_H
#define HPKVFS_SERVER_METRICS_H

#include <stdint.h>

#include "base/buf.h"

enum {
	METRICS_OPERATIONS = 7, /* 0: not one of the six */
	METRICS_CODES = 12,
};

struct metrics {
	uint64_t requests[METRICS_OPERATIONS][METRICS_CODES];
	uint64_t connections; /* open now */
	uint64_t connections_total;
	uint64_t refused;          /* with a wrong API key or token */
	uint64_t subscriptions;    /* connections that get notifications, now */
	uint64_t notifications;    /* one for each change and subscriber */
	uint64_t slow_subscribers; /* closed, as they did not keep up */
	uint64_t tokens;
	uint64_t received_bytes, sent_bytes;
	uint64_t transactions;
};

/* Counts an answered request; called before the answer is sent. `operation` is that of the protocol, or 0. */
void metrics_count(struct metrics *metrics, unsigned operation, int code);

/* Appends the text. 0 or -ENOMEM. */
CHECKED int metrics_add(const struct metrics *metrics, struct buf *out);

#endif
