/* The engine over SQLite: a thread that writes and a thread that reads, each with its own connection.
 *
 * The writer takes all writes that wait as one transaction (group commit): one sync of the disk serves
 * them all, and none is answered before it. Where the commit fails (disk full), each is tried again alone,
 * so that one too large does not take the others with it.
 *
 * The loop's thread keeps the keys with writes under way, in order. A read of such a key (or over such
 * keys) is held back until these writes are done; all other reads go on meanwhile. Since the writer works
 * first in, first out, "done" is one number: the sequence of the last write completed.
 *
 * A write of a key that a GET before it is still waiting for takes that along to the writer, so that a client that sends
 * both together is told what its write has replaced. */
#include "server/engine_sqlite.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <time.h>

#include "base/log.h"
#include "base/tree.h"
#include "server/merge.h"

/* Bounds how long the first of a batch waits for the last. */
#define BATCH_REQUESTS 4096

/* So many do not wait for the rest of what was received with them: a thread can work on them meanwhile. */
#define FLUSH_REQUESTS 8

/* What a record of a range takes besides its key and value. */
#define RECORD_BYTES 25

struct queue {
	struct engine_request *first, **last;
};

static void queue_init(struct queue *queue)
{
	queue->first = NULL;
	queue->last = &queue->first;
}

static void queue_add(struct queue *queue, struct engine_request *request)
{
	request->next = NULL;
	*queue->last = request;
	queue->last = &request->next;
}

/* Moves everything from one queue to the end of another. */
static void queue_join(struct queue *to, struct queue *from)
{
	if (!from->first)
		return;
	*to->last = from->first;
	to->last = from->last;
	queue_init(from);
}

/* A key with writes under way; the loop's thread only. */
struct pending {
	RB_ENTRY(pending) entry;
	struct str key;
	uint64_t last; /* sequence of its last write */
	unsigned count;
	unsigned held; /* GETs that wait for them */
	char bytes[];
};

static int pending_compare(const struct pending *a, const struct pending *b)
{
	return str_compare(a->key, b->key);
}

RB_HEAD(pending_tree, pending);
RB_GENERATE_STATIC(pending_tree, pending, entry, pending_compare)

struct engine_sqlite;

struct worker {
	struct engine_sqlite *engine;
	void (*run)(struct worker *worker, struct queue *batch);
	struct store *store;
	pthread_t thread;
	bool started;
	/* the loop's thread: to wake the worker for each request would cost more than most requests do */
	struct queue submitted;
	unsigned unflushed;   /* how many */
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	struct queue waiting;
	bool stop;
};

struct engine_sqlite {
	struct engine engine;
	struct loop *loop;
	struct engine_sqlite_config config;
	struct worker writer, reader;
	atomic_uint_fast64_t transactions;

	/* the loop's thread */
	struct pending_tree pending;
	struct queue held;             /* reads that wait for writes */
	uint64_t submitted, completed; /* sequences of writes */

	pthread_mutex_t lock; /* guards done, done_posted */
	struct queue done;
	bool done_posted;
};

static void fail(struct engine_request *request, int code, const char *error)
{
	request->code = code;
	request->error = error;
}

static void fail_sqlite(struct engine_request *request, int r)
{
	if (r == -SQLITE_FULL)
		fail(request, 507, "No space left on the server");
	else
		fail(request, 500, sqlite3_errstr(-r));
}

/* --- threads --- */

static void completed(void *arg);

