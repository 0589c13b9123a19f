#include "client/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/list.h"
#include "client/iterator.h"

/* --- lifetime --- */

static void client_destroy(struct hpkv_client *client)
{
	loop_timer_cancel(&client->soon);
	calls_stop(client);
	loop_timer_cancel(&client->close_timer);
	loop_timer_cancel(&client->retry.timer);
	renewal_free(client);
	client_unconfigure(client);
	listeners_free(&client->listeners);
	listeners_free(&client->subscribers);
	calls_free(client);
	free(client);
}

void client_enter(struct hpkv_client *client)
{
	client->depth++;
}

void client_leave(struct hpkv_client *client)
{
	if (--client->depth == 0 && client->freed)
		client_destroy(client);
}

/* --- telling those who wait --- */

/* True if somebody will be told. */
static bool finish_waiters(struct hpkv_client *client, struct waiter **list, const struct hpkv_error *error)
{
	struct waiter *waiter;
	bool told = false;

	LL_FOREACH(*list, waiter) {
		if (error)
			waiter->error = *error;
		told = told || waiter->connected || waiter->disconnected;
	}
	LL_CONCAT(client->finished, *list);
	*list = NULL;
	return told;
}

static void deliver_finished(struct hpkv_client *client)
{
	struct waiter *waiter;

	while ((waiter = client->finished)) {
		LL_DELETE(client->finished, waiter);
		if (waiter->connected)
			waiter->connected(waiter->arg, waiter->error.err ? &waiter->error : NULL);
		if (waiter->disconnected)
			waiter->disconnected(waiter->arg);
		free(waiter);
	}
}

static void soon_fired(struct loop_timer *timer)
{
	struct hpkv_client *client = lws_container_of(timer, struct hpkv_client, soon);

	client_enter(client);
	if (client->start) {
		client->start = false;
		renewal_dial(client);
	}
	calls_deliver_ended(client);
	deliver_finished(client);
	client_leave(client);
}

void client_soon(struct hpkv_client *client)
{
	if (!client->freed)
		loop_timer_set(client->loop->base, &client->soon, 0, soon_fired);
}

/* --- what is told of a server's words --- */

/* A shorter credential is none, but may stand in any text. */
#define SECRET_LEAST 4
/* So much of a long one is enough to know it by, where a text was cut off. */
#define SECRET_HEAD 24

static bool holds(const char *text, const char *secret)
{
	size_t len = secret ? strnlen(secret, SECRET_HEAD) : 0;

	return len >= SECRET_LEAST && memmem(text, strlen(text), secret, len);
}

void client_censor(const struct hpkv_client *client, struct hpkv_error *error)
{
	if (holds(error->text, client->api_key) || holds(error->text, client->token) ||
	    holds(error->text, client->renewal.token) || holds(error->text, client->renewal.config.api_key))
		snprintf(error->text, sizeof(error->text), "the server's reason names the API key or token");
}

/* --- telling listeners --- */

static void call_listener(void *data, const struct listener *listener)
{
	((hpkv_listener *)listener->fn)(listener->arg, data);
}

void client_emit(struct hpkv_client *client, struct hpkv_event event)
{
	if (client->freed)
		return;
	client_enter(client);
	listeners_each(&client->listeners, event.type, call_listener, &event);
	client_leave(client);
}

static void call_subscriber(void *data, const struct listener *listener)
{
	((hpkv_notification_fn *)listener->fn)(listener->arg, data);
}

void client_notify(struct hpkv_client *client, const struct hpkv_notification *notification)
{
	if (renewal_hears(client, notification))
		client_tell(client, notification);
}

void client_tell(struct hpkv_client *client, const struct hpkv_notification *notification)
{
	if (client->freed)
		return;
	client->stats.notifications++;
	client_enter(client);
	listeners_each(&client->subscribers, 0, call_subscriber, (void *)notification);
	client_leave(client);
}

/* --- connecting --- */

static void stop_trying(struct hpkv_client *client)
{
	client->start = false;
	client->retry.attempts = 0;
	client->retry.waiting = false;
	loop_timer_cancel(&client->retry.timer);
	renewal_stop(client);
	dial_cancel(&client->dial);
}

static void begin_connecting(struct hpkv_client *client)
{
	client->state = HPKV_CONNECTING;
	client->start = true;
	client_soon(client);
}

