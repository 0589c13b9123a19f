#include "fs/move.h"

#include <errno.h>

#include "base/hash.h"
#include "base/log.h"
#include "fs/ids.h"
#include "fs/walk.h"

/* How often a value that others change meanwhile is taken along. */
#define MOVE_FOLLOWS 8

/* Keys under way at once. */
#define MOVE_WINDOW 16

struct naming {
	const struct layout *layout;
	struct str from, to;
};

static co_fn int name_id(void *arg, const struct content_id *id, uint32_t chunk_count)
{
	const struct naming *naming = arg;

	(void)chunk_count;
	return id_name(naming->layout, id, naming->from, naming->to);
}

int move_name_ids(const struct layout *layout, struct str value, struct str from, struct str to)
{
	struct naming naming = { layout, from, to };

	return ids_in_value(value, name_id, &naming);
}

int move_delete(const struct layout *layout, struct str from, struct str to, struct buf *copied)
{
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	struct store *store = layout->store;

	for (int i = 0; i < MOVE_FOLLOWS; i++) {
		struct store_expect expect = store_expect_value(buf_str(copied));
		int r = store_get(store, from, &now);

		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return r;
		if (str_equal(buf_str(&now), buf_str(copied))) {
			r = store_delete(store, from, expect);
			return r == -ENOENT ? 0 : r;
		}
		r = move_name_ids(layout, buf_str(&now), from, to);
		if (r == 0)
			r = store_set(store, to, buf_str(&now), expect);
		if (r == 0)
			r = buf_set(copied, buf_str(&now));
		if (r < 0)
			return r;
	}
	return -EBUSY;
}

/* --- all keys, once to be set and once to be deleted --- */

/* A key that was dealt with in the first round. */
struct moved_key {
	UT_hash_handle hh;
	char hash[CONTENT_HASH_LEN + 1]; /* of the value that is at the new key now */
	bool kept;                       /* finishing: the new key holds another */
	size_t len;
	char key[];
};

struct mover {
	struct dir_move *move;
	struct intent *intent;
	struct str from, to; /* what is exchanged at the begin of the present keys */
	bool records;        /* the present keys are records */
	bool deleting;
	struct moved_key *moved;
	unsigned under_way;
	struct co_queue changed; /* under_way fell */
	int err;                 /* the first */
};

struct one_key {
	struct mover *mover;
	struct buf key, new_key, value;
	struct moved_key *moved; /* NULL: not there in the first round */
	bool same;               /* has the value that it had then */
};

static int new_key_of(const struct mover *mover, struct str key, struct buf *out)
{
	int r = buf_set(out, mover->to);

	if (r == 0)
		r = buf_add_str(out, str_skip(key, mover->from.len));
	if (r == 0 && out->len > mover->move->layout->rules->max_key)
		r = -ENAMETOOLONG;
	return r;
}

static void keep_both(struct one_key *one)
{
	struct dir_move *move = one->mover->move;

	if (one->moved) {
		if (one->moved->kept)
			return; /* was said in the first round */
		one->moved->kept = true;
	}
	move->kept++;
	log_warning("finishing a directory's renaming: keys %s and %s hold different values; both are kept", one->key.p,
		    one->new_key.p);
}

static co_fn int set_new(struct one_key *one)
{
	const struct layout *layout = one->mover->move->layout;
	int r = move_name_ids(layout, buf_str(&one->value), buf_str(&one->key), buf_str(&one->new_key));

	if (r == 0)
		r = intent_sure(one->mover->intent);
	if (r == 0)
		r = store_set(layout->store, buf_str(&one->new_key), buf_str(&one->value),
			      (struct store_expect){ .what = STORE_EXPECT_ABSENT });
	return r;
}

static co_fn int set_if_absent(struct one_key *one)
{
	CLEANUP(buf_free) struct buf there = BUF_INIT;
	int r = store_get(one->mover->move->layout->store, buf_str(&one->new_key), &there);

	if (r == -ENOENT)
		return set_new(one);
	if (r == 0 && !str_equal(buf_str(&there), buf_str(&one->value)))
		keep_both(one);
	return r;
}

