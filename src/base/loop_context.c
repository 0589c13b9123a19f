#include "base/loop_context.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

/* libwebsockets keeps process-wide things of its own while it makes or ends a context. */
static pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER;

#define LOG_CONTEXT_AWARE (1 << 16) /* since libwebsockets 4.3; a level with it cannot be set again from here */

/* The bits of the global log level, which can only be asked for one by one. */
static int log_level(void)
{
	int level = 0;

	for (int bit = 0; bit < 31; bit++)
		if (lwsl_visible(1 << bit))
			level |= 1 << bit;
	return level;
}

void loop_log_vhost(struct loop_log *log, struct lws_context_creation_info *vhost)
{
#if LWS_LIBRARY_VERSION_NUMBER >= 4003000
	if (log->silent.u.emit)
		vhost->log_cx = &log->silent;
#else
	(void)log;
	(void)vhost;
#endif
}

/* What goes wrong is told by our own errors. A program that has asked for more than warnings gets it all. */
static void be_silent(struct lws_context_creation_info *info, struct loop_log *log, int level)
{
#if LWS_LIBRARY_VERSION_NUMBER >= 4003000
	if (!(level & LLL_INFO)) {
		log->silent.u.emit = lwsl_emit_stderr;
		loop_log_vhost(log, info);
	}
#else
	(void)info;
	(void)log;
	(void)level;
#endif
}

/* Since 4.2 each context opens a netlink socket, and forgets to mark it. */
static const bool opens_netlink = LWS_LIBRARY_VERSION_NUMBER >= 4002000;

static bool is_netlink(int fd)
{
	int domain = 0;
	socklen_t len = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_NETLINK;
}

/* Calls fn(fd) for each netlink socket that programs started by this one would inherit. */
static void each_inherited_netlink(void (*fn)(int fd, void *arg), void *arg)
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;

	if (!folder)
		return;
	while ((entry = readdir(folder))) {
		int fd = atoi(entry->d_name), flags = fcntl(fd, F_GETFD);

		if (entry->d_name[0] != '.' && flags >= 0 && !(flags & FD_CLOEXEC) && is_netlink(fd))
			fn(fd, arg);
	}
	closedir(folder);
}

static void mark(int fd, void *arg)
{
	if (fd < FD_SETSIZE)
		FD_SET(fd, (fd_set *)arg);
}

static void close_on_exec(int fd, void *arg)
{
	/* those that were there before are somebody else's */
	if (fd < FD_SETSIZE && !FD_ISSET(fd, (fd_set *)arg))
		fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* Making a context makes the process ignore SIGPIPE, writes at the default log level what libwebsockets was built with, and
 * since 4.2 opens a netlink socket that is inherited. None of that is a library's to do. */
struct lws_context *loop_context_create(const struct lws_context_creation_info *from, struct loop_log *log)
{
	struct lws_context_creation_info info = *from;
	struct lws_context *context;
	struct sigaction before;
	fd_set others;
	int level;
	bool quiet;

	FD_ZERO(&others);
	pthread_mutex_lock(&process_lock);
	level = log_level();
	quiet = (level & LLL_NOTICE) && !(level & (LLL_INFO | LOG_CONTEXT_AWARE));
	if (quiet)
		lws_set_log_level(level & ~LLL_NOTICE, NULL);
	be_silent(&info, log, level);
	sigaction(SIGPIPE, NULL, &before);
	if (opens_netlink)
		each_inherited_netlink(mark, &others);
	context = lws_create_context(&info);
	if (opens_netlink)
		each_inherited_netlink(close_on_exec, &others);
	sigaction(SIGPIPE, &before, NULL);
	if (quiet)
		lws_set_log_level(level, NULL);
	pthread_mutex_unlock(&process_lock);
	return context;
}

void loop_context_destroy(struct lws_context *context)
{
	pthread_mutex_lock(&process_lock);
	lws_context_destroy(context);
	pthread_mutex_unlock(&process_lock);
}
