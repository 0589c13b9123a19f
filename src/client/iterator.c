#include "client/iterator.h"

#include <errno.h>

#include "base/list.h"
#include "base/utf8.h"
#include "client/page.h"

/* How pages follow each other. A page begins at the last key of the page before, and that key, which comes again, is
 * dropped: the key that follows it is one byte longer and could be too long for the server. Only where this gives
 * nothing new (the server had room for that record alone) the page begins right behind it. A server that refuses that
 * one's key too leaves no way on, and its error is told: what begins with a key cannot be passed by unseen.
 *
 * Of what a server gives, keys outside of the range that was asked for are dropped, and keys that do not ascend by their
 * bytes within a page are an error: the next page's beginning would rest on them, and records be lost or told twice. */

#define LIMIT_MAX 1000 /* the most that a server gives at once */

/* Records of a page that are given in one go, so that others on the loop get their turn. */
#define BATCH 64

typedef void iterator_done(void *arg, const struct hpkv_record *record, const struct hpkv_error *error);

struct hpkv_iterator {
	struct hpkv_loop *loop;
	struct hpkv_client *client;
	struct hpkv_options options;
	unsigned limit;
	struct buf start, end; /* of the next page */
	bool begun;            /* `start` is the last key that was got, and not wanted again */
	bool exclusive;        /* the page under way begins right behind it */
	bool more;             /* behind the present page */
	struct hpkv_page page;
	size_t index; /* the next record of the page */

	iterator_done *done; /* not NULL: a next is under way */
	void *arg;
	struct hpkv_request *request;
	struct loop_timer deliver;
	bool delivering; /* it is set, and this in the client's list: */
	struct hpkv_iterator *prev, *next;
	bool freed;
	unsigned inside; /* calls of `done` on the stack: the memory goes after the last */
};

struct hpkv_loop *iterator_loop(const struct hpkv_iterator *iterator)
{
	return iterator->loop;
}

struct hpkv_client *iterator_client(const struct hpkv_iterator *iterator)
{
	return iterator->client;
}

/* --- lifetime --- */

static void destroy(struct hpkv_iterator *iterator)
{
	buf_free(&iterator->start);
	buf_free(&iterator->end);
	hpkv_page_free(&iterator->page);
	free(iterator);
}

static bool valid(struct hpkv_slice key)
{
	return key.size > 0 && utf8_valid(str_of(key.data, key.size));
}

int hpkv_iterator_new(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice end_key, unsigned limit,
		      const struct hpkv_options *options, struct hpkv_iterator **out)
{
	struct hpkv_iterator *iterator;

	if (!valid(key) || !valid(end_key) || limit > LIMIT_MAX)
		return -EINVAL;
	iterator = calloc(1, sizeof(*iterator));
	if (!iterator)
		return -ENOMEM;
	iterator->client = client;
	iterator->loop = client->loop;
	iterator->limit = limit ? limit : LIMIT_MAX;
	iterator->more = true;
	if (options) {
		iterator->options = *options;
		iterator->options.before = NULL; /* of changes, and the caller's */
	}
	if (buf_set(&iterator->start, str_of(key.data, key.size)) < 0 ||
	    buf_set(&iterator->end, str_of(end_key.data, end_key.size)) < 0) {
		destroy(iterator);
		return -ENOMEM;
	}
	*out = iterator;
	return 0;
}

static void stop_delivering(struct hpkv_iterator *iterator)
{
	if (!iterator->delivering)
		return;
	iterator->delivering = false;
	DL_DELETE(iterator->client->delivering, iterator);
	loop_timer_cancel(&iterator->deliver);
}

void hpkv_iterator_free(struct hpkv_iterator *iterator)
{
	if (!iterator || iterator->freed)
		return;
	stop_delivering(iterator);
	iterator->freed = true;
	if (iterator->request)
		hpkv_request_cancel(iterator->request); /* its callback ends the iterator */
	else if (!iterator->inside)
		destroy(iterator);
}

/* --- telling --- */

/* The iterator may be gone afterwards: answers whether it is still there. */
static bool tell(struct hpkv_iterator *iterator, const struct hpkv_record *record, const struct hpkv_error *error)
{
	iterator_done *done = iterator->done;

	iterator->done = NULL;
	iterator->inside++;
	done(iterator->arg, record, error);
	iterator->inside--;
	if (!iterator->freed)
		return true;
	if (!iterator->request && !iterator->inside)
		destroy(iterator);
	return false;
}

static void tell_error(struct hpkv_iterator *iterator, int r, const char *text)
{
	struct hpkv_error error;

	error_set(&error, r, 0, "%s", text);
	tell(iterator, NULL, &error);
}

/* What is here already: a record, or the end. */
static bool at_hand(const struct hpkv_iterator *iterator)
{
	return iterator->index < iterator->page.count || !iterator->more;
}

static bool tell_next(struct hpkv_iterator *iterator)
{
	if (iterator->index < iterator->page.count)
		return tell(iterator, &iterator->page.records[iterator->index++], NULL);
	return tell(iterator, NULL, NULL);
}

