/* hpkvfs and mount.hpkvfs: the command line, what needs no server, and the way into the background. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "mount/daemon.h"
#include "mount/kernel.h"
#include "mount/mountpoint.h"
#include "mount/options.h"

/* What a mount needs beside its options; owned. */
struct setup {
	struct options options;
	struct daemon_config daemon;
	const char *program;
	struct target target;
	char *mountpoint, *cacert, *state;
	int report; /* the pipe to the parent; -1 in the foreground */
};

static void setup_free(struct setup *setup)
{
	options_free(&setup->options);
	free(setup->mountpoint);
	target_free(&setup->target);
	free(setup->cacert);
	free(setup->state);
	cleanup_close(&setup->report);
}

static int complain(const struct setup *setup, int code, const char *text)
{
	fprintf(stderr, "%s: %s\n", setup->program, text);
	return code;
}

static int complain_of(const struct setup *setup, int code, const char *what, int err)
{
	fprintf(stderr, "%s: %s: %s\n", setup->program, what, strerror(-err));
	return code;
}

/* --- what the daemon needs, before it leaves this folder and this environment --- */

static char *absolute(const char *path)
{
	CLEANUP_FREE char *here = NULL;
	char *joined;

	if (path[0] == '/')
		return strdup(path);
	here = getcwd(NULL, 0);
	return here && asprintf(&joined, "%s/%s", here, path) >= 0 ? joined : NULL;
}

static char *default_state(void)
{
	const char *folder = secure_getenv("XDG_STATE_HOME"), *home = secure_getenv("HOME");
	struct passwd *entry;
	char *path;
	int r;

	if (geteuid() == 0)
		return strdup("/var/lib/hpkvfs/state.db");
	if (folder && folder[0] == '/') {
		r = asprintf(&path, "%s/hpkvfs/state.db", folder);
		return r < 0 ? NULL : path;
	}
	/* systemd gives no HOME */
	if (!home || !*home) {
		entry = getpwuid(geteuid());
		home = entry && entry->pw_dir ? entry->pw_dir : "/";
	}
	r = asprintf(&path, "%s/.local/state/hpkvfs/state.db", home);
	return r < 0 ? NULL : path;
}

/* The real path of a folder that may not be there yet: its existing part resolved, the rest as it is. */
static char *real_part(const char *path)
{
	CLEANUP_FREE char *head = strdup(path);
	char *real, *joined, *slash;
	int r;

	while (head) {
		real = realpath(head, NULL);
		if (real) {
			r = asprintf(&joined, "%s%s", strcmp(real, "/") == 0 ? "" : real, path + strlen(head));
			free(real);
			return r < 0 ? NULL : joined;
		}
		slash = strrchr(head, '/');
		if (!slash || slash == head)
			break;
		*slash = '\0';
	}
	return strdup(path);
}

static bool overlap(const char *a, const char *b)
{
	return mountpoint_contains(a, b) || mountpoint_contains(b, a);
}

/* The store of local:DIR must not lie in what it is mounted as. Compared as text first: a mount point is not walked. */
static int check_local(const struct setup *setup, const char *dir)
{
	CLEANUP_FREE char *real = NULL;

	if (!overlap(dir, setup->mountpoint)) {
		real = real_part(dir);
		if (!real)
			return complain_of(setup, MOUNT_SYSTEM, dir, -ENOMEM);
	}
	if (!real || overlap(real, setup->mountpoint)) {
		fprintf(stderr, "%s: %s: the store's folder and the mount point %s lie in each other\n", setup->program,
			setup->options.spec, setup->mountpoint);
		return MOUNT_USAGE;
	}
	return MOUNT_OK;
}

static int set_target(struct setup *setup)
{
	struct hpkv_error error;
	int r = target_find(&setup->options, &setup->target, &error);

	if (r)
		return complain(setup, r == -ENOMEM ? MOUNT_SYSTEM : MOUNT_USAGE, error.text);
	return setup->target.local_dir ? check_local(setup, setup->target.local_dir) : MOUNT_OK;
}

static int set_paths(struct setup *setup)
{
	const struct options *options = &setup->options;
	bool stored = !options->state || strcmp(options->state, "none") != 0;

	if (stored)
		setup->state = options->state ? absolute(options->state) : default_state();
	if (options->cacert)
		setup->cacert = absolute(options->cacert);
	if ((stored && !setup->state) || (options->cacert && !setup->cacert))
		return complain_of(setup, MOUNT_SYSTEM, "cannot start", -ENOMEM);
	return MOUNT_OK;
}

static int prepare(struct setup *setup)
{
	int r = mountpoint_resolve(setup->options.dir, &setup->mountpoint);

	if (r)
		return complain_of(setup, MOUNT_USAGE, setup->options.dir, r);
	if (setup->options.action == OPTIONS_REMOUNT)
		return MOUNT_OK;
	r = set_target(setup);
	if (r == MOUNT_OK)
		r = set_paths(setup);
	setup->daemon = (struct daemon_config){
		.options = &setup->options,
		.mountpoint = setup->mountpoint,
		.target = &setup->target,
		.cacert = setup->cacert,
		.state = setup->state,
		.arg = setup,
	};
	return r;
}

