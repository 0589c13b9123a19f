#include "mount/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "mount/inotify_ops.h"

/* Requests served before the loop looks at the sockets again. */
#define REQUESTS_A_ROUND 32

struct session {
	struct mount_context *context;
	struct fuse_session *fuse;
	struct fuse_buf buf;
	struct loop_fd *watch;
	bool initialised;
	struct upcalls upcalls;
	bool closed, failed; /* and `ended` was called */
	void (*ended)(void *arg, bool mounted);
	void *arg;
};

__attribute__((format(printf, 2, 0))) static void log_libfuse(enum fuse_log_level level, const char *format, va_list ap)
{
	char line[512];

	vsnprintf(line, sizeof(line), format, ap);
	line[strcspn(line, "\n")] = '\0';
	if (level <= FUSE_LOG_ERR)
		log_error("libfuse: %s", line);
	else if (level <= FUSE_LOG_WARNING)
		log_warning("libfuse: %s", line);
	else
		log_debug("libfuse: %s", line);
}

int session_new(struct mount_context *context, bool debug, struct session **out)
{
	char *argv[] = { (char *)"hpkvfs", (char *)"-odebug", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(debug ? 2 : 1, argv);
	const struct fuse_lowlevel_ops ops = context->inotify ? inotify_ops() : mount_ops;
	struct session *session = calloc(1, sizeof(*session));

	if (!session)
		return -ENOMEM;
	fuse_set_log_func(log_libfuse);
	session->context = context;
	session->fuse = fuse_session_new(&args, &ops, sizeof(ops), context);
	fuse_opt_free_args(&args);
	if (!session->fuse) {
		free(session);
		return -EINVAL;
	}
	*out = session;
	return 0;
}

struct fuse_session *session_fuse(struct session *session)
{
	return session->fuse;
}

static void session_closed(void *arg)
{
	struct session *session = arg;

	if (session->closed)
		return;
	session->closed = true;
	session_stop(session);
	session->ended(session->arg, false);
}

static void session_failed(struct session *session, const char *why)
{
	if (session->failed)
		return;
	session->failed = true;
	log_error("the connection to the kernel failed: %s", why);
	session->ended(session->arg, true);
}

static void drop_buffer(struct session *session)
{
	free(session->buf.mem);
	session->buf.mem = NULL;
}

const struct upcalls *session_upcalls(const struct session *session)
{
	return &session->upcalls;
}

static void readable(void *arg)
{
	struct session *session = arg;

	for (unsigned i = 0; i < REQUESTS_A_ROUND && session->watch; i++) {
		int r = fuse_session_receive_buf(session->fuse, &session->buf);

		if (r == -EINTR)
			continue;
		if (r == -EAGAIN)
			return;
		if (r == 0 || r == -ENODEV) {
			session_closed(session);
			return;
		}
		if (r < 0) {
			session_failed(session, strerror(-r));
			return;
		}
		upcalls_count(&session->upcalls, session->buf.mem, session->buf.size);
		fuse_session_process_buf(session->fuse, &session->buf);
		if (fuse_session_exited(session->fuse)) {
			session_failed(session, "libfuse has ended the session");
			return;
		}
		/* newer versions of libfuse settle the size in the first request */
		if (!session->initialised)
			drop_buffer(session);
		session->initialised = true;
	}
}

int session_start(struct session *session, int fd, void (*ended)(void *arg, bool mounted), void *arg)
{
	char path[32];

	session->ended = ended;
	session->arg = arg;
	/* libfuse takes a connection that is already there by this name */
	snprintf(path, sizeof(path), "/dev/fd/%d", fd);
	if (fuse_session_mount(session->fuse, path) < 0) {
		close(fd);
		return -EINVAL;
	}
	return loop_fd_new(session->context->loop, fd, readable, session_closed, session, &session->watch);
}

void session_stop(struct session *session)
{
	loop_fd_free(session->watch);
	session->watch = NULL;
}

void session_free(struct session *session)
{
	if (!session)
		return;
	session_stop(session);
	fuse_session_destroy(session->fuse);
	drop_buffer(session);
	free(session);
}
