#include "client/renewal.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/keyfile.h"
#include "client/client.h"
#include "client/token_expiry.h"

/* A token that lives shorter is renewed no more often. */
#define LIFE_LEAST_MS 500

/* So long requests wait for those on the former connection, so that changes of a key by this client keep their order. An
 * answer that takes longer is waited for, but holds nobody up. */
#define HOLD_US (1 * (uint64_t)CLOCK_US_PER_S)
/* So long the former connection is listened to after it has answered a ping: a server may answer pings at another place than
 * it notifies from. One that has not answered is pinged again as often. */
#define LINGER_US (1 * (uint64_t)CLOCK_US_PER_S)
#define TICK_US (20 * (uint64_t)CLOCK_US_PER_MS)

/* --- what the former has --- */

/* Nothing has come on it alone, or will. */
static bool proven(const struct renewal *renewal)
{
	return renewal->overlap.synced || renewal->answered_us;
}

/* The former is about to go. True: changes of which it alone notifies may be lost, which whoever listens must hear of, so
 * the client counts as disconnected. Calls the user then. */
static bool lose_unproven(struct hpkv_client *client)
{
	struct hpkv_error error;

	if (client->state != HPKV_CONNECTED || !client->subscribers.list || proven(&client->renewal))
		return false;
	error_set(&error, -ECONNRESET, 0,
		  "the connection with the former token ended before all its notifications had come");
	client_lose(client, &error);
	return true;
}

/* --- telling --- */

static void tell_kept(struct hpkv_client *client)
{
	struct heard *heard;

	while ((heard = overlap_take(&client->renewal.overlap))) {
		/* a callback may have disconnected */
		if (client_serving(client))
			client_tell(client, &heard->notification);
		free(heard);
	}
}

bool renewal_hears(struct hpkv_client *client, const struct hpkv_notification *notification)
{
	struct renewal *renewal = &client->renewal;
	bool tell;

	if (renewal->from_former || renewal->overlap.preparing)
		return overlap_first(&renewal->overlap, notification);
	if (overlap_second(&renewal->overlap, notification, &tell) == 0)
		return tell;
	if (lose_unproven(client))
		return false;
	renewal_lost(client);
	return client_serving(client);
}

/* --- the end of a former connection --- */

static void closing_ended(void *arg, const struct hpkv_error *error)
{
	struct hpkv_client *client = arg;

	(void)error;
	loop_timer_cancel(&client->renewal.closing_timer);
	connection_free(client->renewal.closing);
	client->renewal.closing = NULL;
}

static void closing_timed_out(struct loop_timer *timer)
{
	closing_ended(lws_container_of(timer, struct hpkv_client, renewal.closing_timer), NULL);
}

static void ignore_message(void *arg, struct str raw)
{
	(void)arg;
	(void)raw;
}

static struct buf *no_frame(void *arg, bool full)
{
	(void)arg;
	(void)full;
	return NULL;
}

static const struct connection_events closing_events = {
	.message = ignore_message,
	.next_frame = no_frame,
	.closed = closing_ended,
};

static void close_former(struct hpkv_client *client)
{
	struct renewal *renewal = &client->renewal;

	if (!renewal->former)
		return;
	connection_free(renewal->closing);
	renewal->closing = STEAL(renewal->former);
	connection_set_events(renewal->closing, &closing_events, client);
	connection_close(renewal->closing);
	loop_timer_set(client->loop->base, &renewal->closing_timer,
		       client->connect_timeout_ms * (uint64_t)CLOCK_US_PER_MS, closing_timed_out);
}

static void ticked(struct loop_timer *timer);

/* By then what the former told has come on the second too. */
static void forget_later(struct hpkv_client *client)
{
	loop_timer_set(client->loop->base, &client->renewal.tick, client->dead_after_s * (uint64_t)CLOCK_US_PER_S,
		       ticked);
}

static void release(struct hpkv_client *client)
{
	if (!client->renewal.holding)
		return;
	client->renewal.holding = false;
	if (client_serving(client))
		connection_kick(client->connection);
}

/* There is one connection again. */
static void end_overlap(struct hpkv_client *client)
{
	struct renewal *renewal = &client->renewal;

	close_former(client);
	overlap_end(&renewal->overlap);
	forget_later(client);
	release(client);
	tell_kept(client);
}

void renewal_lost(struct hpkv_client *client)
{
	struct hpkv_error error;

	if (!client->renewal.overlap.active)
		return;
	error_set(&error, -ECONNRESET, 0, "the connection was closed before the server answered");
	calls_lost_former(client, &error);
	end_overlap(client);
}

