/* A mount's figures as JSON, for `.hpkvfs/stats` and user.hpkv.stats; mount.hpkvfs(8) describes each member. */
#ifndef HPKVFS_MOUNT_STATS_H
#define HPKVFS_MOUNT_STATS_H

#include "base/buf.h"
#include "client/hpkv.h"
#include "fs/fs.h"
#include "mount/invalidator.h"
#include "mount/subscription.h"
#include "mount/upcalls.h"

struct stats {
	struct hpkv_stats store;
	struct hpkv_throttle_status throttle;
	bool subscribes;
	struct subscription_figures subscription; /* if so */
	struct fs_figures fs;
	struct invalidator_figures invalidator;
	const struct upcalls *upcalls; /* borrowed */
};

/* Appends one object and a newline. -ENOMEM. */
CHECKED int stats_format(const struct stats *stats, struct buf *out);

#endif
