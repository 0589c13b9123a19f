/* Each connection has a client of its own: one that is not trusted any more is freed with it, at once and without the other side,
 * and nothing that it still brings is heard. */
#include "mount/subscription.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/keyfile.h"
#include "base/log.h"
#include "client/internal.h"
#include "client/retry.h"
#include "mount/test_hooks.h"

/* A server that is away is asked for often; one that has no tokens, or gives us none, hardly ever will. */
#define RETRY_FIRST_MS 200u
#define RETRY_MOST_MS 5000u
#define REFUSED_MOST_MS (5u * 60 * 1000)

/* One that stood shorter was no success: the delays go on growing. */
#define STOOD_US (60 * (uint64_t)CLOCK_US_PER_S)

/* The clocks drift apart by so much while the machine runs, because they are read one after the other. */
#define JUMP_US (1 * (uint64_t)CLOCK_US_PER_S)
#define LOOK_US (1 * (uint64_t)CLOCK_US_PER_S)

/* For the one request of a connection. */
#define CHECK_TIMEOUT_MS 5000u

/* A notification holds one value, but another program may have written a larger one than this mount does. */
#define MESSAGE_BYTES (8u * 1024 * 1024)

/* What is asked for: a key of the layout, below whatever prefix. Some servers match the whole key, some a part of it. */
#define CHECK_TAIL ".hpkvfs/fs"
#define CHECK_PATTERN "^.*\\.hpkvfs/fs$"

enum phase {
	PHASE_IDLE,       /* not started, or stopped */
	PHASE_WAITING,    /* for the next attempt */
	PHASE_CONNECTING, /* the token included */
	PHASE_CHECKING,   /* connected; the answer is awaited */
	PHASE_LIVE,
};

struct subscription {
	struct loop *loop;
	struct subscription_events events;
	struct hpkv_loop *client_loop;
	struct hpkv_client *client; /* NULL while there is none; the next is made like the last */
	char *url, *api_key, *ca_file;
	bool insecure;
	size_t max_value;
	struct buf prefix, pattern, check_key;

	enum phase phase;
	bool ended; /* by subscription_stop */
	uint64_t live_since_us;
	uint64_t ahead_us; /* CLOCK_BOOTTIME of CLOCK_MONOTONIC, when last looked at */
	struct loop_timer look;
	struct loop_timer again;
	struct retry retry;
	char logged[sizeof(((struct hpkv_error *)0)->text)]; /* the last failure that was; empty: it was live since */
	struct subscription_figures figures;                 /* but `live` */
	struct test_suspend test_suspend;
};

static void attempt(struct subscription *subscription);

/* --- attempts --- */

static void again_fired(struct loop_timer *timer)
{
	attempt(lws_container_of(timer, struct subscription, again));
}

/* What another attempt a moment later would not change. */
static bool lasting(const struct hpkv_error *error)
{
	if (error->code == 429 || error->code >= 500 || error->kind == HPKV_ERROR_CONNECTION ||
	    error->kind == HPKV_ERROR_TIMEOUT)
		return false;
	return error->err != -ENOMEM;
}

/* Once for each time that it is not live; what keeps it so for long is said even then. */
static void log_failure(struct subscription *subscription, const struct hpkv_error *error)
{
	if (*subscription->logged && (!lasting(error) || strcmp(subscription->logged, error->text) == 0))
		return;
	snprintf(subscription->logged, sizeof(subscription->logged), "%s", error->text);
	log_warning("the server does not tell of changes, so what was read holds for ttl=: %s", error->text);
}

/* Its calls that are under way end now, and find that they are not waited for. */
static void drop_client(struct subscription *subscription)
{
	struct hpkv_client *client = STEAL(subscription->client);

	subscription->phase = PHASE_IDLE;
	loop_timer_cancel(&subscription->look);
	hpkv_client_free(client);
}

