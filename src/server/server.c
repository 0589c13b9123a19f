#include "server/server.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "server/conn.h"
#include "server/listener.h"

/* A byte of a value can take six in JSON; the rest is for keys and for values a little too large, which are to be
 * refused by an answer rather than by closing the connection. */
#define MESSAGE_BYTES_PER_VALUE_BYTE 6
#define MESSAGE_EXTRA_BYTES (1024 * 1024)

#define DRAIN_TIMEOUT_US (15ull * CLOCK_US_PER_S)

static int hash(struct str text, unsigned char out[SERVER_HASH_BYTES])
{
	return EVP_Digest(text.p, text.len, out, NULL, EVP_sha256(), NULL) == 1 ? 0 : -ENOMEM;
}

int server_init(struct server *server, struct loop *loop, const struct options *options, struct str api_key)
{
	server->loop = loop;
	server->options = options;
	server->limits = (struct protocol_limits){ .max_key = options->max_key, .max_value = options->max_value };
	server->max_message = (size_t)options->max_value * MESSAGE_BYTES_PER_VALUE_BYTE + MESSAGE_EXTRA_BYTES;
	rate_init(&server->rate, options->rate, clock_now_us());
	server->vhost = stream_vhost_new(loop);
	if (!server->vhost || hash(api_key, server->api_key_hash) || token_key_derive(api_key, server->token_key))
		return -ENOMEM;
	return 0;
}

void server_deinit(struct server *server)
{
	struct conn *conn, *next;

	listeners_close(server);
	DL_FOREACH_SAFE(server->conns, conn, next)
		conn_free(conn);
	loop_timer_cancel(&server->idle);
	loop_timer_cancel(&server->deadline);
}

bool server_key_matches(const struct server *server, struct str api_key)
{
	unsigned char given[SERVER_HASH_BYTES];

	/* hashes, since comparing texts of different length would tell the length */
	return !hash(api_key, given) && CRYPTO_memcmp(given, server->api_key_hash, sizeof(given)) == 0;
}

void server_conn_added(struct server *server, struct conn *conn)
{
	DL_APPEND(server->conns, conn);
	server->metrics.connections++;
	server->metrics.connections_total++;
	loop_timer_cancel(&server->idle);
}

void server_conn_removed(struct server *server, struct conn *conn)
{
	DL_DELETE(server->conns, conn);
	server->metrics.connections--;
	server_watch_idle(server);
	server_check_drained(server);
}

static void idle_too_long(struct loop_timer *timer)
{
	struct server *server = lws_container_of(timer, struct server, idle);

	log_info("nobody is connected: ending");
	server_drain(server);
}

void server_watch_idle(struct server *server)
{
	if (!server->conns && server->options->idle_exit_s && !server->draining)
		loop_timer_set(server->loop, &server->idle, server->options->idle_exit_s * (uint64_t)CLOCK_US_PER_S,
			       idle_too_long);
}

static void drained_too_late(struct loop_timer *timer)
{
	struct server *server = lws_container_of(timer, struct server, deadline);

	log_warning("ending with %u requests unanswered", server->inflight);
	loop_stop(server->loop);
}

void server_drain(struct server *server)
{
	struct conn *conn, *next;

	if (server->draining)
		return;
	server->draining = true;
	loop_timer_cancel(&server->idle);
	loop_timer_set(server->loop, &server->deadline, DRAIN_TIMEOUT_US, drained_too_late);
	listeners_close(server);
	DL_FOREACH_SAFE(server->conns, conn, next)
		conn_drain(conn);
	server_check_drained(server);
}

void server_check_drained(struct server *server)
{
	if (server->draining && !server->conns && !server->inflight)
		loop_stop(server->loop);
}
