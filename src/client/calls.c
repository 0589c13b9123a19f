#include "client/calls.h"

#include <errno.h>
#include <sys/random.h>

#include "base/clock.h"
#include "client/client.h"

/* Of a frame's memory so much is kept for the next. */
#define KEEP_BYTES (64u * 1024)

int calls_init(struct hpkv_client *client, const struct hpkv_config *config, struct hpkv_error *error)
{
	struct calls *calls = &client->calls;
	uint64_t seed, now = clock_now_us();

	if (config->max_in_flight == 0)
		return error_set(error, -EINVAL, 0, "max_in_flight is 0");
	if (config->max_queued == 0)
		return error_set(error, -EINVAL, 0, "max_queued is 0");
	if (throttle_check(&config->throttle) < 0)
		return error_set(error, -EINVAL, 0, "the throttle's rate_per_s is not a number from 0 to 1000000");
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) < 0)
		seed = now;
	throttle_init(&calls->throttle, &config->throttle, seed, now);
	throttle_bound_pause(&calls->throttle, config->operation_timeout_ms * (uint64_t)CLOCK_US_PER_MS / 4);
	calls->timeout_ms = config->operation_timeout_ms;
	calls->max_in_flight = config->max_in_flight;
	calls->max_queued = config->max_queued;
	return 0;
}

void calls_stop(struct hpkv_client *client)
{
	loop_timer_cancel(&client->calls.deadline);
	loop_timer_cancel(&client->calls.pace);
}

void calls_free(struct hpkv_client *client)
{
	request_table_free(&client->calls.table);
	buf_free(&client->calls.out);
	message_free(&client->calls.message);
}

/* Something may have become sendable. */
static void kick(struct hpkv_client *client)
{
	struct calls *calls = &client->calls;

	if (!calls->paced && client_serving(client) && calls->table.in_flight < calls->max_in_flight &&
	    request_next(&calls->table))
		connection_kick(client->connection);
}

/* --- endings --- */

static void count_end(struct hpkv_stats *stats, const struct hpkv_error *error)
{
	if (!error) {
		stats->succeeded++;
		return;
	}
	stats->failed++;
	stats->timed_out += error->err == -ETIMEDOUT;
	stats->cancelled += error->err == -ECANCELED;
}

void calls_finish(struct hpkv_request *request, const struct hpkv_reply *reply)
{
	struct hpkv_client *client = request->client;

	count_end(&client->stats, reply->error);
	request->callback(request->arg, reply);
	request_free(request);
	if (calls_idle(client))
		client_calls_idle(client);
}

void calls_finish_error(struct hpkv_request *request, struct hpkv_error *error)
{
	const struct hpkv_reply reply = { .error = error };

	error->unknown_outcome = request->doubt;
	client_censor(request->client, error);
	calls_finish(request, &reply);
}

bool calls_idle(const struct hpkv_client *client)
{
	return client->calls.table.count == client->calls.table.held_count;
}

void calls_end_all(struct hpkv_client *client, const struct hpkv_error *error)
{
	request_end_all(&client->calls.table, error->err);
	client->calls.lost = *error;
}

void calls_end_held(struct hpkv_client *client)
{
	struct request_table *table = &client->calls.table;

	while (table->held)
		request_end(table, table->held, -ECANCELED);
}

/* Each gets its own reason; the text that the connection's end left goes with all that ended for it. A client
 * that is being freed ends everything with -ECANCELED. */
void calls_deliver_ended(struct hpkv_client *client)
{
	struct hpkv_request *request;

	while ((request = request_take_ended(&client->calls.table))) {
		struct hpkv_error error = client->calls.lost;

		if (client->freed || request->ended == -ECANCELED)
			error_set(&error, -ECANCELED, 0, "the request was cancelled");
		else if (request->ended == -ENOMEM)
			error_set(&error, -ENOMEM, 0, "out of memory");
		else if (request->ended != error.err)
			error_set(&error, request->ended, 0, "the connection was lost");
		calls_finish_error(request, &error);
	}
	if (!client->freed)
		kick(client); /* those that were sent have made room */
}

/* --- deadlines --- */

static void deadline_fired(struct loop_timer *timer);

