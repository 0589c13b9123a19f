/* A file that is changed at random, beside a flat copy of its content: reopened, committed, and read from the store again. */
#include "fs_rig.h"

#include <linux/falloc.h>
#include <stdlib.h>

#include "fs/chunks.h"

/* From RIG_MAX_VALUE: 3072 / 4 * 3, of which 4096 is not a multiple. */
#define CHUNK 2304

#define MOST (20 * CHUNK) /* bytes */

/* More than are sent side by side. */
#define MANY (2 * CHUNK_WINDOW)

static uint32_t seed;

static uint32_t below(uint32_t limit)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 8) % limit;
}

struct model {
	struct rig *rig;
	struct fs_handle *handle;
	unsigned char flat[MOST + MANY * CHUNK];
	uint32_t most; /* of `flat`, what is used */
	size_t size;
};

static void check(struct model *model)
{
	struct rig *rig = model->rig;
	size_t offset = below(2) ? 0 : below(model->most);
	size_t left = offset < model->size ? model->size - offset : 0;

	assert_int_equal(run(rig, op_read, .handle = model->handle, .offset = offset, .size = model->most), 0);
	assert_int_equal(rig->out.len, left);
	if (left)
		assert_memory_equal(rig->out.p, model->flat + offset, left);
}

static void change(struct model *model)
{
	size_t offset = below(model->most), len = below(3) ? below(2 * CHUNK) : CHUNK * below(5);
	struct rig *rig = model->rig;
	bool text = below(2);

	if (below(2))
		offset -= offset % CHUNK;
	if (below(3) == 0)
		offset = below(RIG_MAX_VALUE);
	if (len > model->most - offset)
		len = model->most - offset;
	switch (below(4)) {
	case 0:
		if (len == 0)
			return;
		assert_int_equal(run(rig, op_fallocate, .handle = model->handle,
				     .flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, .offset = offset,
				     .size = len),
				 0);
		if (offset < model->size)
			memset(model->flat + offset, 0, len < model->size - offset ? len : model->size - offset);
		return;
	case 1:
		assert_int_equal(run(rig, op_setattr, .id = id_of(rig, "f"), .handle = model->handle,
				     .change = { .set_size = true, .size = offset }),
				 0);
		if (offset < model->size)
			memset(model->flat + offset, 0, model->size - offset);
		model->size = offset;
		return;
	default:
		for (size_t i = 0; i < len; i++)
			model->flat[offset + i] = (unsigned char)(text ? 'a' + below(26) : below(256));
		assert_int_equal(run(rig, op_write, .handle = model->handle, .offset = offset,
				     .data = str_of((char *)model->flat + offset, len)),
				 0);
		if (len && offset + len > model->size)
			model->size = offset + len;
	}
}

/* So many bytes from the beginning. */
static void rewrite(struct model *model, size_t len)
{
	for (size_t i = 0; i < len; i++)
		model->flat[i] = (unsigned char)below(256);
	assert_int_equal(run(model->rig, op_write, .handle = model->handle, .data = str_of((char *)model->flat, len)),
			 0);
	if (len > model->size)
		model->size = len;
}

static void reopen(struct model *model, int flags)
{
	assert_int_equal(close_file(model->rig, model->handle), 0);
	if (below(2))
		rig_restart(model->rig);
	model->handle = open_file(model->rig, "f", flags);
}

static void random_changes(void **state)
{
	struct model *model = calloc(1, sizeof(*model));

	assert_non_null(model);
	model->rig = *state;
	model->most = MOST;
	for (unsigned round = 0; round < 20; round++) {
		seed = round;
		memset(model->flat, 0, sizeof(model->flat));
		model->size = 0;
		model->handle = open_file(model->rig, "f", O_RDWR | O_CREAT | O_TRUNC);
		for (unsigned step = 0; step < 100; step++) {
			switch (below(10)) {
			case 0:
				assert_int_equal(run(model->rig, op_fsync, .handle = model->handle), 0);
				break;
			case 1:
				reopen(model, O_RDWR);
				break;
			default:
				change(model);
			}
			check(model);
		}
		assert_int_equal(close_file(model->rig, model->handle), 0);
	}
	free(model);
}

/* There is room for hardly anything: chunks go as soon as they are written. */
static void random_changes_with_little_room(void **state)
{
	struct rig *rig = *state;

	for (rig->config.waiting_most = 2000; rig->config.waiting_most < 20000; rig->config.waiting_most *= 3) {
		rig_restart(rig);
		random_changes(state);
	}
}

static void nothing(struct loop_timer *timer)
{
	(void)timer;
}

/* Serves the loop for some rounds, whether anything goes on or not. */
static void serve_rounds(struct rig *rig, unsigned rounds)
{
	struct loop_timer timer = { 0 };

	for (; rounds > 0; rounds--) {
		loop_timer_set(rig->loop, &timer, 1, nothing);
		loop_once(rig->loop);
	}
	loop_timer_cancel(&timer);
}

/* What a commit sends, `many` chunks and what else was changed, is held at the store while programs go on changing the file. */
static void changes_during_commits(struct rig *rig, uint32_t many)
{
	struct model *model = calloc(1, sizeof(*model));

	assert_non_null(model);
	model->rig = rig;
	model->most = MOST + many * CHUNK;
	for (unsigned round = 0; round < 40; round++) {
		seed = round;
		memset(model->flat, 0, sizeof(model->flat));
		model->size = 0;
		model->handle = open_file(rig, "f", O_RDWR | O_CREAT | O_TRUNC);
		for (unsigned step = 0; step < 15; step++) {
			struct call *fsync;

			for (unsigned i = below(4); i > 0; i--)
				change(model);
			if (many)
				rewrite(model, many * CHUNK);
			memstore_add_fault(rig->ms,
					   (struct memstore_fault){
						   .op = STORE_SET,
						   .pass = below(4),
						   .hold = below(2) ? MEMSTORE_HOLD_REPLY : MEMSTORE_HOLD_REQUEST,
					   });
			fsync = begin(rig, op_fsync, .handle = model->handle);
			serve_rounds(rig, below(20));
			for (unsigned i = 1 + below(4); i > 0; i--)
				change(model);
			check(model);
			memstore_clear_faults(rig->ms);
			memstore_release(rig->ms);
			assert_int_equal(end(fsync), 0);
			check(model);
			if (below(3) == 0)
				reopen(model, O_RDWR);
			check(model);
		}
		assert_int_equal(close_file(rig, model->handle), 0);
	}
	free(model);
}

static void random_changes_during_commits(void **state)
{
	changes_during_commits(*state, 0);
}

/* Some chunks have their turn after the changes. */
static void random_changes_during_commits_of_many_chunks(void **state)
{
	changes_during_commits(*state, MANY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fs_test(random_changes),
		fs_test(random_changes_with_little_room),
		fs_test(random_changes_during_commits),
		fs_test(random_changes_during_commits_of_many_chunks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
