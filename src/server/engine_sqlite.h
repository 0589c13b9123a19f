#ifndef HPKVFS_SERVER_ENGINE_SQLITE_H
#define HPKVFS_SERVER_ENGINE_SQLITE_H

#include "base/loop.h"
#include "server/engine.h"
#include "server/store.h"

struct engine_sqlite_config {
	const char *directory;
	enum store_sync sync;
	size_t max_value; /* bytes; what PATCH and ATOMIC make must fit too */
	size_t range_bytes; /* a range's reply: it ends before its records, as JSON, pass this, but never before the first */
};

/* Opens the store and starts the threads. 0, or -1 with one line in `why`. Free with engine_free. */
CHECKED int engine_sqlite_new(struct loop *loop, const struct engine_sqlite_config *config, struct engine **out,
			      struct buf *why);

#endif
