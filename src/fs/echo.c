#include "fs/echo.h"

#include <errno.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/json_depth.h"
#include "base/list.h"
#include "fs/content.h"

/* More that waits is not kept. */
#define READY_MOST 10000
#define BYTES_MOST (32u * 1024 * 1024)

/* The parser goes down by recursion; what nests deeper is told from its text alone. */
#define MAX_NESTING 64

/* A request that goes through. */
struct passing {
	struct passing *prev, *next; /* in its key's list, in the order of sending */
	struct echoes *echoes;
	struct echo_key *key; /* NULL: not written down any more */
	enum store_op op;
	char hash[CONTENT_HASH_LEN + 1]; /* SET */
	struct buf text;                 /* PATCH */
	bool replied, told;
	bool unknown; /* nobody knows whether it arrived: its echo need not come */
	uint64_t replied_us;
	store_done *done;
	void *arg;
};

struct echo_key {
	UT_hash_handle hh;
	struct passing *passing;
	bool has_last;
	struct told told; /* last; its value is in `last` */
	struct buf last;
	size_t len;
	char key[];
};

/* --- the table --- */

static struct echo_key *find(const struct echoes *echoes, struct str key)
{
	struct echo_key *found;

	HASH_FIND(hh, echoes->keys, key.p, key.len, found);
	return found;
}

static struct echo_key *make(struct echoes *echoes, struct str key)
{
	struct echo_key *made = find(echoes, key);

	if (made)
		return made;
	made = calloc(1, sizeof(*made) + key.len);
	if (!made)
		return NULL;
	made->len = key.len;
	memcpy(made->key, key.p, key.len);
	HASH_ADD_KEYPTR(hh, echoes->keys, made->key, made->len, made);
	if (made->hh.tbl)
		return made;
	free(made);
	return NULL;
}

static bool is_ready(const struct echo_key *key)
{
	return key->has_last && !key->passing;
}

static void key_free(struct echoes *echoes, struct echo_key *key)
{
	HASH_DEL(echoes->keys, key);
	echoes->bytes -= key->last.capacity;
	buf_free(&key->last);
	free(key);
}

static void passing_free(struct passing *passing)
{
	buf_free(&passing->text);
	free(passing);
}

static void remove_passing(struct passing *passing)
{
	DL_DELETE(passing->key->passing, passing);
	passing->key = NULL;
	/* else the reply that is still to come frees it */
	if (passing->replied)
		passing_free(passing);
}

/* Not applied at once: who has sent it has not been told yet. */
static void strike(struct echoes *echoes, struct passing *passing)
{
	struct echo_key *key = passing->key;

	remove_passing(passing);
	if (key->passing)
		return;
	if (!key->has_last) {
		key_free(echoes, key);
		return;
	}
	echoes->ready++;
	echoes_go_on(echoes);
}

/* --- what is told --- */

/* True where the patch would change nothing of it. */
static bool holds_patch(const json_t *value, const json_t *patch)
{
	const char *name;
	json_t *member;

	if (!json_is_object(patch))
		return json_equal(value, patch);
	if (!json_is_object(value))
		return false;
	json_object_foreach((json_t *)patch, name, member) {
		const json_t *present = json_object_get(value, name);

		/* where nothing was there before, the patch is the value, nulls and all */
		if (json_is_null(member) ? present && !json_is_null(present)
					 : !present || !holds_patch(present, member))
			return false;
	}
	return true;
}

static json_t *parse(struct str text)
{
	if (text.len == 0 || text.p[0] != '{' || json_nests_deeper(text, MAX_NESTING))
		return NULL;
	return json_loadb(text.p, text.len, 0, NULL);
}

static bool is_patched(struct str value, struct str text)
{
	json_t *patch = parse(text), *now = patch ? parse(value) : NULL;
	bool is;

	if (patch && now)
		is = holds_patch(now, patch);
	else
		is = value.len >= text.len && str_equal(str_skip(value, value.len - text.len), text);
	json_decref(patch);
	json_decref(now);
	return is;
}

