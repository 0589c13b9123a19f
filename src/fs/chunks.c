#include "fs/chunks.h"

#include <errno.h>

#include "base/list.h"
#include "fs/base64.h"
#include "fs/internal.h"

/* Larger chunks would make small changes dear, and smaller ones large files. */
#define CHUNK_MOST (128u << 10)

/* So that a page that is written touches one chunk. */
#define CHUNK_STEP 4096

uint64_t chunk_size_for(size_t max_value)
{
	uint64_t most = max_value / 4 * 3;

	if (most >= CHUNK_MOST)
		return CHUNK_MOST;
	if (most > CHUNK_STEP)
		return most / CHUNK_STEP * CHUNK_STEP;
	return most ? most : 3;
}

/* --- the table --- */

static struct chunk_key key_of(const struct content_id *id, uint32_t index)
{
	struct chunk_key key = { .index = index };

	memcpy(key.id, id->hex, sizeof(key.id));
	return key;
}

static struct chunk *chunk_find(struct fs *fs, const struct content_id *id, uint32_t index)
{
	struct chunk_key key = key_of(id, index);
	struct chunk *chunk;

	HASH_FIND(hh, fs->chunks, &key, sizeof(key), chunk);
	return chunk;
}

static struct chunk *chunk_make(struct fs *fs, const struct content_id *id, uint32_t index)
{
	struct chunk *chunk = chunk_find(fs, id, index);

	if (chunk)
		return chunk;
	chunk = calloc(1, sizeof(*chunk));
	if (!chunk)
		return NULL;
	chunk->fs = fs;
	chunk->key = key_of(id, index);
	HASH_ADD(hh, fs->chunks, key, sizeof(chunk->key), chunk);
	if (!chunk->hh.tbl) {
		free(chunk);
		return NULL;
	}
	return chunk;
}

static void forget_bytes(struct chunk *chunk)
{
	struct fs *fs = chunk->fs;

	if (!chunk->loaded)
		return;
	DL_DELETE(fs->chunk_lru, chunk);
	fs->value_bytes -= chunk->bytes.capacity;
	fs->chunk_bytes -= chunk->bytes.capacity;
	buf_free(&chunk->bytes);
	chunk->loaded = false;
}

static void free_if_useless(struct chunk *chunk)
{
	struct fs *fs = chunk->fs;

	if (chunk->users || chunk->asked || chunk->loaded)
		return;
	HASH_DEL(fs->chunks, chunk);
	free(chunk);
}

static void take_bytes(struct chunk *chunk, struct buf *bytes)
{
	struct fs *fs = chunk->fs;

	forget_bytes(chunk);
	chunk->bytes = buf_take(bytes);
	chunk->loaded = true;
	DL_APPEND(fs->chunk_lru, chunk);
	fs->value_bytes += chunk->bytes.capacity;
	fs->chunk_bytes += chunk->bytes.capacity;
	chunk->users++; /* not this one, however full it is with values */
	cache_trim(fs, NULL);
	chunk->users--;
}

void chunks_trim(struct fs *fs)
{
	struct chunk *chunk, *next;

	DL_FOREACH_SAFE(fs->chunk_lru, chunk, next) {
		if (fs->value_bytes <= fs->config.cache_size && fs->chunk_bytes <= fs->config.cache_size / 2)
			return;
		if (chunk->users)
			continue;
		forget_bytes(chunk);
		free_if_useless(chunk);
	}
}

void chunks_free(struct fs *fs)
{
	struct chunk *chunk, *next;

	HASH_ITER(hh, fs->chunks, chunk, next) {
		HASH_DEL(fs->chunks, chunk);
		buf_free(&chunk->bytes);
		free(chunk);
	}
	fs->chunk_lru = NULL;
}

/* --- asking --- */

static int chunk_key_text(struct fs *fs, const char *id, uint32_t index, struct buf *key)
{
	return layout_key(&fs->layout, key, "c/%s/%08x", id, index);
}

static void answered(void *arg, const struct store_reply *reply);

