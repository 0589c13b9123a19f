/* Several clients on one loop that do random things to each other, inside their callbacks too:
 *
 *   client_many_driver URL KEY SEED CALLS CONNECTIONS
 *
 * After so many calls, and so many connections that opened, all clients are freed. Prints what was begun and what was
 * answered, as one line of JSON. */
#include <libwebsockets.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "client/hpkv.h"

#define CLIENTS 6

struct many;

struct one {
	struct many *many;
	struct hpkv_client *client;
};

struct many {
	struct hpkv_loop *loop;
	const char *url, *key;
	uint64_t seed;
	long calls;       /* left */
	long connections; /* that must have opened */
	bool ending;
	atomic_bool stop; /* the thread that makes them */
	unsigned depth;   /* calls made inside callbacks of calls */
	struct one ones[CLIENTS];
	long connects, connected, disconnects, disconnected, requests, replies, opened, lost, freed;
};

static void act(struct many *many);

static unsigned below(struct many *many, unsigned limit)
{
	many->seed ^= many->seed >> 12;
	many->seed ^= many->seed << 25;
	many->seed ^= many->seed >> 27;
	return (unsigned)((many->seed * 0x2545f4914f6cdd1dULL) >> 33) % limit;
}

/* What a callback does: often nothing, sometimes something to any client, its own included. */
static void inside(struct many *many)
{
	if (many->ending || many->depth > 3 || below(many, 3))
		return;
	many->depth++;
	act(many);
	many->depth--;
}

static void on_event(void *arg, const struct hpkv_event *event)
{
	struct one *one = arg;

	if (!one->client)
		abort(); /* freed clients tell nothing */
	if (event->type == HPKV_EVENT_CONNECTED)
		one->many->opened++;
	if (event->type == HPKV_EVENT_DISCONNECTED)
		one->many->lost++;
	inside(one->many);
}

static void on_connect(void *arg, const struct hpkv_error *error)
{
	struct many *many = arg;

	(void)error;
	many->connected++;
	inside(many);
}

static void on_disconnect(void *arg)
{
	struct many *many = arg;

	many->disconnected++;
	inside(many);
}

static void on_reply(void *arg, const struct hpkv_reply *reply)
{
	struct many *many = arg;

	(void)reply;
	many->replies++;
	inside(many);
}

static void make(struct one *one)
{
	struct many *many = one->many;
	struct hpkv_config config;
	uint64_t id;

	hpkv_config_init(&config);
	config.url = many->url;
	config.api_key = many->key;
	config.ping_after_s = 1 + below(many, 5);
	config.dead_after_s = config.ping_after_s + 30;
	config.reconnect_initial_delay_ms = 1;
	config.reconnect_max_delay_ms = 5;
	config.reconnect_jitter_ms = 3;
	if (hpkv_client_new(many->loop, &config, &one->client, NULL) != 0)
		abort();
	for (int type = HPKV_EVENT_CONNECTED; type <= HPKV_EVENT_ERROR; type++)
		if (hpkv_client_on(one->client, (enum hpkv_event_type)type, on_event, one, &id) != 0)
			abort();
}

static void end(struct one *one)
{
	struct hpkv_client *client = one->client;

	one->client = NULL;
	one->many->freed++;
	hpkv_client_free(client);
}

static void request(struct many *many, struct hpkv_client *client)
{
	if (hpkv_set(client, hpkv_str("a"), hpkv_str("1"), NULL, on_reply, many, NULL) == 0)
		many->requests++;
}

static void act(struct many *many)
{
	struct one *one = &many->ones[below(many, CLIENTS)];
	unsigned what = below(many, 20);

	many->calls--;
	if (!one->client) {
		make(one);
	} else if (what == 0) {
		end(one);
	} else if (what < 3) {
		many->disconnects++;
		if (hpkv_client_disconnect(one->client, below(many, 2), on_disconnect, many) != 0)
			abort();
	} else if (what < 10) {
		many->connects++;
		if (hpkv_client_connect(one->client, on_connect, many) != 0)
			abort();
	} else {
		request(many, one->client);
	}
}

static void finish(struct many *many)
{
	many->ending = true;
	for (int i = 0; i < CLIENTS; i++)
		if (many->ones[i].client)
			end(&many->ones[i]);
	hpkv_loop_stop(many->loop);
}

/* A call from outside of all callbacks. */
static void turn(void *arg)
{
	struct many *many = arg;

	if (many->ending)
		return;
	if (many->calls > 0 || many->opened < many->connections)
		act(many);
	else
		finish(many);
}

/* Leaves the connections some time to come about. */
static void *keep_turning(void *arg)
{
	struct many *many = arg;
	const struct timespec pause = { .tv_nsec = 300 * 1000 };

	while (!atomic_load(&many->stop)) {
		if (hpkv_loop_post(many->loop, turn, many) != 0)
			abort();
		nanosleep(&pause, NULL);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct many many = { 0 };
	pthread_t thread;

	if (argc != 6)
		return 2;
	lws_set_log_level(0, NULL);
	many.url = argv[1];
	many.key = argv[2];
	many.seed = strtoul(argv[3], NULL, 10) + 1;
	many.calls = strtol(argv[4], NULL, 10);
	many.connections = strtol(argv[5], NULL, 10);
	if (hpkv_loop_new(&many.loop) != 0)
		return 2;
	for (int i = 0; i < CLIENTS; i++)
		many.ones[i].many = &many;
	if (pthread_create(&thread, NULL, keep_turning, &many) != 0)
		return 2;
	hpkv_loop_run(many.loop);
	atomic_store(&many.stop, true);
	pthread_join(thread, NULL);
	hpkv_loop_free(many.loop);
	printf("{\"connects\":%ld,\"connected\":%ld,\"disconnects\":%ld,\"disconnected\":%ld,\"requests\":%ld,"
	       "\"replies\":%ld,\"opened\":%ld,\"lost\":%ld,\"freed\":%ld}\n",
	       many.connects, many.connected, many.disconnects, many.disconnected, many.requests, many.replies,
	       many.opened, many.lost, many.freed);
	return 0;
}
