#include "client/client.h"

#include <errno.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/utf8.h"

/* --- endings --- */

static void finish(struct hpkv_request *request, const struct hpkv_reply *reply)
{
	struct hpkv_client *client = request->client;

	request->callback(request->arg, reply);
	request_free(request);
	if (calls_idle(client))
		client_calls_idle(client);
}

static void finish_error(struct hpkv_request *request, const struct hpkv_error *error)
{
	const struct hpkv_reply reply = { .error = error };

	finish(request, &reply);
}

void calls_end_all(struct hpkv_client *client, const struct hpkv_error *error)
{
	struct hpkv_request *request;

	while ((request = request_any(&client->requests)))
		request_end(&client->requests, request, error->err);
	client->lost = *error;
}

void calls_connected(struct hpkv_client *client)
{
	connection_kick(client->connection);
}

void calls_lost(struct hpkv_client *client, const struct hpkv_error *error, bool reconnecting)
{
	(void)reconnecting;
	calls_end_all(client, error);
}

bool calls_idle(const struct hpkv_client *client)
{
	return !client->requests.by_id;
}

/* Each gets its own reason; the text that the connection's end left goes with all that ended for it. A client
 * that is being freed ends everything with -ECANCELED. */
void calls_deliver_ended(struct hpkv_client *client)
{
	struct hpkv_request *request;

	while ((request = client->requests.ended)) {
		struct hpkv_error error;

		if (client->freed || request->ended == -ECANCELED)
			error_set(&error, -ECANCELED, 0, "the request was cancelled");
		else
			error = client->lost;
		DL_DELETE(client->requests.ended, request);
		finish_error(request, &error);
	}
}

/* --- deadlines --- */

static void deadline_fired(struct loop_timer *timer);

/* One timer serves all requests. It is left alone when the first of them is answered: it fires once too often
 * rather than being moved for every reply. */
static void deadline_arm(struct hpkv_client *client)
{
	struct hpkv_request *first = request_first_deadline(&client->requests);
	uint64_t now;

	if (!first || (client->deadline_us && client->deadline_us <= first->deadline_us))
		return;
	now = clock_now_us();
	client->deadline_us = first->deadline_us;
	loop_timer_set(client->loop->base, &client->deadline, first->deadline_us > now ? first->deadline_us - now : 0,
		       deadline_fired);
}

static void deadline_fired(struct loop_timer *timer)
{
	struct hpkv_client *client = lws_container_of(timer, struct hpkv_client, deadline);
	struct hpkv_request *first;

	client->deadline_us = 0;
	client_enter(client);
	while ((first = request_first_deadline(&client->requests)) && first->deadline_us <= clock_now_us()) {
		struct hpkv_error error;

		error_set(&error, -ETIMEDOUT, 0, "the server did not answer within %llu ms",
			  (unsigned long long)(first->timeout_us / CLOCK_US_PER_MS));
		request_remove(&client->requests, first);
		finish_error(first, &error);
	}
	if (!client->freed)
		deadline_arm(client);
	client_leave(client);
}

/* --- receiving and sending --- */

static void reply_arrived(struct hpkv_client *client, int decoded)
{
	struct hpkv_request *request = request_find(&client->requests, client->message.id);
	struct hpkv_reply reply;
	struct hpkv_error error;

	if (!request || request->queued)
		return; /* late, unknown, or an id that was not sent yet */
	request_remove(&client->requests, request);
	if (decoded == 0) {
		message_reply(&client->message, request->op, &reply, &error);
		finish(request, &reply);
		return;
	}
	error_set(&error, decoded, 0, decoded == -ENOMEM ? "out of memory" : "the server's reply makes no sense");
	finish_error(request, &error);
}

void calls_message(struct hpkv_client *client, struct str raw)
{
	int r = message_decode(&client->message, raw);

	if (!client_serving(client))
		return;
	if (r == 0 && client->message.kind == MESSAGE_NOTIFICATION) {
		client_notify(client, &client->message.notification);
		return;
	}
	reply_arrived(client, r);
}

