/* Programs around the calls of libhpkv that wait, for the tests: client_sync_driver PROGRAM URL KEY [ARGUMENT...]. Each
 * ends with 0, or with 1 and a line that says what was not as it should be. Public header only. */
#include "client_sync_driver.h"

#include <errno.h>
#include <libwebsockets.h>
#include <stdatomic.h>
#include <unistd.h>

struct hpkv_client *new_client(const struct run *run, struct hpkv_loop *loop)
{
	struct hpkv_client *client;
	struct hpkv_config config;
	struct hpkv_error error;

	hpkv_config_init(&config);
	config.url = run->url;
	config.api_key = run->key;
	config.ca_file = getenv("DRIVER_CA");
	config.max_reconnect_attempts = 0;
	CHECK(hpkv_client_new(loop, &config, &client, &error) == 0);
	return client;
}

void free_client(void *arg)
{
	hpkv_client_free(arg);
}

struct hpkv_client *connected_client(const struct run *run, struct hpkv_loop *loop)
{
	struct hpkv_client *client = new_client(run, loop);
	struct hpkv_error error;
	int r = hpkv_connect_sync(client, &error);

	if (r)
		fprintf(stderr, "connect: %d %s\n", r, error.text);
	CHECK(r == 0);
	return client;
}

struct hpkv_loop *new_loop(const struct run *run)
{
	struct hpkv_loop *loop;

	CHECK(hpkv_loop_new(&loop) == 0);
	if (run->with_thread)
		CHECK(hpkv_loop_start_thread(loop) == 0);
	return loop;
}

void end(struct hpkv_loop *loop, struct hpkv_client *client)
{
	CHECK(hpkv_loop_call(loop, free_client, client) == 0);
	hpkv_loop_free(loop);
}

static bool is(struct hpkv_slice slice, const char *text, size_t size)
{
	return slice.size == size && memcmp(slice.data, text, size) == 0;
}

/* --- every call once --- */

static void operate(struct hpkv_client *client)
{
	const struct hpkv_slice odd = { "o\0\n", 3 };
	struct hpkv_error error = { .text = "untouched" };
	struct hpkv_value value;
	struct hpkv_page page;

	CHECK(hpkv_set_sync(client, hpkv_str("a"), hpkv_str("1"), NULL, &error) == 0);
	CHECK(hpkv_patch_sync(client, hpkv_str("a"), hpkv_str("2"), NULL, NULL) == 0);
	CHECK(hpkv_get_sync(client, hpkv_str("a"), NULL, &value, &error) == 0);
	CHECK(value.size == 2 && strcmp(value.data, "12") == 0 && !value.number);
	hpkv_value_free(&value);
	CHECK(value.data == NULL);
	CHECK(hpkv_atomic_sync(client, hpkv_str("n"), hpkv_str("-7"), NULL, &value, &error) == 0);
	CHECK(strcmp(value.data, "-7") == 0 && value.number);
	hpkv_value_free(&value);
	CHECK(hpkv_set_sync(client, odd, odd, NULL, &error) == 0);
	CHECK(hpkv_get_sync(client, odd, NULL, &value, &error) == 0);
	CHECK(value.size == 3 && memcmp(value.data, "o\0\n", 4) == 0);
	hpkv_value_free(&value);
	CHECK(hpkv_range_sync(client, hpkv_str("a"), hpkv_str("z"), 2, NULL, &page, &error) == 0);
	CHECK(page.count == 2 && page.truncated);
	CHECK(is(page.records[0].key, "a", 1) && is(page.records[0].value, "12", 2) && !page.records[0].number);
	CHECK(is(page.records[1].key, "n", 1) && is(page.records[1].value, "-7", 2) && page.records[1].number);
	hpkv_page_free(&page);
	CHECK(hpkv_range_sync(client, hpkv_str("o"), hpkv_str("p"), 0, NULL, &page, &error) == 0);
	CHECK(page.count == 1 && !page.truncated && is(page.records[0].value, "o\0\n", 3));
	hpkv_page_free(&page);
	CHECK(page.records == NULL && page.bytes == NULL);
	CHECK(hpkv_range_sync(client, hpkv_str("x"), hpkv_str("z"), 0, NULL, &page, &error) == 0);
	CHECK(page.count == 0);
	hpkv_page_free(&page);
	CHECK(strcmp(error.text, "untouched") == 0);
	CHECK(hpkv_delete_sync(client, hpkv_str("a"), NULL, &error) == 0);
	CHECK(hpkv_delete_sync(client, hpkv_str("a"), NULL, &error) == -ENOENT);
	CHECK(error.err == -ENOENT && error.code == 404 && error.text[0]);
	value.data = NULL;
	CHECK(hpkv_get_sync(client, hpkv_str("a"), NULL, &value, NULL) == -ENOENT);
	CHECK(value.data == NULL);
	CHECK(hpkv_get_sync(client, hpkv_str(""), NULL, &value, &error) == -EINVAL);
	CHECK(error.err == -EINVAL && error.kind == HPKV_ERROR_LOCAL && error.text[0]);
	hpkv_value_free(NULL);
	hpkv_page_free(NULL);
}

