#include "client/serve.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include "base/list.h"
#include "client/internal.h"

/* --- SIGPIPE --- */

static void pipe_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGPIPE);
}

static void pipe_signal_block(struct pipe_signal *state)
{
	sigset_t set;

	sigpending(&set);
	state->pending = sigismember(&set, SIGPIPE) == 1;
	pipe_set(&set);
	pthread_sigmask(SIG_BLOCK, &set, &state->before);
}

static void pipe_signal_restore(const struct pipe_signal *state)
{
	const struct timespec now = { 0 };
	sigset_t set;

	if (sigismember(&state->before, SIGPIPE) == 1)
		return;
	pipe_set(&set);
	if (!state->pending)
		while (sigtimedwait(&set, NULL, &now) < 0 && errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, &state->before, NULL);
}

/* --- turns; all under the lock --- */

void serving_init(struct serving *serving)
{
	pthread_mutex_init(&serving->lock, NULL);
}

void serving_deinit(struct serving *serving)
{
	pthread_mutex_destroy(&serving->lock);
}

static bool serves(const struct serving *serving)
{
	return serving->server && pthread_equal(serving->server_thread, pthread_self());
}

static void take_turn(struct serving *serving, struct wait *wait)
{
	serving->server = wait;
	serving->server_thread = pthread_self();
	pipe_signal_block(&wait->signal);
}

static void enter(struct hpkv_loop *loop, struct wait *wait)
{
	wait->loop = loop;
	pthread_cond_init(&wait->turn, NULL);
	DL_APPEND(loop->serving.waits, wait);
}

static void leave(struct wait *wait)
{
	struct serving *serving = &wait->loop->serving;
	struct wait *next;

	DL_DELETE(serving->waits, wait);
	pthread_cond_destroy(&wait->turn);
	if (serving->server == wait) {
		serving->server = NULL;
		pipe_signal_restore(&wait->signal);
	}
	if (serving->server)
		return;
	DL_FOREACH(serving->waits, next) {
		if (next->done)
			continue; /* it is about to leave, and not going to serve */
		pthread_cond_signal(&next->turn);
		return;
	}
}

static void end_round(struct loop_task *task)
{
	(void)task;
}

static void set_done(struct wait *wait)
{
	struct serving *serving = &wait->loop->serving;

	wait->done = true;
	pthread_cond_signal(&wait->turn);
	/* The callback may have been called by a timer of libwebsockets, which would now sleep until the next event. */
	if (serving->server == wait && serving->in_round && pthread_equal(serving->server_thread, pthread_self())) {
		serving->end_round.fn = end_round;
		loop_defer(wait->loop->base, &serving->end_round);
	}
}

static void serve_rounds(struct wait *wait)
{
	struct serving *serving = &wait->loop->serving;

	serving->in_round = true;
	while (!wait->done) {
		pthread_mutex_unlock(&serving->lock);
		loop_once(wait->loop->base);
		pthread_mutex_lock(&serving->lock);
	}
	serving->in_round = false;
}

static void until_done(struct wait *wait)
{
	struct serving *serving = &wait->loop->serving;

	while (!wait->done) {
		if (serving->server && serving->server != wait) {
			pthread_cond_wait(&wait->turn, &serving->lock);
			continue;
		}
		if (!serving->server)
			take_turn(serving, wait);
		serve_rounds(wait);
	}
}

/* --- waiting calls --- */

static void start(void *arg)
{
	struct wait *wait = arg;
	struct serving *serving = &wait->loop->serving;
	bool cancelled;

	pthread_mutex_lock(&serving->lock);
	wait->started = true;
	cancelled = wait->cancelled;
	if (cancelled)
		set_done(wait);
	pthread_mutex_unlock(&serving->lock);
	if (!cancelled)
		wait->start(wait);
}

/* Nobody serves the loop: what was posted before comes first, then this, without the way through the loop's sockets. */
static void start_here(struct wait *wait)
{
	struct serving *serving = &wait->loop->serving;

	take_turn(serving, wait);
	pthread_mutex_unlock(&serving->lock);
	loop_run_posted(wait->loop->base);
	start(wait);
	pthread_mutex_lock(&serving->lock);
}

