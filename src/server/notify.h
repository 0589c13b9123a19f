#ifndef HPKVFS_SERVER_NOTIFY_H
#define HPKVFS_SERVER_NOTIFY_H

#include "server/server.h"

/* Tells every subscriber that hears of the key. `value` NULL: it was deleted. A subscriber that has too much
 * waiting already is closed: after a lost connection it knows that it missed something. */
void notify_change(struct server *server, struct str key, const struct str *value, bool number);

#endif
