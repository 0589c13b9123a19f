/* The store that SPEC and the options name, as its connection needs it. */
#ifndef HPKVFS_MOUNT_TARGET_H
#define HPKVFS_MOUNT_TARGET_H

#include "base/loop.h"
#include "client/hpkv.h"
#include "mount/options.h"
#include "mount/store_hpkv.h"
#include "mount/subscription.h"

/* Owned. */
struct target {
	char *url;       /* with paths that are absolute */
	char *local_dir; /* of local:DIR; NULL */
	char *api_key;   /* NULL for local:DIR */
};

/* Reads the credentials; those in the environment are not for the server of local:DIR, and are taken out of it. 0; -ENOMEM;
 * else `error` says what is wrong. */
CHECKED int target_find(const struct options *options, struct target *out, struct hpkv_error *error);
void target_free(struct target *target);

/* store_hpkv_new for it. `ca_file` may be NULL. */
CHECKED int target_store(const struct target *target, const struct options *options, const char *ca_file,
			 struct loop *loop, struct store_hpkv **out, struct hpkv_error *error);

/* subscription_new for it, in the same way. */
CHECKED int target_subscription(const struct target *target, const struct options *options, const char *ca_file,
				struct loop *loop, const struct subscription_events *events, struct subscription **out,
				struct hpkv_error *error);

#endif
