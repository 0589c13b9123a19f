#include "fs/fold.h"

#include <errno.h>

#include "base/clock.h"
#include "fs/base64.h"
#include "fs/internal.h"

/* More parts than this become fewer. */
#define PARTS_MOST 16

/* A new part of at most so many bytes is in the stub itself. */
#define PART_INLINE_MOST 512

/* While a value is made. */
struct folding {
	struct fold *fold;
	struct draft *draft;     /* all of the content */
	struct content *content; /* of the stub that is to be; the first `kept` parts are those of the former */
	unsigned kept;
	bool longer;        /* the new part is the last one of the former, made longer */
	uint32_t next, end; /* chunks of the new part that are still to be sent */
	uint64_t start;     /* of the new part in the content */
	struct co_group group;
	int err;
};

void fold_deinit(struct fold *fold)
{
	buf_free(&fold->value);
}

static size_t max_value_of(const struct fold *fold)
{
	return fold->node->fs->config.max_value;
}

/* --- without chunks --- */

/* Content that is in memory as a whole, as one value. -EFBIG: it takes chunks. */
static int as_one_value(struct fold *fold, const struct content *content)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	size_t max_value = max_value_of(fold);
	int r = content_size(content) + fold->text.len > max_value ? -EFBIG : 0;

	if (r == 0)
		r = content_bytes(content, &bytes);
	if (r == 0)
		r = buf_add_str(&bytes, fold->text);
	if (r < 0)
		return r == -EOPNOTSUPP ? -EFBIG : r;
	if (bytes.len > INLINE_MOST && !content_is_plain(buf_str(&bytes), max_value))
		return -EFBIG;
	return content_encode(buf_str(&bytes), max_value, &fold->value);
}

/* --- the new part --- */

static struct content_part *new_part(struct folding *folding)
{
	return &folding->content->parts[folding->kept];
}

static uint64_t new_size(const struct folding *folding)
{
	return folding->draft->size - folding->start;
}

static co_fn int encode_inline(struct folding *folding, struct buf *base64)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct fold *fold = folding->fold;
	int r = content_read(fold->node, folding->draft, folding->start, new_size(folding), &bytes);

	if (r == 0)
		r = base64_encode(buf_str(&bytes), base64);
	*new_part(folding) = (struct content_part){ .kind = CONTENT_INLINE, .base64 = buf_str(base64) };
	return r;
}

/* Fills fold->value with the stub, as it is with the parts that are kept now. */
static co_fn int encode(struct folding *folding)
{
	CLEANUP(buf_free) struct buf base64 = BUF_INIT;
	struct fold *fold = folding->fold;
	int r = 0;

	if (new_size(folding) <= PART_INLINE_MOST && !folding->longer)
		r = encode_inline(folding, &base64);
	else
		*new_part(folding) = (struct content_part){
			.kind = CONTENT_CHUNKS,
			.size = new_size(folding),
			.id = fold->id,
			.chunk_size =
				folding->longer ? new_part(folding)->chunk_size : chunk_size_for(max_value_of(fold)),
		};
	folding->content->part_count = folding->kept + 1;
	folding->content->text = STR("");
	return r < 0 ? r : content_encode_stub(folding->content, &fold->value);
}

/* One part less is kept, and as many more as are no larger than what they are copied with: so no byte is copied often. */
static void keep_less(struct folding *folding)
{
	const struct content_part *parts = folding->content->parts;

	do
		folding->start -= parts[--folding->kept].size;
	while (folding->kept && !parts[folding->kept - 1].holes.len &&
	       parts[folding->kept - 1].size <= new_size(folding));
}

/* What fits, and leaves room for text behind it. */
static co_fn int choose_parts(struct folding *folding)
{
	size_t max_value = max_value_of(folding->fold);

	for (;;) {
		size_t len;
		int r = encode(folding);

		if (r < 0)
			return r;
		len = folding->fold->value.len;
		if (folding->kept <= 1 || (len <= max_value / 2 && folding->kept < PARTS_MOST))
			return len <= max_value ? 0 : -EFBIG;
		keep_less(folding);
	}
}

