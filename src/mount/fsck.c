/* fsck.hpkvfs: connects the examination of a store (fs/check.h) with a server, a person and an exit code. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/signals.h"
#include "fs/check.h"
#include "mount/fsck_options.h"
#include "mount/fsck_report.h"
#include "mount/target.h"
#include "mount/test_hooks.h"

/* Times of HPKVFS_TEST_TIMES stand for a minute; ids in use are announced after ten. */
#define ANNOUNCE_GRACES 10

struct fsck {
	struct fsck_options options;
	const char *program;
	struct fsck_report report;
	struct target target;
	struct names_rules rules;
	struct loop *loop;
	struct store_hpkv *store;
	struct check *check;
	int signal_fd;
	struct loop_fd *signals;
	bool stop;
	int code;

	/* a question to a person */
	int tty; /* -1: nobody to be asked */
	struct loop_fd *answers;
	struct coroutine *asker;
	char answer; /* 0: none yet */
};

static void complain(struct fsck *fsck, int code, const char *what, const char *text)
{
	fsck_report_clear(&fsck->report);
	fprintf(stderr, "%s: %s%s%s\n", fsck->program, what, *what ? ": " : "", text);
	fsck->code |= code;
}

/* --- what the examination tells --- */

static void found(void *arg, const struct check_finding *finding)
{
	struct fsck *fsck = arg;

	fsck_report_line(&fsck->report, "", finding->key, finding->text);
}

static void note(void *arg, struct str key, const char *text)
{
	struct fsck *fsck = arg;

	fsck_report_line(&fsck->report, "note: ", key, str_c(text));
}

static void progress(void *arg, const char *what, uint64_t keys)
{
	struct fsck *fsck = arg;

	fsck_report_progress(&fsck->report, what, keys);
}

/* --- questions --- */

/* A terminal gives lines: the first letter of one counts. */
static void answered(void *arg)
{
	struct fsck *fsck = arg;
	char line[128];
	ssize_t n = read(fsck->tty, line, sizeof(line));

	if (n < 0 && errno == EAGAIN)
		return;
	fsck->answer = n > 0 ? line[0] : 'n';
	if (fsck->asker)
		co_wake(fsck->asker);
}

static void hung_up(void *arg)
{
	struct fsck *fsck = arg;

	fsck->answer = 'n';
	if (fsck->asker)
		co_wake(fsck->asker);
}

static co_fn bool ask(struct fsck *fsck, const char *question, unsigned count)
{
	fsck_report_clear(&fsck->report);
	printf("%s (%u)? [y/N] ", question, count);
	fflush(stdout);
	fsck->answer = 0;
	fsck->asker = co_self();
	while (!fsck->answer && !fsck->stop)
		if (co_wait() < 0)
			continue; /* nobody interrupts this coroutine */
	fsck->asker = NULL;
	return fsck->answer == 'y' || fsck->answer == 'Y';
}

