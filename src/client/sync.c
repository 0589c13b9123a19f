/* The waiting calls: each starts its asynchronous counterpart on the loop, and waits for its callback there. */
#include <errno.h>
#include <stdlib.h>

#include "client/client.h"
#include "client/iterator.h"
#include "client/page.h"

struct sync {
	struct wait wait;
	int (*begin)(struct sync *sync); /* 0: the callback follows, and ends in sync_end */
	struct hpkv_slice key, other;    /* the value, the end of the range, the increment */
	unsigned limit;
	const struct hpkv_options *options;
	bool cancel;
	struct hpkv_iterator *iterator;
	struct loop_task told; /* ends the wait once the iterator has returned from its callback */
	struct hpkv_loop *loop;
	const struct hpkv_token_config *token_config;

	/* results, of the one kind that the call gives */
	struct hpkv_value *value;
	struct hpkv_page *page;
	struct hpkv_record *record;
	bool has_record;
	char **token;
	int r;
	struct hpkv_error error; /* err 0: no more is known than `r` */
};

/* --- waiting --- */

static const char *reason(int r)
{
	switch (r) {
	case -EDEADLK:
		return "a call that waits was made inside a callback of its loop";
	case -ENOMEM:
		return "out of memory";
	case -ENOBUFS:
		return "too many requests wait to be sent";
	case -ENOTCONN:
		return "there is no connection, and none is being made";
	case -ECANCELED:
		return "the client was freed";
	case -EBUSY:
		return "the iterator is asked for a record already";
	default:
		return "an argument is not allowed";
	}
}

static void sync_end(struct sync *sync, int r, const struct hpkv_error *error)
{
	sync->r = r;
	if (error) {
		sync->r = error->err;
		sync->error = *error;
	}
	wait_done(&sync->wait);
}

static void sync_start(struct wait *wait)
{
	struct sync *sync = lws_container_of(wait, struct sync, wait);
	int r = sync->begin(sync);

	if (r)
		sync_end(sync, r, NULL);
}

static int sync_run(struct hpkv_loop *loop, struct sync *sync, struct hpkv_error *error)
{
	int r;

	sync->wait.start = sync_start;
	r = wait_run(loop, &sync->wait);
	if (r == 0)
		r = sync->r;
	if (r && sync->error.err == 0)
		error_set(&sync->error, r, 0, "%s", reason(r));
	if (r && error)
		*error = sync->error;
	return r;
}

static int sync_client(struct hpkv_client *client, struct sync *sync, struct hpkv_error *error)
{
	sync->wait.client = client;
	return sync_run(client->loop, sync, error);
}

/* --- connections --- */

static void connected(void *arg, const struct hpkv_error *error)
{
	sync_end(arg, 0, error);
}

static int begin_connect(struct sync *sync)
{
	return hpkv_client_connect(sync->wait.client, connected, sync);
}

int hpkv_connect_sync(struct hpkv_client *client, struct hpkv_error *error)
{
	struct sync sync = { .begin = begin_connect };

	return sync_client(client, &sync, error);
}

static void disconnected(void *arg)
{
	sync_end(arg, 0, NULL);
}

static int begin_disconnect(struct sync *sync)
{
	return hpkv_client_disconnect(sync->wait.client, sync->cancel, disconnected, sync);
}

int hpkv_disconnect_sync(struct hpkv_client *client, bool cancel, struct hpkv_error *error)
{
	struct sync sync = { .begin = begin_disconnect, .cancel = cancel };

	return sync_client(client, &sync, error);
}

/* --- requests --- */

static int copy_value(struct hpkv_value *out, struct hpkv_slice value, bool number)
{
	char *data = malloc(value.size + 1);

	if (!data)
		return -ENOMEM;
	if (value.size)
		memcpy(data, value.data, value.size);
	data[value.size] = '\0';
	*out = (struct hpkv_value){ data, value.size, number };
	return 0;
}

static void replied(void *arg, const struct hpkv_reply *reply)
{
	struct sync *sync = arg;
	struct hpkv_error error = { 0 };
	int r = 0;

	if (!reply->error && sync->value)
		r = copy_value(sync->value, reply->value, sync->other.data || reply->number);
	else if (!reply->error && sync->page)
		r = page_copy(reply, sync->page);
	if (r) {
		error_set(&error, r, 0, "%s", reason(r));
		error.unknown_outcome = sync->other.data && sync->value; /* the value that it made is not known */
	}
	sync_end(sync, r, r ? &error : reply->error);
}

static int begin_get(struct sync *sync)
{
	return hpkv_get(sync->wait.client, sync->key, sync->options, replied, sync, NULL);
}