struct buf *calls_next_frame(struct hpkv_client *client)
{
	struct hpkv_request *request = request_next_to_send(&client->requests);

	buf_free(&client->out);
	if (!request)
		return NULL;
	client->out = buf_take(&request->frame);
	return &client->out;
}

/* --- public calls --- */

static struct str str_slice(struct hpkv_slice slice)
{
	return str_of(slice.size ? slice.data : "", slice.size);
}

static bool key_valid(struct str key)
{
	return key.len > 0 && utf8_valid(key);
}

static int start(struct hpkv_client *client, const struct call *call, const struct hpkv_options *options,
		 hpkv_callback *callback, void *arg, struct hpkv_request **out)
{
	unsigned timeout_ms = options && options->timeout_ms ? options->timeout_ms : client->operation_timeout_ms;
	struct hpkv_request *request;
	int r;

	if (!key_valid(call->key))
		return -EINVAL;
	if (!client->wanted)
		return -ENOTCONN;
	r = request_new(&client->requests, call, timeout_ms * (uint64_t)CLOCK_US_PER_MS, &request);
	if (r)
		return r;
	request->client = client;
	request->callback = callback;
	request->arg = arg;
	deadline_arm(client);
	if (client_serving(client))
		connection_kick(client->connection);
	if (out)
		*out = request;
	return 0;
}

int hpkv_get(struct hpkv_client *client, struct hpkv_slice key, const struct hpkv_options *options,
	     hpkv_callback *callback, void *arg, struct hpkv_request **out)
{
	const struct call call = { .op = OP_GET, .key = str_slice(key) };

	return start(client, &call, options, callback, arg, out);
}

static int start_write(struct hpkv_client *client, enum op op, struct hpkv_slice key, struct hpkv_slice value,
		       const struct hpkv_options *options, hpkv_callback *callback, void *arg,
		       struct hpkv_request **out)
{
	const struct call call = { .op = op, .key = str_slice(key), .value = str_slice(value) };

	if (!key_valid(call.value))
		return -EINVAL;
	return start(client, &call, options, callback, arg, out);
}

int hpkv_set(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice value,
	     const struct hpkv_options *options, hpkv_callback *callback, void *arg, struct hpkv_request **out)
{
	return start_write(client, OP_SET, key, value, options, callback, arg, out);
}

int hpkv_patch(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice value,
	       const struct hpkv_options *options, hpkv_callback *callback, void *arg, struct hpkv_request **out)
{
	return start_write(client, OP_PATCH, key, value, options, callback, arg, out);
}

int hpkv_delete(struct hpkv_client *client, struct hpkv_slice key, const struct hpkv_options *options,
		hpkv_callback *callback, void *arg, struct hpkv_request **out)
{
	const struct call call = { .op = OP_DELETE, .key = str_slice(key) };

	return start(client, &call, options, callback, arg, out);
}

int hpkv_range(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice end_key, unsigned limit,
	       const struct hpkv_options *options, hpkv_callback *callback, void *arg, struct hpkv_request **out)
{
	const struct call call = {
		.op = OP_RANGE, .key = str_slice(key), .end_key = str_slice(end_key), .limit = limit
	};

	if (!key_valid(call.end_key))
		return -EINVAL;
	return start(client, &call, options, callback, arg, out);
}

int hpkv_atomic(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice increment,
		const struct hpkv_options *options, hpkv_callback *callback, void *arg, struct hpkv_request **out)
{
	const struct call call = { .op = OP_ATOMIC, .key = str_slice(key), .value = str_slice(increment) };

	if (!scan_number_valid(call.value))
		return -EINVAL;
	return start(client, &call, options, callback, arg, out);
}

void hpkv_request_cancel(struct hpkv_request *request)
{
	struct hpkv_client *client = request->client;

	if (request->ended)
		return;
	request_end(&client->requests, request, -ECANCELED);
	client_soon(client);
}
