#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client_driver.h"

static const char *const types[] = {
	[HPKV_EVENT_CONNECTED] = "connected",
	[HPKV_EVENT_DISCONNECTED] = "disconnected",
	[HPKV_EVENT_RECONNECTING] = "reconnecting",
	[HPKV_EVENT_RECONNECT_FAILED] = "reconnect_failed",
	[HPKV_EVENT_ERROR] = "error",
};

/* --- commands inside callbacks --- */

static void run_inside(struct driver *driver, const char *name)
{
	json_t *commands = json_incref(json_object_get(driver->inside, name));

	json_object_del(driver->inside, name);
	run_hook(driver, &commands);
}

void emit_and_run(struct driver *driver, json_t *object)
{
	char *name = strdup(json_string_value(json_object_get(object, "event")));

	if (!name)
		abort();
	emit(object);
	run_inside(driver, name);
	free(name);
}

/* --- listeners --- */

static void on_event(void *arg, const struct hpkv_event *info)
{
	struct driver *driver = arg;
	json_t *object = event(types[info->type], 0);

	add_error(object, info->error);
	if (info->type == HPKV_EVENT_DISCONNECTED)
		json_object_update_new(object,
				       json_pack("{s:s, s:b}", "previous", hpkv_state_name(info->previous_state),
						 "graceful", info->graceful));
	if (info->type == HPKV_EVENT_RECONNECTING)
		json_object_update_new(object, json_pack("{s:I, s:I, s:I}", "attempt", (json_int_t)info->attempt,
							 "max_attempts", (json_int_t)info->max_attempts, "delay_ms",
							 (json_int_t)info->delay_ms));
	if (driver->client)
		json_object_set_new(object, "state", json_string(hpkv_state_name(hpkv_client_state(driver->client))));
	emit_and_run(driver, object);
	if (info->type == HPKV_EVENT_DISCONNECTED)
		run_hook(driver, &driver->on_lost);
}

static void on_notification(void *arg, const struct hpkv_notification *notification)
{
	json_t *object = event("notification", 0);

	json_object_update_new(object,
			       json_pack("{s:o, s:b, s:I}", "key", string_of(notification->key), "number",
					 notification->number, "timestamp", (json_int_t)notification->timestamp_ms));
	if (notification->value.data)
		json_object_set_new(object, "value", string_of(notification->value));
	emit_and_run(arg, object);
}

void driver_add_listeners(struct driver *driver)
{
	uint64_t id;

	driver->inside = json_object();
	driver->listeners = json_object();
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (hpkv_client_on(driver->client, (enum hpkv_event_type)i, on_event, driver, &id) != 0 || id == 0)
			abort();
	if (!json_is_true(json_object_get(driver->options, "deaf")) &&
	    hpkv_subscribe(driver->client, on_notification, driver, &id) != 0)
		abort();
}

/* --- listeners of the tests' own: each says its number, and is known by it --- */

/* Kept until the end, since a removed listener must not be called any more, and must be noticed if it is. */
struct numbered {
	struct driver *driver;
	int n;
	struct numbered *next;
};

static void numbered_called(const struct numbered *numbered)
{
	char name[32];

	emit(event("listener", numbered->n));
	snprintf(name, sizeof(name), "listener %d", numbered->n);
	run_inside(numbered->driver, name);
}

static void on_numbered_event(void *arg, const struct hpkv_event *info)
{
	(void)info;
	numbered_called(arg);
}

static void on_numbered_notification(void *arg, const struct hpkv_notification *notification)
{
	(void)notification;
	numbered_called(arg);
}

static int add(struct driver *driver, const char *type, struct numbered *numbered, uint64_t *id)
{
	if (strcmp(type, "notification") == 0)
		return hpkv_subscribe(driver->client, on_numbered_notification, numbered, id);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(type, types[i]) == 0)
			return hpkv_client_on(driver->client, (enum hpkv_event_type)i, on_numbered_event, numbered, id);
	abort();
}

static void add_numbered(struct driver *driver, const char *type, const json_t *n)
{
	struct numbered *numbered = calloc(1, sizeof(*numbered));
	char name[32];
	uint64_t id;

	if (!numbered)
		abort();
	*numbered = (struct numbered){ driver, (int)json_integer_value(n), driver->numbered };
	driver->numbered = numbered;
	if (add(driver, type, numbered, &id) != 0)
		abort();
	snprintf(name, sizeof(name), "%d", numbered->n);
	json_object_set_new(driver->listeners, name, json_integer((json_int_t)id));
}

static uint64_t id_of(const struct driver *driver, const json_t *n)
{
	char name[32];

	snprintf(name, sizeof(name), "%d", (int)json_integer_value(n));
	return (uint64_t)json_integer_value(json_object_get(driver->listeners, name));
}

bool driver_events_command(struct driver *driver, const char *name, json_t *command)
{
	json_t *first = json_array_get(command, 1), *second = json_array_get(command, 2);

	if (strcmp(name, "inside") == 0)
		json_object_set(driver->inside, json_string_value(first), second);
	else if (strcmp(name, "on") == 0)
		add_numbered(driver, json_string_value(first), second);
	else if (strcmp(name, "off") == 0)
		hpkv_client_off(driver->client, id_of(driver, first));
	else if (strcmp(name, "unsubscribe") == 0)
		hpkv_unsubscribe(driver->client, id_of(driver, first));
	else if (strcmp(name, "connect_untold") == 0)
		emit(json_pack("{s:s, s:i}", "event", "connect_untold", "result",
			       hpkv_client_connect(driver->client, NULL, NULL)));
	else if (strcmp(name, "disconnect_untold") == 0)
		emit(json_pack("{s:s, s:i}", "event", "disconnect_untold", "result",
			       hpkv_client_disconnect(driver->client, true, NULL, NULL)));
	else if (strcmp(name, "sum") == 0)
		emit(json_pack("{s:s, s:i, s:i, s:i}", "event", "sum", "connects", driver->connects, "disconnects",
			       driver->disconnects, "started", driver->started));
	else if (strcmp(name, "set_token") == 0)
		emit(json_pack("{s:s, s:i}", "event", "set_token", "result",
			       hpkv_client_set_token(driver->client, json_string_value(first))));
	else
		return false;
	return true;
}

void driver_events_deinit(struct driver *driver)
{
	struct numbered *numbered, *next;

	for (numbered = driver->numbered; numbered; numbered = next) {
		next = numbered->next;
		free(numbered);
	}
	json_decref(driver->inside);
	json_decref(driver->listeners);
}
