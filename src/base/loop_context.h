/* A libwebsockets context for a library: making one leaves no traces in the process. The signal dispositions, the global
 * log level and standard error stay as they are, and no descriptor is inherited by programs that are started. */
#ifndef HPKVFS_BASE_LOOP_CONTEXT_H
#define HPKVFS_BASE_LOOP_CONTEXT_H

#include <libwebsockets.h>

/* What libwebsockets writes about one context; in the owner's storage, {0} at first, for as long as the context. */
struct loop_log {
#if LWS_LIBRARY_VERSION_NUMBER >= 4003000
	lws_log_cx_t silent;
#else
	char unused; /* the global level decides */
#endif
};

/* NULL: no memory. Any thread. */
struct lws_context *loop_context_create(const struct lws_context_creation_info *info, struct loop_log *log);

/* A virtual host of such a context is as silent. */
void loop_log_vhost(struct loop_log *log, struct lws_context_creation_info *vhost);

/* Any thread that may end the loop. */
void loop_context_destroy(struct lws_context *context);

#endif
