#include "server/rest.h"

#include <errno.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "config.h"
#include "server/http.h"
#include "server/session.h"

/* Besides two keys, each of which may be encoded twice (five bytes for one). */
#define HEAD_BYTES (16 * 1024)
#define ENCODED_BYTES 5
#define TOKEN_MAX_DEPTH 8

static const char json_content[] = "application/json";

/* --- replies --- */

static void reply(struct conn *conn, int status, const char *content_type, struct str body)
{
	if (http_reply_add(stream_output(conn->stream), status, content_type, body, conn->keep_alive)) {
		conn_abort(conn);
		return;
	}
	stream_flush(conn->stream);
	conn->told_continue = false;
	if (conn->state == CONN_CLOSING)
		return;
	if (conn->keep_alive)
		conn_restart_http_timer(conn);
	else
		conn_finish(conn, WS_STATUS_NORMAL, "");
}

static void reply_error(struct conn *conn, int status, const char *error)
{
	CLEANUP(buf_free) struct buf body = BUF_INIT;

	if (protocol_add_rest_error(&body, error))
		conn_abort(conn);
	else
		reply(conn, status, json_content, buf_str(&body));
}

void rest_reply(struct conn *conn, struct request *request)
{
	CLEANUP(buf_free) struct buf body = BUF_INIT;

	if (request->engine.code != 200)
		reply_error(conn, request->engine.code, request->engine.error);
	else if (protocol_add_rest_reply(&body, &request->engine))
		reply_error(conn, 500, "Reply cannot be made");
	else
		reply(conn, 200, json_content, buf_str(&body));
}

/* --- routes that need no API key --- */

static int authorize(struct conn *conn, const struct http_head *head, struct grant **grant)
{
	struct server *server = conn->server;
	CLEANUP(buf_free) struct buf decoded = BUF_INIT;
	struct str given;

	*grant = NULL;
	if (http_query_find(head->query, STR("token"), &given)) {
		if (http_decode(given, false, &decoded) ||
		    token_read(buf_str(&decoded), server->token_key, clock_real_ns() / CLOCK_NS_PER_S, grant))
			return 403;
		return 200;
	}
	/* The official client sends its key as it is; others encode it. */
	if (!http_query_find(head->query, STR("apiKey"), &given))
		given = head->api_key;
	if (server_key_matches(server, given))
		return 200;
	return !http_decode(given, false, &decoded) && server_key_matches(server, buf_str(&decoded)) ? 200 : 401;
}

static void route_ws(struct conn *conn, const struct http_head *head)
{
	struct grant *grant;
	int status;

	if (!head->upgrade || head->ws_key.len != 24 || !str_equal(head->ws_version, STR("13"))) {
		reply_error(conn, 426, "This address speaks WebSocket, version 13");
		return;
	}
	status = authorize(conn, head, &grant);
	if (status == 200) {
		session_start(conn, head, grant);
		return;
	}
	conn->server->metrics.refused++;
	conn->keep_alive = false;
	reply_error(conn, status, status == 401 ? "Missing or invalid API key" : "Invalid or expired token");
}

static void route_health(struct conn *conn)
{
	const struct protocol_limits *limits = &conn->server->limits;
	CLEANUP(buf_free) struct buf body = BUF_INIT;

	if (buf_printf(&body, "{\"status\":\"ok\",\"version\":\"%s\",\"maxKey\":%zu,\"maxValue\":%zu}", HPKVFS_VERSION,
		       limits->max_key, limits->max_value))
		conn_abort(conn);
	else
		reply(conn, 200, json_content, buf_str(&body));
}

static void route_metrics(struct conn *conn)
{
	struct metrics *metrics = &conn->server->metrics;
	CLEANUP(buf_free) struct buf body = BUF_INIT;

	metrics->transactions = engine_transactions(conn->server->engine);
	if (metrics_add(metrics, &body))
		conn_abort(conn);
	else
		reply(conn, 200, "text/plain; version=0.0.4", buf_str(&body));
}

/* --- routes with one --- */

static void route_token(struct conn *conn, struct str body)
{
	struct server *server = conn->server;
	CLEANUP(buf_free) struct buf out = BUF_INIT;
	int64_t now = clock_real_ns() / CLOCK_NS_PER_S;
	json_t *request = json_loadb(body.p, body.len, JSON_ALLOW_NUL, NULL);
	const char *why = "Request must be a JSON object";
	int r = -EINVAL;

	if (json_is_object(request))
		r = buf_add_str(&out, STR("{\"token\":\""))
			    ? -ENOMEM
			    : token_add(&out, server->token_key, request, now + server->options->token_ttl_s, &why);
	json_decref(request);
	if (!r)
		r = buf_add_str(&out, STR("\"}"));
	if (r == -EINVAL) {
		reply_error(conn, 400, why);
	} else if (r) {
		reply_error(conn, 500, "Out of memory");
	} else {
		server->metrics.tokens++;
		reply(conn, 200, json_content, buf_str(&out));
	}
}

