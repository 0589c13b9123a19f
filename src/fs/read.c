/* Reading content, wherever it is: in a draft, in a value, in chunks. What is wanted is looked for anew after every wait, so
 * what others do meanwhile is seen, and nothing is kept across a wait but references to chunks. */
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/internal.h"

/* Who reads on from where the last read ended finds so many bytes, or chunks if that is less, under way. */
#define AHEAD_BYTES (4u << 20)

int file_readable(struct node *node)
{
	struct file *file = node->file;

	if (file->dirty)
		return 0;
	if (file->stored)
		return value_load(node);
	return file->have_value ? 0 : -ESTALE;
}

static uint64_t size_of(const struct node *node, const struct draft *draft)
{
	return draft ? draft->size : node_size(node);
}

/* What lies at `offset`, which is below size_of. */
static void piece_at(const struct node *node, const struct draft *draft, uint64_t offset, struct piece *out)
{
	const struct file *file = node->file;

	if (!draft)
		draft = file->draft;
	if (draft)
		draft_piece(draft, offset, out);
	else if (file->body)
		body_piece(file->body, offset, out);
	else
		*out = (struct piece){ .kind = PIECE_BYTES,
				       .bytes = file->value.p + offset,
				       .len = file->size - offset };
}

/* --- chunks side by side --- */

struct window {
	uint64_t next;     /* from here on nothing has been asked for */
	uint64_t short_at; /* offset, plus 1, of a chunk that was too short and is fetched once more; 0: none */
	unsigned count;
	struct chunk *chunks[CHUNK_WINDOW];
};

static void window_shift(struct window *window, bool all)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < window->count; i++) {
		if (!all && window->chunks[i]->asked)
			window->chunks[kept++] = window->chunks[i];
		else
			chunk_put(window->chunks[i]);
	}
	window->count = kept;
}

static void window_fill(struct window *window, struct node *node, const struct draft *draft, uint64_t from,
			uint64_t end)
{
	uint64_t size = size_of(node, draft);

	window_shift(window, false);
	if (window->next < from)
		window->next = from;
	while (window->count < CHUNK_WINDOW && window->next < end && window->next < size) {
		struct piece piece;

		piece_at(node, draft, window->next, &piece);
		if (piece.kind == PIECE_CHUNK) {
			if (chunk_get(node->fs, &piece.id, piece.index, &window->chunks[window->count]) < 0)
				return; /* whoever needs it is told */
			window->count++;
		}
		window->next += piece.len;
	}
}

static void read_ahead(struct node *node, uint64_t from)
{
	struct window window = { .next = from };

	window_fill(&window, node, NULL, from, from + AHEAD_BYTES);
	window_shift(&window, true);
}

/* --- what is not there --- */

static void log_damage(struct node *node, const struct piece *piece, const char *what)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;

	if (node->file->damaged)
		return;
	node->file->damaged = true;
	if (node_keys(node, &key, NULL) < 0 && buf_set(&key, buf_str(&node->name)) < 0)
		return;
	log_error("the file %s is damaged: chunk %u of %s %s", buf_str(&key).p, piece->index, piece->id.hex, what);
}

/* A chunk that is named is not there, or is none: if the key says something else by now, that is read. */
static co_fn int chunk_is_bad(struct node *node, struct draft *draft, const struct piece *piece, int err)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	struct file *file = node->file;
	char hash[CONTENT_HASH_LEN + 1], expected[CONTENT_HASH_LEN + 1];
	uint64_t seq = fs_tick(node->fs);
	bool dirty = draft || file->draft;
	int r = 0;

	if (!draft)
		draft = file->draft;
	memcpy(expected, draft && draft->base ? draft->base->hash : file->hash, sizeof(expected));
	if (file->stored) {
		r = node_keys(node, &key, NULL);
		if (r == 0)
			r = store_get(node->fs->store, buf_str(&key), &now);
		if (r == 0)
			r = content_hash(buf_str(&now), hash);
		if (r < 0)
			return r == -ENOENT ? -ESTALE : r;
		if (strcmp(hash, expected) != 0)
			return dirty ? -ESTALE : value_apply(node, buf_str(&now), seq);
	}
	log_damage(node, piece, err == -ENOENT ? "is missing" : "cannot be read");
	return -EIO;
}

/* --- reading --- */

/* 1: the bytes were added. 0: there was a wait, and all is to be looked at again. */
static co_fn int add_chunk(struct node *node, struct draft *draft, struct window *window, const struct piece *piece,
			   uint64_t at, uint64_t end, struct buf *out)
{
	struct chunk *chunk;
	int r = chunk_get(node->fs, &piece->id, piece->index, &chunk);

	if (r < 0)
		return r;
	if (!chunk->loaded) {
		window_fill(window, node, draft, at, end);
		r = chunk_wait(chunk);
	} else if (chunk->bytes.len < piece->chunk_len) {
		/* it may be from when another mount had made the file shorter: not kept */
		chunk_drop(node->fs, &piece->id, piece->index);
		r = window->short_at == at + 1 ? -EBADMSG : -EAGAIN;
		window->short_at = at + 1;
	} else {
		r = buf_add(out, chunk->bytes.p + piece->at, piece->len);
		chunk_put(chunk);
		return r < 0 ? r : 1;
	}
	chunk_put(chunk);
	if (r == -ENOENT || r == -EBADMSG)
		r = chunk_is_bad(node, draft, piece, r);
	return r == -EAGAIN ? 0 : r;
}

static co_fn int add_piece(struct node *node, struct draft *draft, struct window *window, uint64_t at, uint64_t end,
			   struct buf *out)
{
	struct piece piece;
	int r;

	piece_at(node, draft, at, &piece);
	if (piece.len > end - at)
		piece.len = end - at;
	if (piece.kind == PIECE_CHUNK)
		return add_chunk(node, draft, window, &piece, at, end, out);
	if (piece.kind == PIECE_ZEROS)
		r = buf_resize(out, out->len + piece.len);
	else
		r = buf_add(out, piece.bytes, piece.len);
	return r < 0 ? r : 1;
}

int content_read(struct node *node, struct draft *draft, uint64_t offset, uint64_t len, struct buf *out)
{
	struct window window = { .next = offset };
	size_t before = out->len;
	int r = 0;

	while (r >= 0) {
		uint64_t at = offset + (out->len - before), size, end;

		r = draft ? 0 : file_readable(node);
		if (r < 0)
			break;
		size = size_of(node, draft);
		end = len < UINT64_MAX - offset ? offset + len : UINT64_MAX;
		if (end > size)
			end = size;
		if (at >= end)
			break;
		r = add_piece(node, draft, &window, at, end, out);
	}
	window_shift(&window, true);
	return r < 0 ? r : 0;
}

int fs_read(struct fs_handle *handle, uint64_t offset, size_t size, struct buf *out)
{
	struct node *node = handle->node;
	int r;

	buf_clear(out);
	r = content_read(node, NULL, offset, size, out);
	if (r < 0)
		return r;
	if (out->len && offset == handle->read_to)
		read_ahead(node, offset + out->len);
	handle->read_to = offset + out->len;
	return 0;
}
