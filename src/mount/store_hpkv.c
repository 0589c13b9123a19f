#include "mount/store_hpkv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "client/internal.h"

#define INFLIGHT 128u
#define BACKOFF_FIRST_US (100u * CLOCK_US_PER_MS)
#define BACKOFF_MOST_US (5u * CLOCK_US_PER_S)

/* The same failure is logged once in this time. */
#define LOG_QUIET_US (5u * CLOCK_US_PER_S)
#define LOG_TEXTS 8

#define TOO_MANY "the server refused too many requests for too long (429)"

/* A server packs many values into one page of a range. */
#define MESSAGE_BYTES (8u * 1024 * 1024)

/* A request, in one of the lists `waiting`, `sent`, `failed`. */
struct pending {
	struct pending *prev, *next;
	struct store_hpkv *store;
	struct store_request request; /* its strings lie behind this struct */
	store_done *done;
	void *arg;
	uint64_t order; /* of arrival */
	bool was_sent;
	bool refused;        /* by a 429 */
	uint64_t give_up_us; /* 0: its time does not run yet */
	int err;             /* once failed */
};

struct backoff {
	uint64_t delay_us; /* of the last; 0: none since the last success */
	bool on;           /* the timer runs */
	struct loop_timer timer;
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
	uint64_t timeout_us;
	unsigned inflight;

	uint64_t next_order;
	struct pending *waiting; /* in order of arrival */
	struct pending *sent;
	unsigned sent_count;
	struct pending *failed; /* to be told so, from `fail_task` */
	struct loop_task fail_task;
	struct loop_timer expiry; /* of those that wait */
	uint64_t expiry_us;       /* when it fires; 0: not set */

	bool keep_up;  /* a lost connection is renewed */
	bool was_lost; /* and that was logged */
	bool gave_up;
	struct backoff reconnect;
	struct backoff throttle; /* after a 429 nothing is sent until it is over */
	uint64_t random;

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
	struct str key = pending->request.key;
	struct hpkv_error line;

	if (!worth_logging(store, text))
		return;
	/* makes one line of it, whatever is in the key */
	error_set(&line, -EIO, 0, "%s of %.*s: %s", op_name(pending->request.op), (int)(key.len < 80 ? key.len : 80),
		  key.p, text);
	log_warning("%s", line.text);
}

/* --- pauses that double, with jitter so that many mounts do not come back at once --- */

/* Whoever waits sees some attempts before he gives up. */
static uint64_t backoff_most(const struct store_hpkv *store)
{
	uint64_t share = store->timeout_us / 4;

	return share < BACKOFF_MOST_US ? share : BACKOFF_MOST_US;
}

