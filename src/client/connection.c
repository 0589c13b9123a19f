#include "client/connection.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "client/frames.h"

/* So much is sent in one go: more would not save anything more. */
#define GATHERED_BYTES (16 * 1024)

/* Those of libwebsockets hold eight bytes. */
#define PING_PAYLOAD "hpkv"

struct connection {
	struct lws *wsi; /* its user pointer is this struct until the connection ends or is freed */
	const struct connection_events *events;
	void *arg;
	size_t max_message_bytes;
	bool opening;        /* inside connection_open */
	bool failed;         /* ended inside connection_open */
	bool sent_handshake; /* TCP and TLS stand */
	bool upgraded;
	bool closing; /* connection_close was called */
	bool close_sent;
	bool kicked; /* a WRITEABLE callback is coming */
	bool ping;   /* one is to be sent */
	bool tls;
	uint64_t valid_us;       /* when libwebsockets was last told of a sign of life */
	struct buf rx;           /* the fragments of a message so far */
	struct frames tx;        /* being sent */
	struct hpkv_error error; /* why it ends, where that is known before it does */
};

/* libwebsockets takes only pongs for signs of life, but a peer that is busy sending one large message cannot answer a
 * ping. Telling it of what arrives moves a timer, which is too dear for every message. */
#define VALID_EVERY_US (CLOCK_US_PER_S / 2)

static int connection_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);

static const struct lws_protocols protocols[] = {
	{ .name = "hpkv", .callback = connection_callback, .rx_buffer_size = 64 * 1024 },
	{ 0 },
};

/* --- how it ends --- */

static void set_error(struct connection *connection, int err, int code, const char *text)
{
	if (connection->error.err == 0)
		error_set(&connection->error, err, code, "%s", text);
}

static void refused_error(struct connection *connection, int status)
{
	struct hpkv_error *error = &connection->error;

	if (status == 401 || status == 403)
		error_set(error, -EACCES, status, "the server refused the API key or token (HTTP %d)", status);
	else if (status == 429)
		error_set(error, -EAGAIN, status, "the server refused the connection: too many requests (HTTP 429)");
	else if (status >= 500)
		error_set(error, -EIO, status, "the server refused the connection (HTTP %d)", status);
	else if (status >= 300 && status < 400)
		error_set(error, -EPROTO, status,
			  "the server redirects elsewhere (HTTP %d); redirects are not followed", status);
	else
		error_set(error, -EPROTO, status, "no HPKV server answers at this URL (HTTP %d)", status);
}

/* libwebsockets' own text for a bad certificate is "SSL err 1"; OpenSSL knows more. */
static const char *certificate_fault(struct lws *wsi)
{
	const SSL *ssl = lws_get_ssl(wsi);
	long code = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;

	return code == X509_V_OK ? NULL : X509_verify_cert_error_string(code);
}

/* An answer came, but one without a status of its own: its head has no end, or only announces another. */
static bool answer_misread(const char *text)
{
	return strncmp(text, "HS: ", 4) == 0 || strstr(text, "parsing");
}

/* libwebsockets says what went wrong in words; the phases that were reached tell more. */
static void failure_error(struct connection *connection, struct lws *wsi, const char *text)
{
	int status = (int)lws_http_client_http_response(wsi);
	const char *fault = connection->tls ? certificate_fault(wsi) : NULL;

	if (connection->error.err)
		return;
	if (fault)
		error_set(&connection->error, -EPROTO, 0, "the server's certificate was not accepted: %s", fault);
	else if (connection->sent_handshake && status >= 200 && status != 101)
		refused_error(connection, status);
	else if (connection->sent_handshake && (status == 101 || answer_misread(text)))
		error_set(&connection->error, -EPROTO, status, "the server's WebSocket upgrade makes no sense: %s",
			  text);
	else if (connection->sent_handshake)
		error_set(&connection->error, -ECONNRESET, 0, "the server hung up before it answered: %s", text);
	else if (connection->tls && (strstr(text, "SSL") || strstr(text, "tls")))
		error_set(&connection->error, -EPROTO, 0, "no TLS connection could be made: %s", text);
	else
		error_set(&connection->error, -ECONNREFUSED, 0, "no connection could be made: %s", text);
}

/* The last use of the struct by libwebsockets. */
static void ended(struct connection *connection)
{
	struct hpkv_error error = connection->error; /* outlives the connection, which `closed` frees */

	lws_set_wsi_user(connection->wsi, NULL);
	connection->wsi = NULL;
	if (connection->opening) {
		connection->failed = true;
		return;
	}
	connection->events->closed(connection->arg, connection->closing ? NULL : &error);
}