static void retry_fired(struct loop_timer *timer)
{
	struct hpkv_client *client = lws_container_of(timer, struct hpkv_client, retry.timer);

	client->retry.waiting = false;
	client_enter(client);
	renewal_dial(client);
	client_leave(client);
}

/* An attempt that is under way is joined. */
static void reconnect_now(struct hpkv_client *client)
{
	if (!client->retry.waiting)
		return;
	client->retry.delay_ms = 0;
	loop_timer_set(client->loop->base, &client->retry.timer, 0, retry_fired);
}

/* False: no more attempts. */
static bool reconnect_later(struct hpkv_client *client)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		random = clock_now_us();
	if (!retry_next(&client->retry, random))
		return false;
	client->state = HPKV_RECONNECTING;
	client->retry.waiting = true;
	loop_timer_set(client->loop->base, &client->retry.timer, client->retry.delay_ms * (uint64_t)CLOCK_US_PER_MS,
		       retry_fired);
	return true;
}

/* Unless a listener has disconnected meanwhile. */
static void announce_attempt(struct hpkv_client *client)
{
	const struct retry *retry = &client->retry;

	if (client->state == HPKV_RECONNECTING)
		client_emit(client, (struct hpkv_event){ .type = HPKV_EVENT_RECONNECTING,
							 .attempt = retry->attempts,
							 .max_attempts = retry->max_attempts,
							 .delay_ms = retry->delay_ms });
}

/* There is no connection, and none will be made. */
static void give_up(struct hpkv_client *client)
{
	client->state = HPKV_DISCONNECTED;
	client->wanted = false;
	stop_trying(client);
}

/* -ENOENT of a request means that the server said so, and nothing else. */
static struct hpkv_error error_of_requests(const struct hpkv_error *error)
{
	struct hpkv_error reason = *error;

	if (reason.err == -ENOENT)
		reason.err = -ECONNREFUSED;
	return reason;
}

static void deliver(struct hpkv_client *client)
{
	calls_deliver_ended(client);
	deliver_finished(client);
}

static void connect_failed(struct hpkv_client *client, const struct hpkv_error *error)
{
	const struct hpkv_error reason = error_of_requests(error);

	give_up(client);
	calls_end_all(client, &reason);
	if (!finish_waiters(client, &client->connecting, error))
		client_emit(client, (struct hpkv_event){ .type = HPKV_EVENT_ERROR, .error = error });
	deliver(client);
}

static void attempt_failed(struct hpkv_client *client, const struct hpkv_error *error)
{
	const struct hpkv_error reason = error_of_requests(error);
	/* another token may have been given since */
	bool refused = (error->code == 401 || error->code == 403) && !client->renewal.other_given;
	bool told = finish_waiters(client, &client->connecting, error);

	if (!refused && reconnect_later(client)) {
		if (!told)
			client_emit(client, (struct hpkv_event){ .type = HPKV_EVENT_ERROR, .error = error });
		announce_attempt(client);
	} else {
		give_up(client);
		calls_end_all(client, &reason);
		client_emit(client, (struct hpkv_event){ .type = HPKV_EVENT_RECONNECT_FAILED, .error = error });
	}
	deliver(client);
}

static void dial_failed(struct dial *dial, const struct hpkv_error *error)
{
	if (dial->client->state == HPKV_RECONNECTING)
		attempt_failed(dial->client, error);
	else
		connect_failed(dial->client, error);
}

static const struct connection_events client_events;

struct connection *client_take_over(struct hpkv_client *client, struct connection *connection)
{
	struct connection *before = client->connection;

	connection_set_events(connection, &client_events, client);
	client->connection = connection;
	client->connected_us = clock_now_us();
	client->stats.connections++;
	return before;
}

static void dial_opened(struct dial *dial, struct connection *connection)
{
	struct hpkv_client *client = dial->client;

	client_take_over(client, connection);
	client->state = HPKV_CONNECTED;
	renewal_connected(client);
	finish_waiters(client, &client->connecting, NULL);
	calls_connected(client);
	client_emit(client, (struct hpkv_event){ .type = HPKV_EVENT_CONNECTED });
	deliver(client);
}

/* --- the connection's events --- */

static void let_go(struct hpkv_client *client)
{
	renewal_stop(client);
	connection_free(client->connection);
	client->connection = NULL;
	client->draining = false;
	loop_timer_cancel(&client->close_timer);
}

