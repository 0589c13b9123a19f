#include "memstore.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <time.h>

#include "base/list.h"

#define FAULTS_MAX 16

struct pair {
	struct buf key, value;
};

/* A request on its way. */
struct travel {
	struct travel *prev, *next; /* while held */
	struct memstore *memstore;
	struct loop_task task;
	struct loop_timer timer;
	enum store_op op;
	struct buf key, value, end;
	unsigned limit;
	bool once;
	store_done *done;
	void *arg;
	struct memstore_fault fault;
	bool carried_out;

	/* the answer */
	struct store_reply reply;
	struct buf reply_value;
	struct pair *records;
	struct store_record *slices;
};

/* A change that is still to be told. */
struct news {
	struct news *prev, *next;
	struct buf key, value;
	bool removed;
	int64_t time_ms;
};

struct memstore {
	struct store store;
	struct loop *loop;
	struct pair *pairs; /* in order of keys */
	size_t count, capacity;
	struct memstore_entry *log;
	unsigned log_count, log_capacity;
	unsigned page_records;
	size_t page_bytes, max_value;
	double rate;
	bool refuse_once;
	struct memstore_fault faults[FAULTS_MAX];
	unsigned fault_count;
	struct travel *held;
	unsigned under_way;
	memstore_told *told;
	void *told_arg;
	bool hold_told;
	struct news *news;
	struct loop_task news_task;
	int64_t time_ms;
};

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "memstore: %s\n", what);
	abort();
}

static void copy(struct buf *to, struct str from)
{
	must(buf_set(to, from) == 0, "no memory");
}

/* --- the pairs --- */

