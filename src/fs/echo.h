/* What this mount has sent and the subscription has not told of yet.
 *
 * Between the fs and its store: each change that goes through is written down under its key, until both its reply and
 * its announcement, the echo, have come. Meanwhile programs here see their own content, whatever is told of the key; when nothing
 * is written down for it any more, what was told last is so, whoever wrote it. An echo that does not come within ECHO_WAIT_US of its
 * reply shows that the subscription is dead. */
#ifndef HPKVFS_FS_ECHO_H
#define HPKVFS_FS_ECHO_H

#include "base/hash.h"
#include "base/loop.h"
#include "fs/store.h"

#define ECHO_WAIT_US (2 * 1000000ull)

/* What was told of a key. */
struct told {
	bool deleted;
	struct str value;
	int64_t time_ms;
	bool own; /* it is the echo of what was sent here */
};

struct echo_key;

struct echoes {
	struct store store; /* what the fs speaks to */
	struct store *below;
	struct loop *loop;
	bool on; /* there is a subscription */
	struct echo_key *keys;
	uint64_t matched; /* echoes that came */
	struct loop_timer timer;
	bool watching; /* it is set */

	/* What was told last of a key for which nothing is written down any more; the told one is borrowed. */
	void (*settled)(void *arg, struct str key, const struct told *told);
	/* The key is changed again. What was told of it and is not applied yet is older: the caller's, value and all. False: nothing. */
	bool (*recall)(void *arg, struct str key, struct buf *value, struct told *told);
	/* An echo did not come. */
	void (*missing)(void *arg);
	void *arg;
};

/* The callbacks are to be set. */
void echoes_init(struct echoes *echoes, struct store *below, struct loop *loop);
/* From now on, and no longer. What was written down before the end is forgotten. */
void echoes_begin(struct echoes *echoes);
void echoes_end(struct echoes *echoes);

/* True if something is written down for the key: then what was told is kept, and `settled` is called later. Without memory the
 * echo counts as missing. */
bool echoes_hear(struct echoes *echoes, struct str key, const struct told *told);

#endif
