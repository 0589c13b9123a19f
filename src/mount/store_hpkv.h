/* The store that the filesystem speaks to, over libhpkv, which keeps the connection up. Belongs to the loop's thread.
 *
 * A request that was begun is given up after `timeout_us`, counted from its first sending or, while there is no
 * connection, from when it began to wait for one: -ETIMEDOUT if the server did not answer, -EIO if it could not be
 * reached. Within that time reads are repeated after a lost connection, and everything after a 429. */
#ifndef HPKVFS_MOUNT_STORE_HPKV_H
#define HPKVFS_MOUNT_STORE_HPKV_H

#include "base/buf.h"
#include "base/loop.h"
#include "client/hpkv.h"
#include "fs/store.h"

struct store_hpkv;

struct store_hpkv_config {
	const char *url;
	const char *api_key; /* NULL for local:DIR */
	const char *ca_file; /* NULL: the system's authorities */
	bool insecure;
	uint64_t timeout_us;
	size_t max_value;  /* bytes */
	unsigned inflight; /* the most requests that are sent and unanswered */
	double rate_per_s; /* the most requests; 0: as many as the server takes */
};

/* Checks the configuration; no traffic yet. Strings are copied. 0, -EINVAL (the text says what is wrong), -ENOMEM. */
CHECKED int store_hpkv_new(struct loop *loop, const struct store_hpkv_config *config, struct store_hpkv **out,
			   struct hpkv_error *error);

/* Connects for the first time, once: later connections are renewed without end. On failure `error` has the reason. */
co_fn CHECKED int store_hpkv_connect(struct store_hpkv *store, struct hpkv_error *error);

/* Of a server whose limits are known, once connected, and that takes less than `max_key` or `max_value`: lowers them. */
void store_hpkv_lower_limits(const struct store_hpkv *store, size_t *max_key, size_t *max_value);

/* From now on failures are logged. Before, the last one is kept for the one line that says why there is no mount. */
void store_hpkv_start_logging(struct store_hpkv *store);

/* The text of the last failure, or "". Valid until the next. */
const char *store_hpkv_last_failure(const struct store_hpkv *store);

/* Figures of the whole life of the connection, and of the present moment. */
void store_hpkv_stats(const struct store_hpkv *store, struct hpkv_stats *stats, struct hpkv_throttle_status *throttle);

/* The interface for fs_new. */
struct store *store_hpkv_store(struct store_hpkv *store);

/* From now on every request, those under way included, ends with -EIO: for an end that cannot wait. */
void store_hpkv_give_up(struct store_hpkv *store);

/* Says good-bye to the server, if it is there. No requests may follow. */
co_fn void store_hpkv_disconnect(struct store_hpkv *store);

/* Requests that are left end with -EIO before this returns. Outside of loop_run only. */
void store_hpkv_free(struct store_hpkv *store);

#endif
