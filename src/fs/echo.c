#include "fs/echo.h"

#include <errno.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/json_depth.h"
#include "base/list.h"
#include "fs/content.h"

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
	bool deleted, own;
	struct buf last;
	int64_t time_ms;
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

static void key_free(struct echoes *echoes, struct echo_key *key)
{
	HASH_DEL(echoes->keys, key);
	buf_free(&key->last);
	free(key);
}

/* A reply that is still to come frees it. */
static void strike(struct passing *passing)
{
	DL_DELETE(passing->key->passing, passing);
	passing->key = NULL;
	if (!passing->replied)
		return;
	buf_free(&passing->text);
	free(passing);
}

static void settle(struct echoes *echoes, struct echo_key *key)
{
	struct told told = {
		.deleted = key->deleted, .value = buf_str(&key->last), .time_ms = key->time_ms, .own = key->own
	};

	if (key->passing)
		return;
	if (key->has_last)
		echoes->settled(echoes->arg, str_of(key->key, key->len), &told);
	key_free(echoes, key);
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
static int remember(struct echo_key *key, const struct told *told, bool own)
{
	key->has_last = true;
	key->own = own;
	buf_free(&key->last);
	key->deleted = told->deleted;
	key->time_ms = told->time_ms;
	return told->deleted ? 0 : buf_set(&key->last, told->value);
}

bool echoes_hear(struct echoes *echoes, struct str key, const struct told *told)
{
	struct echo_key *known = find(echoes, key);
	struct passing *passing;

	if (!known)
		return false;
	passing = find_echoed(known, told);
	if (remember(known, told, passing != NULL) < 0) {
		echoes->missing(echoes->arg);
		return true;
	}
	if (passing) {
		passing->told = true;
		echoes->matched++;
		if (passing->replied)
			strike(passing);
	}
	settle(echoes, known);
	return true;
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
			strike(passing);
		}
		settle(echoes, key);
	}
	if (more)
		watch(echoes);
	if (missing)
		echoes->missing(echoes->arg);
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
	struct echo_key *key = passing->key;
	bool unknown = reply->err == -ECONNRESET || reply->err == -ETIMEDOUT || reply->err == -EIO;

	passing->done(passing->arg, reply);
	passing->replied = true;
	if (!key) {
		buf_free(&passing->text);
		free(passing);
		return;
	}
	passing->unknown = unknown;
	passing->replied_us = clock_now_us();
	if (passing->told || (reply->err && !unknown)) {
		strike(passing);
		settle(echoes, key);
	} else {
		watch(echoes);
	}
}

static bool is_told_of(enum store_op op)
{
	return op == STORE_SET || op == STORE_PATCH || op == STORE_DELETE;
}

/* It would come over what is being sent, if that destroys it. */
static void recall(struct echoes *echoes, struct echo_key *key)
{
	struct told told;

	if (key->passing || !echoes->recall(echoes->arg, str_of(key->key, key->len), &key->last, &told))
		return;
	key->has_last = true;
	key->deleted = told.deleted;
	key->own = told.own;
	key->time_ms = told.time_ms;
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
	recall(echoes, key);
	passing->key = key;
	DL_APPEND(key->passing, passing);
	return 0;
}

static int submit(struct store *store, const struct store_request *request, store_done *done, void *arg)
{
	struct echoes *echoes = lws_container_of(store, struct echoes, store);
	struct store *below = echoes->below;
	struct passing *passing;
	struct echo_key *key;
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
	key = passing->key;
	passing->replied = true;
	if (!key) {
		buf_free(&passing->text);
		free(passing);
		return r;
	}
	strike(passing);
	settle(echoes, key);
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
}

void echoes_begin(struct echoes *echoes)
{
	echoes->on = true;
}

void echoes_end(struct echoes *echoes)
{
	struct echo_key *key, *next_key;
	struct passing *passing, *next;

	echoes->on = false;
	echoes->watching = false;
	loop_timer_cancel(&echoes->timer);
	HASH_ITER(hh, echoes->keys, key, next_key) {
		DL_FOREACH_SAFE(key->passing, passing, next)
			strike(passing);
		key_free(echoes, key);
	}
}
