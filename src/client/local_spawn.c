#include "client/local_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "client/internal.h"
#include "client/local.h"
#include "config.h"

#define LOG_MAX (1024 * 1024) /* a larger log begins anew */

#define QUOTED(text) #text
#define DIGITS(number) QUOTED(number)

/* All that the child needs, made before the fork: between fork and exec only async-signal-safe calls are allowed,
 * since another thread may have held malloc's lock. */
struct spawn {
	char *program;
	char *argv[16];
	char **environment;
	int dir_fd;
	int status[2]; /* the child writes its errno if exec fails; closed by exec */
	int life[2];   /* the server keeps the writing end, unknowingly, until it ends */
	bool drop;     /* become `uid` */
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	int group_count;
};

/* --- which program --- */

static char *in_folder(const char *folder, const char *relative)
{
	char *path;

	if (asprintf(&path, "%s/%s", folder, relative) < 0)
		return NULL;
	if (access(path, X_OK) == 0)
		return path;
	free(path);
	return NULL;
}

/* Beside the program that runs: installed together, or in a build folder. */
static char *beside_us(void)
{
	static const char *const places[] = { "hpkvd", "../bin/hpkvd", "../server/hpkvd" };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash, *path;

	if (n <= 0)
		return NULL;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return NULL;
	*slash = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		path = in_folder(self, places[i]);
		if (path)
			return path;
	}
	return NULL;
}

static char *in_path(void)
{
	const char *list = getenv("PATH");
	CLEANUP_FREE char *copy = strdup(list ? list : "/usr/local/bin:/usr/bin:/bin");
	char *rest = NULL, *path;

	for (char *folder = copy ? strtok_r(copy, ":", &rest) : NULL; folder; folder = strtok_r(NULL, ":", &rest)) {
		path = *folder == '/' ? in_folder(folder, "hpkvd") : NULL;
		if (path)
			return path;
	}
	return NULL;
}

static char *find_program(void)
{
	const char *given = secure_getenv("HPKVD");
	char *path;

	if (given && *given)
		return realpath(given, NULL); /* absolute, since the child changes its folder */
	path = beside_us();
	if (!path)
		path = in_folder(HPKVFS_BINDIR, "hpkvd");
	return path ? path : in_path();
}

/* --- before the fork --- */

static void spawn_free(struct spawn *spawn)
{
	free(spawn->program);
	free(spawn->environment);
	for (size_t i = 0; spawn->argv[i]; i++)
		free(spawn->argv[i]);
	free(spawn->groups);
	cleanup_close(&spawn->status[0]);
	cleanup_close(&spawn->status[1]);
	cleanup_close(&spawn->life[0]);
	cleanup_close(&spawn->life[1]);
}

static char *format(const char *prefix, const char *dir, const char *name)
{
	char *text;

	return asprintf(&text, "%s%s%s", prefix, dir, name) < 0 ? NULL : text;
}

static int set_arguments(struct spawn *spawn, const char *dir)
{
	char *const argv[] = {
		strdup("hpkvd"),
		strdup("--store"),
		strdup(dir),
		strdup("--listen"),
		format("unix:", dir, "/socket"),
		strdup("--api-key-file"),
		format("", dir, "/key"),
		strdup("--max-value"),
		strdup(DIGITS(LOCAL_MAX_VALUE)),
		strdup("--max-key"),
		strdup(DIGITS(LOCAL_MAX_KEY)),
		strdup("--idle-exit"),
		strdup("10"),
	};
	const size_t count = sizeof(argv) / sizeof(argv[0]);
	bool complete = true;

	for (size_t i = 0; i < count; i++)
		complete = complete && argv[i];
	for (size_t i = 0, n = 0; i < count; i++)
		if (argv[i])
			spawn->argv[n++] = argv[i];
	return complete ? 0 : -ENOMEM;
}

/* Root serves another user's DIR as that user, with that user's groups. */
static int set_owner(struct spawn *spawn)
{
	struct passwd entry, *found = NULL;
	char text[4096];
	struct stat st;

	if (fstat(spawn->dir_fd, &st) < 0)
		return -errno;
	if (geteuid() != 0 || st.st_uid == 0)
		return 0;
	spawn->drop = true;
	spawn->uid = st.st_uid;
	spawn->gid = st.st_gid;
	if (getpwuid_r(st.st_uid, &entry, text, sizeof(text), &found) != 0 || !found)
		return 0; /* a user without a name has no groups */
	spawn->gid = entry.pw_gid;
	getgrouplist(entry.pw_name, entry.pw_gid, NULL, &spawn->group_count);
	spawn->groups = calloc((size_t)spawn->group_count + 1, sizeof(gid_t));
	if (!spawn->groups)
		return -ENOMEM;
	if (getgrouplist(entry.pw_name, entry.pw_gid, spawn->groups, &spawn->group_count) < 0)
		spawn->group_count = 0;
	return 0;
}

static bool starts(const char *text, const char *const *prefixes)
{
	for (; *prefixes; prefixes++)
		if (strncmp(text, *prefixes, strlen(*prefixes)) == 0)
			return true;
	return false;
}

/* The server shall not hold the mounter's API key; and another user's server, whose environment that user can
 * read, nothing of root's but what is harmless. */