static void token(const struct run *run, struct hpkv_loop *loop)
{
	struct hpkv_token_config config = { .url = run->url, .api_key = run->key };
	struct hpkv_error error;
	char *text = NULL;

	CHECK(hpkv_token_generate_sync(loop, &config, &text, &error) == 0);
	CHECK(text && strlen(text) > 8);
	free(text);
	text = NULL;
	config.api_key = "another";
	CHECK(hpkv_token_generate_sync(loop, &config, &text, &error) == -EACCES);
	CHECK(error.err == -EACCES && !text);
	config.api_key = NULL;
	CHECK(hpkv_token_generate_sync(loop, &config, &text, NULL) == -EINVAL);
}

static void run_calls(const struct run *run)
{
	struct hpkv_loop *loop = new_loop(run);
	struct hpkv_client *client = new_client(run, loop);
	struct hpkv_error error;

	if (run->with_thread)
		CHECK(hpkv_loop_start_thread(loop) == -EALREADY);
	CHECK(hpkv_set_sync(client, hpkv_str("a"), hpkv_str("1"), NULL, &error) == -ENOTCONN);
	CHECK(error.err == -ENOTCONN && error.text[0]);
	CHECK(hpkv_connect_sync(client, &error) == 0);
	CHECK(hpkv_connect_sync(client, &error) == 0);
	operate(client);
	token(run, loop);
	CHECK(hpkv_disconnect_sync(client, false, &error) == 0);
	CHECK(hpkv_disconnect_sync(client, true, NULL) == 0);
	CHECK(hpkv_connect_sync(client, NULL) == 0);
	CHECK(hpkv_set_sync(client, hpkv_str("again"), hpkv_str("1"), NULL, NULL) == 0);
	end(loop, client);
}

/* --- many threads --- */

struct worker {
	pthread_t thread;
	struct hpkv_client *client;
	int number, rounds;
};

static void *work(void *arg)
{
	struct worker *worker = arg;
	char key[32], text[32];

	for (int i = 0; i < worker->rounds; i++) {
		struct hpkv_error error;
		struct hpkv_value value;
		int r;

		snprintf(key, sizeof(key), "w%d", worker->number);
		snprintf(text, sizeof(text), "%d.%d", worker->number, i);
		r = hpkv_set_sync(worker->client, hpkv_str(key), hpkv_str(text), NULL, &error);
		if (r)
			fprintf(stderr, "set: %d %s\n", r, error.text);
		CHECK(r == 0);
		CHECK(hpkv_get_sync(worker->client, hpkv_str(key), NULL, &value, &error) == 0);
		CHECK(strcmp(value.data, text) == 0);
		hpkv_value_free(&value);
		CHECK(hpkv_atomic_sync(worker->client, hpkv_str("sum"), hpkv_str("1"), NULL, &value, &error) == 0);
		hpkv_value_free(&value);
	}
	return NULL;
}

static void start_workers(struct worker *workers, int count, int rounds, struct hpkv_client **clients, int n)
{
	for (int i = 0; i < count; i++) {
		workers[i] = (struct worker){ .client = clients[i % n], .number = i, .rounds = rounds };
		CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
	}
}

static void join_workers(struct worker *workers, int count)
{
	for (int i = 0; i < count; i++)
		pthread_join(workers[i].thread, NULL);
}

/* ARGUMENTS: threads, rounds, clients, loops */
static void run_threads(const struct run *run)
{
	int count = atoi(run->arguments[0]), rounds = atoi(run->arguments[1]);
	int n = atoi(run->arguments[2]), n_loops = atoi(run->arguments[3]);
	struct hpkv_loop *loops[8];
	struct hpkv_client *clients[16];
	struct worker workers[64];

	CHECK(count <= 64 && n <= 16 && n_loops <= 8);
	for (int i = 0; i < n_loops; i++)
		loops[i] = new_loop(run);
	for (int i = 0; i < n; i++)
		clients[i] = connected_client(run, loops[i % n_loops]);
	start_workers(workers, count, rounds, clients, n);
	join_workers(workers, count);
	for (int i = 0; i < n; i++)
		CHECK(hpkv_loop_call(loops[i % n_loops], free_client, clients[i]) == 0);
	for (int i = 0; i < n_loops; i++)
		hpkv_loop_free(loops[i]);
}