/* The index of the first key that is not before `key`. */
static size_t position(const struct memstore *memstore, struct str key)
{
	size_t low = 0, high = memstore->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (str_compare(buf_str(&memstore->pairs[middle].key), key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct pair *find(const struct memstore *memstore, struct str key)
{
	size_t at = position(memstore, key);

	return at < memstore->count && str_equal(buf_str(&memstore->pairs[at].key), key) ? &memstore->pairs[at] : NULL;
}

static void news_free(struct memstore *memstore, struct news *news)
{
	DL_DELETE(memstore->news, news);
	buf_free(&news->key);
	buf_free(&news->value);
	free(news);
}

static void announce(struct memstore *memstore, struct str key)
{
	const struct pair *pair = find(memstore, key);
	struct news *news;

	memstore->time_ms++;
	if (!memstore->told)
		return;
	news = calloc(1, sizeof(*news));
	must(news, "no memory");
	news->removed = !pair;
	news->time_ms = memstore->time_ms;
	copy(&news->key, key);
	if (pair)
		copy(&news->value, buf_str(&pair->value));
	DL_APPEND(memstore->news, news);
	if (!memstore->hold_told)
		loop_defer(memstore->loop, &memstore->news_task);
}

static void put(struct memstore *memstore, struct str key, struct str value)
{
	struct pair *pair = find(memstore, key);
	size_t at = position(memstore, key);

	if (!pair) {
		if (memstore->count == memstore->capacity) {
			memstore->capacity = memstore->capacity ? memstore->capacity * 2 : 64;
			memstore->pairs = realloc(memstore->pairs, memstore->capacity * sizeof(*memstore->pairs));
			must(memstore->pairs, "no memory");
		}
		pair = &memstore->pairs[at];
		memmove(pair + 1, pair, (memstore->count - at) * sizeof(*pair));
		*pair = (struct pair){ 0 };
		memstore->count++;
		copy(&pair->key, key);
	}
	copy(&pair->value, value);
}

void memstore_put_str(struct memstore *memstore, struct str key, struct str value)
{
	put(memstore, key, value);
	announce(memstore, key);
}

void memstore_put(struct memstore *memstore, const char *key, const char *value)
{
	memstore_put_str(memstore, str_c(key), str_c(value));
}

static bool remove_str(struct memstore *memstore, struct str key)
{
	struct pair *pair = find(memstore, key);

	if (!pair)
		return false;
	buf_free(&pair->key);
	buf_free(&pair->value);
	memstore->count--;
	memmove(pair, pair + 1, (memstore->count - (size_t)(pair - memstore->pairs)) * sizeof(*pair));
	return true;
}

void memstore_remove(struct memstore *memstore, const char *key)
{
	CLEANUP(buf_free) struct buf copied = BUF_INIT;

	copy(&copied, str_c(key)); /* it may be the store's own */
	must(remove_str(memstore, buf_str(&copied)), "the key to be removed is not there");
	announce(memstore, buf_str(&copied));
}

const char *memstore_value(const struct memstore *memstore, const char *key)
{
	const struct pair *pair = find(memstore, str_c(key));

	return pair ? buf_str(&pair->value).p : NULL;
}

struct str memstore_key(const struct memstore *memstore, size_t n)
{
	return n < memstore->count ? buf_str(&memstore->pairs[n].key) : str_of(NULL, 0);
}

size_t memstore_size(const struct memstore *memstore)
{
	return memstore->count;
}

struct store_record memstore_pair(const struct memstore *memstore, size_t n)
{
	must(n < memstore->count, "no such pair");
	return (struct store_record){ buf_str(&memstore->pairs[n].key), buf_str(&memstore->pairs[n].value) };
}

/* --- the log --- */

static void log_add(struct memstore *memstore, const struct travel *travel)
{
	struct memstore_entry *entry;

	if (memstore->log_count == memstore->log_capacity) {
		memstore->log_capacity = memstore->log_capacity ? memstore->log_capacity * 2 : 64;
		memstore->log = realloc(memstore->log, memstore->log_capacity * sizeof(*memstore->log));
		must(memstore->log, "no memory");
	}
	entry = &memstore->log[memstore->log_count++];
	*entry = (struct memstore_entry){ .op = travel->op };
	copy(&entry->key, buf_str(&travel->key));
	copy(&entry->value, buf_str(&travel->value));
}

void memstore_log_clear(struct memstore *memstore)
{
	for (unsigned i = 0; i < memstore->log_count; i++) {
		buf_free(&memstore->log[i].key);
		buf_free(&memstore->log[i].value);
	}
	memstore->log_count = 0;
}

unsigned memstore_requests(const struct memstore *memstore)
{
	return memstore->log_count;
}

unsigned memstore_count(const struct memstore *memstore, enum store_op op)
{
	unsigned count = 0;

	for (unsigned i = 0; i < memstore->log_count; i++)
		count += memstore->log[i].op == op;
	return count;
}

unsigned memstore_count_key(const struct memstore *memstore, enum store_op op, const char *key)
{
	unsigned count = 0;

	for (unsigned i = 0; i < memstore->log_count; i++)
		count += memstore->log[i].op == op && str_equal(buf_str(&memstore->log[i].key), str_c(key));
	return count;
}

const struct memstore_entry *memstore_entry(const struct memstore *memstore, unsigned n)
{
	return n < memstore->log_count ? &memstore->log[n] : NULL;
}

void memstore_log_print(const struct memstore *memstore)
{
	static const char *const names[] = { "GET", "SET", "PATCH", "DELETE", "RANGE", "ATOMIC" };

	for (unsigned i = 0; i < memstore->log_count; i++)
		fprintf(stderr, "  %s %s\n", names[memstore->log[i].op], memstore->log[i].key.p);
}

/* --- carrying out --- */

static bool is_json_object(struct str value)
{
	json_error_t error;
	json_t *json = json_loadb(value.p, value.len, 0, &error);
	bool object = json_is_object(json);

	json_decref(json);
	return object;
}

/* RFC 7396. */
static void merge_object(json_t *target, json_t *change)
{
	json_t *member;
	const char *name;

	json_object_foreach(change, name, member) {
		json_t *there = json_object_get(target, name);

		if (json_is_null(member)) {
			json_object_del(target, name);
		} else if (json_is_object(member)) {
			json_t *merged = json_is_object(there) ? json_incref(there) : json_object();

			merge_object(merged, member);
			must(json_object_set_new(target, name, merged) == 0, "no memory");
		} else {
			must(json_object_set(target, name, member) == 0, "no memory");
		}
	}
}

static void merge(struct memstore *memstore, struct pair *pair, struct travel *travel)
{
	json_t *target = json_loadb(pair->value.p, pair->value.len, JSON_ALLOW_NUL, NULL);
	json_t *change = json_loadb(travel->value.p, travel->value.len, JSON_ALLOW_NUL, NULL);
	char *text;

	merge_object(target, change);
	text = json_dumps(target, JSON_COMPACT);
	must(text, "no memory");
	if (memstore->max_value && strlen(text) > memstore->max_value)
		travel->reply.err = -EFBIG;
	else
		copy(&pair->value, str_c(text));
	free(text);
	json_decref(target);
	json_decref(change);
}

static void atomic(struct memstore *memstore, struct travel *travel)
{
	struct pair *pair = find(memstore, buf_str(&travel->key));
	long long sum = strtoll(travel->value.p, NULL, 10) + (pair ? strtoll(pair->value.p, NULL, 10) : 0);

	must(buf_printf(&travel->reply_value, "%lld", sum) == 0, "no memory");
	put(memstore, buf_str(&travel->key), buf_str(&travel->reply_value));
	travel->reply.value = buf_str(&travel->reply_value);
}

static void patch(struct memstore *memstore, struct travel *travel)
{
	struct pair *pair = find(memstore, buf_str(&travel->key));

	if (!pair) {
		put(memstore, buf_str(&travel->key), buf_str(&travel->value));
		return;
	}
	if (is_json_object(buf_str(&pair->value)) && is_json_object(buf_str(&travel->value)))
		merge(memstore, pair, travel);
	else if (memstore->max_value && pair->value.len + travel->value.len > memstore->max_value)
		travel->reply.err = -EFBIG;
	else
		must(buf_add_str(&pair->value, buf_str(&travel->value)) == 0, "no memory");
}

static void set(struct memstore *memstore, struct travel *travel)
{
	if (travel->value.len == 0 || travel->key.len == 0)
		travel->reply.err = -EINVAL;
	else if (memstore->max_value && travel->value.len > memstore->max_value)
		travel->reply.err = -EFBIG;
	else
		put(memstore, buf_str(&travel->key), buf_str(&travel->value));
}

static void take_record(struct travel *travel, const struct pair *pair)
{
	size_t n = travel->reply.count++;

	copy(&travel->records[n].key, buf_str(&pair->key));
	copy(&travel->records[n].value, buf_str(&pair->value));
	travel->slices[n].key = buf_str(&travel->records[n].key);
	travel->slices[n].value = buf_str(&travel->records[n].value);
}

static void range(struct memstore *memstore, struct travel *travel)
{
	size_t limit = travel->limit, bytes = 0, at = position(memstore, buf_str(&travel->key));

	must(travel->key.len && travel->end.len && travel->limit >= 1 && travel->limit <= 1000,
	     "a range that no server takes");
	if (memstore->page_records && memstore->page_records < limit)
		limit = memstore->page_records;
	if (travel->fault.garbage == MEMSTORE_NO_ADVANCE)
		limit = 1;
	travel->records = calloc(limit, sizeof(*travel->records));
	travel->slices = calloc(limit, sizeof(*travel->slices));
	must(travel->records && travel->slices, "no memory");
	travel->reply.records = travel->slices;
	if (travel->fault.garbage == MEMSTORE_EMPTY_TRUNCATED) {
		travel->reply.truncated = true;
		return;
	}
	for (; at < memstore->count; at++) {
		const struct pair *pair = &memstore->pairs[at];

		if (str_compare(buf_str(&pair->key), buf_str(&travel->end)) > 0)
			break;
		bytes += pair->key.len + pair->value.len;
		if (travel->reply.count == limit ||
		    (memstore->page_bytes && travel->reply.count && bytes > memstore->page_bytes)) {
			travel->reply.truncated = true;
			break;
		}
		take_record(travel, pair);
	}
}

/* Whatever range is asked for: the first record of the store below it, as if the start had been lost. */
static void range_without_advance(struct memstore *memstore, struct travel *travel)
{
	size_t at = 0;

	while (at + 1 < memstore->count && str_starts(buf_str(&memstore->pairs[at].key), STR(".hpkvfs/")))
		at++;
	must(memstore->count, "no record to repeat");
	copy(&travel->key, buf_str(&memstore->pairs[at].key));
	range(memstore, travel);
	travel->reply.truncated = true;
}

static void do_it(struct memstore *memstore, struct travel *travel)
{
	struct pair *pair;

	travel->carried_out = true;
	switch (travel->op) {
	case STORE_GET:
		pair = find(memstore, buf_str(&travel->key));
		if (!pair) {
			travel->reply.err = -ENOENT;
			return;
		}
		copy(&travel->reply_value, buf_str(&pair->value));
		travel->reply.value = buf_str(&travel->reply_value);
		return;
	case STORE_SET:
		set(memstore, travel);
		return;
	case STORE_PATCH:
		patch(memstore, travel);
		return;
	case STORE_DELETE:
		if (!remove_str(memstore, buf_str(&travel->key)))
			travel->reply.err = -ENOENT;
		return;
	case STORE_RANGE:
		if (travel->fault.garbage == MEMSTORE_NO_ADVANCE)
			range_without_advance(memstore, travel);
		else
			range(memstore, travel);
		return;
	case STORE_ATOMIC:
		atomic(memstore, travel);
		return;
	}
}

static void carry_out(struct memstore *memstore, struct travel *travel)
{
	do_it(memstore, travel);
	if (travel->reply.err == 0 && travel->op != STORE_GET && travel->op != STORE_RANGE)
		announce(memstore, buf_str(&travel->key));
}

/* --- on the way --- */

static void travel_free(struct travel *travel)
{
	for (size_t i = 0; i < travel->reply.count; i++) {
		buf_free(&travel->records[i].key);
		buf_free(&travel->records[i].value);
	}
	free(travel->records);
	free(travel->slices);
	buf_free(&travel->key);
	buf_free(&travel->value);
	buf_free(&travel->end);
	buf_free(&travel->reply_value);
	free(travel);
}

static void answer(struct travel *travel)
{
	static const struct store_reply none;
	struct store_reply failure = none;

	failure.err = travel->fault.err;
	travel->memstore->under_way--;
	travel->done(travel->arg, travel->fault.err ? &failure : &travel->reply);
	travel_free(travel);
}

static void answer_task(struct loop_task *task)
{
	answer(lws_container_of(task, struct travel, task));
}

static void answer_timer(struct loop_timer *timer)
{
	answer(lws_container_of(timer, struct travel, timer));
}

static void send_answer(struct travel *travel)
{
	if (travel->fault.delay_us) {
		loop_timer_set(travel->memstore->loop, &travel->timer, travel->fault.delay_us, answer_timer);
		return;
	}
	travel->task.fn = answer_task;
	loop_defer(travel->memstore->loop, &travel->task);
}

static void serve(struct travel *travel)
{
	const struct memstore_fault *fault = &travel->fault;

	if (fault->err == 0 || fault->after)
		carry_out(travel->memstore, travel);
	if (fault->hold == MEMSTORE_HOLD_REPLY)
		DL_APPEND(travel->memstore->held, travel);
	else
		send_answer(travel);
}

static struct memstore_fault find_fault(struct memstore *memstore, const struct travel *travel)
{
	for (unsigned i = 0; i < memstore->fault_count; i++) {
		struct memstore_fault *fault = &memstore->faults[i];

		if (!fault->any && fault->op != travel->op)
			continue;
		if (fault->key && !str_equal(str_c(fault->key), buf_str(&travel->key)))
			continue;
		if (fault->times == UINT32_MAX)
			continue; /* used up */
		if (fault->pass) {
			fault->pass--;
			continue;
		}
		if (fault->times && --fault->times == 0)
			fault->times = UINT32_MAX;
		return *fault;
	}
	return (struct memstore_fault){ 0 };
}

static void arrive(struct loop_task *task)
{
	struct travel *travel = lws_container_of(task, struct travel, task);
	struct memstore *memstore = travel->memstore;

	log_add(memstore, travel);
	travel->fault = find_fault(memstore, travel);
	if (memstore->refuse_once && travel->once)
		travel->fault.err = -EAGAIN;
	if (travel->fault.arrived)
		travel->fault.arrived(travel->fault.arg);
	if (travel->fault.hold == MEMSTORE_HOLD_REQUEST)
		DL_APPEND(memstore->held, travel);
	else
		serve(travel);
}

static struct travel *travel_new(struct memstore *memstore, const struct store_request *request, store_done *done,
				 void *arg)
{
	struct travel *travel = calloc(1, sizeof(*travel));

	must(travel, "no memory");
	travel->memstore = memstore;
	travel->op = request->op;
	travel->limit = request->limit;
	travel->once = request->once;
	travel->done = done;
	travel->arg = arg;
	copy(&travel->key, request->key);
	copy(&travel->value, request->value);
	copy(&travel->end, request->end);
	return travel;
}

static int submit(struct store *store, const struct store_request *request, store_done *done, void *arg)
{
	struct memstore *memstore = lws_container_of(store, struct memstore, store);
	struct travel *travel = travel_new(memstore, request, done, arg);

	travel->task.fn = arrive;
	memstore->under_way++;
	loop_defer(memstore->loop, &travel->task);
	return 0;
}

static double rate(struct store *store)
{
	return lws_container_of(store, struct memstore, store)->rate;
}

static const struct store_ops ops = { .submit = submit, .rate = rate };

void memstore_do(struct memstore *memstore, const struct store_request *request, store_done *done, void *arg)
{
	struct travel *travel = travel_new(memstore, request, done, arg);

	carry_out(memstore, travel);
	done(arg, &travel->reply);
	travel_free(travel);
}

/* --- control --- */

void memstore_add_fault(struct memstore *memstore, struct memstore_fault fault)
{
	must(memstore->fault_count < FAULTS_MAX, "too many faults");
	memstore->faults[memstore->fault_count++] = fault;
}

void memstore_clear_faults(struct memstore *memstore)
{
	memstore->fault_count = 0;
	memstore->refuse_once = false;
}

unsigned memstore_held(const struct memstore *memstore)
{
	struct travel *travel;
	unsigned count = 0;

	DL_FOREACH(memstore->held, travel)
		count++;
	return count;
}

void memstore_release_one(struct memstore *memstore)
{
	struct travel *travel = memstore->held;

	must(travel, "nothing is held");
	DL_DELETE(memstore->held, travel);
	travel->fault.hold = MEMSTORE_GO;
	if (travel->carried_out)
		send_answer(travel);
	else
		serve(travel);
}

void memstore_release(struct memstore *memstore)
{
	while (memstore->held)
		memstore_release_one(memstore);
}

/* --- a subscriber --- */

bool memstore_tell(struct memstore *memstore)
{
	struct news *news = memstore->news;
	struct str key, value;

	if (!news)
		return false;
	key = buf_str(&news->key);
	value = buf_str(&news->value);
	memstore->told(memstore->told_arg, key, news->removed ? NULL : &value, news->time_ms);
	news_free(memstore, news);
	return true;
}

static void tell_task(struct loop_task *task)
{
	struct memstore *memstore = lws_container_of(task, struct memstore, news_task);

	while (!memstore->hold_told && memstore_tell(memstore))
		continue;
}

void memstore_watch(struct memstore *memstore, memstore_told *told, void *arg)
{
	while (!told && memstore->news)
		news_free(memstore, memstore->news);
	memstore->told = told;
	memstore->told_arg = arg;
}

void memstore_hold_told(struct memstore *memstore, bool hold)
{
	memstore->hold_told = hold;
	if (!hold && memstore->news)
		loop_defer(memstore->loop, &memstore->news_task);
}

int64_t memstore_time_ms(const struct memstore *memstore)
{
	return memstore->time_ms;
}

void memstore_limit_pages(struct memstore *memstore, unsigned records, size_t bytes)
{
	memstore->page_records = records;
	memstore->page_bytes = bytes;
}

void memstore_limit_value(struct memstore *memstore, size_t bytes)
{
	memstore->max_value = bytes;
}

void memstore_refuse_once(struct memstore *memstore)
{
	memstore->refuse_once = true;
}

void memstore_set_rate(struct memstore *memstore, double per_second)
{
	memstore->rate = per_second;
}

struct store *memstore_store(struct memstore *memstore)
{
	return &memstore->store;
}

struct memstore *memstore_new(struct loop *loop)
{
	struct memstore *memstore = calloc(1, sizeof(*memstore));

	must(memstore, "no memory");
	memstore->store.ops = &ops;
	memstore->loop = loop;
	memstore->news_task.fn = tell_task;
	memstore->time_ms = (int64_t)time(NULL) * 1000;
	return memstore;
}

void memstore_free(struct memstore *memstore)
{
	must(memstore->under_way == 0, "freed with requests under way");
	memstore_watch(memstore, NULL, NULL);
	while (memstore->news_task.queued)
		loop_once(memstore->loop);
	for (size_t i = 0; i < memstore->count; i++) {
		buf_free(&memstore->pairs[i].key);
		buf_free(&memstore->pairs[i].value);
	}
	memstore_log_clear(memstore);
	free(memstore->log);
	free(memstore->pairs);
	free(memstore);
}
