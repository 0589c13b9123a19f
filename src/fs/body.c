#include "fs/body.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/base64.h"

/* --- life --- */

static void body_free(struct body *body)
{
	for (unsigned i = 0; i < body->part_count; i++) {
		buf_free(&body->parts[i].bytes);
		free(body->parts[i].holes);
	}
	free(body);
}

struct body *body_ref(struct body *body)
{
	body->refs++;
	return body;
}

void body_unref(struct body *body)
{
	if (body && --body->refs == 0)
		body_free(body);
}

/* Two runs over the text, so that the table has the size that it needs. */
static int read_holes(struct str text, struct body_part *part)
{
	struct str rest = text;
	struct hole hole;

	while (content_hole_next(&rest, &hole.first, &hole.count))
		part->hole_count++;
	if (part->hole_count == 0)
		return 0;
	part->holes = calloc(part->hole_count, sizeof(*part->holes));
	if (!part->holes) {
		part->hole_count = 0;
		return -ENOMEM;
	}
	rest = text;
	for (size_t i = 0; content_hole_next(&rest, &hole.first, &hole.count); i++)
		part->holes[i] = hole;
	return 0;
}

static int read_part(const struct content_part *from, struct body_part *part)
{
	part->size = from->size;
	if (from->kind == CONTENT_INLINE)
		return base64_decode(from->base64, &part->bytes);
	part->chunked = true;
	part->id = from->id;
	part->chunk_size = from->chunk_size;
	return read_holes(from->holes, part);
}

static int body_make(const struct content *content, struct body **out)
{
	size_t size = sizeof(**out) + (content->part_count + 1) * sizeof((*out)->parts[0]);
	struct body *body = calloc(1, size);
	int r = 0;

	if (!body)
		return -ENOMEM;
	body->refs = 1;
	body->stub = content->stub;
	body->memory = size;
	for (unsigned i = 0; r == 0 && i <= content->part_count; i++) {
		struct body_part *part = &body->parts[i];

		if (i == content->part_count && content->text.len == 0)
			break;
		body->part_count++;
		part->start = body->size;
		if (i < content->part_count) {
			r = read_part(&content->parts[i], part);
		} else {
			part->size = content->text.len;
			r = buf_set(&part->bytes, content->text);
		}
		body->size += part->size;
		body->memory += part->bytes.capacity + part->hole_count * sizeof(*part->holes);
	}
	if (r < 0) {
		body_free(body);
		return r;
	}
	*out = body;
	return 0;
}

int body_new(struct str value, struct body **out)
{
	struct content *content = malloc(sizeof(*content));
	char hash[CONTENT_HASH_LEN + 1];
	int r = content ? content_decode(value, content) : -ENOMEM;

	if (r == 0)
		r = content_hash(value, hash);
	if (r == 0)
		r = body_make(content, out);
	if (r == 0)
		memcpy((*out)->hash, hash, sizeof(hash));
	free(content);
	return r;
}

/* --- places --- */

/* Parts may be empty; who asks is below the size, so one holds the offset. */
static const struct body_part *part_at(const struct body *body, uint64_t offset)
{
	unsigned i = 0;

	while (i + 1 < body->part_count && offset - body->parts[i].start >= body->parts[i].size)
		i++;
	return &body->parts[i];
}

/* The hole that holds the chunk, or the next one behind it; hole_count where there is none. */
static size_t hole_from(const struct body_part *part, uint32_t index)
{
	size_t low = 0, high = part->hole_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct hole *hole = &part->holes[middle];

		if ((uint64_t)hole->first + hole->count <= index)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Where a chunk begins, from the begin of the part; never beyond its end. */
static uint64_t chunk_start(const struct body_part *part, uint64_t index)
{
	return index > part->size / part->chunk_size ? part->size : index * part->chunk_size;
}

/* The hole at `offset`, from the begin of a chunked part: *end is where it ends. Where there is none, false, and *end is
 * where the next one begins, or the size of the part. */
static bool hole_at(const struct body_part *part, uint64_t offset, uint64_t *end)
{
	uint32_t index = (uint32_t)(offset / part->chunk_size);
	size_t i = hole_from(part, index);
	const struct hole *hole;

	*end = part->size;
	if (i == part->hole_count)
		return false;
	hole = &part->holes[i];
	if (hole->first > index) {
		*end = chunk_start(part, hole->first);
		return false;
	}
	*end = chunk_start(part, (uint64_t)hole->first + hole->count);
	return true;
}

void body_piece(const struct body *body, uint64_t offset, struct piece *out)
{
	const struct body_part *part = part_at(body, offset);
	uint64_t at = offset - part->start, end, start;

	*out = (struct piece){ .kind = PIECE_BYTES, .len = part->size - at };
	if (!part->chunked) {
		out->bytes = part->bytes.p + at;
		return;
	}
	if (hole_at(part, at, &end)) {
		out->kind = PIECE_ZEROS;
		out->len = end - at;
		return;
	}
	out->kind = PIECE_CHUNK;
	out->id = part->id;
	out->index = (uint32_t)(at / part->chunk_size);
	start = out->index * part->chunk_size;
	out->at = at - start;
	out->chunk_len = part->size - start < part->chunk_size ? part->size - start : part->chunk_size;
	out->len = out->chunk_len - out->at;
}

uint64_t body_next_data(const struct body *body, uint64_t offset)
{
	while (offset < body->size) {
		const struct body_part *part = part_at(body, offset);
		uint64_t end;

		if (!part->chunked || !hole_at(part, offset - part->start, &end))
			return offset;
		offset = part->start + end;
	}
	return body->size;
}

uint64_t body_next_hole(const struct body *body, uint64_t offset)
{
	while (offset < body->size) {
		const struct body_part *part = part_at(body, offset);
		uint64_t end = part->size;

		if (part->chunked && hole_at(part, offset - part->start, &end))
			return offset;
		offset = part->start + end;
	}
	return body->size;
}

const struct body_part *body_first_chunks(const struct body *body)
{
	return body && body->part_count && body->parts[0].chunked ? &body->parts[0] : NULL;
}

bool body_names_id(const struct body *body, const struct content_id *id)
{
	for (unsigned i = 0; body && i < body->part_count; i++)
		if (body->parts[i].chunked && memcmp(body->parts[i].id.hex, id->hex, CONTENT_ID_LEN) == 0)
			return true;
	return false;
}