/* Hands a batch over to the loop's thread. */
static void complete(struct engine_sqlite *engine, struct queue *batch)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	bool post;

	pthread_mutex_lock(&engine->lock);
	queue_join(&engine->done, batch);
	post = !engine->done_posted;
	engine->done_posted = true;
	pthread_mutex_unlock(&engine->lock);
	/* Without memory now, there is nothing better than to wait for some. */
	while (post && loop_post(engine->loop, completed, engine))
		nanosleep(&pause, NULL);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct queue batch;

	queue_init(&batch);
	pthread_mutex_lock(&worker->lock);
	for (;;) {
		struct engine_request **end = &worker->waiting.first;

		while (!worker->waiting.first && !worker->stop)
			pthread_cond_wait(&worker->wake, &worker->lock);
		if (!worker->waiting.first)
			break;
		for (unsigned n = 0; *end && n < BATCH_REQUESTS; n++)
			end = &(*end)->next;
		batch.first = worker->waiting.first;
		batch.last = end;
		worker->waiting.first = *end;
		if (!*end)
			worker->waiting.last = &worker->waiting.first;
		*end = NULL;
		pthread_mutex_unlock(&worker->lock);
		worker->run(worker, &batch);
		complete(worker->engine, &batch);
		pthread_mutex_lock(&worker->lock);
	}
	pthread_mutex_unlock(&worker->lock);
	return NULL;
}

static void worker_flush(struct worker *worker)
{
	bool idle;

	if (!worker->submitted.first)
		return;
	worker->unflushed = 0;
	pthread_mutex_lock(&worker->lock);
	idle = !worker->waiting.first;
	queue_join(&worker->waiting, &worker->submitted);
	pthread_mutex_unlock(&worker->lock);
	if (idle)
		pthread_cond_signal(&worker->wake);
}

static void worker_submit(struct worker *worker, struct engine_request *request)
{
	/* never with this one: a GET may be taken along by the SET behind it */
	if (worker->unflushed == FLUSH_REQUESTS)
		worker_flush(worker);
	queue_add(&worker->submitted, request);
	worker->unflushed++;
}

static int worker_start(struct worker *worker, struct engine_sqlite *engine,
			void (*run)(struct worker *, struct queue *))
{
	worker->engine = engine;
	worker->run = run;
	queue_init(&worker->submitted);
	queue_init(&worker->waiting);
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->wake, NULL);
	worker->started = pthread_create(&worker->thread, NULL, worker_main, worker) == 0;
	return worker->started ? 0 : -1;
}

static void worker_stop(struct worker *worker)
{
	if (worker->started) {
		pthread_mutex_lock(&worker->lock);
		worker->stop = true;
		pthread_cond_signal(&worker->wake);
		pthread_mutex_unlock(&worker->lock);
		pthread_join(worker->thread, NULL);
		pthread_cond_destroy(&worker->wake);
		pthread_mutex_destroy(&worker->lock);
	}
	store_close(worker->store);
}

/* --- the writer --- */

/* PATCH and ATOMIC: the old value taken from the table, the new one left in request->result. */
static int change(struct worker *worker, struct engine_request *request, bool found)
{
	CLEANUP(buf_free) struct buf old = buf_take(&request->result);
	bool merged;
	struct str value = buf_str(&request->value);

	if (request->op == ENGINE_ATOMIC) {
		request->code = merge_add(found ? buf_str(&old) : STR("0"), value, &request->result, &request->error);
		request->result_number = true;
	} else if (found) {
		request->code = merge_patch(buf_str(&old), value, &request->result, &merged, &request->error);
		request->result_number = false;
	} else {
		request->code = 200;
		request->result_number = request->number;
		if (buf_set(&request->result, value))
			fail(request, 500, "Out of memory");
	}
	if (request->code == 200 && request->result.len > worker->engine->config.max_value)
		fail(request, 413, "Value is too large");
	if (request->code != 200)
		return 0;
	return store_set(worker->store, buf_str(&request->key), buf_str(&request->result), request->result_number);
}