static int ask(struct chunk *chunk)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	struct fs *fs = chunk->fs;
	struct store_request get = { .op = STORE_GET };
	int r = chunk_key_text(fs, chunk->key.id, chunk->key.index, &key);

	get.key = buf_str(&key);
	if (r == 0)
		r = fs->store->ops->submit(fs->store, &get, answered, chunk);
	if (r < 0)
		return r;
	chunk->asked = true;
	chunk->again = false;
	fs->background++;
	return 0;
}

static void answered(void *arg, const struct store_reply *reply)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct chunk *chunk = arg;
	struct fs *fs = chunk->fs;

	chunk->asked = false;
	chunk->err = reply->err;
	if (chunk->again && !chunk->loaded && chunk->users) {
		chunk->err = ask(chunk);
		if (chunk->err == 0) {
			fs_background_end(fs);
			return;
		}
	}
	if (!chunk->loaded && !chunk->again && chunk->err == 0) {
		chunk->err = base64_decode(reply->value, &bytes);
		if (chunk->err == -EINVAL)
			chunk->err = -EBADMSG;
		if (chunk->err == 0)
			take_bytes(chunk, &bytes);
	}
	co_queue_wake_all(&chunk->answered);
	free_if_useless(chunk);
	fs_background_end(fs);
}

int chunk_get(struct fs *fs, const struct content_id *id, uint32_t index, struct chunk **out)
{
	struct chunk *chunk = chunk_make(fs, id, index);
	int r = 0;

	if (!chunk)
		return -ENOMEM;
	fs_count(fs, FS_CONTENT, chunk->loaded || chunk->asked);
	if (chunk->loaded) {
		DL_DELETE(fs->chunk_lru, chunk);
		DL_APPEND(fs->chunk_lru, chunk);
	} else if (!chunk->asked) {
		r = ask(chunk);
	}
	if (r < 0) {
		free_if_useless(chunk);
		return r;
	}
	chunk->users++;
	*out = chunk;
	return 0;
}

void chunk_put(struct chunk *chunk)
{
	chunk->users--;
	free_if_useless(chunk);
}

int chunk_wait(struct chunk *chunk)
{
	while (!chunk->loaded && chunk->asked)
		queue_wait(&chunk->answered);
	return chunk->loaded ? 0 : chunk->err ? chunk->err : -EAGAIN;
}

/* --- changes --- */

void chunk_keep(struct fs *fs, const struct content_id *id, uint32_t index, struct buf *bytes)
{
	struct chunk *chunk = chunk_make(fs, id, index);

	if (!chunk)
		return; /* no memory: it is read again */
	take_bytes(chunk, bytes);
	if (chunk->asked)
		chunk->again = true;
	co_queue_wake_all(&chunk->answered);
}

static void drop(struct chunk *chunk)
{
	forget_bytes(chunk);
	if (chunk->asked)
		chunk->again = true;
	free_if_useless(chunk);
}

void chunk_drop(struct fs *fs, const struct content_id *id, uint32_t index)
{
	struct chunk *chunk = chunk_find(fs, id, index);

	if (chunk)
		drop(chunk);
}

void chunk_drop_all(struct fs *fs, const struct content_id *id)
{
	struct chunk *chunk, *next;

	HASH_ITER(hh, fs->chunks, chunk, next)
		if (memcmp(chunk->key.id, id->hex, CONTENT_ID_LEN) == 0)
			drop(chunk);
}

bool chunk_told(struct fs *fs, const struct content_id *id, uint32_t index, struct buf *bytes)
{
	struct chunk *chunk = chunk_find(fs, id, index);

	if (chunk && chunk->loaded && str_equal(buf_str(&chunk->bytes), buf_str(bytes)))
		return false;
	chunk_keep(fs, id, index, bytes);
	return true;
}

int chunk_send(struct fs *fs, const struct content_id *id, uint32_t index, struct str bytes)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	int r = chunk_key_text(fs, id->hex, index, &key);

	if (r == 0)
		r = base64_encode(bytes, &text);
	if (r < 0)
		return r;
	chunk_drop(fs, id, index);
	r = store_set(fs->store, buf_str(&key), buf_str(&text), (struct store_expect){ .what = STORE_EXPECT_ANY });
	chunk_drop(fs, id, index); /* asked for meanwhile */
	return r == -ENOENT ? -EIO : r;
}
