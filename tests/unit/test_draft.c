/* Drafts and bodies: single rules first, then random changes, sendings and commits beside a flat copy of the content and a
 * store in memory. */
#include "fs/draft.h"

#include <stdio.h>
#include <stdlib.h>

#include "unit.h"

#define CHUNK 16
#define MOST 400 /* bytes of content in the random test */
#define IDS 64   /* that a random run can use */

/* --- a store of chunks --- */

struct world {
	struct buf chunks[IDS][MOST / CHUNK + 2];
	unsigned ids;
	struct draft *draft;
	struct body *stored; /* NULL: nothing */
	unsigned char flat[MOST];
	size_t size;
	uint64_t sum; /* of the draft's memory */
};

static struct content_id id_of(unsigned number)
{
	struct content_id id;

	snprintf(id.hex, sizeof(id.hex), "%043x", number);
	return id;
}

static unsigned number_of(const struct content_id *id)
{
	return (unsigned)strtoul(id->hex + CONTENT_ID_LEN - 8, NULL, 16);
}

static void put(struct world *world, const struct content_id *id, uint32_t index, struct str bytes)
{
	assert_int_equal(buf_set(&world->chunks[number_of(id)][index], bytes), 0);
}

static struct str get(struct world *world, const struct piece *piece)
{
	struct buf *chunk = &world->chunks[number_of(&piece->id)][piece->index];

	assert_true(chunk->len >= piece->chunk_len); /* what is named is stored */
	return str_of(chunk->p + piece->at, piece->len);
}

/* --- reading by pieces --- */

static void add_piece(struct world *world, const struct piece *piece, struct buf *out)
{
	size_t before = out->len;

	assert_true(piece->len > 0);
	if (piece->kind == PIECE_ZEROS)
		assert_int_equal(buf_resize(out, before + piece->len), 0);
	else if (piece->kind == PIECE_BYTES)
		assert_int_equal(buf_add(out, piece->bytes, piece->len), 0);
	else
		assert_int_equal(buf_add_str(out, get(world, piece)), 0);
}

static void read_draft(struct world *world, const struct draft *draft, uint64_t from, uint64_t to, struct buf *out)
{
	struct piece piece;

	for (uint64_t at = from; at < to; at += piece.len) {
		draft_piece(draft, at, &piece);
		if (piece.len > to - at)
			piece.len = to - at;
		add_piece(world, &piece, out);
	}
}

static void check_bytes(const struct world *world, const struct buf *bytes)
{
	assert_int_equal(bytes->len, world->size);
	for (size_t i = 0; i < world->size; i++)
		assert_int_equal((unsigned char)bytes->p[i], world->flat[i]);
}

/* What is counted is what is there. */
static void check_memory(const struct world *world)
{
	struct draft *draft = world->draft;
	uint64_t memory = draft->tail.capacity, dirty = draft->tail.len;
	const struct slot *slot = draft_next_dirty(draft, 0);

	for (; slot; slot = draft_next_dirty(draft, slot->index + 1)) {
		memory += SLOT_BYTES + slot->bytes.capacity;
		dirty += slot->bytes.len;
	}
	assert_int_equal(draft->dirty_bytes, dirty);
	assert_int_equal(draft->memory, DRAFT_BYTES + memory);
	assert_int_equal(draft_can_free(draft, true), memory);
	assert_true(draft_can_free(draft, false) <= memory);
	assert_int_equal(world->sum, draft->sum ? draft->memory : 0);
}

static void check_draft(struct world *world)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;

	check_memory(world);
	if (draft_has_nul(world->draft))
		assert_non_null(memchr(world->flat, 0, world->size));

	assert_int_equal(world->draft->size, world->size);
	read_draft(world, world->draft, 0, world->size, &bytes);
	check_bytes(world, &bytes);
}

