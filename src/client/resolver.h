/* Names to addresses, off the loop. */
#ifndef HPKVFS_CLIENT_RESOLVER_H
#define HPKVFS_CLIENT_RESOLVER_H

#include "client/internal.h"
#include "client/url.h"
#include "client/worker.h"

#define RESOLVER_MAX 8

struct addresses {
	char *list[RESOLVER_MAX]; /* as text, in the order to try them */
	size_t count;
};

void addresses_free(struct addresses *addresses);

/* Starts the lookup of the URL's host. Where "localhost" was allowed to go without TLS, only what is that counts. `done`
 * runs on the loop, later, once: with the addresses (borrowed; it may take them and leave {0}) or the error. job_cancel
 * ends it without `done`. 0, -ENOMEM, -EAGAIN. */
CHECKED int resolver_start(struct loop *loop, const struct url *url,
			   void (*done)(void *arg, struct addresses *addresses, const struct hpkv_error *error),
			   void *arg, struct job **out);

#endif