static void retry_later(struct subscription *subscription, bool refused)
{
	struct retry *retry = &subscription->retry;
	uint64_t random;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		random = clock_now_us();
	retry->max_delay_ms = refused ? REFUSED_MOST_MS : RETRY_MOST_MS;
	if (!retry_next(retry, random))
		retry->delay_ms = retry->max_delay_ms; /* cannot be: they are without end */
	subscription->phase = PHASE_WAITING;
	loop_timer_set(subscription->loop, &subscription->again, retry->delay_ms * (uint64_t)CLOCK_US_PER_MS,
		       again_fired);
}

/* Whatever there is ends, and the next attempt comes. Events last: they may stop the subscription. */
static void give_up(struct subscription *subscription, const struct hpkv_error *error)
{
	bool live = subscription->phase == PHASE_LIVE;

	subscription->figures.lost += live;
	drop_client(subscription);
	if (live && clock_now_us() - subscription->live_since_us >= STOOD_US)
		subscription->retry.attempts = 0;
	log_failure(subscription, error);
	retry_later(subscription, !live && lasting(error));
	if (live)
		subscription->events.lost(subscription->events.arg);
}

static void give_up_for(struct subscription *subscription, int err, const char *text)
{
	struct hpkv_error error;

	error_set(&error, err, 0, "%s", text);
	give_up(subscription, &error);
}

/* --- suspend --- */

/* A clock that is read between the other and its use only seems to be behind: this never makes a jump up. */
static uint64_t ahead_us(struct subscription *subscription)
{
	uint64_t boot = clock_boot_us() + test_suspend_us(&subscription->test_suspend), now = clock_now_us();

	return boot > now ? boot - now : 0;
}

/* True: the machine was suspended, what the server told meanwhile may be lost, and the subscription was given up. */
static bool slept(struct subscription *subscription)
{
	uint64_t before = subscription->ahead_us;

	subscription->ahead_us = ahead_us(subscription);
	if (subscription->ahead_us < before + JUMP_US)
		return false;
	give_up_for(subscription, -ECONNRESET, "the machine was suspended");
	return true;
}

static void look_fired(struct loop_timer *timer)
{
	struct subscription *subscription = lws_container_of(timer, struct subscription, look);

	if (!slept(subscription))
		loop_timer_set(subscription->loop, timer, LOOK_US, look_fired);
}

/* --- the check --- */

static void become_live(struct subscription *subscription)
{
	if (slept(subscription))
		return;
	subscription->phase = PHASE_LIVE;
	subscription->live_since_us = clock_now_us();
	subscription->figures.begun++;
	if (*subscription->logged)
		log_info("the server tells of changes again");
	else
		log_debug("the server tells of changes");
	subscription->logged[0] = '\0';
	subscription->events.live(subscription->events.arg);
}

/* Of a key that is not there, or that the token does not open, the server has spoken on this connection as well. */
static void checked(void *arg, const struct hpkv_reply *reply)
{
	struct subscription *subscription = arg;
	const struct hpkv_error *error = reply->error;

	if (subscription->phase != PHASE_CHECKING)
		return;
	if (!error || error->code == 404 || error->code == 403)
		become_live(subscription);
	else
		give_up(subscription, error);
}

static void on_connected(void *arg, const struct hpkv_event *event)
{
	struct subscription *subscription = arg;
	const struct hpkv_slice key = { subscription->check_key.p, subscription->check_key.len };
	int r;

	(void)event;
	if (subscription->phase != PHASE_CONNECTING)
		return;
	subscription->phase = PHASE_CHECKING;
	subscription->ahead_us = ahead_us(subscription);
	loop_timer_set(subscription->loop, &subscription->look, LOOK_US, look_fired);
	r = hpkv_get(subscription->client, key, NULL, checked, subscription, NULL);
	if (r)
		give_up_for(subscription, r, strerror(-r));
}

/* --- what comes on a connection --- */

static void on_disconnected(void *arg, const struct hpkv_event *event)
{
	struct subscription *subscription = arg;

	if (event->error && (subscription->phase == PHASE_CHECKING || subscription->phase == PHASE_LIVE))
		give_up(subscription, event->error);
}

/* A change that cannot be read, or that there is no memory for, may be one of ours. A token that could not be renewed is tried
 * again by the library. */
