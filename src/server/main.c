/* hpkvd: a local HPKV server.
 *
 * Exit codes: 0 ended as asked to; 1 could not start or failed; 2 wrong usage; 4 the store is in use. */
#include <errno.h>
#include <jansson.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "base/signals.h"
#include "config.h"
#include "server/apikey.h"
#include "server/engine_sqlite.h"
#include "server/listener.h"
#include "server/server.h"
#include "server/storedir.h"

enum {
	EXIT_USAGE = 2,
	EXIT_BUSY = 4,
};

/* libwebsockets makes tables for as many as may be open. */
#define MAX_DESCRIPTORS 16384

struct watch {
	struct server *server;
	int fd;
};

static void on_signal(void *arg)
{
	struct watch *signals = arg;
	struct signalfd_siginfo info;

	if (read(signals->fd, &info, sizeof(info)) != sizeof(info))
		return;
	log_info("ending on signal %u", info.ssi_signo);
	server_drain(signals->server);
}

static void set_up_process(void)
{
	struct rlimit limit;

	/* Whoever started this may have left descriptors open that are not meant for it. */
	syscall(SYS_close_range, 3u, ~0u, 0u);
	umask(077);
	/* a limit on file sizes then is an error of a write, not the end */
	signal(SIGXFSZ, SIG_IGN);
	/* access patterns match characters, not bytes */
	setlocale(LC_CTYPE, "C.UTF-8");
	json_object_seed(0);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max < MAX_DESCRIPTORS ? limit.rlim_max : MAX_DESCRIPTORS;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int failed(const struct buf *why)
{
	log_error("%s", why->p ? why->p : "no memory");
	return -1;
}

static int open_all(struct server *server, struct buf *why)
{
	const struct options *options = server->options;
	const struct engine_sqlite_config config = {
		.directory = options->store,
		.sync = options->sync_normal ? STORE_SYNC_NORMAL : STORE_SYNC_FULL,
		.max_value = options->max_value,
		.range_bytes = SERVER_RANGE_BYTES,
	};

	if (engine_sqlite_new(server->loop, &config, &server->engine, why))
		return -1;
	for (size_t i = 0; i < options->listen_count; i++)
		if (listener_new(server, options->listen[i], why))
			return -1;
	return 0;
}

/* Serves until told to end. 0 or -1. */
static int serve(struct loop *loop, const struct options *options, struct str api_key, int signals)
{
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	struct server server = { 0 };
	struct watch watch = { .server = &server, .fd = signals };
	struct loop_fd *watcher = NULL;
	int r = server_init(&server, loop, options, api_key);

	if (!r)
		r = loop_fd_new(loop, signals, on_signal, NULL, &watch, &watcher);
	if (!r)
		r = open_all(&server, &why);
	if (r) {
		r = failed(&why);
	} else {
		server_watch_idle(&server);
		loop_run(loop);
	}
	if (server.inflight) {
		/* The disk hangs: waiting for the threads would be in vain. */
		_exit(EXIT_FAILURE);
	}
	server_deinit(&server);
	engine_free(server.engine);
	loop_fd_free(watcher);
	return r;
}

static int run(const struct options *options)
{
	CLEANUP(buf_free) struct buf api_key = BUF_INIT;
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	CLEANUP_CLOSE int lock = -1;
	CLEANUP_CLOSE int signals = signals_open();
	struct loop *loop;
	int r;

	if (api_key_read(options->api_key_file, &api_key, &why)) {
		(void)failed(&why);
		return EXIT_USAGE;
	}
	r = storedir_open(options->store, &lock, &why);
	if (r) {
		(void)failed(&why);
		return r == STOREDIR_BUSY ? EXIT_BUSY : EXIT_FAILURE;
	}
	if (signals < 0 || loop_new_for(&loop, MAX_DESCRIPTORS)) {
		log_error("cannot start: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	r = serve(loop, options, buf_str(&api_key), signals);
	explicit_bzero(api_key.p, api_key.len);
	loop_free(loop);
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct options options;
	int r;

	if (options_parse(argc, argv, &options))
		return EXIT_USAGE;
	if (options.help || options.version) {
		if (options.help)
			options_print_help();
		else
			printf("hpkvd %s\n", HPKVFS_VERSION);
		options_free(&options);
		return EXIT_SUCCESS;
	}
	log_init("hpkvd", options.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	lws_set_log_level(options.debug ? LLL_ERR | LLL_WARN : LLL_ERR, NULL);
	set_up_process();
	r = run(&options);
	options_free(&options);
	return r;
}
