/* Requests on their way, without a socket: the frames that would go out are looked at, and the answers made up. */
#include "client/calls.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#include "base/clock.h"
#include "client/client.h"
#include "fail_alloc.h"
#include "unit.h"

void __wrap_connection_kick(struct connection *connection);

static unsigned kicks;

void __wrap_connection_kick(struct connection *connection)
{
	(void)connection;
	kicks++;
}

struct outcome {
	int count;
	struct hpkv_error error;
	bool failed;
};

struct rig {
	struct hpkv_loop *loop;
	struct hpkv_client *client;
	struct outcome outcomes[8];
};

static void ended(void *arg, const struct hpkv_reply *reply)
{
	struct outcome *outcome = arg;

	outcome->count++;
	outcome->failed = reply->error != NULL;
	if (reply->error)
		outcome->error = *reply->error;
}

/* A client that believes in its connection. */
static struct rig *make(unsigned max_in_flight)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct hpkv_config config;

	assert_non_null(rig);
	hpkv_config_init(&config);
	config.url = "http://127.0.0.1:1";
	config.api_key = "key";
	config.max_in_flight = max_in_flight;
	assert_int_equal(hpkv_loop_new(&rig->loop), 0);
	assert_int_equal(hpkv_client_new(rig->loop, &config, &rig->client, NULL), 0);
	rig->client->wanted = true;
	rig->client->state = HPKV_CONNECTED;
	return rig;
}

static void drop(struct rig *rig)
{
	hpkv_client_free(rig->client);
	hpkv_loop_free(rig->loop);
	free(rig);
}

static struct str next_frame_of(struct rig *rig, bool full)
{
	struct buf *frame = calls_next_frame(rig->client, full);

	return frame ? buf_str(frame) : (struct str){ 0 };
}

static struct str next_frame(struct rig *rig)
{
	return next_frame_of(rig, false);
}

static void answer(struct rig *rig, const char *text)
{
	client_enter(rig->client);
	calls_message(rig->client, str_c(text));
	client_leave(rig->client);
}

static void end_throttling(struct rig *rig)
{
	assert_int_equal(hpkv_client_set_throttle(rig->client, &(struct hpkv_throttle){ .enabled = true }), 0);
	rig->client->calls.throttle.pause_us = 0;
	rig->client->calls.throttle.delay_us = 0;
}

static void lose(struct rig *rig)
{
	struct hpkv_error error;

	error_set(&error, -ECONNRESET, 0, "lost");
	rig->client->state = HPKV_RECONNECTING;
	client_enter(rig->client);
	calls_lost(rig->client, &error, true);
	calls_deliver_ended(rig->client);
	client_leave(rig->client);
}

static void connect_again(struct rig *rig)
{
	rig->client->state = HPKV_CONNECTED;
	calls_connected(rig->client);
}

static void set(struct rig *rig, const char *key, const char *value, const struct hpkv_options *options,
		struct outcome *outcome)
{
	assert_int_equal(hpkv_set(rig->client, hpkv_str(key), hpkv_str(value), options, ended, outcome, NULL), 0);
}

static void assert_frame(struct str frame, const char *expected)
{
	if (!str_equal(frame, str_c(expected)))
		fail_msg("%.*s instead of %s", (int)frame.len, frame.p, expected);
}

static void frames_as_the_protocol_wants(void **state)
{
	struct rig *rig = make(10);
	const struct hpkv_slice a = hpkv_str("a");

	(void)state;
	kicks = 0;
	assert_int_equal(hpkv_get(rig->client, a, NULL, ended, &rig->outcomes[0], NULL), 0);
	assert_int_equal(kicks, 1);
	assert_int_equal(hpkv_range(rig->client, a, hpkv_str("b"), 7, NULL, ended, &rig->outcomes[1], NULL), 0);
	assert_int_equal(hpkv_atomic(rig->client, a, hpkv_str("-1.50"), NULL, ended, &rig->outcomes[2], NULL), 0);
	assert_frame(next_frame(rig), "{\"op\":1,\"messageId\":1,\"key\":\"a\"}");
	assert_frame(next_frame(rig), "{\"op\":5,\"messageId\":2,\"key\":\"a\",\"endKey\":\"b\",\"limit\":7}");
	assert_frame(next_frame(rig), "{\"op\":6,\"messageId\":3,\"key\":\"a\",\"value\":-1.50}");
	assert_null(next_frame(rig).p);
	drop(rig);
}

