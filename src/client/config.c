#include <errno.h>
#include <string.h>

#include "base/keyfile.h"
#include "client/client.h"

/* libwebsockets counts both in 16 bits. */
#define SILENCE_MAX_S UINT16_MAX

void hpkv_config_init(struct hpkv_config *config)
{
	*config = (struct hpkv_config){
		.token_lifetime_ms = 110 * 60 * 1000,
		.connect_timeout_ms = 5000,
		.operation_timeout_ms = 10000,
		.ping_after_s = 10,
		.dead_after_s = 15,
		.max_reconnect_attempts = 3,
		.reconnect_initial_delay_ms = 1000,
		.reconnect_max_delay_ms = 30000,
		.reconnect_jitter_ms = 500,
		.throttle.enabled = true,
		.max_in_flight = 1024,
		.max_queued = 65536,
		.max_message_bytes = 8 * 1024 * 1024,
	};
}

/* --- checks --- */

static int invalid(struct hpkv_error *error, const char *text)
{
	return error_set(error, -EINVAL, 0, "%s", text);
}

static int check_credential(const struct hpkv_config *config, const struct url *url, struct hpkv_error *error)
{
	if (config->api_key && config->token)
		return invalid(error, "an API key and a token were given; a connection takes one");
	if (config->token && config->tokens)
		return invalid(error, "a token was given, and where to get tokens; a client takes one of the two");
	if (!config->api_key && !config->token && !config->tokens && url->kind != URL_LOCAL)
		return invalid(error, "no API key and no token was given");
	if ((config->api_key && !*config->api_key) || (config->token && !*config->token))
		return invalid(error, "the API key or token is empty");
	return 0;
}

/* As they will be asked for. */
static int check_tokens(const struct hpkv_config *config, struct hpkv_error *error)
{
	const struct hpkv_token_config tokens = renewal_token_config(config);

	return token_config_check(&tokens, error);
}

static int check_numbers(const struct hpkv_config *config, struct hpkv_error *error)
{
	if (config->connect_timeout_ms == 0 || config->operation_timeout_ms == 0)
		return invalid(error, "a timeout is 0");
	if (config->token_lifetime_ms == 0)
		return invalid(error, "token_lifetime_ms is 0");
	if (config->ping_after_s == 0)
		return invalid(error, "ping_after_s is 0");
	if (config->dead_after_s <= config->ping_after_s)
		return invalid(error, "dead_after_s must be more than ping_after_s, or no ping could be answered");
	if (config->dead_after_s > SILENCE_MAX_S)
		return error_set(error, -EINVAL, 0, "dead_after_s is more than %d", SILENCE_MAX_S);
	if (config->max_reconnect_attempts && !config->reconnect_initial_delay_ms)
		return invalid(error, "reconnect_initial_delay_ms is 0");
	if (config->max_reconnect_attempts && !config->reconnect_max_delay_ms)
		return invalid(error, "reconnect_max_delay_ms is 0");
	if (config->max_message_bytes == 0)
		return invalid(error, "max_message_bytes is 0");
	return 0;
}

/* --- taking it over --- */

static int copy_string(const char *from, char **to)
{
	if (!from)
		return 0;
	*to = strdup(from);
	return *to ? 0 : -ENOMEM;
}

static int copy(struct hpkv_client *client, const struct hpkv_config *config)
{
	int r;

	client->connect_timeout_ms = config->connect_timeout_ms;
	client->ping_after_s = config->ping_after_s;
	client->dead_after_s = config->dead_after_s;
	client->max_message_bytes = config->max_message_bytes;
	client->retry.max_attempts = config->max_reconnect_attempts;
	client->retry.initial_delay_ms = config->reconnect_initial_delay_ms;
	client->retry.max_delay_ms = config->reconnect_max_delay_ms;
	client->retry.jitter_ms = config->reconnect_jitter_ms;
	r = copy_string(config->api_key, &client->api_key);
	if (r == 0)
		r = copy_string(config->token, &client->token);
	if (r == 0)
		r = copy_string(config->ca_file, &client->ca_file);
	return r;
}

int client_configure(struct hpkv_client *client, const struct hpkv_config *config, struct hpkv_error *error)
{
	int r = url_parse(config->url, config->insecure, &client->url, error);

	if (r == 0)
		r = check_credential(config, &client->url, error);
	if (r == 0 && config->tokens)
		r = check_tokens(config, error);
	if (r == 0)
		r = check_numbers(config, error);
	if (r == 0)
		r = calls_init(client, config, error);
	if (r)
		return r;
	r = copy(client, config);
	if (r == 0)
		r = renewal_configure(client, config);
	return r ? error_set(error, r, 0, "out of memory") : 0;
}

void client_unconfigure(struct hpkv_client *client)
{
	url_free(&client->url);
	keyfile_free(client->api_key);
	keyfile_free(client->token);
	free(client->ca_file);
}