/* Submits what was decoded, or answers with the error. */
static void go_on(struct conn *conn, struct request *request, int code, const char *error)
{
	if (code == 200)
		code = request_check_rate(conn->server, &error);
	if (code == 200) {
		request_submit(request);
		return;
	}
	metrics_count(&conn->server->metrics, request->engine.op, code);
	request_free(request);
	reply_error(conn, code, error);
}

/* GET and DELETE /record/KEY */
static void route_key(struct conn *conn, enum engine_op op, struct str encoded)
{
	struct request *request = request_new(conn);
	const char *error = "Key is not percent-encoded rightly";
	int code = 400;

	if (!request) {
		conn_abort(conn);
		return;
	}
	request->engine.op = op;
	if (!http_decode(encoded, false, &request->engine.key))
		code = protocol_check_key(buf_str(&request->engine.key), conn->server->limits.max_key, &error);
	go_on(conn, request, code, error);
}

/* The official client encodes range keys twice, others once: the second decoding is for those that can be
 * decoded once more, and whose result is text. */
static int decode_range_key(const struct http_head *head, struct str name, size_t max_key, struct buf *out,
			    const char **error)
{
	CLEANUP(buf_free) struct buf once = BUF_INIT;
	struct str encoded;

	if (!http_query_find(head->query, name, &encoded)) {
		*error = "startKey and endKey are needed";
		return 400;
	}
	if (http_decode(encoded, true, &once)) {
		*error = "Key is not percent-encoded rightly";
		return 400;
	}
	if (http_decode(buf_str(&once), false, out) || !utf8_valid(buf_str(out))) {
		buf_free(out);
		*out = buf_take(&once);
	}
	return protocol_check_key(buf_str(out), max_key + PROTOCOL_RANGE_KEY_EXTRA, error);
}

static void route_range(struct conn *conn, const struct http_head *head)
{
	struct request *request = request_new(conn);
	size_t max_key = conn->server->limits.max_key;
	struct str limit = STR("");
	const char *error;
	int code;

	if (!request) {
		conn_abort(conn);
		return;
	}
	request->engine.op = ENGINE_RANGE;
	code = decode_range_key(head, STR("startKey"), max_key, &request->engine.key, &error);
	if (code == 200)
		code = decode_range_key(head, STR("endKey"), max_key, &request->engine.end_key, &error);
	(void)http_query_find(head->query, STR("limit"), &limit);
	if (code == 200)
		code = protocol_check_limit(limit, &request->engine.limit, &error);
	go_on(conn, request, code, error);
}

static void route_body(struct conn *conn, bool atomic, struct str body)
{
	struct request *request = request_new(conn);
	const struct protocol_limits *limits = &conn->server->limits;
	const char *error;
	int code;

	if (!request) {
		conn_abort(conn);
		return;
	}
	if (atomic)
		code = protocol_decode_atomic(body, limits, &request->engine, &error);
	else
		code = protocol_decode_record(body, limits, &request->engine, &error);
	go_on(conn, request, code, error);
}

/* --- dispatch --- */

enum route {
	ROUTE_NONE,
	ROUTE_WS,
	ROUTE_HEALTH,
	ROUTE_METRICS,
	ROUTE_KEYED, /* from here on with an API key */
	ROUTE_TOKEN = ROUTE_KEYED,
	ROUTE_GET,
	ROUTE_DELETE,
	ROUTE_RANGE,
	ROUTE_SET,
	ROUTE_ATOMIC,
};

static const struct {
	enum route route;
	const char *method, *path;
	unsigned operation; /* for the counters */
} routes[] = {
	{ ROUTE_WS, "GET", "/ws", 0 },
	{ ROUTE_HEALTH, "GET", "/health", 0 },
	{ ROUTE_METRICS, "GET", "/metrics", 0 },
	{ ROUTE_TOKEN, "POST", "/token/websocket", 0 },
	{ ROUTE_RANGE, "GET", "/records", ENGINE_RANGE },
	{ ROUTE_SET, "POST", "/record", ENGINE_SET },
	{ ROUTE_ATOMIC, "POST", "/record/atomic", ENGINE_ATOMIC },
};