static uint64_t backoff_next(struct store_hpkv *store, struct backoff *backoff)
{
	uint64_t delay = backoff->delay_us ? 2 * backoff->delay_us : BACKOFF_FIRST_US, most = backoff_most(store);

	backoff->delay_us = delay < most ? delay : most;
	store->random = store->random * 6364136223846793005ull + 1442695040888963407ull;
	return backoff->delay_us / 2 + (store->random >> 33) % (backoff->delay_us / 2 + 1);
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

/* Takes a request that is in no list; it is told later, since nobody is told inside his own call. */
static void fail_later(struct pending *pending, int err)
{
	struct store_hpkv *store = pending->store;

	pending->err = err;
	DL_APPEND(store->failed, pending);
	loop_defer(store->loop, &store->fail_task);
}

static void fail_waiting(struct store_hpkv *store, int err)
{
	struct pending *pending, *next;

	DL_FOREACH_SAFE(store->waiting, pending, next) {
		DL_DELETE(store->waiting, pending);
		fail_later(pending, err);
	}
}

/* --- waiting --- */

static bool can_send(const struct store_hpkv *store)
{
	return !store->throttle.on && hpkv_client_state(store->client) == HPKV_CONNECTED;
}

static void expired(struct loop_timer *timer);

static void expiry_at(struct store_hpkv *store, uint64_t when_us)
{
	uint64_t now = clock_now_us();

	if (store->expiry_us && store->expiry_us <= when_us)
		return;
	store->expiry_us = when_us;
	loop_timer_set(store->loop, &store->expiry, when_us > now ? when_us - now : 0, expired);
}

/* The time of what was never sent runs only while there is no connection: a queue before a slow server gets on. */
static void begin_waiting(struct pending *pending)
{
	if (!pending->give_up_us && hpkv_client_state(pending->store->client) != HPKV_CONNECTED)
		pending->give_up_us = clock_now_us() + pending->store->timeout_us;
	if (pending->give_up_us)
		expiry_at(pending->store, pending->give_up_us);
}

static void expired(struct loop_timer *timer)
{
	struct store_hpkv *store = lws_container_of(timer, struct store_hpkv, expiry);
	uint64_t now = clock_now_us();
	struct pending *pending, *next;

	store->expiry_us = 0;
	DL_FOREACH_SAFE(store->waiting, pending, next) {
		if (!pending->give_up_us)
			continue;
		if (pending->give_up_us > now) {
			expiry_at(store, pending->give_up_us);
			continue;
		}
		DL_DELETE(store->waiting, pending);
		if (pending->refused)
			log_failure(store, pending, TOO_MANY);
		fail_later(pending, pending->refused ? -ETIMEDOUT : -EIO);
	}
}

/* --- sending --- */

static void pump(struct store_hpkv *store);

static struct hpkv_slice slice(struct str s)
{
	return (struct hpkv_slice){ s.p, s.len };
}

static void replied(void *arg, const struct hpkv_reply *reply);

static int send_request(struct pending *pending, unsigned timeout_ms)
{
	struct hpkv_client *client = pending->store->client;
	const struct store_request *request = &pending->request;
	struct hpkv_slice key = slice(request->key), value = slice(request->value);
	struct hpkv_options options = { .timeout_ms = timeout_ms, .repeat = HPKV_REPEAT_NEVER };

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

/* Sends a request that is in no list. */
static void dispatch(struct pending *pending)
{
	struct store_hpkv *store = pending->store;
	uint64_t now = clock_now_us(), left;
	int r;

	if (!pending->give_up_us)
		pending->give_up_us = now + store->timeout_us;
	left = pending->give_up_us > now ? pending->give_up_us - now : 0;
	r = send_request(pending, (unsigned)(left / CLOCK_US_PER_MS) + 1);
	if (r) {
		fail_later(pending, r == -ENOTCONN ? -EIO : r);
		return;
	}
	pending->was_sent = true;
	DL_APPEND(store->sent, pending);
	store->sent_count++;
}

static void pump(struct store_hpkv *store)
{
	while (store->waiting && store->sent_count < store->inflight && can_send(store)) {
		struct pending *pending = store->waiting;

		DL_DELETE(store->waiting, pending);
		dispatch(pending);
	}
}

/* In front of what came later. */
static void again(struct pending *pending)
{
	struct store_hpkv *store = pending->store;
	struct pending *later = store->waiting;

	while (later && later->order < pending->order)
		later = later->next;
	DL_PREPEND_ELEM(store->waiting, later, pending);
	begin_waiting(pending);
}

static void throttle_over(struct loop_timer *timer)
{
	struct store_hpkv *store = lws_container_of(timer, struct store_hpkv, throttle.timer);

	store->throttle.on = false;
	pump(store);
}

static void throttle(struct store_hpkv *store)
{
	if (store->throttle.on)
		return; /* one of several that were under way together */
	store->throttle.on = true;
	loop_timer_set(store->loop, &store->throttle.timer, backoff_next(store, &store->throttle), throttle_over);
}

/* --- replies --- */

static bool repeatable(const struct pending *pending)
{
	return pending->request.op == STORE_GET || pending->request.op == STORE_RANGE;
}

/* True if the request goes on living. */
static bool try_again(struct pending *pending, const struct hpkv_error *error)
{
	struct store_hpkv *store = pending->store;

	pending->refused = pending->refused || error->code == 429;
	if (store->gave_up || clock_now_us() >= pending->give_up_us)
		return false;
	if (error->code == 429)
		throttle(store);
	else if (error->err != -ECONNRESET || !repeatable(pending))
		return false;
	again(pending);
	return true;
}

static int failure_errno(const struct pending *pending, const struct hpkv_error *error)
{
	if (pending->store->gave_up)
		return -EIO;
	if (error->code == 429)
		return -ETIMEDOUT;
	switch (error->err) {
	case -EPROTO:
	case -ECANCELED:
		return -EIO;
	case -ECONNRESET:
		return repeatable(pending) ? -EIO : -ECONNRESET;
	case -ENOENT:
		return error->code == 404 ? -ENOENT : -EIO;
	default:
		return error->err;
	}
}

static void deliver_error(struct pending *pending, const struct hpkv_error *error)
{
	struct store_reply reply = { .err = failure_errno(pending, error) };

	if (reply.err != -ENOENT && reply.err != -ECONNRESET)
		log_failure(pending->store, pending,
			    reply.err == -ETIMEDOUT && pending->refused ? TOO_MANY : error->text);
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
	struct store_hpkv *store = pending->store;

	DL_DELETE(store->sent, pending);
	store->sent_count--;
	if (!reply->error || reply->error->code != 429)
		store->throttle.delay_us = 0;
	if (!reply->error)
		deliver(pending, reply);
	else if (!try_again(pending, reply->error))
		deliver_error(pending, reply->error);
	pump(store);
}

/* --- the interface --- */

static struct str append(char **to, struct str from)
{
	char *start = *to;

	if (from.len)
		memcpy(start, from.p, from.len);
	*to += from.len;
	return str_of(start, from.len);
}

static int submit(struct store *base, const struct store_request *request, store_done *done, void *arg)
{
	struct store_hpkv *store = lws_container_of(base, struct store_hpkv, store);
	struct pending *pending =
		calloc(1, sizeof(*pending) + request->key.len + request->value.len + request->end.len);
	char *strings = (char *)(pending + 1);

	if (!pending)
		return -ENOMEM;
	pending->store = store;
	pending->done = done;
	pending->arg = arg;
	pending->request = *request;
	pending->request.key = append(&strings, request->key);
	pending->request.value = append(&strings, request->value);
	pending->request.end = append(&strings, request->end);
	if (store->gave_up) {
		fail_later(pending, -EIO);
		return 0;
	}
	pending->order = store->next_order++;
	DL_APPEND(store->waiting, pending);
	begin_waiting(pending);
	pump(store);
	return 0;
}

static const struct store_ops hpkv_ops = {
	.submit = submit,
};

void store_hpkv_start_logging(struct store_hpkv *store)
{
	store->logs = true;
}

const char *store_hpkv_last_failure(const struct store_hpkv *store)
{
	return store->last.text;
}

struct store *store_hpkv_store(struct store_hpkv *store)
{
	return &store->store;
}

/* --- the connection --- */

static void reconnect_later(struct store_hpkv *store);

static void reconnected(void *arg, const struct hpkv_error *error)
{
	struct store_hpkv *store = arg;

	if (!store->keep_up || !error)
		return;
	if (worth_logging(store, error->text))
		log_warning("cannot reach the server: %s", error->text);
	if (error->err == -EACCES)
		fail_waiting(store, -EACCES);
	reconnect_later(store);
}

static void reconnect_now(struct loop_timer *timer)
{
	struct store_hpkv *store = lws_container_of(timer, struct store_hpkv, reconnect.timer);

	store->reconnect.on = false;
	if (hpkv_client_connect(store->client, reconnected, store) < 0)
		reconnect_later(store);
}

static void reconnect_later(struct store_hpkv *store)
{
	if (store->reconnect.on)
		return;
	store->reconnect.on = true;
	loop_timer_set(store->loop, &store->reconnect.timer, backoff_next(store, &store->reconnect), reconnect_now);
}

static void on_connected(void *arg, const struct hpkv_event *event)
{
	struct store_hpkv *store = arg;
	struct pending *pending;

	(void)event;
	if (store->was_lost)
		log_info("connected again");
	store->was_lost = false;
	store->reconnect.delay_us = 0;
	DL_FOREACH(store->waiting, pending)
		if (!pending->was_sent)
			pending->give_up_us = 0;
	pump(store);
}

static void on_disconnected(void *arg, const struct hpkv_event *event)
{
	struct store_hpkv *store = arg;
	const struct hpkv_error *error = event->error;
	struct pending *pending;

	if (!store->keep_up)
		return;
	store->was_lost = true;
	if (worth_logging(store, error ? error->text : "closed"))
		log_warning("the server is away: %s", error ? error->text : "closed");
	DL_FOREACH(store->waiting, pending)
		begin_waiting(pending);
	reconnect_later(store);
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
	/* lost again before this coroutine went on */
	if (hpkv_client_state(store->client) == HPKV_DISCONNECTED)
		reconnect_later(store);
	return 0;
}

void store_hpkv_give_up(struct store_hpkv *store)
{
	store->gave_up = true;
	store->keep_up = false;
	fail_waiting(store, -EIO);
	/* ends those that were sent */
	if (hpkv_client_disconnect(store->client, true, NULL, NULL) < 0)
		log_error("out of memory");
}

void store_hpkv_disconnect(struct store_hpkv *store)
{
	struct waiter waiter = { .co = co_self() };

	store->keep_up = false;
	loop_timer_cancel(&store->reconnect.timer);
	if (hpkv_client_disconnect(store->client, true, waiter_disconnected, &waiter) == 0)
		waiter_wait(&waiter);
}

/* --- lifetime --- */

static int make_client(struct store_hpkv *store, const struct store_hpkv_config *from, struct hpkv_error *error)
{
	struct hpkv_config config;
	uint64_t id;
	int r = hpkv_loop_wrap(store->loop, &store->client_loop);

	if (r)
		return error_set(error, r, 0, "out of memory");
	hpkv_config_init(&config);
	config.url = from->url;
	config.api_key = from->api_key;
	config.ca_file = from->ca_file;
	config.insecure = from->insecure;
	config.operation_timeout_ms = (unsigned)(from->timeout_us / CLOCK_US_PER_MS);
	if (config.max_message_bytes < MESSAGE_BYTES + 8 * from->max_value)
		config.max_message_bytes = MESSAGE_BYTES + 8 * from->max_value;
	config.ping_after_s = 2;
	config.dead_after_s = 5;
	config.max_reconnect_attempts = 0;
	r = hpkv_client_new(store->client_loop, &config, &store->client, error);
	if (r)
		return r;
	r = hpkv_client_on(store->client, HPKV_EVENT_CONNECTED, on_connected, store, &id);
	if (r == 0)
		r = hpkv_client_on(store->client, HPKV_EVENT_DISCONNECTED, on_disconnected, store, &id);
	return r ? error_set(error, r, 0, "out of memory") : 0;
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
	store->timeout_us = config->timeout_us;
	store->inflight = config->inflight ? config->inflight : INFLIGHT;
	store->fail_task.fn = fail_task;
	if (getrandom(&store->random, sizeof(store->random), GRND_NONBLOCK) < 0)
		store->random = clock_now_us();
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
	store->keep_up = false;
	loop_timer_cancel(&store->reconnect.timer);
	loop_timer_cancel(&store->throttle.timer);
	fail_waiting(store, -EIO);
	hpkv_client_free(store->client);
	while (store->fail_task.queued)
		loop_once(store->loop);
	loop_timer_cancel(&store->expiry);
	hpkv_loop_free(store->client_loop);
	free(store);
}
