/* Chunks in memory: fetched once for all who want them, kept while there is room, and sent. */
#ifndef HPKVFS_FS_CHUNKS_H
#define HPKVFS_FS_CHUNKS_H

#include "base/coroutine.h"
#include "base/hash.h"
#include "fs/content.h"
#include "fs/store.h"

/* Requests for chunks of one file, or of one change, that are under way at once. */
#define CHUNK_WINDOW 32

struct fs;

struct chunk_key {
	char id[CONTENT_ID_LEN + 1];
	uint32_t index;
};

struct chunk {
	UT_hash_handle hh;
	struct chunk *prev, *next; /* while loaded; head: longest unused */
	struct fs *fs;
	struct chunk_key key;
	unsigned users;
	bool asked;  /* a GET is under way */
	bool again;  /* it was asked before the chunk was changed: its answer is no use */
	bool loaded; /* bytes are there */
	int err;     /* how the last GET ended */
	struct buf bytes;
	struct co_queue answered;
};

/* The bytes of content that a chunk of a new id holds. */
uint64_t chunk_size_for(size_t max_value);

/* A chunk, asked for if it is neither there nor under way; *out is to be given back. -ENOMEM. */
CHECKED int chunk_get(struct fs *fs, const struct content_id *id, uint32_t index, struct chunk **out);
void chunk_put(struct chunk *chunk);
/* Until it is loaded: 0; -ENOENT; -EBADMSG it is no chunk; the store's errors. */
co_fn CHECKED int chunk_wait(struct chunk *chunk);

/* The store has these bytes, which are taken. */
void chunk_keep(struct fs *fs, const struct content_id *id, uint32_t index, struct buf *bytes);
/* The same by another's hand. True if it is not what was known. */
bool chunk_told(struct fs *fs, const struct content_id *id, uint32_t index, struct buf *bytes);
/* What is known of a chunk, of all of an id, holds no more. */
void chunk_drop(struct fs *fs, const struct content_id *id, uint32_t index);
void chunk_drop_all(struct fs *fs, const struct content_id *id);

/* Sets a chunk, whatever stands there. */
co_fn CHECKED int chunk_send(struct fs *fs, const struct content_id *id, uint32_t index, struct str bytes);

/* Frees what has not been used for longest until all that is cached fits. */
void chunks_trim(struct fs *fs);
void chunks_free(struct fs *fs);

#endif