/* --- inside a callback --- */

struct inside {
	const struct run *run;
	struct hpkv_loop *loop;
	struct hpkv_client *client;
	struct hpkv_iterator *iterator;
	bool called;
};

static void inside(struct inside *in)
{
	const struct hpkv_token_config config = { .url = in->run->url, .api_key = in->run->key };
	struct hpkv_error error = { 0 };
	struct hpkv_value value;
	struct hpkv_record record;
	struct hpkv_page page;
	char *text;

	CHECK(hpkv_connect_sync(in->client, &error) == -EDEADLK);
	CHECK(error.err == -EDEADLK && error.kind == HPKV_ERROR_LOCAL && error.text[0]);
	CHECK(hpkv_disconnect_sync(in->client, true, NULL) == -EDEADLK);
	CHECK(hpkv_get_sync(in->client, hpkv_str("a"), NULL, &value, NULL) == -EDEADLK);
	CHECK(hpkv_set_sync(in->client, hpkv_str("a"), hpkv_str("b"), NULL, NULL) == -EDEADLK);
	CHECK(hpkv_patch_sync(in->client, hpkv_str("a"), hpkv_str("b"), NULL, NULL) == -EDEADLK);
	CHECK(hpkv_delete_sync(in->client, hpkv_str("a"), NULL, NULL) == -EDEADLK);
	CHECK(hpkv_range_sync(in->client, hpkv_str("a"), hpkv_str("b"), 0, NULL, &page, NULL) == -EDEADLK);
	CHECK(hpkv_atomic_sync(in->client, hpkv_str("a"), hpkv_str("1"), NULL, &value, NULL) == -EDEADLK);
	CHECK(hpkv_iterator_next_sync(in->iterator, &record, NULL) == -EDEADLK);
	CHECK(hpkv_token_generate_sync(in->loop, &config, &text, NULL) == -EDEADLK);
	CHECK(hpkv_loop_call(in->loop, free_client, NULL) == -EDEADLK);
	in->called = true;
}

static void inside_call(void *arg)
{
	inside(arg);
}

static void inside_reply(void *arg, const struct hpkv_reply *reply)
{
	CHECK(reply->error == NULL);
	inside(arg);
}

static void ask_inside(void *arg)
{
	struct inside *in = arg;

	CHECK(hpkv_set(in->client, hpkv_str("a"), hpkv_str("1"), NULL, inside_reply, in, NULL) == 0);
}

static void run_deadlock(const struct run *run)
{
	struct hpkv_loop *loop = new_loop(run);
	struct inside in = { .run = run, .loop = loop, .client = connected_client(run, loop) };
	struct hpkv_value value;

	CHECK(hpkv_iterator_new(in.client, hpkv_str("a"), hpkv_str("b"), 0, NULL, &in.iterator) == 0);
	CHECK(hpkv_loop_call(loop, inside_call, &in) == 0);
	CHECK(in.called);
	in.called = false;
	CHECK(hpkv_loop_call(loop, ask_inside, &in) == 0);
	/* the answers come in order */
	CHECK(hpkv_get_sync(in.client, hpkv_str("a"), NULL, &value, NULL) == 0);
	hpkv_value_free(&value);
	CHECK(in.called);
	hpkv_iterator_free(in.iterator);
	end(loop, in.client);
}

/* --- runs, posts and stops --- */

static void *run_loop(void *arg)
{
	hpkv_loop_run(arg);
	return NULL;
}

struct posts {
	int next, last;
	struct hpkv_loop *loop;
};

struct post {
	struct posts *posts;
	int n;
};

static void posted(void *arg)
{
	struct post *post = arg;

	CHECK(post->n == post->posts->next);
	if (post->n == 0)
		CHECK(hpkv_loop_start_thread(post->posts->loop) == -EALREADY);
	if (++post->posts->next == post->posts->last)
		hpkv_loop_stop(post->posts->loop);
	free(post);
}

static void stop_posted(void *arg)
{
	hpkv_loop_stop(arg);
}

static void *post_stop(void *arg)
{
	CHECK(hpkv_loop_post(arg, stop_posted, arg) == 0);
	return NULL;
}

static void *stop(void *arg)
{
	hpkv_loop_stop(arg);
	return NULL;
}

