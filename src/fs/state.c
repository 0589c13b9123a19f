#include "fs/state.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "base/list.h"
#include "base/log.h"
#include "base/tree.h"
#include "fs/state_file.h"

/* Two halves share a queue. The owner's thread has the rows, in a tree ordered by key (directories are moved as ranges) and
 * in a list ordered by last change (the oldest go first); it never waits for anything but the queue's lock. The worker has
 * the file; it takes the whole queue at once, some time after the first change came in, and writes it as one transaction.
 * A change of a key that still waits in the queue is changed in place, so that a file that is written again and again
 * costs one entry. */

#define WRITE_DELAY_NS 500000000L
#define NS_PER_S 1000000000L

/* A last change of a key that the file does not have yet. */
struct change {
	struct change *prev, *next;
	bool removed;
	struct state_row data;
	struct str key; /* stands behind the struct */
};

struct row {
	RB_ENTRY(row) by_key;
	struct row *prev, *next;
	struct state_row data;
	struct change *waiting; /* valid while `batch` is the state's: the worker has not taken it */
	uint64_t batch;
	struct str key; /* stands behind the struct */
};

RB_HEAD(row_tree, row);

struct state {
	struct row_tree rows;
	struct row *by_age; /* the head is the oldest */
	size_t row_count;
	size_t max_rows;

	/* Worker only, after it has started. */
	const char *path;
	struct str url, prefix;
	struct state_file *file;

	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under lock: */
	struct change *queue;
	size_t queue_length;
	uint64_t batch;
	bool ready, closing, stored, full;
};

static int compare_rows(const struct row *a, const struct row *b)
{
	return str_compare(a->key, b->key);
}

RB_GENERATE_STATIC(row_tree, row, by_key, compare_rows)

static struct row *find_row(const struct state *state, struct str key)
{
	struct row probe = { .key = key };

	/* The tree's macros do not know const; finding changes nothing. */
	return RB_FIND(row_tree, (struct row_tree *)&state->rows, &probe);
}

/* --- the queue --- */

/* The queue is bounded: where the file stays locked for long, the newest changes are lost to it. */
static void enqueue(struct state *state, struct change *change)
{
	if (state->queue_length >= 2 * state->max_rows) {
		if (!state->full)
			log_warning("state file %s: too many changes wait, some are not kept", state->path);
		state->full = true;
		free(change);
		return;
	}
	DL_APPEND(state->queue, change);
	if (state->queue_length++ == 0)
		pthread_cond_signal(&state->changed);
}

static struct change *new_change(struct str key)
{
	struct change *change = malloc(sizeof(*change) + key.len);

	if (!change)
		return NULL;
	*change = (struct change){ .key = str_of((char *)(change + 1), key.len) };
	if (key.len)
		memcpy(change + 1, key.p, key.len);
	return change;
}

/* Lets the file follow the row; `removed` if it is about to be freed. Lack of memory loses the change. */
static void note_change(struct state *state, struct row *row, bool removed)
{
	pthread_mutex_lock(&state->lock);
	if (!state->stored)
		goto out;
	if (!row->waiting || row->batch != state->batch) {
		struct change *change = new_change(row->key);

		if (!change)
			goto out;
		change->data = row->data;
		change->removed = removed;
		row->waiting = state->queue_length < 2 * state->max_rows ? change : NULL;
		row->batch = state->batch;
		enqueue(state, change);
	} else {
		row->waiting->data = row->data;
		row->waiting->removed = removed;
	}
out:
	pthread_mutex_unlock(&state->lock);
}

static void free_changes(struct change *queue)
{
	struct change *change, *next;

	DL_FOREACH_SAFE(queue, change, next)
		free(change);
}

/* --- rows --- */

static struct row *new_row(struct state *state, struct str key)
{
	struct row *row = calloc(1, sizeof(*row) + key.len);

	if (!row)
		return NULL;
	if (key.len)
		memcpy(row + 1, key.p, key.len);
	row->key = str_of((char *)(row + 1), key.len);
	RB_INSERT(row_tree, &state->rows, row);
	DL_APPEND(state->by_age, row);
	state->row_count++;
	return row;
}

/* Takes a row out of memory. */
static void free_row(struct state *state, struct row *row)
{
	RB_REMOVE(row_tree, &state->rows, row);
	DL_DELETE(state->by_age, row);
	state->row_count--;
	free(row);
}

static void drop_row(struct state *state, struct row *row)
{
	note_change(state, row, true);
	free_row(state, row);
}

/* The row of the key, made if there is none, now the newest. NULL for lack of memory. */
static struct row *touch_row(struct state *state, struct str key)
{
	struct row *row = find_row(state, key);

