/* HTTP requests, on the loop or blocking. Redirects, proxies, cookies and ~/.netrc are not used, answers are bounded,
 * and each request has a connection of its own. */
#ifndef HPKVFS_CLIENT_HTTP_H
#define HPKVFS_CLIENT_HTTP_H

#include <stdint.h>

#include "base/buf.h"
#include "client/internal.h"
#include "client/worker.h"

struct http_request {
	const char *url;
	/* Where its host is: an IP address. NULL: the URL's host is asked for, or is an address itself. */
	const char *address;
	const char *unix_socket; /* NULL: TCP */
	const char *ca_file;     /* NULL: the system's authorities */
	const char *api_key;     /* NULL: none is sent */
	const char *body;        /* JSON to POST; NULL: a GET */
	uint64_t deadline_us;    /* CLOCK_MONOTONIC */
};

struct http_response {
	int status;
	struct buf body; /* free it */
};

/* --- blocking: for worker threads only --- */

/* The cancellation of `job` (may be NULL) ends it. 0 with whatever status the server gave, or a negative errno (as
 * hpkv_client_connect's, -ECANCELED) with the text in `error`. */
CHECKED int http_do(const struct http_request *request, struct job *job, struct http_response *response,
		    struct hpkv_error *error);

/* --- on the loop --- */

struct http_call;

/* Starts a request whose `address` or `unix_socket` is given: names are never looked up here, since libcurl waits for a
 * lookup under way when its request is cancelled. `request` is copied, but for the descriptor that a path through
 * /proc/self/fd names. `done` runs once, later: with the response (borrowed; it may take the body) and NULL, or the
 * error. 0, -ENOMEM, -ELIBACC: libcurl is not installed. */
CHECKED int http_start(struct hpkv_loop *loop, const struct http_request *request,
		       void (*done)(void *arg, struct http_response *response, const struct hpkv_error *error),
		       void *arg, struct http_call **out);

/* Ends it without `done`; before `done` was called only. */
void http_cancel(struct http_call *call);

/* With the loop, after the last call has ended. */
void http_free(struct hpkv_loop *loop);

#endif
