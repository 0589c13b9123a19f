/* The requests under way: found by message id, ended by deadline, sent in order. Every operation is O(log n) or
 * better. */
#ifndef HPKVFS_CLIENT_REQUEST_H
#define HPKVFS_CLIENT_REQUEST_H

#include <libwebsockets.h> /* LWS_PRE */
#include <stdint.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/tree.h"
#include "client/codec.h"
#include "client/hpkv.h"

#define REQUEST_ID_MAX INT32_MAX

struct hpkv_request {
	struct hpkv_client *client;
	uint32_t id;
	enum op op;
	bool queued; /* not sent yet */
	int ended;   /* not 0: the errno with which it waits for its callback in `ended` */
	hpkv_callback *callback;
	void *arg;
	uint64_t timeout_us;
	uint64_t deadline_us; /* CLOCK_MONOTONIC */
	struct buf frame;     /* LWS_PRE bytes of room, then the JSON; empty once sent */
	UT_hash_handle hh;
	RB_ENTRY(hpkv_request) by_deadline;
	struct hpkv_request *prev, *next; /* `queue` or `ended` */
};

RB_HEAD(request_deadlines, hpkv_request);

struct request_table {
	struct hpkv_request *by_id;
	struct request_deadlines by_deadline;
	struct hpkv_request *queue;
	struct hpkv_request *ended;
	uint32_t last_id;
};

/* {0} is an empty table too. */

/* A request in the table and at the end of the queue, its JSON encoded, its deadline from now on. 0 or -ENOMEM. */
CHECKED int request_new(struct request_table *table, const struct call *call, uint64_t timeout_us,
			struct hpkv_request **out);

/* The request of this id that was sent or waits, or NULL. */
struct hpkv_request *request_find(struct request_table *table, uint32_t id);

/* The first of the queue, or NULL; it leaves the queue and its deadline begins anew. */
struct hpkv_request *request_next_to_send(struct request_table *table);

/* The one with the earliest deadline, or NULL. */
struct hpkv_request *request_first_deadline(struct request_table *table);

/* Any one, or NULL; for ending them all. */
struct hpkv_request *request_any(struct request_table *table);

/* Out of the table (and of the queue). */
void request_remove(struct request_table *table, struct hpkv_request *request);

/* Takes a request out and appends it to `ended`. */
void request_end(struct request_table *table, struct hpkv_request *request, int err);

/* The request must be in no table. */
void request_free(struct hpkv_request *request);

#endif
