/* A program around libhpkv for the tests: takes commands as JSON arrays, one a line, on standard input and reports
 * every callback as a JSON object on standard output. It uses the public header only.
 *
 *   client_driver URL OPTIONS     OPTIONS: an object of hpkv_config's members; token_api_key: for ["token"] only
 *
 *   ["connect"] ["disconnect"] ["disconnect", false]: without cancel; ["free"] ["state"]    the end of the input frees all
 *   ["get", KEY, TIMEOUT_MS] ["set", KEY, VALUE, TIMEOUT_MS] ["patch", ...] ["delete", KEY, TIMEOUT_MS]
 *   ["range", KEY, END, LIMIT, TIMEOUT_MS] ["atomic", KEY, INCREMENT, TIMEOUT_MS]
 *      instead of TIMEOUT_MS an object of hpkv_options' members, by names: {"priority": "background", "before": null}
 *   ["together", [COMMAND, ...]]  in one go
 *   ["stats"] ["throttle"] ["set_throttle", ENABLED, RATE]
 *   ["cancel", N]                 the N-th request (from 1)
 *   ["token", [PATTERN...], ACCESS or null]
 *   ["then", [COMMAND, ...]]      to be run inside the next reply's callback
 *   ["on_lost", [COMMAND, ...]]   to be run inside `disconnected`
 *   ["on_connect", [COMMAND, ...]] to be run inside the next done of connect
 *   ["on_token", [COMMAND, ...]]  to be run inside the next done of a token
 *   ["inside", NAME, [COMMAND, ...]] to be run inside the next callback of this name, as it is reported; "listener N"
 *   ["on", TYPE, N] ["off", N]    a listener of the number N, TYPE as reported
 *   ["on", "notification", N] ["unsubscribe", N]
 *   ["connect_untold"] ["disconnect_untold"]    without a done
 *   ["sum"]                       how many of each were begun
 *   ["set_token", TOKEN] */
#include <errno.h>
#include <libwebsockets.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client_driver.h"

struct ticket {
	struct driver *driver;
	int n;
};