static bool former_needed(const struct hpkv_client *client)
{
	const struct renewal *renewal = &client->renewal;
	uint64_t since_us = clock_now_us() - renewal->answered_us;

	if (client->calls.table.former_count || !proven(renewal))
		return true;
	if (renewal->overlap.synced)
		return false;
	if (since_us < LINGER_US)
		return true;
	/* it lags behind; but one with the user's other token may simply not hear of the same keys */
	return renewal->source && renewal->overlap.kept.first &&
	       since_us < client->dead_after_s * (uint64_t)CLOCK_US_PER_S;
}

static void ping_former(struct renewal *renewal)
{
	renewal->pinged_us = clock_now_us();
	connection_ping(renewal->former);
}

static void look_at_former(struct hpkv_client *client)
{
	struct renewal *renewal = &client->renewal;

	if (!renewal->former)
		return;
	if (!proven(renewal) && clock_now_us() - renewal->pinged_us >= LINGER_US)
		ping_former(renewal);
	if (!client->calls.table.former_count || clock_now_us() - renewal->since_us >= HOLD_US)
		release(client);
	if (former_needed(client))
		loop_timer_set(client->loop->base, &renewal->tick, TICK_US, ticked);
	else
		end_overlap(client);
}

static void ticked(struct loop_timer *timer)
{
	struct hpkv_client *client = lws_container_of(timer, struct hpkv_client, renewal.tick);

	client_enter(client);
	if (client->renewal.former)
		look_at_former(client);
	else
		overlap_forget_told(&client->renewal.overlap);
	client_leave(client);
}

/* --- a former connection's events --- */

static void former_message(void *arg, struct str raw)
{
	struct hpkv_client *client = arg;

	client_enter(client);
	client->renewal.from_former = true;
	client_message(client, raw);
	client->renewal.from_former = false;
	if (!client->freed)
		look_at_former(client);
	client_leave(client);
}

static void former_pong(void *arg)
{
	struct hpkv_client *client = arg;

	if (!client->renewal.answered_us)
		client->renewal.answered_us = clock_now_us();
}

static void former_closed(void *arg, const struct hpkv_error *error)
{
	struct hpkv_client *client = arg;
	struct renewal *renewal = &client->renewal;

	client_enter(client);
	connection_free(renewal->former);
	renewal->former = NULL;
	calls_lost_former(client, error);
	if (!lose_unproven(client))
		end_overlap(client);
	client_leave(client);
}

static const struct connection_events former_events = {
	.message = former_message,
	.next_frame = no_frame,
	.pong = former_pong,
	.closed = former_closed,
};

/* --- the change-over --- */

static void set_timer(struct hpkv_client *client, uint64_t delay_us);

static void wait_for_expiry(struct hpkv_client *client)
{
	uint64_t now = clock_now_us(), due_us = client->renewal.due_us;

	if (client->renewal.source)
		set_timer(client, due_us > now ? due_us - now : 0);
}

static void opened(struct dial *dial, struct connection *connection)
{
	struct hpkv_client *client = dial->client;
	struct renewal *renewal = &client->renewal;

	if (client->state != HPKV_CONNECTED) {
		overlap_cancel(&renewal->overlap);
		connection_free(connection);
		return;
	}
	renewal->retry.attempts = 0;
	renewal->former = client_take_over(client, connection);
	connection_set_events(renewal->former, &former_events, client);
	request_turn(&client->calls.table);
	overlap_begin(&renewal->overlap);
	renewal->holding = client->calls.table.former_count > 0;
	renewal->answered_us = 0;
	renewal->since_us = clock_now_us();
	ping_former(renewal);
	loop_timer_set(client->loop->base, &renewal->tick, TICK_US, ticked);
	connection_kick(client->connection);
	if (!renewal->other_given)
		wait_for_expiry(client);
}

/* Before the second connection is dialled. False: that has become needless. May call the user. */
static bool prepare(struct hpkv_client *client)
{
	if (client->state != HPKV_CONNECTED)
		return false;
	/* the former of the present one is still waited for */
	renewal_lost(client);
	if (client->state != HPKV_CONNECTED)
		return false;
	loop_timer_cancel(&client->renewal.tick);
	overlap_prepare(&client->renewal.overlap);
	return true;
}

