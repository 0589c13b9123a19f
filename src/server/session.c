#include "server/session.h"

#include "base/clock.h"
#include "base/list.h"

#define TIMER_MAX_S 3600

/* A client may want the answer before it sends the rest. */
#define GOT_MOST_US (1 * (uint64_t)CLOCK_US_PER_S)

/* --- sending --- */

/* Ends a message that was begun where it will be sent from; `r` is what became of its text. */
static int send_text(struct conn *conn, size_t before, int r)
{
	struct buf *out = stream_output(conn->stream);

	if (!r)
		r = ws_frame_end(out, before, WS_TEXT);
	if (r)
		ws_frame_cancel(out, before);
	else
		stream_flush(conn->stream);
	return r;
}

static void send_error(struct conn *conn, int code, const char *error, struct str message_id)
{
	struct buf *out = stream_output(conn->stream);
	size_t before = out->len;
	int r = ws_frame_begin(out);

	if (!r)
		r = protocol_add_error(out, code, error, message_id);
	if (send_text(conn, before, r))
		conn_abort(conn);
}

void session_reply(struct conn *conn, struct request *request)
{
	struct buf *out = stream_output(conn->stream);
	struct engine_request *engine = &request->engine;
	struct str message_id = buf_str(&request->message_id);
	size_t before = out->len;
	int r;

	if (engine->code != 200) {
		send_error(conn, engine->code, engine->error, message_id);
		return;
	}
	r = ws_frame_begin(out);
	if (!r)
		r = protocol_add_reply(out, engine, message_id);
	if (send_text(conn, before, r))
		send_error(conn, 500, "Reply cannot be made", message_id);
}

/* --- receiving --- */

static void refuse(struct conn *conn, struct request *request, unsigned operation, int code, const char *error)
{
	metrics_count(&conn->server->metrics, operation, code);
	send_error(conn, code, error, buf_str(&request->message_id));
	request_free(request);
}

void session_hand_over(struct conn *conn)
{
	struct request *request = STEAL(conn->got);

	loop_timer_cancel(&conn->got_timer);
	if (request)
		request_submit(request);
}

static void got_timer_fired(struct loop_timer *timer)
{
	struct conn *conn = lws_container_of(timer, struct conn, got_timer);

	session_hand_over(conn);
	engine_flush(conn->server->engine);
}

/* There is no whole frame. */
static void wait_for_rest(struct conn *conn, bool begun)
{
	if (!begun && !conn->in_message)
		session_hand_over(conn);
	else if (conn->got && !conn->got_timer.loop)
		loop_timer_set(conn->server->loop, &conn->got_timer, GOT_MOST_US, got_timer_fired);
}

static void submit(struct conn *conn, struct request *request)
{
	if (request->engine.op == ENGINE_GET)
		conn->got = request;
	else
		request_submit(request);
}

static void handle_message(struct conn *conn, struct str text)
{
	struct request *request = request_new(conn);
	struct server *server = conn->server;
	unsigned operation = 0;
	const char *error, *limit_error;
	int code, limit_code;

	session_hand_over(conn);
	if (!request) {
		conn_abort(conn);
		return;
	}
	limit_code = request_check_rate(server, &limit_error);
	code = protocol_decode(text, &server->limits, &request->engine, &request->message_id, &operation, &error);
	if (limit_code != 200) {
		code = limit_code;
		error = limit_error;
	}
	if (code == 200)
		code = request_check_access(request, &error);
	if (code == 200)
		submit(conn, request);
	else
		refuse(conn, request, operation, code, error);
}

/* A part of a message, or a whole one. */
static void handle_data(struct conn *conn, const struct ws_frame *frame)
{
	bool first = frame->opcode != WS_CONTINUATION;

	if (first == conn->in_message) {
		conn_finish(conn, WS_STATUS_PROTOCOL, "fragments out of order");
		return;
	}
	if (frame->opcode == WS_BINARY) {
		conn_finish(conn, WS_STATUS_UNACCEPTABLE, "text frames only");
		return;
	}
	if (first && frame->final) {
		handle_message(conn, str_of(frame->payload, frame->len));
		return;
	}
	conn->in_message = !frame->final;
	if (conn->message.len + frame->len > conn->server->max_message) {
		conn_finish(conn, WS_STATUS_TOO_BIG, "message is too large");
		return;
	}
	if (buf_add(&conn->message, frame->payload, frame->len)) {
		conn_abort(conn);
		return;
	}
	if (frame->final) {
		struct buf message = buf_take(&conn->message);

		handle_message(conn, buf_str(&message));
		buf_free(&message);
	}
}