void emit(json_t *object)
{
	json_dumpf(object, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
	json_decref(object);
}

json_t *event(const char *name, int n)
{
	return json_pack("{s:s, s:i}", "event", name, "n", n);
}

void add_error(json_t *object, const struct hpkv_error *error)
{
	if (error)
		json_object_update_new(object, json_pack("{s:i, s:i, s:s, s:i, s:b}", "err", error->err, "code",
							 error->code, "text", error->text, "kind", error->kind,
							 "unknown", error->unknown_outcome));
}

json_t *string_of(struct hpkv_slice slice)
{
	return json_stringn(slice.data ? slice.data : "", slice.size);
}

void run_hook(struct driver *driver, json_t **hook)
{
	json_t *commands = *hook, *command;
	size_t i;

	*hook = NULL;
	json_array_foreach(commands, i, command)
		run(driver, command);
	json_decref(commands);
}

static struct ticket *ticket_new(struct driver *driver, int n)
{
	struct ticket *ticket = malloc(sizeof(*ticket));

	if (!ticket)
		abort();
	*ticket = (struct ticket){ driver, n };
	return ticket;
}

static void on_reply(void *arg, const struct hpkv_reply *reply)
{
	struct ticket *ticket = arg;
	struct driver *driver = ticket->driver;
	json_t *object = event("reply", ticket->n);

	add_error(object, reply->error);
	if (reply->value.data)
		json_object_update_new(
			object, json_pack("{s:o, s:b}", "value", string_of(reply->value), "number", reply->number));
	if (reply->records || reply->truncated) {
		json_t *records = json_array();

		for (size_t i = 0; i < reply->count; i++)
			json_array_append_new(records,
					      json_pack("[o, o, b]", string_of(reply->records[i].key),
							string_of(reply->records[i].value), reply->records[i].number));
		json_object_update_new(object,
				       json_pack("{s:o, s:b}", "records", records, "truncated", reply->truncated));
	}
	driver->requests[ticket->n] = NULL;
	free(ticket);
	emit_and_run(driver, object);
	run_hook(driver, &driver->then);
}

static void on_connect_done(void *arg, const struct hpkv_error *error)
{
	struct ticket *ticket = arg;
	struct driver *driver = ticket->driver;
	json_t *object = event("connect", ticket->n);

	add_error(object, error);
	free(ticket);
	emit_and_run(driver, object);
	run_hook(driver, &driver->on_connect);
}

static void on_disconnect_done(void *arg)
{
	struct ticket *ticket = arg;
	struct driver *driver = ticket->driver;
	int n = ticket->n;

	free(ticket);
	emit_and_run(driver, event("disconnect", n));
}

static void on_token(void *arg, const char *token, const struct hpkv_error *error)
{
	struct ticket *ticket = arg;
	struct driver *driver = ticket->driver;
	json_t *object = event("token", ticket->n);

	add_error(object, error);
	if (token)
		json_object_set_new(object, "token", json_string(token));
	emit(object);
	free(ticket);
	run_hook(driver, &driver->on_token);
}

/* --- commands --- */

static struct hpkv_slice slice(const json_t *command, size_t i)
{
	const json_t *string = json_array_get(command, i);

	return (struct hpkv_slice){ json_string_value(string), json_string_length(string) };
}

static unsigned number(const json_t *command, size_t i)
{
	return (unsigned)json_integer_value(json_array_get(command, i));
}

static int start(struct driver *driver, const char *name, const json_t *c, struct ticket *ticket,
		 struct hpkv_request **out)
{
	struct driver_request_options parsed;
	bool keyed = strcmp(name, "get") == 0 || strcmp(name, "delete") == 0;
	size_t at = keyed ? 2 : strcmp(name, "range") == 0 ? 4 : 3;
	const struct hpkv_options *options = driver_request_options(&parsed, json_array_get(c, at));

	if (strcmp(name, "get") == 0)
		return hpkv_get(driver->client, slice(c, 1), options, on_reply, ticket, out);
	if (strcmp(name, "set") == 0)
		return hpkv_set(driver->client, slice(c, 1), slice(c, 2), options, on_reply, ticket, out);
	if (strcmp(name, "patch") == 0)
		return hpkv_patch(driver->client, slice(c, 1), slice(c, 2), options, on_reply, ticket, out);
	if (strcmp(name, "delete") == 0)
		return hpkv_delete(driver->client, slice(c, 1), options, on_reply, ticket, out);
	if (strcmp(name, "range") == 0)
		return hpkv_range(driver->client, slice(c, 1), slice(c, 2), number(c, 3), options, on_reply, ticket,
				  out);
	if (strcmp(name, "atomic") == 0)
		return hpkv_atomic(driver->client, slice(c, 1), slice(c, 2), options, on_reply, ticket, out);
	fprintf(stderr, "unknown command %s\n", name);
	abort();
}

static void request(struct driver *driver, const char *name, const json_t *command)
{
	int n = ++driver->started;
	struct ticket *ticket = ticket_new(driver, n);
	int r;

	if (n > MAX_REQUESTS)
		abort();
	r = start(driver, name, command, ticket, &driver->requests[n]);
	if (r == 0)
		return;
	free(ticket);
	emit(json_pack("{s:s, s:i, s:i}", "event", "refused", "n", n, "err", r));
}

static void token(struct driver *driver, const json_t *command)
{
	const json_t *list = json_array_get(command, 1);
	const char *key = json_string_value(json_object_get(driver->options, "token_api_key"));
	const char *patterns[16] = { NULL };
	struct ticket *ticket = ticket_new(driver, ++driver->tokens);
	struct hpkv_token_config config = {
		.url = driver->url,
		.api_key = key ? key : json_string_value(json_object_get(driver->options, "api_key")),
		.ca_file = json_string_value(json_object_get(driver->options, "ca_file")),
		.insecure = json_is_true(json_object_get(driver->options, "insecure")),
		.subscribe_patterns = patterns,
		.access_pattern = json_string_value(json_array_get(command, 2)),
		.timeout_ms = (unsigned)json_integer_value(json_object_get(driver->options, "connect_timeout_ms")),
	};
	struct hpkv_error error;

	for (size_t i = 0; i < json_array_size(list) && i < 15; i++)
		patterns[i] = json_string_value(json_array_get(list, i));
	if (hpkv_token_generate(driver->loop, &config, on_token, ticket, &error) != 0)
		on_token(ticket, NULL, &error);
}

static void quit(struct driver *driver)
{
	hpkv_client_free(driver->client);
	driver->client = NULL;
	hpkv_loop_stop(driver->loop);
}

void run(struct driver *driver, json_t *command)
{
	const char *name = json_string_value(json_array_get(command, 0));

	if (strcmp(name, "connect") == 0) {
		if (hpkv_client_connect(driver->client, on_connect_done, ticket_new(driver, ++driver->connects)) != 0)
			abort();
	} else if (strcmp(name, "disconnect") == 0) {
		if (hpkv_client_disconnect(driver->client, !json_is_false(json_array_get(command, 1)),
					   on_disconnect_done, ticket_new(driver, ++driver->disconnects)) != 0)
			abort();
	} else if (strcmp(name, "free") == 0) {
		hpkv_client_free(driver->client);
		driver->client = NULL;
		emit(event("freed", 0));
	} else if (strcmp(name, "state") == 0) {
		emit(json_pack("{s:s, s:i}", "event", "state", "state", hpkv_client_state(driver->client)));
	} else if (strcmp(name, "cancel") == 0) {
		if (driver->requests[number(command, 1)])
			hpkv_request_cancel(driver->requests[number(command, 1)]);
	} else if (strcmp(name, "token") == 0) {
		token(driver, command);
	} else if (strcmp(name, "then") == 0) {
		driver->then = json_incref(json_array_get(command, 1));
	} else if (strcmp(name, "on_lost") == 0) {
		driver->on_lost = json_incref(json_array_get(command, 1));
	} else if (strcmp(name, "on_connect") == 0) {
		driver->on_connect = json_incref(json_array_get(command, 1));
	} else if (strcmp(name, "on_token") == 0) {
		driver->on_token = json_incref(json_array_get(command, 1));
	} else if (!driver_events_command(driver, name, command) && !driver_requests_command(driver, name, command)) {
		request(driver, name, command);
	}
}

/* --- standard input, read by a thread --- */

struct line {
	struct driver *driver;
	json_t *command; /* NULL: the end */
};

static void line_arrived(void *arg)
{
	struct line *line = arg;

	if (line->command)
		run(line->driver, line->command);
	else
		quit(line->driver);
	json_decref(line->command);
	free(line);
}

static void *read_lines(void *arg)
{
	struct driver *driver = arg;
	bool last;

	do {
		struct line *line = calloc(1, sizeof(*line));

		if (!line)
			abort();
		line->driver = driver;
		line->command = json_loadf(stdin, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, NULL);
		last = !line->command; /* the line is the loop's from now on */
		if (hpkv_loop_post(driver->loop, line_arrived, line) != 0)
			abort();
	} while (!last);
	return NULL;
}

int main(int argc, char **argv)
{
	struct driver *driver = calloc(1, sizeof(*driver));
	struct hpkv_config config;
	struct hpkv_error error;
	pthread_t reader;

	if (!driver || argc != 3)
		return 2;
	lws_set_log_level(getenv("DRIVER_DEBUG") ? 0x7f : 0, NULL);
	driver->url = argv[1];
	driver->options = json_loads(argv[2], 0, NULL);
	driver_configure(&config, driver);
	if (hpkv_loop_new(&driver->loop) != 0)
		return 2;
	if (hpkv_client_new(driver->loop, &config, &driver->client, &error) != 0) {
		json_t *object = event("invalid", 0);

		add_error(object, &error);
		emit(object);
	} else {
		driver_add_listeners(driver);
		if (pthread_create(&reader, NULL, read_lines, driver) != 0)
			return 2;
		hpkv_loop_run(driver->loop);
		pthread_join(reader, NULL);
	}
	hpkv_loop_free(driver->loop);
	json_decref(driver->options);
	json_decref(driver->then);
	json_decref(driver->on_lost);
	json_decref(driver->on_connect);
	json_decref(driver->on_token);
	driver_events_deinit(driver);
	free(driver);
	return 0;
}