static bool is_echo(const struct passing *passing, const struct told *told, const char *hash)
{
	if (passing->told)
		return false;
	if (passing->op == STORE_DELETE)
		return told->deleted;
	if (told->deleted)
		return false;
	return passing->op == STORE_SET ? strcmp(passing->hash, hash) == 0
					: is_patched(told->value, buf_str(&passing->text));
}

static struct passing *find_echoed(const struct echo_key *key, const struct told *told)
{
	char hash[CONTENT_HASH_LEN + 1] = "";
	struct passing *passing;

	if (!told->deleted && content_hash(told->value, hash) < 0)
		return NULL;
	DL_FOREACH(key->passing, passing)
		if (is_echo(passing, told, hash))
			return passing;
	return NULL;
}

/* What was told before it was destroyed by what is told now. */
static int keep(struct echoes *echoes, struct echo_key *key, const struct told *told, bool own)
{
	int r;

	echoes->ready -= is_ready(key);
	echoes->bytes -= key->last.capacity;
	key->told = *told;
	key->told.own = own;
	key->has_last = true;
	buf_free(&key->last);
	r = told->deleted ? 0 : buf_set(&key->last, told->value);
	key->told.value = buf_str(&key->last);
	echoes->bytes += key->last.capacity;
	echoes->ready += is_ready(key);
	return r == 0 && (echoes->ready > READY_MOST || echoes->bytes > BYTES_MOST) ? -ENOMEM : r;
}

/* 0: it is to be kept. 1: it was applied. */
static int apply_now(struct echoes *echoes, struct str key, const struct told *told)
{
	int r = echoes->apply(echoes->arg, key, told);

	return r == -EAGAIN ? 0 : r == 0 ? 1 : r;
}

void echoes_hear(struct echoes *echoes, struct str name, const struct told *told)
{
	struct echo_key *key;
	struct passing *passing;
	int r;

	if (!echoes->on)
		return;
	r = find(echoes, name) ? 0 : apply_now(echoes, name, told);
	if (r > 0)
		return;
	key = r == 0 ? make(echoes, name) : NULL;
	if (!key) {
		echoes_overflow(echoes);
		return;
	}
	passing = find_echoed(key, told);
	if (keep(echoes, key, told, passing != NULL) < 0)
		echoes_overflow(echoes);
	if (!passing)
		return;
	passing->told = true;
	if (passing->replied)
		strike(echoes, passing);
}

static void apply_ready(struct loop_task *task)
{
	struct echoes *echoes = lws_container_of(task, struct echoes, task);
	struct echo_key *key, *next;

	if (echoes->full) {
		echoes->full = false;
		echoes->lost(echoes->arg, "more changes are told than can be kept: everything is asked for again");
		return;
	}
	HASH_ITER(hh, echoes->keys, key, next) {
		int r = is_ready(key) ? apply_now(echoes, str_of(key->key, key->len), &key->told) : 0;

		if (r == 0)
			continue;
		echoes->ready--;
		key_free(echoes, key);
		if (r < 0)
			echoes_overflow(echoes);
	}
}

void echoes_go_on(struct echoes *echoes)
{
	if (echoes->ready)
		loop_defer(echoes->loop, &echoes->task);
}

void echoes_overflow(struct echoes *echoes)
{
	echoes->full = true;
	loop_defer(echoes->loop, &echoes->task);
}

/* --- what does not come --- */

static void watch(struct echoes *echoes);

static void look_for_missing(struct loop_timer *timer)
{
	struct echoes *echoes = lws_container_of(timer, struct echoes, timer);
	uint64_t now = clock_now_us();
	struct echo_key *key, *next_key;
	struct passing *passing, *next;
	bool missing = false, more = false;

	echoes->watching = false;
	HASH_ITER(hh, echoes->keys, key, next_key) {
		DL_FOREACH_SAFE(key->passing, passing, next) {
			if (!passing->replied)
				continue;
			if (now - passing->replied_us < ECHO_WAIT_US) {
				more = true;
				continue;
			}
			missing |= !passing->unknown;
			strike(echoes, passing); /* the last takes the key along */
		}
	}
	if (more)
		watch(echoes);
	if (missing)
		echoes->lost(echoes->arg, "a change was not announced by the server: the subscription is made anew");
}

