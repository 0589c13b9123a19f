#include "server/conn.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "server/request.h"
#include "server/rest.h"
#include "server/session.h"

/* Requests of one connection in the engine. */
#define MAX_INFLIGHT 1024
/* What their replies may come to, together with those that wait to be sent: the memory that a client which does not
 * read its replies can hold. One request is always let through. */
#define MAX_REPLY_BYTES (8 * 1024 * 1024)

/* For a whole HTTP request, and between two of them. */
#define HTTP_TIMEOUT_US (60ull * CLOCK_US_PER_S)
/* For answering and sending the rest, once a connection is to be closed. */
#define FINISH_TIMEOUT_US (10ull * CLOCK_US_PER_S)
/* For the other side to close as well: closing while it still sends would throw away replies on their way to it. */
#define LINGER_TIMEOUT_US (2ull * CLOCK_US_PER_S)

bool conn_is_busy(const struct conn *conn)
{
	if (!conn->inflight)
		return stream_queued(conn->stream) > MAX_REPLY_BYTES;
	if (conn->state == CONN_HTTP)
		return true;
	return conn->inflight >= MAX_INFLIGHT || conn->reserved + stream_queued(conn->stream) > MAX_REPLY_BYTES;
}

void conn_free(struct conn *conn)
{
	request_orphan_all(conn);
	if (conn->got)
		request_free(conn->got);
	session_unsubscribe(conn);
	loop_timer_cancel(&conn->timer);
	loop_timer_cancel(&conn->got_timer);
	stream_free(conn->stream);
	server_conn_removed(conn->server, conn);
	grant_unref(conn->grant);
	buf_free(&conn->message);
	free(conn);
}

static void timer_abort(struct loop_timer *timer)
{
	conn_free(lws_container_of(timer, struct conn, timer));
}

void conn_abort(struct conn *conn)
{
	conn->state = CONN_CLOSING;
	session_unsubscribe(conn);
	loop_timer_set(conn->server->loop, &conn->timer, 0, timer_abort);
}

void conn_wake(struct conn *conn)
{
	stream_wake(conn->stream);
}

void conn_finish(struct conn *conn, enum ws_status status, const char *reason)
{
	if (conn->state == CONN_CLOSING)
		return;
	conn->state = CONN_CLOSING;
	conn->close_status = status;
	conn->close_reason = reason;
	session_unsubscribe(conn);
	loop_timer_set(conn->server->loop, &conn->timer, FINISH_TIMEOUT_US, timer_abort);
	conn_wake(conn);
}

/* One step towards the end. True: it was freed. */
static bool close_step(struct conn *conn)
{
	struct str input = stream_input(conn->stream);

	stream_consume(conn->stream, input.len);
	if (conn->inflight)
		return false;
	if (conn->websocket && conn->close_status) {
		if (ws_close_add(stream_output(conn->stream), conn->close_status, conn->close_reason))
			log_debug("no memory for a close frame");
		conn->close_status = 0;
		stream_flush(conn->stream);
	}
	if (stream_queued(conn->stream))
		return false;
	if (stream_eof(conn->stream)) {
		conn_free(conn);
		return true;
	}
	if (!conn->shut) {
		conn->shut = true;
		stream_shutdown(conn->stream);
		loop_timer_set(conn->server->loop, &conn->timer, LINGER_TIMEOUT_US, timer_abort);
	}
	return false;
}

/* Takes on as much as it may, then looks at what follows from it. May free the connection. */
static void process(struct conn *conn)
{
	bool more = true;

	while (more && conn->state != CONN_CLOSING && !conn_is_busy(conn))
		more = conn->state == CONN_HTTP ? rest_input(conn) : session_input(conn);
	if (conn->state == CONN_CLOSING || stream_eof(conn->stream) || conn->server->draining)
		session_hand_over(conn);
	engine_flush(conn->server->engine);
	if (conn->state != CONN_CLOSING && !conn_is_busy(conn)) {
		if (stream_eof(conn->stream))
			conn_finish(conn, WS_STATUS_NORMAL, "");
		else if (conn->server->draining)
			conn_finish(conn, WS_STATUS_GOING_AWAY, "server is shutting down");
	}
	if (conn->state == CONN_CLOSING && close_step(conn))
		return;
	stream_pause(conn->stream,
		     conn->state != CONN_CLOSING && conn_is_busy(conn) && stream_input(conn->stream).len > 0);
}

static void on_readable(void *arg)
{
	process(arg);
}

static void on_closed(void *arg)
{
	struct conn *conn = arg;

	conn->stream = NULL;
	conn_free(conn);
}

static const struct stream_handlers handlers = {
	.readable = on_readable,
	.drained = on_readable,
	.closed = on_closed,
};

static void timer_http(struct loop_timer *timer)
{
	struct conn *conn = lws_container_of(timer, struct conn, timer);

	if (conn->inflight)
		loop_timer_set(conn->server->loop, timer, HTTP_TIMEOUT_US, timer_http);
	else
		conn_finish(conn, WS_STATUS_NORMAL, "");
}

void conn_restart_http_timer(struct conn *conn)
{
	loop_timer_set(conn->server->loop, &conn->timer, HTTP_TIMEOUT_US, timer_http);
}

void conn_start(struct server *server, int fd)
{
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!conn) {
		close(fd);
		return;
	}
	conn->server = server;
	if (stream_new(server->loop, server->vhost, fd, &handlers, conn, &server->metrics.received_bytes,
		       &server->metrics.sent_bytes, &conn->stream)) {
		free(conn);
		return;
	}
	server_conn_added(server, conn);
	conn_restart_http_timer(conn);
}

void conn_drain(struct conn *conn)
{
	if (conn->state == CONN_CLOSING)
		return;
	stream_read_now(conn->stream);
	process(conn);
}