/* One write inside a transaction. 0, also where the request was refused and nothing changed; or SQLite's error. */
static int apply(struct worker *worker, struct engine_request *request)
{
	struct str key = buf_str(&request->key);
	int r;

	request->code = 200;
	request->error = NULL;
	buf_clear(&request->result);
	request->result_number = false;
	switch (request->op) {
	case ENGINE_SET:
		return store_set(worker->store, key, buf_str(&request->value), request->number);
	case ENGINE_DELETE:
		r = store_delete(worker->store, key);
		if (r == 0)
			fail(request, 404, "Record not found");
		return r < 0 ? r : 0;
	case ENGINE_PATCH:
	case ENGINE_ATOMIC:
		r = store_get(worker->store, key, &request->result, &request->result_number);
		return r < 0 ? r : change(worker, request, r > 0);
	case ENGINE_GET:
		r = store_get(worker->store, key, &request->result, &request->result_number);
		if (r == 0)
			fail(request, 404, "Record not found");
		return r < 0 ? r : 0;
	case ENGINE_RANGE:
		break;
	}
	return 0;
}

/* Applies requests from `first` on, all or `limit` of them, as one transaction. 0, or SQLite's error: then nothing of it
 * took effect. A request whose own statement failed while the transaction lives only fails itself. */
static int transact(struct worker *worker, struct engine_request *first, unsigned limit)
{
	int r = store_begin(worker->store);

	for (struct engine_request *request = first; !r && request && limit; request = request->next, limit--) {
		int failed = apply(worker, request);

		if (failed && store_in_transaction(worker->store))
			fail_sqlite(request, failed);
		else
			r = failed;
	}
	if (!r)
		r = store_commit(worker->store);
	if (r)
		store_rollback(worker->store);
	else
		atomic_fetch_add(&worker->engine->transactions, 1);
	return r;
}

static void write_batch(struct worker *worker, struct queue *batch)
{
	if (!transact(worker, batch->first, BATCH_REQUESTS))
		return;
	for (struct engine_request *request = batch->first; request; request = request->next) {
		int r = transact(worker, request, 1);

		if (!r)
			continue;
		fail_sqlite(request, r);
		log_error("a write failed: %s", sqlite3_errstr(-r));
	}
}

/* --- the reader --- */

struct collector {
	struct engine_request *request;
	size_t bytes, max_bytes;
	bool no_memory;
};

/* Bytes of the text inside a JSON string: what makes a reply large. */
static size_t encoded_size(struct str s)
{
	size_t size = s.len;

	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c == '"' || c == '\\' || (c >= '\b' && c <= '\r' && c != '\v'))
			size += 1;
		else if (c < ' ')
			size += 5;
	}
	return size;
}

static int add_record(struct engine_request *request, struct str key, struct str value, bool number)
{
	struct engine_record *record;

	if (request->count == request->capacity) {
		size_t capacity = request->capacity ? request->capacity * 2 : 64;
		struct engine_record *grown = reallocarray(request->records, capacity, sizeof(*grown));

		if (!grown)
			return -1;
		request->records = grown;
		request->capacity = capacity;
	}
	record = &request->records[request->count];
	record->key_offset = request->records_data.len;
	record->key_len = key.len;
	record->value_offset = record->key_offset + key.len;
	record->value_len = value.len;
	record->number = number;
	if (buf_add_str(&request->records_data, key) || buf_add_str(&request->records_data, value))
		return -1;
	request->count++;
	return 0;
}

static bool collect(void *arg, struct str key, struct str value, bool number)
{
	struct collector *collector = arg;
	struct engine_request *request = collector->request;
	size_t size;

	if (request->visible && !request->visible(request->visible_arg, key))
		return true;
	size = RECORD_BYTES + encoded_size(key) + encoded_size(value);
	if (request->count == request->limit || (request->count && collector->bytes + size > collector->max_bytes)) {
		request->truncated = true;
		return false;
	}
	collector->bytes += size;
	collector->no_memory = add_record(request, key, value, number) != 0;
	return !collector->no_memory;
}

