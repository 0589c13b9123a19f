#include "client/dial.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "client/client.h"
#include "client/local.h"

/* A local server can end between the moment that it was found and the connect. */
#define LOCAL_ROUNDS 5

static void try_next(struct dial *dial);
static void find(struct dial *dial);

static uint64_t time_left(const struct dial *dial)
{
	uint64_t now = clock_now_us();

	return dial->deadline_us > now ? dial->deadline_us - now : 0;
}

void dial_init(struct dial *dial, struct hpkv_client *client)
{
	*dial = (struct dial){ .client = client, .socket.dir_fd = -1 };
}

void dial_cancel(struct dial *dial)
{
	connection_free(dial->connection);
	dial->connection = NULL;
	if (dial->job)
		job_cancel(dial->job);
	dial->job = NULL;
	loop_timer_cancel(&dial->timer);
	addresses_free(&dial->addresses);
	dial->next = 0;
	unix_path_close(&dial->socket);
	if (dial->path)
		explicit_bzero(dial->path, strlen(dial->path));
	free(dial->path);
	dial->path = NULL;
}

static void fail(struct dial *dial, const struct hpkv_error *error)
{
	struct hpkv_error reason = *error;

	dial_cancel(dial);
	dial->failed(dial, &reason);
}

static void fail_text(struct dial *dial, int err, const char *text)
{
	struct hpkv_error error;

	error_set(&error, err, 0, "%s", text);
	fail(dial, &error);
}

static void fail_early(struct dial *dial, int err)
{
	fail_text(dial, err, err == -EMSGSIZE ? "the API key or token is too long" : strerror(-err));
}

/* --- one try --- */

static void try_failed(struct dial *dial, const struct hpkv_error *error)
{
	dial->error = *error;
	connection_free(dial->connection);
	dial->connection = NULL;
	loop_timer_cancel(&dial->timer);
	/* the server has spoken: another address of the same host would say the same */
	if (error->code)
		fail(dial, error);
	else if (dial->client->url.kind == URL_LOCAL && dial->rounds < LOCAL_ROUNDS && time_left(dial))
		find(dial);
	else
		try_next(dial);
}

static void try_timed_out(struct loop_timer *timer)
{
	struct dial *dial = lws_container_of(timer, struct dial, timer);
	struct hpkv_client *client = dial->client;
	struct hpkv_error error;

	client_enter(client);
	error_set(&error, -ETIMEDOUT, 0, "%s did not answer in time",
		  client->url.kind == URL_TCP ? client->url.host : client->url.path);
	try_failed(dial, &error);
	client_leave(client);
}

static void try_closed(void *arg, const struct hpkv_error *error)
{
	struct dial *dial = arg;
	struct hpkv_client *client = dial->client;

	client_enter(client);
	try_failed(dial, error);
	client_leave(client);
}

static void try_opened(void *arg)
{
	struct dial *dial = arg;
	struct hpkv_client *client = dial->client;
	struct connection *connection = STEAL(dial->connection);

	client_enter(client);
	dial_cancel(dial);
	dial->opened(dial, connection);
	client_leave(client);
}

/* Messages and frames are for the connection's next owner. */
static const struct connection_events try_events = {
	.open = try_opened,
	.closed = try_closed,
};

static int try_address(struct dial *dial, const char *address, struct hpkv_error *error)
{
	const struct hpkv_client *client = dial->client;
	const struct connection_target target = {
		.address = address,
		.port = client->url.port,
		.tls = client->url.tls,
		.host = client->url.host,
		.path = dial->path,
		.ca_file = client->ca_file,
		.max_message_bytes = client->max_message_bytes,
		.ping_after_s = client->ping_after_s,
		.dead_after_s = client->dead_after_s,
	};

	return connection_open(client->loop, &target, &try_events, dial, &dial->connection, error);
}

static void try_next(struct dial *dial)
{
	struct loop *loop = dial->client->loop->base;

	while (dial->next < dial->addresses.count) {
		size_t left = dial->addresses.count - dial->next;
		const char *address = dial->addresses.list[dial->next++];
		uint64_t share = time_left(dial) / left;

		if (share == 0)
			break;
		if (try_address(dial, address, &dial->error) == 0) {
			loop_timer_set(loop, &dial->timer, share, try_timed_out);
			return;
		}
	}
	if (dial->error.err)
		fail(dial, &dial->error);
	else
		fail_text(dial, -ETIMEDOUT, "no connection could be made in time");
}

