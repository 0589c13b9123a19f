/* When to try again after a connection was lost. */
#ifndef HPKVFS_CLIENT_RETRY_H
#define HPKVFS_CLIENT_RETRY_H

#include <stdbool.h>

#include "base/loop.h"

struct retry {
	unsigned max_attempts, initial_delay_ms, max_delay_ms, jitter_ms; /* as in hpkv_config */
	/* Made or announced since a connection last proved to be one: it carried a message, or stood for max_delay_ms. A
	 * server that takes connections only to drop them is none. */
	unsigned attempts;
	unsigned delay_ms; /* before the last of them */
	/* The caller's. */
	bool waiting;            /* the last of them is still to be made */
	struct loop_timer timer; /* makes it */
};

/* Counts one more attempt and sets its delay; `random` is any number. False: the attempts are used up. */
CHECKED bool retry_next(struct retry *retry, uint64_t random);

#endif