static void read_one(struct worker *worker, struct engine_request *request)
{
	struct collector collector = { .request = request, .max_bytes = worker->engine->config.range_bytes };
	int r;

	request->code = 200;
	if (request->op == ENGINE_GET) {
		r = store_get(worker->store, buf_str(&request->key), &request->result, &request->result_number);
		if (r == 0)
			fail(request, 404, "Record not found");
	} else {
		r = store_range(worker->store, buf_str(&request->key), buf_str(&request->end_key), collect, &collector);
		if (collector.no_memory)
			r = -SQLITE_NOMEM;
	}
	if (r < 0)
		fail_sqlite(request, r);
}

/* One read transaction saves taking the file's lock for each request. If it cannot begin, each tries alone. */
static void read_batch(struct worker *worker, struct queue *batch)
{
	(void)!store_begin(worker->store);
	for (struct engine_request *request = batch->first; request; request = request->next)
		read_one(worker, request);
	store_rollback(worker->store);
}

/* --- the loop's thread --- */

static struct pending *pending_find(struct engine_sqlite *engine, struct str key)
{
	struct pending wanted = { .key = key };

	return RB_FIND(pending_tree, &engine->pending, &wanted);
}

/* -1: no memory; then the key is not among those pending. */
static int pending_add(struct engine_sqlite *engine, struct engine_request *request)
{
	struct str key = buf_str(&request->key);
	struct pending *pending = pending_find(engine, key);

	if (!pending) {
		pending = malloc(sizeof(*pending) + key.len);
		if (!pending)
			return -1;
		memcpy(pending->bytes, key.p, key.len);
		pending->key = str_of(pending->bytes, key.len);
		pending->count = pending->held = 0;
		RB_INSERT(pending_tree, &engine->pending, pending);
	}
	pending->count++;
	pending->last = request->sequence;
	return 0;
}

static void pending_remove(struct engine_sqlite *engine, struct str key)
{
	struct pending *pending = pending_find(engine, key);

	if (!pending || --pending->count)
		return;
	RB_REMOVE(pending_tree, &engine->pending, pending);
	free(pending);
}

/* The last write under way that this read must see; 0: none. */
static uint64_t waits_for(struct engine_sqlite *engine, const struct engine_request *request)
{
	struct pending from = { .key = buf_str(&request->key) };
	struct str end = buf_str(&request->end_key);
	struct pending *pending;
	uint64_t last = 0;

	if (request->op == ENGINE_GET) {
		pending = pending_find(engine, from.key);
		return pending ? pending->last : 0;
	}
	for (pending = RB_NFIND(pending_tree, &engine->pending, &from); pending && str_compare(pending->key, end) <= 0;
	     pending = RB_NEXT(pending_tree, &engine->pending, pending))
		if (pending->last > last)
			last = pending->last;
	return last;
}

static void release_held(struct engine_sqlite *engine)
{
	struct queue held = engine->held;
	struct engine_request *next;

	if (!held.first)
		return;
	queue_init(&engine->held);
	for (struct engine_request *request = held.first; request; request = next) {
		next = request->next;
		if (request->sequence <= engine->completed)
			worker_submit(&engine->reader, request);
		else
			queue_add(&engine->held, request);
	}
	worker_flush(&engine->reader);
}

static void completed(void *arg)
{
	struct engine_sqlite *engine = arg;
	struct engine_request *next;
	struct queue done;

	queue_init(&done);
	pthread_mutex_lock(&engine->lock);
	queue_join(&done, &engine->done);
	engine->done_posted = false;
	pthread_mutex_unlock(&engine->lock);
	for (struct engine_request *request = done.first; request; request = next) {
		next = request->next;
		if (engine_op_writes(request->op) && request->sequence) {
			engine->completed = request->sequence;
			pending_remove(engine, buf_str(&request->key));
		}
		request->done(request);
	}
	release_held(engine);
}

static void refuse(struct engine_sqlite *engine, struct engine_request *request)
{
	struct queue one;

	queue_init(&one);
	queue_add(&one, request);
	request->sequence = 0;
	fail(request, 500, "Out of memory");
	complete(engine, &one);
}

