/* The requests under way: made, sent in order, found by message id, ended by deadline. Every operation is O(log n) or
 * better, and only making one allocates.
 *
 * A request gets a new message id whenever it is sent, so that a late reply to an earlier sending belongs to nobody. It
 * keeps its strings until its end, and its JSON is made when it is sent: most are sent once, some twice.
 *
 * Order: interactive requests go before background ones, and among those of one priority the oldest. What is sent again
 * is older than all that was never sent. A change that is being recovered after a lost connection (repeat.h)
 * holds back later ones: of the same key among those that are recovered too, and all of its priority that were never
 * sent. */
#ifndef HPKVFS_CLIENT_REQUEST_H
#define HPKVFS_CLIENT_REQUEST_H

#include <stdint.h>

#include "base/tree.h"
#include "client/codec.h"
#include "client/hpkv.h"

#define REQUEST_ID_MAX INT32_MAX
#define REQUEST_PRIORITIES 2

enum request_place {
	REQUEST_FRESH,   /* in `fresh`: never sent */
	REQUEST_HELD,    /* in `held`: for the connection after the one that is being closed */
	REQUEST_SENT,    /* in `slots` */
	REQUEST_AGAIN,   /* in `again`: to be sent again */
	REQUEST_BLOCKED, /* in `recovering` only: an earlier change of this key goes first */
	REQUEST_ENDED,   /* in `ended`, or in no table any more */
};

struct hpkv_request {
	struct hpkv_client *client;
	hpkv_callback *callback;
	void *arg;

	struct call call;  /* its strings lie in `bytes` */
	struct str before; /* p NULL: it was absent */
	bool before_known;
	enum hpkv_priority priority;
	enum hpkv_repeat repeat;
	unsigned timeout_ms;

	enum request_place place;
	bool recovering; /* in the tree `recovering` */
	bool lost;       /* its connection was lost after it was sent */
	bool look;       /* what is sent next, or was sent last, is a GET of its key */
	bool refused;    /* the last answer was a 429 */
	bool doubt;      /* a change that may have taken effect */
	bool former;     /* sent, on the connection before the present one */
	int ended;       /* the errno with which it waits for its callback in `ended` */

	uint32_t id; /* of the last sending; 0: never sent */
	uint64_t order;
	uint64_t sent_us;     /* the last sending; CLOCK_MONOTONIC, as all times */
	uint64_t deadline_us; /* 0: its time does not run */
	RB_ENTRY(hpkv_request) by_deadline, by_order, by_key;
	struct hpkv_request *prev, *next; /* of `fresh`, `held` or `ended` */
	char bytes[];
};

RB_HEAD(request_deadlines, hpkv_request);
RB_HEAD(request_order, hpkv_request);
RB_HEAD(request_keys, hpkv_request);

/* {0} is an empty table. */
struct request_table {
	struct hpkv_request *fresh[REQUEST_PRIORITIES];
	struct request_order again[REQUEST_PRIORITIES];
	unsigned recovering_count[REQUEST_PRIORITIES];
	struct request_keys recovering; /* by key, then by age */
	struct hpkv_request *held, *ended;
	struct request_deadlines by_deadline;
	struct hpkv_request **slots; /* by the low bits of the id; at most half of them are taken */
	unsigned slot_count;         /* a power of two, or 0 */
	unsigned in_flight;
	unsigned former_count; /* of those, on the connection before the present one */
	unsigned waiting;      /* fresh, held, again and blocked */
	unsigned held_count;   /* of those, the held */
	unsigned count;        /* all that exist and were not taken with request_take_ended or request_forget */
	uint32_t last_id;
	uint64_t last_order;
};

/* Frees the memory of a table that has no requests. */
void request_table_free(struct request_table *table);

/* A request with copies of the strings; the rest is the caller's to fill in before it is queued. NULL: no memory. */
struct hpkv_request *request_new(const struct call *call, const struct hpkv_slice *before);

/* Puts a new request at the end of the queue of its priority, or of `held`. */
void request_queue(struct request_table *table, struct hpkv_request *request, bool held);

/* What was held is queued. */
void request_release(struct request_table *table);

/* The one to be sent next, or NULL. */
struct hpkv_request *request_next(struct request_table *table);

/* The SET that is to go out together with this GET: of the same key, and next in the queue. NULL: there is none. */
struct hpkv_request *request_along(const struct hpkv_request *get);

/* Takes it out of the queue and gives it a new id. 0, or -ENOMEM: then it is where it was. */
CHECKED int request_sent(struct request_table *table, struct hpkv_request *request, uint64_t now_us);

/* What is in flight stays so, on a connection that another has taken over from. */
void request_turn(struct request_table *table);

/* The request that was last sent with this id and was not answered, or NULL. */
struct hpkv_request *request_find(struct request_table *table, uint32_t id);

/* A request that was sent waits to be sent again. */
void request_again(struct request_table *table, struct hpkv_request *request);

/* The same for a change whose connection was lost, blocked at first. When all are there, request_unblock lets the oldest of
 * each key go; the next follow as those end. All that may only be repeated if nothing has happened meanwhile, those that
 * had looked before included, look first; but what is under way stays as it is. */
void request_recover(struct request_table *table, struct hpkv_request *request);
void request_unblock(struct request_table *table);

/* Its time runs, or (0) does not. */
void request_set_deadline(struct request_table *table, struct hpkv_request *request, uint64_t deadline_us);

/* The one with the earliest deadline, or NULL. */
struct hpkv_request *request_first_deadline(struct request_table *table);

/* Takes a request out of wherever it is; its place is REQUEST_ENDED then, and it is the caller's. */
void request_forget(struct request_table *table, struct hpkv_request *request);

/* The same, and appends it to `ended`. */
void request_end(struct request_table *table, struct hpkv_request *request, int err);

/* Ends all that are under way. */
void request_end_all(struct request_table *table, int err);

/* The first of `ended`, which is the caller's then, or NULL. */
struct hpkv_request *request_take_ended(struct request_table *table);

/* The request must be in no table. NULL is allowed. */
void request_free(struct hpkv_request *request);

#endif