/* Opened anew: that it does not block must not be so for whoever shares standard input. */
static int open_terminal(struct fsck *fsck)
{
	if (fsck->options.mode != FSCK_ASK || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return 0;
	fsck->tty = open("/proc/self/fd/0", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fsck->tty < 0)
		return 0;
	return loop_fd_new(fsck->loop, fsck->tty, answered, hung_up, fsck, &fsck->answers);
}

/* --- which repairs --- */

/* True if anything is to be repaired. */
static co_fn bool choose(struct fsck *fsck, bool kinds[CHECK_KINDS])
{
	enum check_cure least = fsck->options.mode == FSCK_ALL ? CHECK_WANTED : CHECK_ANY_TIME;
	bool any = fsck->options.mode == FSCK_ALL || fsck->options.mode == FSCK_SAFE, cannot_ask = false;

	for (enum check_kind kind = 0; kind < CHECK_KINDS; kind++) {
		unsigned count = check_count(fsck->check, kind);
		enum check_cure cure = check_cure(kind);

		kinds[kind] = any && cure >= least;
		if (any || cure == CHECK_NEVER || count == 0 || fsck->options.mode == FSCK_LOOK)
			continue;
		if (fsck->tty < 0)
			cannot_ask = true;
		else
			kinds[kind] = ask(fsck, check_question(kind), count);
	}
	if (cannot_ask)
		fsck_report_line(&fsck->report, "", STR(""),
				 STR("no terminal to ask on: nothing is changed, as with -n; -y or -a repairs"));
	for (enum check_kind kind = 0; kind < CHECK_KINDS; kind++)
		any = any || kinds[kind];
	return any && !fsck->stop;
}

static unsigned count_all(const struct fsck *fsck)
{
	unsigned count = 0;

	for (enum check_kind kind = 0; kind < CHECK_KINDS; kind++)
		count += check_count(fsck->check, kind);
	return count;
}

static void tell_delay(struct fsck *fsck, const bool kinds[CHECK_KINDS])
{
	uint64_t delay_us = check_delay_us(fsck->check, kinds);
	char text[160];

	if (!delay_us)
		return;
	snprintf(
		text, sizeof(text),
		"waiting %llu s before anything is removed: there is no subscription, and by then what mounts use is named",
		(unsigned long long)((delay_us + CLOCK_US_PER_S - 1) / CLOCK_US_PER_S));
	fsck_report_line(&fsck->report, "", STR(""), str_c(text));
}

/* --- the whole --- */

static void failed(struct fsck *fsck, int r, const char *why)
{
	const char *text = store_hpkv_last_failure(fsck->store);

	if (fsck->stop)
		complain(fsck, FSCK_CANCELLED, "", "interrupted");
	else
		complain(fsck, r == -ENOMEM ? FSCK_LIBRARY : FSCK_FAILURE, fsck->options.store.spec,
			 *why    ? why
			 : *text ? text
				 : strerror(-r));
}

static void sum_up(struct fsck *fsck, unsigned faults, unsigned repaired)
{
	unsigned left = count_all(fsck);
	char text[128];

	if (faults == 0)
		snprintf(text, sizeof(text), "clean");
	else
		snprintf(text, sizeof(text), "%u fault%s found, %u repaired, %u left", faults, faults == 1 ? "" : "s",
			 repaired, left);
	fsck_report_line(&fsck->report, "", str_c(fsck->options.store.spec), str_c(text));
	fsck->code |= (repaired ? FSCK_CORRECTED : 0) | (left ? FSCK_LEFT : 0);
}

static co_fn void examine(struct fsck *fsck)
{
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	bool kinds[CHECK_KINDS];
	unsigned faults, repaired = 0;
	int r = check_examine(fsck->check, &why);

	if (r < 0) {
		failed(fsck, r, buf_str(&why).p);
		return;
	}
	faults = count_all(fsck);
	if (choose(fsck, kinds)) {
		tell_delay(fsck, kinds);
		r = check_repair(fsck->check, kinds, &repaired);
	}
	if (r < 0 || fsck->stop)
		failed(fsck, r, "");
	sum_up(fsck, faults, repaired);
}

/* The server of local:DIR need not be the one that is started here. */
static void fit_limits(struct fsck *fsck)
{
	size_t max_value = SIZE_MAX;

	store_hpkv_lower_limits(fsck->store, &fsck->rules.max_key, &max_value);
}

static void fsck_main(void *arg)
{
	struct fsck *fsck = arg;
	struct hpkv_error error;
	int r = store_hpkv_connect(fsck->store, &error);

	if (r)
		failed(fsck, r, error.text);
	else
		fit_limits(fsck);
	if (r == 0)
		examine(fsck);
	if (r == 0)
		store_hpkv_disconnect(fsck->store);
	loop_stop(fsck->loop);
}

static void signal_came(void *arg)
{
	struct fsck *fsck = arg;
	struct signalfd_siginfo info;

	while (read(fsck->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		fsck->stop = true;
	if (!fsck->stop)
		return;
	store_hpkv_give_up(fsck->store);
	if (fsck->asker)
		co_wake(fsck->asker);
}

/* --- parts --- */

static int watch_signals(struct fsck *fsck)
{
	fsck->signal_fd = signals_open();
	if (fsck->signal_fd < 0)
		return fsck->signal_fd;
	return loop_fd_new(fsck->loop, fsck->signal_fd, signal_came, NULL, fsck, &fsck->signals);
}

static int make_check(struct fsck *fsck)
{
	const struct options *options = &fsck->options.store;
	struct check_config config = {
		.layout = {
			.loop = fsck->loop,
			.store = store_hpkv_store(fsck->store),
			.rules = &fsck->rules,
			.max_value = (size_t)options->max_value,
		},
		.stop = &fsck->stop,
		.arg = fsck,
		.found = found,
		.note = note,
		.progress = progress,
	};
	struct test_times times;

	fsck->rules = (struct names_rules){
		.delimiter = options->delimiter ? options->delimiter[0] : '/',
		.prefix = options->prefix ? str_c(options->prefix) : STR(""),
		.max_key = (size_t)options->max_key,
	};
	test_times_init(&times);
	config.grace_us = times.grace_us;
	config.announce_us = times.grace_us * ANNOUNCE_GRACES;
	config.orphan_us = times.orphan_us;
	return check_new(&config, &fsck->check);
}

static void set_up(struct fsck *fsck)
{
	struct hpkv_error error;
	int r = loop_new(&fsck->loop);

	if (r == 0)
		r = watch_signals(fsck);
	if (r == 0)
		r = open_terminal(fsck);
	if (r) {
		complain(fsck, FSCK_LIBRARY, "cannot start", strerror(-r));
		return;
	}
	r = target_store(&fsck->target, &fsck->options.store, fsck->options.store.cacert, fsck->loop, &fsck->store,
			 &error);
	if (r) {
		complain(fsck, r == -EINVAL ? FSCK_USAGE : FSCK_LIBRARY, "", error.text);
		return;
	}
	r = make_check(fsck);
	if (r == 0)
		r = co_start(fsck->loop, fsck_main, fsck);
	if (r)
		complain(fsck, FSCK_LIBRARY, "cannot start", strerror(-r));
}

static void tear_down(struct fsck *fsck)
{
	check_free(fsck->check);
	store_hpkv_free(fsck->store);
	loop_fd_free(fsck->answers);
	cleanup_close(&fsck->tty);
	loop_fd_free(fsck->signals);
	cleanup_close(&fsck->signal_fd);
	loop_free(fsck->loop);
	co_pool_free();
}

static void log_libwebsockets(int level, const char *line)
{
	(void)level;
	log_debug("libwebsockets: %.*s", (int)strcspn(line, "\n"), line);
}

static void run(struct fsck *fsck)
{
	struct hpkv_error error;
	int r = target_find(&fsck->options.store, &fsck->target, &error);

	if (r) {
		complain(fsck, r == -ENOMEM ? FSCK_LIBRARY : FSCK_USAGE, "", error.text);
		return;
	}
	/* its server would make one */
	if (fsck->target.local_dir && access(fsck->target.local_dir, F_OK) < 0) {
		complain(fsck, FSCK_FAILURE, fsck->target.local_dir, strerror(errno));
		return;
	}
	set_up(fsck);
	if (fsck->code == FSCK_OK)
		loop_run(fsck->loop);
	tear_down(fsck);
}

int main(int argc, char **argv)
{
	struct fsck fsck = { .program = options_program(argv), .signal_fd = -1, .tty = -1 };
	const struct options *options = &fsck.options.store;

	fsck_report_init(&fsck.report);
	fsck.code = fsck_options_parse(&fsck.options, argc, argv);
	log_init(fsck.program, LOG_LEVEL_WARNING);
	lws_set_log_level(LLL_ERR | LLL_WARN, log_libwebsockets);
	if (fsck.code)
		complain(&fsck, fsck.code, "", options->error ? options->error : "out of memory");
	else if (options->action == OPTIONS_HELP)
		fsck_options_help(stdout);
	else if (options->action == OPTIONS_VERSION)
		options_version(stdout);
	else
		run(&fsck);
	target_free(&fsck.target);
	options_free(&fsck.options.store);
	if (fflush(stdout) != 0 || ferror(stdout))
		fsck.code |= FSCK_FAILURE;
	return fsck.code;
}
