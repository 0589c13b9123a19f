#include "mount/fusermount.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/log.h"

#define PROGRAM "fusermount3"

/* It sends the connection over the socket whose number is in its environment. */
#define SOCKET_FD 3
#define SOCKET_VARIABLE "_FUSE_COMMFD=3"

static char **environment_with(char *variable)
{
	size_t count = 0;
	char **copy;

	while (environ[count])
		count++;
	copy = reallocarray(NULL, count + 2, sizeof(*copy));
	if (!copy)
		return NULL;
	copy[0] = variable;
	memcpy(copy + 1, environ, (count + 1) * sizeof(*copy));
	return copy;
}

/* Standard error goes to `messages`; our blocked and ignored signals are not passed on. 0 or -errno. */
static int spawn(char **argv, int socket, int messages, pid_t *pid)
{
	char variable[] = SOCKET_VARIABLE;
	CLEANUP_FREE char **environment = environment_with(variable);
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, usual;
	int r;

	if (!environment)
		return -ENOMEM;
	sigemptyset(&none);
	sigemptyset(&usual);
	sigaddset(&usual, SIGPIPE);
	sigaddset(&usual, SIGCHLD);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &usual);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	r = posix_spawn_file_actions_adddup2(&actions, messages, STDERR_FILENO);
	if (r == 0 && socket >= 0)
		r = posix_spawn_file_actions_adddup2(&actions, socket, SOCKET_FD);
	if (r == 0)
		r = posix_spawnp(pid, PROGRAM, &actions, &attributes, argv, environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

static int receive_fd(int socket)
{
	char byte, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *header;
	ssize_t n;
	int fd;

	do
		n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	if (!header || header->cmsg_type != SCM_RIGHTS)
		return -EIO;
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

/* The first line that it wrote, without its name. */
static int read_message(int messages, struct buf *why)
{
	char text[512];
	ssize_t n = pread(messages, text, sizeof(text) - 1, 0);
	char *start = text;

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (strncmp(start, PROGRAM ": ", strlen(PROGRAM ": ")) == 0)
		start += strlen(PROGRAM ": ");
	buf_clear(why);
	return buf_printf(why, "%s: %s", PROGRAM, *start ? start : "failed without a word");
}

static int mount_through(char **argv, const char *mountpoint, int *sockets, int messages, int *fd, struct buf *why)
{
	pid_t pid;
	int received, r = spawn(argv, sockets[0], messages, &pid);

	if (r) {
		buf_clear(why);
		return buf_printf(why, "%s cannot be started (Debian package fuse3): %s", PROGRAM, strerror(-r))
			       ? -ENOMEM
			       : r;
	}
	close(sockets[0]);
	sockets[0] = -1;
	received = receive_fd(sockets[1]);
	r = wait_for(pid);
	if (received >= 0 && r == 0) {
		*fd = received;
		return 0;
	}
	if (received >= 0) {
		close(received);
		/* it had mounted before it failed */
		if (fusermount_unmount(mountpoint) < 0)
			log_debug("%s is perhaps still mounted", mountpoint);
	}
	return read_message(messages, why) ? -ENOMEM : -EIO;
}

int fusermount_mount(const char *options, const char *mountpoint, int *fd, struct buf *why)
{
	char *argv[] = { (char *)PROGRAM, (char *)"-o", (char *)options, (char *)"--", (char *)mountpoint, NULL };
	CLEANUP_CLOSE int messages = memfd_create("messages", MFD_CLOEXEC);
	int sockets[2], r;

	if (messages < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	r = mount_through(argv, mountpoint, sockets, messages, fd, why);
	cleanup_close(&sockets[0]);
	cleanup_close(&sockets[1]);
	return r;
}

int fusermount_unmount(const char *mountpoint)
{
	char *argv[] = { (char *)PROGRAM, (char *)"-u", (char *)"-z", (char *)"--", (char *)mountpoint, NULL };
	CLEANUP_CLOSE int messages = memfd_create("messages", MFD_CLOEXEC);
	pid_t pid;
	int r;

	if (messages < 0)
		return -errno;
	r = spawn(argv, -1, messages, &pid);
	return r ? r : wait_for(pid);
}
