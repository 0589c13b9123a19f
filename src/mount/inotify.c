#include "mount/inotify.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/list.h"
#include "base/log.h"
#include "mount/inotify_helper.h"
#include "mount/invalidator.h"
#include "mount/ops.h"

/* How long an event waits for its invalidation, which waits for programs whose server does not answer. */
#define INVALIDATION_WAIT_US (5 * 1000000ull)

/* How long the end waits for a helper that was killed; it can only hang outside of the mount. */
#define LAST_WAIT_US (2 * 1000000u)
#define LAST_STEP_US 1000u

struct inotify {
	struct mount_context *context; /* NULL: the mount is not there yet */
	const char *mountpoint;
	unsigned major, minor;
	pid_t pid; /* 0: none that is ours */
	int socket;
	struct loop_fd *watch;

	struct inotify_event *queue;
	unsigned count;
	bool overflowed; /* and the log says so */
	bool refused;    /* likewise: the kernel does not let the helper do it */

	struct coroutine *pump; /* while there is something to do */
	struct coroutine *ender;
	struct inotify_event *current;
	bool answered;
	uint64_t counted;
	bool off; /* nothing is told any more */
};

/* --- events --- */

static void event_free(struct inotify_event *event)
{
	if (!event)
		return;
	buf_free(&event->ids);
	buf_free(&event->names);
	free(event);
}

static void drop_first(struct inotify *inotify)
{
	struct inotify_event *event = inotify->queue;

	DL_DELETE(inotify->queue, event);
	inotify->count--;
	event_free(event);
}

static struct inotify_event *event_new(struct fs *fs, const struct fs_event *told)
{
	struct inotify_event *event = calloc(1, sizeof(*event));
	int r = event ? fs_path(fs, told->parent, &event->ids, &event->names) : -ENOMEM;

	if (r == 0) {
		event->kind = told->kind;
		event->parent = told->parent;
		event->id = told->id;
		event->mode = told->mode;
		event->name_at = event->names.len;
		r = buf_add_str(&event->names, told->name);
	}
	if (r == 0)
		r = buf_add_char(&event->names, '\0');
	if (r == 0 && sizeof(struct inotify_message) + event->names.len <= INOTIFY_MESSAGE_MAX)
		return event;
	event_free(event);
	return NULL;
}

/* --- to the helper and back --- */

static void wake_pump(struct inotify *inotify)
{
	if (inotify->pump)
		co_wake(inotify->pump);
}

static void turn_off(struct inotify *inotify)
{
	inotify->off = true;
	if (inotify->pid > 0)
		kill(inotify->pid, SIGKILL);
	while (inotify->queue)
		drop_first(inotify);
	wake_pump(inotify);
}

static void closed(void *arg)
{
	struct inotify *inotify = arg;

	if (inotify->off)
		return;
	log_warning("the helper process for inotify has ended: programs are told of no more changes by others");
	turn_off(inotify);
}

static void tell_refusal(struct inotify *inotify, int err)
{
	const char *name = inotify->current ? inotify->current->names.p + inotify->current->name_at : "";

	log_debug("inotify: no event for %s: %s", name, strerror(-err));
	if (inotify->refused || (err != -EROFS && err != -EACCES && err != -EPERM))
		return;
	inotify->refused = true;
	log_warning("some changes by others raise no inotify events: %s", strerror(-err));
}

static void answer_came(void *arg)
{
	struct inotify *inotify = arg;
	int answer = 0;
	ssize_t n = recv(inotify->socket, &answer, sizeof(answer), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != (ssize_t)sizeof(answer)) {
		closed(inotify);
		return;
	}
	if (answer < 0)
		tell_refusal(inotify, answer);
	inotify->answered = true;
	wake_pump(inotify);
}

