/* What the benchmark `client` runs for libhpkv; client_bench.js is the same for the official client.
 *
 *   client_bench URL      the API key comes from HPKV_API_KEY
 *
 * Reads lines "OP FLIGHT WARMUP REQUESTS" (OP: get or set; FLIGHT: requests kept under way) and answers each with a line:
 * an object with the seconds, the median and 99th percentile of the round trip, and the process' CPU time a request.
 * Each line has a connection of its own. Nothing is measured during the first WARMUP requests. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "client/hpkv.h"

#define KEYS 1000
#define VALUE_SIZE 100
#define FLIGHT_MAX 1024
/* Round trips are counted by microsecond, which takes the same memory for any number of them. */
#define SLOWEST_US 50000

struct bench;

struct slot {
	struct bench *bench;
	uint64_t sent_ns;
};

struct bench {
	struct hpkv_loop *loop;
	struct hpkv_client *client;
	bool set;
	unsigned flight, warmup, requests; /* of the present run */
	unsigned started, done;
	bool failed;
	uint64_t began_ns, began_cpu_us, seconds_ns, cpu_us;
	char value[VALUE_SIZE + 1];
	struct slot slots[FLIGHT_MAX];
	uint32_t round_trips[SLOWEST_US + 1];
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t micros(struct timeval time)
{
	return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

static uint64_t cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return micros(usage.ru_utime) + micros(usage.ru_stime);
}

static void fail(struct bench *bench, const char *what, const char *why)
{
	fprintf(stderr, "client_bench: %s: %s\n", what, why);
	bench->failed = true;
	hpkv_loop_stop(bench->loop);
}

static void on_reply(void *arg, const struct hpkv_reply *reply);

static void start(struct bench *bench, struct slot *slot)
{
	char key[32];
	int len = snprintf(key, sizeof(key), "bench:%04u", bench->started % KEYS);
	const struct hpkv_slice name = { key, (size_t)len };
	const struct hpkv_slice value = { bench->value, VALUE_SIZE };
	int r;

	bench->started++;
	slot->sent_ns = now_ns();
	if (bench->set)
		r = hpkv_set(bench->client, name, value, NULL, on_reply, slot, NULL);
	else
		r = hpkv_get(bench->client, name, NULL, on_reply, slot, NULL);
	if (r)
		fail(bench, key, strerror(-r));
}

static void on_disconnected(void *arg)
{
	const struct bench *bench = arg;

	hpkv_loop_stop(bench->loop);
}

static void all_done(struct bench *bench)
{
	bench->seconds_ns = now_ns() - bench->began_ns;
	bench->cpu_us = cpu_us() - bench->began_cpu_us;
	if (hpkv_client_disconnect(bench->client, false, on_disconnected, bench))
		fail(bench, "disconnect", "out of memory");
}

static void begin_measuring(struct bench *bench)
{
	memset(bench->round_trips, 0, sizeof(bench->round_trips));
	bench->began_ns = now_ns();
	bench->began_cpu_us = cpu_us();
}

static void on_reply(void *arg, const struct hpkv_reply *reply)
{
	struct slot *slot = arg;
	struct bench *bench = slot->bench;
	uint64_t us = (now_ns() - slot->sent_ns) / 1000;

	if (bench->failed)
		return;
	if (reply->error) {
		fail(bench, "a request failed", reply->error->text);
		return;
	}
	if (!bench->set && reply->value.size != VALUE_SIZE) {
		fail(bench, "get", "not the value that was set");
		return;
	}
	bench->round_trips[us < SLOWEST_US ? us : SLOWEST_US]++;
	if (++bench->done == bench->warmup)
		begin_measuring(bench);
	if (bench->started < bench->warmup + bench->requests)
		start(bench, slot);
	else if (bench->done == bench->started)
		all_done(bench);
}

static void on_connected(void *arg, const struct hpkv_error *error)
{
	struct bench *bench = arg;

	if (error) {
		fail(bench, "no connection", error->text);
		return;
	}
	for (unsigned i = 0; i < bench->flight && !bench->failed; i++)
		start(bench, &bench->slots[i]);
}

static unsigned percentile(const struct bench *bench, double share)
{
	double left = share * bench->requests;
	unsigned us = 0;

	while (us < SLOWEST_US && left > bench->round_trips[us])
		left -= bench->round_trips[us++];
	return us;
}

static bool run(struct bench *bench)
{
	bench->started = bench->done = 0;
	if (hpkv_client_connect(bench->client, on_connected, bench))
		return false;
	hpkv_loop_run(bench->loop);
	if (bench->failed)
		return false;
	printf("{\"seconds\": %.6f, \"median_us\": %u, \"p99_us\": %u, \"cpu_us\": %.3f}\n",
	       (double)bench->seconds_ns / 1e9, percentile(bench, 0.5), percentile(bench, 0.99),
	       (double)bench->cpu_us / bench->requests);
	fflush(stdout);
	return true;
}

/* 1: a line was read; 0: the end; -1: it makes no sense. */
static int read_order(struct bench *bench)
{
	char op[8];
	int n = scanf("%7s %u %u %u", op, &bench->flight, &bench->warmup, &bench->requests);

	if (n == EOF)
		return 0;
	bench->set = strcmp(op, "set") == 0;
	if (n != 4 || (!bench->set && strcmp(op, "get") != 0) || bench->flight == 0 || bench->flight > FLIGHT_MAX ||
	    bench->flight > bench->warmup || bench->requests == 0)
		return -1;
	return 1;
}

static int make_client(struct bench *bench, const char *url)
{
	struct hpkv_config config;
	struct hpkv_error error;
	int r;

	hpkv_config_init(&config);
	config.url = url;
	config.api_key = getenv("HPKV_API_KEY");
	r = hpkv_loop_new(&bench->loop);
	if (r == 0 && (r = hpkv_client_new(bench->loop, &config, &bench->client, &error)) != 0)
		fprintf(stderr, "client_bench: %s\n", error.text);
	return r;
}

int main(int argc, char **argv)
{
	static struct bench bench;
	int r;

	if (argc != 2)
		return 2;
	memset(bench.value, 'v', VALUE_SIZE);
	for (unsigned i = 0; i < FLIGHT_MAX; i++)
		bench.slots[i].bench = &bench;
	if (make_client(&bench, argv[1]))
		return 2;
	while ((r = read_order(&bench)) > 0 && run(&bench))
		;
	hpkv_client_free(bench.client);
	hpkv_loop_free(bench.loop);
	return r == 0 ? 0 : 1;
}