/* Finds the route, and in `key` what follows /record/. */
static enum route find_route(const struct http_head *head, unsigned *operation, struct str *key, bool *known_path)
{
	struct str prefix = STR("/record/");

	*operation = 0;
	*known_path = false;
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (!str_equal(head->path, str_c(routes[i].path)))
			continue;
		*known_path = true;
		if (!str_equal(head->method, str_c(routes[i].method)))
			continue;
		*operation = routes[i].operation;
		return routes[i].route;
	}
	if (!str_starts(head->path, prefix))
		return ROUTE_NONE;
	*known_path = true;
	*key = str_skip(head->path, prefix.len);
	if (str_equal(head->method, STR("GET")))
		*operation = ENGINE_GET;
	else if (str_equal(head->method, STR("DELETE")))
		*operation = ENGINE_DELETE;
	else
		return ROUTE_NONE;
	return *operation == ENGINE_GET ? ROUTE_GET : ROUTE_DELETE;
}

static void run_route(struct conn *conn, enum route route, const struct http_head *head, struct str key,
		      struct str body)
{
	switch (route) {
	case ROUTE_WS:
		route_ws(conn, head);
		break;
	case ROUTE_HEALTH:
		route_health(conn);
		break;
	case ROUTE_METRICS:
		route_metrics(conn);
		break;
	case ROUTE_TOKEN:
		route_token(conn, body);
		break;
	case ROUTE_GET:
		route_key(conn, ENGINE_GET, key);
		break;
	case ROUTE_DELETE:
		route_key(conn, ENGINE_DELETE, key);
		break;
	case ROUTE_RANGE:
		route_range(conn, head);
		break;
	case ROUTE_SET:
	case ROUTE_ATOMIC:
		route_body(conn, route == ROUTE_ATOMIC, body);
		break;
	case ROUTE_NONE:
		break;
	}
}

/* What must be refused before its body is read, as it may not come or be too large. 200 or the status. */
static int check_head(struct conn *conn, const struct http_head *head, enum route route, bool known_path,
		      const char **error)
{
	*error = "";
	if (head->chunked) {
		*error = "Content-Length is needed";
		return 411;
	}
	if (route == ROUTE_NONE) {
		*error = known_path ? "Method not allowed" : "No such address";
		return known_path ? 405 : 404;
	}
	if (route >= ROUTE_KEYED && !server_key_matches(conn->server, head->api_key)) {
		conn->server->metrics.refused++;
		*error = "Missing or invalid API key";
		return 401;
	}
	if (head->content_length > conn->server->max_message) {
		*error = "Body is too large";
		return 413;
	}
	return 200;
}

/* Waits for the rest of the body, and asks for it if the client waits to be asked. */
static bool need_body(struct conn *conn, const struct http_head *head)
{
	if (head->expect_continue && !conn->told_continue) {
		conn->told_continue = true;
		if (buf_add_str(stream_output(conn->stream), STR("HTTP/1.1 100 Continue\r\n\r\n")))
			conn_abort(conn);
		else
			stream_flush(conn->stream);
	}
	return false;
}

bool rest_input(struct conn *conn)
{
	struct str input = stream_input(conn->stream), key = STR(""), body;
	struct http_head head;
	const char *error;
	unsigned operation;
	bool known_path;
	enum route route;
	size_t max_head = HEAD_BYTES + 2 * ENCODED_BYTES * conn->server->limits.max_key;
	int status = http_head_parse(input, &head);

	if (status <= 0 || head.total > max_head) {
		conn->keep_alive = false;
		if (status < 0)
			reply_error(conn, 400, "Malformed request");
		else if (input.len > max_head)
			reply_error(conn, 431, "Request head is too large");
		return false;
	}
	conn->keep_alive = head.keep_alive;
	route = find_route(&head, &operation, &key, &known_path);
	status = check_head(conn, &head, route, known_path, &error);
	if (status != 200) {
		if (operation)
			metrics_count(&conn->server->metrics, operation, status);
		/* the body, if there is one, is not worth reading */
		if (head.content_length || head.chunked)
			conn->keep_alive = false;
		reply_error(conn, status, error);
		stream_consume(conn->stream, head.total);
		return true;
	}
	if (input.len - head.total < head.content_length)
		return need_body(conn, &head);
	body = str_of(input.p + head.total, head.content_length);
	run_route(conn, route, &head, key, body);
	if (!conn->websocket)
		stream_consume(conn->stream, head.total + head.content_length);
	return true;
}