/* The connection stands, whatever kept another from being made: no message was misread on it. */
static void tell_failure(struct hpkv_client *client, const struct hpkv_error *error)
{
	struct hpkv_error told = *error;

	if (told.kind == HPKV_ERROR_PROTOCOL || told.kind == HPKV_ERROR_LOCAL)
		told.kind = HPKV_ERROR_CONNECTION;
	client_emit(client, (struct hpkv_event){ .type = HPKV_EVENT_ERROR, .error = &told });
}

static void failed(struct hpkv_client *client, const struct hpkv_error *error)
{
	struct renewal *renewal = &client->renewal;
	bool refused = error->code == 401 || error->code == 403;
	uint64_t random;

	if (client->state != HPKV_CONNECTED)
		return;
	if (renewal->overlap.preparing)
		forget_later(client);
	overlap_cancel(&renewal->overlap);
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		random = clock_now_us();
	/* what the user gave does not become better by itself */
	if ((renewal->source || !refused) && retry_next(&renewal->retry, random))
		set_timer(client, renewal->retry.delay_ms * (uint64_t)CLOCK_US_PER_MS);
	tell_failure(client, error);
}

static void dial_failed(struct dial *dial, const struct hpkv_error *error)
{
	failed(dial->client, error);
}

/* --- asking for a token --- */

/* 0 or -ENOMEM. */
static int take_token(struct renewal *renewal, const char *token)
{
	uint64_t life_ms = renewal->lifetime_ms;
	uint64_t left_ms = token_left_ms(token, clock_real_ns() / (CLOCK_NS_PER_S / 1000));
	char *copy = strdup(token);

	if (!copy)
		return -ENOMEM;
	keyfile_free(renewal->token);
	renewal->token = copy;
	if (left_ms && left_ms * 9 / 10 < life_ms)
		life_ms = left_ms * 9 / 10;
	if (life_ms < LIFE_LEAST_MS)
		life_ms = LIFE_LEAST_MS;
	renewal->due_us = clock_now_us() + life_ms * CLOCK_US_PER_MS;
	return 0;
}

static void got_token(struct dial *dial, const char *token, const struct hpkv_error *error)
{
	struct hpkv_client *client = dial->client;
	struct renewal *renewal = &client->renewal;
	struct hpkv_error memory;

	client_enter(client);
	renewal->asking = NULL;
	if (!error && take_token(renewal, token) < 0) {
		error_set(&memory, -ENOMEM, 0, "out of memory");
		error = &memory;
	}
	dial->token = renewal->token;
	if (error)
		dial->failed(dial, error);
	else
		dial_start(dial);
	client_leave(client);
}

static void got_first(void *arg, const char *token, const struct hpkv_error *error)
{
	struct hpkv_client *client = arg;

	got_token(&client->dial, token, error);
}

static void got_next(void *arg, const char *token, const struct hpkv_error *error)
{
	struct hpkv_client *client = arg;

	client->renewal.asking = NULL;
	client_enter(client);
	if (error || prepare(client))
		got_token(&client->renewal.dial, token, error);
	client_leave(client);
}

static void ask(struct hpkv_client *client, struct dial *dial,
		void (*done)(void *arg, const char *token, const struct hpkv_error *error))
{
	struct renewal *renewal = &client->renewal;
	struct hpkv_error error;

	if (token_start(client->loop, &renewal->config, done, client, &renewal->asking, &error) < 0)
		dial->failed(dial, &error);
}

void renewal_dial(struct hpkv_client *client)
{
	client->renewal.other_given = false;
	if (client->renewal.source)
		ask(client, &client->dial, got_first);
	else
		dial_start(&client->dial);
}

/* --- beginning and end --- */

static void stop_renewing(struct renewal *renewal)
{
	if (renewal->asking)
		token_cancel(renewal->asking);
	renewal->asking = NULL;
	dial_cancel(&renewal->dial);
	overlap_cancel(&renewal->overlap);
	loop_timer_cancel(&renewal->timer);
}

static void begin(struct hpkv_client *client)
{
	struct renewal *renewal = &client->renewal;

	stop_renewing(renewal);
	if (client->state != HPKV_CONNECTED)
		return;
	/* three connections are not kept apart */
	if (renewal->former && !proven(renewal)) {
		set_timer(client, TICK_US);
		return;
	}
	renewal->other_given = false;
	if (renewal->source)
		ask(client, &renewal->dial, got_next);
	else if (prepare(client))
		dial_start(&renewal->dial);
}

static void timer_fired(struct loop_timer *timer)
{
	struct hpkv_client *client = lws_container_of(timer, struct hpkv_client, renewal.timer);

	client_enter(client);
	begin(client);
	client_leave(client);
}

