#include "mount/store_hpkv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "client/internal.h"
#include "mount/test_hooks.h"

#define RECONNECT_FIRST_MS 100u
#define RECONNECT_MOST_MS 5000u

/* The same failure is logged once in this time. */
#define LOG_QUIET_US (5u * CLOCK_US_PER_S)
#define LOG_TEXTS 8
#define LOG_KEY_BYTES 80u

/* A server packs many values into one page of a range. */
#define MESSAGE_BYTES (8u * 1024 * 1024)

/* A request with the library, or in the list `failed`. */
struct pending {
	struct pending *prev, *next;
	struct store_hpkv *store;
	enum store_op op;
	store_done *done;
	void *arg;
	int err;        /* in `failed` */
	struct str key; /* its beginning, for the log; it lies behind this struct */
};

struct logged {
	char text[sizeof(((struct hpkv_error *)0)->text)];
	uint64_t at_us;
};

struct store_hpkv {
	struct store store;
	struct loop *loop;
	struct hpkv_loop *client_loop;
	struct hpkv_client *client;
	struct pending *failed; /* to be told so, from `fail_task` */
	struct loop_task fail_task;

	bool keep_up;  /* a lost connection is renewed */
	bool was_lost; /* and that was logged */
	bool gave_up;
	int away;                /* why nothing is taken while the library tries no more */
	unsigned retry_ms;       /* the longest delay between attempts */
	struct loop_timer retry; /* the next, where the library makes none */

	struct test_stop test_stop;

	bool logs;
	struct hpkv_error last; /* its text, while nothing is logged */
	struct logged logged[LOG_TEXTS];
	unsigned next_logged;
};

/* --- logging --- */

/* True if this text is to be logged: it was not, lately. */
static bool worth_logging(struct store_hpkv *store, const char *text)
{
	uint64_t now = clock_now_us();
	struct logged *slot;

	if (!store->logs) {
		error_set(&store->last, -EIO, 0, "%s", text);
		return false;
	}
	for (unsigned i = 0; i < LOG_TEXTS; i++) {
		slot = &store->logged[i];
		if (strcmp(slot->text, text) != 0)
			continue;
		if (slot->at_us && now - slot->at_us < LOG_QUIET_US)
			return false;
		slot->at_us = now;
		return true;
	}
	slot = &store->logged[store->next_logged++ % LOG_TEXTS];
	snprintf(slot->text, sizeof(slot->text), "%s", text);
	slot->at_us = now;
	return true;
}

static const char *op_name(enum store_op op)
{
	static const char *const names[] = {
		[STORE_GET] = "GET",       [STORE_SET] = "SET",     [STORE_PATCH] = "PATCH",
		[STORE_DELETE] = "DELETE", [STORE_RANGE] = "RANGE", [STORE_ATOMIC] = "ATOMIC",
	};

	return names[op];
}

static void log_failure(struct store_hpkv *store, const struct pending *pending, const char *text)
{
	struct hpkv_error line;

	if (!worth_logging(store, text))
		return;
	/* makes one line of it, whatever is in the key */
	error_set(&line, -EIO, 0, "%s of %.*s: %s", op_name(pending->op), (int)pending->key.len, pending->key.p, text);
	log_warning("%s", line.text);
}

/* --- ends --- */

static void pending_end(struct pending *pending, const struct store_reply *reply)
{
	pending->done(pending->arg, reply);
	free(pending);
}

static void fail_task(struct loop_task *task)
{
	struct store_hpkv *store = lws_container_of(task, struct store_hpkv, fail_task);

	while (store->failed) {
		struct pending *pending = store->failed;
		struct store_reply reply = { .err = pending->err };

		DL_DELETE(store->failed, pending);
		pending_end(pending, &reply);
	}
}

/* Nobody is told inside his own call. */
static void fail_later(struct pending *pending, int err)
{
	struct store_hpkv *store = pending->store;

	pending->err = err;
	DL_APPEND(store->failed, pending);
	loop_defer(store->loop, &store->fail_task);
}

/* --- replies --- */

static bool changes(enum store_op op)
{
	return op != STORE_GET && op != STORE_RANGE;
}

