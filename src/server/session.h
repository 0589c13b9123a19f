/* A WebSocket connection: messages in, replies and notifications out. */
#ifndef HPKVFS_SERVER_SESSION_H
#define HPKVFS_SERVER_SESSION_H

#include "server/http.h"
#include "server/request.h"

/* Turns an HTTP connection into a WebSocket, after its credentials were checked; consumes the head. `grant` (may be
 * NULL: all is allowed) is taken over. */
void session_start(struct conn *conn, const struct http_head *head, struct grant *grant);

/* Handles one frame of the input. False: there is no whole one. A GET goes to the engine together with the message behind it, if
 * that has begun to come: so nothing of others comes between it and a SET (engine.h). */
bool session_input(struct conn *conn);

/* A GET that waits for that goes now. */
void session_hand_over(struct conn *conn);

void session_reply(struct conn *conn, struct request *request);

/* No notifications any more. */
void session_unsubscribe(struct conn *conn);

#endif