static void an_answer_to_an_earlier_sending_is_nobodys(void **state)
{
	const struct hpkv_slice absent = { 0 };
	const struct hpkv_options options = { .before = &absent };
	struct rig *rig = make(10);
	struct outcome *outcome = &rig->outcomes[0];

	(void)state;
	set(rig, "a", "1", &options, outcome);
	assert_frame(next_frame(rig), "{\"op\":2,\"messageId\":1,\"key\":\"a\",\"value\":\"1\"}");
	answer(rig, "{\"messageId\":1,\"code\":429}");
	end_throttling(rig);
	assert_frame(next_frame(rig), "{\"op\":2,\"messageId\":2,\"key\":\"a\",\"value\":\"1\"}");
	answer(rig, "{\"messageId\":1,\"code\":200,\"success\":true}");
	assert_int_equal(outcome->count, 0);
	lose(rig);
	connect_again(rig);
	assert_frame(next_frame(rig), "{\"op\":1,\"messageId\":3,\"key\":\"a\"}");
	answer(rig, "{\"messageId\":2,\"code\":200,\"success\":true}");
	assert_int_equal(outcome->count, 0);
	answer(rig, "{\"messageId\":3,\"code\":404,\"error\":\"Record not found\"}");
	assert_frame(next_frame(rig), "{\"op\":2,\"messageId\":4,\"key\":\"a\",\"value\":\"1\"}");
	answer(rig, "{\"messageId\":4,\"code\":200,\"success\":true}");
	assert_int_equal(outcome->count, 1);
	assert_false(outcome->failed);
	assert_int_equal(rig->client->stats.ignored, 2);
	assert_int_equal(rig->client->stats.repeated, 2);
	drop(rig);
}

/* What a change did is unknown from its sending on, and known again once the server or a reading has told. */
static void the_outcome_is_unknown_only_where_it_is(void **state)
{
	const struct hpkv_slice absent = { 0 };
	const struct hpkv_options options = { .before = &absent };
	struct rig *rig = make(10);
	struct hpkv_request *request;

	(void)state;
	for (int step = 0; step < 6; step++) {
		struct outcome *outcome = &rig->outcomes[step];
		char text[80];

		assert_int_equal(
			hpkv_set(rig->client, hpkv_str("a"), hpkv_str("1"), &options, ended, outcome, &request), 0);
		end_throttling(rig);
		if (step >= 1)
			assert_non_null(next_frame(rig).p);
		if (step == 2) {
			snprintf(text, sizeof(text), "{\"messageId\":%u,\"code\":429}", request->id);
			answer(rig, text);
		}
		if (step >= 3)
			lose(rig);
		if (step >= 4) {
			connect_again(rig);
			assert_non_null(next_frame(rig).p);
		}
		if (step == 5) {
			snprintf(text, sizeof(text), "{\"messageId\":%u,\"code\":404}", request->id);
			answer(rig, text);
		}
		hpkv_request_cancel(request);
		hpkv_request_cancel(request);
		client_enter(rig->client);
		calls_deliver_ended(rig->client);
		client_leave(rig->client);
		rig->client->state = HPKV_CONNECTED;
		assert_int_equal(outcome->count, 1);
		assert_int_equal(outcome->error.err, -ECANCELED);
		assert_int_equal(outcome->error.unknown_outcome, step == 1 || step == 3 || step == 4);
	}
	drop(rig);
}

