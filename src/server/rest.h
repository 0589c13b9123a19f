/* HTTP: REST, tokens, health, metrics, and the way to a WebSocket. */
#ifndef HPKVFS_SERVER_REST_H
#define HPKVFS_SERVER_REST_H

#include "server/request.h"

/* Handles one request of the input. False: there is no whole one. */
bool rest_input(struct conn *conn);

void rest_reply(struct conn *conn, struct request *request);

#endif