/* One timer serves all requests. It is left alone when the first of them is answered: it fires once too often
 * rather than being moved for every reply. */
static void deadline_arm(struct hpkv_client *client)
{
	struct calls *calls = &client->calls;
	struct hpkv_request *first = request_first_deadline(&calls->table);
	uint64_t now;

	if (!first || (calls->deadline_us && calls->deadline_us <= first->deadline_us))
		return;
	now = clock_now_us();
	calls->deadline_us = first->deadline_us;
	loop_timer_set(client->loop->base, &calls->deadline, first->deadline_us > now ? first->deadline_us - now : 0,
		       deadline_fired);
}

static void start_time(struct request_table *table, struct hpkv_request *request, uint64_t now_us)
{
	if (!request->deadline_us)
		request_set_deadline(table, request, now_us + request->timeout_ms * (uint64_t)CLOCK_US_PER_MS);
}

/* The time of what was never sent runs while that is nobody's wish: there is no connection, or the server refuses all. */
static void start_fresh_times(struct hpkv_client *client, uint64_t now_us)
{
	struct request_table *table = &client->calls.table;

	for (int i = 0; i < REQUEST_PRIORITIES; i++) {
		struct hpkv_request *request;

		for (request = table->fresh[i]; request; request = request->next)
			start_time(table, request, now_us);
	}
	deadline_arm(client);
}

static void stop_fresh_times(struct request_table *table)
{
	for (int i = 0; i < REQUEST_PRIORITIES; i++) {
		struct hpkv_request *request;

		for (request = table->fresh[i]; request; request = request->next)
			request_set_deadline(table, request, 0);
	}
}

static void time_out(struct hpkv_request *request, bool connected, bool in_flight)
{
	struct hpkv_error error;

	if (request->refused || (!in_flight && request->client->calls.refusing)) {
		error_set(&error, -ETIMEDOUT, 429, "the server refused too many requests for too long (429)");
	} else if (in_flight || connected) {
		error_set(&error, -ETIMEDOUT, 0, "the server did not answer within %u ms", request->timeout_ms);
	} else {
		error_set(&error, -ETIMEDOUT, 0, "there was no connection for %u ms", request->timeout_ms);
		error.kind = HPKV_ERROR_CONNECTION;
	}
	calls_finish_error(request, &error);
}

static void deadline_fired(struct loop_timer *timer)
{
	struct hpkv_client *client = lws_container_of(timer, struct hpkv_client, calls.deadline);
	struct request_table *table = &client->calls.table;
	struct hpkv_request *first;

	client->calls.deadline_us = 0;
	client_enter(client);
	while ((first = request_first_deadline(table)) && first->deadline_us <= clock_now_us()) {
		bool in_flight = first->place == REQUEST_SENT;

		request_forget(table, first);
		time_out(first, client_serving(client), in_flight);
	}
	if (!client->freed) {
		deadline_arm(client);
		kick(client);
	}
	client_leave(client);
}

/* --- sending --- */

static void pace_fired(struct loop_timer *timer)
{
	struct hpkv_client *client = lws_container_of(timer, struct hpkv_client, calls.pace);

	client->calls.paced = false;
	kick(client);
}

void calls_pace_anew(struct hpkv_client *client)
{
	loop_timer_cancel(&client->calls.pace);
	client->calls.paced = false;
	kick(client);
}

/* Encodes what goes out for a request; it is sent from then on. */
static int send_request(struct hpkv_client *client, struct hpkv_request *request, uint64_t now)
{
	struct calls *calls = &client->calls;
	const struct call look = { .op = OP_GET, .key = request->call.key };
	int r = request_sent(&calls->table, request, now);

	if (calls->out.capacity > KEEP_BYTES)
		buf_free(&calls->out);
	buf_clear(&calls->out);
	if (r == 0)
		r = codec_encode(&calls->out, request->id, request->look ? &look : &request->call);
	return r;
}

/* A SET right behind a GET of its key is there to change what that has read (store_swap). Others' changes may come between them
 * while it waits, so it does not: neither for the rate, nor for room, nor for the next write to the socket. */
