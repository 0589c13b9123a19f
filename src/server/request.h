/* A request from its decoding to its answer, counted, limited and announced: what WebSocket and REST share. */
#ifndef HPKVFS_SERVER_REQUEST_H
#define HPKVFS_SERVER_REQUEST_H

#include "server/conn.h"

struct request {
	struct engine_request engine;
	struct request *prev, *next; /* of its connection */
	struct server *server;
	struct conn *conn; /* NULL: has gone; a write takes effect and is announced all the same */
	struct grant *grant;
	size_t reserved;
	struct buf message_id; /* WebSocket: JSON text */
};

/* NULL: no memory. */
struct request *request_new(struct conn *conn);
void request_free(struct request *request);

/* The checks that need no decoding, in the order in which they are made: the rate, the token's access pattern. 200 or
 * the code, with text in `error`. */
CHECKED int request_check_rate(struct server *server, const char **error);
CHECKED int request_check_access(const struct request *request, const char **error);

/* Gives it to the engine, which is to be flushed; takes it over. Its answer goes to session_reply or rest_reply. */
void request_submit(struct request *request);

/* The connection goes: its requests live on without it. */
void request_orphan_all(struct conn *conn);

#endif