static void on_error(void *arg, const struct hpkv_event *event)
{
	struct subscription *subscription = arg;

	if (subscription->phase != PHASE_LIVE)
		return;
	if (event->error->kind == HPKV_ERROR_PROTOCOL || event->error->kind == HPKV_ERROR_LOCAL)
		give_up(subscription, event->error);
	else
		log_debug("subscription: %s", event->error->text);
}

static void on_notification(void *arg, const struct hpkv_notification *notification)
{
	struct subscription *subscription = arg;
	const struct str prefix = buf_str(&subscription->prefix);
	const struct str key = str_of(notification->key.data, notification->key.size);
	const struct str value = str_of(notification->value.data, notification->value.size);

	/* what came before is seen by those who read it now */
	if (subscription->phase != PHASE_LIVE)
		return;
	if (key.len == 0 || !str_starts(key, prefix)) {
		subscription->figures.outside++;
		return;
	}
	subscription->figures.notified++;
	subscription->events.notified(subscription->events.arg, key, notification->value.data ? &value : NULL,
				      notification->timestamp_ms);
}

static void connected(void *arg, const struct hpkv_error *error)
{
	struct subscription *subscription = arg;

	if (error && subscription->phase == PHASE_CONNECTING)
		give_up(subscription, error);
}

/* --- a client --- */

/* No attempts of the library's own: what it refuses to try again, and how often, differs from what is wanted here. */
static void configure(const struct subscription *subscription, struct hpkv_config *config,
		      struct hpkv_token_config *tokens, const char *patterns[2])
{
	patterns[0] = subscription->pattern.p;
	patterns[1] = NULL;
	*tokens = (struct hpkv_token_config){
		.api_key = subscription->api_key,
		.subscribe_patterns = patterns,
		.access_pattern = CHECK_PATTERN,
	};
	hpkv_config_init(config);
	config->url = subscription->url;
	config->tokens = tokens;
	config->ca_file = subscription->ca_file;
	config->insecure = subscription->insecure;
	config->operation_timeout_ms = CHECK_TIMEOUT_MS;
	config->ping_after_s = 2;
	config->dead_after_s = 5;
	config->max_reconnect_attempts = 0;
	config->max_message_bytes = MESSAGE_BYTES + 8 * subscription->max_value;
}

static int make_client(struct subscription *subscription, struct hpkv_client **out, struct hpkv_error *error)
{
	static const struct {
		enum hpkv_event_type type;
		hpkv_listener *fn;
	} listeners[] = {
		{ HPKV_EVENT_CONNECTED, on_connected },
		{ HPKV_EVENT_DISCONNECTED, on_disconnected },
		{ HPKV_EVENT_ERROR, on_error },
	};
	struct hpkv_config config;
	struct hpkv_token_config tokens;
	const char *patterns[2];
	struct hpkv_client *client;
	uint64_t id;
	int r;

	configure(subscription, &config, &tokens, patterns);
	r = hpkv_client_new(subscription->client_loop, &config, &client, error);
	if (r)
		return r;
	r = hpkv_subscribe(client, on_notification, subscription, &id);
	for (size_t i = 0; r == 0 && i < sizeof(listeners) / sizeof(listeners[0]); i++)
		r = hpkv_client_on(client, listeners[i].type, listeners[i].fn, subscription, &id);
	if (r) {
		hpkv_client_free(client);
		return error_set(error, r, 0, "out of memory");
	}
	*out = client;
	return 0;
}

static void attempt(struct subscription *subscription)
{
	struct hpkv_error error;
	int r;

	if (subscription->ended)
		return;
	subscription->phase = PHASE_CONNECTING;
	r = make_client(subscription, &subscription->client, &error);
	if (r == 0) {
		r = hpkv_client_connect(subscription->client, connected, subscription);
		if (r)
			error_set(&error, r, 0, "%s", strerror(-r));
	}
	if (r)
		give_up(subscription, &error);
}

/* --- the interface --- */

void subscription_start(struct subscription *subscription)
{
	subscription->phase = PHASE_WAITING;
	loop_timer_set(subscription->loop, &subscription->again, 0, again_fired);
}

