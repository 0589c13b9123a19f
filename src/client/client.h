/* The client's inside, shared by client.c (states), dial.c (from a URL to a connection) and calls.c (requests). */
#ifndef HPKVFS_CLIENT_CLIENT_H
#define HPKVFS_CLIENT_CLIENT_H

#include "client/codec.h"
#include "client/connection.h"
#include "client/internal.h"
#include "client/listeners.h"
#include "client/local.h"
#include "client/request.h"
#include "client/resolver.h"
#include "client/unixpath.h"
#include "client/url.h"
#include "client/worker.h"

/* Somebody to be told of a connect or disconnect. */
struct waiter {
	void (*connected)(void *arg, const struct hpkv_error *error);
	void (*disconnected)(void *arg);
	void *arg;
	struct hpkv_error error; /* err 0: success */
	struct waiter *next;
};

struct dial {
	struct job *job; /* the lookup, or the search for a local server */
	struct addresses addresses;
	size_t next;     /* the address to try next */
	unsigned rounds; /* searches for a local server */
	struct unix_path socket;
	char *path; /* of the upgrade; holds the credential */
	uint64_t deadline_us;
	struct loop_timer timer; /* ends the present try */
	struct hpkv_error error; /* of the last try */
};

struct hpkv_client {
	struct hpkv_loop *loop;
	struct url url;
	char *api_key, *token, *ca_file;
	unsigned connect_timeout_ms, operation_timeout_ms;
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
	struct connection *connection;
	struct hpkv_error lost; /* why requests of `ended` end */
	struct request_table requests;
	struct loop_timer deadline; /* at the first deadline or earlier */
	uint64_t deadline_us;       /* when it fires; 0: not set */
	struct waiter *connecting, *disconnecting, *finished;
	struct loop_timer soon;        /* what must not happen inside the caller's call */
	struct loop_timer close_timer; /* the other side's answer to a close */
	struct buf out;                /* the frame being sent */
	struct message message;
};

/* Around everything that may call the user. After client_leave the client may be gone. */
void client_enter(struct hpkv_client *client);
void client_leave(struct hpkv_client *client);

/* dial.c: begins to connect; ends in client_dialed or client_dial_failed, later. */
void dial_start(struct hpkv_client *client);
void dial_cancel(struct hpkv_client *client);
/* The present try ended before the connection was open. */
void dial_try_failed(struct hpkv_client *client, const struct hpkv_error *error);

extern const struct connection_events client_events;
void client_dial_failed(struct hpkv_client *client, const struct hpkv_error *error);

/* client.c, for calls.c. Both call the user: everything may have changed afterwards, but the memory stays until
 * client_leave. */
void client_emit(struct hpkv_client *client, struct hpkv_event event);
void client_notify(struct hpkv_client *client, const struct hpkv_notification *notification);
/* Makes `soon` run. */
void client_soon(struct hpkv_client *client);
/* A connection is open and carries requests: also while a disconnect waits for the last of them. */
bool client_serving(const struct hpkv_client *client);
/* The last request under way has ended. */
void client_calls_idle(struct hpkv_client *client);

/* calls.c. Only calls_message and calls_deliver_ended call the user. */
void calls_message(struct hpkv_client *client, struct str raw);
/* The next to send, or NULL: nothing waits, or what waits must wait longer. */
struct buf *calls_next_frame(struct hpkv_client *client);
/* The connection is open: what waits may go out. */
void calls_connected(struct hpkv_client *client);
/* The connection ended without our asking. What was in flight is repeated later, or ends, by the rule of enum
 * hpkv_repeat; what waited goes on waiting if there will be an attempt to reconnect, and its time runs now. Without one
 * all ends with the error. */
void calls_lost(struct hpkv_client *client, const struct hpkv_error *error, bool reconnecting);
/* Moves all requests to `ended`. */
void calls_end_all(struct hpkv_client *client, const struct hpkv_error *error);
/* Calls back those of `ended`. */
void calls_deliver_ended(struct hpkv_client *client);
/* Nothing is under way. */
bool calls_idle(const struct hpkv_client *client);

#endif
