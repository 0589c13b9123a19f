/* What libhpkv's own parts, the mount and the command line share behind the public header. */
#ifndef HPKVFS_CLIENT_INTERNAL_H
#define HPKVFS_CLIENT_INTERNAL_H

#include <libwebsockets.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/loop.h"
#include "client/hpkv.h"
#include "client/serve.h"

/* --- loops --- */

struct vhost_entry; /* see vhost.c */
struct token_call;  /* see token.c */
struct http;        /* see http_loop.c */

struct hpkv_loop {
	struct loop *base;
	bool owned; /* hpkv_loop_free frees `base` */
	struct serving serving;
	struct vhost_entry *vhosts;
	struct token_call *tokens;
	bool ending;       /* no more tokens: hpkv_loop_free waits for nothing new */
	struct http *http; /* NULL until it is needed */
};

/* Makes a public loop of one that the program has. hpkv_loop_free then leaves `base` alone, and must be called
 * before `base` is freed. hpkv_loop_run, hpkv_loop_call and the waiting calls are not for such a loop: who serves it is not
 * known. 0 or -ENOMEM. */
CHECKED int hpkv_loop_wrap(struct loop *base, struct hpkv_loop **out);

struct loop *hpkv_loop_base(struct hpkv_loop *loop);

/* --- clients --- */

/* The most bytes that a server takes. */
struct server_limits {
	size_t max_key, max_value;
};

/* Those that the server of local:DIR named when it was connected to: it may have been started by hand, or by another version.
 * 0: not known, as with every other server. */
struct server_limits client_server_limits(const struct hpkv_client *client);

/* --- errors --- */

/* Fills in `error` (NULL is allowed) and answers `err`, a negative errno. The text becomes one line of UTF-8. */
int error_set(struct hpkv_error *error, int err, int code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
