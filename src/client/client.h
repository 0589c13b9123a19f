/* The client's inside, shared by config.c, client.c (states), dial.c (from a URL to a connection) and calls.c
 * (requests). */
#ifndef HPKVFS_CLIENT_CLIENT_H
#define HPKVFS_CLIENT_CLIENT_H

#include "client/calls.h"
#include "client/connection.h"
#include "client/dial.h"
#include "client/internal.h"
#include "client/listeners.h"
#include "client/renewal.h"
#include "client/retry.h"
#include "client/url.h"

/* Somebody to be told of a connect or disconnect. */
struct waiter {
	void (*connected)(void *arg, const struct hpkv_error *error);
	void (*disconnected)(void *arg);
	void *arg;
	struct hpkv_error error; /* err 0: success */
	struct waiter *next;
};

struct hpkv_client {
	struct hpkv_loop *loop;
	struct url url;
	char *api_key, *token, *ca_file;
	unsigned connect_timeout_ms;
	unsigned ping_after_s, dead_after_s;
	size_t max_message_bytes;
	struct listeners listeners;   /* by enum hpkv_event_type */
	struct listeners subscribers; /* of notifications */
	struct hpkv_stats stats;      /* the counts; the rest is filled in when it is asked for */

	enum hpkv_state state;
	bool wanted;    /* connect was called, and disconnect not since: requests are accepted */
	bool start;     /* `soon` begins to connect */
	bool draining;  /* disconnecting, and requests are still under way */
	bool freed;     /* hpkv_client_free was called; the memory goes when no callback is on the stack */
	unsigned depth; /* callbacks on the stack */
	struct dial dial;
	struct server_limits limits; /* of the server found last */
	struct retry retry;
	struct renewal renewal;
	struct connection *connection; /* open, or being closed */
	uint64_t connected_us;         /* since when */
	struct calls calls;
	struct waiter *connecting, *disconnecting, *finished;
	struct hpkv_iterator *delivering; /* their next record is here, and told soon */
	struct loop_timer soon;           /* what must not happen inside the caller's call */
	struct loop_timer close_timer;    /* the other side's answer to a close */
};

/* Around everything that may call the user. After client_leave the client may be gone. */
void client_enter(struct hpkv_client *client);
void client_leave(struct hpkv_client *client);

/* config.c. Checks and copies; 0, -EINVAL, -ENOMEM. What was copied is freed by client_unconfigure in each case. */
CHECKED int client_configure(struct hpkv_client *client, const struct hpkv_config *config, struct hpkv_error *error);
void client_unconfigure(struct hpkv_client *client);

/* client.c, for calls.c and renewal.c. All of these call the user: everything may have changed afterwards, but the
 * memory stays until client_leave. */
void client_emit(struct hpkv_client *client, struct hpkv_event event);
/* A notification has arrived. */
void client_notify(struct hpkv_client *client, const struct hpkv_notification *notification);
/* Takes what a server said out of an error, where it repeats the API key or token. */
void client_censor(const struct hpkv_client *client, struct hpkv_error *error);
/* Tells the subscribers of it. */
void client_tell(struct hpkv_client *client, const struct hpkv_notification *notification);
/* A message has arrived. */
void client_message(struct hpkv_client *client, struct str raw);
/* Another open connection becomes the client's. Answers the one before, which is the caller's now. */
struct connection *client_take_over(struct hpkv_client *client, struct connection *connection);
/* The connection is as good as lost: it is dropped, and made anew where lost ones are. */
void client_lose(struct hpkv_client *client, const struct hpkv_error *error);
/* Makes `soon` run. */
void client_soon(struct hpkv_client *client);
/* A connection is open and carries requests: also while a disconnect waits for the last of them. */
bool client_serving(const struct hpkv_client *client);
/* The last request under way has ended. */
void client_calls_idle(struct hpkv_client *client);

#endif
