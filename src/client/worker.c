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

	/* the thread may not have left job_hand_over yet */
	pthread_mutex_lock(&job->lock);
	pthread_mutex_unlock(&job->lock);
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
	if (cancelled)
		job_free(job);
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
	pthread_attr_t attributes;
	pthread_t thread;
	int r;

	job->type = type;
	job->loop = loop;
	atomic_init(&job->cancelled, false);
	pthread_mutex_init(&job->lock, NULL);
	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&thread, &attributes, job_thread, job);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
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
