/* What the library does to the process around it: signals, descriptors, fork. */
#include "client_sync_driver.h"

#include <dirent.h>
#include <errno.h>
#include <libwebsockets.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESTORER 0x04000000 /* the C library's own, once an action was set */

struct signals {
	struct sigaction actions[NSIG];
	sigset_t mask;
	bool visible[31]; /* bits of libwebsockets' log level */
};

static void look(struct signals *signals)
{
	memset(signals, 0, sizeof(*signals));
	for (int i = 1; i < NSIG; i++)
		sigaction(i, NULL, &signals->actions[i]);
	pthread_sigmask(SIG_SETMASK, NULL, &signals->mask);
	for (int i = 0; i < 31; i++)
		signals->visible[i] = lwsl_visible(1 << i);
}

static void compare(const struct signals *before)
{
	struct signals now;

	look(&now);
	for (int i = 1; i < NSIG; i++) {
		const struct sigaction *a = &before->actions[i], *b = &now.actions[i];

		CHECK(a->sa_handler == b->sa_handler && ((a->sa_flags ^ b->sa_flags) & ~RESTORER) == 0);
		CHECK(sigismember(&before->mask, i) == sigismember(&now.mask, i));
		if (a->sa_handler == SIG_DFL || a->sa_handler == SIG_IGN)
			continue; /* a mask means something to a handler only */
		for (int j = 1; j < NSIG; j++)
			CHECK(sigismember(&a->sa_mask, j) == sigismember(&b->sa_mask, j));
	}
	CHECK(memcmp(before->visible, now.visible, sizeof(now.visible)) == 0);
}

static void handler(int number)
{
	(void)number;
}

static void check_life(const struct run *run)
{
	const struct hpkv_token_config config = { .url = run->url, .api_key = run->key };
	struct hpkv_loop *loop;
	struct hpkv_client *client;
	struct hpkv_value value;
	struct signals before;
	char *token;

	look(&before);
	loop = new_loop(run);
	compare(&before);
	client = connected_client(run, loop);
	compare(&before);
	CHECK(hpkv_set_sync(client, hpkv_str("a"), hpkv_str("1"), NULL, NULL) == 0);
	CHECK(hpkv_get_sync(client, hpkv_str("a"), NULL, &value, NULL) == 0);
	hpkv_value_free(&value);
	CHECK(hpkv_token_generate_sync(loop, &config, &token, NULL) == 0);
	free(token);
	compare(&before);
	CHECK(hpkv_disconnect_sync(client, false, NULL) == 0);
	CHECK(hpkv_loop_call(loop, free_client, client) == 0);
	compare(&before);
	hpkv_loop_free(loop);
	compare(&before);
}

/* With the defaults, and with a handler for each signal that can have one. */
void run_signals(const struct run *run)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };

	check_life(run);
	for (int i = 1; i < NSIG; i++)
		if (i != SIGKILL && i != SIGSTOP && (i < 32 || i >= SIGRTMIN))
			CHECK(sigaction(i, &action, NULL) == 0);
	check_life(run);
	signal(SIGPIPE, SIG_IGN);
	check_life(run);
}

static void ignore(void *arg, const struct hpkv_reply *reply)
{
	(void)arg;
	(void)reply;
}

/* Large, so that it takes several writes, some of them after the other side's end. */
static void send_many(void *arg)
{
	static char value[1 << 20];
	const struct hpkv_options once = { .repeat = HPKV_REPEAT_NEVER };

	memset(value, 'x', sizeof(value));
	for (int i = 0; i < 8; i++)
		CHECK(hpkv_set(arg, hpkv_str("a"), (struct hpkv_slice){ value, sizeof(value) }, &once, ignore, NULL,
			       NULL) == 0);
}

/* The server hangs up while much is on its way; SIGPIPE, at its default, would end this program. */
void run_hangup(const struct run *run)
{
	struct hpkv_loop *loop = new_loop(run);
	struct hpkv_client *client = new_client(run, loop);
	struct signals before;
	int rounds = atoi(run->arguments[0]);
	const struct hpkv_options once = { .repeat = HPKV_REPEAT_NEVER };

	look(&before);
	CHECK(before.actions[SIGPIPE].sa_handler == SIG_DFL);
	for (int i = 0; i < rounds; i++) {
		struct hpkv_value value;
		int r;

		CHECK(hpkv_connect_sync(client, NULL) == 0);
		CHECK(hpkv_loop_call(loop, send_many, client) == 0);
		r = hpkv_get_sync(client, hpkv_str("a"), &once, &value, NULL);
		CHECK(r == -ECONNRESET || r == -ENOTCONN); /* a thread may have seen the end before */
		compare(&before);
	}
	end(loop, client);
	compare(&before);
	/* a SIGPIPE of the program's own is still one */
	CHECK(sigpending(&before.mask) == 0 && sigismember(&before.mask, SIGPIPE) == 0);
}

static void wait_for(pid_t child)
{
	int status;

	CHECK(child > 0);
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void fork_and_use(const struct run *run)
{
	pid_t child = fork();

	if (child == 0) {
		struct hpkv_loop *own = new_loop(run);
		struct hpkv_client *other = connected_client(run, own);
		struct hpkv_value value;

		CHECK(hpkv_get_sync(other, hpkv_str("a"), NULL, &value, NULL) == 0);
		CHECK(strcmp(value.data, "parent") == 0);
		hpkv_value_free(&value);
		CHECK(hpkv_set_sync(other, hpkv_str("a"), hpkv_str("child"), NULL, NULL) == 0);
		end(own, other);
		_exit(0);
	}
	wait_for(child);
}

/* A child that leaves the library alone, and, where no thread was left behind in the parent, one that makes a loop of its
 * own. */
void run_fork(const struct run *run)
{
	struct hpkv_loop *loop = new_loop(run);
	struct hpkv_client *client = connected_client(run, loop);
	struct hpkv_value value;
	pid_t child;

	child = fork();
	if (child == 0)
		_exit(0);
	wait_for(child);
	CHECK(hpkv_set_sync(client, hpkv_str("a"), hpkv_str("parent"), NULL, NULL) == 0);
	if (!run->with_thread)
		fork_and_use(run);
	CHECK(hpkv_get_sync(client, hpkv_str("a"), NULL, &value, NULL) == 0);
	CHECK(strcmp(value.data, run->with_thread ? "parent" : "child") == 0);
	hpkv_value_free(&value);
	end(loop, client);
}

static int descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int count = -3; /* ".", "..", and the folder itself */

	CHECK(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

/* The program that run_exec becomes; ARGUMENTS: how many there should be. */
void run_descriptors(const struct run *run)
{
	CHECK(descriptors() == atoi(run->arguments[0]));
}

/* A child that becomes another program has no descriptor of the library's. */
void run_exec(const struct run *run)
{
	char count[16];
	struct hpkv_loop *loop;
	struct hpkv_client *client;
	pid_t child;
	int before = descriptors();

	snprintf(count, sizeof(count), "%d", before);
	loop = new_loop(run);
	client = connected_client(run, loop);
	CHECK(descriptors() > before);
	child = fork();
	if (child == 0) {
		execl(run->self, run->self, "descriptors", "-", "-", count, (char *)NULL);
		_exit(2);
	}
	wait_for(child);
	CHECK(hpkv_set_sync(client, hpkv_str("a"), hpkv_str("1"), NULL, NULL) == 0);
	end(loop, client);
	/* libwebsockets 4.3 forgets one of its own, which is not inherited */
	CHECK(descriptors() - before <= (LWS_LIBRARY_VERSION_NUMBER >= 4003000));
}
