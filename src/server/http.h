/* As much of HTTP/1.1 as a server of small JSON documents needs: request heads, percent-encoding, replies. */
#ifndef HPKVFS_SERVER_HTTP_H
#define HPKVFS_SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* A request's head; slices of the input. Missing headers are empty. */
struct http_head {
	struct str method;
	struct str path;  /* as sent, percent-encoded, without the query */
	struct str query; /* without '?' */
	bool keep_alive;
	bool expect_continue;
	bool chunked; /* any transfer encoding: not served */
	bool upgrade; /* to a WebSocket */
	size_t content_length;
	struct str api_key;
	struct str ws_key, ws_version;
	size_t total; /* bytes to consume */
};

/* 1: a whole head; 0: more bytes are needed; -400: nonsense. */
CHECKED int http_head_parse(struct str input, struct http_head *out);

/* Appends the decoded text. 0, -EINVAL (a '%' without two hex digits), -ENOMEM. */
CHECKED int http_decode(struct str text, bool plus_is_space, struct buf *out);

/* The first value of a query parameter, still encoded; false: absent. */
bool http_query_find(struct str query, struct str name, struct str *out);

/* Appends a whole reply. 0 or -ENOMEM. */
CHECKED int http_reply_add(struct buf *out, int status, const char *content_type, struct str body, bool keep_alive);

#endif
