#include "server/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "server/conn.h"

#define BACKLOG 1024
#define ACCEPT_ROUND 64
/* After a failure for want of descriptors or memory. */
#define ACCEPT_PAUSE_US (200 * CLOCK_US_PER_MS)
/* A peer that vanished without a word is noticed after about a minute. */
#define KEEPALIVE_IDLE_S 30
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_COUNT 3

struct listener {
	struct listener *prev, *next;
	struct server *server;
	int fd;
	struct loop_fd *watch;
	struct loop_timer pause;
	/* a Unix socket: its directory, name and identity, to remove the right file */
	int directory;
	char *name;
	struct stat identity;
};

static void set_tcp_options(int fd)
{
	const int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S, count = KEEPALIVE_COUNT;

	/* these only fail on sockets of other kinds, where they are not needed */
	(void)!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)!setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)!setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)!setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void)!setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static int watch(struct listener *listener);

static void resume(struct loop_timer *timer)
{
	struct listener *listener = lws_container_of(timer, struct listener, pause);

	if (!listener->watch && watch(listener))
		loop_timer_set(listener->server->loop, timer, ACCEPT_PAUSE_US, resume);
}

static void acceptable(void *arg)
{
	struct listener *listener = arg;

	for (int i = 0; i < ACCEPT_ROUND; i++) {
		int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			if (listener->directory < 0)
				set_tcp_options(fd);
			conn_start(listener->server, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			log_warning("cannot accept connections now: %s", strerror(errno));
			loop_fd_free(listener->watch);
			listener->watch = NULL;
			loop_timer_set(listener->server->loop, &listener->pause, ACCEPT_PAUSE_US, resume);
		}
		if (errno != ECONNABORTED && errno != EINTR)
			break;
	}
}

static int watch(struct listener *listener)
{
	return loop_fd_new(listener->server->loop, listener->fd, acceptable, NULL, listener, &listener->watch);
}

