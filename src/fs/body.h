/* What a stored value says of a file's content, as an owner: parts one behind the other, each in memory or in chunks. Shared by
 * whoever reads by it, and not changed once made. Nothing here speaks to the store. */
#ifndef HPKVFS_FS_BODY_H
#define HPKVFS_FS_BODY_H

#include "fs/content.h"

/* Chunks that are not stored and read as zeros. */
struct hole {
	uint32_t first, count;
};

struct body_part {
	uint64_t start, size; /* bytes of content */
	bool chunked;
	struct buf bytes; /* not chunked: the content itself */

	/* chunked: */
	struct content_id id;
	uint64_t chunk_size;
	struct hole *holes; /* in order, none touching the next */
	size_t hole_count;
};

struct body {
	unsigned refs;
	bool stub;
	uint64_t size;
	size_t memory;                   /* bytes that it takes */
	char hash[CONTENT_HASH_LEN + 1]; /* of the value it was made from */
	unsigned part_count;
	struct body_part parts[];
};

/* Where some bytes of content are to be found. */
enum piece_kind {
	PIECE_BYTES, /* in memory */
	PIECE_ZEROS,
	PIECE_CHUNK,
};

struct piece {
	enum piece_kind kind;
	uint64_t len;      /* bytes of content, at least 1 */
	const char *bytes; /* PIECE_BYTES: borrowed until what it was taken from changes */

	/* PIECE_CHUNK: */
	struct content_id id;
	uint32_t index;
	size_t at;        /* where in the chunk the bytes begin */
	size_t chunk_len; /* a chunk that is shorter than this is damaged */
};

/* Reads a value; *out has one reference. 0 or -ENOMEM. */
CHECKED int body_new(struct str value, struct body **out);
struct body *body_ref(struct body *body);
void body_unref(struct body *body); /* NULL: nothing */

/* What lies at `offset`, which is below the size. */
void body_piece(const struct body *body, uint64_t offset, struct piece *out);

/* The first byte at or behind `offset` that lies in no hole; the size where there is none. */
uint64_t body_next_data(const struct body *body, uint64_t offset);

/* The first byte at or behind `offset` that lies in a hole; the size where there is none. */
uint64_t body_next_hole(const struct body *body, uint64_t offset);

/* The first part where it is chunked: what a change in place keeps. NULL: it is not. */
const struct body_part *body_first_chunks(const struct body *body);
/* True if chunks of that id are in it; NULL: of none. */
bool body_names_id(const struct body *body, const struct content_id *id);

#endif