static co_fn int send_one(struct folding *folding, uint32_t index)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct fold *fold = folding->fold;
	uint64_t chunk_size = new_part(folding)->chunk_size, at = index * chunk_size;
	uint64_t len = new_size(folding) - at < chunk_size ? new_size(folding) - at : chunk_size;
	int r = content_read(fold->node, folding->draft, folding->start + at, len, &bytes);

	if (r == 0 && folding->longer) /* another mount may be making it longer in place */
		r = buf_resize(&bytes, chunk_size);
	if (r == 0)
		r = chunk_send(fold->node->fs, &fold->id, index, buf_str(&bytes));
	if (r == 0)
		chunk_keep(fold->node->fs, &fold->id, index, &bytes);
	return r;
}

static void send_some(void *arg)
{
	struct folding *folding = arg;

	while (folding->next < folding->end && folding->err == 0) {
		int r = send_one(folding, folding->next++);

		if (r < 0 && folding->err == 0)
			folding->err = r;
	}
	co_group_done(&folding->group);
}

static co_fn int send_chunks(struct folding *folding)
{
	struct fs *fs = folding->fold->node->fs;
	int r = layout_ensure(fs);

	if (r < 0)
		return r;
	folding->end = folding->fold->chunks = content_chunk_count(new_part(folding));
	folding->fold->has_id = true;
	for (unsigned i = 0; i < CHUNK_WINDOW && folding->next < folding->end; i++)
		co_start_beside(fs->loop, &folding->group, send_some, folding);
	co_group_wait(&folding->group);
	return folding->err;
}

/* --- all --- */

/* The text of this mount's last fold of this file is made longer, so that a log by one writer is one part. */
static bool make_longer(struct folding *folding)
{
	struct fold *fold = folding->fold;
	struct content *content = folding->content;
	struct content_part *last = content->part_count ? &content->parts[content->part_count - 1] : NULL;

	if (content->part_count > 1 && fold->now.len - content->text.len > max_value_of(fold) / 2)
		return false; /* fewer parts would leave room for text */
	if (!fold->own || !last || last->kind != CONTENT_CHUNKS || last->holes.len ||
	    memcmp(last->id.hex, fold->own->hex, CONTENT_ID_LEN) != 0)
		return false;
	folding->longer = true;
	folding->kept = content->part_count - 1;
	folding->start -= last->size;
	folding->next = (uint32_t)(last->size / last->chunk_size);
	fold->id = last->id;
	return true;
}

static co_fn int with_parts(struct folding *folding)
{
	struct fold *fold = folding->fold;
	struct content *content = folding->content;
	bool chunked = content->part_count && content->parts[0].kind == CONTENT_CHUNKS;
	int r;

	folding->start = content_size(content) - content->text.len;
	folding->kept = content->part_count;
	if (!chunked)
		folding->start = folding->kept = 0;
	if (folding->kept == CONTENT_MAX_PARTS)
		keep_less(folding);
	if (make_longer(folding)) {
		r = encode(folding);
		if (r == 0 && fold->value.len > max_value_of(fold))
			r = -EFBIG;
	} else {
		r = content_id_new(clock_real_ns() / (CLOCK_NS_PER_S / 1000), &fold->id);
		if (r == 0)
			r = choose_parts(folding);
	}
	if (r < 0 || new_part(folding)->kind == CONTENT_INLINE)
		return r;
	return send_chunks(folding);
}

static int make_draft(struct folding *folding)
{
	struct fold *fold = folding->fold;
	struct body *body = NULL;
	int r = fold->now.p ? body_new(fold->now, &body) : 0;

	if (r < 0)
		return r;
	folding->draft = body ? draft_new_on(body, chunk_size_for(max_value_of(fold)))
			      : draft_new(chunk_size_for(max_value_of(fold)));
	body_unref(body);
	return folding->draft ? draft_append(folding->draft, fold->text) : -ENOMEM;
}

int fold_make(struct fold *fold)
{
	CLEANUP_FREE struct content *content = calloc(1, sizeof(*content));
	struct folding folding = { .fold = fold, .content = content };
	int r = content ? 0 : -ENOMEM;

	fold->has_id = false;
	if (r == 0 && fold->now.p)
		r = content_decode(fold->now, content);
	if (r == 0)
		r = as_one_value(fold, content);
	if (r != -EFBIG)
		return r;
	r = make_draft(&folding);
	if (r == 0)
		r = with_parts(&folding);
	draft_unref(folding.draft);
	return r;
}