	if (row) {
		DL_DELETE(state->by_age, row);
		DL_APPEND(state->by_age, row);
		return row;
	}
	if (state->row_count >= state->max_rows)
		drop_row(state, state->by_age);
	return new_row(state, key);
}

bool state_get(const struct state *state, struct str key, struct state_row *row)
{
	const struct row *found = find_row(state, key);

	if (found)
		*row = found->data;
	return found;
}

bool state_find(const struct state *state, struct str key, const char *hash, int64_t *mtime_ns)
{
	const struct row *row = find_row(state, key);

	if (!row || !row->data.has_mtime || strcmp(row->data.hash, hash) != 0)
		return false;
	*mtime_ns = row->data.mtime_ns;
	return true;
}

void state_put(struct state *state, struct str key, const char *hash, int64_t mtime_ns)
{
	struct row *row = find_row(state, key);

	if (row && row->data.has_mtime && row->data.mtime_ns == mtime_ns && strcmp(row->data.hash, hash) == 0)
		return;
	row = touch_row(state, key);
	if (!row)
		return;
	row->data.has_mtime = true;
	row->data.mtime_ns = mtime_ns;
	strncpy(row->data.hash, hash, CONTENT_HASH_LEN);
	note_change(state, row, false);
}

void state_put_ino(struct state *state, struct str key, uint64_t ino)
{
	struct row *row = find_row(state, key);

	if (row ? row->data.ino == ino : ino == 0)
		return;
	row = touch_row(state, key);
	if (!row)
		return;
	row->data.ino = ino;
	note_change(state, row, false);
}

void state_remove(struct state *state, struct str key)
{
	struct row *row = find_row(state, key);

	if (row)
		drop_row(state, row);
}

/* Gives the row another key; what was there is replaced. `row` is gone afterwards. */
static void move_row(struct state *state, struct row *row, struct str to)
{
	struct state_row data = row->data;
	struct row *moved;

	drop_row(state, row);
	moved = touch_row(state, to);
	if (!moved)
		return;
	moved->data = data;
	note_change(state, moved, false);
}

void state_rename(struct state *state, struct str from, struct str to)
{
	struct row *row = find_row(state, from);

	if (str_equal(from, to))
		return;
	if (row)
		move_row(state, row, to);
	else
		state_remove(state, to);
}

/* The first row whose key begins with `prefix`, or NULL. */
static struct row *first_below(struct state *state, struct str prefix)
{
	struct row probe = { .key = prefix };
	struct row *row = RB_NFIND(row_tree, &state->rows, &probe);

	return row && str_starts(row->key, prefix) ? row : NULL;
}

void state_rename_prefix(struct state *state, struct str from, struct str to)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	struct row *row;

	if (str_starts(from, to) || str_starts(to, from))
		return;
	while ((row = first_below(state, to)))
		drop_row(state, row);
	while ((row = first_below(state, from))) {
		buf_clear(&key);
		if (buf_add_str(&key, to) == 0 && buf_add_str(&key, str_skip(row->key, from.len)) == 0)
			move_row(state, row, buf_str(&key));
		else
			drop_row(state, row);
	}
}

/* --- the worker --- */

static int write_changes(struct state_file *file, struct change *queue)
{
	struct change *change;
	int rc = state_file_begin(file);

	if (rc < 0)
		return rc;
	DL_FOREACH(queue, change) {
		rc = change->removed ? state_file_remove(file, change->key)
				     : state_file_put(file, change->key, &change->data);
		if (rc < 0)
			break;
	}
	if (rc == 0)
		rc = state_file_commit(file);
	if (rc < 0)
		state_file_rollback(file);
	return rc;
}

/* Keeps the file as it is and lets the mount go on in memory. Holds the lock. */
static void give_up(struct state *state, int rc)
{
	const char *why = rc == -EBUSY             ? "locked by another process"
			  : rc == -EPROTONOSUPPORT ? "made by a newer version"
						   : strerror(-rc);

	log_warning("state file %s: %s; times are remembered in memory only", state->path, why);
	state->stored = false;
	free_changes(state->queue);
	state->queue = NULL;
	state->queue_length = 0;
}

/* Writes what waits. Called with the lock, which it drops meanwhile. */
static void write_queue(struct state *state)
{
	struct change *taken = state->queue;
	size_t length = state->queue_length;
	bool last_try = state->closing;
	int rc;

	state->queue = NULL;
	state->queue_length = 0;
	state->batch++;
	pthread_mutex_unlock(&state->lock);
	rc = write_changes(state->file, taken);
	pthread_mutex_lock(&state->lock);
	if (rc == -EBUSY && !last_try) {
		/* What came in meanwhile stays behind it. */
		DL_CONCAT(taken, state->queue);
		state->queue = taken;
		state->queue_length += length;
		return;
	}
	free_changes(taken);
	if (rc < 0)
		give_up(state, rc);
}

