/* One file, chunk by chunk: which of its bytes are lost. */
#include <errno.h>
#include <inttypes.h>

#include "fs/base64.h"
#include "fs/check_internal.h"
#include "fs/walk.h"

/* A file that changes each time it is looked at is being written. */
#define LOOKS 5

/* After this share of the grace, a second, what seems to be lost is looked at again. */
#define LOOK_GRACE_SHARE 60

/* Ranges of lost bytes that are told of one file. */
#define RANGES_TOLD 16

enum loss_cause {
	LOSS_MISSING,
	LOSS_NO_BASE64,
	LOSS_SHORT,
};

/* Bytes of the file, `to` exclusive. */
struct loss {
	uint64_t from, to;
	enum loss_cause cause;
};

struct file_check {
	struct check *check;
	struct str prefix; /* of the keys of the part's chunks */
	const struct content_part *part;
	uint64_t start; /* of the part in the file */
	uint32_t count; /* of its chunks */
	uint64_t next;  /* the first chunk that was not looked at */

	struct str holes; /* behind the present one */
	uint64_t hole_first, hole_end;

	struct loss *losses;
	size_t loss_count;
	uint64_t spare;
};

/* Chunks `first` to `end` exclusive. */
static int lose(struct file_check *file, uint64_t first, uint64_t end, enum loss_cause cause)
{
	uint64_t size = file->part->chunk_size;
	uint64_t to = end == file->count ? file->part->size : end * size;
	struct loss loss = { .from = file->start + first * size, .to = file->start + to, .cause = cause };
	struct loss *last = file->loss_count ? &file->losses[file->loss_count - 1] : NULL, *grown;

	if (last && last->to == loss.from && last->cause == cause) {
		last->to = loss.to;
		return 0;
	}
	grown = reallocarray(file->losses, file->loss_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	file->losses = grown;
	grown[file->loss_count++] = loss;
	return 0;
}

/* Goes on to the first hole that ends behind `index`. */
static void pass_holes(struct file_check *file, uint64_t index)
{
	while (file->hole_end <= index) {
		uint32_t first, count;

		if (!content_hole_next(&file->holes, &first, &count)) {
			file->hole_first = file->hole_end = UINT64_MAX;
			return;
		}
		file->hole_first = first;
		file->hole_end = (uint64_t)first + count;
	}
}

/* No chunk is stored from file->next to `end` exclusive: lost, where there is no hole. */
static int pass_gap(struct file_check *file, uint64_t end)
{
	int r = 0;

	if (end > file->count)
		end = file->count;
	while (r == 0 && file->next < end) {
		pass_holes(file, file->next);
		if (file->hole_first > file->next)
			r = lose(file, file->next, file->hole_first < end ? file->hole_first : end, LOSS_MISSING);
		file->next = file->hole_end < end ? file->hole_end : end;
	}
	return r;
}

static int visit_chunk(void *arg, struct str key, struct str value)
{
	struct file_check *file = arg;
	uint64_t rest, wanted;
	size_t size;
	uint32_t index;
	int r = check_go_on(file->check);

	if (r < 0 || !layout_parse_index(str_skip(key, file->prefix.len), &index))
		return r;
	r = pass_gap(file, index);
	if (r < 0)
		return r;
	pass_holes(file, index);
	if (index >= file->count || index >= file->hole_first) {
		file->spare++;
		return 0;
	}
	rest = file->part->size - (uint64_t)index * file->part->chunk_size;
	wanted = rest < file->part->chunk_size ? rest : file->part->chunk_size;
	if (!base64_check(value, &size))
		r = lose(file, index, (uint64_t)index + 1, LOSS_NO_BASE64);
	else if (size < wanted)
		r = lose(file, index, (uint64_t)index + 1, LOSS_SHORT);
	file->next = (uint64_t)index + 1;
	return r;
}

static co_fn int check_part(struct file_check *file, const struct content_part *part)
{
	CLEANUP(buf_free) struct buf prefix = BUF_INIT;
	int r = layout_key(&file->check->layout, &prefix, "c/%s/", part->id.hex);

	if (r < 0)
		return r;
	file->prefix = buf_str(&prefix);
	file->part = part;
	file->count = content_chunk_count(part);
	file->next = 0;
	file->holes = part->holes;
	file->hole_first = file->hole_end = 0;
	r = walk_all(&file->check->layout, file->prefix, visit_chunk, file);
	return r < 0 ? r : pass_gap(file, file->count);
}

static co_fn int check_parts(struct file_check *file, const struct content *content)
{
	int r = 0;

	file->start = 0;
	file->loss_count = 0;
	file->spare = 0;
	for (unsigned i = 0; r == 0 && i < content->part_count; i++) {
		if (content->parts[i].kind == CONTENT_CHUNKS)
			r = check_part(file, &content->parts[i]);
		file->start += content->parts[i].size;
	}
	return r;
}

static int tell_losses(struct file_check *file, struct str key, uint64_t size)
{
	static const char *const causes[] = {
		[LOSS_MISSING] = "missing",
		[LOSS_NO_BASE64] = "not base64",
		[LOSS_SHORT] = "too short",
	};
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	uint64_t lost = 0;
	size_t i;
	int r;

	for (i = 0; i < file->loss_count; i++)
		lost += file->losses[i].to - file->losses[i].from;
	r = buf_printf(&text, "%" PRIu64 " of %" PRIu64 " bytes are lost:", lost, size);
	for (i = 0; r == 0 && i < file->loss_count && i < RANGES_TOLD; i++)
		r = buf_printf(&text, "%s %" PRIu64 "-%" PRIu64 " (%s)", i ? "," : "", file->losses[i].from,
			       file->losses[i].to - 1, causes[file->losses[i].cause]);
	if (r == 0 && i < file->loss_count)
		r = buf_printf(&text, " and %zu ranges more", file->loss_count - i);
	if (r == 0 && !check_add_fault(file->check, CHECK_LOST, key, buf_str(&text)))
		r = -ENOMEM;
	return r;
}

/* The file as it is now. *settled is true where nothing is lost, and where it still is what it was when its chunks were looked
 * at; the first time a loss is not believed: a mount may be between two of its writes. */
static co_fn int look(struct file_check *file, struct str key, int number, bool *settled)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	CLEANUP(buf_free) struct buf again = BUF_INIT;
	struct content content;
	int r = store_get(file->check->layout.store, key, &value);

	*settled = true;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = content_decode(buf_str(&value), &content);
	if (r == 0)
		r = check_parts(file, &content);
	if (r < 0 || file->loss_count == 0)
		return r;
	if (number == 0) {
		*settled = false;
		return check_wait(file->check, file->check->config.grace_us / LOOK_GRACE_SHARE);
	}
	r = store_get(file->check->layout.store, key, &again);
	if (r < 0 && r != -ENOENT)
		return r;
	*settled = r == 0 && str_equal(buf_str(&again), buf_str(&value));
	return *settled ? tell_losses(file, key, content_size(&content)) : 0;
}

static co_fn int check_file(void *arg, size_t index)
{
	struct check *check = arg;
	struct str key = buf_str(&check->suspects.keys[index]);
	struct file_check file = { .check = check };
	bool settled = false;
	int r = 0;

	for (int i = 0; r == 0 && !settled && i < LOOKS; i++)
		r = look(&file, key, i, &settled);
	if (r == 0 && !settled)
		check_note(check, key, "changes all the time: its chunks were not examined");
	check->spare += file.spare;
	free(file.losses);
	return r;
}

int check_suspects(struct check *check)
{
	check_stage(check, "chunks of single files");
	return check_each(check, check->suspects.count, check_file, check);
}
