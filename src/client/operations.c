#include "client/client.h"

#include <errno.h>

#include "base/utf8.h"

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
	static const struct hpkv_options defaults = { 0 };
	struct calls *calls = &client->calls;
	struct hpkv_request *request;

	if (!options)
		options = &defaults;
	if (!key_valid(call->key) || options->priority > HPKV_BACKGROUND || options->repeat > HPKV_REPEAT_REFUSED)
		return -EINVAL;
	if (!client->wanted)
		return -ENOTCONN;
	if (calls->table.waiting >= calls->max_queued)
		return -ENOBUFS;
	request = request_new(call, options->before);
	if (!request)
		return -ENOMEM;
	request->client = client;
	request->callback = callback;
	request->arg = arg;
	request->timeout_ms = options->timeout_ms ? options->timeout_ms : calls->timeout_ms;
	request->priority = options->priority;
	request->repeat = options->repeat;
	client->stats.requests[call->op]++;
	calls_queued(client, request);
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

	if (request->place == REQUEST_ENDED)
		return;
	request_end(&client->calls.table, request, -ECANCELED);
	client_soon(client);
}