static bool may_send(struct hpkv_client *client, const struct hpkv_request *request, uint64_t now, bool full)
{
	struct calls *calls = &client->calls;
	uint64_t wait_us;

	if (request->order == calls->along) {
		throttle_also(&calls->throttle);
		return true;
	}
	if (full || calls->table.in_flight >= calls->max_in_flight)
		return false;
	wait_us = throttle_take(&calls->throttle, now);
	if (wait_us) {
		calls->paced = true;
		loop_timer_set(client->loop->base, &calls->pace, wait_us, pace_fired);
	}
	return wait_us == 0;
}

/* Without the GET the SET that goes along is not sent either. */
static void out_of_memory(struct hpkv_client *client, struct hpkv_request *request, struct hpkv_request *along)
{
	request_end(&client->calls.table, request, -ENOMEM);
	if (along)
		request_end(&client->calls.table, along, -ENOMEM);
	client_soon(client);
}

struct buf *calls_next_frame(struct hpkv_client *client, bool full)
{
	struct calls *calls = &client->calls;
	struct hpkv_request *request;

	while ((request = request_next(&calls->table))) {
		struct hpkv_request *along = request_along(request);
		bool repeated = request->id != 0 && !request->look;
		uint64_t now = clock_now_us();

		if (!may_send(client, request, now, full))
			return NULL;
		calls->along = along ? along->order : 0;
		if (send_request(client, request, now) < 0) {
			out_of_memory(client, request, along);
			continue;
		}
		client->stats.repeated += repeated;
		request->refused = false;
		request->doubt = request->doubt || repeat_changes(request);
		start_time(&calls->table, request, now);
		deadline_arm(client);
		return &calls->out;
	}
	return NULL;
}

/* A SET has the time of the GET that it goes along with: it must not be left over, to go alone. */
static void start_queued_time(struct request_table *table, struct hpkv_request *request)
{
	const struct hpkv_request *former = request->prev;

	if (request_along(former) == request && former->timeout_ms == request->timeout_ms)
		request_set_deadline(table, request, former->deadline_us);
	start_time(table, request, clock_now_us());
}

void calls_queued(struct hpkv_client *client, struct hpkv_request *request)
{
	struct request_table *table = &client->calls.table;

	request_queue(table, request, client->draining);
	if (client->state != HPKV_CONNECTED || client->calls.refusing) {
		start_queued_time(table, request);
		deadline_arm(client);
	}
	kick(client);
}

/* --- receiving --- */

static void count_round_trip(struct hpkv_stats *stats, uint64_t us)
{
	unsigned bucket = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

	stats->rtt_us[bucket < HPKV_RTT_BUCKETS ? bucket : HPKV_RTT_BUCKETS - 1]++;
	if (stats->rtt_count == 0 || us < stats->rtt_min_us)
		stats->rtt_min_us = us;
	if (us > stats->rtt_max_us)
		stats->rtt_max_us = us;
	stats->rtt_count++;
	stats->rtt_sum_us += us;
}

/* The answer to a GET that was to tell whether a change is to be repeated. */
static void looked(struct hpkv_client *client, struct hpkv_request *request, int decoded)
{
	const struct hpkv_reply done = { 0 };
	enum repeat_verdict verdict = REPEAT_UNKNOWN;
	struct hpkv_reply found;
	struct hpkv_error error;

	if (decoded == 0) {
		message_reply(&client->calls.message, OP_GET, &found, &error);
		verdict = repeat_judge(request, &found);
	}
	if (verdict == REPEAT_AGAIN) {
		request->look = false;
		request->doubt = false;
		request_again(&client->calls.table, request);
		return;
	}
	request_forget(&client->calls.table, request);
	if (verdict == REPEAT_DONE) {
		calls_finish(request, &done);
		return;
	}
	error_set(&error, -ECONNRESET, 0, "the connection was lost, and whether the change took effect is not known");
	calls_finish_error(request, &error);
}

