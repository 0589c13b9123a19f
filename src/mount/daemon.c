/* The order of things at the end is the order of what waits for what:
 *
 *   the helper for inotify is ended
 *   the mount is detached (on a thread: the kernel may write pages back first, which the loop serves)
 *   nothing is told by the server any more
 *   the invalidator stops (its last notification may wait for answers, which the loop still gives)
 *   no more requests are read; those that were read are answered
 *   what waits in memory is sent
 *   the connections to the server and to the kernel are closed, and memory is freed. */
#include "mount/daemon.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

#include "base/coroutine.h"
#include "base/log.h"
#include "base/signals.h"
#include "mount/inotify.h"
#include "mount/invalidator.h"
#include "mount/kernel.h"
#include "mount/mountpoint.h"
#include "mount/notify.h"
#include "mount/ops.h"
#include "mount/pid_file.h"
#include "mount/session.h"
#include "mount/stats.h"
#include "mount/store_hpkv.h"
#include "mount/test_hooks.h"

struct daemon {
	struct mount_context context; /* also the fs, which the operations use */
	const struct daemon_config *config;
	struct daemon_result *result;
	struct loop *loop;
	struct store_hpkv *store;
	struct subscription *subscription; /* NULL: nosubscribe */
	struct state *state;
	struct session *session;
	int signal_fd;
	struct loop_fd *signals;
	struct loop_task ready_task;

	unsigned major, minor; /* of the mount, while `found` */
	bool found;
	struct pid_file *pid_file;

	bool serving;  /* the kernel's first request was answered */
	bool closed;   /* the kernel has closed the connection */
	bool stopping; /* the end was asked for */
	bool ending;   /* and has begun */

	struct coroutine *ender; /* waits for the next three */
	bool detached;
	bool invalidator_stopped;
	pthread_t detacher;
};

/* The first failure is the one to be told. */
__attribute__((format(printf, 3, 4))) static void fail(struct daemon *daemon, enum mount_exit code, const char *format,
						       ...)
{
	va_list ap;

	if (daemon->result->code)
		return;
	daemon->result->code = code;
	va_start(ap, format);
	vsnprintf(daemon->result->text, sizeof(daemon->result->text), format, ap);
	va_end(ap);
}

/* --- the end --- */

static void wake_ender(struct daemon *daemon)
{
	if (daemon->ender)
		co_wake(daemon->ender);
}

static void detached(void *arg)
{
	struct daemon *daemon = arg;

	daemon->detached = true;
	wake_ender(daemon);
}

static void *detach_thread(void *arg)
{
	struct daemon *daemon = arg;
	int r = kernel_unmount(daemon->config->mountpoint, daemon->major, daemon->minor);

	if (r && r != -ENOENT)
		log_warning("cannot unmount %s: %s", daemon->config->mountpoint, strerror(-r));
	while (loop_post(daemon->loop, detached, daemon) < 0)
		usleep(10000);
	return NULL;
}

static void invalidator_stopped(void *arg)
{
	struct daemon *daemon = arg;

	daemon->invalidator_stopped = true;
	wake_ender(daemon);
}

static void idle(struct mount_context *context)
{
	wake_ender(lws_container_of(context, struct daemon, context));
}

static co_fn void wait_until(const bool *condition)
{
	while (!*condition)
		if (co_wait() < 0)
			continue; /* nobody interrupts this coroutine */
}

static co_fn void detach(struct daemon *daemon)
{
	if (daemon->closed || !daemon->found)
		return;
	if (pthread_create(&daemon->detacher, NULL, detach_thread, daemon) != 0) {
		log_error("no thread to unmount %s", daemon->config->mountpoint);
		return;
	}
	wait_until(&daemon->detached);
	pthread_join(daemon->detacher, NULL);
}

static co_fn void send_the_rest(struct daemon *daemon)
{
	int r = fs_end(daemon->context.fs);

	if (r)
		fail(daemon, MOUNT_FAILURE, "changes were lost at the end of %s: %s", daemon->config->mountpoint,
		     strerror(-r));
}

static void end_main(void *arg)
{
	struct daemon *daemon = arg;

	daemon->ender = co_self();
	detach(daemon);
	subscription_stop(daemon->subscription);
	invalidator_stop(daemon->context.invalidator, invalidator_stopped, daemon);
	wait_until(&daemon->invalidator_stopped);
	inotify_end(daemon->context.inotify);
	session_stop(daemon->session);
	while (daemon->context.running)
		if (co_wait() < 0)
			continue; /* as above */
	send_the_rest(daemon);
	store_hpkv_disconnect(daemon->store);
	daemon->ender = NULL;
	loop_stop(daemon->loop);
}