/* mount(8) asks its helper to change to the namespace of `mount -N`. */
static int enter_namespace(const struct setup *setup)
{
	const char *name = setup->options.mount_namespace;
	CLEANUP_CLOSE int fd = -1;
	char path[64];

	if (!name)
		return MOUNT_OK;
	if (name[strspn(name, "0123456789")] == '\0') {
		snprintf(path, sizeof(path), "/proc/%.20s/ns/mnt", name);
		name = path;
	}
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNS) < 0)
		return complain_of(setup, MOUNT_USAGE, name, -errno);
	return MOUNT_OK;
}

/* --- into the background --- */

static bool write_report(const struct setup *setup, const struct daemon_result *result)
{
	return write(setup->report, result, sizeof(*result)) == (ssize_t)sizeof(*result);
}

/* In the child, once the mount answers. Under systemd's automount mount(2) hangs after setsid, so this comes behind it. */
static bool go_background(void *arg)
{
	const struct daemon_result good = { .code = MOUNT_OK };
	struct setup *setup = arg;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	bool reported;

	if (setsid() < 0 || chdir("/") < 0 || null < 0)
		log_warning("cannot leave for the background: %s", strerror(errno));
	log_to_syslog();
	for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
		if (dup2(null, fd) < 0)
			log_warning("cannot let go of descriptor %d: %s", fd, strerror(errno));
	if (null > STDERR_FILENO)
		close(null);
	reported = write_report(setup, &good);
	cleanup_close(&setup->report);
	setup->report = -1;
	return reported;
}

static bool stay(void *arg)
{
	(void)arg;
	return true;
}

static int run_child(struct setup *setup)
{
	struct daemon_result result;

	setup->daemon.mounted = go_background;
	daemon_run(&setup->daemon, &result);
	if ((setup->report < 0 || !write_report(setup, &result)) && *result.text)
		log_error("%s", result.text);
	return result.code;
}

static int run_foreground(struct setup *setup)
{
	struct daemon_result result;

	setup->daemon.mounted = stay;
	daemon_run(&setup->daemon, &result);
	return *result.text ? complain(setup, result.code, result.text) : result.code;
}

static int await_child(const struct setup *setup, int report, pid_t pid)
{
	struct daemon_result result;
	ssize_t n;
	int status;

	do
		n = read(report, &result, sizeof(result));
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(result))
		return *result.text ? complain(setup, result.code, result.text) : result.code;
	if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status)) {
		fprintf(stderr, "%s: the filesystem's process was ended by signal %d\n", setup->program,
			WTERMSIG(status));
		return MOUNT_SYSTEM;
	}
	return complain(setup, MOUNT_SYSTEM, "the filesystem's process ended without a word");
}

static int run_background(struct setup *setup)
{
	CLEANUP_CLOSE int report = -1;
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return complain_of(setup, MOUNT_SYSTEM, "cannot start", -errno);
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		setup->report = ends[1];
		return run_child(setup);
	}
	close(ends[1]);
	report = ends[0];
	if (pid < 0)
		return complain_of(setup, MOUNT_SYSTEM, "cannot start", -errno);
	return await_child(setup, report, pid);
}

/* --- main --- */

static void log_libwebsockets(int level, const char *line)
{
	int len = (int)strcspn(line, "\n");

	if (level == LLL_ERR || level == LLL_WARN)
		log_debug("libwebsockets: %.*s", len, line);
}

static int remount(const struct setup *setup)
{
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	int r = kernel_remount(setup->mountpoint, &setup->options, &why);

	if (r == 0)
		return MOUNT_OK;
	return complain(setup, r == -EPERM ? MOUNT_USAGE : MOUNT_FAILURE, why.len ? why.p : strerror(-r));
}

static int run(struct setup *setup)
{
	int r = enter_namespace(setup);

	if (r == MOUNT_OK)
		r = prepare(setup);
	if (r != MOUNT_OK || setup->options.action == OPTIONS_FAKE)
		return r;
	if (setup->options.action == OPTIONS_REMOUNT)
		return remount(setup);
	return setup->options.foreground ? run_foreground(setup) : run_background(setup);
}

int main(int argc, char **argv)
{
	CLEANUP(setup_free) struct setup setup = { .program = options_program(argv), .report = -1 };
	int r;

	/* ignored, as whoever started this may have left it, nothing is heard of how children end, and their pids are free at once */
	signal(SIGCHLD, SIG_DFL);
	r = options_parse(&setup.options, argc, argv);
	if (r)
		return complain(&setup, r, setup.options.error ? setup.options.error : "out of memory");
	if (setup.options.action == OPTIONS_HELP || setup.options.action == OPTIONS_VERSION) {
		(setup.options.action == OPTIONS_HELP ? options_help : options_version)(stdout);
		return fflush(stdout) == 0 ? MOUNT_OK : MOUNT_SYSTEM;
	}
	log_init(setup.program, setup.options.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	lws_set_log_level(LLL_ERR | LLL_WARN, log_libwebsockets);
	return run(&setup);
}
