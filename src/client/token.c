#include "client/token.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/clock.h"
#include "base/keyfile.h"
#include "base/list.h"
#include "client/http.h"
#include "client/local.h"
#include "client/resolver.h"
#include "client/url.h"

/* A local server can end between the moment that it was found and the connect. */
#define LOCAL_ROUNDS 5

struct token_call {
	struct hpkv_loop *loop;
	struct url url;
	char *api_key, *ca_file;
	char *body; /* JSON */
	uint64_t deadline_us;
	void (*done)(void *arg, const char *token, const struct hpkv_error *error);
	void *arg;

	struct loop_timer timer; /* the beginning; then the end of the lookup's time */
	struct job *job;         /* the lookup, or the search for a local server */
	unsigned rounds;         /* of that search */
	struct addresses addresses;
	size_t next; /* the address to try next */
	struct unix_path socket;
	char *local_key; /* from DIR */
	struct http_call *http;
	struct hpkv_error error;             /* of the last try */
	struct token_call *prev, *next_call; /* the loop's list */
};

static void try_next(struct token_call *call);
static void find(struct token_call *call);

static uint64_t time_left(const struct token_call *call)
{
	uint64_t now = clock_now_us();

	return call->deadline_us > now ? call->deadline_us - now : 0;
}

/* --- endings --- */

static void token_free(struct token_call *call)
{
	loop_timer_cancel(&call->timer);
	if (call->job)
		job_cancel(call->job);
	if (call->http)
		http_cancel(call->http);
	addresses_free(&call->addresses);
	unix_path_close(&call->socket);
	url_free(&call->url);
	keyfile_free(call->api_key);
	keyfile_free(call->local_key);
	free(call->ca_file);
	free(call->body);
	free(call);
}

/* Nothing of the call may be used afterwards. */
static void finish(struct token_call *call, const char *token, const struct hpkv_error *error)
{
	void (*done)(void *arg, const char *token, const struct hpkv_error *error) = call->done;
	void *arg = call->arg;
	struct hpkv_error reason;

	if (error)
		reason = *error;
	DL_DELETE2(call->loop->tokens, call, prev, next_call);
	token_free(call);
	done(arg, token, error ? &reason : NULL);
}

static void fail(struct token_call *call, int err, const char *text)
{
	struct hpkv_error error;

	error_set(&error, err, 0, "%s", text);
	finish(call, NULL, &error);
}

void tokens_cancel(struct hpkv_loop *loop)
{
	loop->ending = true;
	while (loop->tokens)
		fail(loop->tokens, -ECANCELED, "the loop was freed");
}

void token_cancel(struct token_call *call)
{
	DL_DELETE2(call->loop->tokens, call, prev, next_call);
	token_free(call);
}

/* --- the answer --- */

static const char *key_of(const struct token_call *call)
{
	return call->api_key ? call->api_key : call->local_key;
}

static int refused(struct token_call *call, int status, const json_t *root)
{
	const char *text = json_string_value(json_object_get(root, "error"));
	int err = status == 404 || status < 400 ? -EPROTO : hpkv_code_errno(status);

	if (status == 401 || status == 403)
		return error_set(&call->error, -EACCES, status, "the server refused the API key (HTTP %d)", status);
	if (!text)
		text = json_string_value(json_object_get(root, "message"));
	if (text && strstr(text, key_of(call)))
		text = NULL;
	return error_set(&call->error, err, status, "the server gave no token (HTTP %d)%s%s", status, text ? ": " : "",
			 text ? text : "");
}

static void answered(struct token_call *call, const struct http_response *response)
{
	json_t *root = json_loadb(buf_str(&response->body).p, response->body.len, 0, NULL);
	const char *token = json_string_value(json_object_get(root, "token"));
	int r = 0;

	if (response->status < 200 || response->status >= 300)
		r = refused(call, response->status, root);
	else if (!token || !*token)
		r = error_set(&call->error, -EPROTO, response->status, "the server's answer holds no token");
	finish(call, r ? NULL : token, r ? &call->error : NULL);
	json_decref(root);
}

/* --- one try --- */

static void try_done(void *arg, struct http_response *response, const struct hpkv_error *error)
{
	struct token_call *call = arg;

	call->http = NULL;
	if (response) {
		answered(call, response);
		return;
	}
	call->error = *error;
	if (call->url.kind == URL_LOCAL && call->rounds < LOCAL_ROUNDS && time_left(call))
		find(call);
	else
		try_next(call);
}

/* What is left of the time is shared by the addresses that are left. */
static int try_address(struct token_call *call, const char *address, uint64_t share_us)
{
	CLEANUP(buf_free) struct buf url = BUF_INIT;
	struct http_request request = {
		.address = address,
		.unix_socket = address ? NULL : call->socket.path,
		.ca_file = call->ca_file,
		.api_key = key_of(call),
		.body = call->body,
		.deadline_us = clock_now_us() + share_us,
	};
	int r = url_add_http_base(&call->url, &url);

	if (r == 0)
		r = buf_add_str(&url, STR("/token/websocket"));
	if (r)
		return r;
	request.url = url.p;
	return http_start(call->loop, &request, try_done, call, &call->http);
}

