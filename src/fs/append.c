/* Appends, so that no writer's text is lost where several append to one file.
 *
 * A PATCH of the key leaves to the store where the text goes. Where a PATCH does not surely append, or the value would become
 * too long, what the key holds is folded with the text into a new value (fold.c). Its SET destroys what others have put there
 * since it was read; a GET right before tells what that was, and it is put right before the append is acknowledged:
 *
 * - what was read, and more behind it: the more is owed, and is appended like our own text;
 * - nothing: the file was removed. Our own text alone is set;
 * - another value: it is put back, and our own text is owed. What that destroys is treated in the same way. */
#include <errno.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "fs/fold.h"
#include "fs/internal.h"
#include "fs/removal.h"

/* How often an append whose connection was lost is sent again where it surely did not arrive. */
#define REPEATS 3

/* Others are given way so often. */
#define TURNS 32

/* After a lost connection a text of at least so many bytes, found among others', is ours. */
#define TELLING 16

struct append {
	struct node *node;
	struct buf key;
	struct buf now; /* what the key holds, as far as is known */
	bool absent;
	struct buf own;     /* the text that is to be appended */
	struct buf owed;    /* text that still is: ours, and what others had appended to a value that ours destroyed */
	struct buf carried; /* text that is in a value that is being set */
	struct buf folded;  /* the last value that a new one has taken the place of */
	bool asked;         /* `now` is from the store, and nothing was sent since */
	bool fresh;         /* it was asked for at all */
	bool alone;         /* nobody else was seen at it */
	unsigned turns;
	struct content_id last; /* that was sent */
	uint32_t last_chunks;   /* 0: none was */
};

static void append_deinit(struct append *append)
{
	buf_free(&append->key);
	buf_free(&append->now);
	buf_free(&append->own);
	buf_free(&append->owed);
	buf_free(&append->carried);
	buf_free(&append->folded);
}

bool append_waits(const struct node *node)
{
	const struct file *file = node->file;

	return file->append_only && file->draft && file->draft->tail.len;
}

/* --- PATCH --- */

static bool begins_object(struct str text)
{
	size_t i = 0;

	while (i < text.len && strchr(" \t\r\n", text.p[i]))
		i++;
	return i < text.len && text.p[i] == '{';
}

/* Behind a stub that has chunks text may stand: what is small is to become plain again. False also where it is no stub. */
static bool stub_takes_text(struct str value, bool *stub)
{
	CLEANUP_FREE struct content *content = calloc(1, sizeof(*content));
	bool chunked = false;

	if (!content || content_decode(value, content) < 0)
		return false;
	*stub = content->stub;
	for (unsigned i = 0; i < content->part_count; i++)
		chunked |= content->parts[i].kind == CONTENT_CHUNKS;
	return chunked;
}

static bool whole_is_plain(const struct append *append, size_t max_value)
{
	CLEANUP(buf_free) struct buf whole = BUF_INIT;

	return buf_set(&whole, buf_str(&append->now)) == 0 && buf_add_str(&whole, buf_str(&append->owed)) == 0 &&
	       content_is_plain(buf_str(&whole), max_value);
}

/* A PATCH concatenates for certain only plain text that is no JSON object. */
static bool can_patch(const struct append *append)
{
	size_t max_value = append->node->fs->config.max_value;
	struct str owed = buf_str(&append->owed), now = buf_str(&append->now);
	bool stub = false;

	if (begins_object(owed) || now.len + owed.len > max_value || memchr(owed.p, 0, owed.len) || !utf8_valid(owed))
		return false;
	if (str_starts(now, STR(CONTENT_MAGIC)) && stub_takes_text(now, &stub))
		return true;
	return !stub && whole_is_plain(append, max_value);
}

/* The file was removed, and with it all that others had appended. */
static int owe_own(struct append *append)
{
	buf_clear(&append->carried);
	return buf_set(&append->owed, buf_str(&append->own));
}

static co_fn int ask(struct append *append)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	int r = store_get(append->node->fs->store, buf_str(&append->key), &value);

	if (r < 0 && r != -ENOENT)
		return r;
	if (append->absent != (r == -ENOENT) || !str_equal(buf_str(&value), buf_str(&append->now)))
		append->alone = false;
	append->absent = r == -ENOENT;
	append->asked = append->fresh = true;
	r = append->absent ? owe_own(append) : 0;
	buf_free(&append->now);
	append->now = buf_take(&value);
	return r;
}

static unsigned count_of(struct str text, struct str wanted)
{
	unsigned count = 0;
	const char *at;

	while (text.len && (at = memmem(text.p, text.len, wanted.p, wanted.len))) {
		count++;
		text = str_skip(text, (size_t)(at - text.p) + 1);
	}
	return count;
}