static void listener_free(struct listener *listener)
{
	struct stat st;

	if (listener->name && fstatat(listener->directory, listener->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_dev == listener->identity.st_dev && st.st_ino == listener->identity.st_ino)
		unlinkat(listener->directory, listener->name, 0);
	loop_timer_cancel(&listener->pause);
	loop_fd_free(listener->watch);
	if (listener->fd >= 0) {
		/* the loop closes its duplicate a little later: nobody should get in by it */
		shutdown(listener->fd, SHUT_RDWR);
		close(listener->fd);
	}
	if (listener->directory >= 0)
		close(listener->directory);
	free(listener->name);
	free(listener);
}

static int fail(const char *address, struct buf *why)
{
	(void)!buf_printf(why, "cannot listen on %s: %s", address, strerror(errno));
	return -1;
}

/* --- Unix sockets --- */

/* An address has room for 107 bytes: longer paths go through their directory's descriptor. 0 or -1 with errno. */
static int unix_address(struct listener *listener, const char *path, struct sockaddr_un *out)
{
	const char *slash = strrchr(path, '/');
	char *directory = slash == path ? strdup("/") : slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
	int n;

	listener->name = strdup(slash ? slash + 1 : path);
	if (directory)
		listener->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(directory);
	if (listener->directory < 0 || !listener->name)
		return -1;
	out->sun_family = AF_UNIX;
	n = snprintf(out->sun_path, sizeof(out->sun_path), "/proc/self/fd/%d/%s", listener->directory, listener->name);
	if (n < 0 || (size_t)n >= sizeof(out->sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return 0;
}

/* Removes a socket that nobody listens on. 0: nothing is there now; -1 with errno. */
static int remove_stale(struct listener *listener, const struct sockaddr_un *address)
{
	CLEANUP_CLOSE int fd = -1;
	struct stat st;

	if (fstatat(listener->directory, listener->name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : -1;
	errno = EEXIST;
	if (!S_ISSOCK(st.st_mode))
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN) {
		errno = EADDRINUSE;
		return -1;
	}
	return errno == ECONNREFUSED ? unlinkat(listener->directory, listener->name, 0) : -1;
}

/* The file is its owner's from its first moment on: chmod afterwards would come too late. */
static int bind_private(int fd, const struct sockaddr_un *address)
{
	mode_t old = umask(0177);
	int r = bind(fd, (const struct sockaddr *)address, sizeof(*address));

	umask(old);
	return r;
}

static int open_unix(struct listener *listener, const char *path)
{
	struct sockaddr_un address = { 0 };
	int r = unix_address(listener, path, &address);

	if (!r)
		r = remove_stale(listener, &address);
	if (!r) {
		listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		r = listener->fd < 0 ? -1 : 0;
	}
	if (!r)
		r = bind_private(listener->fd, &address);
	if (!r)
		r = fstatat(listener->directory, listener->name, &listener->identity, AT_SYMLINK_NOFOLLOW);
	if (!r)
		r = listen(listener->fd, BACKLOG);
	if (r && !listener->identity.st_ino) {
		/* not ours: leave it */
		free(listener->name);
		listener->name = NULL;
	}
	return r;
}

/* --- TCP --- */

/* Splits [ADDR]:PORT, ADDR:PORT, :PORT or PORT. 0 or -1. */
static int split(const char *address, char *host, size_t host_size, const char **port)
{
	const char *colon = strrchr(address, ':');
	size_t len = colon ? (size_t)(colon - address) : 0;

	*port = colon ? colon + 1 : address;
	if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
		address++;
		len -= 2;
	}
	/* getaddrinfo would take 65616 for 80 */
	if (!**port || strlen(*port) > 5 || strspn(*port, "0123456789") != strlen(*port) || atoi(*port) > 65535)
		return -1;
	if (len >= host_size)
		return -1;
	memcpy(host, address, len);
	host[len] = 0;
	if (!len)
		snprintf(host, host_size, "127.0.0.1");
	return 0;
}

static int open_address(struct listener *listener, const struct addrinfo *info)
{
	const int on = 1;

	listener->fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, info->ai_protocol);
	if (listener->fd < 0)
		return -1;
	/* so that a restart need not wait for the old connections' last states */
	setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (info->ai_family == AF_INET6)
		setsockopt(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	return bind(listener->fd, info->ai_addr, info->ai_addrlen) || listen(listener->fd, BACKLOG) ? -1 : 0;
}

static int open_tcp(struct listener *listener, const char *address, struct buf *why)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC,
					.ai_socktype = SOCK_STREAM,
					.ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	struct addrinfo *info;
	const char *port;
	char host[256];
	int r;

	if (split(address, host, sizeof(host), &port)) {
		(void)!buf_printf(why, "cannot listen on %s: not unix:PATH, ADDR:PORT or PORT", address);
		return -1;
	}
	r = getaddrinfo(host, port, &hints, &info);
	if (r) {
		(void)!buf_printf(why, "cannot listen on %s: %s", address, gai_strerror(r));
		return -1;
	}
	r = open_address(listener, info);
	freeaddrinfo(info);
	return r ? fail(address, why) : 0;
}

/* The line that tells a waiting parent that all is ready, and on which port. */
static void tell_tcp(const struct listener *listener)
{
	struct sockaddr_storage address = { 0 };
	socklen_t len = sizeof(address);
	char host[64], port[16];

	if (getsockname(listener->fd, (struct sockaddr *)&address, &len) ||
	    getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return;
	printf(address.ss_family == AF_INET6 ? "hpkvd: listening on http://[%s]:%s\n"
					     : "hpkvd: listening on http://%s:%s\n",
	       host, port);
}

int listener_new(struct server *server, const char *address, struct buf *why)
{
	struct listener *listener = calloc(1, sizeof(*listener));
	bool is_unix = strncmp(address, "unix:", 5) == 0;
	int r;

	if (!listener)
		return fail(address, why);
	listener->server = server;
	listener->fd = listener->directory = -1;
	if (is_unix)
		r = open_unix(listener, address + 5) ? fail(address, why) : 0;
	else
		r = open_tcp(listener, address, why);
	if (!r && watch(listener)) {
		errno = ENOMEM;
		r = fail(address, why);
	}
	if (r) {
		listener_free(listener);
		return -1;
	}
	DL_APPEND(server->listeners, listener);
	if (is_unix)
		printf("hpkvd: listening on %s\n", address);
	else
		tell_tcp(listener);
	fflush(stdout);
	return 0;
}

void listeners_close(struct server *server)
{
	struct listener *listener, *next;

	DL_FOREACH_SAFE(server->listeners, listener, next) {
		DL_DELETE(server->listeners, listener);
		listener_free(listener);
	}
}
