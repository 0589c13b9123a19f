/* The URL of a server: what hpkv_config.url, the mount's SPEC and HPKV_URL may be. */
#ifndef HPKVFS_CLIENT_URL_H
#define HPKVFS_CLIENT_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "client/hpkv.h"

enum url_kind {
	URL_TCP,
	URL_UNIX,  /* unix:PATH */
	URL_LOCAL, /* local:DIR */
};

struct url {
	enum url_kind kind;
	bool tls;
	uint16_t port;
	bool loopback_only; /* plain, and `insecure` was not given: a name must not lead elsewhere */
	char *host;         /* a name or an address without brackets; "localhost" for sockets */
	char *prefix;       /* the path in front of /ws, "" or "/..." */
	char *path;         /* absolute: the socket, or DIR */
};

/* Reads http(s)://, ws(s)://, unix: and local:. Plain text to a host that is not loopback is refused unless
 * `insecure`. 0, -EINVAL (`error` says why in one line), -ENOMEM. `out` is written only on success. */
CHECKED int url_parse(const char *spec, bool insecure, struct url *out, struct hpkv_error *error);
void url_free(struct url *url);

/* True for 127.0.0.0/8 and ::1 as text. */
bool url_address_is_loopback(const char *address);

/* libwebsockets makes a request's first line of at most 2047 bytes, and cuts off what is more without a word; of these
 * 15 are not the path. */
#define URL_WS_PATH_MAX 2032

/* Appends PREFIX/ws?NAME=SECRET, the secret percent-encoded. 0, -ENOMEM, or -EMSGSIZE: longer than URL_WS_PATH_MAX. No
 * copy of the secret but that in `out` stays in memory, if `out` was empty. */
CHECKED int url_add_ws_path(const struct url *url, const char *name, const char *secret, struct buf *out);

/* Appends HOST[:PORT] as in a Host header: brackets for IPv6, no default port. 0 or -ENOMEM. */
CHECKED int url_add_authority(const struct url *url, struct buf *out);

/* Appends the base of the REST interface: http(s)://HOST[:PORT]PREFIX. 0 or -ENOMEM. */
CHECKED int url_add_http_base(const struct url *url, struct buf *out);

#endif
