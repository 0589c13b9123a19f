/* local:DIR, a server of one's own on a Unix socket in DIR: found, or else started. DIR holds
 *
 *   socket   the server's, made and removed by who holds the lock only
 *   lock     the server holds an exclusive flock on it for its life
 *   key      its API key, 0600, made once by whoever comes first
 *   log      what servers started here said
 *   and the store.
 *
 * Any number of programs may come at once, while a server starts, ends, or was killed: each tries "connect, else start"
 * until one answers. A server that finds the lock held ends at once, so starting one too many is harmless. */
#ifndef HPKVFS_CLIENT_LOCAL_H
#define HPKVFS_CLIENT_LOCAL_H

#include "client/internal.h"
#include "client/unixpath.h"
#include "client/worker.h"

/* What a server that is started here takes, in bytes. Keys: of a path of 4,095 bytes, and of the record's that goes with it,
 * with room for the folder that the path begins in and for escapes. */
#define LOCAL_MAX_VALUE 1048576
#define LOCAL_MAX_KEY 8192

struct local_server {
	struct unix_path socket;
	char *key;
	struct server_limits limits;
};

void local_server_free(struct local_server *server);

/* Finds or starts the server of DIR (absolute). Blocks, so it runs on a worker's thread; gives up at deadline_us
 * (CLOCK_MONOTONIC) or when `job` is cancelled. 0; -EACCES or -EPERM (DIR is not safe or not ours), -ETIMEDOUT
 * (no server came up), -EPROTONOSUPPORT (another version runs), -ENOENT (no hpkvd is installed), or another
 * errno; `error` has the text. */
CHECKED int local_find(const char *dir, uint64_t deadline_us, struct job *job, struct local_server *out,
		       struct hpkv_error *error);

/* The same on a thread of its own. `done` runs on the loop, once: with the server (borrowed; it may take the
 * socket and leave dir_fd -1) or the error. job_cancel ends it without `done`. 0, -ENOMEM, -EAGAIN. */
CHECKED int local_start(struct loop *loop, const char *dir, uint64_t deadline_us,
			void (*done)(void *arg, struct local_server *server, const struct hpkv_error *error), void *arg,
			struct job **out);

#endif
