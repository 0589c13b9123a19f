/* Each system call here is chosen for the event that the kernel raises for it:
 *
 *   utimensat of the time of change alone   MODIFY
 *   opening for writing, and closing        OPEN, CLOSE_WRITE
 *   creation, removal                       CREATE, DELETE
 *
 * What is opened for writing cannot be executed meanwhile, so an executable is not opened. */
#include "mount/inotify_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/fs.h"

#define SOCKET_FD 3

/* --- the way there --- */

static int error_of(int r)
{
	return r < 0 ? -errno : 0;
}

/* Somebody may have put another folder, or another mount, where the message points to. `name` may be "": the directory itself. */
static int check_mount(int dir, const char *name, const struct inotify_message *message)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH) < 0)
		return -errno;
	return st.st_dev == makedev(message->major, message->minor) ? 0 : -ESTALE;
}

/* *dir becomes the directory in it. */
static int step(int *dir, const char *name)
{
	int next = openat(*dir, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);

	if (next < 0)
		return -errno;
	close(*dir);
	*dir = next;
	return 0;
}

/* Opens the directory that the last name is in; *name is that. Not O_DIRECTORY at the mount point, which would make an automounter
 * mount once more what is just being unmounted. */
static int open_parent(const char *mountpoint, const struct inotify_message *message, const char *end, int *out,
		       const char **name)
{
	CLEANUP_CLOSE int dir = open(mountpoint, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	const char *at = message->names, *next;
	int r = error_of(dir);

	if (r == 0)
		r = check_mount(dir, "", message);
	for (; r == 0 && (next = at + strlen(at) + 1) < end; at = next)
		r = step(&dir, at);
	if (r == 0)
		r = check_mount(dir, "", message);
	if (r < 0)
		return r;
	*name = at;
	*out = dir;
	dir = -1;
	return 0;
}

/* --- what the kernel raises events for --- */

static int change(int dir, const char *name, const struct inotify_message *message)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } };
	CLEANUP_CLOSE int fd = -1;
	int r = S_ISREG(message->mode) ? check_mount(dir, name, message) : -EINVAL;

	if (r < 0)
		return r;
	/* without waiting, whatever is there by now */
	if (!(message->mode & 0111))
		fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return error_of(utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW));
}

static int create_regular(int dir, const char *name, const struct inotify_message *message)
{
	CLEANUP_CLOSE int fd = -1;
	int r;

	if (message->mode & 0111) {
		r = error_of(mknodat(dir, name, S_IFREG | 0600, 0));
	} else {
		fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
		r = error_of(fd);
	}
	/* a program has looked it up already */
	return r == -EEXIST ? change(dir, name, message) : r;
}

static int create(int dir, const char *name, const struct inotify_message *message)
{
	mode_t mode = (mode_t)message->mode;

	if (S_ISREG(mode))
		return create_regular(dir, name, message);
	if (S_ISDIR(mode))
		return error_of(mkdirat(dir, name, 0700));
	if (S_ISLNK(mode))
		return error_of(symlinkat(".", dir, name));
	return error_of(mknodat(dir, name, (mode & S_IFMT) | 0600, 0));
}

static int perform(int dir, const char *name, const struct inotify_message *message)
{
	switch ((enum fs_event_kind)message->kind) {
	case FS_EVENT_CREATED:
		return create(dir, name, message);
	case FS_EVENT_CHANGED:
		return change(dir, name, message);
	case FS_EVENT_REMOVED:
		return error_of(unlinkat(dir, name, S_ISDIR(message->mode) ? AT_REMOVEDIR : 0));
	}
	return -EINVAL;
}

static int serve(const char *mountpoint, const struct inotify_message *message, const char *end)
{
	CLEANUP_CLOSE int dir = -1;
	const char *name;
	int r = open_parent(mountpoint, message, end, &dir, &name);

	return r < 0 ? r : perform(dir, name, message);
}

/* --- life --- */

/* Nobody else may act in its name, as a debugger could, and it must not keep anything of the daemon's open. */
static bool become_helper(int socket, int parent)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent || null < 0 || chdir("/") < 0)
		return false;
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NAME, "hpkvfs-inotify");
	/* an automounter lets nobody of the daemon's group wait for the mount */
	setsid();
	socket = fcntl(socket, F_DUPFD, SOCKET_FD + 1);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (dup2(null, fd) < 0)
			return false;
	if (dup2(socket, SOCKET_FD) < 0)
		return false;
	return close_range(SOCKET_FD + 1, ~0u, 0) == 0;
}

void inotify_helper_run(int socket, const char *mountpoint, int parent)
{
	static _Alignas(struct inotify_message) char bytes[INOTIFY_MESSAGE_MAX];
	const struct inotify_message *message = (const struct inotify_message *)bytes;
	ssize_t n;
	int answer;

	if (!become_helper(socket, parent))
		_exit(1);
	while ((n = recv(SOCKET_FD, bytes, sizeof(bytes), 0)) > (ssize_t)sizeof(*message)) {
		answer = serve(mountpoint, message, bytes + n);
		if (send(SOCKET_FD, &answer, sizeof(answer), MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}
