/* One WebSocket connection: from a known address through TLS and the upgrade to its end. libwebsockets stays
 * behind this header. A connection is tried once; the next try is a new one. */
#ifndef HPKVFS_CLIENT_CONNECTION_H
#define HPKVFS_CLIENT_CONNECTION_H

#include <libwebsockets.h>

#include "base/buf.h"
#include "client/hpkv.h"
#include "client/internal.h"

struct connection;

/* All run on the loop. Inside any of them connection_free may be called. */
struct connection_events {
	void (*open)(void *arg);
	/* One whole message, valid during the call. */
	void (*message)(void *arg, struct str raw);
	/* The text of the next frame to send, or NULL: nothing waits. It is copied, together with others that wait. `full`: only one
	 * that may not be parted from the one before. */
	struct buf *(*next_frame)(void *arg, bool full);
	/* A connection_ping was answered: what the other side had sent before that has come. NULL where nobody pings. */
	void (*pong)(void *arg);
	/* The end, once: the connection was refused, lost, or closed after connection_close (error NULL). Free
	 * it. */
	void (*closed)(void *arg, const struct hpkv_error *error);
};

struct connection_target {
	const char *address; /* an IP address, or "+PATH" of a Unix socket */
	int port;
	bool tls;
	const char *host; /* Host header without the port, and the name in the certificate */
	const char *path; /* holds the credential: never shown */
	const char *ca_file;
	size_t max_message_bytes;
	unsigned ping_after_s, dead_after_s; /* as in hpkv_config */
};

/* Begins to connect; no event comes before it has returned. The target is copied. 0, -ENOMEM, or the error of a
 * connection that failed at once. */
CHECKED int connection_open(struct hpkv_loop *loop, const struct connection_target *target,
			    const struct connection_events *events, void *arg, struct connection **out,
			    struct hpkv_error *error);

/* Another owner from now on. */
void connection_set_events(struct connection *connection, const struct connection_events *events, void *arg);

/* There are frames to send. Cheap to repeat. */
void connection_kick(struct connection *connection);

/* Sends a ping. Of several the other side may answer only the last. */
void connection_ping(struct connection *connection);

/* Sends a close frame; `closed` follows when the other side has answered or hung up. */
void connection_close(struct connection *connection);

/* Drops the connection at once, without events. */
void connection_free(struct connection *connection);

/* The virtual host that carries connections without TLS, or those with these authorities (NULL: the system's); made
 * once a loop. */
CHECKED int vhost_get(struct hpkv_loop *loop, bool tls, const char *ca_file, const struct lws_protocols *protocols,
		      struct lws_vhost **out, struct hpkv_error *error);

/* Forgets them; libwebsockets frees its part with the loop. */
void vhosts_free(struct hpkv_loop *loop);

#endif