/* After a lost connection. 0: the text is there; -EAGAIN: it surely is not; -EIO: that cannot be told. */
static co_fn int did_arrive(struct append *append)
{
	CLEANUP(buf_free) struct buf before = BUF_INIT;
	struct str rest, owed = buf_str(&append->owed);
	int r = buf_set(&before, buf_str(&append->now));
	unsigned count;

	if (r == 0)
		r = ask(append);
	if (r < 0)
		return r;
	if (!str_starts(buf_str(&append->now), buf_str(&before)))
		return -EIO;
	rest = str_skip(buf_str(&append->now), before.len);
	if (str_equal(rest, owed))
		return 0;
	count = count_of(rest, owed);
	if (count == 0)
		return -EAGAIN;
	return count == 1 && owed.len >= TELLING ? 0 : -EIO;
}

/* -EFBIG: others have appended so much that it has no room. */
static co_fn int patch(struct append *append)
{
	int r = -EAGAIN;

	for (int i = 0; i < REPEATS && r == -EAGAIN; i++) {
		r = store_patch(append->node->fs->store, buf_str(&append->key), buf_str(&append->owed));
		if (r == 0)
			r = buf_add_str(&append->now, buf_str(&append->owed));
		else if (r == -ECONNRESET)
			r = did_arrive(append);
	}
	if (r < 0)
		return r == -EAGAIN ? -EIO : r;
	append->absent = false;
	buf_clear(&append->owed);
	return 0;
}

/* --- fold --- */

/* What was sent last is in no value that is to stay. */
static void forget_last(struct append *append)
{
	if (append->last_chunks)
		removal_later(append->node->fs, &append->last, append->last_chunks, buf_str(&append->key));
	append->last_chunks = 0;
}

/* A value with what is owed behind `now`, which is then carried by it. */
static co_fn int make_value(struct append *append, bool behind, struct buf *value)
{
	CLEANUP(fold_deinit) struct fold fold = { .node = append->node, .text = buf_str(&append->owed) };
	CLEANUP_FREE struct content_id *own = STEAL(append->node->file->tail_id);
	int r;

	if (behind)
		fold.now = buf_str(&append->now);
	/* it is taken away: what goes wrong from here on has used the id for what is in no file */
	fold.own = own;
	r = fold_make(&fold);
	if (fold.has_id) {
		append->last = fold.id;
		append->last_chunks = fold.chunks;
	}
	if (r < 0) {
		forget_last(append);
		return r;
	}
	buf_free(value);
	*value = buf_take(&fold.value);
	r = buf_add_str(&append->carried, buf_str(&append->owed));
	buf_clear(&append->owed);
	return r;
}

static int owe_again(struct append *append)
{
	int r = buf_add_str(&append->carried, buf_str(&append->owed));

	buf_free(&append->owed);
	append->owed = buf_take(&append->carried);
	return r;
}

/* `value` stands, and has destroyed `was`, where `now` was expected. 1: *value is to be set now. */
static co_fn int put_right(struct append *append, struct buf *value, const struct buf *was, bool absent)
{
	CLEANUP(buf_free) struct buf expected = buf_take(&append->now);
	bool expected_absent = append->absent;
	int r;

	append->now = buf_take(value);
	append->absent = false;
	if (absent == expected_absent && str_equal(buf_str(was), buf_str(&expected)))
		return 0;
	append->alone = false;
	if (!absent && !expected_absent && str_starts(buf_str(was), buf_str(&expected)))
		return buf_add_str(&append->owed, str_skip(buf_str(was), expected.len));
	forget_last(append);
	r = absent ? owe_own(append) : owe_again(append);
	if (r == 0)
		r = absent ? make_value(append, false, value) : buf_set(value, buf_str(was));
	return r < 0 ? r : 1;
}

static co_fn int set(struct append *append, struct buf *value)
{
	struct store *store = append->node->fs->store;
	int r = 1;

	while (r == 1) {
		CLEANUP(buf_free) struct buf was = BUF_INIT;
		struct store_expect before = { .what = STORE_EXPECT_ABSENT };
		bool absent = false;

		if (append->turns++ == TURNS)
			return -EIO;
		if (!append->absent)
			before = store_expect_value(buf_str(&append->now));
		r = store_swap(store, buf_str(&append->key), buf_str(value), before, &was, &absent);
		if (r == 0)
			r = put_right(append, value, &was, absent);
	}
	return r;
}

static co_fn int fold(struct append *append)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	int r = buf_set(&append->folded, buf_str(&append->now));

	if (r == 0)
		r = make_value(append, !append->absent, &value);
	if (r == 0)
		r = set(append, &value);
	buf_clear(&append->carried);
	return r;
}

/* --- all --- */

