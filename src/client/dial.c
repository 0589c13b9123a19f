/* From a URL to a connection: find the addresses (or the local server), then try each in turn. All of it has
 * connect_timeout_ms; an address that does not answer gets its share of what is left, so that the next one is
 * reached. */
#include "client/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

/* A local server can end between the moment that it was found and the connect. */
#define LOCAL_ROUNDS 5

static void try_next(struct hpkv_client *client);
static void find(struct hpkv_client *client);

static uint64_t time_left(const struct hpkv_client *client)
{
	uint64_t now = clock_now_us();

	return client->dial.deadline_us > now ? client->dial.deadline_us - now : 0;
}

void dial_cancel(struct hpkv_client *client)
{
	struct dial *dial = &client->dial;

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

static void fail(struct hpkv_client *client, const struct hpkv_error *error)
{
	struct hpkv_error reason = *error;

	dial_cancel(client);
	client_dial_failed(client, &reason);
}

static void fail_text(struct hpkv_client *client, int err, const char *text)
{
	struct hpkv_error error;

	error_set(&error, err, 0, "%s", text);
	fail(client, &error);
}

/* --- one try --- */

static void try_timed_out(struct loop_timer *timer)
{
	struct hpkv_client *client = lws_container_of(timer, struct hpkv_client, dial.timer);
	struct hpkv_error error;

	client_enter(client);
	error_set(&error, -ETIMEDOUT, 0, "%s did not answer in time",
		  client->url.kind == URL_TCP ? client->url.host : client->url.path);
	dial_try_failed(client, &error);
	client_leave(client);
}

static int try_address(struct hpkv_client *client, const char *address, struct hpkv_error *error)
{
	const struct connection_target target = {
		.address = address,
		.port = client->url.port,
		.tls = client->url.tls,
		.host = client->url.host,
		.path = client->dial.path,
		.ca_file = client->ca_file,
		.max_message_bytes = client->max_message_bytes,
	};

	return connection_open(client->loop, &target, &client_events, client, &client->connection, error);
}

void dial_try_failed(struct hpkv_client *client, const struct hpkv_error *error)
{
	struct dial *dial = &client->dial;

	dial->error = *error;
	connection_free(client->connection);
	client->connection = NULL;
	loop_timer_cancel(&dial->timer);
	/* the server has spoken: another address of the same host would say the same */
	if (error->code)
		fail(client, error);
	else if (client->url.kind == URL_LOCAL && dial->rounds < LOCAL_ROUNDS && time_left(client))
		find(client);
	else
		try_next(client);
}

static void try_next(struct hpkv_client *client)
{
	struct dial *dial = &client->dial;

	while (dial->next < dial->addresses.count) {
		size_t left = dial->addresses.count - dial->next;
		const char *address = dial->addresses.list[dial->next++];
		uint64_t share = time_left(client) / left;

		if (share == 0)
			break;
		if (try_address(client, address, &dial->error) == 0) {
			loop_timer_set(client->loop->base, &dial->timer, share, try_timed_out);
			return;
		}
	}
	if (dial->error.err)
		fail(client, &dial->error);
	else
		fail_text(client, -ETIMEDOUT, "no connection could be made in time");
}

/* --- addresses --- */

static int set_path(struct hpkv_client *client, const char *name, const char *secret)
{
	CLEANUP(buf_free) struct buf path = BUF_INIT;
	int r = url_add_ws_path(&client->url, name, secret, &path);

	if (r)
		return r;
	free(client->dial.path);
	client->dial.path = buf_take(&path).p;
	return 0;
}

static int set_socket(struct hpkv_client *client)
{
	struct dial *dial = &client->dial;

	if (asprintf(&dial->addresses.list[0], "+%s", dial->socket.path) < 0) {
		dial->addresses.list[0] = NULL;
		return -ENOMEM;
	}
	dial->addresses.count = 1;
	return 0;
}

static void resolved(void *arg, struct addresses *addresses, const struct hpkv_error *error)
{
	struct hpkv_client *client = arg;
	struct dial *dial = &client->dial;

	client_enter(client);
	dial->job = NULL;
	loop_timer_cancel(&dial->timer);
	if (error) {
		fail(client, error);
		client_leave(client);
		return;
	}
	for (size_t i = 0; i < addresses->count; i++) {
		/* "localhost" was allowed to go without TLS; what it resolves to must be that */
		if (client->url.loopback_only && !url_address_is_loopback(addresses->list[i]))
			continue;
		dial->addresses.list[dial->addresses.count++] = addresses->list[i];
		addresses->list[i] = NULL;
	}
	if (dial->addresses.count)
		try_next(client);
	else
		fail_text(client, -EHOSTUNREACH, "the host has no loopback address");
	client_leave(client);
}

static void local_found(void *arg, struct local_server *server, const struct hpkv_error *error)
{
	struct hpkv_client *client = arg;
	struct dial *dial = &client->dial;
	int r = 0;

	client_enter(client);
	dial->job = NULL;
	loop_timer_cancel(&dial->timer);
	if (error) {
		fail(client, error);
	} else {
		dial->socket = server->socket;
		server->socket.dir_fd = -1;
		if (!dial->path)
			r = set_path(client, "apiKey", server->key);
		if (r == 0)
			r = set_socket(client);
		if (r == 0)
			try_next(client);
		else
			fail_text(client, r, strerror(-r));
	}
	client_leave(client);
}

static void find_timed_out(struct loop_timer *timer)
{
	struct hpkv_client *client = lws_container_of(timer, struct hpkv_client, dial.timer);

	client_enter(client);
	fail_text(client, -ETIMEDOUT, "the host's address could not be found in time");
	client_leave(client);
}

static int find_local(struct hpkv_client *client)
{
	struct dial *dial = &client->dial;

	dial->rounds++;
	return local_start(client->loop->base, client->url.path, dial->deadline_us, local_found, client, &dial->job);
}

static int find_name(struct hpkv_client *client)
{
	struct dial *dial = &client->dial;
	int r = resolver_start(client->loop->base, client->url.host, resolved, client, &dial->job);

	if (r == 0)
		loop_timer_set(client->loop->base, &dial->timer, time_left(client), find_timed_out);
	return r;
}

static int find_socket(struct hpkv_client *client)
{
	int r = unix_path_open(client->url.path, &client->dial.socket);

	if (r == 0)
		r = set_socket(client);
	if (r == 0)
		try_next(client);
	return r;
}

/* Starts afresh: whatever an earlier round found is let go. */
static void find(struct hpkv_client *client)
{
	int r = 0;

	dial_cancel(client);
	if (client->token)
		r = set_path(client, "token", client->token);
	else if (client->api_key)
		r = set_path(client, "apiKey", client->api_key);
	if (r == 0 && client->url.kind == URL_LOCAL)
		r = find_local(client);
	else if (r == 0 && client->url.kind == URL_TCP)
		r = find_name(client);
	else if (r == 0)
		r = find_socket(client);
	if (r)
		fail_text(client, r, strerror(-r));
}

void dial_start(struct hpkv_client *client)
{
	client->dial.deadline_us = clock_now_us() + client->connect_timeout_ms * (uint64_t)CLOCK_US_PER_MS;
	client->dial.error = (struct hpkv_error){ 0 };
	client->dial.rounds = 0;
	find(client);
}
