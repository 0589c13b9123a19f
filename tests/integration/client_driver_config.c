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

void driver_configure(struct hpkv_config *config, const struct driver *driver)
{
	const json_t *options = driver->options, *value;

	hpkv_config_init(config);
	config->url = driver->url;
	config->api_key = json_string_value(json_object_get(options, "api_key"));
	config->token = json_string_value(json_object_get(options, "token"));
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
