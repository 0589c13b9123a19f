/* A store in memory for the tests of src/fs: fs/store.h on a loop, with a log of what was asked, faults on demand, and
 * other clients that write directly.
 *
 * A request arrives at the server in the round of the loop after it was made; its answer goes back one round later. What a
 * struct memstore_fault says can happen on the way. Lack of memory ends the program. */
#ifndef HPKVFS_TESTS_MEMSTORE_H
#define HPKVFS_TESTS_MEMSTORE_H

#include "fs/store.h"

struct memstore;

struct memstore *memstore_new(struct loop *loop);
/* No request may be under way. */
void memstore_free(struct memstore *memstore);
struct store *memstore_store(struct memstore *memstore);

/* --- other clients --- */

void memstore_put(struct memstore *memstore, const char *key, const char *value);
void memstore_put_str(struct memstore *memstore, struct str key, struct str value);
void memstore_remove(struct memstore *memstore, const char *key);
/* NULL: absent. Borrowed until the key changes. */
const char *memstore_value(const struct memstore *memstore, const char *key);
/* The key that is `n`-th in order, borrowed; NULL behind the last. */
struct str memstore_key(const struct memstore *memstore, size_t n);
size_t memstore_size(const struct memstore *memstore);
/* The `n`-th in the order of keys, below that size. Borrowed until the store changes. */
struct store_record memstore_pair(const struct memstore *memstore, size_t n);

/* --- the log --- */

/* Requests that arrived since the log was last cleared: of one kind; of any kind; of one kind for a key (of ranges: the
 * first key). */
unsigned memstore_count(const struct memstore *memstore, enum store_op op);
unsigned memstore_requests(const struct memstore *memstore);
unsigned memstore_count_key(const struct memstore *memstore, enum store_op op, const char *key);
void memstore_log_clear(struct memstore *memstore);
/* To standard error, for whoever reads a failed test. */
void memstore_log_print(const struct memstore *memstore);

/* The `n`-th request of the log, counted from 0; NULL beyond the end. */
struct memstore_entry {
	enum store_op op;
	struct buf key, value;
};
const struct memstore_entry *memstore_entry(const struct memstore *memstore, unsigned n);

/* --- a subscriber --- */

/* Each change of a key from now on, the subscriber's own included, is told in the order of the changes: in the round of the loop
 * after it, or, while that is held, by memstore_tell. `value` NULL: removed. The times ascend. Borrowed. */
typedef void memstore_told(void *arg, struct str key, const struct str *value, int64_t time_ms);
/* NULL: nobody; what was not told yet is lost. */
void memstore_watch(struct memstore *memstore, memstore_told *told, void *arg);
void memstore_hold_told(struct memstore *memstore, bool hold);
/* False: there is nothing to tell. */
bool memstore_tell(struct memstore *memstore);
/* That clock of the store. */
int64_t memstore_time_ms(const struct memstore *memstore);

/* --- limits --- */

/* A page is cut after so many records, or bytes of keys and values, whichever comes first (one record goes always). 0: none. */
void memstore_limit_pages(struct memstore *memstore, unsigned records, size_t bytes);
/* Larger values are refused with -EFBIG. 0: none. */
void memstore_limit_value(struct memstore *memstore, size_t bytes);

/* The rate that the store says it sends at. 0: none. */
void memstore_set_rate(struct memstore *memstore, double rate);

/* All requests with `once` are refused, until the faults are cleared. */
void memstore_refuse_once(struct memstore *memstore);

/* --- faults --- */

enum memstore_hold {
	MEMSTORE_GO,
	MEMSTORE_HOLD_REQUEST, /* has not arrived at the server until it is released */
	MEMSTORE_HOLD_REPLY,   /* was carried out; the answer waits */
};

enum memstore_garbage {
	MEMSTORE_SANE,
	MEMSTORE_EMPTY_TRUNCATED, /* RANGE: no records, and more to come */
	MEMSTORE_NO_ADVANCE,      /* RANGE: always this range's first record, and more to come */
};

struct memstore_fault {
	bool any; /* every kind of request, else: */
	enum store_op op;
	const char *key; /* NULL: every key. Borrowed while the fault is set */
	unsigned pass;   /* so many are let through first */
	unsigned times;  /* then so many are hit; 0: all */
	int err;         /* answered so, without being carried out, or with `after` behind it */
	bool after;
	enum memstore_hold hold;
	enum memstore_garbage garbage;
	uint64_t delay_us;          /* of the answer */
	void (*arrived)(void *arg); /* called when the request arrives, before it is carried out */
	void *arg;
};

/* The first fault that matches a request is applied. */
void memstore_add_fault(struct memstore *memstore, struct memstore_fault fault);
void memstore_clear_faults(struct memstore *memstore);

/* Carries a request out and answers it before this returns: no loop, no log, no faults. */
void memstore_do(struct memstore *memstore, const struct store_request *request, store_done *done, void *arg);

unsigned memstore_held(const struct memstore *memstore);
/* Lets the one that is held longest go on; all of them. */
void memstore_release_one(struct memstore *memstore);
void memstore_release(struct memstore *memstore);

#endif
