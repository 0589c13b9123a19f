/* What the parts of the tests' client_driver share; client_driver.c says what it is. */
#ifndef HPKVFS_TESTS_CLIENT_DRIVER_H
#define HPKVFS_TESTS_CLIENT_DRIVER_H

#include <jansson.h>

#include "client/hpkv.h"

#define MAX_REQUESTS 100000

struct driver {
	struct hpkv_loop *loop;
	struct hpkv_client *client;
	const char *url;
	json_t *options;
	json_t *then, *on_lost, *on_connect, *on_token;
	json_t *inside;    /* by a callback's name, the commands to be run inside it */
	json_t *listeners; /* by the tests' number, the library's id */
	struct numbered *numbered;
	struct hpkv_request *requests[MAX_REQUESTS + 1];
	int started, connects, disconnects, tokens;
};

/* client_driver.c */
void run(struct driver *driver, json_t *command);
void run_hook(struct driver *driver, json_t **hook);
json_t *event(const char *name, int n);
json_t *string_of(struct hpkv_slice slice);
void add_error(json_t *object, const struct hpkv_error *error);
/* Prints and frees the object. */
void emit(json_t *object);

/* client_driver_config.c: hpkv_config's members from an object. */
void driver_configure(struct hpkv_config *config, const struct driver *driver);

/* client_driver_events.c */

/* emit, then the commands that are to be run inside this callback. */
void emit_and_run(struct driver *driver, json_t *object);
void driver_add_listeners(struct driver *driver);
/* True if the command was one of these. */
bool driver_events_command(struct driver *driver, const char *name, json_t *command);
void driver_events_deinit(struct driver *driver);

/* client_driver_requests.c */

struct driver_request_options {
	struct hpkv_options options;
	struct hpkv_slice before;
};

/* From a number (the timeout), an object, or anything else: the defaults. They point into `parsed` and the JSON. */
const struct hpkv_options *driver_request_options(struct driver_request_options *parsed, const json_t *json);
bool driver_requests_command(struct driver *driver, const char *name, json_t *command);

#endif