static int set_environment(struct spawn *spawn)
{
	static const char *const secret[] = { "HPKV_API_KEY=", NULL };
	static const char *const harmless[] = {
		"PATH=",         "LANG=",          "LC_", "TZ=", "HPKVFS_", "ASAN_OPTIONS=", "LSAN_OPTIONS=",
		"TSAN_OPTIONS=", "UBSAN_OPTIONS=", NULL
	};
	size_t count = 0, n = 0;

	while (environ[count])
		count++;
	spawn->environment = calloc(count + 1, sizeof(char *));
	if (!spawn->environment)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (spawn->drop ? starts(environ[i], harmless) : !starts(environ[i], secret))
			spawn->environment[n++] = environ[i];
	return 0;
}

static int prepare(struct spawn *spawn, const char *dir, struct hpkv_error *error)
{
	int r;

	spawn->program = find_program();
	if (!spawn->program)
		return error_set(
			error, -ENOENT, 0,
			"hpkvd, the local server, was not found: neither beside this program, nor in %s, nor in PATH",
			HPKVFS_BINDIR);
	r = set_arguments(spawn, dir);
	if (r == 0)
		r = set_owner(spawn);
	if (r == 0)
		r = set_environment(spawn);
	if (r == 0 && (pipe2(spawn->status, O_CLOEXEC) < 0 || pipe2(spawn->life, O_CLOEXEC) < 0))
		r = -errno;
	return r ? error_set(error, r, 0, "the local server cannot be started: %s", strerror(-r)) : 0;
}

/* --- in the child --- */

/* The raw system calls: libc's would wait for the threads that the child does not have. */
static int become_owner(const struct spawn *spawn)
{
	if (!spawn->drop)
		return 0;
	if (syscall(SYS_setgroups, (size_t)spawn->group_count, spawn->groups) < 0 ||
	    syscall(SYS_setresgid, spawn->gid, spawn->gid, spawn->gid) < 0 ||
	    syscall(SYS_setresuid, spawn->uid, spawn->uid, spawn->uid) < 0)
		return -errno;
	return 0;
}

static void set_signals(void)
{
	sigset_t none;
	struct sigaction action = { .sa_handler = SIG_DFL };

	for (int i = 1; i < NSIG; i++)
		sigaction(i, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Standard output and error go to DIR/log, opened as DIR's owner. `life` is the standard input, the one inherited descriptor that a server keeps and does not use; programs close the
 * others when they start. */
static int set_stdio(const struct spawn *spawn)
{
	int null = open("/dev/null", O_WRONLY);
	int log = openat(spawn->dir_fd, "log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0600);
	int life;
	struct stat st;

	if (null < 0)
		return -errno;
	if (log >= 0 && (fstat(log, &st) < 0 || !S_ISREG(st.st_mode)))
		log = -1;
	else if (log >= 0 && st.st_size > LOG_MAX && ftruncate(log, 0) < 0)
		log = -1;
	/* first out of the way of 0 to 2, which may have been closed */
	life = fcntl(spawn->life[1], F_DUPFD, 4);
	log = fcntl(log >= 0 ? log : null, F_DUPFD, 4);
	if (life < 0 || log < 0 || dup2(life, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
		return -errno;
	return 0;
}

/* Nothing of ours stays open in the server but its standard streams. `status` is closed by exec. */
static int set_descriptors(int *status)
{
	if (dup2(*status, 3) < 0)
		return -errno;
	*status = 3;
	if (fcntl(3, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	if (syscall(SYS_close_range, 4U, ~0U, 0U) == 0)
		return 0;
	for (int fd = 4; fd < 1024; fd++) /* kernels before 5.9 */
		close(fd);
	return 0;
}

static _Noreturn void child(const struct spawn *spawn, int status)
{
	int r = 0, n;

	set_signals();
	umask(077);
	n = fcntl(status, F_DUPFD, 4);
	if (n >= 0)
		status = n;
	if (setsid() < 0 || chdir("/") < 0)
		r = -errno;
	if (r == 0)
		r = become_owner(spawn);
	if (r == 0)
		r = set_stdio(spawn);
	if (r == 0)
		r = set_descriptors(&status);
	if (r == 0) {
		execve(spawn->program, spawn->argv, spawn->environment);
		r = -errno;
	}
	n = (int)write(status, &r, sizeof(r));
	_exit(n < 0 ? 2 : 1);
}

/* Forked twice, so that the server is nobody's zombie. */
static _Noreturn void middle(const struct spawn *spawn)
{
	pid_t pid = _Fork();
	int r;

	if (pid == 0)
		child(spawn, spawn->status[1]);
	if (pid < 0) {
		r = -errno;
		_exit(write(spawn->status[1], &r, sizeof(r)) < 0 ? 2 : 1);
	}
	_exit(0);
}

/* --- the whole --- */

static int await_exec(struct spawn *spawn)
{
	int r = 0;
	ssize_t n;

	do
		n = read(spawn->status[0], &r, sizeof(r));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(r) ? r : 0;
}

int local_spawn(const char *dir, int dir_fd, int *life, struct hpkv_error *error)
{
	CLEANUP(spawn_free) struct spawn spawn = { .dir_fd = dir_fd, .status = { -1, -1 }, .life = { -1, -1 } };
	int r = prepare(&spawn, dir, error);
	pid_t pid;

	if (r)
		return r;
	pid = fork();
	if (pid == 0)
		middle(&spawn);
	if (pid < 0)
		return error_set(error, -errno, 0, "the local server cannot be started: %s", strerror(errno));
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(spawn.status[1]);
	spawn.status[1] = -1;
	r = await_exec(&spawn);
	if (r)
		return error_set(error, r, 0, "the local server %s cannot be started: %s", spawn.program, strerror(-r));
	*life = spawn.life[0];
	spawn.life[0] = -1;
	return 0;
}