static void set_timer(struct hpkv_client *client, uint64_t delay_us)
{
	loop_timer_set(client->loop->base, &client->renewal.timer, delay_us, timer_fired);
}

void renewal_connected(struct hpkv_client *client)
{
	client->renewal.retry.attempts = 0;
	if (client->renewal.other_given)
		set_timer(client, 0);
	else
		wait_for_expiry(client);
}

void renewal_stop(struct hpkv_client *client)
{
	struct renewal *renewal = &client->renewal;

	stop_renewing(renewal);
	close_former(client);
	loop_timer_cancel(&renewal->tick);
	renewal->holding = false;
	overlap_free(&renewal->overlap);
}

int hpkv_client_set_token(struct hpkv_client *client, const char *token)
{
	char *copy;

	if (!client->token || !token || !*token)
		return -EINVAL;
	copy = strdup(token);
	if (!copy)
		return -ENOMEM;
	keyfile_free(client->token);
	client->token = copy;
	client->renewal.other_given = true;
	client->renewal.retry.attempts = 0;
	if (client->state == HPKV_CONNECTED)
		set_timer(client, 0);
	return 0;
}

/* --- configuration --- */

struct hpkv_token_config renewal_token_config(const struct hpkv_config *config)
{
	struct hpkv_token_config tokens = *config->tokens;

	tokens.insecure = tokens.insecure || (!tokens.url && config->insecure);
	if (!tokens.url)
		tokens.url = config->url;
	if (!tokens.api_key)
		tokens.api_key = config->api_key;
	if (!tokens.ca_file)
		tokens.ca_file = config->ca_file;
	if (!tokens.timeout_ms)
		tokens.timeout_ms = config->connect_timeout_ms;
	return tokens;
}

static int copy_string(const char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return from && !*to ? -ENOMEM : 0;
}

static int copy_patterns(struct hpkv_token_config *to, const struct hpkv_token_config *from)
{
	const char **patterns;
	size_t count = 0;
	int r = 0;

	if (!from->subscribe_patterns)
		return 0;
	while (from->subscribe_patterns[count])
		count++;
	patterns = calloc(count + 1, sizeof(*patterns));
	if (!patterns)
		return -ENOMEM;
	to->subscribe_patterns = patterns;
	for (size_t i = 0; i < count && r == 0; i++)
		r = copy_string(&patterns[i], from->subscribe_patterns[i]);
	return r;
}

static int copy_config(struct renewal *renewal, const struct hpkv_config *config)
{
	const struct hpkv_token_config from = renewal_token_config(config);
	struct hpkv_token_config *to = &renewal->config;
	int r = copy_string(&to->url, from.url);

	if (r == 0)
		r = copy_string(&to->api_key, from.api_key);
	if (r == 0)
		r = copy_string(&to->ca_file, from.ca_file);
	if (r == 0)
		r = copy_string(&to->access_pattern, from.access_pattern);
	if (r == 0)
		r = copy_patterns(to, &from);
	to->insecure = from.insecure;
	to->timeout_ms = from.timeout_ms;
	return r;
}

void renewal_init(struct hpkv_client *client)
{
	struct renewal *renewal = &client->renewal;

	dial_init(&renewal->dial, client);
	renewal->dial.opened = opened;
	renewal->dial.failed = dial_failed;
}

int renewal_configure(struct hpkv_client *client, const struct hpkv_config *config)
{
	struct renewal *renewal = &client->renewal;

	renewal->source = config->tokens;
	renewal->lifetime_ms = config->token_lifetime_ms;
	renewal->retry = (struct retry){
		.max_attempts = HPKV_FOREVER,
		.initial_delay_ms = config->reconnect_initial_delay_ms ? config->reconnect_initial_delay_ms : 1000,
		.max_delay_ms = config->reconnect_max_delay_ms ? config->reconnect_max_delay_ms : 30000,
		.jitter_ms = config->reconnect_jitter_ms,
	};
	return config->tokens ? copy_config(renewal, config) : 0;
}

void renewal_free(struct hpkv_client *client)
{
	struct renewal *renewal = &client->renewal;
	struct hpkv_token_config *config = &renewal->config;

	renewal_stop(client);
	closing_ended(client, NULL);
	keyfile_free(renewal->token);
	keyfile_free((char *)config->api_key);
	free((char *)config->url);
	free((char *)config->ca_file);
	free((char *)config->access_pattern);
	for (size_t i = 0; config->subscribe_patterns && config->subscribe_patterns[i]; i++)
		free((char *)config->subscribe_patterns[i]);
	free((void *)config->subscribe_patterns);
}
