/* What the parts of the server share. All of it belongs to the loop's thread. */
#ifndef HPKVFS_SERVER_SERVER_H
#define HPKVFS_SERVER_SERVER_H

#include "base/loop.h"
#include "server/engine.h"
#include "server/metrics.h"
#include "server/options.h"
#include "server/protocol.h"
#include "server/rate.h"
#include "server/token.h"

#define SERVER_HASH_BYTES 32
/* Of the records in one reply to a range, as JSON. */
#define SERVER_RANGE_BYTES (4 * 1024 * 1024)

struct conn;
struct listener;

struct server {
	struct loop *loop;
	struct lws_vhost *vhost;
	const struct options *options;
	struct protocol_limits limits;
	size_t max_message; /* bytes of a WebSocket message or an HTTP body */
	unsigned char api_key_hash[SERVER_HASH_BYTES];
	unsigned char token_key[TOKEN_KEY_BYTES];
	struct engine *engine;
	struct metrics metrics;
	struct rate rate;

	struct listener *listeners;
	struct conn *conns;
	struct conn *subscribers;
	unsigned inflight;         /* requests in the engine */
	int64_t last_timestamp_ms; /* of a notification; never goes back */
	bool draining;
	struct loop_timer idle;     /* --idle-exit, while nobody is connected */
	struct loop_timer deadline; /* of draining */
};

/* The API key's hash and the tokens' key, from its text; the vhost; limits. 0 or -ENOMEM. */
CHECKED int server_init(struct server *server, struct loop *loop, const struct options *options, struct str api_key);
void server_deinit(struct server *server);

/* True for the API key; takes the same time for every wrong one. */
bool server_key_matches(const struct server *server, struct str api_key);

/* Connections tell when they came and went. */
void server_conn_added(struct server *server, struct conn *conn);
void server_conn_removed(struct server *server, struct conn *conn);

/* Starts the clock of --idle-exit, if nobody is connected. */
void server_watch_idle(struct server *server);

/* Stops listening, answers what was received, closes all connections, then stops the loop. */
void server_drain(struct server *server);

/* Stops the loop once draining is complete. */
void server_check_drained(struct server *server);

#endif
