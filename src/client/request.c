#include "client/request.h"

#include <errno.h>

#include "base/list.h"

#define SLOTS_LEAST 64u

static int compare_numbers(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int compare_deadlines(const struct hpkv_request *a, const struct hpkv_request *b)
{
	int r = compare_numbers(a->deadline_us, b->deadline_us);

	return r ? r : compare_numbers(a->order, b->order);
}

static int compare_order(const struct hpkv_request *a, const struct hpkv_request *b)
{
	return compare_numbers(a->order, b->order);
}

static int compare_keys(const struct hpkv_request *a, const struct hpkv_request *b)
{
	int r = str_compare(a->call.key, b->call.key);

	return r ? r : compare_numbers(a->order, b->order);
}

RB_GENERATE_STATIC(request_deadlines, hpkv_request, by_deadline, compare_deadlines)
RB_GENERATE_STATIC(request_order, hpkv_request, by_order, compare_order)
RB_GENERATE_STATIC(request_keys, hpkv_request, by_key, compare_keys)

/* --- making --- */

static struct str append(char **to, struct str from)
{
	char *start = *to;

	if (from.len)
		memcpy(start, from.p, from.len);
	*to += from.len;
	return str_of(start, from.len);
}

struct hpkv_request *request_new(const struct call *call, const struct hpkv_slice *before)
{
	size_t before_len = before && before->data ? before->size : 0;
	struct hpkv_request *request =
		malloc(sizeof(*request) + call->key.len + call->value.len + call->end_key.len + before_len);
	char *bytes;

	if (!request)
		return NULL;
	*request = (struct hpkv_request){ .call = *call, .before_known = before != NULL };
	bytes = request->bytes;
	request->call.key = append(&bytes, call->key);
	request->call.value = append(&bytes, call->value);
	request->call.end_key = append(&bytes, call->end_key);
	if (before && before->data)
		request->before = append(&bytes, str_of(before->data, before_len));
	return request;
}

void request_free(struct hpkv_request *request)
{
	free(request);
}

void request_table_free(struct request_table *table)
{
	free(table->slots);
	table->slots = NULL;
	table->slot_count = 0;
}

/* --- the queue --- */

static bool same_key(const struct hpkv_request *a, const struct hpkv_request *b)
{
	return a && b && str_equal(a->call.key, b->call.key);
}

void request_queue(struct request_table *table, struct hpkv_request *request, bool held)
{
	request->order = ++table->last_order;
	request->place = held ? REQUEST_HELD : REQUEST_FRESH;
	if (held)
		DL_APPEND(table->held, request);
	else
		DL_APPEND(table->fresh[request->priority], request);
	table->held_count += held;
	table->waiting++;
	table->count++;
}

void request_release(struct request_table *table)
{
	struct hpkv_request *request;

	while ((request = table->held)) {
		DL_DELETE(table->held, request);
		request->place = REQUEST_FRESH;
		DL_APPEND(table->fresh[request->priority], request);
	}
	table->held_count = 0;
}

struct hpkv_request *request_next(struct request_table *table)
{
	for (int i = 0; i < REQUEST_PRIORITIES; i++) {
		struct hpkv_request *request = RB_MIN(request_order, &table->again[i]);

		if (!request && table->recovering_count[i] == 0)
			request = table->fresh[i];
		if (request)
			return request;
	}
	return NULL;
}

struct hpkv_request *request_along(const struct hpkv_request *get)
{
	struct hpkv_request *next = get->place == REQUEST_FRESH && get->call.op == OP_GET ? get->next : NULL;

	return same_key(get, next) && next->call.op == OP_SET ? next : NULL;
}

/* --- ids --- */

static struct hpkv_request **slot_of(struct request_table *table, uint32_t id)
{
	return &table->slots[id & (table->slot_count - 1)];
}

/* Ids that were apart in the old slots are so in more of them. */
static int grow_slots(struct request_table *table)
{
	struct request_table grown = { .slot_count = table->slot_count ? 2 * table->slot_count : SLOTS_LEAST };

	grown.slots = calloc(grown.slot_count, sizeof(*grown.slots));
	if (!grown.slots)
		return -ENOMEM;
	for (unsigned i = 0; i < table->slot_count; i++)
		if (table->slots[i])
			*slot_of(&grown, table->slots[i]->id) = table->slots[i];
	free(table->slots);
	table->slots = grown.slots;
	table->slot_count = grown.slot_count;
	return 0;
}

/* Ids go round; one whose slot is taken is passed by. */
static uint32_t next_id(struct request_table *table)
{
	do {
		table->last_id = table->last_id >= REQUEST_ID_MAX ? 1 : table->last_id + 1;
	} while (*slot_of(table, table->last_id));
	return table->last_id;
}

struct hpkv_request *request_find(struct request_table *table, uint32_t id)
{
	struct hpkv_request *request = table->slot_count ? *slot_of(table, id) : NULL;

	return request && request->id == id ? request : NULL;
}

/* --- from place to place --- */

static void leave(struct request_table *table, struct hpkv_request *request)
{
	switch (request->place) {
	case REQUEST_FRESH:
		DL_DELETE(table->fresh[request->priority], request);
		break;
	case REQUEST_HELD:
		DL_DELETE(table->held, request);
		table->held_count--;
		break;
	case REQUEST_AGAIN:
		RB_REMOVE(request_order, &table->again[request->priority], request);
		break;
	case REQUEST_SENT:
		*slot_of(table, request->id) = NULL;
		table->in_flight--;
		table->former_count -= request->former;
		request->former = false;
		return;
	case REQUEST_BLOCKED:
		break;
	case REQUEST_ENDED:
		return;
	}
	table->waiting--;
}

int request_sent(struct request_table *table, struct hpkv_request *request, uint64_t now_us)
{
	if (table->in_flight >= table->slot_count / 2) {
		int r = grow_slots(table);

		if (r)
			return r;
	}
	leave(table, request);
	request->place = REQUEST_SENT;
	request->id = next_id(table);
	request->sent_us = now_us;
	*slot_of(table, request->id) = request;
	table->in_flight++;
	return 0;
}

void request_turn(struct request_table *table)
{
	for (unsigned i = 0; i < table->slot_count; i++)
		if (table->slots[i])
			table->slots[i]->former = true;
	table->former_count = table->in_flight;
}

void request_again(struct request_table *table, struct hpkv_request *request)
{
	leave(table, request);
	request->place = REQUEST_AGAIN;
	RB_INSERT(request_order, &table->again[request->priority], request);
	table->waiting++;
}

/* --- changes whose connection was lost --- */

void request_recover(struct request_table *table, struct hpkv_request *request)
{
	leave(table, request);
	request->place = REQUEST_BLOCKED;
	table->waiting++;
	if (request->recovering)
		return;
	request->recovering = true;
	table->recovering_count[request->priority]++;
	RB_INSERT(request_keys, &table->recovering, request);
}

void request_unblock(struct request_table *table)
{
	struct hpkv_request *request, *former = NULL;

	RB_FOREACH(request, request_keys, &table->recovering) {
		/* another may be under way already, on a connection that was not lost */
		if (request->place != REQUEST_SENT)
			request->look = request->repeat == HPKV_REPEAT_SAFE;
		if (request->place == REQUEST_BLOCKED && !same_key(former, request))
			request_again(table, request);
		former = request;
	}
}

static void recovered(struct request_table *table, struct hpkv_request *request)
{
	struct hpkv_request *former = RB_PREV(request_keys, &table->recovering, request);
	struct hpkv_request *next = RB_NEXT(request_keys, &table->recovering, request);

	request->recovering = false;
	table->recovering_count[request->priority]--;
	RB_REMOVE(request_keys, &table->recovering, request);
	if (same_key(next, request) && next->place == REQUEST_BLOCKED && !same_key(former, request))
		request_again(table, next);
}

/* --- deadlines and ends --- */

void request_set_deadline(struct request_table *table, struct hpkv_request *request, uint64_t deadline_us)
{
	if (request->deadline_us)
		RB_REMOVE(request_deadlines, &table->by_deadline, request);
	request->deadline_us = deadline_us;
	if (request->deadline_us)
		RB_INSERT(request_deadlines, &table->by_deadline, request);
}

struct hpkv_request *request_first_deadline(struct request_table *table)
{
	return RB_MIN(request_deadlines, &table->by_deadline);
}

void request_forget(struct request_table *table, struct hpkv_request *request)
{
	leave(table, request);
	request->place = REQUEST_ENDED;
	if (request->recovering)
		recovered(table, request);
	request_set_deadline(table, request, 0);
	table->count--;
}

void request_end(struct request_table *table, struct hpkv_request *request, int err)
{
	request_forget(table, request);
	request->ended = err;
	DL_APPEND(table->ended, request);
	table->count++;
}

/* One that waits and is not blocked, or NULL: then none is blocked either. */
static struct hpkv_request *any_waiting(struct request_table *table)
{
	for (int i = 0; i < REQUEST_PRIORITIES; i++) {
		struct hpkv_request *request = RB_MIN(request_order, &table->again[i]);

		if (!request)
			request = table->fresh[i];
		if (request)
			return request;
	}
	return table->held;
}

void request_end_all(struct request_table *table, int err)
{
	struct hpkv_request *request;

	for (unsigned i = 0; i < table->slot_count; i++)
		if (table->slots[i])
			request_end(table, table->slots[i], err);
	while ((request = any_waiting(table)))
		request_end(table, request, err);
}

struct hpkv_request *request_take_ended(struct request_table *table)
{
	struct hpkv_request *request = table->ended;

	if (!request)
		return NULL;
	DL_DELETE(table->ended, request);
	table->count--;
	return request;
}