void subscription_doubt(struct subscription *subscription)
{
	if (subscription->phase == PHASE_LIVE)
		give_up_for(subscription, -ECONNRESET, "a change was not told of");
}

void subscription_stop(struct subscription *subscription)
{
	bool live;

	if (!subscription || subscription->ended)
		return;
	live = subscription->phase == PHASE_LIVE;
	subscription->ended = true;
	subscription->phase = PHASE_IDLE;
	loop_timer_cancel(&subscription->again);
	loop_timer_cancel(&subscription->look);
	if (subscription->client && hpkv_client_disconnect(subscription->client, true, NULL, NULL) < 0)
		drop_client(subscription);
	if (live)
		subscription->events.lost(subscription->events.arg);
}

struct subscription_figures subscription_figures(const struct subscription *subscription)
{
	struct subscription_figures figures = subscription->figures;

	figures.live = subscription->phase == PHASE_LIVE;
	return figures;
}

/* --- lifetime --- */

/* `*` stands for any characters, and cannot be escaped. Of the others nothing is promised, and servers may know them from
 * shells: where one stands, any characters are allowed, and what is too much is dropped as it comes. */
static int make_pattern(struct str prefix, struct buf *out)
{
	int r = 0;

	for (size_t i = 0; i < prefix.len && r == 0; i++)
		r = buf_add_char(out, strchr("*?[]{}\\!", prefix.p[i]) ? '*' : prefix.p[i]);
	return r ? r : buf_add_char(out, '*');
}

static int copy_string(const char *from, char **to)
{
	*to = from ? strdup(from) : NULL;
	return from && !*to ? -ENOMEM : 0;
}

static int copy(struct subscription *subscription, const struct subscription_config *config)
{
	int r = copy_string(config->url, &subscription->url);

	subscription->insecure = config->insecure;
	subscription->max_value = config->max_value;
	if (r == 0)
		r = copy_string(config->api_key, &subscription->api_key);
	if (r == 0)
		r = copy_string(config->ca_file, &subscription->ca_file);
	if (r == 0)
		r = buf_set(&subscription->prefix, config->prefix);
	if (r == 0)
		r = make_pattern(config->prefix, &subscription->pattern);
	if (r == 0)
		r = buf_set(&subscription->check_key, config->prefix);
	if (r == 0)
		r = buf_add_str(&subscription->check_key, STR(CHECK_TAIL));
	return r;
}

int subscription_new(struct loop *loop, const struct subscription_config *config,
		     const struct subscription_events *events, struct subscription **out, struct hpkv_error *error)
{
	struct subscription *subscription = calloc(1, sizeof(*subscription));
	struct hpkv_client *client;
	int r;

	if (!subscription)
		return error_set(error, -ENOMEM, 0, "out of memory");
	subscription->loop = loop;
	subscription->events = *events;
	subscription->retry = (struct retry){
		.max_attempts = HPKV_FOREVER,
		.initial_delay_ms = RETRY_FIRST_MS,
		.jitter_ms = RETRY_FIRST_MS / 2,
	};
	test_suspend_init(&subscription->test_suspend);
	r = copy(subscription, config);
	if (r == 0)
		r = hpkv_loop_wrap(loop, &subscription->client_loop);
	if (r)
		error_set(error, r, 0, "out of memory");
	else
		r = make_client(subscription, &client,
				error); /* a trial: what is wrong with the configuration is said now */
	if (r) {
		subscription_free(subscription);
		return r;
	}
	hpkv_client_free(client);
	*out = subscription;
	return 0;
}

void subscription_free(struct subscription *subscription)
{
	if (!subscription)
		return;
	subscription->ended = true;
	loop_timer_cancel(&subscription->again);
	drop_client(subscription);
	hpkv_loop_free(subscription->client_loop);
	buf_free(&subscription->prefix);
	buf_free(&subscription->pattern);
	buf_free(&subscription->check_key);
	free(subscription->url);
	keyfile_free(subscription->api_key);
	free(subscription->ca_file);
	free(subscription);
}
