#include "base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/list.h"
#include "base/loop_context.h"

struct post {
	struct post *prev, *next;
	void (*fn)(void *arg);
	void *arg;
};

struct kept {
	struct kept *next;
	size_t size;
	max_align_t data[];
};

struct loop {
	struct lws_context *context;
	struct loop_log log;
	struct lws_vhost *vhost; /* carries the adopted descriptors */
	atomic_bool stop;

	pthread_mutex_t lock; /* guards `posted` */
	struct post *posted;

	struct loop_task *first, **last;
	/* lws_service runs ripe timers before it sleeps (for up to 30 s), so a task deferred by one would wait for the
	 * next event. A timer that is due at once keeps it from sleeping. */
	lws_sorted_usec_list_t nudge;
	struct kept *kept;
};

struct loop_fd {
	struct lws *wsi;
	void (*readable)(void *arg);
	void (*closed)(void *arg);
	void *arg;
};

static int fd_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct loop_fd *watch = lws_get_opaque_user_data(wsi);

	(void)user;
	(void)in;
	(void)len;
	if (reason == LWS_CALLBACK_RAW_RX_FILE) {
		if (watch)
			watch->readable(watch->arg);
		return 0;
	}
	if (reason == LWS_CALLBACK_RAW_CLOSE_FILE && watch) {
		watch->wsi = NULL;
		lws_set_opaque_user_data(wsi, NULL);
		if (watch->closed)
			watch->closed(watch->arg);
	}
	return 0;
}

static const struct lws_protocols loop_protocols[] = {
	{ .name = "loop-fd", .callback = fd_callback },
	{ 0 },
};

/* libwebsockets would fill a table for as many descriptors as the process may have, which can be a million or more. */
#define DESCRIPTORS 1024

int loop_new(struct loop **out)
{
	return loop_new_for(out, DESCRIPTORS);
}

int loop_new_for(struct loop **out, unsigned descriptors)
{
	struct lws_context_creation_info info = {
		.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
		.port = CONTEXT_PORT_NO_LISTEN,
		.gid = -1,
		.uid = -1,
		.pt_serv_buf_size = 64 * 1024,
		.fd_limit_per_thread = descriptors,
	};
	struct lws_context_creation_info vhost = {
		.port = CONTEXT_PORT_NO_LISTEN,
		.vhost_name = "loop",
		.protocols = loop_protocols,
	};
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return -ENOMEM;
	pthread_mutex_init(&loop->lock, NULL);
	loop->last = &loop->first;
	loop->context = loop_context_create(&info, &loop->log);
	if (loop->context)
		loop->vhost = loop_vhost(loop, &vhost);
	if (!loop->vhost) {
		loop_free(loop);
		return -ENOMEM;
	}
	*out = loop;
	return 0;
}

struct lws_vhost *loop_vhost(struct loop *loop, const struct lws_context_creation_info *from)
{
	struct lws_context_creation_info info = *from;

	loop_log_vhost(&loop->log, &info);
	return lws_create_vhost(loop->context, &info);
}

struct lws_context *loop_context(struct loop *loop)
{
	return loop->context;
}

const void *loop_keep(struct loop *loop, const void *data, size_t size)
{
	struct kept *kept;

	LL_FOREACH(loop->kept, kept)
		if (kept->size == size && memcmp(kept->data, data, size) == 0)
			return kept->data;
	kept = malloc(sizeof(*kept) + size);
	if (!kept)
		return NULL;
	kept->size = size;
	memcpy(kept->data, data, size);
	LL_PREPEND(loop->kept, kept);
	return kept->data;
}

static void free_kept(struct loop *loop)
{
	struct kept *kept, *next;

	LL_FOREACH_SAFE(loop->kept, kept, next)
		free(kept);
}

void loop_run_posted(struct loop *loop)
{
	struct post *list, *post, *next;

	pthread_mutex_lock(&loop->lock);
	list = loop->posted;
	loop->posted = NULL;
	pthread_mutex_unlock(&loop->lock);
	DL_FOREACH_SAFE(list, post, next) {
		post->fn(post->arg);
		free(post);
	}
}