/* Only what stands at the new key is deleted at the old one. */
static co_fn int delete_if_same(struct one_key *one)
{
	CLEANUP(buf_free) struct buf there = BUF_INIT;
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	struct store *store = one->mover->move->layout->store;
	int r = store_get(store, buf_str(&one->new_key), &there);

	if (r == -ENOENT)
		return 0; /* made, or its new name removed, since the first round: not this renaming's any more */
	if (r == 0)
		r = store_get(store, buf_str(&one->key), &now);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (!str_equal(buf_str(&there), buf_str(&now))) {
		keep_both(one);
		return 0;
	}
	r = store_delete(store, buf_str(&one->key), store_expect_value(buf_str(&now)));
	return r == -ENOENT ? 0 : r;
}

static co_fn int do_one(struct one_key *one)
{
	struct mover *mover = one->mover;
	int r = intent_sure(mover->intent);

	if (r < 0)
		return r;
	if (mover->move->finishing)
		return mover->deleting ? delete_if_same(one) : set_if_absent(one);
	if (!mover->deleting)
		return set_new(one);
	if (!one->same) {
		r = set_new(one);
		if (r < 0)
			return r;
	}
	return move_delete(mover->move->layout, buf_str(&one->key), buf_str(&one->new_key), &one->value);
}

static void one_free(struct one_key *one)
{
	buf_free(&one->key);
	buf_free(&one->new_key);
	buf_free(&one->value);
	free(one);
}

static void one_run(void *arg)
{
	struct one_key *one = arg;
	struct mover *mover = one->mover;
	int r = do_one(one);

	if (r < 0 && mover->err == 0)
		mover->err = r;
	one_free(one);
	mover->under_way--;
	co_queue_wake_all(&mover->changed);
}

/* The row of a key in the table, with this hash; in the second round only the one of the first. */
static int remember(struct one_key *one, const char *hash)
{
	struct mover *mover = one->mover;
	struct moved_key *moved;

	HASH_FIND(hh, mover->moved, one->key.p, one->key.len, moved);
	one->same = moved && strcmp(moved->hash, hash) == 0;
	one->moved = moved;
	if (moved || mover->deleting)
		return 0;
	moved = calloc(1, sizeof(*moved) + one->key.len);
	if (!moved)
		return -ENOMEM;
	moved->len = one->key.len;
	memcpy(moved->key, one->key.p, one->key.len);
	memcpy(moved->hash, hash, sizeof(moved->hash));
	HASH_ADD_KEYPTR(hh, mover->moved, moved->key, moved->len, moved);
	if (!moved->hh.tbl) {
		free(moved);
		return -ENOMEM;
	}
	one->moved = moved;
	return 0;
}

static int one_new(struct mover *mover, struct str key, struct str value, struct one_key **out)
{
	struct one_key *one = calloc(1, sizeof(*one));
	char hash[CONTENT_HASH_LEN + 1];
	int r = one ? content_hash(value, hash) : -ENOMEM;

	if (r == 0) {
		one->mover = mover;
		r = new_key_of(mover, key, &one->new_key);
	}
	if (r == 0)
		r = buf_set(&one->key, key);
	if (r == 0)
		r = buf_set(&one->value, value);
	if (r == 0)
		r = remember(one, hash);
	if (r == 0)
		*out = one;
	else if (one)
		one_free(one);
	return r;
}

/* With the delimiter `.` the reserved keys lie in a directory. */
static bool is_foreign(const struct mover *mover, struct str key)
{
	return !mover->records && names_key_is_reserved(mover->move->layout->rules, key);
}

static bool is_stopped(const struct mover *mover)
{
	const bool *stop = mover->intent->journal->stop;

	return mover->move->finishing && stop && *stop;
}

static co_fn void wait_for_less(struct mover *mover, unsigned most)
{
	bool former = co_uninterruptible(true);

	while (mover->under_way > most)
		if (co_queue_wait(&mover->changed) < 0)
			break; /* cannot be: interruptions are off */
	co_uninterruptible(former);
}

