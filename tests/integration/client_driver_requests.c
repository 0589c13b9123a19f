/* How requests are made, and what is known of them: options, rates, statistics. */
#include "client_driver.h"

#include <stdlib.h>
#include <string.h>

static struct hpkv_slice text(const json_t *string)
{
	return (struct hpkv_slice){ json_string_value(string), json_string_length(string) };
}

static int index_of(const char *name, const char *const *names)
{
	int i;

	for (i = 0; strcmp(name, names[i]) != 0; i++)
		if (!names[i + 1])
			abort();
	return i;
}

const struct hpkv_options *driver_request_options(struct driver_request_options *parsed, const json_t *json)
{
	static const char *const priorities[] = { "interactive", "background", NULL };
	static const char *const repeats[] = { "safe", "overwrite", "never", "refused", NULL };
	const json_t *value;

	*parsed = (struct driver_request_options){ 0 };
	if (json_is_integer(json))
		parsed->options.timeout_ms = (unsigned)json_integer_value(json);
	if (!json_is_object(json))
		return &parsed->options;
	parsed->options.timeout_ms = (unsigned)json_integer_value(json_object_get(json, "timeout_ms"));
	value = json_object_get(json, "priority");
	if (value)
		parsed->options.priority = (enum hpkv_priority)index_of(json_string_value(value), priorities);
	value = json_object_get(json, "repeat");
	if (value)
		parsed->options.repeat = (enum hpkv_repeat)index_of(json_string_value(value), repeats);
	value = json_object_get(json, "before");
	if (value) {
		parsed->before = text(value); /* null: it was absent */
		parsed->options.before = &parsed->before;
	}
	return &parsed->options;
}

static json_t *json_of_throttle(const struct hpkv_throttle *throttle)
{
	return json_pack("{s:b, s:f}", "enabled", throttle->enabled, "rate_per_s", throttle->rate_per_s);
}

static json_t *throttle_status(const struct driver *driver)
{
	struct hpkv_throttle_status status;

	hpkv_client_throttle_status(driver->client, &status);
	return json_pack("{s:s, s:o, s:f, s:i, s:i}", "event", "throttle", "config", json_of_throttle(&status.config),
			 "rate", status.current_rate_per_s, "queued", (int)status.queued, "pause_ms",
			 (int)status.pause_ms);
}

static void add_count(json_t *object, const char *name, uint64_t n)
{
	json_object_set_new(object, name, json_integer((json_int_t)n));
}

static json_t *stats(const struct driver *driver)
{
	struct hpkv_stats s;
	json_t *object = event("stats", 0), *requests = json_array();

	hpkv_client_stats(driver->client, &s);
	json_object_set_new(object, "state", json_string(hpkv_state_name(s.state)));
	json_object_set_new(object, "connected", json_boolean(s.connected));
	json_object_set_new(object, "rate", json_real(s.current_rate_per_s));
	for (int i = 0; i < HPKV_OPERATIONS; i++)
		json_array_append_new(requests, json_integer((json_int_t)s.requests[i]));
	json_object_set_new(object, "requests", requests);
	add_count(object, "reconnect_attempts", s.reconnect_attempts);
	add_count(object, "in_flight", s.in_flight);
	add_count(object, "queued", s.queued);
	add_count(object, "connections", s.connections);
	add_count(object, "succeeded", s.succeeded);
	add_count(object, "failed", s.failed);
	add_count(object, "timed_out", s.timed_out);
	add_count(object, "cancelled", s.cancelled);
	add_count(object, "repeated", s.repeated);
	add_count(object, "rate_limited", s.rate_limited);
	add_count(object, "notifications", s.notifications);
	add_count(object, "ignored", s.ignored);
	add_count(object, "messages_sent", s.messages_sent);
	add_count(object, "messages_received", s.messages_received);
	add_count(object, "bytes_sent", s.bytes_sent);
	add_count(object, "bytes_received", s.bytes_received);
	add_count(object, "rtt_count", s.rtt_count);
	add_count(object, "rtt_sum_us", s.rtt_sum_us);
	add_count(object, "rtt_min_us", s.rtt_min_us);
	add_count(object, "rtt_max_us", s.rtt_max_us);
	add_count(object, "rtt_median_us", hpkv_stats_rtt_us(&s, 0.5));
	return object;
}

bool driver_requests_command(struct driver *driver, const char *name, json_t *command)
{
	json_t *argument = json_array_get(command, 1), *one;
	size_t i;

	if (strcmp(name, "stats") == 0) {
		emit(stats(driver));
	} else if (strcmp(name, "throttle") == 0) {
		emit(throttle_status(driver));
	} else if (strcmp(name, "set_throttle") == 0) {
		const struct hpkv_throttle throttle = {
			.enabled = json_is_true(argument),
			.rate_per_s = json_number_value(json_array_get(command, 2)),
		};

		emit(json_pack("{s:s, s:i}", "event", "set_throttle", "err",
			       hpkv_client_set_throttle(driver->client, &throttle)));
	} else if (strcmp(name, "together") == 0) {
		json_array_foreach(argument, i, one)
			run(driver, one);
	} else {
		return false;
	}
	return true;
}
