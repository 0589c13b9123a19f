/* The part of a client that is about requests: calls.c (their way from queue to answer), repeat.c (what is sent again),
 * operations.c (what the user calls), stats.c. */
#ifndef HPKVFS_CLIENT_CALLS_H
#define HPKVFS_CLIENT_CALLS_H

#include "base/loop.h"
#include "client/codec.h"
#include "client/request.h"
#include "client/throttle.h"

struct calls {
	struct request_table table;
	struct throttle throttle;
	unsigned timeout_ms, max_in_flight, max_queued;
	struct loop_timer deadline; /* at the first deadline or earlier */
	uint64_t deadline_us;       /* when it fires; 0: not set */
	struct loop_timer pace;     /* when the throttle lets the next one go */
	bool paced;                 /* it is set */
	uint64_t along;             /* `order` of the SET that goes out with the GET before it; 0: none */
	bool refusing;              /* a 429 came, and no other answer since */
	struct buf out;             /* the frame being sent */
	struct message message;
	struct hpkv_error lost; /* why requests of `ended` end */
};

/* --- for client.c --- */

/* 0 or -EINVAL (the text says what is wrong). */
CHECKED int calls_init(struct hpkv_client *client, const struct hpkv_config *config, struct hpkv_error *error);
/* Stops the timers; no frames are asked for any more. */
void calls_stop(struct hpkv_client *client);
/* With the client, after all requests have ended. */
void calls_free(struct hpkv_client *client);

/* Of these only calls_message and calls_deliver_ended call the user. */
void calls_message(struct hpkv_client *client, struct str raw);
/* The next to send, or NULL: nothing waits, or what waits must wait longer. `full`: only what may not be parted from the frame
 * before. */
struct buf *calls_next_frame(struct hpkv_client *client, bool full);
/* The connection is open: what waits may go out. */
void calls_connected(struct hpkv_client *client);
/* The connection ended without our asking. What was in flight is repeated later, or ends, by the rule of enum
 * hpkv_repeat; what waited goes on waiting if there will be an attempt to reconnect, and its time runs now. Without one
 * all ends with the error. */
void calls_lost(struct hpkv_client *client, const struct hpkv_error *error, bool reconnecting);
/* The same for the connection that the present one has taken over from; what is repeated goes to the present one. */
void calls_lost_former(struct hpkv_client *client, const struct hpkv_error *error);
/* Those for the next connection, which will not come after all, end with -ECANCELED. */
void calls_end_held(struct hpkv_client *client);
/* Moves all requests to `ended`. */
void calls_end_all(struct hpkv_client *client, const struct hpkv_error *error);
/* Calls back those of `ended`. */
void calls_deliver_ended(struct hpkv_client *client);
/* Nothing is under way on the present connection, or waits for it. */
bool calls_idle(const struct hpkv_client *client);

/* --- among each other --- */

/* A request was queued: it is sent when it may be, and ends in time. */
void calls_queued(struct hpkv_client *client, struct hpkv_request *request);
/* The rate has changed. */
void calls_pace_anew(struct hpkv_client *client);
/* Calls back a request that was taken out of the table, and frees it. */
void calls_finish(struct hpkv_request *request, const struct hpkv_reply *reply);
void calls_finish_error(struct hpkv_request *request, struct hpkv_error *error);

/* --- repeat.c --- */

/* Anything but a get or range. */
bool repeat_changes(const struct hpkv_request *request);

/* The last sending did nothing. True: one before it, whose connection was lost, may have: it was repeated without a look. */
bool repeat_doubt_left(const struct hpkv_request *request);

/* A sent request whose connection was lost and will be renewed. True: it waits to be sent again (request_unblock is
 * still to be called); false: it must end. */
bool repeat_after_loss(struct request_table *table, struct hpkv_request *request);

/* A sent request was refused with 429. Likewise. */
bool repeat_after_refusal(struct calls *calls, struct hpkv_request *request);

/* The answer to the GET that comes before a repetition. `error` NULL: the key has this value. */
enum repeat_verdict {
	REPEAT_DONE,    /* what the request wanted stands */
	REPEAT_AGAIN,   /* it did nothing: it is sent again */
	REPEAT_UNKNOWN, /* nobody can tell */
};
enum repeat_verdict repeat_judge(const struct hpkv_request *request, const struct hpkv_reply *found);

#endif