static int failure_errno(const struct pending *pending, const struct hpkv_error *error)
{
	if (pending->store->gave_up)
		return -EIO;
	if (error->err == -ECONNRESET && changes(pending->op))
		return -ECONNRESET;
	if (error->kind == HPKV_ERROR_CONNECTION)
		return -EIO;
	switch (error->err) {
	case -EPROTO:
	case -ECANCELED:
		return -EIO;
	case -ENOENT:
		return error->code == 404 ? -ENOENT : -EIO;
	default:
		return error->err;
	}
}

static void deliver_error(struct pending *pending, const struct hpkv_error *error)
{
	struct store_reply reply = { .err = failure_errno(pending, error) };

	/* that there is no connection is logged where it is lost; what was to be sent once is asked again */
	if (reply.err != -ENOENT && reply.err != -EAGAIN && error->kind != HPKV_ERROR_CONNECTION)
		log_failure(pending->store, pending, error->text);
	pending_end(pending, &reply);
}

static void deliver(struct pending *pending, const struct hpkv_reply *from)
{
	CLEANUP_FREE struct store_record *records = NULL;
	struct store_reply reply = {
		.value = str_of(from->value.data, from->value.size),
		.count = from->count,
		.truncated = from->truncated,
	};

	if (from->count) {
		records = reallocarray(NULL, from->count, sizeof(*records));
		if (!records)
			reply = (struct store_reply){ .err = -ENOMEM };
	}
	for (size_t i = 0; i < reply.count; i++) {
		records[i].key = str_of(from->records[i].key.data, from->records[i].key.size);
		records[i].value = str_of(from->records[i].value.data, from->records[i].value.size);
	}
	reply.records = records;
	pending_end(pending, &reply);
}

static void replied(void *arg, const struct hpkv_reply *reply)
{
	struct pending *pending = arg;

	if (!reply->error && changes(pending->op))
		test_stop_written(&pending->store->test_stop);
	if (reply->error)
		deliver_error(pending, reply->error);
	else
		deliver(pending, reply);
}

/* --- the interface --- */

static struct hpkv_slice slice(struct str s)
{
	return (struct hpkv_slice){ s.p, s.len };
}

/* The library repeats what did nothing, unless it is to be sent once; a change whose connection was lost is not sent again in either
 * case. What to do about a change that may have done something is decided by fs/store.c. */
static int send_request(struct pending *pending, const struct store_request *request)
{
	struct hpkv_client *client = pending->store->client;
	struct hpkv_slice key = slice(request->key), value = slice(request->value);
	const struct hpkv_options options = { .repeat = request->once ? HPKV_REPEAT_NEVER : HPKV_REPEAT_REFUSED };

	switch (request->op) {
	case STORE_GET:
		return hpkv_get(client, key, &options, replied, pending, NULL);
	case STORE_SET:
		return hpkv_set(client, key, value, &options, replied, pending, NULL);
	case STORE_PATCH:
		return hpkv_patch(client, key, value, &options, replied, pending, NULL);
	case STORE_DELETE:
		return hpkv_delete(client, key, &options, replied, pending, NULL);
	case STORE_RANGE:
		return hpkv_range(client, key, slice(request->end), request->limit, &options, replied, pending, NULL);
	case STORE_ATOMIC:
		return hpkv_atomic(client, key, value, &options, replied, pending, NULL);
	}
	return -EINVAL;
}

static int submit(struct store *base, const struct store_request *request, store_done *done, void *arg)
{
	struct store_hpkv *store = lws_container_of(base, struct store_hpkv, store);
	size_t shown = request->key.len < LOG_KEY_BYTES ? request->key.len : LOG_KEY_BYTES;
	struct pending *pending = malloc(sizeof(*pending) + shown);
	int r;

	if (!pending)
		return -ENOMEM;
	*pending = (struct pending){
		.store = store,
		.op = request->op,
		.done = done,
		.arg = arg,
		.key = str_of((char *)(pending + 1), shown),
	};
	if (shown)
		memcpy(pending + 1, request->key.p, shown);
	r = send_request(pending, request);
	if (r == -ENOTCONN)
		r = store->gave_up ? -EIO : store->away;
	if (r)
		fail_later(pending, r);
	return 0;
}

static double rate(struct store *base)
{
	struct store_hpkv *store = lws_container_of(base, struct store_hpkv, store);
	struct hpkv_throttle_status status;

	hpkv_client_throttle_status(store->client, &status);
	return status.current_rate_per_s;
}

static const struct store_ops hpkv_ops = {
	.submit = submit,
	.rate = rate,
};