static co_fn int visit_moving(void *arg, struct str key, struct str value)
{
	struct mover *mover = arg;
	struct one_key *one = NULL;
	int r;

	if (is_foreign(mover, key))
		return 0;
	wait_for_less(mover, MOVE_WINDOW - 1);
	if (mover->err)
		return mover->err;
	if (is_stopped(mover))
		return -ECANCELED;
	r = one_new(mover, key, value, &one);
	if (r < 0)
		return r;
	mover->under_way++;
	if (co_start(mover->move->layout->loop, one_run, one) < 0)
		one_run(one);
	return 0;
}

/* --- the four parts of a directory --- */

static co_fn int walk_part(struct mover *mover, struct str from, struct str to, walk_visit *visit)
{
	int r;

	mover->from = from;
	mover->to = to;
	r = walk_all(mover->move->layout, from, visit, mover);
	wait_for_less(mover, 0);
	return r < 0 ? r : mover->err;
}

/* The key of the directory's own name, `a` beside `a/b`, or its record. */
static co_fn int visit_own(struct mover *mover, struct str from, struct str to, walk_visit *visit)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	const struct dir_move *move = mover->move;
	size_t root = move->layout->rules->prefix.len;
	int r;

	if (move->from.len - 1 <= root || move->to.len - 1 <= root)
		return 0; /* a segment that is empty, in the root: there is no such key */
	mover->from = str_of(from.p, from.len - 1);
	mover->to = str_of(to.p, to.len - 1);
	r = store_get(move->layout->store, mover->from, &value);
	if (r == 0)
		r = visit(mover, mover->from, buf_str(&value));
	wait_for_less(mover, 0);
	if (r == 0)
		r = mover->err;
	return r == -ENOENT ? 0 : r;
}

static co_fn int walk_records(struct mover *mover, walk_visit *visit)
{
	int r;

	mover->records = true;
	r = walk_part(mover, mover->move->from_record, mover->move->to_record, visit);

	return r < 0 ? r : visit_own(mover, mover->move->from_record, mover->move->to_record, visit);
}

static co_fn int walk_values(struct mover *mover, walk_visit *visit)
{
	int r;

	mover->records = false;
	r = visit_own(mover, mover->move->from, mover->move->to, visit);

	return r < 0 ? r : walk_part(mover, mover->move->from, mover->move->to, visit);
}

static void moved_free(struct mover *mover)
{
	struct moved_key *moved, *next;

	HASH_ITER(hh, mover->moved, moved, next) {
		HASH_DEL(mover->moved, moved);
		free(moved);
	}
}

/* Records first, so that nothing is readable at the new name that was not at the old. */
int move_keys(struct dir_move *move, struct intent *intent)
{
	struct mover mover = { .move = move, .intent = intent };
	int r = walk_records(&mover, visit_moving);

	if (r == 0)
		r = walk_values(&mover, visit_moving);
	mover.deleting = true;
	if (r == 0)
		r = walk_values(&mover, visit_moving);
	if (r == 0)
		r = walk_records(&mover, visit_moving);
	moved_free(&mover);
	return r;
}

/* --- before the first write --- */

struct measuring {
	struct mover mover;
	struct move_size size;
};

static int count_id(void *arg, const struct content_id *id, uint32_t chunk_count)
{
	struct move_size *size = arg;

	(void)id;
	(void)chunk_count;
	size->ids++;
	return 0;
}

static int visit_measuring(void *arg, struct str key, struct str value)
{
	CLEANUP(buf_free) struct buf new_key = BUF_INIT;
	struct measuring *measuring = lws_container_of(arg, struct measuring, mover);
	int r;

	if (is_foreign(&measuring->mover, key))
		return 0;
	r = new_key_of(&measuring->mover, key, &new_key);
	if (r == 0)
		r = ids_in_value(value, count_id, &measuring->size);
	measuring->size.keys++;
	return r;
}

int move_measure(const struct dir_move *move, struct move_size *size)
{
	struct dir_move copy = *move;
	struct measuring measuring = { .mover = { .move = &copy } };
	int r = walk_records(&measuring.mover, visit_measuring);

	if (r == 0)
		r = walk_values(&measuring.mover, visit_measuring);
	if (r == 0)
		*size = measuring.size;
	return r;
}

/* A SET, a GET and a DELETE of each key, and a PATCH for each id; pages are few beside that. */
uint64_t move_requests(const struct move_size *size)
{
	return 3 * size->keys + size->ids;
}
