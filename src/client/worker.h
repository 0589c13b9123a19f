/* Work that blocks (name lookups, starting a server, HTTP), done on a thread of its own, its result brought back
 * to the loop. The thread blocks all signals and belongs to nobody: a job that nobody waits for any more goes on
 * until its work notices, and frees itself. */
#ifndef HPKVFS_CLIENT_WORKER_H
#define HPKVFS_CLIENT_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/loop.h"

struct job;

struct job_type {
	void (*work)(struct job *job); /* on the thread; looks at job_cancelled now and then */
	void (*done)(struct job *job); /* on the loop; not after job_cancel */
	void (*free)(struct job *job); /* last of all, on either */
};

/* The first member of the caller's own struct. */
struct job {
	const struct job_type *type;
	struct loop *loop;
	pthread_t thread;
	pthread_mutex_t lock; /* held while `cancelled` is changed, and while the loop is told of the end */
	atomic_bool cancelled;
};

/* Starts the thread; the job belongs to it from now on. 0, or -errno: then the job is still the caller's, and
 * type->free was not called. */
CHECKED int job_start(struct job *job, const struct job_type *type, struct loop *loop);

/* On the loop, before `done`: forget the job. The loop may be freed afterwards. */
void job_cancel(struct job *job);

static inline bool job_cancelled(struct job *job)
{
	return atomic_load(&job->cancelled);
}

#endif