static void check_body(struct world *world, const struct body *body)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct piece piece;

	for (uint64_t at = 0; at < body->size; at += piece.len) {
		body_piece(body, at, &piece);
		add_piece(world, &piece, &bytes);
		assert_int_equal(body_next_data(body, at) == at, piece.kind != PIECE_ZEROS);
		assert_int_equal(body_next_hole(body, at) == at, piece.kind == PIECE_ZEROS);
	}
	assert_int_equal(bytes.len, body->size);
	if (body->size == world->size)
		check_bytes(world, &bytes);
}

/* --- what a filesystem does with a draft --- */

static void load(struct world *world, uint32_t index)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct draft *draft = world->draft;
	uint64_t start = index * draft->chunk_size;

	read_draft(world, draft, start, start + draft_chunk_len(draft, index), &bytes);
	assert_int_equal(draft_fill(draft, index, buf_str(&bytes)), 0);
}

static void load_for(struct world *world, uint64_t offset, uint64_t len)
{
	uint32_t index;

	for (int i = 0; draft_needs(world->draft, offset, len, &index); i++) {
		assert_true(i < 2);
		load(world, index);
	}
}

static void write_bytes(struct world *world, size_t offset, size_t len, unsigned char with)
{
	unsigned char bytes[MOST];

	memset(bytes, with, len);
	load_for(world, offset, len);
	assert_int_equal(draft_write(world->draft, offset, str_of((char *)bytes, len)), 0);
	if (offset + len > world->size)
		world->size = offset + len;
	memset(world->flat + offset, with, len);
}

static void zero(struct world *world, size_t offset, size_t len)
{
	load_for(world, offset, len);
	assert_int_equal(draft_zero(world->draft, offset, len), 0);
	if (offset < world->size)
		memset(world->flat + offset, 0, len < world->size - offset ? len : world->size - offset);
}

static void resize(struct world *world, size_t size)
{
	draft_resize(world->draft, size);
	if (size < world->size)
		memset(world->flat + size, 0, world->size - size);
	world->size = size;
}

static void ensure_id(struct world *world)
{
	if (world->draft->has_id)
		return;
	assert_true(world->ids < IDS);
	world->draft->id = id_of(world->ids++);
	world->draft->has_id = true;
}

/* What would be sent stays where it was until `sent`. */
struct sending {
	struct buf bytes;
	uint32_t index;
	uint64_t changed;
};

static struct sending begin_sending(struct world *world, uint32_t index)
{
	struct sending sending = { .index = index, .changed = world->draft->changes };
	uint64_t start = index * world->draft->chunk_size;

	read_draft(world, world->draft, start, start + draft_chunk_len(world->draft, index), &sending.bytes);
	put(world, &world->draft->id, index, buf_str(&sending.bytes));
	return sending;
}

static void end_sending(struct world *world, struct sending *sending)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;

	assert_int_equal(draft_sent(world->draft, sending->index, sending->bytes.len, sending->changed, &bytes), 0);
	buf_free(&sending->bytes);
}

static struct body *body_of(struct world *world, bool zeros_to_holes)
{
	CLEANUP(buf_free) struct buf holes = BUF_INIT;
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	struct draft *draft = world->draft;
	uint32_t chunks = draft_chunks(draft), next;
	struct content content = { .stub = true, .part_count = 1 };
	struct body *body;

	for (uint32_t i = 0; i < chunks; i = next + 1) {
		next = draft_next_data(draft, i);
		if (next > i && zeros_to_holes)
			assert_int_equal(buf_printf(&holes, "%s%u+%u", holes.len ? "," : "", i, next - i), 0);
		while (next + 1 < chunks && draft_next_data(draft, next + 1) == next + 1)
			next++;
	}
	content.parts[0] = (struct content_part){
		.kind = CONTENT_CHUNKS,
		.size = draft->size,
		.chunk_size = draft->chunk_size,
		.id = draft->id,
		.holes = buf_str(&holes),
	};
	assert_int_equal(content_encode_stub(&content, &value), 0);
	assert_int_equal(body_new(buf_str(&value), &body), 0);
	return body;
}

