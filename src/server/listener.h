/* Sockets that accept connections. */
#ifndef HPKVFS_SERVER_LISTENER_H
#define HPKVFS_SERVER_LISTENER_H

#include "server/server.h"

/* Opens what --listen says, and tells on standard output where. A socket file at a Unix path is removed if nobody
 * answers there any more. 0, or -1 with one line in `why`. */
CHECKED int listener_new(struct server *server, const char *address, struct buf *why);

/* Removes the socket files first, so that nobody new comes, then closes. */
void listeners_close(struct server *server);

#endif
