#include "server/request.h"

#include "base/clock.h"
#include "base/list.h"
#include "server/notify.h"
#include "server/rest.h"
#include "server/session.h"

/* What a reply takes besides keys and values. */
#define REPLY_BYTES 256

struct request *request_new(struct conn *conn)
{
	struct request *request = calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	request->server = conn->server;
	request->conn = conn;
	request->grant = grant_ref(conn->grant);
	return request;
}

void request_free(struct request *request)
{
	engine_request_deinit(&request->engine);
	buf_free(&request->message_id);
	grant_unref(request->grant);
	free(request);
}

int request_check_rate(struct server *server, const char **error)
{
	if (rate_take(&server->rate, clock_now_us()))
		return 200;
	*error = "Rate limit exceeded";
	return 429;
}

int request_check_access(const struct request *request, const char **error)
{
	/* a range shows what the pattern allows, and only that */
	if (!request->grant || request->engine.op == ENGINE_RANGE)
		return 200;
	if (grant_allows(request->grant, buf_str(&request->engine.key)))
		return 200;
	*error = "Key is outside the token's access pattern";
	return 403;
}

static bool visible(void *arg, struct str key)
{
	return grant_allows(arg, key);
}

static void announce(struct request *request)
{
	struct engine_request *engine = &request->engine;
	struct str key = buf_str(&engine->key), value;

	if (engine->code != 200 || !engine_op_writes(engine->op))
		return;
	if (engine->op == ENGINE_DELETE) {
		notify_change(request->server, key, NULL, false);
	} else if (engine->op == ENGINE_SET) {
		value = buf_str(&engine->value);
		notify_change(request->server, key, &value, engine->number);
	} else {
		value = buf_str(&engine->result);
		notify_change(request->server, key, &value, engine->result_number);
	}
}

static void request_done(struct engine_request *engine)
{
	struct request *request = lws_container_of(engine, struct request, engine);
	struct server *server = request->server;
	struct conn *conn = request->conn;

	server->inflight--;
	metrics_count(&server->metrics, engine->op, engine->code);
	if (conn) {
		bool busy = conn_is_busy(conn);

		DL_DELETE(conn->requests, request);
		conn->inflight--;
		conn->reserved -= request->reserved;
		if (conn->websocket)
			session_reply(conn, request);
		else
			rest_reply(conn, request);
		if (busy || conn->state == CONN_CLOSING)
			conn_wake(conn);
	}
	announce(request);
	request_free(request);
	server_check_drained(server);
}

void request_submit(struct request *request)
{
	struct engine_request *engine = &request->engine;
	struct conn *conn = request->conn;

	request->reserved = REPLY_BYTES + engine->key.len + engine->value.len;
	if (engine->op == ENGINE_RANGE)
		request->reserved += SERVER_RANGE_BYTES;
	else if (engine->op == ENGINE_GET || engine->op == ENGINE_PATCH)
		request->reserved += request->server->limits.max_value;
	if (request->grant && request->grant->restricted && engine->op == ENGINE_RANGE) {
		engine->visible = visible;
		engine->visible_arg = request->grant;
	}
	DL_APPEND(conn->requests, request);
	conn->inflight++;
	conn->reserved += request->reserved;
	request->server->inflight++;
	engine->done = request_done;
	engine_submit(request->server->engine, engine);
}

void request_orphan_all(struct conn *conn)
{
	struct request *request, *next;

	DL_FOREACH_SAFE(conn->requests, request, next) {
		request->conn = NULL;
		request->prev = request->next = NULL;
	}
	conn->requests = NULL;
}