static void lost(struct hpkv_client *client, const struct hpkv_error *error)
{
	uint64_t stood_us = clock_now_us() - client->connected_us;
	bool again;

	let_go(client);
	if (stood_us >= client->retry.max_delay_ms * (uint64_t)CLOCK_US_PER_MS)
		client->retry.attempts = 0;
	again = reconnect_later(client);
	if (!again)
		give_up(client);
	calls_lost(client, error, again);
	client_emit(client, (struct hpkv_event){
				    .type = HPKV_EVENT_DISCONNECTED,
				    .error = error,
				    .previous_state = HPKV_CONNECTED,
			    });
	if (again)
		announce_attempt(client);
	else if (client->retry.max_attempts && client->state == HPKV_DISCONNECTED)
		client_emit(client, (struct hpkv_event){ .type = HPKV_EVENT_RECONNECT_FAILED, .error = error });
	deliver(client);
}

/* The end that hpkv_client_disconnect asked for, or with an error one that came before. */
static void disconnected(struct hpkv_client *client, const struct hpkv_error *error)
{
	let_go(client);
	client->state = HPKV_DISCONNECTED;
	client->retry.attempts = 0;
	if (error)
		calls_lost(client, error, client->wanted);
	finish_waiters(client, &client->disconnecting, NULL);
	client_emit(client, (struct hpkv_event){
				    .type = HPKV_EVENT_DISCONNECTED,
				    .error = error,
				    .previous_state = HPKV_DISCONNECTING,
				    .graceful = !error,
			    });
	if (client->wanted && client->state == HPKV_DISCONNECTED)
		begin_connecting(client);
	deliver(client);
}

/* Whoever is told of what was kept may have ended it all. */
void client_lose(struct hpkv_client *client, const struct hpkv_error *error)
{
	client_enter(client);
	renewal_lost(client);
	if (client->state == HPKV_DISCONNECTING)
		disconnected(client, error);
	else if (client->state == HPKV_CONNECTED)
		lost(client, error);
	client_leave(client);
}

static void closed(void *arg, const struct hpkv_error *error)
{
	struct hpkv_client *client = arg;
	struct hpkv_error why = { 0 };

	if (error) {
		why = *error;
		client_censor(client, &why);
	}
	client_lose(client, error ? &why : NULL);
}

static void close_timed_out(struct loop_timer *timer)
{
	struct hpkv_client *client = lws_container_of(timer, struct hpkv_client, close_timer);

	client_enter(client);
	disconnected(client, NULL);
	client_leave(client);
}

void client_message(struct hpkv_client *client, struct str raw)
{
	client->retry.attempts = 0;
	client->stats.messages_received++;
	client->stats.bytes_received += raw.len;
	client_enter(client);
	calls_message(client, raw);
	client_leave(client);
}

static void message(void *arg, struct str raw)
{
	client_message(arg, raw);
}

static struct buf *next_frame(void *arg, bool full)
{
	struct hpkv_client *client = arg;
	struct buf *frame = client->renewal.holding ? NULL : calls_next_frame(client, full);

	if (frame) {
		client->stats.messages_sent++;
		client->stats.bytes_sent += frame->len;
	}
	return frame;
}

static const struct connection_events client_events = {
	.message = message,
	.next_frame = next_frame,
	.closed = closed,
};

/* --- lifetime --- */

int hpkv_client_new(struct hpkv_loop *loop, const struct hpkv_config *config, struct hpkv_client **out,
		    struct hpkv_error *error)
{
	struct hpkv_client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return error_set(error, -ENOMEM, 0, "out of memory");
	client->loop = loop;
	dial_init(&client->dial, client);
	client->dial.opened = dial_opened;
	client->dial.failed = dial_failed;
	renewal_init(client);
	r = client_configure(client, config, error);
	if (r) {
		client_destroy(client);
		return r;
	}
	*out = client;
	return 0;
}

void hpkv_client_free(struct hpkv_client *client)
{
	struct hpkv_error error;
	struct waiter *waiter;

	if (!client || client->freed)
		return;
	error_set(&error, -ECANCELED, 0, "the client was freed");
	client->freed = true;
	client_enter(client);
	serve_forget_client(client->loop, client);
	give_up(client);
	let_go(client);
	loop_timer_cancel(&client->soon);
	calls_stop(client);
	listeners_remove_all(&client->listeners);
	listeners_remove_all(&client->subscribers);
	calls_end_all(client, &error);
	iterators_cancel(client);
	finish_waiters(client, &client->connecting, &error);
	/* a connection that was made is gone before those who waited for it hear of it */
	LL_FOREACH(client->finished, waiter)
		if (!waiter->error.err)
			waiter->error = error;
	finish_waiters(client, &client->disconnecting, NULL);
	deliver(client);
	client_leave(client);
}