static void no_more_in_flight_than_allowed(void **state)
{
	struct rig *rig = make(2);

	(void)state;
	for (int i = 0; i < 3; i++)
		set(rig, "a", "1", NULL, &rig->outcomes[i]);
	assert_non_null(next_frame(rig).p);
	assert_non_null(next_frame(rig).p);
	assert_null(next_frame(rig).p);
	kicks = 0;
	answer(rig, "{\"messageId\":2,\"code\":200,\"success\":true}");
	assert_int_equal(kicks, 1);
	assert_non_null(next_frame(rig).p);
	drop(rig);
	assert_int_equal(kicks, 1);
}

/* --- a SET right behind a GET of its key --- */

static void get_and_set(struct rig *rig, struct outcome *outcomes, struct hpkv_request **second)
{
	const struct hpkv_slice a = hpkv_str("a");

	assert_int_equal(hpkv_get(rig->client, a, NULL, ended, &outcomes[0], NULL), 0);
	assert_int_equal(hpkv_set(rig->client, a, hpkv_str("1"), NULL, ended, &outcomes[1], second), 0);
}

static void throttle_to(struct rig *rig, double rate)
{
	const struct hpkv_throttle throttle = { .enabled = true, .rate_per_s = rate };

	assert_int_equal(hpkv_client_set_throttle(rig->client, &throttle), 0);
}

static void assert_pair(struct rig *rig, bool full)
{
	assert_int_equal(strncmp(next_frame(rig).p, "{\"op\":1,", 8), 0);
	assert_int_equal(strncmp(next_frame_of(rig, full).p, "{\"op\":2,", 8), 0);
}

static void both_go_out_where_one_may(void **state)
{
	(void)state;
	for (int limit = 0; limit < 3; limit++) {
		struct rig *rig = make(limit == 0 ? 1 : 10);

		get_and_set(rig, rig->outcomes, NULL);
		set(rig, "a", "2", NULL, &rig->outcomes[2]);
		if (limit == 1)
			throttle_to(rig, 0.001);
		assert_pair(rig, limit == 2);
		assert_null(next_frame_of(rig, limit == 2).p);
		assert_int_equal(rig->client->calls.paced, limit == 1);
		if (limit == 1)
			assert_true(rig->client->calls.throttle.tokens < -0.9);
		drop(rig);
	}
}

static void both_go_out_to_see_after_a_pause(void **state)
{
	struct rig *rig = make(10);
	struct throttle *throttle = &rig->client->calls.throttle;

	(void)state;
	set(rig, "b", "1", NULL, &rig->outcomes[2]);
	assert_non_null(next_frame(rig).p);
	get_and_set(rig, rig->outcomes, NULL);
	set(rig, "c", "1", NULL, &rig->outcomes[3]);
	/* one that is not sent again */
	answer(rig, "{\"messageId\":1,\"code\":429}");
	hpkv_request_cancel(rig->client->calls.table.again[0].rbh_root);
	assert_null(next_frame(rig).p);
	throttle->pause_us = clock_now_us();
	throttle->delay_us = 3600ull * CLOCK_US_PER_S;
	assert_pair(rig, false);
	assert_null(next_frame(rig).p);
	drop(rig);
}

static void nothing_else_goes_along(void **state)
{
	(void)state;
	for (int other = 0; other < 4; other++) {
		struct rig *rig = make(1);
		struct hpkv_request *second;
		const struct hpkv_slice a = hpkv_str("a"), value = hpkv_str("1");

		if (other < 3)
			assert_int_equal(hpkv_get(rig->client, a, NULL, ended, &rig->outcomes[0], NULL), 0);
		if (other == 0)
			set(rig, "b", "1", NULL, &rig->outcomes[1]);
		else if (other == 1)
			assert_int_equal(hpkv_patch(rig->client, a, value, NULL, ended, &rig->outcomes[1], NULL), 0);
		else if (other == 2)
			set(rig, "a", "1", &(struct hpkv_options){ .priority = HPKV_BACKGROUND }, &rig->outcomes[1]);
		else
			get_and_set(rig, rig->outcomes, &second);
		set(rig, "a", "2", NULL, &rig->outcomes[2]);
		if (other == 2) {
			assert_pair(rig, false); /* with the one of its priority */
		} else {
			assert_non_null(next_frame(rig).p);
			if (other == 3)
				hpkv_request_cancel(second);
		}
		assert_null(next_frame(rig).p);
		drop(rig);
	}
}

