#include "fs/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* How often a change whose connection was lost is repeated. */
#define STORE_REPEATS 3

/* How often a swap is repeated whose SET the server refused for the rate of requests, behind a GET that it took. */
#define SWAP_REFUSALS 8

struct waiting {
	struct coroutine *co;
	bool done;
	int err;
	struct buf *value;       /* may be NULL */
	struct store_page *page; /* may be NULL */
};

void store_page_deinit(struct store_page *page)
{
	free(page->records);
	buf_free(&page->bytes);
	*page = (struct store_page){ 0 };
}

/* Keys and values go into one buffer first; as it may move while it grows, the slices are set at the end. */
static int page_copy(struct store_page *page, const struct store_reply *reply)
{
	size_t total = 0, at = 0;
	int r;

	if (reply->count == 0) {
		page->truncated = reply->truncated;
		return 0;
	}
	for (size_t i = 0; i < reply->count; i++)
		total += reply->records[i].key.len + reply->records[i].value.len;
	r = buf_reserve(&page->bytes, total);
	if (r < 0)
		return r;
	page->records = calloc(reply->count, sizeof(*page->records));
	if (!page->records)
		return -ENOMEM;
	for (size_t i = 0; i < reply->count; i++) {
		const struct store_record *record = &reply->records[i];

		r = buf_add_str(&page->bytes, record->key);
		if (r == 0)
			r = buf_add_str(&page->bytes, record->value);
		if (r < 0)
			return r;
		page->records[i].key = str_of(page->bytes.p + at, record->key.len);
		page->records[i].value = str_of(page->bytes.p + at + record->key.len, record->value.len);
		at += record->key.len + record->value.len;
	}
	page->count = reply->count;
	page->truncated = reply->truncated;
	return 0;
}

static void replied(void *arg, const struct store_reply *reply)
{
	struct waiting *waiting = arg;

	waiting->err = reply->err;
	if (reply->err == 0 && waiting->value)
		waiting->err = buf_set(waiting->value, reply->value);
	if (reply->err == 0 && waiting->page)
		waiting->err = page_copy(waiting->page, reply);
	waiting->done = true;
	co_wake(waiting->co);
}

/* Waits without a way out: who wants to go earlier answers its program and lets the coroutine finish. */
static co_fn void wait_for(const struct waiting *waiting)
{
	bool former = co_uninterruptible(true);

	while (!waiting->done)
		if (co_wait() < 0)
			continue;
	co_uninterruptible(former);
}

static co_fn int request(struct store *store, const struct store_request *request, struct buf *value,
			 struct store_page *page)
{
	struct waiting waiting = { .co = co_self(), .value = value, .page = page };
	int r = store->ops->submit(store, request, replied, &waiting);

	if (r < 0)
		return r;
	wait_for(&waiting);
	/* of anything else it would be told as an absence, and of a listing as an empty one */
	if (waiting.err == -ENOENT && request->op != STORE_GET && request->op != STORE_DELETE)
		return -EPROTO;
	return waiting.err;
}

double store_rate(struct store *store)
{
	return store->ops->rate ? store->ops->rate(store) : 0;
}

int store_get(struct store *store, struct str key, struct buf *value)
{
	struct store_request get = { .op = STORE_GET, .key = key };

	return request(store, &get, value, NULL);
}

int store_range(struct store *store, struct str start, struct str end, unsigned limit, struct store_page *page)
{
	struct store_request range = { .op = STORE_RANGE, .key = start, .end = end, .limit = limit };
	int r;

	store_page_deinit(page);
	r = request(store, &range, NULL, page);
	if (r < 0)
		store_page_deinit(page);
	return r;
}

static bool as_expected(struct store_expect before, int err, struct str now)
{
	if (before.what == STORE_EXPECT_ANY)
		return true;
	if (before.what == STORE_EXPECT_ABSENT)
		return err == -ENOENT;
	return before.what == STORE_EXPECT_VALUE && err == 0 && str_equal(now, before.value);
}

int store_set(struct store *store, struct str key, struct str value, struct store_expect before)
{
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	struct store_request set = { .op = STORE_SET, .key = key, .value = value };

	for (int i = 0; i < STORE_REPEATS; i++) {
		int r = request(store, &set, NULL, NULL);

		if (r != -ECONNRESET)
			return r;
		r = store_get(store, key, &now);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r == 0 && str_equal(buf_str(&now), value))
			return 0;
		if (!as_expected(before, r, buf_str(&now)))
			return -EIO;
	}
	return -EIO;
}