static enum ws_status close_status(const struct ws_frame *frame)
{
	unsigned status;

	if (frame->len < 2)
		return WS_STATUS_NORMAL;
	status = (unsigned)(unsigned char)frame->payload[0] << 8 | (unsigned char)frame->payload[1];
	/* others must not be sent */
	if (status < 1000 || (status >= 1004 && status <= 1006) || status == 1015 || status >= 5000)
		return WS_STATUS_PROTOCOL;
	return (enum ws_status)status;
}

static void handle_frame(struct conn *conn, const struct ws_frame *frame)
{
	switch (frame->opcode) {
	case WS_CONTINUATION:
	case WS_TEXT:
	case WS_BINARY:
		handle_data(conn, frame);
		break;
	case WS_CLOSE:
		conn_finish(conn, close_status(frame), "");
		break;
	case WS_PING:
		if (ws_frame_add(stream_output(conn->stream), WS_PONG, str_of(frame->payload, frame->len)))
			conn_abort(conn);
		else
			stream_flush(conn->stream);
		break;
	case WS_PONG:
		break;
	}
}

bool session_input(struct conn *conn)
{
	struct str input = stream_input(conn->stream);
	struct ws_frame frame;
	int r = ws_frame_parse(stream_input_bytes(conn->stream), input.len, conn->server->max_message, &frame);

	if (r < 0)
		conn_finish(conn, (enum ws_status) - r,
			    r == -WS_STATUS_TOO_BIG ? "message is too large" : "malformed frame");
	if (r == 0)
		wait_for_rest(conn, input.len > 0);
	if (r <= 0)
		return false;
	handle_frame(conn, &frame);
	stream_consume(conn->stream, frame.total);
	return true;
}

/* --- begin and end --- */

/* The wall clock may be set, and timers stand still in suspend: looked at again at least every hour. */
static void timer_expires(struct loop_timer *timer)
{
	struct conn *conn = lws_container_of(timer, struct conn, timer);
	int64_t left = conn->grant->expires_s - clock_real_ns() / CLOCK_NS_PER_S;

	if (left <= 0) {
		conn_finish(conn, WS_STATUS_POLICY, "token has expired");
		return;
	}
	if (left > TIMER_MAX_S)
		left = TIMER_MAX_S;
	loop_timer_set(conn->server->loop, timer, (uint64_t)left * CLOCK_US_PER_S, timer_expires);
}

static void subscribe(struct conn *conn)
{
	conn->subscribed = true;
	conn->server->metrics.subscriptions++;
	DL_APPEND2(conn->server->subscribers, conn, subscriber_prev, subscriber_next);
}

void session_unsubscribe(struct conn *conn)
{
	if (!conn->subscribed)
		return;
	conn->subscribed = false;
	conn->server->metrics.subscriptions--;
	DL_DELETE2(conn->server->subscribers, conn, subscriber_prev, subscriber_next);
}

void session_start(struct conn *conn, const struct http_head *head, struct grant *grant)
{
	char accept[29];

	ws_accept_key(head->ws_key, accept);
	conn->state = CONN_WEBSOCKET;
	conn->websocket = true;
	conn->grant = grant;
	stream_consume(conn->stream, head->total);
	loop_timer_cancel(&conn->timer);
	if (buf_printf(stream_output(conn->stream),
		       "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		       "Sec-WebSocket-Accept: %s\r\n\r\n",
		       accept)) {
		conn_abort(conn);
		return;
	}
	stream_flush(conn->stream);
	if (grant && grant_subscribes(grant))
		subscribe(conn);
	if (grant)
		timer_expires(&conn->timer);
}