/* What waits for a connection: the time of one must not be over before that of the other, or the SET would go alone. */
static void both_have_the_same_time(void **state)
{
	struct rig *rig = make(10);
	struct hpkv_request *second;

	(void)state;
	rig->client->state = HPKV_RECONNECTING;
	get_and_set(rig, rig->outcomes, &second);
	set(rig, "a", "2", NULL, &rig->outcomes[2]);
	assert_true(second->deadline_us);
	assert_int_equal(second->prev->deadline_us, second->deadline_us);
	rig->client->state = HPKV_CONNECTED;
	drop(rig);
}

static void without_memory_for_one_neither_goes_out(void **state)
{
	struct rig *rig = make(10);
	struct str frame;

	(void)state;
	get_and_set(rig, rig->outcomes, NULL);
	fail_alloc_at(1);
	frame = next_frame(rig);
	assert_true(fail_alloc_end());
	assert_null(frame.p);
	client_enter(rig->client);
	calls_deliver_ended(rig->client);
	client_leave(rig->client);
	for (int i = 0; i < 2; i++)
		assert_int_equal(rig->outcomes[i].error.err, -ENOMEM);
	assert_null(next_frame(rig).p);
	drop(rig);
}

/* --- lack of memory --- */

/* One request with the n-th allocation failing. Answers whether one failed. */
static bool with_failure(struct rig *rig, unsigned n)
{
	struct outcome outcome = { 0 };
	struct hpkv_request *request;
	char text[200];
	int r, sent;
	bool failed;

	fail_alloc_at(n);
	r = hpkv_set(rig->client, hpkv_str("a \"key\"\n"), hpkv_str("a \"value\"\n"), NULL, ended, &outcome, &request);
	sent = r == 0 && next_frame(rig).p;
	if (sent) {
		snprintf(text, sizeof(text), "{\"messageId\":%u,\"code\":200,\"success\":true,\"more\":[\"\\n\"]}",
			 request->id);
		answer(rig, text);
	}
	failed = fail_alloc_end();
	/* without memory to read its id, an answer is as good as lost */
	if (sent && outcome.count == 0)
		hpkv_request_cancel(request);
	if (r == 0)
		calls_deliver_ended(rig->client);
	assert_int_equal(outcome.count, r == 0 ? 1 : 0);
	assert_int_equal(r != 0 || outcome.failed, failed);
	if (outcome.failed)
		assert_int_equal(outcome.error.unknown_outcome, sent);
	if (r)
		assert_int_equal(r, -ENOMEM);
	assert_int_equal(rig->client->calls.table.count, 0);
	return failed;
}

static void out_of_memory(void **state)
{
	struct rig *rig;
	unsigned failures = 0;
	bool failed = true;

	(void)state;
	for (unsigned n = 1; failed; n++) {
		rig = make(10); /* nothing is left over from a former one */
		failed = with_failure(rig, n);
		failures += failed;
		drop(rig);
	}
	assert_true(failures > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_as_the_protocol_wants),
		cmocka_unit_test(an_answer_to_an_earlier_sending_is_nobodys),
		cmocka_unit_test(the_outcome_is_unknown_only_where_it_is),
		cmocka_unit_test(no_more_in_flight_than_allowed),
		cmocka_unit_test(both_go_out_where_one_may),
		cmocka_unit_test(both_go_out_to_see_after_a_pause),
		cmocka_unit_test(nothing_else_goes_along),
		cmocka_unit_test(both_have_the_same_time),
		cmocka_unit_test(without_memory_for_one_neither_goes_out),
		cmocka_unit_test(out_of_memory),
	};

	json_set_alloc_funcs(fail_alloc_malloc, free);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