static void closed_by_peer(struct connection *connection, const unsigned char *in, size_t len)
{
	int code = len >= 2 ? in[0] << 8 | in[1] : 0;

	if (connection->error.err)
		return;
	if (len > 2)
		error_set(&connection->error, -ECONNRESET, code, "the server closed the connection (%d: %.*s)", code,
			  (int)(len - 2), (const char *)in + 2);
	else
		error_set(&connection->error, -ECONNRESET, code, "the server closed the connection (%d)", code);
}

/* --- receiving --- */

static void sign_of_life(struct connection *connection, struct lws *wsi)
{
	uint64_t now = clock_now_us();

	if (now - connection->valid_us < VALID_EVERY_US)
		return;
	connection->valid_us = now;
	lws_validity_confirmed(wsi);
}

static int too_large(struct connection *connection)
{
	error_set(&connection->error, -EPROTO, 0, "the server sent a message larger than %zu bytes",
		  connection->max_message_bytes);
	return -1;
}

static int receive(struct connection *connection, struct lws *wsi, const char *in, size_t len)
{
	size_t rest = lws_remaining_packet_payload(wsi);
	bool last = lws_is_final_fragment(wsi) && rest == 0;
	CLEANUP(buf_free) struct buf whole = BUF_INIT;

	sign_of_life(connection, wsi);
	if (connection->closing)
		return 0;
	/* the frame's length is known before its content has come; subtracting, as a length may be near SIZE_MAX */
	if (connection->rx.len + len > connection->max_message_bytes ||
	    rest > connection->max_message_bytes - connection->rx.len - len)
		return too_large(connection);
	if (last && connection->rx.len == 0) {
		connection->events->message(connection->arg, str_of(in, len));
		return lws_wsi_user(wsi) ? 0 : -1;
	}
	if ((connection->rx.len == 0 && buf_reserve(&connection->rx, len + rest) < 0) ||
	    buf_add(&connection->rx, in, len) < 0) {
		set_error(connection, -ENOMEM, 0, "out of memory");
		return -1;
	}
	if (!last)
		return 0;
	whole = buf_take(&connection->rx);
	connection->events->message(connection->arg, buf_str(&whole));
	return lws_wsi_user(wsi) ? 0 : -1;
}

static int receive_pong(struct connection *connection, struct lws *wsi, const char *in, size_t len)
{
	if (connection->events->pong && str_equal(str_of(in, len), STR(PING_PAYLOAD)))
		connection->events->pong(connection->arg);
	return lws_wsi_user(wsi) ? 0 : -1;
}

/* --- sending --- */

/* Takes what waits, up to a limit, and what may not be parted from that. */
static int gather(struct connection *connection)
{
	struct frames *frames = &connection->tx;
	struct buf *frame;
	int r = 0;

	frames_clear(frames);
	if (connection->ping)
		r = frames_add_ping(frames, STR(PING_PAYLOAD));
	connection->ping = false;
	while (r == 0 && (frame = connection->events->next_frame(connection->arg, frames->out.len >= GATHERED_BYTES)))
		r = frames_add_text(frames, buf_str(frame));
	if (r)
		set_error(connection, r, 0, strerror(-r));
	return r;
}

/* Frames go out until libwebsockets had to keep a part of them: then the socket is full, and WRITEABLE comes again
 * when it is not. lws_send_pipe_choked would cost a system call more. */
static int send_frames(struct connection *connection, struct lws *wsi)
{
	const struct buf *out = &connection->tx.out;

	connection->kicked = false;
	if (connection->closing) {
		if (connection->close_sent)
			return 0;
		connection->close_sent = true;
		lws_close_reason(wsi, LWS_CLOSE_STATUS_NORMAL, NULL, 0);
		return -1;
	}
	while (!lws_partial_buffered(wsi)) {
		if (gather(connection))
			return -1;
		if (out->len == 0)
			return 0;
		/* whole frames, sent as they are: libwebsockets would make one system call a frame, and one for its mask */
		if (lws_write(wsi, (unsigned char *)out->p, out->len, LWS_WRITE_HTTP) < (int)out->len)
			return -1;
	}
	connection_kick(connection);
	return 0;
}

/* --- events of libwebsockets --- */