void store_hpkv_start_logging(struct store_hpkv *store)
{
	store->logs = true;
}

const char *store_hpkv_last_failure(const struct store_hpkv *store)
{
	return store->last.text;
}

void store_hpkv_stats(const struct store_hpkv *store, struct hpkv_stats *stats, struct hpkv_throttle_status *throttle)
{
	hpkv_client_stats(store->client, stats);
	hpkv_client_throttle_status(store->client, throttle);
}

struct store *store_hpkv_store(struct store_hpkv *store)
{
	return &store->store;
}

/* --- the connection --- */

static void log_away(struct store_hpkv *store, const char *what, const char *text)
{
	if (store->keep_up && worth_logging(store, text))
		log_warning("%s: %s", what, text);
}

static void retry_later(struct store_hpkv *store);

static void retried(void *arg, const struct hpkv_error *error)
{
	struct store_hpkv *store = arg;

	if (!store->keep_up || !error)
		return;
	store->away = error->err == -EACCES ? -EACCES : -EIO;
	log_away(store, "cannot reach the server", error->text);
	retry_later(store);
}

static void retry_fired(struct loop_timer *timer)
{
	struct store_hpkv *store = lws_container_of(timer, struct store_hpkv, retry);

	if (hpkv_client_connect(store->client, retried, store) < 0)
		retry_later(store);
}

/* The library gives up where the server refuses the key. It may be taken again when that is mended. */
static void retry_later(struct store_hpkv *store)
{
	loop_timer_set(store->loop, &store->retry, store->retry_ms * (uint64_t)CLOCK_US_PER_MS, retry_fired);
}

static void on_connected(void *arg, const struct hpkv_event *event)
{
	struct store_hpkv *store = arg;

	(void)event;
	if (store->was_lost)
		log_info("connected again");
	store->was_lost = false;
}

static void on_disconnected(void *arg, const struct hpkv_event *event)
{
	struct store_hpkv *store = arg;

	if (event->graceful || !store->keep_up)
		return;
	store->was_lost = true;
	log_away(store, "the server is away", event->error->text);
}

static void on_error(void *arg, const struct hpkv_event *event)
{
	struct store_hpkv *store = arg;

	if (hpkv_client_state(store->client) == HPKV_RECONNECTING)
		log_away(store, "cannot reach the server", event->error->text);
}

static void on_failed(void *arg, const struct hpkv_event *event)
{
	retried(arg, event->error);
}

/* --- waiting for the first connection, and for the last --- */

struct waiter {
	struct coroutine *co;
	bool done;
	int err;
	struct hpkv_error *error;
};

static void waiter_done(void *arg, const struct hpkv_error *error)
{
	struct waiter *waiter = arg;

	waiter->done = true;
	if (error) {
		waiter->err = error->err;
		if (waiter->error)
			*waiter->error = *error;
	}
	co_wake(waiter->co);
}

static void waiter_disconnected(void *arg)
{
	waiter_done(arg, NULL);
}

static co_fn void waiter_wait(struct waiter *waiter)
{
	bool former = co_uninterruptible(true);

	while (!waiter->done)
		if (co_wait() < 0)
			continue; /* cannot be: interruptions are off */
	co_uninterruptible(former);
}

int store_hpkv_connect(struct store_hpkv *store, struct hpkv_error *error)
{
	struct waiter waiter = { .co = co_self(), .error = error };
	int r = hpkv_client_connect(store->client, waiter_done, &waiter);

	if (r)
		return error_set(error, r, 0, "cannot connect: %s", strerror(-r));
	waiter_wait(&waiter);
	if (waiter.err)
		return waiter.err;
	store->keep_up = true;
	/* lost and refused before this coroutine went on */
	if (hpkv_client_state(store->client) == HPKV_DISCONNECTED)
		retry_later(store);
	return 0;
}

void store_hpkv_lower_limits(const struct store_hpkv *store, size_t *max_key, size_t *max_value)
{
	struct server_limits limits = client_server_limits(store->client);

	if (limits.max_key && limits.max_key < *max_key)
		*max_key = limits.max_key;
	if (limits.max_value && limits.max_value < *max_value)
		*max_value = limits.max_value;
}

static void let_go(struct store_hpkv *store)
{
	store->keep_up = false;
	loop_timer_cancel(&store->retry);
}