static void answered(struct hpkv_client *client, struct hpkv_request *request, int decoded)
{
	const struct hpkv_reply done = { 0 };
	int code = decoded == 0 ? client->calls.message.code : 0;
	struct hpkv_reply reply;
	struct hpkv_error error;

	request_forget(&client->calls.table, request);
	if (decoded < 0) {
		error_set(&error, decoded, 0,
			  decoded == -ENOMEM ? "out of memory" : "the server's reply makes no sense");
		calls_finish_error(request, &error);
		return;
	}
	message_reply(&client->calls.message, request->call.op, &reply, &error);
	if (code == 404 && request->lost && request->call.op == OP_DELETE)
		reply = done; /* an earlier sending has done it */
	if (code != 0 && code != 200)
		request->doubt = repeat_doubt_left(request); /* the server itself said so */
	if (reply.error)
		calls_finish_error(request, &error);
	else
		calls_finish(request, &reply);
}

/* True if it was a 429 and the request waits again. */
static bool refused(struct hpkv_client *client, struct hpkv_request *request, uint64_t now)
{
	struct calls *calls = &client->calls;

	if (calls->message.code != 429) {
		if (calls->refusing)
			stop_fresh_times(&calls->table);
		calls->refusing = false;
		if (throttle_succeeded(&calls->throttle, request->sent_us, now))
			calls_pace_anew(client);
		return false;
	}
	client->stats.rate_limited++;
	throttle_refused(&calls->throttle, request->sent_us, now);
	if (!calls->refusing)
		start_fresh_times(client, now);
	calls->refusing = true;
	return repeat_after_refusal(calls, request);
}

/* Counted, and told where it makes no sense. */
static void ignore(struct hpkv_client *client, int decoded)
{
	struct hpkv_error error;

	client->stats.ignored++;
	if (decoded == 0)
		return;
	error_set(&error, decoded, 0,
		  decoded == -ENOMEM ? "out of memory" : "the server sent a message that makes no sense");
	client_emit(client, (struct hpkv_event){ .type = HPKV_EVENT_ERROR, .error = &error });
}

static void reply_arrived(struct hpkv_client *client, int decoded)
{
	struct hpkv_request *request = request_find(&client->calls.table, client->calls.message.id);
	uint64_t now;

	if (!request) {
		ignore(client, decoded); /* late, unknown, or an id that was not sent yet */
		return;
	}
	now = clock_now_us();
	count_round_trip(&client->stats, now - request->sent_us);
	if (decoded == 0 && refused(client, request, now))
		return;
	if (request->look)
		looked(client, request, decoded);
	else
		answered(client, request, decoded);
}

void calls_message(struct hpkv_client *client, struct str raw)
{
	struct message *message = &client->calls.message;
	int r = message_decode(message, raw);

	if (!client_serving(client))
		return;
	if (r == 0 && message->kind == MESSAGE_NOTIFICATION) {
		client_notify(client, &message->notification);
		return;
	}
	reply_arrived(client, r);
	if (!client->freed)
		kick(client);
}

/* --- the connection comes and goes --- */

void calls_connected(struct hpkv_client *client)
{
	struct request_table *table = &client->calls.table;

	request_release(table);
	client->calls.refusing = false;
	stop_fresh_times(table);
	kick(client);
}

/* The connection was lost with these unanswered. */
static void repeat_or_end(struct hpkv_client *client, const struct hpkv_error *error, bool reconnecting, bool former)
{
	struct request_table *table = &client->calls.table;

	for (unsigned i = 0; i < table->slot_count; i++) {
		struct hpkv_request *request = table->slots[i];

		/* what made no sense once would end the next connection too */
		if (request && (request->former || !former) &&
		    (!reconnecting || error->err == -EPROTO || !repeat_after_loss(table, request)))
			request_end(table, request, error->err);
	}
	request_unblock(table);
}

void calls_lost(struct hpkv_client *client, const struct hpkv_error *error, bool reconnecting)
{
	repeat_or_end(client, error, reconnecting, false);
	client->calls.lost = *error;
	if (!reconnecting) {
		calls_end_all(client, error);
		return;
	}
	start_fresh_times(client, clock_now_us());
	client_soon(client);
}

void calls_lost_former(struct hpkv_client *client, const struct hpkv_error *error)
{
	if (!client->calls.table.former_count)
		return;
	repeat_or_end(client, error, true, true);
	client->calls.lost = *error;
	kick(client);
	client_soon(client);
}
