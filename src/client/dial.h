/* From a client's URL to an open connection: find the addresses (or the local server, started if none answers), then try
 * each in turn. All of it has connect_timeout_ms; an address that does not answer gets its share of what is left, so
 * that the next one is reached. */
#ifndef HPKVFS_CLIENT_DIAL_H
#define HPKVFS_CLIENT_DIAL_H

#include "base/loop.h"
#include "client/connection.h"
#include "client/resolver.h"
#include "client/unixpath.h"
#include "client/worker.h"

/* One attempt at a time. A dial keeps its connection to itself until that is open, so a client may have a second one that
 * dials while the connection of the first serves: a change-over to another token gives it a token and functions of its
 * own, and decides in `opened` when the new connection becomes the client's. */
struct dial {
	/* Set by the caller before dial_start. */
	struct hpkv_client *client;
	const char *token; /* instead of the client's credential, or NULL; kept by the caller while it dials */
	/* One of the two ends what dial_start began. The connection is the callee's from now on, and needs
	 * connection_set_events at once. Both may free the client. */
	void (*opened)(struct dial *dial, struct connection *connection);
	void (*failed)(struct dial *dial, const struct hpkv_error *error);

	/* Private. */
	struct job *job; /* the lookup, or the search for a local server */
	struct addresses addresses;
	size_t next;     /* the address to try next */
	unsigned rounds; /* searches for a local server */
	struct unix_path socket;
	char *path; /* of the upgrade; holds the credential */
	struct connection *connection;
	uint64_t deadline_us;
	struct loop_timer timer; /* ends the present try */
	struct hpkv_error error; /* of the last try */
};

void dial_init(struct dial *dial, struct hpkv_client *client);

/* Begins; `failed` may be called before it returns. Whatever the dial was doing is cancelled. */
void dial_start(struct dial *dial);

/* Neither function is called any more, and nothing is held any more. Safe at any time after dial_init. */
void dial_cancel(struct dial *dial);

#endif
