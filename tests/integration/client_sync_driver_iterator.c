/* Iterators: one that is waited for, one with callbacks, and what may happen to them meanwhile. */
#include "client_sync_driver.h"

#include <errno.h>
#include <jansson.h>

static void print(const struct hpkv_record *record)
{
	json_t *row = json_pack("[s#, s#, b]", record->key.data, (int)record->key.size, record->value.data,
				(int)record->value.size, record->number);

	CHECK(row);
	json_dumpf(row, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(row);
}

struct walk {
	struct hpkv_loop *loop;
	struct hpkv_client *client;
	struct hpkv_iterator *iterator;
	struct hpkv_error error;
	const struct run *run;
	unsigned limit;
	int records;
};

static void next(struct walk *walk);

static void came(void *arg, const struct hpkv_record *record, const struct hpkv_error *error)
{
	struct walk *walk = arg;

	if (record) {
		CHECK(!error);
		print(record);
		next(walk);
		return;
	}
	if (error)
		walk->error = *error;
	hpkv_loop_stop(walk->loop);
}

static void next(struct walk *walk)
{
	CHECK(hpkv_iterator_next(walk->iterator, came, walk) == 0);
	CHECK(hpkv_iterator_next(walk->iterator, came, walk) == -EBUSY);
}

static void begin(void *arg)
{
	next(arg);
}

static void free_iterator(void *arg)
{
	hpkv_iterator_free(arg);
}

/* ARGUMENTS: "sync" or "async", START, END, LIMIT. Records go to standard output, one a line; an error behind them. */
void run_iterate(const struct run *run)
{
	struct walk walk = { .loop = new_loop(run) };
	struct hpkv_record record;
	int r;

	walk.client = connected_client(run, walk.loop);
	CHECK(hpkv_iterator_new(walk.client, hpkv_str(run->arguments[1]), hpkv_str(run->arguments[2]),
				(unsigned)atoi(run->arguments[3]), NULL, &walk.iterator) == 0);
	if (strcmp(run->arguments[0], "sync") == 0) {
		while ((r = hpkv_iterator_next_sync(walk.iterator, &record, &walk.error)) == 1)
			print(&record);
		/* the end stays the end */
		if (r == 0)
			CHECK(hpkv_iterator_next_sync(walk.iterator, &record, NULL) == 0);
		hpkv_iterator_free(walk.iterator);
	} else {
		CHECK(hpkv_loop_call(walk.loop, begin, &walk) == 0);
		hpkv_loop_run(walk.loop);
		CHECK(hpkv_loop_call(walk.loop, free_iterator, walk.iterator) == 0);
	}
	if (walk.error.err)
		printf("%d\n", walk.error.err);
	end(walk.loop, walk.client);
}

/* --- frees --- */

static void *iterator_new(const struct walk *walk)
{
	struct hpkv_iterator *iterator;

	CHECK(hpkv_iterator_new(walk->client, hpkv_str("k"), hpkv_str("l"), 2, NULL, &iterator) == 0);
	return iterator;
}

static void never(void *arg, const struct hpkv_record *record, const struct hpkv_error *error)
{
	(void)arg;
	(void)record;
	(void)error;
	CHECK(false); /* an iterator that was freed tells nothing */
}

/* Inside of the n-th `done`, with and without another next under way. */
static void free_inside(void *arg, const struct hpkv_record *record, const struct hpkv_error *error)
{
	struct walk *walk = arg;

	CHECK(record && !error);
	if (++walk->records < (int)walk->limit) {
		CHECK(hpkv_iterator_next(walk->iterator, free_inside, walk) == 0);
		return;
	}
	if (walk->limit % 2)
		CHECK(hpkv_iterator_next(walk->iterator, never, walk) == 0);
	hpkv_iterator_free(walk->iterator);
	hpkv_loop_stop(walk->loop);
}

static void begin_free_inside(void *arg)
{
	struct walk *walk = arg;

	CHECK(hpkv_iterator_next(walk->iterator, free_inside, walk) == 0);
}

static void free_at_once(void *arg)
{
	struct walk *walk = arg;
	struct hpkv_iterator *iterator = iterator_new(walk);

	CHECK(hpkv_iterator_next(iterator, never, NULL) == 0);
	hpkv_iterator_free(iterator);
	hpkv_iterator_free(NULL);
}

static void cancelled(void *arg, const struct hpkv_record *record, const struct hpkv_error *error)
{
	struct walk *walk = arg;

	CHECK(!record && error && error->err == -ECANCELED);
	if (walk->limit) /* this once inside, then from outside */
		hpkv_iterator_free(walk->iterator);
	walk->records++;
}

static void free_client_first(void *arg)
{
	struct walk *walk = arg;

	walk->client = new_client(walk->run, walk->loop);
	CHECK(hpkv_client_connect(walk->client, NULL, NULL) == 0);
	walk->iterator = iterator_new(walk);
	CHECK(hpkv_iterator_next(walk->iterator, cancelled, walk) == 0);
	hpkv_client_free(walk->client);
	CHECK(walk->records == 1);
	if (!walk->limit)
		hpkv_iterator_free(walk->iterator);
}

/* The next record is here already, and was asked for. */
static void free_client_between(void *arg, const struct hpkv_record *record, const struct hpkv_error *error)
{
	struct walk *walk = arg;
	int records = walk->records + 1;

	CHECK(record && !error);
	CHECK(hpkv_iterator_next(walk->iterator, cancelled, walk) == 0);
	hpkv_client_free(walk->client);
	CHECK(walk->records == records);
	if (!walk->limit)
		hpkv_iterator_free(walk->iterator);
	hpkv_loop_stop(walk->loop);
}

static void begin_free_client_between(void *arg)
{
	struct walk *walk = arg;

	walk->iterator = iterator_new(walk);
	CHECK(hpkv_iterator_next(walk->iterator, free_client_between, walk) == 0);
}

void run_iterator(const struct run *run)
{
	struct walk walk = { .loop = new_loop(run), .run = run };
	struct hpkv_iterator *none;

	walk.client = connected_client(run, walk.loop);
	CHECK(hpkv_iterator_new(walk.client, hpkv_str(""), hpkv_str("l"), 0, NULL, &none) == -EINVAL);
	CHECK(hpkv_iterator_new(walk.client, hpkv_str("k"), hpkv_str("\xff"), 0, NULL, &none) == -EINVAL);
	CHECK(hpkv_iterator_new(walk.client, hpkv_str("k"), hpkv_str("l"), 1001, NULL, &none) == -EINVAL);
	for (walk.limit = 1; walk.limit <= 7; walk.limit++) {
		walk.records = 0;
		walk.iterator = iterator_new(&walk);
		CHECK(hpkv_loop_call(walk.loop, begin_free_inside, &walk) == 0);
		hpkv_loop_run(walk.loop);
	}
	CHECK(hpkv_loop_call(walk.loop, free_at_once, &walk) == 0);
	CHECK(hpkv_loop_call(walk.loop, free_client, walk.client) == 0);
	for (walk.limit = 0; walk.limit < 2; walk.limit++) {
		walk.records = 0;
		CHECK(hpkv_loop_call(walk.loop, free_client_first, &walk) == 0);
		walk.client = connected_client(run, walk.loop);
		CHECK(hpkv_loop_call(walk.loop, begin_free_client_between, &walk) == 0);
		hpkv_loop_run(walk.loop);
	}
	hpkv_loop_free(walk.loop);
}

/* Every page fails once before it comes. */
void run_again(const struct run *run)
{
	struct hpkv_loop *loop = new_loop(run);
	struct hpkv_client *client = connected_client(run, loop);
	struct hpkv_iterator *iterator;
	struct hpkv_record record;
	int failed = 0, r;

	CHECK(hpkv_iterator_new(client, hpkv_str("k"), hpkv_str("l"), 10, NULL, &iterator) == 0);
	while ((r = hpkv_iterator_next_sync(iterator, &record, NULL)) != 0) {
		if (r == 1) {
			print(&record);
			continue;
		}
		CHECK(r == atoi(run->arguments[0]));
		CHECK(++failed < 10);
	}
	CHECK(failed == atoi(run->arguments[1]));
	hpkv_iterator_free(iterator);
	end(loop, client);
}
