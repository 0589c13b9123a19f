#include "client/client.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"

/* --- lifetime --- */

static void client_destroy(struct hpkv_client *client)
{
	loop_timer_cancel(&client->soon);
	loop_timer_cancel(&client->deadline);
	loop_timer_cancel(&client->close_timer);
	url_free(&client->url);
	if (client->api_key)
		explicit_bzero(client->api_key, strlen(client->api_key));
	if (client->token)
		explicit_bzero(client->token, strlen(client->token));
	free(client->api_key);
	free(client->token);
	free(client->ca_file);
	listeners_free(&client->listeners);
	listeners_free(&client->subscribers);
	buf_free(&client->out);
	message_free(&client->message);
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

static void finish_waiters(struct hpkv_client *client, struct waiter **list, const struct hpkv_error *error)
{
	struct waiter *waiter;

	LL_FOREACH(*list, waiter) {
		if (error)
			waiter->error = *error;
	}
	LL_CONCAT(client->finished, *list);
	*list = NULL;
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
		dial_start(client);
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
	if (client->freed)
		return;
	client_enter(client);
	listeners_each(&client->subscribers, 0, call_subscriber, (void *)notification);
	client_leave(client);
}

/* --- the connection's events --- */

static void begin_connecting(struct hpkv_client *client)
{
	client->state = HPKV_CONNECTING;
	client->start = true;
	client_soon(client);
}

void client_dial_failed(struct hpkv_client *client, const struct hpkv_error *error)
{
	struct hpkv_error reason = *error;

	/* -ENOENT of a request means that the server said so, and nothing else */
	if (reason.err == -ENOENT)
		reason.err = -ECONNREFUSED;
	client->state = HPKV_DISCONNECTED;
	calls_end_all(client, &reason);
	finish_waiters(client, &client->connecting, error);
	client_soon(client);
}

static void opened(void *arg)
{
	struct hpkv_client *client = arg;

	client_enter(client);
	dial_cancel(client);
	client->state = HPKV_CONNECTED;
	calls_connected(client);
	finish_waiters(client, &client->connecting, NULL);
	client_emit(client, (struct hpkv_event){ .type = HPKV_EVENT_CONNECTED });
	deliver_finished(client);
	client_leave(client);
}

static void lost(struct hpkv_client *client, const struct hpkv_error *error)
{
	connection_free(client->connection);
	client->connection = NULL;
	client->state = HPKV_DISCONNECTED;
	calls_lost(client, error, false);
	client_emit(client, (struct hpkv_event){ .type = HPKV_EVENT_DISCONNECTED, .error = error });
	calls_deliver_ended(client);
}

/* The end that hpkv_client_disconnect asked for. */
static void disconnected(struct hpkv_client *client)
{
	connection_free(client->connection);
	client->connection = NULL;
	loop_timer_cancel(&client->close_timer);
	client->state = HPKV_DISCONNECTED;
	finish_waiters(client, &client->disconnecting, NULL);
	if (client->wanted)
		begin_connecting(client);
	calls_deliver_ended(client);
	deliver_finished(client);
}

static void closed(void *arg, const struct hpkv_error *error)
{
	struct hpkv_client *client = arg;

	client_enter(client);
	if (client->state == HPKV_CONNECTING)
		dial_try_failed(client, error);
	else if (client->state == HPKV_DISCONNECTING)
		disconnected(client);
	else
		lost(client, error);
	client_leave(client);
}

static void close_timed_out(struct loop_timer *timer)
{
	struct hpkv_client *client = lws_container_of(timer, struct hpkv_client, close_timer);

	client_enter(client);
	disconnected(client);
	client_leave(client);
}

static void message(void *arg, struct str raw)
{
	struct hpkv_client *client = arg;

	client_enter(client);
	calls_message(client, raw);
	client_leave(client);
}

static struct buf *next_frame(void *arg)
{
	return calls_next_frame(arg);
}

const struct connection_events client_events = {
	.open = opened,
	.message = message,
	.next_frame = next_frame,
	.closed = closed,
};

/* --- configuration --- */

void hpkv_config_init(struct hpkv_config *config)
{
	*config = (struct hpkv_config){
		.connect_timeout_ms = 5000,
		.operation_timeout_ms = 10000,
		.max_message_bytes = 8 * 1024 * 1024,
	};
}

static int copy_string(const char *from, char **to)
{
	if (!from)
		return 0;
	*to = strdup(from);
	return *to ? 0 : -ENOMEM;
}

static int check_config(const struct hpkv_config *config, const struct url *url, struct hpkv_error *error)
{
	if (config->api_key && config->token)
		return error_set(error, -EINVAL, 0, "an API key and a token were given; a connection takes one");
	if (!config->api_key && !config->token && url->kind != URL_LOCAL)
		return error_set(error, -EINVAL, 0, "no API key and no token was given");
	if ((config->api_key && !*config->api_key) || (config->token && !*config->token))
		return error_set(error, -EINVAL, 0, "the API key or token is empty");
	if (config->connect_timeout_ms == 0 || config->operation_timeout_ms == 0)
		return error_set(error, -EINVAL, 0, "a timeout is 0");
	if (config->max_message_bytes == 0)
		return error_set(error, -EINVAL, 0, "max_message_bytes is 0");
	return 0;
}

static int configure(struct hpkv_client *client, const struct hpkv_config *config, struct hpkv_error *error)
{
	int r = url_parse(config->url, config->insecure, &client->url, error);

	if (r)
		return r;
	r = check_config(config, &client->url, error);
	if (r)
		return r;
	client->connect_timeout_ms = config->connect_timeout_ms;
	client->operation_timeout_ms = config->operation_timeout_ms;
	client->max_message_bytes = config->max_message_bytes;
	r = copy_string(config->api_key, &client->api_key);
	if (r == 0)
		r = copy_string(config->token, &client->token);
	if (r == 0)
		r = copy_string(config->ca_file, &client->ca_file);
	return r ? error_set(error, r, 0, "out of memory") : 0;
}

int hpkv_client_new(struct hpkv_loop *loop, const struct hpkv_config *config, struct hpkv_client **out,
		    struct hpkv_error *error)
{
	struct hpkv_client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return error_set(error, -ENOMEM, 0, "out of memory");
	client->loop = loop;
	client->dial.socket.dir_fd = -1;
	r = configure(client, config, error);
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

	if (!client || client->freed)
		return;
	error_set(&error, -ECANCELED, 0, "the client was freed");
	client->freed = true;
	client->wanted = false;
	client_enter(client);
	dial_cancel(client);
	connection_free(client->connection);
	client->connection = NULL;
	client->state = HPKV_DISCONNECTED;
	loop_timer_cancel(&client->soon);
	loop_timer_cancel(&client->deadline);
	loop_timer_cancel(&client->close_timer);
	calls_end_all(client, &error);
	finish_waiters(client, &client->connecting, &error);
	finish_waiters(client, &client->disconnecting, NULL);
	calls_deliver_ended(client);
	deliver_finished(client);
	client_leave(client);
}

/* --- connect and disconnect --- */

static void begin_closing(struct hpkv_client *client)
{
	client->draining = false;
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
	else
		client_soon(client);
	return 0;
}

int hpkv_client_disconnect(struct hpkv_client *client, bool cancel, void (*done)(void *arg), void *arg)
{
	struct hpkv_error error;
	struct waiter *waiter;

	if (client->freed)
		return -ECANCELED;
	waiter = new_waiter(&client->disconnecting, arg);
	if (!waiter)
		return -ENOMEM;
	waiter->disconnected = done;
	(void)cancel;
	error_set(&error, -ECANCELED, 0, "disconnected");
	client->wanted = false;
	client->start = false;
	calls_end_all(client, &error);
	finish_waiters(client, &client->connecting, &error);
	if (client->state == HPKV_CONNECTED) {
		client->state = HPKV_DISCONNECTING;
		connection_close(client->connection);
		loop_timer_set(client->loop->base, &client->close_timer,
			       client->connect_timeout_ms * (uint64_t)CLOCK_US_PER_MS, close_timed_out);
	} else if (client->state != HPKV_DISCONNECTING) {
		dial_cancel(client);
		connection_free(client->connection);
		client->connection = NULL;
		client->state = HPKV_DISCONNECTED;
		finish_waiters(client, &client->disconnecting, NULL);
	}
	client_soon(client);
	return 0;
}

enum hpkv_state hpkv_client_state(const struct hpkv_client *client)
{
	return client->state;
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