static void try_next(struct token_call *call)
{
	size_t i = call->next++, count = call->url.kind == URL_TCP ? call->addresses.count : 1;
	uint64_t share_us = i < count ? time_left(call) / (count - i) : 0;
	int r = -ETIMEDOUT;

	if (share_us)
		r = try_address(call, call->addresses.list[i], share_us);
	if (r == 0)
		return;
	if (call->error.err)
		finish(call, NULL, &call->error);
	else
		fail(call, r, strerror(-r));
}

/* --- addresses --- */

static void resolved(void *arg, struct addresses *addresses, const struct hpkv_error *error)
{
	struct token_call *call = arg;

	call->job = NULL;
	loop_timer_cancel(&call->timer);
	if (error) {
		finish(call, NULL, error);
		return;
	}
	call->addresses = *addresses;
	*addresses = (struct addresses){ 0 };
	try_next(call);
}

static void local_found(void *arg, struct local_server *server, const struct hpkv_error *error)
{
	struct token_call *call = arg;

	call->job = NULL;
	if (error) {
		finish(call, NULL, error);
		return;
	}
	call->socket = server->socket;
	server->socket.dir_fd = -1;
	call->local_key = STEAL(server->key);
	try_next(call);
}

static void find_timed_out(struct loop_timer *timer)
{
	fail(lws_container_of(timer, struct token_call, timer), -ETIMEDOUT,
	     "the host's address could not be found in time");
}

/* Starts afresh: what an earlier round found is let go. */
static void find(struct token_call *call)
{
	int r;

	unix_path_close(&call->socket);
	keyfile_free(STEAL(call->local_key));
	call->next = 0;
	if (call->url.kind == URL_LOCAL) {
		call->rounds++;
		r = local_start(call->loop->base, call->url.path, call->deadline_us, local_found, call, &call->job);
	} else if (call->url.kind == URL_TCP) {
		r = resolver_start(call->loop->base, &call->url, resolved, call, &call->job);
		if (r == 0)
			loop_timer_set(call->loop->base, &call->timer, time_left(call), find_timed_out);
	} else {
		r = unix_path_open(call->url.path, &call->socket);
		if (r == 0)
			try_next(call);
	}
	if (r)
		fail(call, r, strerror(-r));
}

static void begin(struct loop_timer *timer)
{
	find(lws_container_of(timer, struct token_call, timer));
}

/* --- interface --- */

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

/* A line's end in it would begin a header of its own. */
static bool header_valid(const char *text)
{
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return false;
	return *text;
}

static int fill_in(struct token_call *call, const struct hpkv_token_config *config, struct hpkv_error *error)
{
	int r = url_parse(config->url, config->insecure, &call->url, error);

	if (r)
		return r;
	if (!config->api_key && call->url.kind != URL_LOCAL)
		return error_set(error, -EINVAL, 0, "no API key was given");
	if (config->api_key && !header_valid(config->api_key))
		return error_set(error, -EINVAL, 0, "the API key is empty or holds a control character");
	call->deadline_us =
		clock_now_us() + (config->timeout_ms ? config->timeout_ms : 5000) * (uint64_t)CLOCK_US_PER_MS;
	call->api_key = config->api_key ? strdup(config->api_key) : NULL;
	call->ca_file = config->ca_file ? strdup(config->ca_file) : NULL;
	if ((config->api_key && !call->api_key) || (config->ca_file && !call->ca_file))
		return error_set(error, -ENOMEM, 0, "out of memory");
	call->body = make_body(config);
	return call->body ? 0 : error_set(error, -EINVAL, 0, "a pattern is not UTF-8");
}

int token_config_check(const struct hpkv_token_config *config, struct hpkv_error *error)
{
	struct token_call *call = calloc(1, sizeof(*call));
	int r;

	if (!call)
		return error_set(error, -ENOMEM, 0, "out of memory");
	call->socket.dir_fd = -1;
	r = fill_in(call, config, error);
	token_free(call);
	return r;
}

int token_start(struct hpkv_loop *loop, const struct hpkv_token_config *config,
		void (*done)(void *arg, const char *token, const struct hpkv_error *error), void *arg,
		struct token_call **out, struct hpkv_error *error)
{
	struct token_call *call;
	int r;

	if (loop->ending)
		return error_set(error, -ECANCELED, 0, "the loop is being freed");
	call = calloc(1, sizeof(*call));
	if (!call)
		return error_set(error, -ENOMEM, 0, "out of memory");
	call->loop = loop;
	call->done = done;
	call->arg = arg;
	call->socket.dir_fd = -1;
	r = fill_in(call, config, error);
	if (r) {
		token_free(call);
		return r;
	}
	DL_APPEND2(loop->tokens, call, prev, next_call);
	loop_timer_set(loop->base, &call->timer, 0, begin);
	*out = call;
	return 0;
}

int hpkv_token_generate(struct hpkv_loop *loop, const struct hpkv_token_config *config,
			void (*done)(void *arg, const char *token, const struct hpkv_error *error), void *arg,
			struct hpkv_error *error)
{
	struct token_call *call;

	return token_start(loop, config, done, arg, &call, error);
}
