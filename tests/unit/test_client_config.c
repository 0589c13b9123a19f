/* What a client's configuration may be. */
#include "client/internal.h"
#include "fail_alloc.h"
#include "unit.h"

static void defaults(void **state)
{
	struct hpkv_config config;

	(void)state;
	memset(&config, 0xff, sizeof(config));
	hpkv_config_init(&config);
	assert_null(config.url);
	assert_null(config.api_key);
	assert_null(config.token);
	assert_null(config.tokens);
	assert_null(config.ca_file);
	assert_false(config.insecure);
	assert_int_equal(config.token_lifetime_ms, 6600000);
	assert_int_equal(config.connect_timeout_ms, 5000);
	assert_int_equal(config.operation_timeout_ms, 10000);
	assert_int_equal(config.ping_after_s, 10);
	assert_int_equal(config.dead_after_s, 15);
	assert_int_equal(config.max_reconnect_attempts, 3);
	assert_int_equal(config.reconnect_initial_delay_ms, 1000);
	assert_int_equal(config.reconnect_max_delay_ms, 30000);
	assert_int_equal(config.reconnect_jitter_ms, 500);
	assert_true(config.throttle.enabled);
	assert_true(config.throttle.rate_per_s == 0);
	assert_int_equal(config.max_in_flight, 1024);
	assert_int_equal(config.max_queued, 65536);
	assert_int_equal(config.max_message_bytes, 8 << 20);
}

static struct hpkv_config usable(void)
{
	struct hpkv_config config;

	hpkv_config_init(&config);
	config.url = "http://127.0.0.1:1";
	config.api_key = "K";
	return config;
}

static int try(struct hpkv_loop *loop, const struct hpkv_config *config)
{
	struct hpkv_client *client = NULL;
	struct hpkv_error error = { .err = 1 };
	int r = hpkv_client_new(loop, config, &client, &error);

	if (r == 0) {
		assert_non_null(client);
		assert_int_equal(hpkv_client_state(client), HPKV_DISCONNECTED);
		hpkv_client_free(client);
		return 0;
	}
	assert_null(client);
	assert_int_equal(error.err, r);
	assert_int_equal(error.kind, HPKV_ERROR_LOCAL);
	assert_true(strlen(error.text) > 0);
	assert_int_equal(hpkv_client_new(loop, config, &client, NULL), r);
	return r;
}

#define CHECK(expected, ...)                                      \
	do {                                                      \
		struct hpkv_config config = usable();             \
		__VA_ARGS__;                                      \
		assert_int_equal(try(loop, &config), (expected)); \
	} while (0)

static void every_member_is_checked(void **state)
{
	static const struct hpkv_token_config tokens = { .api_key = "K" };
	struct hpkv_loop *loop;

	(void)state;
	assert_int_equal(hpkv_loop_new(&loop), 0);
	CHECK(0, );
	CHECK(-EINVAL, config.url = NULL);
	CHECK(-EINVAL, config.url = "ftp://127.0.0.1");
	CHECK(-EINVAL, config.url = "http://h.example");
	CHECK(0, config.url = "http://h.example", config.insecure = true);
	CHECK(-EINVAL, config.api_key = NULL);
	CHECK(-EINVAL, config.api_key = "");
	CHECK(-EINVAL, config.api_key = NULL, config.token = "");
	CHECK(-EINVAL, config.token = "T");
	CHECK(0, config.api_key = NULL, config.token = "T");
	CHECK(-EINVAL, config.api_key = NULL, config.token = "T", config.tokens = &tokens);
	CHECK(0, config.api_key = NULL, config.url = "local:/tmp/nowhere");
	CHECK(-EINVAL, config.connect_timeout_ms = 0);
	CHECK(-EINVAL, config.operation_timeout_ms = 0);
	CHECK(-EINVAL, config.token_lifetime_ms = 0);
	CHECK(-EINVAL, config.ping_after_s = 0);
	CHECK(-EINVAL, config.dead_after_s = 0);
	CHECK(-EINVAL, config.ping_after_s = 5, config.dead_after_s = 5);
	CHECK(0, config.ping_after_s = 5, config.dead_after_s = 6);
	CHECK(0, config.dead_after_s = 65535);
	CHECK(-EINVAL, config.dead_after_s = 65536);
	CHECK(0, config.max_reconnect_attempts = HPKV_FOREVER);
	CHECK(-EINVAL, config.reconnect_initial_delay_ms = 0);
	CHECK(-EINVAL, config.reconnect_max_delay_ms = 0);
	CHECK(0, config.max_reconnect_attempts = 0, config.reconnect_initial_delay_ms = 0);
	CHECK(0, config.reconnect_jitter_ms = 0);
	CHECK(0, config.throttle.enabled = false);
	CHECK(-EINVAL, config.throttle.rate_per_s = -1);
	CHECK(-EINVAL, config.throttle.rate_per_s = 2e6);
	CHECK(-EINVAL, config.max_in_flight = 0);
	CHECK(-EINVAL, config.max_queued = 0);
	CHECK(-EINVAL, config.max_message_bytes = 0);
	hpkv_loop_free(loop);
}

static void without_memory(void **state)
{
	struct hpkv_config config = usable();
	struct hpkv_client *client = NULL;
	struct hpkv_loop *loop;

	(void)state;
	assert_int_equal(hpkv_loop_new(&loop), 0);
	config.api_key = NULL;
	config.token = "T";
	config.ca_file = "/tmp/authorities";
	assert_survives_failures(hpkv_client_new(loop, &config, &client, NULL), {
		hpkv_client_free(client);
		client = NULL;
	});
	hpkv_loop_free(loop);
}

static void names_of_states(void **state)
{
	(void)state;
	assert_string_equal(hpkv_state_name(HPKV_DISCONNECTED), "disconnected");
	assert_string_equal(hpkv_state_name(HPKV_CONNECTING), "connecting");
	assert_string_equal(hpkv_state_name(HPKV_CONNECTED), "connected");
	assert_string_equal(hpkv_state_name(HPKV_DISCONNECTING), "disconnecting");
	assert_string_equal(hpkv_state_name(HPKV_RECONNECTING), "reconnecting");
	assert_non_null(hpkv_state_name((enum hpkv_state)99));
}

static void freeing_nothing(void **state)
{
	(void)state;
	hpkv_client_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),        cmocka_unit_test(every_member_is_checked),
		cmocka_unit_test(without_memory),  cmocka_unit_test(names_of_states),
		cmocka_unit_test(freeing_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