/* --- addresses --- */

static int set_path(struct dial *dial, const char *name, const char *secret)
{
	CLEANUP(buf_wipe) struct buf path = BUF_INIT;
	int r = url_add_ws_path(&dial->client->url, name, secret, &path);

	if (r)
		return r;
	dial->path = buf_take(&path).p;
	return 0;
}

static int set_socket(struct dial *dial)
{
	if (asprintf(&dial->addresses.list[0], "+%s", dial->socket.path) < 0) {
		dial->addresses.list[0] = NULL;
		return -ENOMEM;
	}
	dial->addresses.count = 1;
	return 0;
}

static void resolved(void *arg, struct addresses *addresses, const struct hpkv_error *error)
{
	struct dial *dial = arg;
	struct hpkv_client *client = dial->client;

	client_enter(client);
	dial->job = NULL;
	loop_timer_cancel(&dial->timer);
	if (error) {
		fail(dial, error);
	} else {
		dial->addresses = *addresses;
		*addresses = (struct addresses){ 0 };
		try_next(dial);
	}
	client_leave(client);
}

static void local_found(void *arg, struct local_server *server, const struct hpkv_error *error)
{
	struct dial *dial = arg;
	struct hpkv_client *client = dial->client;
	int r = 0;

	client_enter(client);
	dial->job = NULL;
	loop_timer_cancel(&dial->timer);
	if (error) {
		fail(dial, error);
	} else {
		dial->socket = server->socket;
		server->socket.dir_fd = -1;
		client->limits = server->limits;
		if (!dial->path)
			r = set_path(dial, "apiKey", server->key);
		if (r == 0)
			r = set_socket(dial);
		if (r == 0)
			try_next(dial);
		else
			fail_early(dial, r);
	}
	client_leave(client);
}

static void find_timed_out(struct loop_timer *timer)
{
	struct dial *dial = lws_container_of(timer, struct dial, timer);
	struct hpkv_client *client = dial->client;

	client_enter(client);
	fail_text(dial, -ETIMEDOUT, "the host's address could not be found in time");
	client_leave(client);
}

static int find_local(struct dial *dial)
{
	const struct hpkv_client *client = dial->client;

	dial->rounds++;
	return local_start(client->loop->base, client->url.path, dial->deadline_us, local_found, dial, &dial->job);
}

static int find_name(struct dial *dial)
{
	const struct hpkv_client *client = dial->client;
	int r = resolver_start(client->loop->base, &client->url, resolved, dial, &dial->job);

	if (r == 0)
		loop_timer_set(client->loop->base, &dial->timer, time_left(dial), find_timed_out);
	return r;
}

static int find_socket(struct dial *dial)
{
	int r = unix_path_open(dial->client->url.path, &dial->socket);

	if (r == 0)
		r = set_socket(dial);
	if (r == 0)
		try_next(dial);
	return r;
}

/* Starts afresh: whatever an earlier round found is let go. */
static void find(struct dial *dial)
{
	const struct hpkv_client *client = dial->client;
	const char *token = dial->token ? dial->token : client->token;
	int r = 0;

	dial_cancel(dial);
	if (token)
		r = set_path(dial, "token", token);
	else if (client->api_key)
		r = set_path(dial, "apiKey", client->api_key);
	if (r == 0 && client->url.kind == URL_LOCAL)
		r = find_local(dial);
	else if (r == 0 && client->url.kind == URL_TCP)
		r = find_name(dial);
	else if (r == 0)
		r = find_socket(dial);
	if (r)
		fail_early(dial, r);
}

void dial_start(struct dial *dial)
{
	dial->deadline_us = clock_now_us() + dial->client->connect_timeout_ms * (uint64_t)CLOCK_US_PER_MS;
	dial->error = (struct hpkv_error){ 0 };
	dial->rounds = 0;
	find(dial);
}