static bool needs_sending(const struct draft *draft, uint32_t index)
{
	enum draft_plan plan = draft_plan(draft, index);

	return plan == DRAFT_SEND || plan == DRAFT_COPY;
}

/* All chunks, then the stub; `between` changes the draft while that is under way. */
static void commit(struct world *world, void (*between)(struct world *world))
{
	uint64_t captured = draft_capture(world->draft);
	uint32_t chunks = draft_chunks(world->draft);
	struct sending *sendings;
	struct body *body;

	ensure_id(world);
	sendings = calloc(chunks + 1, sizeof(*sendings));
	assert_non_null(sendings);
	body = body_of(world, true);
	for (uint32_t i = 0; i < chunks; i++)
		if (needs_sending(world->draft, i))
			sendings[i] = begin_sending(world, i);
	check_body(world, body);
	if (between)
		between(world);
	for (uint32_t i = 0; i < chunks; i++)
		if (sendings[i].bytes.len)
			end_sending(world, &sendings[i]);
	free(sendings);
	body_unref(world->stored);
	world->stored = body;
	if (!draft_rebase(world->draft, body, captured)) {
		draft_unref(world->draft);
		world->draft = draft_new_on(body, CHUNK);
		assert_non_null(world->draft);
		draft_count(world->draft, &world->sum);
	}
	check_draft(world);
}

static struct world *world_new(void)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	world->draft = draft_new(CHUNK);
	assert_non_null(world->draft);
	draft_count(world->draft, &world->sum);
	return world;
}

static void world_free(struct world *world)
{
	draft_unref(world->draft);
	assert_int_equal(world->sum, 0);
	body_unref(world->stored);
	for (unsigned i = 0; i < IDS; i++)
		for (size_t j = 0; j < sizeof(world->chunks[i]) / sizeof(world->chunks[i][0]); j++)
			buf_free(&world->chunks[i][j]);
	free(world);
}

/* --- single rules --- */

static void what_is_changed_in_place_is_sent_alone(void **state)
{
	struct world *world = world_new();

	(void)state;
	write_bytes(world, 0, 5 * CHUNK, 'a');
	commit(world, NULL);
	assert_true(world->draft->in_place);
	write_bytes(world, 2 * CHUNK + 3, 2, 'b');
	assert_true(draft_keeps_stub(world->draft));
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(draft_plan(world->draft, i), i == 2 ? DRAFT_SEND : DRAFT_STORED);
	check_draft(world);
	world_free(world);
}

/* The chunk's turn comes some time after the capture: it is sent as long as the file was then, or at its full length. */
static void what_is_written_behind_the_captured_end_stays(void **state)
{
	(void)state;
	for (uint64_t valid = 4; valid <= CHUNK; valid += CHUNK - 4) {
		CLEANUP(buf_free) struct buf bytes = BUF_INIT;
		struct world *world = world_new();
		struct sending sending;

		write_bytes(world, 0, CHUNK + 4, 'a');
		ensure_id(world);
		draft_capture(world->draft);
		write_bytes(world, CHUNK + 4, 3, 'b');
		sending = begin_sending(world, 1);
		assert_int_equal(draft_sent(world->draft, 1, valid, sending.changed, &bytes), 0);
		buf_free(&sending.bytes);
		check_draft(world);
		world_free(world);
	}
}

static void send_dirty(struct world *world)
{
	ensure_id(world);
	draft_capture(world->draft);
	for (uint32_t i = 0; i < draft_chunks(world->draft); i++)
		if (draft_dirty_slot(world->draft, i)) {
			struct sending sending = begin_sending(world, i);

			end_sending(world, &sending);
		}
	assert_null(draft_next_dirty(world->draft, 0));
}

