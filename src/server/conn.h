/* A connection: HTTP at first, and a WebSocket once upgraded.
 *
 * Nothing frees a connection while its input is being handled: conn_finish and conn_abort take effect afterwards. */
#ifndef HPKVFS_SERVER_CONN_H
#define HPKVFS_SERVER_CONN_H

#include "server/server.h"
#include "server/stream.h"
#include "server/websocket.h"

enum conn_state {
	CONN_HTTP,
	CONN_WEBSOCKET,
	CONN_CLOSING, /* answers what is under way, takes nothing new */
};

struct conn {
	struct conn *prev, *next;
	struct conn *subscriber_prev, *subscriber_next; /* while `subscribed` */
	struct server *server;
	struct stream *stream;
	enum conn_state state;
	struct loop_timer timer;

	struct request *requests; /* in the engine */
	unsigned inflight;
	size_t reserved; /* bytes that these may come to */

	bool keep_alive;    /* HTTP: after the reply under way */
	bool told_continue; /* HTTP: "100 Continue" was sent for this request */
	bool websocket;     /* was upgraded */
	bool subscribed;
	bool in_message;     /* WebSocket: between the first and the last fragment */
	struct buf message;  /* its fragments */
	struct request *got; /* WebSocket: a GET that waits for what is behind it in the input */
	struct loop_timer got_timer;
	struct grant *grant; /* of its token; NULL: all is allowed */

	bool shut; /* nothing more will be sent */
	enum ws_status close_status;
	const char *close_reason;
};

/* Takes an accepted socket; it frees itself. */
void conn_start(struct server *server, int fd);

/* A request was answered: the next one has its full time. */
void conn_restart_http_timer(struct conn *conn);

/* Forgets the connection at once. Not from code that handles its input. */
void conn_free(struct conn *conn);

/* Closes it after what is under way was answered; a WebSocket is told the status and the reason (static text). */
void conn_finish(struct conn *conn, enum ws_status status, const char *reason);

/* Closes it soon, and drops what was not sent. */
void conn_abort(struct conn *conn);

/* True while nothing more should be taken on: too much is under way or waits to be sent. */
bool conn_is_busy(const struct conn *conn);

/* Handles buffered input, again, later. */
void conn_wake(struct conn *conn);

/* Server's shutdown: reads what has arrived and closes once that is answered. May free it. */
void conn_drain(struct conn *conn);

#endif
