/* A store behind the server: requests go in, completions come out on the loop's thread. The engine in
 * engine_sqlite.c keeps the store in a file; others (across a network) fit behind the same calls.
 *
 * What every engine promises:
 *  - a write is durable (as far as the engine was told to make it so) before its `done` runs;
 *  - `done` of writes runs in the order in which the writes took effect, so that what the callbacks announce
 *    is, for each key, in the order of its values;
 *  - a read sees every write whose `done` has run, and every write to its keys that was submitted before it;
 *  - a GET sees no write to its key that was submitted behind it before engine_flush. */
#ifndef HPKVFS_SERVER_ENGINE_H
#define HPKVFS_SERVER_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum engine_op {
	ENGINE_GET = 1, /* the numbers of the protocol */
	ENGINE_SET,
	ENGINE_PATCH,
	ENGINE_DELETE,
	ENGINE_RANGE,
	ENGINE_ATOMIC,
};

static inline bool engine_op_writes(enum engine_op op)
{
	return op != ENGINE_GET && op != ENGINE_RANGE;
}

/* One record of a range: slices of the request's `records_data`, by offset, since that may still move. */
struct engine_record {
	size_t key_offset, key_len;
	size_t value_offset, value_len;
	bool number;
};

/* A request, in the caller's storage from engine_submit until `done`. Strings are the request's own;
 * engine_request_deinit frees them all. */
struct engine_request {
	enum engine_op op;
	struct buf key;
	struct buf end_key; /* range */
	struct buf value;   /* set, patch; atomic: the increment's JSON text */
	bool number;        /* value is a JSON number's text, to be given back as a number */
	unsigned limit;     /* range: most records */
	/* range: where not NULL, records whose key it refuses are left out. Called on the engine's threads. */
	bool (*visible)(void *arg, struct str key);
	void *visible_arg;
	void (*done)(struct engine_request *request);

	/* The answer. */
	int code;          /* of the protocol: 200, 400, 404, 413, 500, 507 */
	const char *error; /* static text where code is not 200 */
	struct buf result; /* get: the value; set, patch, atomic: the new value */
	bool result_number;
	struct buf records_data; /* range */
	struct engine_record *records;
	size_t count, capacity;
	bool truncated;

	/* The engine's own. */
	struct engine_request *next;
	uint64_t sequence;
};

void engine_request_deinit(struct engine_request *request);

struct engine;
struct engine_ops {
	void (*submit)(struct engine *engine, struct engine_request *request);
	void (*flush)(struct engine *engine);
	uint64_t (*transactions)(const struct engine *engine);
	void (*free)(struct engine *engine);
};

struct engine {
	const struct engine_ops *ops;
};

/* Takes a request, which may wait for engine_flush. `done` runs later, never before this returns. */
static inline void engine_submit(struct engine *engine, struct engine_request *request)
{
	engine->ops->submit(engine, request);
}

/* Starts what was submitted: once for all the requests that came together. */
static inline void engine_flush(struct engine *engine)
{
	engine->ops->flush(engine);
}

/* How many commits there were: many writes may share one. */
static inline uint64_t engine_transactions(const struct engine *engine)
{
	return engine->ops->transactions(engine);
}

/* Every submitted request must be done. */
static inline void engine_free(struct engine *engine)
{
	if (engine)
		engine->ops->free(engine);
}

#endif