static void begin_end(struct daemon *daemon)
{
	if (daemon->ending)
		return;
	daemon->ending = true;
	inotify_halt(daemon->context.inotify);
	if (co_start(daemon->loop, end_main, daemon) == 0)
		return;
	fail(daemon, MOUNT_SYSTEM, "out of memory at the end");
	loop_stop(daemon->loop);
}

/* --- what asks for it --- */

static void session_ended(void *arg, bool mounted)
{
	struct daemon *daemon = arg;

	daemon->closed = !mounted;
	if (!daemon->serving)
		fail(daemon, MOUNT_FAILURE, "%s",
		     mounted ? "the connection to the kernel failed" : "the kernel closed the connection at once");
	begin_end(daemon);
}

/* The second time nothing is waited for any more. */
static void stop(struct daemon *daemon)
{
	bool again = daemon->stopping;

	daemon->stopping = true;
	if (!daemon->serving) {
		fail(daemon, MOUNT_INTERRUPTED, "interrupted");
		store_hpkv_give_up(daemon->store); /* ends start_main */
	}
	if (again) {
		store_hpkv_give_up(daemon->store);
		mount_ops_interrupt_all(&daemon->context);
	}
	if (daemon->session && daemon->serving)
		begin_end(daemon);
}

static void signal_came(void *arg)
{
	struct daemon *daemon = arg;
	struct signalfd_siginfo info;

	while (read(daemon->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		log_debug("signal %u", info.ssi_signo);
		stop(daemon);
	}
}

/* --- the start --- */

static void find_mount(struct daemon *daemon)
{
	CLEANUP(mount_row_deinit) struct mount_row row = { 0 };

	if (mountpoint_find(daemon->config->mountpoint, &row) < 0 || !row.ours ||
	    !str_equal(buf_str(&row.source), str_c(daemon->config->options->spec)))
		return;
	daemon->major = row.major;
	daemon->minor = row.minor;
	daemon->found = true;
	daemon->pid_file = pid_file_write(row.major, row.minor);
}

/* Without knowing which mount it is, the helper must not do anything. */
static void start_inotify(struct daemon *daemon)
{
	int r = -ENOENT;

	if (!daemon->context.inotify)
		return;
	if (daemon->found)
		r = inotify_serve(daemon->context.inotify, &daemon->context, daemon->major, daemon->minor);
	if (r < 0)
		log_warning("programs cannot be told of changes by inotify: %s", strerror(-r));
}

static void ready_task(struct loop_task *task)
{
	struct daemon *daemon = lws_container_of(task, struct daemon, ready_task);

	daemon->serving = true;
	invalidator_start(daemon->context.invalidator);
	start_inotify(daemon);
	store_hpkv_start_logging(daemon->store);
	/* From here on the kernel keeps programs from writing, and only it knows of a remount. */
	fs_set_read_only(daemon->context.fs, false);
	if (daemon->closed || daemon->stopping || !daemon->config->mounted(daemon->config->arg)) {
		daemon->stopping = true;
		begin_end(daemon);
		return;
	}
	if (daemon->subscription)
		subscription_start(daemon->subscription);
}

/* The answer to FUSE_INIT goes out after this has returned. */
static void ready(struct mount_context *context)
{
	struct daemon *daemon = lws_container_of(context, struct daemon, context);

	loop_defer(daemon->loop, &daemon->ready_task);
}

static int mount_session(struct daemon *daemon)
{
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	const struct kernel_mount mount = {
		.source = daemon->config->options->spec,
		.mountpoint = daemon->config->mountpoint,
		.options = daemon->config->options,
	};
	int fd, r = kernel_mount(&mount, &fd, &why);

	if (r) {
		fail(daemon, MOUNT_FAILURE, "%s", why.len ? why.p : strerror(-r));
		return r;
	}
	find_mount(daemon);
	r = session_start(daemon->session, fd, session_ended, daemon);
	if (r == 0)
		return 0;
	fail(daemon, MOUNT_SYSTEM, "cannot serve the mount: %s", strerror(-r));
	/* nobody was let in yet, so this does not wait for anybody */
	if (daemon->found && kernel_unmount(daemon->config->mountpoint, daemon->major, daemon->minor) < 0)
		log_warning("%s stays mounted, without a filesystem", daemon->config->mountpoint);
	return r;
}

/* The server of local:DIR need not be the one that is started here. */
static int fit_limits(struct daemon *daemon)
{
	const struct options *options = daemon->config->options;
	size_t max_key = (size_t)options->max_key, max_value = (size_t)options->max_value;

	store_hpkv_lower_limits(daemon->store, &max_key, &max_value);
	return fs_set_limits(daemon->context.fs, max_key, max_value);
}

static void start_main(void *arg)
{
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	struct daemon *daemon = arg;
	struct hpkv_error error;
	const char *spec = daemon->config->options->spec, *text;
	int r = store_hpkv_connect(daemon->store, &error);

	if (r) {
		fail(daemon, MOUNT_FAILURE, "%s: %s", spec, error.text);
	} else {
		r = fit_limits(daemon);
		if (r == 0)
			r = fs_start(daemon->context.fs, &why);
		text = store_hpkv_last_failure(daemon->store);
		if (r)
			fail(daemon, MOUNT_FAILURE, "%s: %s", spec, why.len ? why.p : *text ? text : strerror(-r));
	}
	if (r == 0 && !daemon->stopping)
		r = mount_session(daemon);
	if (r || daemon->stopping)
		loop_stop(daemon->loop);
}

/* --- parts --- */

static int open_state(struct daemon *daemon)
{
	const struct daemon_config *config = daemon->config;
	const struct state_config state = {
		.path = config->state,
		.url = str_c(config->target->url),
		.prefix = config->options->prefix ? str_c(config->options->prefix) : STR(""),
	};

	return state_open(&state, &daemon->state);
}

static int make_store(struct daemon *daemon)
{
	const struct daemon_config *config = daemon->config;
	struct hpkv_error error;
	int r = target_store(config->target, config->options, config->cacert, daemon->loop, &daemon->store, &error);

	if (r)
		fail(daemon, r == -EINVAL ? MOUNT_USAGE : MOUNT_SYSTEM, "%s", error.text);
	return r;
}

static void notify_expire(void *arg, uint64_t parent, struct str name)
{
	struct daemon *daemon = arg;

	if (!daemon->ending)
		invalidator_expire_entry(daemon->context.invalidator, parent, name);
}

static void notify_inval_entry(void *arg, uint64_t parent, struct str name)
{
	struct daemon *daemon = arg;

	if (!daemon->ending)
		invalidator_inval_entry(daemon->context.invalidator, parent, name);
}

static void notify_inval(void *arg, uint64_t id)
{
	struct daemon *daemon = arg;

	if (!daemon->ending)
		invalidator_inval_inode(daemon->context.invalidator, id);
}

static bool notify_expire_all(void *arg)
{
	struct daemon *daemon = arg;

	return daemon->ending || invalidator_expire_all(daemon->context.invalidator);
}

static void notify_inval_attributes(void *arg, uint64_t id)
{
	struct daemon *daemon = arg;

	if (!daemon->ending)
		invalidator_inval_attributes(daemon->context.invalidator, id);
}

static void notify_echo_missing(void *arg)
{
	struct daemon *daemon = arg;

	if (daemon->subscription)
		subscription_doubt(daemon->subscription);
}

static void notify_event(void *arg, const struct fs_event *event)
{
	struct daemon *daemon = arg;

	inotify_tell(daemon->context.inotify, event);
}

static int make_fs(struct daemon *daemon)
{
	const struct options *options = daemon->config->options;
	struct fs_config config = {
		.prefix = options->prefix ? str_c(options->prefix) : STR(""),
		.delimiter = options->delimiter ? options->delimiter[0] : '/',
		.max_value = (size_t)options->max_value,
		.max_key = (size_t)options->max_key,
		.ttl_us = options->ttl_us,
		.cache_size = (size_t)options->cache_size,
		.uid = (uint32_t)options->uid,
		.gid = (uint32_t)options->gid,
		.umask = (mode_t)options->umask,
		.read_only = options->read_only == ON,
		.state = daemon->state,
		.timeout_us = options->timeout_us,
		.local = str_c(options->local),
		.local_ttl_us = options->local_ttl_us,
		.commit_us = options->commit_us,
	};
	const struct fs_notify notify = {
		.expire_entry = notify_expire,
		.inval_entry = notify_inval_entry,
		.inval_inode = notify_inval,
		.expire_all = notify_expire_all,
		.inval_attributes = notify_inval_attributes,
		.echo_missing = notify_echo_missing,
		.event = options->inotify ? notify_event : NULL,
		.arg = daemon,
	};
	struct test_times times;

	test_times_init(&times);
	config.grace_us = times.grace_us;
	config.beat_us = times.beat_us;
	return fs_new(daemon->loop, store_hpkv_store(daemon->store), &config, &notify, &daemon->context.fs);
}

/* --- what the server tells --- */

static void subscription_live(void *arg)
{
	struct daemon *daemon = arg;

	fs_subscription_begin(daemon->context.fs);
}

static void subscription_lost(void *arg)
{
	struct daemon *daemon = arg;

	fs_subscription_end(daemon->context.fs);
}

static void subscription_notified(void *arg, struct str key, const struct str *value, int64_t time_ms)
{
	struct daemon *daemon = arg;

	fs_notified(daemon->context.fs, key, value, time_ms);
}

static int make_subscription(struct daemon *daemon)
{
	const struct daemon_config *config = daemon->config;
	const struct subscription_events events = {
		.live = subscription_live,
		.lost = subscription_lost,
		.notified = subscription_notified,
		.arg = daemon,
	};
	struct hpkv_error error;
	int r;

	if (config->options->nosubscribe)
		return 0;
	r = target_subscription(config->target, config->options, config->cacert, daemon->loop, &events,
				&daemon->subscription, &error);
	if (r)
		fail(daemon, r == -EINVAL ? MOUNT_USAGE : MOUNT_SYSTEM, "%s", error.text);
	return r;
}

static int watch_signals(struct daemon *daemon)
{
	daemon->signal_fd = signals_open();
	if (daemon->signal_fd < 0)
		return daemon->signal_fd;
	return loop_fd_new(daemon->loop, daemon->signal_fd, signal_came, NULL, daemon, &daemon->signals);
}

/* --- figures --- */

static int format_stats(struct mount_context *context, struct buf *out)
{
	struct daemon *daemon = lws_container_of(context, struct daemon, context);
	struct stats stats = {
		.subscribes = daemon->subscription != NULL,
		.fs = fs_figures(context->fs),
		.invalidator = invalidator_figures(context->invalidator),
		.upcalls = session_upcalls(daemon->session),
	};

	store_hpkv_stats(daemon->store, &stats.store, &stats.throttle);
	if (daemon->subscription)
		stats.subscription = subscription_figures(daemon->subscription);
	return stats_format(&stats, out);
}

static int make_invalidator(struct daemon *daemon)
{
	const struct invalidator_kernel kernel = notify_kernel(session_fuse(daemon->session));

	return invalidator_new(daemon->loop, &kernel, test_notify_directly(), &daemon->context.invalidator);
}

static int set_up(struct daemon *daemon)
{
	int r = 0;

	/* while there is nothing that the helper should not have */
	if (daemon->config->options->inotify)
		r = inotify_new(daemon->config->mountpoint, &daemon->context.inotify);
	if (r == 0)
		r = loop_new(&daemon->loop);
	if (r)
		return r;
	daemon->context.loop = daemon->loop;
	daemon->context.uid = (uint32_t)daemon->config->options->uid;
	daemon->context.gid = (uint32_t)daemon->config->options->gid;
	clock_gettime(CLOCK_REALTIME, &daemon->context.begun);
	r = watch_signals(daemon);
	if (r == 0)
		r = make_store(daemon);
	if (r == 0)
		r = open_state(daemon);
	if (r == 0)
		r = make_fs(daemon);
	if (r == 0)
		r = make_subscription(daemon);
	if (r == 0)
		r = session_new(&daemon->context, daemon->config->options->debug, &daemon->session);
	if (r == 0)
		r = make_invalidator(daemon);
	if (r == 0)
		r = co_start(daemon->loop, start_main, daemon);
	return r;
}

static void tear_down(struct daemon *daemon)
{
	loop_timer_cancel(&daemon->context.watch);
	subscription_free(daemon->subscription);
	invalidator_free(daemon->context.invalidator);
	session_free(daemon->session);
	inotify_free(daemon->context.inotify);
	if (daemon->context.fs)
		fs_free(daemon->context.fs);
	store_hpkv_free(daemon->store);
	loop_fd_free(daemon->signals);
	cleanup_close(&daemon->signal_fd);
	loop_free(daemon->loop);
	state_close(daemon->state);
	/* whoever has unmounted it may be waiting; whoever has sent a signal is not */
	pid_file_end(daemon->pid_file,
		     daemon->serving && !daemon->stopping && daemon->result->code ? daemon->result->text : NULL);
	co_pool_free();
}

void daemon_run(const struct daemon_config *config, struct daemon_result *result)
{
	struct daemon daemon = {
		.config = config,
		.result = result,
		.signal_fd = -1,
		.ready_task = { .fn = ready_task },
		.context = { .ready = ready, .idle = idle, .stats = format_stats },
	};
	int r;

	*result = (struct daemon_result){ 0 };
	r = set_up(&daemon);
	if (r)
		fail(&daemon, MOUNT_SYSTEM, "cannot start: %s", strerror(-r));
	else
		loop_run(daemon.loop);
	tear_down(&daemon);
}