/* The loop is freed as soon as it was stopped, while the thread that did it may still be on its way out. */
static void run_ends(const struct run *run)
{
	for (int i = 0; i < 200; i++) {
		struct hpkv_loop *loop;
		pthread_t thread;

		CHECK(hpkv_loop_new(&loop) == 0);
		CHECK(pthread_create(&thread, NULL, i % 2 ? stop : post_stop, loop) == 0);
		hpkv_loop_run(loop);
		hpkv_loop_free(loop);
		pthread_join(thread, NULL);
	}
	(void)run;
}

static void run_posts(const struct run *run)
{
	struct posts posts = { .last = 20000 };
	pthread_t thread;

	CHECK(hpkv_loop_new(&posts.loop) == 0);
	CHECK(pthread_create(&thread, NULL, run_loop, posts.loop) == 0);
	for (int i = 0; i < posts.last; i++) {
		struct post *post = malloc(sizeof(*post));

		CHECK(post);
		*post = (struct post){ &posts, i };
		CHECK(hpkv_loop_post(posts.loop, posted, post) == 0);
	}
	pthread_join(thread, NULL);
	CHECK(posts.next == posts.last);
	/* a stop before the run ends it */
	hpkv_loop_stop(posts.loop);
	hpkv_loop_run(posts.loop);
	hpkv_loop_free(posts.loop);
	(void)run;
}

/* A loop's run begins and ends, again and again, while threads wait on it: whoever is there serves. */
static void run_stops(const struct run *run)
{
	struct hpkv_loop *loop = new_loop(run);
	struct hpkv_client *client = connected_client(run, loop);
	struct worker workers[4];

	start_workers(workers, 4, 200, &client, 1);
	for (int i = 0; i < 200; i++) {
		pthread_t thread;

		CHECK(pthread_create(&thread, NULL, run_loop, loop) == 0);
		hpkv_loop_stop(loop);
		pthread_join(thread, NULL);
	}
	join_workers(workers, 4);
	end(loop, client);
}

/* --- freed while others wait --- */

static void *expect_cancelled(void *arg)
{
	struct hpkv_error error = { 0 };
	struct hpkv_value value;

	CHECK(hpkv_get_sync(arg, hpkv_str("silent"), NULL, &value, &error) == -ECANCELED);
	CHECK(error.err == -ECANCELED && error.kind == HPKV_ERROR_CANCELLED);
	return NULL;
}

struct look {
	struct hpkv_client *client;
	unsigned in_flight;
};

static void look(void *arg)
{
	struct look *at = arg;
	struct hpkv_stats stats;

	hpkv_client_stats(at->client, &stats);
	at->in_flight = stats.in_flight;
}

static void run_free(const struct run *run)
{
	struct hpkv_loop *loop = new_loop(run);
	struct look at = { .client = connected_client(run, loop) };
	pthread_t threads[8];

	for (int i = 0; i < 8; i++)
		CHECK(pthread_create(&threads[i], NULL, expect_cancelled, at.client) == 0);
	while (at.in_flight < 8) {
		usleep(1000);
		CHECK(hpkv_loop_call(loop, look, &at) == 0);
	}
	CHECK(hpkv_loop_call(loop, free_client, at.client) == 0);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	hpkv_loop_free(loop);
}

/* The loop is busy, a thread's call waits for its turn, and the client is freed first. */

struct early {
	struct hpkv_client *client;
	atomic_int thread; /* that is about to call; 0: not yet */
	pthread_t caller;
};

static void *call_early(void *arg)
{
	struct early *early = arg;

	atomic_store(&early->thread, gettid());
	return expect_cancelled(early->client);
}

static bool sleeps(int thread)
{
	char path[64], line[256] = "";
	const char *state;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
	file = fopen(path, "r");
	CHECK(file);
	state = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
	fclose(file);
	CHECK(state);
	return state[2] == 'S';
}

static void free_early(void *arg)
{
	struct early *early = arg;

	CHECK(pthread_create(&early->caller, NULL, call_early, early) == 0);
	/* for a while: a shorter sleep may be one on its way to the call */
	for (int asleep = 0; asleep < 20; usleep(1000))
		asleep = atomic_load(&early->thread) && sleeps(atomic_load(&early->thread)) ? asleep + 1 : 0;
	hpkv_client_free(early->client);
}

static void run_free_early(const struct run *run)
{
	struct hpkv_loop *loop = new_loop(run);
	struct early early = { .client = connected_client(run, loop) };

	CHECK(hpkv_loop_call(loop, free_early, &early) == 0);
	pthread_join(early.caller, NULL);
	hpkv_loop_free(loop);
}