struct swap {
	struct store *store;
	struct str key, value;
	struct buf *was;
	int got; /* how the GET ended */
};

/* Both are sent before either is answered, so that nobody comes between whose request is not there already. `once`: -EAGAIN where
 * the SET was refused. */
static co_fn int get_and_set(struct swap *swap, bool once)
{
	struct store *store = swap->store;
	struct store_request get = { .op = STORE_GET, .key = swap->key };
	struct store_request set = { .op = STORE_SET, .key = swap->key, .value = swap->value, .once = once };
	struct waiting got = { .co = co_self(), .value = swap->was }, done = { .co = co_self() };
	int r;

	buf_clear(swap->was); /* a former one may have put something there */
	r = store->ops->submit(store, &get, replied, &got);
	if (r < 0)
		return r;
	r = store->ops->submit(store, &set, replied, &done);
	wait_for(&got);
	if (r < 0)
		return r;
	wait_for(&done);
	swap->got = got.err;
	return done.err == -ENOENT ? -EPROTO : done.err;
}

/* A SET that was refused is sent again with a GET: others may have come between by then. A server that takes no two requests
 * at once would never take both; there the last SET is sent again alone, until its time is over. */
static co_fn int get_and_set_until_taken(struct swap *swap)
{
	for (int i = 0; i < SWAP_REFUSALS; i++) {
		int r = get_and_set(swap, true);

		if (r != -EAGAIN)
			return r;
		if (swap->got < 0 && swap->got != -ENOENT)
			return swap->got; /* it was refused as well, until its time was over */
	}
	return get_and_set(swap, false);
}

/* 0: it arrived. -ECONNRESET: it did not. */
static co_fn int did_swap_arrive(const struct swap *swap, struct store_expect before)
{
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	int r = store_get(swap->store, swap->key, &now);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && str_starts(buf_str(&now), swap->value))
		return 0;
	return as_expected(before, r, buf_str(&now)) ? -ECONNRESET : -EIO;
}

int store_swap(struct store *store, struct str key, struct str value, struct store_expect before, struct buf *was,
	       bool *absent)
{
	struct swap swap = { .store = store, .key = key, .value = value, .was = was };
	bool lost = false, late;
	int r = -ECONNRESET;

	for (int i = 0; i < STORE_REPEATS && r == -ECONNRESET; i++) {
		r = get_and_set_until_taken(&swap);
		lost = r == -ECONNRESET;
		if (lost)
			r = did_swap_arrive(&swap, before);
	}
	if (r < 0)
		return r == -ECONNRESET || r == -EAGAIN ? -EIO : r;
	*absent = swap.got == -ENOENT;
	/* no server has to carry out the requests of a connection in order: the GET may have come behind the SET */
	late = swap.got == 0 && str_starts(buf_str(was), value);
	if ((swap.got == 0 && !late) || *absent)
		return 0;
	if (!lost && !late)
		return -EIO;
	*absent = before.what == STORE_EXPECT_ABSENT;
	return buf_set(was, before.value);
}

int store_delete(struct store *store, struct str key, struct store_expect before)
{
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	struct store_request delete = { .op = STORE_DELETE, .key = key };

	for (int i = 0; i < STORE_REPEATS; i++) {
		int r = request(store, &delete, NULL, NULL);

		if (r == -ENOENT && i > 0)
			return 0;
		if (r != -ECONNRESET)
			return r;
		r = store_get(store, key, &now);
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return r;
		if (!as_expected(before, r, buf_str(&now)))
			return -EIO;
	}
	return -EIO;
}

int store_patch(struct store *store, struct str key, struct str value)
{
	struct store_request patch = { .op = STORE_PATCH, .key = key, .value = value };

	return request(store, &patch, NULL, NULL);
}

int store_merge(struct store *store, struct str key, struct str patch)
{
	int r = -ECONNRESET;

	for (int i = 0; i < STORE_REPEATS && r == -ECONNRESET; i++)
		r = store_patch(store, key, patch);
	return r == -ECONNRESET ? -EIO : r;
}

int store_atomic(struct store *store, struct str key, int64_t increment, int64_t *sum)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	char text[24], *end;
	struct store_request atomic = { .op = STORE_ATOMIC, .key = key };
	int64_t number;
	int r;

	snprintf(text, sizeof(text), "%" PRId64, increment);
	atomic.value = str_c(text);
	r = request(store, &atomic, &value, NULL);
	if (r < 0)
		return r;
	errno = 0;
	number = strtoll(buf_str(&value).p, &end, 10);
	if (value.len == 0 || *end || errno)
		return -EPROTO;
	*sum = number;
	return 0;
}
