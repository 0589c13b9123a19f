#include "client_driver.h"

#define MEMBER(name)                                      \
	{                                                 \
#name, offsetof(struct hpkv_config, name) \
	}

static const struct {
	const char *name;
	size_t offset;
} numbers[] = {
	MEMBER(token_lifetime_ms),
	MEMBER(connect_timeout_ms),
	MEMBER(operation_timeout_ms),
	MEMBER(ping_after_s),
	MEMBER(dead_after_s),
	MEMBER(max_reconnect_attempts),
	MEMBER(reconnect_initial_delay_ms),
	MEMBER(reconnect_max_delay_ms),
	MEMBER(reconnect_jitter_ms),
	MEMBER(max_in_flight),
	MEMBER(max_queued),
};

#define PATTERNS_MAX 16

/* All of it lies in the JSON and here until the client has its copy. */
static const struct hpkv_token_config *tokens(const json_t *object)
{
	static const char *patterns[PATTERNS_MAX + 1];
	static struct hpkv_token_config config;
	const json_t *list = json_object_get(object, "subscribe_patterns");

	if (!object)
		return NULL;
	for (size_t i = 0; i < json_array_size(list) && i < PATTERNS_MAX; i++)
		patterns[i] = json_string_value(json_array_get(list, i));
	config = (struct hpkv_token_config){
		.url = json_string_value(json_object_get(object, "url")),
		.api_key = json_string_value(json_object_get(object, "api_key")),
		.ca_file = json_string_value(json_object_get(object, "ca_file")),
		.insecure = json_is_true(json_object_get(object, "insecure")),
		.subscribe_patterns = patterns,
		.access_pattern = json_string_value(json_object_get(object, "access_pattern")),
		.timeout_ms = (unsigned)json_integer_value(json_object_get(object, "timeout_ms")),
	};
	return &config;
}

void driver_configure(struct hpkv_config *config, const struct driver *driver)
{
	const json_t *options = driver->options, *value;

	hpkv_config_init(config);
	config->url = driver->url;
	config->api_key = json_string_value(json_object_get(options, "api_key"));
	config->token = json_string_value(json_object_get(options, "token"));
	config->tokens = tokens(json_object_get(options, "tokens"));
	config->ca_file = json_string_value(json_object_get(options, "ca_file"));
	config->insecure = json_is_true(json_object_get(options, "insecure"));
	config->max_reconnect_attempts = 0;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		value = json_object_get(options, numbers[i].name);
		if (value)
			*(unsigned *)(void *)((char *)config + numbers[i].offset) = (unsigned)json_integer_value(value);
	}
	value = json_object_get(options, "max_message_bytes");
	if (value)
		config->max_message_bytes = (size_t)json_integer_value(value);
	value = json_object_get(options, "throttle");
	if (value)
		config->throttle = (struct hpkv_throttle){
			.enabled = json_is_true(json_object_get(value, "enabled")),
			.rate_per_s = json_number_value(json_object_get(value, "rate_per_s")),
		};
}