static co_fn int append_all(struct append *append)
{
	bool refused = false;
	int r = 0;

	while (r == 0 && append->owed.len) {
		if (append->turns++ >= TURNS)
			return -EIO;
		if (!refused && can_patch(append)) {
			r = patch(append);
			if (r == -EFBIG) { /* others have left less room than is known here */
				refused = true;
				append->asked = false;
				r = 0;
			}
		} else if (!append->asked) {
			r = ask(append);
		} else {
			append->asked = false;
			r = fold(append);
			if (r == 0)
				refused = false;
			if (r == -ESTALE)
				r = 0; /* replaced while it was read */
		}
	}
	return r;
}

/* What the key holds, from memory if it is there. */
static co_fn int begin(struct append *append, const struct draft *draft)
{
	struct node *node = append->node;
	struct file *file = node->file;
	int r = node_keys(node, &append->key, NULL);

	if (r == 0 && file->stored && !file->have_value)
		r = value_load(node);
	if (r < 0 && r != -ESTALE)
		return r;
	append->absent = !file->stored || r == -ESTALE;
	append->alone = draft->base ? !append->absent && strcmp(draft->base->hash, file->hash) == 0 : append->absent;
	if (file->draft != draft || !append_waits(node))
		return -EAGAIN; /* changed in other ways while the value was read */
	r = append->absent ? 0 : buf_set(&append->now, buf_str(&file->value));
	if (r == 0)
		r = buf_set(&append->own, buf_str(&draft->tail));
	return r < 0 ? r : buf_set(&append->owed, buf_str(&draft->tail));
}

/* What is known before others are heard of. */
static co_fn int record_first(struct append *append)
{
	CLEANUP(buf_free) struct buf guess = BUF_INIT;
	int r = buf_set(&guess, buf_str(&append->now));

	if (r == 0)
		r = buf_add_str(&guess, buf_str(&append->owed));
	return r < 0 ? r : attr_before_value(append->node, buf_str(&guess));
}

void file_forget_tail(struct file *file)
{
	free(STEAL(file->tail_id));
}

/* Without memory it is not known any more, and the next part gets an id of its own. */
static void remember_tail(struct file *file, const struct content_id *id)
{
	file_forget_tail(file);
	file->tail_id = malloc(sizeof(*id));
	if (file->tail_id)
		*file->tail_id = *id;
}

static void keep_ids(struct append *append, bool own_before)
{
	struct file *file = append->node->file;
	const struct body_part *first = body_first_chunks(file->body), *last = NULL;
	struct str id = str_of(append->last.hex, CONTENT_ID_LEN);

	if (file->body)
		for (unsigned i = 0; i < file->body->part_count; i++)
			if (file->body->parts[i].chunked)
				last = &file->body->parts[i];
	file->own_id = first && ((own_before && append->alone) ||
				 (append->last_chunks && str_equal(str_of(first->id.hex, CONTENT_ID_LEN), id)));
	if (append->last_chunks && last && str_equal(str_of(last->id.hex, CONTENT_ID_LEN), id))
		remember_tail(file, &append->last);
	if (!append->alone)
		file->alone_us = 0;
}

static void done(struct append *append, struct draft *draft, size_t sent)
{
	struct node *node = append->node;
	struct file *file = node->file;
	struct body *body = NULL;
	uint64_t checked_us = node->checked_us;
	bool provisional = !append->fresh;
	bool own_before = file->own_id;

	file->stored = true;
	if (value_set_here(node, buf_str(&append->now)) < 0)
		value_drop(node); /* no memory: it is read again */
	keep_ids(append, own_before);
	file->provisional = provisional;
	if (provisional)
		node->checked_us = checked_us;
	if (!append->alone) {
		file->version++;
		node_invalidate(node);
	}
	forget_ids(node->fs, file, buf_str(&append->folded), buf_str(&append->key));
	draft_stored(draft);
	if (file->draft != draft || !file->append_only)
		return; /* changed in other ways meanwhile: what it is then has the text in it */
	if (body_new(buf_str(&append->now), &body) < 0)
		body = NULL;
	if (!draft_appended(draft, body, sent))
		file_forget_changes(node);
	body_unref(body);
}

int append_commit(struct node *node)
{
	CLEANUP(append_deinit) struct append append = { .node = node };
	struct draft *draft = draft_ref(node->file->draft);
	int r = begin(&append, draft);
	size_t sent = append.owed.len;

	if (r == 0)
		r = record_first(&append);
	if (r == 0)
		r = append_all(&append);
	if (r == 0)
		done(&append, draft, sent);
	draft_unref(draft);
	if (r != -EFBIG)
		return r;
	r = file_prepare_change(node, 0, 0);
	return r < 0 ? r : -EAGAIN;
}