int wait_run(struct hpkv_loop *loop, struct wait *wait)
{
	struct serving *serving = &loop->serving;
	int r = 0;

	/* who serves a wrapped loop is not known here */
	if (!loop->owned)
		return -EDEADLK;
	pthread_mutex_lock(&serving->lock);
	if (serves(serving)) {
		pthread_mutex_unlock(&serving->lock);
		return -EDEADLK;
	}
	enter(loop, wait);
	if (!serving->server) {
		start_here(wait);
	} else {
		pthread_mutex_unlock(&serving->lock);
		r = loop_post(loop->base, start, wait);
		pthread_mutex_lock(&serving->lock);
	}
	if (r == 0)
		until_done(wait);
	if (r == 0 && wait->cancelled)
		r = -ECANCELED;
	leave(wait);
	pthread_mutex_unlock(&serving->lock);
	return r;
}

void wait_done(struct wait *wait)
{
	struct serving *serving = &wait->loop->serving;

	pthread_mutex_lock(&serving->lock);
	set_done(wait);
	pthread_mutex_unlock(&serving->lock);
}

bool serve_inside(struct hpkv_loop *loop)
{
	bool inside;

	pthread_mutex_lock(&loop->serving.lock);
	inside = !loop->owned || serves(&loop->serving);
	pthread_mutex_unlock(&loop->serving.lock);
	return inside;
}

void serve_forget_client(struct hpkv_loop *loop, const struct hpkv_client *client)
{
	struct wait *wait;

	pthread_mutex_lock(&loop->serving.lock);
	DL_FOREACH(loop->serving.waits, wait)
		if (wait->client == client && !wait->started)
			wait->cancelled = true;
	pthread_mutex_unlock(&loop->serving.lock);
}

/* --- running --- */

static struct wait *find_kind(struct serving *serving, enum wait_kind kind, bool done)
{
	struct wait *wait;

	DL_FOREACH(serving->waits, wait)
		if (wait->kind == kind && wait->done == done)
			return wait;
	return NULL;
}

void serve_run(struct hpkv_loop *loop)
{
	struct serving *serving = &loop->serving;
	struct wait wait = { .kind = WAIT_RUN };

	pthread_mutex_lock(&serving->lock);
	if (serving->stopped || serves(serving)) {
		serving->stopped = false;
		pthread_mutex_unlock(&serving->lock);
		return;
	}
	enter(loop, &wait);
	until_done(&wait);
	leave(&wait);
	pthread_mutex_unlock(&serving->lock);
}

void serve_stop(struct hpkv_loop *loop)
{
	struct serving *serving = &loop->serving;
	struct wait *run;

	pthread_mutex_lock(&serving->lock);
	run = find_kind(serving, WAIT_RUN, false);
	if (run)
		set_done(run);
	else if (!find_kind(serving, WAIT_RUN, true))
		serving->stopped = true;
	/* under the lock: once the run is over, the loop may be freed */
	lws_cancel_service(loop_context(loop->base));
	pthread_mutex_unlock(&serving->lock);
}

static void *thread_main(void *arg)
{
	struct hpkv_loop *loop = arg;
	struct wait wait = { .kind = WAIT_THREAD };

	pthread_mutex_lock(&loop->serving.lock);
	wait.done = loop->serving.thread_ends;
	enter(loop, &wait);
	until_done(&wait);
	leave(&wait);
	pthread_mutex_unlock(&loop->serving.lock);
	return NULL;
}

int serve_start_thread(struct hpkv_loop *loop)
{
	struct serving *serving = &loop->serving;
	sigset_t all, before;
	int r = -EALREADY;

	sigfillset(&all);
	pthread_mutex_lock(&serving->lock);
	if (!serving->has_thread && !find_kind(serving, WAIT_RUN, false)) {
		pthread_sigmask(SIG_SETMASK, &all, &before);
		r = -pthread_create(&serving->thread, NULL, thread_main, loop);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		serving->has_thread = r == 0;
	}
	pthread_mutex_unlock(&serving->lock);
	return r;
}

void serve_join_thread(struct hpkv_loop *loop)
{
	struct serving *serving = &loop->serving;
	struct wait *wait;

	if (!serving->has_thread)
		return;
	pthread_mutex_lock(&serving->lock);
	serving->thread_ends = true;
	wait = find_kind(serving, WAIT_THREAD, false);
	if (wait)
		set_done(wait);
	pthread_mutex_unlock(&serving->lock);
	lws_cancel_service(loop_context(loop->base));
	pthread_join(serving->thread, NULL);
	serving->has_thread = false;
}

void serve_last_begin(struct hpkv_loop *loop, struct wait *wait)
{
	pthread_mutex_lock(&loop->serving.lock);
	take_turn(&loop->serving, wait);
	pthread_mutex_unlock(&loop->serving.lock);
}

void serve_last_end(const struct wait *wait)
{
	pipe_signal_restore(&wait->signal);
}