static void deliver_fired(struct loop_timer *timer)
{
	struct hpkv_iterator *iterator = lws_container_of(timer, struct hpkv_iterator, deliver);
	unsigned told = 0;

	do {
		/* a next made by `done` asked for delivery again; it is served here, unless it is time for others */
		stop_delivering(iterator);
		if (!tell_next(iterator))
			return;
	} while (iterator->done && ++told < BATCH && at_hand(iterator));
}

static void start_delivering(struct hpkv_iterator *iterator)
{
	iterator->delivering = true;
	DL_APPEND(iterator->client->delivering, iterator);
	loop_timer_set(iterator->loop->base, &iterator->deliver, 0, deliver_fired);
}

void iterators_cancel(struct hpkv_client *client)
{
	struct hpkv_iterator *iterator;

	while ((iterator = client->delivering)) {
		stop_delivering(iterator);
		tell_error(iterator, -ECANCELED, "the client was freed");
	}
}

/* --- pages --- */

static int ask(struct hpkv_iterator *iterator);

/* Keeps of a copied page what was asked for and is new. */
static int sift(struct hpkv_page *page, struct str start, struct str end, bool start_known)
{
	size_t kept = 0;

	for (size_t i = 0; i < page->count; i++) {
		struct str key = str_of(page->records[i].key.data, page->records[i].key.size);
		int order = str_compare(key, start);

		if (order < 0 || (order == 0 && start_known) || str_compare(key, end) > 0)
			continue;
		if (kept &&
		    str_compare(key, str_of(page->records[kept - 1].key.data, page->records[kept - 1].key.size)) <= 0)
			return -EPROTO;
		page->records[kept++] = page->records[i];
	}
	page->count = kept;
	return 0;
}

/* Takes a page over. 0; -EAGAIN: ask again, right behind the last key; -EPROTO, -ENOMEM. */
static int take_page(struct hpkv_iterator *iterator, const struct hpkv_reply *reply)
{
	const struct hpkv_record *last;
	struct hpkv_page page;
	bool empty;
	int r = page_copy(reply, &page);

	if (r)
		return r;
	r = sift(&page, buf_str(&iterator->start), buf_str(&iterator->end), iterator->begun);
	empty = page.count == 0;
	if (r == 0 && !empty) {
		last = &page.records[page.count - 1];
		r = buf_set(&iterator->start, str_of(last->key.data, last->key.size));
	}
	if (r == 0 && empty && page.truncated)
		r = iterator->begun && !iterator->exclusive ? -EAGAIN : -EPROTO;
	if (r) {
		hpkv_page_free(&page);
		iterator->exclusive = r == -EAGAIN;
		return r;
	}
	hpkv_page_free(&iterator->page);
	iterator->page = page;
	iterator->index = 0;
	iterator->more = page.truncated;
	iterator->begun |= !empty;
	iterator->exclusive = false;
	return 0;
}

static void page_arrived(void *arg, const struct hpkv_reply *reply)
{
	struct hpkv_iterator *iterator = arg;
	int r;

	iterator->request = NULL;
	if (iterator->freed) {
		if (!iterator->inside)
			destroy(iterator);
		return;
	}
	if (reply->error) {
		iterator->exclusive = false;
		tell(iterator, NULL, reply->error);
		return;
	}
	r = take_page(iterator, reply);
	if (r == -EAGAIN)
		r = ask(iterator);
	else if (r == 0)
		tell_next(iterator);
	else if (r == -EPROTO)
		tell_error(
			iterator, r,
			"the server's pages of the range make no sense: keys in disorder, or none where it says that there are more");
	if (r && r != -EPROTO)
		tell_error(iterator, r, r == -ENOMEM ? "out of memory" : "the next page could not be asked for");
}

static int ask(struct hpkv_iterator *iterator)
{
	CLEANUP(buf_free) struct buf start = BUF_INIT;
	unsigned limit = iterator->limit;
	int r = buf_add_str(&start, buf_str(&iterator->start));

	if (r == 0 && iterator->exclusive)
		r = buf_add_char(&start, '\0');
	if (r)
		return r;
	/* the record that comes again is not counted */
	if (iterator->begun && !iterator->exclusive && limit < LIMIT_MAX)
		limit++;
	return hpkv_range(iterator->client, (struct hpkv_slice){ start.p, start.len },
			  (struct hpkv_slice){ iterator->end.p, iterator->end.len }, limit, &iterator->options,
			  page_arrived, iterator, &iterator->request);
}

int hpkv_iterator_next(struct hpkv_iterator *iterator, iterator_done *done, void *arg)
{
	int r = 0;

	if (iterator->done)
		return -EBUSY;
	if (iterator->client->freed)
		return -ENOTCONN;
	if (!at_hand(iterator))
		r = ask(iterator);
	if (r)
		return r;
	if (!iterator->request)
		start_delivering(iterator);
	iterator->done = done;
	iterator->arg = arg;
	return 0;
}

int iterator_take(struct hpkv_iterator *iterator, struct hpkv_record *out)
{
	if (iterator->done)
		return -EBUSY;
	if (iterator->index < iterator->page.count) {
		*out = iterator->page.records[iterator->index++];
		return 1;
	}
	return iterator->more ? -EAGAIN : 0;
}