int hpkv_get_sync(struct hpkv_client *client, struct hpkv_slice key, const struct hpkv_options *options,
		  struct hpkv_value *out, struct hpkv_error *error)
{
	struct sync sync = { .begin = begin_get, .key = key, .options = options, .value = out };

	return sync_client(client, &sync, error);
}

static int begin_set(struct sync *sync)
{
	return hpkv_set(sync->wait.client, sync->key, sync->other, sync->options, replied, sync, NULL);
}

int hpkv_set_sync(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice value,
		  const struct hpkv_options *options, struct hpkv_error *error)
{
	struct sync sync = { .begin = begin_set, .key = key, .other = value, .options = options };

	return sync_client(client, &sync, error);
}

static int begin_patch(struct sync *sync)
{
	return hpkv_patch(sync->wait.client, sync->key, sync->other, sync->options, replied, sync, NULL);
}

int hpkv_patch_sync(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice value,
		    const struct hpkv_options *options, struct hpkv_error *error)
{
	struct sync sync = { .begin = begin_patch, .key = key, .other = value, .options = options };

	return sync_client(client, &sync, error);
}

static int begin_delete(struct sync *sync)
{
	return hpkv_delete(sync->wait.client, sync->key, sync->options, replied, sync, NULL);
}

int hpkv_delete_sync(struct hpkv_client *client, struct hpkv_slice key, const struct hpkv_options *options,
		     struct hpkv_error *error)
{
	struct sync sync = { .begin = begin_delete, .key = key, .options = options };

	return sync_client(client, &sync, error);
}

static int begin_range(struct sync *sync)
{
	return hpkv_range(sync->wait.client, sync->key, sync->other, sync->limit, sync->options, replied, sync, NULL);
}

int hpkv_range_sync(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice end_key, unsigned limit,
		    const struct hpkv_options *options, struct hpkv_page *out, struct hpkv_error *error)
{
	struct sync sync = {
		.begin = begin_range, .key = key, .other = end_key, .limit = limit, .options = options, .page = out
	};

	return sync_client(client, &sync, error);
}

static int begin_atomic(struct sync *sync)
{
	return hpkv_atomic(sync->wait.client, sync->key, sync->other, sync->options, replied, sync, NULL);
}

int hpkv_atomic_sync(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice increment,
		     const struct hpkv_options *options, struct hpkv_value *out, struct hpkv_error *error)
{
	struct sync sync = { .begin = begin_atomic, .key = key, .other = increment, .options = options, .value = out };

	return sync_client(client, &sync, error);
}

/* --- iterator --- */

static void record_told(struct loop_task *task)
{
	struct sync *sync = lws_container_of(task, struct sync, told);

	wait_done(&sync->wait);
}

static void record_came(void *arg, const struct hpkv_record *record, const struct hpkv_error *error)
{
	struct sync *sync = arg;

	if (record) {
		*sync->record = *record;
		sync->has_record = true;
	}
	if (error) {
		sync->r = error->err;
		sync->error = *error;
	}
	/* not at once: the waiting thread may free the iterator, which this call is still inside of */
	sync->told.fn = record_told;
	loop_defer(sync->loop->base, &sync->told);
}

static int begin_next(struct sync *sync)
{
	return hpkv_iterator_next(sync->iterator, record_came, sync);
}

int hpkv_iterator_next_sync(struct hpkv_iterator *iterator, struct hpkv_record *out, struct hpkv_error *error)
{
	struct sync sync = { .begin = begin_next, .iterator = iterator, .record = out };
	struct hpkv_loop *loop = iterator_loop(iterator);
	int r = serve_inside(loop) ? -EDEADLK : iterator_take(iterator, out);

	if (r >= 0)
		return r;
	if (r != -EAGAIN)
		return error_set(error, r, 0, "%s", reason(r));
	sync.loop = loop;
	sync.wait.client = iterator_client(iterator);
	r = sync_run(loop, &sync, error);
	return r ? r : sync.has_record;
}

/* --- tokens --- */

static void token_came(void *arg, const char *token, const struct hpkv_error *error)
{
	struct sync *sync = arg;
	char *copy = token ? strdup(token) : NULL;

	if (copy)
		*sync->token = copy;
	sync_end(sync, copy || error ? 0 : -ENOMEM, error);
}

static int begin_token(struct sync *sync)
{
	return hpkv_token_generate(sync->loop, sync->token_config, token_came, sync, &sync->error);
}

int hpkv_token_generate_sync(struct hpkv_loop *loop, const struct hpkv_token_config *config, char **out,
			     struct hpkv_error *error)
{
	struct sync sync = { .begin = begin_token, .loop = loop, .token_config = config, .token = out };

	return sync_run(loop, &sync, error);
}
