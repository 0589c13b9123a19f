/* Each request runs in a coroutine that answers it when it is done. A request whose program has been killed is
 * answered at once, and its coroutine goes on without it: what it has sent to the store cannot be called back, and
 * what it holds is given back at its end, handles included, which the kernel may have closed by then. Only fatal
 * signals do that; the kernel's INTERRUPT comes once, for whatever signal, so from then on /proc is asked whether a
 * fatal one is pending. */
#include "mount/request.h"

#include <errno.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/log.h"
#include "mount/hidden.h"
#include "mount/killed.h"

/* How often /proc is asked while an interrupted request, or a close, waits. */
#define WATCH_US (50 * CLOCK_US_PER_MS)

fuse_req_t answer_take(struct request *request)
{
	for (size_t i = 0; i < sizeof(request->marks) / sizeof(request->marks[0]); i++)
		invalidator_end(request->context->invalidator, &request->marks[i]);
	return STEAL(request->req);
}

void answer_error(struct request *request, int err)
{
	fuse_req_t req = answer_take(request);

	if (req)
		fuse_reply_err(req, -err);
}

static void request_free(struct request *request)
{
	DL_DELETE(request->context->requests, request);
	fs_handle_drop(request->handle);
	fs_handle_drop(request->to);
	buf_free(&request->kept);
	buf_free(&request->new_kept);
	free(request);
}

/* The kernel takes what it has given up for not done. */
static void tell_kernel(struct request *request)
{
	struct fs *fs = request->context->fs;

	fs_unanswered(fs, request->id, buf_str(&request->kept));
	if (request->new_parent)
		fs_unanswered(fs, request->new_parent, buf_str(&request->new_kept));
}

static void request_main(void *arg)
{
	struct request *request = arg;
	struct mount_context *context = request->context;

	request->run(request);
	if (request->req)
		answer_error(request, -EIO); /* no path leaves a program waiting */
	if (request->killed)
		tell_kernel(request);
	if (request->ended)
		*request->ended = true;
	request_free(request);
	if (--context->running == 0)
		context->idle(context);
}

static void watch(struct loop_timer *timer)
{
	struct mount_context *context = lws_container_of(timer, struct mount_context, watch);
	struct request *request;
	bool more = false;

	DL_FOREACH(context->requests, request) {
		if (!request->req || !(request->interrupted || request->closing))
			continue;
		if (request->thread == 0 && !request->interrupted)
			continue; /* of another pid namespace: nothing can be known before it is interrupted */
		request->killed = killed(request->thread, request->interrupted);
		if (request->killed)
			answer_error(request, -EINTR);
		else
			more = true;
	}
	if (more)
		loop_timer_set(context->loop, timer, WATCH_US, watch);
}

static void watch_soon(struct mount_context *context, uint64_t delay_us)
{
	if (!context->watch.loop)
		loop_timer_set(context->loop, &context->watch, delay_us, watch);
}

static void interrupted(fuse_req_t req, void *data)
{
	struct request *request = data;

	(void)req;
	request->interrupted = true;
	watch_soon(request->context, 1);
}

struct request *ops_request_new(fuse_req_t req, uint64_t id, void (*run)(struct request *request))
{
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	struct request *request;

	if (hidden_is(id)) {
		fuse_reply_err(req, EPERM);
		return NULL;
	}
	request = calloc(1, sizeof(*request));
	if (!request) {
		fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	request->context = fuse_req_userdata(req);
	request->req = req;
	request->thread = caller->pid;
	request->uid = caller->uid;
	request->maker = (struct fs_maker){ .uid = caller->uid, .gid = caller->gid, .umask = caller->umask };
	request->id = id;
	request->run = run;
	return request;
}

/* The request waits, and what it keeps locked is not to be waited for by what could go on. */
static void begin_marks(struct request *request)
{
	struct invalidator *invalidator = request->context->invalidator;
	enum invalidator_lock lock = request->locks == REQUEST_LOCKS_PAGES ? INVALIDATOR_PAGES : INVALIDATOR_NAMES;

	if (request->locks == REQUEST_LOCKS_NOTHING)
		return;
	invalidator_begin(invalidator, lock, request->id, &request->marks[0]);
	if (request->new_parent && request->new_parent != request->id)
		invalidator_begin(invalidator, lock, request->new_parent, &request->marks[1]);
}

static void keep_names(struct request *request)
{
	if (request->locks != REQUEST_LOCKS_NAMES)
		return;
	if (buf_set(&request->kept, request->name) < 0 ||
	    (request->new_parent && buf_set(&request->new_kept, request->new_name) < 0))
		log_debug("no memory to tell the kernel how a request ends");
}

void ops_request_start(struct request *request)
{
	struct mount_context *context = request->context;
	bool ended = false;

	request->ended = &ended;
	context->running++;
	DL_APPEND(context->requests, request);
	fs_handle_hold(request->handle);
	fs_handle_hold(request->to);
	fuse_req_interrupt_func(request->req, interrupted, request);
	if (request->closing)
		watch_soon(context, WATCH_US);
	if (co_start(context->loop, request_main, request) == 0) {
		if (ended)
			return;
		request->ended = NULL;
		if (request->req) {
			keep_names(request);
			begin_marks(request);
		}
		return;
	}
	answer_error(request, -ENOMEM);
	request_free(request);
	context->running--;
}

void mount_ops_interrupt_all(struct mount_context *context)
{
	struct request *request;

	DL_FOREACH(context->requests, request)
		answer_error(request, -EIO);
}
