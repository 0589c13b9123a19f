#include "client/token.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"
#include "client/http.h"
#include "client/local.h"
#include "client/url.h"
#include "client/worker.h"

/* One request, one thread: tokens are asked for every two hours, and a thread with blocking curl is the simplest
 * that keeps the loop free (libwebsockets would not let curl's sockets into its own poll). */
struct token_call {
	struct job job;
	struct hpkv_loop *loop;
	struct url url;
	char *api_key, *ca_file;
	char *body; /* JSON */
	uint64_t deadline_us;
	void (*done)(void *arg, const char *token, const struct hpkv_error *error);
	void *arg;
	char *token;
	struct hpkv_error error;
	struct token_call *prev, *next; /* the loop's list */
};

/* --- on the thread --- */

static int read_token(struct token_call *call, const struct http_response *response)
{
	json_t *root = json_loadb(buf_str(&response->body).p, response->body.len, 0, NULL);
	const char *token = json_string_value(json_object_get(root, "token"));
	const char *text = json_string_value(json_object_get(root, "error"));
	int status = response->status, r = 0;

	if (!text)
		text = json_string_value(json_object_get(root, "message"));
	if (status == 401 || status == 403)
		r = error_set(&call->error, -EACCES, status, "the server refused the API key (HTTP %d)", status);
	else if (status < 200 || status >= 300)
		r = error_set(&call->error, status == 404 || status < 400 ? -EPROTO : hpkv_code_errno(status), status,
			      "the server gave no token (HTTP %d)%s%s", status, text ? ": " : "", text ? text : "");
	else if (!token || !*token)
		r = error_set(&call->error, -EPROTO, status, "the server's answer holds no token");
	else
		call->token = strdup(token);
	json_decref(root);
	if (r == 0 && !call->token)
		r = error_set(&call->error, -ENOMEM, 0, "out of memory");
	return r;
}

static int ask(struct token_call *call, const char *socket, const char *api_key)
{
	CLEANUP(buf_free) struct buf url = BUF_INIT;
	CLEANUP(buf_free) struct buf body = BUF_INIT;
	struct http_response response = { 0 };
	struct http_request request = {
		.unix_socket = socket,
		.ca_file = call->ca_file,
		.api_key = api_key,
		.body = call->body,
		.deadline_us = call->deadline_us,
		.job = &call->job,
	};
	int r = url_add_http_base(&call->url, &url);

	if (r == 0)
		r = buf_add_str(&url, STR("/token/websocket"));
	if (r)
		return error_set(&call->error, r, 0, "out of memory");
	request.url = url.p;
	r = http_do(&request, &response, &call->error);
	body = response.body;
	return r ? r : read_token(call, &response);
}

static int find_and_ask(struct token_call *call)
{
	struct local_server server = { .socket.dir_fd = -1 };
	int r = 0;

	if (call->url.kind == URL_TCP)
		return ask(call, NULL, call->api_key);
	if (call->url.kind == URL_LOCAL) {
		r = local_find(call->url.path, call->deadline_us, &call->job, &server, &call->error);
	} else {
		r = unix_path_open(call->url.path, &server.socket);
		if (r)
			error_set(&call->error, r, 0, "%s: %s", call->url.path, strerror(-r));
	}
	if (r == 0)
		r = ask(call, server.socket.path, call->api_key ? call->api_key : server.key);
	local_server_free(&server);
	return r;
}

static void token_work(struct job *job)
{
	struct token_call *call = (struct token_call *)job;

	if (find_and_ask(call) == 0)
		call->error.err = 0;
}

/* --- on the loop --- */

static void token_done(struct job *job)
{
	struct token_call *call = (struct token_call *)job;

	DL_DELETE(call->loop->tokens, call);
	call->done(call->arg, call->token, call->error.err ? &call->error : NULL);
}

static void secret_free(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

static void token_free(struct job *job)
{
	struct token_call *call = (struct token_call *)job;

	url_free(&call->url);
	secret_free(call->api_key);
	secret_free(call->token);
	free(call->ca_file);
	free(call->body);
	free(call);
}

static const struct job_type token_type = {
	.work = token_work,
	.done = token_done,
	.free = token_free,
};

void tokens_cancel(struct hpkv_loop *loop)
{
	struct token_call *call;

	while ((call = loop->tokens)) {
		struct hpkv_error error;
		void (*done)(void *arg, const char *token, const struct hpkv_error *error) = call->done;
		void *arg = call->arg;

		error_set(&error, -ECANCELED, 0, "the loop was freed");
		DL_DELETE(loop->tokens, call);
		job_cancel(&call->job); /* from here on it may free itself */
		done(arg, NULL, &error);
	}
}

static char *make_body(const struct hpkv_token_config *config)
{
	json_t *root = json_object();
	char *text = NULL;
	int r = 0;

	if (config->subscribe_patterns) {
		json_t *list = json_array();

		for (size_t i = 0; config->subscribe_patterns[i]; i++)
			r |= json_array_append_new(list, json_string(config->subscribe_patterns[i]));
		r |= json_object_set_new(root, "subscribePatterns", list);
	}
	if (config->access_pattern)
		r |= json_object_set_new(root, "accessPattern", json_string(config->access_pattern));
	if (r == 0)
		text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return text;
}

static int fill_in(struct token_call *call, const struct hpkv_token_config *config, struct hpkv_error *error)
{
	int r = url_parse(config->url, config->insecure, &call->url, error);

	if (r)
		return r;
	if (!config->api_key && call->url.kind != URL_LOCAL)
		return error_set(error, -EINVAL, 0, "no API key was given");
	call->deadline_us =
		clock_now_us() + (config->timeout_ms ? config->timeout_ms : 5000) * (uint64_t)CLOCK_US_PER_MS;
	call->api_key = config->api_key ? strdup(config->api_key) : NULL;
	call->ca_file = config->ca_file ? strdup(config->ca_file) : NULL;
	if ((config->api_key && !call->api_key) || (config->ca_file && !call->ca_file))
		return error_set(error, -ENOMEM, 0, "out of memory");
	call->body = make_body(config);
	return call->body ? 0 : error_set(error, -EINVAL, 0, "a pattern is not UTF-8");
}

int hpkv_token_generate(struct hpkv_loop *loop, const struct hpkv_token_config *config,
			void (*done)(void *arg, const char *token, const struct hpkv_error *error), void *arg,
			struct hpkv_error *error)
{
	struct token_call *call = calloc(1, sizeof(*call));
	int r;

	if (!call)
		return error_set(error, -ENOMEM, 0, "out of memory");
	call->loop = loop;
	call->done = done;
	call->arg = arg;
	r = fill_in(call, config, error);
	if (r == 0) {
		DL_APPEND(loop->tokens, call);
		r = job_start(&call->job, &token_type, loop->base);
		if (r) {
			DL_DELETE(loop->tokens, call);
			error_set(error, r, 0, "%s", strerror(-r));
		}
	}
	if (r)
		token_free(&call->job);
	return r;
}