/* Moves the GETs of a key from a queue to the writer; how many. */
static unsigned take_gets(struct engine_sqlite *engine, struct queue *queue, struct str key)
{
	struct queue all = *queue;
	struct engine_request *next;
	unsigned count = 0;

	if (!all.first)
		return 0;
	queue_init(queue);
	for (struct engine_request *request = all.first; request; request = next) {
		next = request->next;
		if (request->op == ENGINE_GET && str_equal(buf_str(&request->key), key)) {
			worker_submit(&engine->writer, request);
			count++;
		} else {
			queue_add(queue, request);
		}
	}
	return count;
}

static void take_reads_along(struct engine_sqlite *engine, struct str key)
{
	struct pending *pending = pending_find(engine, key);

	engine->reader.unflushed -= take_gets(engine, &engine->reader.submitted, key);
	if (pending && pending->held) {
		take_gets(engine, &engine->held, key);
		pending->held = 0;
	}
}

static void hold(struct engine_sqlite *engine, struct engine_request *request)
{
	queue_add(&engine->held, request);
	if (request->op == ENGINE_GET)
		pending_find(engine, buf_str(&request->key))->held++;
}

static void sqlite_submit(struct engine *base, struct engine_request *request)
{
	struct engine_sqlite *engine = lws_container_of(base, struct engine_sqlite, engine);

	if (engine_op_writes(request->op)) {
		take_reads_along(engine, buf_str(&request->key));
		request->sequence = ++engine->submitted;
		if (pending_add(engine, request))
			refuse(engine, request);
		else
			worker_submit(&engine->writer, request);
		return;
	}
	request->sequence = waits_for(engine, request);
	if (request->sequence > engine->completed)
		hold(engine, request);
	else
		worker_submit(&engine->reader, request);
}

static void sqlite_flush(struct engine *base)
{
	struct engine_sqlite *engine = lws_container_of(base, struct engine_sqlite, engine);

	worker_flush(&engine->writer);
	worker_flush(&engine->reader);
}

static uint64_t sqlite_transactions(const struct engine *base)
{
	const struct engine_sqlite *engine = lws_container_of(base, struct engine_sqlite, engine);

	return atomic_load(&engine->transactions);
}

static void sqlite_free(struct engine *base)
{
	struct engine_sqlite *engine = lws_container_of(base, struct engine_sqlite, engine);

	/* The reader first: the last connection to close removes the log, and it must be one that may write. */
	worker_stop(&engine->reader);
	worker_stop(&engine->writer);
	pthread_mutex_destroy(&engine->lock);
	free(engine);
}

static const struct engine_ops sqlite_ops = {
	.submit = sqlite_submit,
	.flush = sqlite_flush,
	.transactions = sqlite_transactions,
	.free = sqlite_free,
};

int engine_sqlite_new(struct loop *loop, const struct engine_sqlite_config *config, struct engine **out,
		      struct buf *why)
{
	struct engine_sqlite *engine = calloc(1, sizeof(*engine));

	if (!engine) {
		(void)!buf_printf(why, "no memory");
		return -1;
	}
	engine->engine.ops = &sqlite_ops;
	engine->loop = loop;
	engine->config = *config;
	RB_INIT(&engine->pending);
	queue_init(&engine->held);
	queue_init(&engine->done);
	pthread_mutex_init(&engine->lock, NULL);
	if (store_open(config->directory, false, config->sync, &engine->writer.store, why) ||
	    store_open(config->directory, true, config->sync, &engine->reader.store, why))
		goto failed;
	if (worker_start(&engine->writer, engine, write_batch) || worker_start(&engine->reader, engine, read_batch)) {
		(void)!buf_printf(why, "cannot start a thread");
		goto failed;
	}
	*out = &engine->engine;
	return 0;
failed:
	sqlite_free(&engine->engine);
	return -1;
}