/* Lets more changes come in, so that they share the transaction. Holds the lock. */
static void wait_for_more(struct state *state)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += WRITE_DELAY_NS;
	if (until.tv_nsec >= NS_PER_S) {
		until.tv_nsec -= NS_PER_S;
		until.tv_sec++;
	}
	while (!state->closing && pthread_cond_timedwait(&state->changed, &state->lock, &until) == 0)
		;
}

static int add_loaded(void *arg, struct str key, const struct state_row *data)
{
	struct state *state = arg;
	struct row *row = new_row(state, key);

	if (!row)
		return -ENOMEM;
	/* They come the latest first. */
	DL_DELETE(state->by_age, row);
	DL_PREPEND(state->by_age, row);
	row->data = *data;
	return 0;
}

static void free_rows(struct state *state)
{
	struct row *row, *next;

	RB_FOREACH_SAFE(row, row_tree, &state->rows, next)
		free_row(state, row);
}

/* Opens the file and takes the rows into memory. */
static int load_file(struct state *state)
{
	int rc = state_file_open(state->path, state->url, state->prefix, &state->file);

	if (rc < 0)
		return rc;
	rc = state_file_load(state->file, state->max_rows, add_loaded, state);
	if (rc == 0)
		return 0;
	if (rc == -EBADMSG) {
		free_rows(state);
		rc = state_file_set_aside(STEAL(state->file), state->path);
		return rc < 0 ? rc : state_file_open(state->path, state->url, state->prefix, &state->file);
	}
	state_file_close(STEAL(state->file));
	return rc;
}

static void open_file(struct state *state)
{
	int rc = load_file(state);

	pthread_mutex_lock(&state->lock);
	state->stored = true;
	if (rc < 0)
		give_up(state, rc);
	state->ready = true;
	pthread_cond_signal(&state->changed);
	pthread_mutex_unlock(&state->lock);
}

static void *work(void *arg)
{
	struct state *state = arg;

	open_file(state);
	pthread_mutex_lock(&state->lock);
	while (state->stored && !(state->closing && !state->queue)) {
		if (!state->queue) {
			pthread_cond_wait(&state->changed, &state->lock);
			continue;
		}
		wait_for_more(state);
		write_queue(state);
	}
	pthread_mutex_unlock(&state->lock);
	state_file_close(state->file);
	return NULL;
}

/* Starts the worker with all signals blocked: they are the loop's. */
static int start_worker(struct state *state)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&state->thread, NULL, work, state);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return -EAGAIN;
	state->has_thread = true;
	pthread_mutex_lock(&state->lock);
	while (!state->ready)
		pthread_cond_wait(&state->changed, &state->lock);
	pthread_mutex_unlock(&state->lock);
	return 0;
}

static void init_lock(struct state *state)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&state->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&state->lock, NULL);
}

int state_open(const struct state_config *config, struct state **out)
{
	size_t path_len = config->path ? strlen(config->path) + 1 : 0;
	struct state *state = calloc(1, sizeof(*state) + path_len + config->url.len + config->prefix.len);
	int rc = 0;

	if (!state)
		return -ENOMEM;
	init_lock(state);
	RB_INIT(&state->rows);
	state->max_rows = config->max_rows ? config->max_rows : STATE_MAX_ROWS;
	state->batch = 1;
	if (config->path) {
		char *strings = (char *)(state + 1);

		state->path = memcpy(strings, config->path, path_len);
		state->url = str_of(memcpy(strings + path_len, config->url.p, config->url.len), config->url.len);
		state->prefix = str_of(strings + path_len + config->url.len, config->prefix.len);
		if (config->prefix.len)
			memcpy(strings + path_len + config->url.len, config->prefix.p, config->prefix.len);
		rc = start_worker(state);
	}
	if (rc < 0) {
		state_close(state);
		return rc;
	}
	*out = state;
	return 0;
}

void state_close(struct state *state)
{
	if (!state)
		return;
	if (state->has_thread) {
		pthread_mutex_lock(&state->lock);
		state->closing = true;
		pthread_cond_signal(&state->changed);
		pthread_mutex_unlock(&state->lock);
		pthread_join(state->thread, NULL);
	}
	free_changes(state->queue);
	free_rows(state);
	pthread_cond_destroy(&state->changed);
	pthread_mutex_destroy(&state->lock);
	free(state);
}

bool state_is_stored(const struct state *state)
{
	struct state *unlocked = (struct state *)state;
	bool stored;

	pthread_mutex_lock(&unlocked->lock);
	stored = unlocked->stored;
	pthread_mutex_unlock(&unlocked->lock);
	return stored;
}