static void what_is_sent_is_known_to_be_no_text(void **state)
{
	struct world *world = world_new();

	(void)state;
	write_bytes(world, 0, 3 * CHUNK, 'a');
	write_bytes(world, CHUNK, 1, 0);
	assert_true(draft_has_nul(world->draft));
	send_dirty(world);
	assert_true(draft_has_nul(world->draft));
	write_bytes(world, CHUNK, CHUNK, 'a');
	assert_false(draft_has_nul(world->draft));
	send_dirty(world);
	assert_false(draft_has_nul(world->draft));
	resize(world, 2 * CHUNK + 1);
	resize(world, 3 * CHUNK);
	assert_true(draft_has_nul(world->draft));
	check_draft(world);
	world_free(world);
}

static void a_whole_chunk_needs_nothing_from_the_store(void **state)
{
	struct world *world = world_new();
	uint32_t index;

	(void)state;
	write_bytes(world, 0, 4 * CHUNK + 5, 'a');
	commit(world, NULL);
	assert_false(draft_needs(world->draft, CHUNK, 2 * CHUNK, &index));
	assert_false(draft_needs(world->draft, 4 * CHUNK, 5, &index)); /* all that the last one has */
	assert_false(draft_needs(world->draft, 9 * CHUNK, 5, &index));
	assert_true(draft_needs(world->draft, CHUNK, CHUNK - 1, &index));
	assert_int_equal(index, 1);
	assert_true(draft_needs(world->draft, 2 * CHUNK, CHUNK + 1, &index));
	assert_int_equal(index, 3);
	assert_true(draft_needs(world->draft, 4 * CHUNK + 7, 1, &index)); /* behind the end, in its chunk */
	assert_int_equal(index, 4);
	world_free(world);
}

static void growth_makes_the_last_chunk_anew(void **state)
{
	struct world *world = world_new();

	(void)state;
	write_bytes(world, 0, CHUNK + 5, 'a');
	commit(world, NULL);
	resize(world, 4 * CHUNK);
	assert_false(draft_keeps_stub(world->draft));
	assert_int_equal(draft_plan(world->draft, 0), DRAFT_STORED);
	assert_int_equal(draft_plan(world->draft, 1), DRAFT_COPY);
	assert_int_equal(draft_plan(world->draft, 2), DRAFT_HOLE);
	check_draft(world);
	commit(world, NULL);
	assert_int_equal(body_next_hole(world->stored, 0), 2 * CHUNK);
	world_free(world);
}

static void what_was_cut_off_does_not_come_back(void **state)
{
	struct world *world = world_new();

	(void)state;
	write_bytes(world, 0, 4 * CHUNK, 'a');
	commit(world, NULL);
	resize(world, CHUNK + 3);
	resize(world, 4 * CHUNK);
	check_draft(world);
	assert_int_equal(draft_plan(world->draft, 1), DRAFT_COPY);
	assert_int_equal(draft_plan(world->draft, 3), DRAFT_HOLE);
	commit(world, NULL);
	world_free(world);
}

static void a_terabyte_of_nothing_is_one_hole(void **state)
{
	struct draft *draft = draft_new(128 << 10);
	struct piece piece;

	(void)state;
	assert_non_null(draft);
	draft_resize(draft, (uint64_t)1 << 40);
	assert_int_equal(draft_next_data(draft, 0), draft_chunks(draft));
	assert_true(draft_in_memory(draft));
	assert_int_equal(draft_zero(draft, 0, UINT64_MAX), 0);
	assert_true(RB_EMPTY(&draft->slots));
	assert_int_equal(draft_write(draft, ((uint64_t)1 << 40) - 1, STR("x")), 0);
	assert_int_equal(draft_next_data(draft, 0), draft_chunks(draft) - 1);
	assert_int_equal(draft_next_data(draft, draft_chunks(draft)), draft_chunks(draft));
	draft_piece(draft, (uint64_t)1 << 39, &piece);
	assert_int_equal(piece.kind, PIECE_ZEROS);
	draft_unref(draft);
}