void store_hpkv_give_up(struct store_hpkv *store)
{
	store->gave_up = true;
	let_go(store);
	/* ends all that is under way */
	if (hpkv_client_disconnect(store->client, true, NULL, NULL) < 0)
		log_error("out of memory");
}

void store_hpkv_disconnect(struct store_hpkv *store)
{
	struct waiter waiter = { .co = co_self() };

	let_go(store);
	if (hpkv_client_disconnect(store->client, true, waiter_disconnected, &waiter) == 0)
		waiter_wait(&waiter);
}

/* --- lifetime --- */

/* Whoever waits sees some attempts before he gives up. */
static unsigned longest_delay_ms(uint64_t timeout_us)
{
	uint64_t share_ms = timeout_us / 4 / CLOCK_US_PER_MS;

	if (share_ms > RECONNECT_MOST_MS)
		return RECONNECT_MOST_MS;
	return share_ms ? (unsigned)share_ms : 1;
}

static void configure(struct store_hpkv *store, const struct store_hpkv_config *from, struct hpkv_config *config)
{
	hpkv_config_init(config);
	config->url = from->url;
	config->api_key = from->api_key;
	config->ca_file = from->ca_file;
	config->insecure = from->insecure;
	config->operation_timeout_ms = (unsigned)(from->timeout_us / CLOCK_US_PER_MS);
	if (config->max_message_bytes < MESSAGE_BYTES + 8 * from->max_value)
		config->max_message_bytes = MESSAGE_BYTES + 8 * from->max_value;
	config->ping_after_s = 2;
	config->dead_after_s = 5;
	config->max_reconnect_attempts = HPKV_FOREVER;
	config->reconnect_max_delay_ms = store->retry_ms;
	config->reconnect_initial_delay_ms = RECONNECT_FIRST_MS;
	config->reconnect_jitter_ms = RECONNECT_FIRST_MS / 2;
	config->throttle.enabled = true; /* who is refused with `once` relies on the pause */
	config->throttle.rate_per_s = from->rate_per_s;
	config->max_in_flight = from->inflight;
	config->max_queued = UINT_MAX; /* whoever waits for a reply makes no more requests */
}

static int make_client(struct store_hpkv *store, const struct store_hpkv_config *from, struct hpkv_error *error)
{
	static const struct {
		enum hpkv_event_type type;
		hpkv_listener *fn;
	} listeners[] = {
		{ HPKV_EVENT_CONNECTED, on_connected },
		{ HPKV_EVENT_DISCONNECTED, on_disconnected },
		{ HPKV_EVENT_ERROR, on_error },
		{ HPKV_EVENT_RECONNECT_FAILED, on_failed },
	};
	struct hpkv_config config;
	uint64_t id;
	int r = hpkv_loop_wrap(store->loop, &store->client_loop);

	if (r)
		return error_set(error, r, 0, "out of memory");
	configure(store, from, &config);
	r = hpkv_client_new(store->client_loop, &config, &store->client, error);
	for (size_t i = 0; r == 0 && i < sizeof(listeners) / sizeof(listeners[0]); i++)
		if (hpkv_client_on(store->client, listeners[i].type, listeners[i].fn, store, &id) < 0)
			r = error_set(error, -ENOMEM, 0, "out of memory");
	return r;
}

int store_hpkv_new(struct loop *loop, const struct store_hpkv_config *config, struct store_hpkv **out,
		   struct hpkv_error *error)
{
	struct store_hpkv *store = calloc(1, sizeof(*store));
	int r;

	if (!store)
		return error_set(error, -ENOMEM, 0, "out of memory");
	store->store.ops = &hpkv_ops;
	store->loop = loop;
	store->away = -EIO;
	store->retry_ms = longest_delay_ms(config->timeout_us);
	store->fail_task.fn = fail_task;
	test_stop_init(&store->test_stop);
	r = make_client(store, config, error);
	if (r) {
		hpkv_client_free(store->client);
		hpkv_loop_free(store->client_loop);
		free(store);
		return r;
	}
	*out = store;
	return 0;
}

void store_hpkv_free(struct store_hpkv *store)
{
	if (!store)
		return;
	store->gave_up = true;
	let_go(store);
	hpkv_client_free(store->client);
	while (store->fail_task.queued)
		loop_once(store->loop);
	hpkv_loop_free(store->client_loop);
	free(store);
}
