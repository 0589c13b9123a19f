/* What the filesystem asks of a key-value store, without knowing which one: the mount hands in one over
 * libhpkv, the tests one in memory with faults.
 *
 * The upper half is the interface that a store implements, on the loop's thread, with completions. The lower
 * half is what the filesystem calls: the same requests as functions that wait. */
#ifndef HPKVFS_FS_STORE_H
#define HPKVFS_FS_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/coroutine.h"

enum store_op {
	STORE_GET,
	STORE_SET,
	STORE_PATCH,
	STORE_DELETE,
	STORE_RANGE,
	STORE_ATOMIC,
};

/* Borrowed by the store until `submit` returns. */
struct store_request {
	enum store_op op;
	struct str key;
	struct str value; /* SET, PATCH: the value; ATOMIC: the increment's JSON text */
	struct str end;   /* RANGE: the last key, inclusive */
	unsigned limit;   /* RANGE: at most so many records, 1 to 1000 */
	bool once;        /* where it is refused for the rate of requests it is not sent again, but ends with -EAGAIN */
};

struct store_record {
	struct str key;
	struct str value; /* a number as its JSON text */
};

/* Borrowed; valid during the completion. */
struct store_reply {
	/* 0; -ENOENT only where the server said that the key is absent; -ECONNRESET where the connection was lost
	 * after sending, so that the outcome of a change is unknown; -ETIMEDOUT; -EIO; -EACCES; -EFBIG; -EINVAL;
	 * -EPROTO: a reply that makes no sense; -EAGAIN, of requests with `once` only: it did nothing, and what is asked next waits
	 * until the server may take it */
	int err;
	struct str value; /* GET; ATOMIC: the new value */
	const struct store_record *records;
	size_t count;
	bool truncated; /* RANGE: more was in the range */
};

typedef void store_done(void *arg, const struct store_reply *reply);

struct store;

struct store_ops {
	/* Starts a request; done(arg, ...) is called exactly once, later, never before this returns. Every request ends
	 * within the store's own time limit. 0 or -ENOMEM (then `done` is not called). */
	int (*submit)(struct store *store, const struct store_request *request, store_done *done, void *arg);
	/* Requests a second that are sent at present, at the most; 0: as many as there are. May be NULL. */
	double (*rate)(struct store *store);
};

/* Embedded in an implementation's own struct. */
struct store {
	const struct store_ops *ops;
};

/* --- for the filesystem: each waits for the reply, and answers its err --- */

/* One page of a range; start with {0}, free with store_page_deinit. */
struct store_page {
	struct store_record *records; /* keys and values lie in `bytes` */
	size_t count;
	bool truncated;
	struct buf bytes;
};
void store_page_deinit(struct store_page *page);

/* What a key held when it was last looked at: what a repetition after a lost connection is judged by. */
struct store_expect {
	enum {
		STORE_EXPECT_UNKNOWN,
		STORE_EXPECT_ABSENT,
		STORE_EXPECT_VALUE,
		STORE_EXPECT_ANY /* whatever it holds is to be replaced */
	} what;
	struct str value;
};

/* Borrows `value`. */
static inline struct store_expect store_expect_value(struct str value)
{
	return (struct store_expect){ .what = STORE_EXPECT_VALUE, .value = value };
}

/* As store_ops has it; does not wait. */
double store_rate(struct store *store);

co_fn CHECKED int store_get(struct store *store, struct str key, struct buf *value);
co_fn CHECKED int store_range(struct store *store, struct str start, struct str end, unsigned limit,
			      struct store_page *page);

/* After a lost connection these read the key: what they wanted stands: 0; what `before` says still stands: they
 * repeat, a few times; anything else: -EIO, and the caller must read the key again. A DELETE that finds the key
 * absent at its first attempt answers -ENOENT, at a repetition 0. */
co_fn CHECKED int store_set(struct store *store, struct str key, struct str value, struct store_expect before);
co_fn CHECKED int store_delete(struct store *store, struct str key, struct store_expect before);

/* A SET that says what it has destroyed, as far as that can be told: a GET goes right before it, and both are answered together.
 * *was is that value, or *absent is true; where the GET was carried out too late for it, what `before` says. `before`: as above;
 * not STORE_EXPECT_ANY. Where the SET is refused for the rate of requests both are repeated, a few times. -EIO: it may have been
 * done, and what it destroyed cannot be told. */
co_fn CHECKED int store_swap(struct store *store, struct str key, struct str value, struct store_expect before,
			     struct buf *was, bool *absent);

/* Never repeated: -ECONNRESET where its outcome is unknown. */
co_fn CHECKED int store_patch(struct store *store, struct str key, struct str value);

/* A PATCH with a JSON merge patch, which says the same however often it is sent: repeated after a lost connection. */
co_fn CHECKED int store_merge(struct store *store, struct str key, struct str patch);

/* Adds to the number at the key, which counts from 0 where it is absent, and answers the sum. Never repeated, as above. */
co_fn CHECKED int store_atomic(struct store *store, struct str key, int64_t increment, int64_t *sum);

#endif
