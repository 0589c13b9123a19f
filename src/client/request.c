#include "client/request.h"

#include <errno.h>

#include "base/clock.h"
#include "base/list.h"

static int deadline_compare(const struct hpkv_request *a, const struct hpkv_request *b)
{
	if (a->deadline_us != b->deadline_us)
		return a->deadline_us < b->deadline_us ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE_STATIC(request_deadlines, hpkv_request, by_deadline, deadline_compare)

struct hpkv_request *request_find(struct request_table *table, uint32_t id)
{
	struct hpkv_request *request;

	HASH_FIND(hh, table->by_id, &id, sizeof(id), request);
	return request;
}

/* Ids go round; one that is still under way is passed by. There are never 2^31 of them. */
static uint32_t next_id(struct request_table *table)
{
	do {
		table->last_id = table->last_id >= REQUEST_ID_MAX ? 1 : table->last_id + 1;
	} while (request_find(table, table->last_id));
	return table->last_id;
}

static int add(struct request_table *table, struct hpkv_request *request)
{
	HASH_ADD(hh, table->by_id, id, sizeof(request->id), request);
	if (!request->hh.tbl)
		return -ENOMEM;
	RB_INSERT(request_deadlines, &table->by_deadline, request);
	DL_APPEND(table->queue, request);
	request->queued = true;
	return 0;
}

int request_new(struct request_table *table, const struct call *call, uint64_t timeout_us, struct hpkv_request **out)
{
	struct hpkv_request *request = calloc(1, sizeof(*request));
	int r;

	if (!request)
		return -ENOMEM;
	request->op = call->op;
	request->timeout_us = timeout_us;
	request->deadline_us = clock_now_us() + timeout_us;
	request->id = next_id(table);
	r = buf_reserve(&request->frame, LWS_PRE + call->key.len + call->value.len + call->end_key.len + 128);
	if (r == 0)
		r = buf_resize(&request->frame, LWS_PRE);
	if (r == 0)
		r = codec_encode(&request->frame, request->id, call);
	if (r == 0)
		r = add(table, request);
	if (r) {
		request_free(request);
		return r;
	}
	*out = request;
	return 0;
}

struct hpkv_request *request_next_to_send(struct request_table *table)
{
	struct hpkv_request *request = table->queue;

	if (!request)
		return NULL;
	DL_DELETE(table->queue, request);
	request->queued = false;
	RB_REMOVE(request_deadlines, &table->by_deadline, request);
	request->deadline_us = clock_now_us() + request->timeout_us;
	RB_INSERT(request_deadlines, &table->by_deadline, request);
	return request;
}

struct hpkv_request *request_first_deadline(struct request_table *table)
{
	return RB_MIN(request_deadlines, &table->by_deadline);
}

struct hpkv_request *request_any(struct request_table *table)
{
	return table->by_id;
}

void request_remove(struct request_table *table, struct hpkv_request *request)
{
	HASH_DEL(table->by_id, request);
	RB_REMOVE(request_deadlines, &table->by_deadline, request);
	if (request->queued)
		DL_DELETE(table->queue, request);
	request->queued = false;
}

void request_end(struct request_table *table, struct hpkv_request *request, int err)
{
	request_remove(table, request);
	request->ended = err;
	DL_APPEND(table->ended, request);
}

void request_free(struct hpkv_request *request)
{
	if (!request)
		return;
	buf_free(&request->frame);
	free(request);
}