static void watch(struct echoes *echoes)
{
	if (!echoes->watching)
		loop_timer_set(echoes->loop, &echoes->timer, ECHO_WAIT_US, look_for_missing);
	echoes->watching = true;
}

/* --- what is sent --- */

static void replied(void *arg, const struct store_reply *reply)
{
	struct passing *passing = arg;
	struct echoes *echoes = passing->echoes;
	bool unknown = reply->err == -ECONNRESET || reply->err == -ETIMEDOUT || reply->err == -EIO;

	passing->done(passing->arg, reply);
	passing->replied = true;
	if (!passing->key) {
		passing_free(passing);
		return;
	}
	passing->unknown = unknown;
	passing->replied_us = clock_now_us();
	if (passing->told || (reply->err && !unknown))
		strike(echoes, passing);
	else
		watch(echoes);
}

static bool is_told_of(enum store_op op)
{
	return op == STORE_SET || op == STORE_PATCH || op == STORE_DELETE;
}

static int write_down(struct echoes *echoes, const struct store_request *request, struct passing *passing)
{
	struct echo_key *key;
	int r = 0;

	passing->op = request->op;
	passing->echoes = echoes;
	if (request->op == STORE_SET)
		r = content_hash(request->value, passing->hash);
	else if (request->op == STORE_PATCH)
		r = buf_set(&passing->text, request->value);
	key = r == 0 ? make(echoes, request->key) : NULL;
	if (!key)
		return -ENOMEM;
	echoes->ready -= is_ready(key); /* what is being sent may destroy it */
	passing->key = key;
	DL_APPEND(key->passing, passing);
	return 0;
}

static int submit(struct store *store, const struct store_request *request, store_done *done, void *arg)
{
	struct echoes *echoes = lws_container_of(store, struct echoes, store);
	struct store *below = echoes->below;
	struct passing *passing;
	int r;

	if (!echoes->on || !is_told_of(request->op))
		return below->ops->submit(below, request, done, arg);
	passing = calloc(1, sizeof(*passing));
	if (!passing)
		return -ENOMEM;
	passing->done = done;
	passing->arg = arg;
	r = write_down(echoes, request, passing);
	if (r == 0)
		r = below->ops->submit(below, request, replied, passing);
	if (r == 0)
		return 0;
	passing->replied = true;
	if (passing->key)
		strike(echoes, passing);
	else
		passing_free(passing);
	return r;
}

static double rate(struct store *store)
{
	return store_rate(lws_container_of(store, struct echoes, store)->below);
}

static const struct store_ops echo_ops = {
	.submit = submit,
	.rate = rate,
};

/* --- life --- */

void echoes_init(struct echoes *echoes, struct store *below, struct loop *loop)
{
	echoes->store.ops = &echo_ops;
	echoes->below = below;
	echoes->loop = loop;
	echoes->task.fn = apply_ready;
}

void echoes_begin(struct echoes *echoes)
{
	echoes->on = true;
}

void echoes_end(struct echoes *echoes)
{
	struct echo_key *key, *next_key;
	struct passing *passing, *next;

	echoes->on = echoes->watching = echoes->full = false;
	echoes->ready = 0;
	loop_timer_cancel(&echoes->timer);
	HASH_ITER(hh, echoes->keys, key, next_key) {
		DL_FOREACH_SAFE(key->passing, passing, next)
			remove_passing(passing);
		key_free(echoes, key);
	}
}

void echoes_free(struct echoes *echoes)
{
	echoes_end(echoes);
	while (echoes->task.queued)
		loop_once(echoes->loop);
}
