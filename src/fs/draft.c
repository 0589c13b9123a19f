#include "fs/draft.h"

#include <errno.h>
#include <stdlib.h>

static int by_index_compare(struct slot *a, struct slot *b)
{
	return a->index < b->index ? -1 : a->index > b->index;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
RB_GENERATE_STATIC(slot_tree, slot, by_index, by_index_compare)
#pragma GCC diagnostic pop

/* --- slots --- */

static struct slot *slot_find(const struct draft *draft, uint32_t index)
{
	struct slot wanted = { .index = index };

	return RB_FIND(slot_tree, (struct slot_tree *)&draft->slots, &wanted);
}

static struct slot *slot_from(const struct draft *draft, uint32_t index)
{
	struct slot wanted = { .index = index };

	return RB_NFIND(slot_tree, (struct slot_tree *)&draft->slots, &wanted);
}

static size_t slot_memory(const struct slot *slot)
{
	return slot->state == SLOT_DIRTY ? SLOT_BYTES + slot->bytes.capacity : 0;
}

static void count(struct draft *draft, size_t before, size_t after)
{
	draft->memory = draft->memory - before + after;
	if (draft->sum)
		*draft->sum = *draft->sum - before + after;
}

static void slot_set_state(struct draft *draft, struct slot *slot, enum slot_state state)
{
	size_t before = slot_memory(slot);

	slot->state = state;
	count(draft, before, slot_memory(slot));
}

static void slot_forget_bytes(struct draft *draft, struct slot *slot)
{
	slot_set_state(draft, slot, SLOT_HOLE);
	draft->dirty_bytes -= slot->bytes.len;
	buf_free(&slot->bytes);
}

static void slot_remove(struct draft *draft, struct slot *slot)
{
	slot_forget_bytes(draft, slot);
	RB_REMOVE(slot_tree, &draft->slots, slot);
	free(slot);
}

static struct slot *slot_make(struct draft *draft, uint32_t index)
{
	struct slot *slot = slot_find(draft, index);

	if (slot)
		return slot;
	slot = calloc(1, sizeof(*slot));
	if (!slot)
		return NULL;
	slot->index = index;
	slot->state = SLOT_HOLE;
	RB_INSERT(slot_tree, &draft->slots, slot);
	return slot;
}

static int slot_resize(struct draft *draft, struct slot *slot, size_t len)
{
	size_t before = slot->bytes.len, memory = slot_memory(slot);
	int r = buf_resize(&slot->bytes, len);

	count(draft, memory, slot_memory(slot));
	if (r == 0)
		draft->dirty_bytes = draft->dirty_bytes - before + len;
	return r;
}

/* --- life --- */

struct draft *draft_new(uint64_t chunk_size)
{
	struct draft *draft = calloc(1, sizeof(*draft));

	if (!draft)
		return NULL;
	draft->refs = 1;
	draft->chunk_size = chunk_size;
	draft->memory = DRAFT_BYTES;
	RB_INIT(&draft->slots);
	return draft;
}

static void set_base(struct draft *draft, struct body *base)
{
	const struct body_part *chunks = body_first_chunks(base);

	body_unref(draft->base);
	draft->base = base ? body_ref(base) : NULL;
	draft->in_place = draft->has_id = chunks != NULL;
	if (chunks)
		draft->id = chunks->id;
}

struct draft *draft_new_on(struct body *base, uint64_t chunk_size)
{
	const struct body_part *chunks = body_first_chunks(base);
	struct draft *draft = draft_new(chunks ? chunks->chunk_size : chunk_size);

	if (!draft)
		return NULL;
	set_base(draft, base);
	draft->size = draft->base_limit = draft->lowest = base->size;
	return draft;
}

struct draft *draft_ref(struct draft *draft)
{
	if (draft)
		draft->refs++;
	return draft;
}

void draft_unref(struct draft *draft)
{
	struct slot *slot;

	if (!draft || --draft->refs > 0)
		return;
	while ((slot = RB_MIN(slot_tree, &draft->slots)))
		slot_remove(draft, slot);
	buf_free(&draft->tail);
	buf_free(&draft->other);
	body_unref(draft->base);
	if (draft->sum)
		*draft->sum -= draft->memory;
	free(draft);
}

void draft_count(struct draft *draft, uint64_t *sum)
{
	if (draft->sum)
		*draft->sum -= draft->memory;
	draft->sum = sum;
	*sum += draft->memory;
}

/* --- places --- */

uint32_t draft_chunks(const struct draft *draft)
{
	return (uint32_t)(draft->size / draft->chunk_size + (draft->size % draft->chunk_size != 0));
}

uint64_t draft_size_limit(const struct draft *draft)
{
	if (draft->chunk_size > (uint64_t)CONTENT_MAX_SIZE / CONTENT_MAX_CHUNKS)
		return CONTENT_MAX_SIZE;
	return draft->chunk_size * CONTENT_MAX_CHUNKS;
}

uint64_t draft_chunk_len(const struct draft *draft, uint32_t index)
{
	uint64_t start = index * draft->chunk_size;

	if (start >= draft->size)
		return 0;
	return draft->size - start < draft->chunk_size ? draft->size - start : draft->chunk_size;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void slot_piece(const struct draft *draft, const struct slot *slot, uint64_t at, struct piece *out)
{
	if (slot->state == SLOT_DIRTY && at < slot->bytes.len) {
		out->kind = PIECE_BYTES;
		out->bytes = slot->bytes.p + at;
		out->len = least(out->len, slot->bytes.len - at);
	} else if ((slot->state == SLOT_OUT || slot->state == SLOT_FOREIGN) && at < slot->valid) {
		out->kind = PIECE_CHUNK;
		out->id = slot->state == SLOT_OUT ? draft->id : draft->base->parts[0].id;
		out->index = slot->index;
		out->at = at;
		out->chunk_len = slot->valid;
		out->len = least(out->len, slot->valid - at);
	}
}

void draft_piece(const struct draft *draft, uint64_t offset, struct piece *out)
{
	uint32_t index = (uint32_t)(offset / draft->chunk_size);
	uint64_t at = offset % draft->chunk_size;
	uint64_t len = draft_chunk_len(draft, index) - at;
	const struct slot *slot = slot_find(draft, index);

	*out = (struct piece){ .kind = PIECE_ZEROS, .len = len };
	if (offset >= draft_tail_start(draft)) {
		size_t from = offset - draft_tail_start(draft);

		*out = (struct piece){ .kind = PIECE_BYTES,
				       .bytes = draft->tail.p + from,
				       .len = least(len, draft->tail.len - from) };
	} else if (slot) {
		slot_piece(draft, slot, at, out);
	} else if (offset < draft->base_limit) {
		body_piece(draft->base, offset, out);
		out->len = least(out->len, least(len, draft->base_limit - offset));
	}
}

/* --- changes --- */

/* Bytes from..to of a chunk are to be changed. Not needed in memory: what is there already, what is only zeros, and what goes
 * as a whole. */
static bool chunk_needs(const struct draft *draft, uint32_t index, uint64_t from, uint64_t to)
{
	uint64_t len = draft_chunk_len(draft, index);
	const struct slot *slot = slot_find(draft, index);

	if (len == 0 || (from == 0 && to >= len))
		return false;
	if (slot && (slot->state == SLOT_DIRTY || slot->state == SLOT_HOLE))
		return false;
	return slot || draft_plan(draft, index) != DRAFT_HOLE;
}

bool draft_needs(const struct draft *draft, uint64_t offset, uint64_t len, uint32_t *index)
{
	uint64_t first = offset / draft->chunk_size, last;

	if (len == 0)
		return false;
	/* of a range only its two ends can be parts of chunks */
	last = (offset + len - 1) / draft->chunk_size;
	for (int i = 0; i < 2; i++) {
		uint64_t at = i ? last : first, start = at * draft->chunk_size;
		uint64_t from = offset > start ? offset - start : 0;
		uint64_t to = least(offset + len - start, draft->chunk_size);

		if (start < draft->size && chunk_needs(draft, (uint32_t)at, from, to)) {
			*index = (uint32_t)at;
			return true;
		}
	}
	return false;
}

static void slot_changed(struct draft *draft, struct slot *slot)
{
	slot->changed = ++draft->changes;
}

static void make_dirty(struct draft *draft, struct slot *slot)
{
	slot_set_state(draft, slot, SLOT_DIRTY);
	slot->valid = 0;
}

int draft_fill(struct draft *draft, uint32_t index, struct str bytes)
{
	struct slot *slot = slot_make(draft, index);
	int r = slot ? slot_resize(draft, slot, bytes.len) : -ENOMEM;

	if (r < 0)
		return r;
	make_dirty(draft, slot);
	if (bytes.len)
		memcpy(slot->bytes.p, bytes.p, bytes.len);
	slot_changed(draft, slot);
	return 0;
}

static int chunk_write(struct draft *draft, uint32_t index, uint64_t at, struct str bytes)
{
	struct slot *slot = slot_make(draft, index);
	int r = 0;

	if (!slot)
		return -ENOMEM;
	if (slot->state != SLOT_DIRTY)
		make_dirty(draft, slot);
	if (at + bytes.len > slot->bytes.len)
		r = slot_resize(draft, slot, at + bytes.len);
	if (r < 0)
		return r;
	memcpy(slot->bytes.p + at, bytes.p, bytes.len);
	slot_changed(draft, slot);
	return 0;
}

int draft_write(struct draft *draft, uint64_t offset, struct str bytes)
{
	while (bytes.len) {
		uint32_t index = (uint32_t)(offset / draft->chunk_size);
		uint64_t at = offset % draft->chunk_size;
		struct str now = str_of(bytes.p, least(bytes.len, draft->chunk_size - at));
		int r = chunk_write(draft, index, at, now);

		if (r < 0)
			return r;
		draft->last = index;
		offset += now.len;
		bytes = str_skip(bytes, now.len);
		if (offset > draft->size)
			draft->size = offset;
	}
	return 0;
}

static int chunk_zero(struct draft *draft, uint32_t index, uint64_t from, uint64_t to)
{
	uint64_t len = draft_chunk_len(draft, index);
	struct slot *slot;

	if (from == 0 && to >= len) {
		slot = slot_make(draft, index);
		if (!slot)
			return -ENOMEM;
		slot_forget_bytes(draft, slot);
		slot_changed(draft, slot);
		return 0;
	}
	slot = slot_find(draft, index);
	if (!slot || slot->state != SLOT_DIRTY || from >= slot->bytes.len)
		return 0; /* zeros already: draft_needs was asked */
	memset(slot->bytes.p + from, 0, least(to, slot->bytes.len) - from);
	slot_changed(draft, slot);
	return 0;
}

int draft_zero(struct draft *draft, uint64_t offset, uint64_t len)
{
	uint64_t end = offset + least(len, draft->size - least(offset, draft->size));

	while (offset < end) {
		uint32_t index = (uint32_t)(offset / draft->chunk_size);
		uint64_t start = index * draft->chunk_size;
		uint64_t next = least(end, start + draft->chunk_size);
		uint32_t data = draft_next_data(draft, index);
		int r;

		if (data > index) { /* over what is zeros already in one step */
			offset = data * draft->chunk_size;
			continue;
		}
		r = chunk_zero(draft, index, offset - start, next - start);
		if (r < 0)
			return r;
		offset = next;
	}
	draft->changes++;
	return 0;
}

/* The chunk in which the content now ends keeps only what is before. */
static void cut_slot(struct draft *draft, struct slot *slot, uint64_t valid)
{
	if (slot->state == SLOT_DIRTY && slot->bytes.len > valid) {
		draft->dirty_bytes -= slot->bytes.len - valid;
		slot->bytes.len = valid;
		slot->bytes.p[valid] = '\0';
	}
	slot->valid = least(slot->valid, valid);
	slot->has_nul = false;
	slot_changed(draft, slot);
}

void draft_resize(struct draft *draft, uint64_t size)
{
	uint32_t index = (uint32_t)(size / draft->chunk_size);
	struct slot *slot, *next;

	draft->changes++;
	if (size < draft->size) {
		for (slot = slot_from(draft, index); slot; slot = next) {
			next = RB_NEXT(slot_tree, &draft->slots, slot);
			if (slot->index == index && size % draft->chunk_size)
				cut_slot(draft, slot, size % draft->chunk_size);
			else
				slot_remove(draft, slot);
		}
		draft->base_limit = least(draft->base_limit, size);
		draft->lowest = least(draft->lowest, size);
	}
	draft->size = size;
}

/* --- the tail --- */

uint64_t draft_tail_start(const struct draft *draft)
{
	return draft->size - draft->tail.len;
}

int draft_append(struct draft *draft, struct str bytes)
{
	size_t before = draft->tail.capacity;
	int r = buf_add_str(&draft->tail, bytes);

	count(draft, before, draft->tail.capacity);
	if (r < 0)
		return r;
	draft->size += bytes.len;
	draft->dirty_bytes += bytes.len;
	draft->changes++;
	return 0;
}

int draft_settle(struct draft *draft)
{
	uint64_t start = draft_tail_start(draft);
	int r = draft_write(draft, start, buf_str(&draft->tail));

	if (r < 0)
		return r;
	draft->dirty_bytes -= draft->tail.len;
	count(draft, draft->tail.capacity, 0);
	buf_free(&draft->tail);
	return 0;
}

bool draft_appended(struct draft *draft, struct body *base, size_t len)
{
	struct buf *tail = &draft->tail;

	memmove(tail->p, tail->p + len, tail->len - len);
	tail->len -= len;
	draft->dirty_bytes -= len;
	draft->size -= len;
	draft->changes++;
	if (!tail->len || !base)
		return tail->len;
	if (body_first_chunks(base))
		draft->chunk_size = body_first_chunks(base)->chunk_size;
	set_base(draft, base);
	draft->base_limit = draft->lowest = base->size;
	draft->size = base->size + tail->len;
	return true;
}

/* --- the commit's view --- */

enum draft_plan draft_plan(const struct draft *draft, uint32_t index)
{
	uint64_t start = index * draft->chunk_size, len = draft_chunk_len(draft, index);
	const struct slot *slot = slot_find(draft, index);

	if (slot) {
		if (slot->state == SLOT_OUT)
			return slot->valid >= len ? DRAFT_STORED : DRAFT_COPY;
		return slot->state == SLOT_DIRTY ? DRAFT_SEND : slot->state == SLOT_HOLE ? DRAFT_HOLE : DRAFT_COPY;
	}
	if (start >= draft->base_limit ||
	    body_next_data(draft->base, start) >= least(start + draft->chunk_size, draft->base_limit))
		return DRAFT_HOLE;
	if (draft->in_place && start + len <= least(draft->base->parts[0].size, draft->base_limit))
		return DRAFT_STORED;
	return DRAFT_COPY;
}

/* The first chunk of the base that is neither a hole nor under a slot. */
static uint32_t next_base_data(const struct draft *draft, uint32_t from)
{
	uint64_t offset = from * draft->chunk_size;

	while (offset < draft->base_limit) {
		uint32_t index;

		offset = body_next_data(draft->base, offset);
		if (offset >= draft->base_limit)
			break;
		index = (uint32_t)(offset / draft->chunk_size);
		if (!slot_find(draft, index))
			return index;
		offset = (index + (uint64_t)1) * draft->chunk_size;
	}
	return draft_chunks(draft);
}

uint32_t draft_next_data(const struct draft *draft, uint32_t from)
{
	const struct slot *slot = slot_from(draft, from);
	uint32_t base = next_base_data(draft, from);

	while (slot && slot->index < base && slot->state == SLOT_HOLE)
		slot = RB_NEXT(slot_tree, (struct slot_tree *)&draft->slots, (struct slot *)slot);
	return slot && slot->index < base ? slot->index : base;
}

const struct slot *draft_dirty_slot(const struct draft *draft, uint32_t index)
{
	const struct slot *slot = slot_find(draft, index);

	return slot && slot->state == SLOT_DIRTY ? slot : NULL;
}

static const struct slot *next_of(const struct draft *draft, uint32_t from, enum slot_state state)
{
	const struct slot *slot = slot_from(draft, from);

	while (slot && slot->state != state)
		slot = RB_NEXT(slot_tree, (struct slot_tree *)&draft->slots, (struct slot *)slot);
	return slot;
}

const struct slot *draft_next_dirty(const struct draft *draft, uint32_t from)
{
	return next_of(draft, from, SLOT_DIRTY);
}

const struct slot *draft_next_out(const struct draft *draft, uint32_t from)
{
	return next_of(draft, from, SLOT_OUT);
}

uint64_t draft_can_free(const struct draft *draft, bool last_too)
{
	const struct slot *last = draft_dirty_slot(draft, draft->last);
	uint64_t all = draft->memory - DRAFT_BYTES;

	return last && !last_too ? all - slot_memory(last) : all;
}

bool draft_keeps_stub(const struct draft *draft)
{
	const struct body *base = draft->base;
	struct slot *slot;

	if (!draft->in_place || base->part_count != 1 || draft->size != base->size || draft->base_limit != base->size)
		return false;
	RB_FOREACH(slot, slot_tree, (struct slot_tree *)&draft->slots) {
		uint64_t start = slot->index * draft->chunk_size;

		if (slot->state == SLOT_HOLE || body_next_data(base, start) != start)
			return false;
	}
	return true;
}

static bool slot_has_nul(const struct draft *draft, const struct slot *slot)
{
	uint64_t len = draft_chunk_len(draft, slot->index);

	if (len == 0 || slot->state == SLOT_HOLE)
		return len > 0;
	if (slot->state == SLOT_DIRTY)
		return slot->bytes.len < len || memchr(slot->bytes.p, 0, slot->bytes.len);
	return slot->valid < len || slot->has_nul;
}

bool draft_has_nul(const struct draft *draft)
{
	struct slot *slot;

	RB_FOREACH(slot, slot_tree, (struct slot_tree *)&draft->slots)
		if (slot_has_nul(draft, slot))
			return true;
	return draft_next_data(draft, 0) != 0;
}

bool draft_in_memory(const struct draft *draft)
{
	uint32_t chunks = draft_chunks(draft);

	for (uint32_t i = draft_next_data(draft, 0); i < chunks; i = draft_next_data(draft, i + 1))
		if (!draft_dirty_slot(draft, i))
			return false;
	return true;
}

/* --- sent and committed --- */

int draft_sent(struct draft *draft, uint32_t index, uint64_t valid, uint64_t changed, struct buf *bytes)
{
	uint64_t start = index * draft->chunk_size;
	struct slot *slot = slot_find(draft, index);

	if ((slot && slot->changed > changed) || start >= draft->lowest)
		return 0; /* written, or cut off, meanwhile */
	valid = least(valid, draft->lowest - start);
	if (slot && slot->state == SLOT_DIRTY && slot->bytes.len > valid)
		return 0; /* made longer, between the capture and this chunk's turn */
	if (!slot)
		slot = slot_make(draft, index);
	if (!slot)
		return -ENOMEM;
	draft->dirty_bytes -= slot->bytes.len;
	slot_set_state(draft, slot, SLOT_OUT);
	*bytes = buf_take(&slot->bytes);
	slot->valid = valid;
	slot->has_nul = bytes->p && memchr(bytes->p, 0, least(bytes->len, slot->valid));
	return 0;
}

void draft_leave_place(struct draft *draft)
{
	struct slot *slot;

	if (!draft->in_place)
		return;
	draft->in_place = draft->has_id = false;
	RB_FOREACH(slot, slot_tree, &draft->slots)
		if (slot->state == SLOT_OUT)
			slot->state = SLOT_FOREIGN;
}

uint64_t draft_capture(struct draft *draft)
{
	draft->lowest = draft->size;
	return draft->changes;
}

void draft_begin_anew(struct draft *draft)
{
	draft->anew = draft->tried || draft->sent[0];
}

void draft_follow(struct draft *draft)
{
	draft->tried = draft->anew = true;
}

void draft_stored(struct draft *draft)
{
	draft->tried = draft->anew = false;
	draft->sent[0] = '\0';
}

bool draft_rebase(struct draft *draft, struct body *base, uint64_t captured)
{
	const struct body_part *chunks = body_first_chunks(base);
	struct slot *slot, *next;

	if (draft->changes == captured)
		return false;
	if (chunks)
		draft->chunk_size = chunks->chunk_size;
	for (slot = RB_MIN(slot_tree, &draft->slots); slot; slot = next) {
		next = RB_NEXT(slot_tree, &draft->slots, slot);
		if (slot->changed <= captured || slot->state == SLOT_OUT || slot->state == SLOT_FOREIGN)
			slot_remove(draft, slot);
	}
	set_base(draft, base);
	draft->base_limit = base ? least(base->size, draft->lowest) : 0;
	return true;
}
