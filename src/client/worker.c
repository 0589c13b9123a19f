#include "client/worker.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

static void job_free(struct job *job)
{
	pthread_mutex_destroy(&job->lock);
	job->type->free(job);
}

static void job_finish(void *arg)
{
	struct job *job = arg;

	/* It has nothing left to do but to end. Waiting for that keeps what libraries free only then (OpenSSL's
	 * memory of the thread) from outliving the loop, and the lock from being freed while it is still let go. */
	pthread_join(job->thread, NULL);
	if (!job_cancelled(job))
		job->type->done(job);
	job_free(job);
}

/* Tells the loop, under the lock: job_cancel returns only when the loop will not be touched any more. */
static bool job_hand_over(struct job *job)
{
	bool posted = false, cancelled;

	pthread_mutex_lock(&job->lock);
	cancelled = job_cancelled(job);
	if (!cancelled)
		posted = loop_post(job->loop, job_finish, job) == 0;
	pthread_mutex_unlock(&job->lock);
	if (cancelled) {
		pthread_detach(pthread_self());
		job_free(job);
	}
	return posted || cancelled;
}

static void *job_thread(void *arg)
{
	struct job *job = arg;
	const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };

	job->type->work(job);
	/* only lack of memory keeps it from being posted, and somebody waits for the result */
	while (!job_hand_over(job))
		nanosleep(&pause, NULL);
	return NULL;
}

int job_start(struct job *job, const struct job_type *type, struct loop *loop)
{
	sigset_t all, before;
	int r;

	job->type = type;
	job->loop = loop;
	atomic_init(&job->cancelled, false);
	pthread_mutex_init(&job->lock, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&job->thread, NULL, job_thread, job);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		pthread_mutex_destroy(&job->lock);
	return r;
}

void job_cancel(struct job *job)
{
	pthread_mutex_lock(&job->lock);
	atomic_store(&job->cancelled, true);
	pthread_mutex_unlock(&job->lock);
}
