/* The mount's second connection, on which the server tells of every change of a key that begins with the prefix. It gets its
 * tokens itself, renews them, and is made anew for ever. Belongs to the loop's thread.
 *
 * It is live once the server has answered a request on that connection: what changes from then on is told. It is not live any
 * more when the connection was lost or has been silent for 5 s, when the machine was suspended, when something came that makes no
 * sense, or when its user doubts it. */
#ifndef HPKVFS_MOUNT_SUBSCRIPTION_H
#define HPKVFS_MOUNT_SUBSCRIPTION_H

#include "base/buf.h"
#include "base/loop.h"
#include "client/hpkv.h"

struct subscription;

struct subscription_config {
	const char *url;
	const char *api_key; /* NULL for local:DIR */
	const char *ca_file; /* NULL: the system's authorities */
	bool insecure;
	size_t max_value;  /* bytes */
	struct str prefix; /* of the keys that are told of */
};

/* Called on the loop; each may call subscription_doubt and subscription_stop. */
struct subscription_events {
	void (*live)(void *arg);
	/* Once for each `live`, also by subscription_doubt and subscription_stop, before these return. */
	void (*lost)(void *arg);
	/* Only while it is live. `value` NULL: the key was deleted; a number is given as its JSON text. All borrowed. */
	void (*notified)(void *arg, struct str key, const struct str *value, int64_t time_ms);
	void *arg;
};

/* Checks the configuration; no traffic yet. All is copied. 0, -EINVAL (the text says what is wrong), -ENOMEM. */
CHECKED int subscription_new(struct loop *loop, const struct subscription_config *config,
			     const struct subscription_events *events, struct subscription **out,
			     struct hpkv_error *error);

/* Begins to connect, soon. Once. */
void subscription_start(struct subscription *subscription);

/* A change was not told of, so it is dead whatever its connection looks like: a new one is made. */
void subscription_doubt(struct subscription *subscription);

/* For good; nothing is called afterwards. Where there is a connection, it is closed in order as long as the loop is served. NULL is
 * allowed. */
void subscription_stop(struct subscription *subscription);

/* Calls nothing. Outside of loop_run only. NULL is allowed. */
void subscription_free(struct subscription *subscription);

struct subscription_figures {
	bool live;
	uint64_t begun, lost; /* how often it became live, and ceased to be */
	uint64_t notified;    /* what was told while it was */
	uint64_t outside;     /* and concerned other keys: patterns of a prefix with a * cannot be exact */
};

struct subscription_figures subscription_figures(const struct subscription *subscription);

#endif