/* Runs what was deferred until now; what these defer in turn comes after the next look at the sockets. */
static void run_deferred(struct loop *loop)
{
	struct loop_task *task = loop->first;

	if (!task)
		return;
	loop->first = NULL;
	loop->last = &loop->first;
	lws_sul_cancel(&loop->nudge);
	while (task) {
		struct loop_task *next = task->next;

		task->next = NULL;
		task->queued = false;
		task->fn(task);
		task = next;
	}
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	loop_run_posted(loop);
	if (loop->context) {
		lws_sul_cancel(&loop->nudge);
		loop_context_destroy(loop->context);
	}
	loop_run_posted(loop);
	free_kept(loop);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

void loop_once(struct loop *loop)
{
	/* The nudge would fire before the sleep and not shorten it: with tasks waiting, only look at the sockets. */
	lws_service(loop->context, loop->first ? -1 : 0);
	loop_run_posted(loop);
	run_deferred(loop);
}

void loop_run(struct loop *loop)
{
	while (!atomic_exchange(&loop->stop, false))
		loop_once(loop);
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stop, true);
	lws_cancel_service(loop->context);
}

int loop_post(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct post *post = calloc(1, sizeof(*post));

	if (!post)
		return -ENOMEM;
	post->fn = fn;
	post->arg = arg;
	pthread_mutex_lock(&loop->lock);
	DL_APPEND(loop->posted, post);
	/* under the lock: what was posted may end the loop, once it can run */
	lws_cancel_service(loop->context);
	pthread_mutex_unlock(&loop->lock);
	return 0;
}

static void nudged(lws_sorted_usec_list_t *sul)
{
	(void)sul;
}

void loop_defer(struct loop *loop, struct loop_task *task)
{
	if (task->queued)
		return;
	if (!loop->first)
		lws_sul_schedule(loop->context, 0, &loop->nudge, nudged, 1);
	task->queued = true;
	task->next = NULL;
	*loop->last = task;
	loop->last = &task->next;
}

static void timer_fired(lws_sorted_usec_list_t *sul)
{
	struct loop_timer *timer = lws_container_of(sul, struct loop_timer, sul);
	struct loop *loop = timer->loop;

	/* The round ends with this timer, so that who runs the loop by rounds sees at once what it did. */
	lws_sul_schedule(loop->context, 0, &loop->nudge, nudged, 1);
	timer->loop = NULL;
	timer->fn(timer);
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay_us,
		    void (*fn)(struct loop_timer *timer))
{
	timer->loop = loop;
	timer->fn = fn;
	lws_sul_schedule(loop->context, 0, &timer->sul, timer_fired, (lws_usec_t)(delay_us ? delay_us : 1));
}

void loop_timer_cancel(struct loop_timer *timer)
{
	if (!timer->loop)
		return;
	timer->loop = NULL;
	lws_sul_cancel(&timer->sul);
}

int loop_fd_new(struct loop *loop, int fd, void (*readable)(void *arg), void (*closed)(void *arg), void *arg,
		struct loop_fd **out)
{
	struct loop_fd *watch = calloc(1, sizeof(*watch));
	lws_sock_file_fd_type adopted;
	int r;

	if (!watch)
		return -ENOMEM;
	watch->readable = readable;
	watch->closed = closed;
	watch->arg = arg;
	/* libwebsockets owns and closes what it adopts, hence the duplicate */
	adopted.filefd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (adopted.filefd < 0) {
		r = -errno;
		free(watch);
		return r;
	}
	watch->wsi =
		lws_adopt_descriptor_vhost(loop->vhost, LWS_ADOPT_RAW_FILE_DESC, adopted, loop_protocols[0].name, NULL);
	if (!watch->wsi) {
		free(watch);
		return -ENOMEM;
	}
	lws_set_opaque_user_data(watch->wsi, watch);
	*out = watch;
	return 0;
}

void loop_fd_free(struct loop_fd *watch)
{
	if (!watch)
		return;
	if (watch->wsi) {
		lws_set_opaque_user_data(watch->wsi, NULL);
		lws_set_timeout(watch->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
	}
	free(watch);
}
