#include "client/local.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "client/credentials.h"
#include "client/http.h"
#include "client/local_dir.h"
#include "client/local_spawn.h"
#include "config.h"

#define UNNAMED_MAX_KEY 1024

#define RETRY_MS 20
#define START_PAUSE_US (100 * CLOCK_US_PER_MS) /* between two starts */

struct search {
	const char *dir;
	int dir_fd;
	int life;            /* of the server that was started last; -1: it has ended, or none was */
	uint64_t started_us; /* when that was */
	uint64_t deadline_us;
	struct job *job;
	struct local_server server;
};

void local_server_free(struct local_server *server)
{
	unix_path_close(&server->socket);
	credentials_free(server->key);
	server->key = NULL;
}

static void search_free(struct search *search)
{
	cleanup_close(&search->dir_fd);
	cleanup_close(&search->life);
	local_server_free(&search->server);
}

/* --- is it there, and is it ours? --- */

/* True if the two versions' first two numbers are the same. */
static bool same_version(const char *a, const char *b)
{
	int major[2], minor[2];

	return sscanf(a, "%d.%d", &major[0], &minor[0]) == 2 && sscanf(b, "%d.%d", &major[1], &minor[1]) == 2 &&
	       major[0] == major[1] && minor[0] == minor[1];
}

/* A server from before they were named had the default of its keys. */
static struct server_limits read_limits(const json_t *root)
{
	json_int_t max_key = json_integer_value(json_object_get(root, "maxKey"));
	json_int_t max_value = json_integer_value(json_object_get(root, "maxValue"));

	return (struct server_limits){
		.max_key = max_key > 0 ? (size_t)max_key : UNNAMED_MAX_KEY,
		.max_value = max_value > 0 ? (size_t)max_value : LOCAL_MAX_VALUE,
	};
}

static int check_health_reply(const char *dir, const struct http_response *response, struct server_limits *limits,
			      struct hpkv_error *error)
{
	json_t *root = json_loadb(buf_str(&response->body).p, response->body.len, 0, NULL);
	const char *version = json_string_value(json_object_get(root, "version"));
	int r = 0;

	*limits = read_limits(root);

	if (response->status != 200 || !version)
		r = error_set(error, -EPROTO, response->status, "what answers at %s/socket is no hpkvd", dir);
	else if (!same_version(version, HPKVFS_VERSION))
		r = error_set(error, -EPROTONOSUPPORT, 0,
			      "the running hpkvd is version %s, this is %s: unmount its other users first", version,
			      HPKVFS_VERSION);
	json_decref(root);
	return r;
}

/* -EAGAIN: not there (yet, or any more). */
static int check_health(struct search *search, struct hpkv_error *error)
{
	const struct http_request request = {
		.url = "http://localhost/health",
		.unix_socket = search->server.socket.path,
		.deadline_us = search->deadline_us,
	};
	CLEANUP(buf_free) struct buf body = BUF_INIT;
	struct http_response response = { 0 };
	int r = http_do(&request, search->job, &response, error);

	body = response.body;
	if (r == 0)
		return check_health_reply(search->dir, &response, &search->server.limits, error);
	if (r == -ECONNREFUSED || r == -ENOENT || r == -ECONNRESET || r == -EAGAIN)
		return -EAGAIN;
	return r;
}

/* --- connect, else start --- */

static bool time_is_over(const struct search *search)
{
	return clock_now_us() >= search->deadline_us || (search->job && job_cancelled(search->job));
}

/* Waits a little, and notices when the server that was started has ended. */
static void pause_a_little(struct search *search)
{
	struct pollfd pollfd = { .fd = search->life, .events = POLLIN };

	/* without a server of ours the descriptor is -1, which poll passes by */
	if (poll(&pollfd, 1, RETRY_MS) > 0) {
		close(search->life);
		search->life = -1;
	}
}

static int start_if_none(struct search *search, struct hpkv_error *error)
{
	uint64_t now = clock_now_us();

	if (search->life >= 0 || (search->started_us && now - search->started_us < START_PAUSE_US))
		return 0;
	search->started_us = now;
	return local_spawn(search->dir, search->dir_fd, &search->life, error);
}

static int give_up(const struct search *search, struct hpkv_error *error)
{
	char last[160];

	if (search->job && job_cancelled(search->job))
		return error_set(error, -ECANCELED, 0, "cancelled");
	local_dir_last_log(search->dir_fd, last, sizeof(last));
	return error_set(error, -ETIMEDOUT, 0, "no server came up in %s%s%s", search->dir,
			 *last ? "; its log ends: " : "", last);
}

static int find_or_start(struct search *search, struct hpkv_error *error)
{
	for (;;) {
		int r = check_health(search, error);

		if (r != -EAGAIN)
			return r == -ETIMEDOUT ? give_up(search, error) : r;
		r = start_if_none(search, error);
		if (r)
			return r;
		if (time_is_over(search))
			return give_up(search, error);
		pause_a_little(search);
	}
}

int local_find(const char *dir, uint64_t deadline_us, struct job *job, struct local_server *out,
	       struct hpkv_error *error)
{
	CLEANUP(search_free)
	struct search search = {
		.dir = dir,
		.dir_fd = -1,
		.life = -1,
		.deadline_us = deadline_us,
		.job = job,
		.server.socket.dir_fd = -1,
	};
	CLEANUP_FREE char *path = NULL;
	int r = local_dir_open(dir, &search.dir_fd, error);

	if (r == 0)
		r = local_dir_key(dir, search.dir_fd, &search.server.key, error);
	if (r)
		return r;
	if (asprintf(&path, "%s/socket", dir) < 0) {
		path = NULL;
		return error_set(error, -ENOMEM, 0, "out of memory");
	}
	r = unix_path_open(path, &search.server.socket);
	if (r)
		return error_set(error, r, 0, "%s: %s", path, strerror(-r));
	r = find_or_start(&search, error);
	if (r)
		return r;
	*out = search.server;
	search.server = (struct local_server){ .socket.dir_fd = -1 };
	return 0;
}

/* --- on a thread --- */

struct local_job {
	struct job job;
	char *dir;
	uint64_t deadline_us;
	struct local_server server;
	struct hpkv_error error;
	void (*done)(void *arg, struct local_server *server, const struct hpkv_error *error);
	void *arg;
};

static void local_work(struct job *job)
{
	struct local_job *local = (struct local_job *)job;

	if (local_find(local->dir, local->deadline_us, job, &local->server, &local->error) == 0)
		local->error.err = 0;
}

static void local_done(struct job *job)
{
	struct local_job *local = (struct local_job *)job;

	local->done(local->arg, &local->server, local->error.err ? &local->error : NULL);
}

static void local_free(struct job *job)
{
	struct local_job *local = (struct local_job *)job;

	local_server_free(&local->server);
	free(local->dir);
	free(local);
}

static const struct job_type local_type = {
	.work = local_work,
	.done = local_done,
	.free = local_free,
};

int local_start(struct loop *loop, const char *dir, uint64_t deadline_us,
		void (*done)(void *arg, struct local_server *server, const struct hpkv_error *error), void *arg,
		struct job **out)
{
	struct local_job *local = calloc(1, sizeof(*local));
	int r;

	if (!local)
		return -ENOMEM;
	local->server.socket.dir_fd = -1;
	local->deadline_us = deadline_us;
	local->done = done;
	local->arg = arg;
	local->dir = strdup(dir);
	r = local->dir ? job_start(&local->job, &local_type, loop) : -ENOMEM;
	if (r) {
		local_free(&local->job);
		return r;
	}
	*out = &local->job;
	return 0;
}
