/* One HTTP request at a time, blocking: for worker threads only. Redirects, proxies and ~/.netrc are not used. */
#ifndef HPKVFS_CLIENT_HTTP_H
#define HPKVFS_CLIENT_HTTP_H

#include <stdint.h>

#include "base/buf.h"
#include "client/hpkv.h"
#include "client/worker.h"

struct http_request {
	const char *url;
	const char *unix_socket; /* NULL: TCP */
	const char *ca_file;     /* NULL: the system's authorities */
	const char *api_key;     /* NULL: none is sent */
	const char *body;        /* JSON to POST; NULL: a GET */
	uint64_t deadline_us;    /* CLOCK_MONOTONIC */
	struct job *job;         /* whose cancellation ends the request; may be NULL */
};

struct http_response {
	int status;
	struct buf body; /* free it */
};

/* 0 with whatever status the server gave, or a negative errno (as hpkv_client_connect's, -ECANCELED) with the
 * text in `error`. */
CHECKED int http_do(const struct http_request *request, struct http_response *response, struct hpkv_error *error);

#endif