static int connection_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct connection *connection = user;

	if (!connection) {
		/* freed, or an event of the vhost itself; whatever is still open there shall close */
		bool open = reason == LWS_CALLBACK_CLIENT_ESTABLISHED || reason == LWS_CALLBACK_CLIENT_RECEIVE ||
			    reason == LWS_CALLBACK_CLIENT_WRITEABLE ||
			    reason == LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER;

		return open ? -1 : 0;
	}
	switch (reason) {
	case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
		connection->sent_handshake = true;
		return 0;
	case LWS_CALLBACK_CLIENT_HTTP_REDIRECT:
		refused_error(connection, (int)lws_http_client_http_response(wsi));
		return -1;
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		connection->wsi = wsi;
		failure_error(connection, wsi, in ? (const char *)in : "no reason given");
		ended(connection);
		return 0;
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		connection->upgraded = true;
		connection->events->open(connection->arg);
		return lws_wsi_user(wsi) ? 0 : -1;
	case LWS_CALLBACK_CLIENT_RECEIVE:
		return receive(connection, wsi, in, len);
	case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
		return receive_pong(connection, wsi, in, len);
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return send_frames(connection, wsi);
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		closed_by_peer(connection, in, len);
		return 0;
	case LWS_CALLBACK_CLIENT_CLOSED:
	case LWS_CALLBACK_CLOSED_CLIENT_HTTP:
		set_error(connection, -ECONNRESET, 0,
			  connection->upgraded ? "the connection was lost" : "the server hung up before it answered");
		ended(connection);
		return 0;
	default:
		return 0;
	}
}

/* --- interface --- */

/* libwebsockets keeps only a pointer, also for a while after a connection was freed. */
static const lws_retry_bo_t *validity(struct hpkv_loop *loop, const struct connection_target *target)
{
	lws_retry_bo_t policy;

	memset(&policy, 0, sizeof(policy)); /* the padding too: it is compared by its bytes */
	policy.secs_since_valid_ping = (uint16_t)target->ping_after_s;
	policy.secs_since_valid_hangup = (uint16_t)target->dead_after_s;
	return loop_keep(loop->base, &policy, sizeof(policy));
}

int connection_open(struct hpkv_loop *loop, const struct connection_target *target,
		    const struct connection_events *events, void *arg, struct connection **out,
		    struct hpkv_error *error)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	struct lws_client_connect_info info = {
		.context = loop_context(loop->base),
		.address = target->address,
		.port = target->port,
		.ssl_connection = target->tls ? LCCSCF_USE_SSL : 0,
		.path = target->path,
		.host = target->host,
		.ietf_version_or_minus_one = -1,
		.userdata = connection,
		.local_protocol_name = protocols[0].name,
		.retry_and_idle_policy = validity(loop, target),
	};
	int r;

	if (!connection || !info.retry_and_idle_policy) {
		free(connection);
		return error_set(error, -ENOMEM, 0, "out of memory");
	}
	connection->events = events;
	connection->arg = arg;
	connection->max_message_bytes = target->max_message_bytes;
	connection->tls = target->tls;
	r = vhost_get(loop, target->tls, target->ca_file, protocols, &info.vhost, error);
	if (r) {
		free(connection);
		return r;
	}
	connection->opening = true;
	connection->wsi = lws_client_connect_via_info(&info);
	connection->opening = false;
	if (connection->failed || !connection->wsi) {
		set_error(connection, -ECONNREFUSED, 0, "no connection could be made");
		r = error_set(error, connection->error.err, connection->error.code, "%s", connection->error.text);
		connection_free(connection);
		return r;
	}
	*out = connection;
	return 0;
}

void connection_set_events(struct connection *connection, const struct connection_events *events, void *arg)
{
	connection->events = events;
	connection->arg = arg;
}

void connection_kick(struct connection *connection)
{
	if (connection->kicked || !connection->upgraded || !connection->wsi)
		return;
	connection->kicked = true;
	lws_callback_on_writable(connection->wsi);
}

void connection_ping(struct connection *connection)
{
	connection->ping = true;
	connection_kick(connection);
}

void connection_close(struct connection *connection)
{
	connection->closing = true;
	connection->kicked = false;
	connection_kick(connection);
}

void connection_free(struct connection *connection)
{
	if (!connection)
		return;
	if (connection->wsi && !connection->failed) {
		lws_set_wsi_user(connection->wsi, NULL);
		lws_set_timeout(connection->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
	}
	buf_free(&connection->rx);
	frames_free(&connection->tx);
	free(connection);
}