static void parts_and_text_are_one_content(void **state)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	struct world *world = world_new();
	struct content content = { .stub = true, .part_count = 3, .text = STR("text") };
	struct content_id id = id_of(IDS - 1);
	struct body *body;

	(void)state;
	content.parts[0] = (struct content_part){ .base64 = STR("AAE=") };
	content.parts[1] = (struct content_part){
		.kind = CONTENT_CHUNKS, .size = 10, .chunk_size = 4, .id = id, .holes = STR("1+1")
	};
	content.parts[2] = (struct content_part){ .base64 = STR("") };
	assert_int_equal(content_encode_stub(&content, &value), 0);
	assert_int_equal(body_new(buf_str(&value), &body), 0);
	put(world, &id, 0, STR("abcd"));
	put(world, &id, 2, STR("ij"));
	world->size = 16;
	memcpy(world->flat, "\0\1abcd\0\0\0\0ijtext", 16);
	check_body(world, body);
	assert_null(body_first_chunks(body));
	draft_unref(world->draft);
	world->draft = draft_new_on(body, CHUNK);
	assert_non_null(world->draft);
	draft_count(world->draft, &world->sum);
	assert_false(world->draft->in_place);
	check_draft(world);
	body_unref(body);
	world_free(world);
}

/* --- at random --- */

static unsigned seed;

static unsigned below(unsigned limit)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 8) % limit;
}

static void change(struct world *world)
{
	size_t offset = below(MOST), len = below(4) ? below(3 * CHUNK) : CHUNK * below(5);

	if (below(2))
		offset -= offset % CHUNK;
	if (len > MOST - offset)
		len = MOST - offset;
	switch (below(5)) {
	case 0:
		zero(world, offset, len);
		break;
	case 1:
		resize(world, offset);
		break;
	default:
		if (len)
			write_bytes(world, offset, len, (unsigned char)(1 + below(250)));
	}
	check_draft(world);
}

static void change_some(struct world *world)
{
	for (unsigned i = below(4); i > 0; i--)
		change(world);
}

static void send_early(struct world *world)
{
	const struct slot *slot = draft_next_dirty(world->draft, below(MOST / CHUNK));
	struct sending sending;

	if (!slot)
		return;
	draft_capture(world->draft);
	ensure_id(world);
	sending = begin_sending(world, slot->index);
	change_some(world);
	end_sending(world, &sending);
	check_draft(world);
}

static void become_plain(struct world *world)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct body *body;

	if (world->size == 0 || world->draft->changes || world->draft->base == NULL)
		return;
	/* as when the whole became small and plain */
	read_draft(world, world->draft, 0, world->size, &bytes);
	assert_int_equal(body_new(buf_str(&bytes), &body), 0);
	draft_unref(world->draft);
	world->draft = draft_new_on(body, CHUNK);
	body_unref(body);
	assert_non_null(world->draft);
	check_draft(world);
}

static void random_changes_and_commits(void **state)
{
	(void)state;
	for (unsigned run = 0; run < 400; run++) {
		struct world *world = world_new();

		seed = run;
		for (unsigned step = 0; step < 60; step++) {
			switch (below(12)) {
			case 0:
				if (world->size && world->ids < IDS)
					commit(world, below(2) ? change_some : NULL);
				break;
			case 1:
			case 2:
				if (world->ids < IDS)
					send_early(world);
				break;
			case 3:
				draft_leave_place(world->draft);
				check_draft(world);
				break;
			case 4:
				become_plain(world);
				break;
			default:
				change(world);
			}
		}
		world_free(world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_sent_is_known_to_be_no_text),
		cmocka_unit_test(what_is_changed_in_place_is_sent_alone),
		cmocka_unit_test(what_is_written_behind_the_captured_end_stays),
		cmocka_unit_test(a_whole_chunk_needs_nothing_from_the_store),
		cmocka_unit_test(growth_makes_the_last_chunk_anew),
		cmocka_unit_test(what_was_cut_off_does_not_come_back),
		cmocka_unit_test(a_terabyte_of_nothing_is_one_hole),
		cmocka_unit_test(parts_and_text_are_one_content),
		cmocka_unit_test(random_changes_and_commits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