/* --- connect and disconnect --- */

static void begin_closing(struct hpkv_client *client)
{
	client->draining = false;
	renewal_stop(client);
	connection_close(client->connection);
	loop_timer_set(client->loop->base, &client->close_timer, client->connect_timeout_ms * (uint64_t)CLOCK_US_PER_MS,
		       close_timed_out);
}

bool client_serving(const struct hpkv_client *client)
{
	return client->state == HPKV_CONNECTED || client->draining;
}

void client_calls_idle(struct hpkv_client *client)
{
	if (client->draining)
		begin_closing(client);
}

static struct waiter *new_waiter(struct waiter **list, void *arg)
{
	struct waiter *waiter = calloc(1, sizeof(*waiter));

	if (!waiter)
		return NULL;
	waiter->arg = arg;
	LL_APPEND(*list, waiter);
	return waiter;
}

int hpkv_client_connect(struct hpkv_client *client, void (*done)(void *arg, const struct hpkv_error *error), void *arg)
{
	struct waiter *waiter;

	if (client->freed)
		return -ECANCELED;
	waiter = new_waiter(client->state == HPKV_CONNECTED ? &client->finished : &client->connecting, arg);
	if (!waiter)
		return -ENOMEM;
	waiter->connected = done;
	client->wanted = true;
	if (client->state == HPKV_DISCONNECTED)
		begin_connecting(client);
	else if (client->state == HPKV_RECONNECTING)
		reconnect_now(client);
	else
		client_soon(client);
	return 0;
}

/* Without `cancel`: the requests that have a connection go on; all others end, those for the next one included. */
static void end_requests(struct hpkv_client *client, bool cancel)
{
	struct hpkv_error error;

	error_set(&error, -ECANCELED, 0, "disconnected");
	if (cancel || !client_serving(client))
		calls_end_all(client, &error);
	else
		calls_end_held(client);
	finish_waiters(client, &client->connecting, &error);
}

int hpkv_client_disconnect(struct hpkv_client *client, bool cancel, void (*done)(void *arg), void *arg)
{
	struct waiter *waiter;

	if (client->freed)
		return -ECANCELED;
	waiter = new_waiter(&client->disconnecting, arg);
	if (!waiter)
		return -ENOMEM;
	waiter->disconnected = done;
	client->wanted = false;
	end_requests(client, cancel);
	if (client_serving(client)) {
		client->state = HPKV_DISCONNECTING;
		client->draining = true;
		if (calls_idle(client))
			begin_closing(client);
	} else if (client->state != HPKV_DISCONNECTING) {
		give_up(client);
		finish_waiters(client, &client->disconnecting, NULL);
	}
	client_soon(client);
	return 0;
}

enum hpkv_state hpkv_client_state(const struct hpkv_client *client)
{
	return client->state;
}

struct server_limits client_server_limits(const struct hpkv_client *client)
{
	return client->limits;
}

const char *hpkv_state_name(enum hpkv_state state)
{
	switch (state) {
	case HPKV_DISCONNECTED:
		return "disconnected";
	case HPKV_CONNECTING:
		return "connecting";
	case HPKV_CONNECTED:
		return "connected";
	case HPKV_DISCONNECTING:
		return "disconnecting";
	case HPKV_RECONNECTING:
		return "reconnecting";
	}
	return "unknown";
}

/* --- listeners --- */

int hpkv_client_on(struct hpkv_client *client, enum hpkv_event_type type, hpkv_listener *fn, void *arg, uint64_t *id)
{
	return listeners_add(&client->listeners, type, (void (*)(void))fn, arg, id);
}

void hpkv_client_off(struct hpkv_client *client, uint64_t id)
{
	listeners_remove(&client->listeners, id);
}

int hpkv_subscribe(struct hpkv_client *client, hpkv_notification_fn *fn, void *arg, uint64_t *id)
{
	return listeners_add(&client->subscribers, 0, (void (*)(void))fn, arg, id);
}

void hpkv_unsubscribe(struct hpkv_client *client, uint64_t id)
{
	listeners_remove(&client->subscribers, id);
}
