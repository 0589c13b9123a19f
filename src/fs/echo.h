/* What is told of keys that are being changed here.
 *
 * Between the fs and its store: each change that goes through is written down under its key, until both its reply and
 * its announcement, the echo, have come. Meanwhile programs here see their own content, whatever is told of the key; when nothing
 * is written down for it any more, what was told last is so, whoever wrote it. What cannot be applied at once for other reasons
 * waits likewise: of each key the last. An echo that does not come within ECHO_WAIT_US of its reply shows that the subscription is
 * dead. */
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
	size_t ready; /* keys for which nothing is written down and that wait to be applied */
	size_t bytes; /* of values that are kept */
	bool full;    /* more was told than is kept */
	struct loop_timer timer;
	bool watching;         /* it is set */
	struct loop_task task; /* applies what is ready */

	/* What is told, applied. It may not send anything. -EAGAIN: not now, then it is kept. -ENOMEM. */
	int (*apply)(void *arg, struct str key, const struct told *told);
	/* What is told is not complete: the subscription is of no use. Never inside of a call. */
	void (*lost)(void *arg, const char *why);
	void *arg;
};

/* The callbacks are to be set. */
void echoes_init(struct echoes *echoes, struct store *below, struct loop *loop);
void echoes_free(struct echoes *echoes);
/* From now on, and no longer. What was written down or kept before the end is forgotten. */
void echoes_begin(struct echoes *echoes);
void echoes_end(struct echoes *echoes);

void echoes_hear(struct echoes *echoes, struct str key, const struct told *told);
/* Something that was in the way of applying is no more: tried again, soon. */
void echoes_go_on(struct echoes *echoes);
/* Calls `lost`, soon. */
void echoes_overflow(struct echoes *echoes);

#endif