/* --- the server is not there, or goes --- */

static void run_refused(const struct run *run)
{
	struct hpkv_loop *loop = new_loop(run);
	struct hpkv_client *client = new_client(run, loop);
	struct hpkv_error error;

	CHECK(hpkv_connect_sync(client, &error) == -ECONNREFUSED);
	CHECK(error.err == -ECONNREFUSED && error.text[0]);
	CHECK(hpkv_set_sync(client, hpkv_str("a"), hpkv_str("1"), NULL, &error) == -ENOTCONN);
	end(loop, client);
}

static void run_dropped(const struct run *run)
{
	const struct hpkv_options once = { .repeat = HPKV_REPEAT_NEVER };
	const struct hpkv_options hasty = { .timeout_ms = 50 };
	struct hpkv_loop *loop = new_loop(run);
	struct hpkv_client *client = connected_client(run, loop);
	struct hpkv_error error;

	CHECK(hpkv_set_sync(client, hpkv_str("silent"), hpkv_str("1"), &hasty, &error) == -ETIMEDOUT);
	CHECK(error.unknown_outcome && error.kind == HPKV_ERROR_TIMEOUT);
	CHECK(hpkv_set_sync(client, hpkv_str("drop"), hpkv_str("1"), &once, &error) == -ECONNRESET);
	CHECK(error.unknown_outcome);
	CHECK(hpkv_connect_sync(client, &error) == 0);
	CHECK(hpkv_set_sync(client, hpkv_str("a"), hpkv_str("1"), NULL, &error) == 0);
	end(loop, client);
}

/* --- the shortest way --- */

static void run_open(const struct run *run)
{
	struct hpkv_client *client = NULL;
	struct hpkv_error error;
	struct hpkv_value value;

	CHECK(hpkv_open_sync(NULL, run->key, &client, &error) == -EINVAL && error.text[0] && !client);
	CHECK(hpkv_open_sync(run->url, NULL, &client, &error) == -EINVAL && error.text[0] && !client);
	CHECK(hpkv_open_sync(run->url, "another", &client, &error) == -EACCES && !client);
	CHECK(error.kind == HPKV_ERROR_AUTHENTICATION && error.code == 401);
	hpkv_close_sync(NULL);
	CHECK(hpkv_open_sync(run->url, run->key, &client, NULL) == 0);
	CHECK(hpkv_set_sync(client, hpkv_str("a"), hpkv_str("1"), NULL, &error) == 0);
	CHECK(hpkv_get_sync(client, hpkv_str("a"), NULL, &value, &error) == 0);
	CHECK(strcmp(value.data, "1") == 0);
	hpkv_value_free(&value);
	hpkv_close_sync(client);
}

/* ARGUMENTS: a file that the server makes once its ping was answered, though nobody calls anything. */
static void run_open_idle(const struct run *run)
{
	struct hpkv_client *client;

	CHECK(hpkv_open_sync(run->url, run->key, &client, NULL) == 0);
	while (access(run->arguments[0], F_OK) != 0)
		usleep(1000);
	CHECK(hpkv_set_sync(client, hpkv_str("a"), hpkv_str("1"), NULL, NULL) == 0);
	hpkv_close_sync(client);
}

static const struct {
	const char *name;
	void (*run)(const struct run *run);
} programs[] = {
	{ "calls", run_calls },         { "open", run_open },
	{ "open_idle", run_open_idle }, { "threads", run_threads },
	{ "deadlock", run_deadlock },   { "posts", run_posts },
	{ "ends", run_ends },           { "stops", run_stops },
	{ "free", run_free },           { "free_early", run_free_early },
	{ "refused", run_refused },     { "dropped", run_dropped },
	{ "iterate", run_iterate },     { "iterator", run_iterator },
	{ "iterate_again", run_again }, { "signals", run_signals },
	{ "hangup", run_hangup },       { "fork", run_fork },
	{ "exec", run_exec },           { "descriptors", run_descriptors },
};

int main(int argc, char **argv)
{
	struct run run = { .with_thread = getenv("DRIVER_THREAD") != NULL };

	if (argc < 4)
		return 2;
	if (!getenv("DRIVER_LOUD"))
		lws_set_log_level(0, NULL);
	run.self = argv[0];
	run.url = argv[2];
	run.key = argv[3];
	run.arguments = argv + 4;
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		if (strcmp(programs[i].name, argv[1]) == 0) {
			programs[i].run(&run);
			return 0;
		}
	}
	return 2;
}