static int send_event(struct inotify *inotify, const struct inotify_event *event)
{
	struct inotify_message message = {
		.kind = event->kind,
		.mode = event->mode,
		.major = inotify->major,
		.minor = inotify->minor,
	};
	struct iovec parts[2] = { { &message, sizeof(message) }, { event->names.p, event->names.len } };
	const struct msghdr whole = { .msg_iov = parts, .msg_iovlen = 2 };

	/* there is room: the one before has been answered */
	return sendmsg(inotify->socket, &whole, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* --- one after the other --- */

/* What the kernel must have forgotten before: the file's pages, or the names in the directory. */
static uint64_t invalidated(const struct inotify_event *event)
{
	return event->kind == FS_EVENT_CHANGED ? event->id : event->parent;
}

/* Its mode may have become known since. */
static void renew_mode(struct inotify *inotify, struct inotify_event *event)
{
	struct fs_found known;
	struct str name = str_c(event->names.p + event->name_at);

	if (event->kind != FS_EVENT_REMOVED && fs_find(inotify->context->fs, event->parent, name, &known) &&
	    known.id == event->id)
		event->mode = known.mode;
}

static co_fn void perform(struct inotify *inotify, struct inotify_event *event)
{
	invalidator_wait(inotify->context->invalidator, invalidated(event), INVALIDATION_WAIT_US);
	if (inotify->off)
		return;
	renew_mode(inotify, event);
	inotify->current = event;
	inotify->answered = false;
	if (send_event(inotify, event) == 0)
		while (!inotify->answered && !inotify->off)
			if (co_wait() < 0)
				continue; /* nobody interrupts this coroutine */
	inotify->current = NULL;
}

static void pump_main(void *arg)
{
	struct inotify *inotify = arg;
	struct inotify_event *event;

	inotify->pump = co_self();
	while ((event = inotify->queue)) {
		DL_DELETE(inotify->queue, event);
		inotify->count--;
		perform(inotify, event);
		event_free(event);
	}
	inotify->overflowed = false;
	inotify->pump = NULL;
	if (inotify->ender)
		co_wake(inotify->ender);
}

void inotify_tell(struct inotify *inotify, const struct fs_event *told)
{
	struct inotify_event *event;

	if (!inotify->context || inotify->off)
		return;
	event = event_new(inotify->context->fs, told);
	if (!event) {
		log_debug("inotify: no event for a path that is too long, or there is no memory");
		return;
	}
	if (inotify->count >= INOTIFY_WAIT_MOST) {
		if (!inotify->overflowed)
			log_warning("others change more than can be told by inotify: some events are missing");
		inotify->overflowed = true;
		drop_first(inotify);
	}
	DL_APPEND(inotify->queue, event);
	inotify->count++;
	if (!inotify->pump && co_start(inotify->context->loop, pump_main, inotify) < 0)
		log_debug("inotify: no memory, so the next event takes this one along");
}

/* --- life --- */

static int start_helper(struct inotify *inotify)
{
	pid_t parent = getpid();
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	inotify->socket = ends[0];
	inotify->pid = fork();
	if (inotify->pid == 0)
		inotify_helper_run(ends[1], inotify->mountpoint, parent);
	close(ends[1]);
	return inotify->pid < 0 ? -errno : 0;
}

int inotify_new(const char *mountpoint, struct inotify **out)
{
	struct inotify *inotify = calloc(1, sizeof(*inotify));
	int r;

	if (!inotify)
		return -ENOMEM;
	inotify->mountpoint = mountpoint;
	inotify->socket = -1;
	r = start_helper(inotify);
	if (r < 0) {
		inotify_free(inotify);
		return r;
	}
	*out = inotify;
	return 0;
}

int inotify_serve(struct inotify *inotify, struct mount_context *context, unsigned major, unsigned minor)
{
	int r = loop_fd_new(context->loop, inotify->socket, answer_came, closed, inotify, &inotify->watch);

	if (r < 0)
		return r;
	inotify->major = major;
	inotify->minor = minor;
	inotify->context = context;
	return 0;
}

void inotify_halt(struct inotify *inotify)
{
	if (inotify)
		turn_off(inotify);
}

void inotify_end(struct inotify *inotify)
{
	if (!inotify)
		return;
	inotify->ender = co_self();
	while (inotify->pump)
		if (co_wait() < 0)
			continue; /* as above */
	inotify->ender = NULL;
}

static void reap(pid_t pid)
{
	for (unsigned waited = 0; waited < LAST_WAIT_US; waited += LAST_STEP_US) {
		pid_t r = waitpid(pid, NULL, WNOHANG);

		if (r == pid || (r < 0 && errno != EINTR))
			return;
		usleep(LAST_STEP_US);
	}
	log_debug("inotify: the helper %d has not ended", (int)pid);
}

void inotify_free(struct inotify *inotify)
{
	if (!inotify)
		return;
	turn_off(inotify);
	loop_fd_free(inotify->watch);
	cleanup_close(&inotify->socket);
	if (inotify->pid > 0)
		reap(inotify->pid);
	free(inotify);
}

bool inotify_is_helper(const struct inotify *inotify, pid_t pid)
{
	return inotify->pid > 0 && inotify->pid == pid;
}

const struct inotify_event *inotify_current(const struct inotify *inotify)
{
	return inotify->current;
}

uint64_t inotify_count(struct inotify *inotify)
{
	return ++inotify->counted;
}
