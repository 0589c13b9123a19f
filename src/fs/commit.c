/* Changed content on its way to the store.
 *
 * Whole new content: chunks under a new id, then one SET of the key. In place, where the first part of what is stored is
 * chunks: those that were touched, and a SET of the stub where that has become another. Small content is a value alone. All
 * with the node locked; programs go on writing meanwhile, and what they write stays for the next commit.
 *
 * In place no chunk is removed, neither behind a new end nor in a hole: another mount may be about to set a stub that names it.
 * What no stub names is not read, whoever makes the file longer names as holes what he has not sent, and all goes with the
 * id. */
#include <errno.h>

#include "base/clock.h"
#include "fs/announce.h"
#include "fs/base64.h"
#include "fs/held.h"
#include "fs/ids.h"
#include "fs/internal.h"
#include "fs/removal.h"

/* So often all chunks of a commit are sent, or copied to a new id, before it fails. */
#define SENDINGS_MOST 3

/* --- as many as may be under way --- */

/* In order of arrival, so that a large value is not kept waiting by many small chunks. */
static co_fn void sending_begin(struct fs *fs, uint64_t bytes)
{
	mutex_lock(&fs->sending_turn);
	while (fs->sending && fs->sending + bytes > SENDING_MOST)
		queue_wait(&fs->sent);
	fs->sending += bytes;
	co_mutex_unlock(&fs->sending_turn);
}

static void sending_end(struct fs *fs, uint64_t bytes)
{
	fs->sending -= bytes;
	co_queue_wake_all(&fs->sent);
}

static void value_sent(struct commit *commit)
{
	if (commit->sending)
		sending_end(commit->node->fs, commit->sending);
	commit->sending = 0;
}

/* What was dropped meanwhile is forgotten by who was sending it. */
static void draft_is_sent(struct node *node)
{
	struct draft *draft = STEAL(node->file->sending);

	if (node->file->draft != draft)
		forget_draft(node, draft);
	draft_unref(draft);
}

void commit_deinit(struct commit *commit)
{
	value_sent(commit);
	if (commit->draft)
		draft_is_sent(commit->node);
	commit->draft = NULL;
	buf_free(&commit->key);
	buf_free(&commit->value);
}

/* --- sending --- */

struct sender {
	struct node *node;
	struct draft *draft;
	uint64_t size;   /* of the content when it was captured */
	bool stub_stays; /* what it calls a hole is read as one, whatever is sent */
	unsigned under_way;
	struct co_queue ended;
	int err;
};

struct sending {
	struct sender *sender;
	uint32_t index;
	uint64_t bytes;
};

static uint64_t chunk_length(uint64_t chunk_size, uint64_t size, uint64_t start)
{
	if (start >= size)
		return 0;
	return size - start < chunk_size ? size - start : chunk_size;
}

/* In place as long as any can be, with zeros at its end: another mount may be making the file longer at this moment, and its stub
 * may be the one that stays. */
static co_fn int send_chunk(struct sender *sender, uint32_t index)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	CLEANUP(buf_free) struct buf taken = BUF_INIT;
	struct draft *draft = sender->draft;
	struct fs *fs = sender->node->fs;
	struct content_id id = draft->id;
	uint64_t changed = draft->changes, start = index * draft->chunk_size;
	uint64_t len = chunk_length(draft->chunk_size, sender->size, start);
	int r;

	if (draft->in_place)
		len = draft->chunk_size;
	r = content_read(sender->node, draft, start, len, &bytes);
	if (r == 0)
		r = buf_resize(&bytes, len);
	if (r == 0)
		r = chunk_send(fs, &id, index, buf_str(&bytes));
	if (r == 0)
		r = draft_sent(draft, index, len, changed, &taken);
	if (r == 0 && taken.p && buf_resize(&taken, len) == 0)
		chunk_keep(fs, &id, index, &taken);
	return r;
}

/* To the id that the draft moves to. */
static co_fn int copy_chunk(struct sender *sender, uint32_t index)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct draft *draft = sender->draft;
	struct fs *fs = sender->node->fs;
	struct chunk *chunk;
	int r;

	do {
		r = chunk_get(fs, &draft->id, index, &chunk);
		if (r < 0)
			return r;
		r = chunk_wait(chunk);
		if (r == 0)
			r = buf_set(&bytes, buf_str(&chunk->bytes));
		chunk_put(chunk);
	} while (r == -EAGAIN);
	if (r == -ENOENT || r == -EBADMSG) {
		draft->gone = true;
		return -EIO;
	}
	return r < 0 ? r : chunk_send(fs, &draft->next, index, buf_str(&bytes));
}

static void sending_run(void *arg)
{
	struct sending *sending = arg;
	struct sender *sender = sending->sender;
	int r = sender->draft->moves ? copy_chunk(sender, sending->index) : send_chunk(sender, sending->index);

	sending_end(sender->node->fs, sending->bytes);
	if (r < 0 && sender->err == 0)
		sender->err = r;
	free(sending);
	sender->under_way--;
	co_queue_wake_all(&sender->ended);
}

static co_fn void sender_add(struct sender *sender, uint32_t index)
{
	struct sending *sending;

	while (sender->under_way >= CHUNK_WINDOW)
		queue_wait(&sender->ended);
	sending = malloc(sizeof(*sending));
	if (!sending) {
		sender->err = -ENOMEM;
		return;
	}
	*sending = (struct sending){ .sender = sender, .index = index, .bytes = sender->draft->chunk_size };
	sending_begin(sender->node->fs, sending->bytes);
	if (index >= sender->draft->sent_chunks)
		sender->draft->sent_chunks = index + 1;
	sender->under_way++;
	if (co_start(sender->node->fs->loop, sending_run, sending) < 0)
		sending_run(sending); /* no memory for another: one after the other */
}

static co_fn int sender_end(struct sender *sender)
{
	while (sender->under_way)
		queue_wait(&sender->ended);
	return sender->err;
}

/* Written since the capture. It waits for another stub. */
static bool is_in_hole(const struct sender *sender, uint32_t index)
{
	uint64_t start = index * sender->draft->chunk_size;

	return sender->stub_stays && body_next_data(sender->draft->base, start) != start;
}

/* What is in memory, but not the chunk `except` (UINT32_MAX: none). */
static co_fn int send_dirty(struct sender *sender, uint32_t except)
{
	const struct slot *slot = draft_next_dirty(sender->draft, 0);

	while (slot && !sender->err && slot->index * sender->draft->chunk_size < sender->size) {
		uint32_t index = slot->index;

		if (index != except && !is_in_hole(sender, index))
			sender_add(sender, index);
		slot = draft_next_dirty(sender->draft, index + 1);
	}
	return sender_end(sender);
}

/* --- holes --- */

struct hole_list {
	struct hole *holes;
	size_t count, room;
};

static int hole_add(struct hole_list *list, uint32_t first, uint32_t count)
{
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 16;
		struct hole *holes = reallocarray(list->holes, room, sizeof(*holes));

		if (!holes)
			return -ENOMEM;
		list->holes = holes;
		list->room = room;
	}
	list->holes[list->count++] = (struct hole){ first, count };
	return 0;
}

static int find_holes(const struct draft *draft, struct hole_list *list)
{
	uint32_t chunks = draft_chunks(draft), at = 0;
	int r = 0;

	while (r == 0 && at < chunks) {
		uint32_t data = draft_next_data(draft, at);

		if (data > at)
			r = hole_add(list, at, data - at);
		at = data < chunks ? data + 1 : chunks;
	}
	return r;
}

static int print_holes(const struct hole_list *list, struct buf *text)
{
	int r = 0;

	buf_clear(text);
	for (size_t i = 0; r == 0 && i < list->count; i++)
		r = buf_printf(text, "%s%u+%u", i ? "," : "", list->holes[i].first, list->holes[i].count);
	return r;
}

/* Takes out all holes of the least size there is: zeros are stored for them. */
static void fill_smallest(struct hole_list *list)
{
	uint32_t smallest = UINT32_MAX;
	size_t kept = 0;

	for (size_t i = 0; i < list->count; i++)
		if (list->holes[i].count < smallest)
			smallest = list->holes[i].count;
	for (size_t i = 0; i < list->count; i++)
		if (list->holes[i].count > smallest)
			list->holes[kept++] = list->holes[i];
	list->count = kept;
}

static int encode_stub(const struct draft *draft, struct str holes, struct buf *value)
{
	CLEANUP_FREE struct content *content = calloc(1, sizeof(*content));

	if (!content)
		return -ENOMEM;
	content->stub = true;
	content->part_count = 1;
	content->parts[0] = (struct content_part){
		.kind = CONTENT_CHUNKS,
		.size = draft->size,
		.id = draft->id,
		.chunk_size = draft->chunk_size,
		.encoding = CONTENT_BASE64,
		.holes = holes,
	};
	return content_encode_stub(content, value);
}

/* The stub of what the draft is now, which fits a value, and the holes that it names. */
static int make_stub(const struct node *node, const struct draft *draft, struct hole_list *holes, struct buf *value)
{
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	size_t max_value = node->fs->config.max_value;
	int r = find_holes(draft, holes);

	while (r == 0) {
		r = print_holes(holes, &text);
		if (r == 0)
			r = encode_stub(draft, buf_str(&text), value);
		if (r < 0 || value->len <= max_value)
			break;
		if (holes->count == 0)
			return -EFBIG;
		fill_smallest(holes);
	}
	return r;
}

static co_fn int send_all(struct sender *sender, const struct hole_list *holes, uint32_t chunks)
{
	size_t hole = 0;

	for (uint32_t i = 0; i < chunks && !sender->err; i++) {
		if (hole < holes->count && i == holes->holes[hole].first) {
			i += holes->holes[hole++].count - 1;
			continue;
		}
		if (draft_plan(sender->draft, i) != DRAFT_STORED)
			sender_add(sender, i);
	}
	return sender_end(sender);
}

/* --- place --- */

/* As far as is known the key holds what the draft was made from. */
static bool base_is_known(const struct file *file, const struct draft *draft)
{
	return file->stored && strcmp(file->hash, draft->base->hash) == 0;
}

/* The same, asked for. Where it does, that is known from now on. */
static co_fn int base_still_stands(struct node *node, const struct draft *draft, bool *stands)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf now = BUF_INIT;
	char hash[CONTENT_HASH_LEN + 1];
	uint64_t seq = fs_tick(node->fs);
	int r = node_keys(node, &key, NULL);

	*stands = false;
	if (r == 0)
		r = store_get(node->fs->store, buf_str(&key), &now);
	if (r == 0)
		r = content_hash(buf_str(&now), hash);
	if (r == 0)
		*stands = strcmp(hash, draft->base->hash) == 0;
	if (*stands && node->change_seq <= seq && node->answer_seq <= seq)
		node_checked(node, seq);
	return r == -ENOENT ? 0 : r;
}

/* An id that another live name may have is not written in place. */
static co_fn int leave_shared_place(struct node *node, struct draft *draft)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	struct id_holders holders = { 0 };
	struct fs *fs = node->fs;
	struct file *file = node->file;
	uint64_t now = clock_now_us();
	int r;

	if (!draft->in_place || file->own_id || (file->alone_us && now - file->alone_us < fs->config.ttl_us))
		return 0;
	if (node_is_unlinked(node)) {
		draft_leave_place(draft);
		return 0;
	}
	r = node_keys(node, &key, NULL);
	if (r == 0)
		r = id_find_holders(&fs->layout, &draft->id, STR(""), buf_str(&key), &holders);
	if (r < 0 && r != -EUCLEAN)
		return r;
	if (r == -EUCLEAN || holders.held)
		draft_leave_place(draft);
	else
		file->alone_us = now;
	return 0;
}

static uint64_t data_of_base(const struct draft *draft)
{
	const struct body_part *part = body_first_chunks(draft->base);
	uint64_t count = (part->size - 1) / part->chunk_size + 1;

	for (size_t i = 0; i < part->hole_count; i++)
		count -= part->holes[i].count;
	return count;
}

static uint64_t data_of_draft(const struct draft *draft)
{
	uint32_t chunks = draft_chunks(draft);
	uint64_t count = 0;

	for (uint32_t i = draft_next_data(draft, 0); i < chunks; i = draft_next_data(draft, i + 1))
		count++;
	return count;
}

/* More would stay in the store than is needed: what is left goes under a new id, and all of the old one later. */
static bool mostly_cut(const struct draft *draft)
{
	return 2 * data_of_draft(draft) < data_of_base(draft);
}

/* A renaming that failed may have set it under the other name: before this one holds it, too, `i/` tells of both. */
static co_fn int name_other(struct node *node, struct draft *draft)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	int r;

	if (!draft->has_id || draft->in_place || !draft->other.len || node_is_unlinked(node))
		return 0;
	r = node_keys(node, &key, NULL);
	if (r == 0)
		r = id_name(&node->fs->layout, &draft->id, buf_str(&key), buf_str(&draft->other));
	if (r < 0)
		return r;
	draft->named = true;
	buf_free(&draft->other);
	return 0;
}

static int new_id(struct content_id *id)
{
	return content_id_new(clock_real_ns() / (CLOCK_NS_PER_S / 1000), id);
}

/* Later, where neither the file's key nor the other name holds them by then. */
static void remove_chunks(struct node *node, const struct draft *draft, const struct content_id *id)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;

	if (!node->parent || node_keys(node, &key, NULL) == 0)
		removal_later(node->fs, id, draft->sent_chunks,
			      draft->other.len ? buf_str(&draft->other) : buf_str(&key));
}

/* Under a new id. After a long silence fsck may be about to remove the chunks, or has done so. */
static co_fn int move_chunks(struct node *node, struct draft *draft)
{
	struct sender sender = { .node = node, .draft = draft };
	const struct slot *slot = draft_next_out(draft, 0);
	struct content_id former = draft->id;
	int r = new_id(&draft->next);

	draft->moves = r == 0;
	while (r == 0 && slot && !sender.err) {
		uint32_t index = slot->index;

		sender_add(&sender, index);
		slot = draft_next_out(draft, index + 1);
	}
	if (r == 0)
		r = sender_end(&sender);
	draft->moves = false;
	remove_chunks(node, draft, r == 0 ? &former : &draft->next);
	if (r < 0)
		return r;
	draft->id = draft->next;
	draft->named = false;
	buf_free(&draft->other);
	return 0;
}

/* Nobody else names the id of the chunks, which are not in place. */
static co_fn int id_is_kept(struct node *node, const struct draft *draft, bool *kept)
{
	*kept = true;
	return draft->has_id && !draft->in_place ? announce_kept(node->fs, &draft->id, kept) : 0;
}

/* A renaming that failed may have set what it was then under another name, and that does not change with this one. */
static bool is_left_to_another(const struct draft *draft)
{
	return draft->has_id && !draft->in_place && (draft->other.len || draft->named) &&
	       draft->shared != draft->changes;
}

static co_fn int prepare_id(struct node *node, struct draft *draft)
{
	bool kept = true;
	int r = layout_ensure(node->fs);

	if (r == 0)
		r = leave_shared_place(node, draft);
	if (r == 0 && !is_left_to_another(draft))
		r = name_other(node, draft);
	if (r == 0 && !draft->has_id) {
		r = new_id(&draft->id);
		draft->has_id = r == 0;
		draft->sent_chunks = 0;
		draft->named = false;
		buf_free(&draft->other);
	}
	if (r == 0)
		r = id_is_kept(node, draft, &kept);
	if (r == 0 && (!kept || is_left_to_another(draft)))
		r = move_chunks(node, draft);
	return r;
}

/* --- the three forms --- */

/* Content as a value alone, if that can be: commit->value is empty where it cannot. */
static co_fn int as_value(struct node *node, struct commit *commit)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	struct draft *draft = commit->draft;
	size_t max_value = node->fs->config.max_value;
	int r;

	if (commit->size > max_value || (commit->size > INLINE_MOST && draft_has_nul(draft)))
		return 0;
	commit->sending = commit->size;
	sending_begin(node->fs, commit->sending);
	r = buf_reserve(&bytes, commit->size);
	if (r == 0)
		r = content_read(node, draft, 0, commit->size, &bytes);
	if (r < 0)
		return r;
	commit->size = bytes.len; /* another may have made it shorter meanwhile */
	if (content_is_plain(buf_str(&bytes), max_value)) {
		commit->value = buf_take(&bytes);
		return 0;
	}
	if (bytes.len > INLINE_MOST)
		return 0;
	r = content_encode(buf_str(&bytes), max_value, &commit->value);
	return r == -EFBIG ? 0 : r;
}

static co_fn int touched_chunks(struct node *node, struct commit *commit)
{
	struct sender sender = { .node = node, .draft = commit->draft, .size = commit->size, .stub_stays = true };

	commit->in_place = true;
	return send_dirty(&sender, UINT32_MAX);
}

static co_fn int as_chunks(struct node *node, struct commit *commit)
{
	struct sender sender = { .node = node, .draft = commit->draft };
	struct draft *draft = commit->draft;
	struct hole_list holes = { 0 };
	bool stands = true;
	int r = prepare_id(node, draft);

	/* between several writers the last one wins, with its whole content under an id of its own. That another has replaced it
	 * is told under a subscription, and else found once a ttl at most */
	if (r == 0 && draft->in_place)
		stands = base_is_known(node->file, draft);
	if (r == 0 && draft->in_place && stands && !(draft_keeps_stub(draft) && node_was_checked(node))) {
		r = base_still_stands(node, draft, &stands);
		stands = stands && !mostly_cut(draft);
	}
	if (r == 0 && !stands) {
		draft_leave_place(draft);
		r = prepare_id(node, draft);
	}
	if (r == 0 && draft->in_place)
		r = attr_before_chunks(node);
	if (r < 0)
		return r;
	/* from here on it is this very content, whatever was written while the store was asked */
	commit->captured = draft_capture(draft);
	commit->size = sender.size = draft->size;
	if (draft->in_place && draft_keeps_stub(draft))
		return touched_chunks(node, commit);
	if (draft->size == 0)
		return content_encode(STR(""), node->fs->config.max_value, &commit->value);
	r = make_stub(node, draft, &holes, &commit->value);
	if (r == 0)
		r = send_all(&sender, &holes, draft_chunks(draft));
	free(holes.holes);
	return r;
}

/* Sending may take long, and then again, where the id cannot be announced or this machine sleeps each time. */
static co_fn int as_chunks_that_stay(struct node *node, struct commit *commit)
{
	bool kept = false;
	int r = 0;

	for (unsigned i = 0; r == 0 && !kept; i++) {
		if (i == SENDINGS_MOST)
			return -ETIMEDOUT;
		buf_clear(&commit->value);
		r = as_chunks(node, commit);
		if (r == 0)
			r = id_is_kept(node, commit->draft, &kept);
	}
	return r;
}

int commit_prepare(struct node *node, struct commit *commit)
{
	struct file *file = node->file;
	int r = node_keys(node, &commit->key, NULL);

	if (r < 0)
		return r;
	if (file->stored && file->stub && !file->have_value) {
		r = value_load(node); /* which chunks go */
		if (r < 0 && r != -ESTALE)
			return r;
	}
	if (!file->draft)
		return -EAGAIN;
	r = append_waits(node) ? file_prepare_change(node, 0, 0) : 0;
	if (r < 0)
		return r;
	commit->node = node;
	commit->draft = file->sending = draft_ref(file->draft);
	commit->captured = draft_capture(commit->draft);
	commit->size = commit->draft->size;
	r = as_value(node, commit);
	if (r == 0 && !commit->value.len) {
		value_sent(commit); /* it is none, and its chunks are counted one by one */
		r = as_chunks_that_stay(node, commit);
	}
	if (r == 0 && commit->in_place)
		r = value_load(node);
	if (r == 0 && commit->in_place)
		r = buf_set(&commit->value, buf_str(&file->value));
	return r;
}

/* --- afterwards --- */

void forget_ids(struct fs *fs, const struct file *file, struct str before, struct str key)
{
	struct body *body;

	if (!str_starts(before, STR(CONTENT_MAGIC)) || body_new(before, &body) < 0)
		return;
	for (unsigned i = 0; i < body->part_count; i++) {
		const struct body_part *part = &body->parts[i];

		if (part->chunked && !(file && body_names_id(file->body, &part->id)) && !held_keeps(fs, &part->id))
			removal_later(fs, &part->id, (uint32_t)((part->size - 1) / part->chunk_size + 1), key);
	}
	body_unref(body);
}

void forget_draft(struct node *node, const struct draft *draft)
{
	if (draft->has_id && !draft->in_place && !body_names_id(node->file->body, &draft->id))
		remove_chunks(node, draft, &draft->id);
}

/* The draft goes on from what is stored now. */
static bool rebase(struct node *node, const struct commit *commit)
{
	struct body *body = node->file->body ? body_ref(node->file->body) : NULL;
	bool more;

	if (commit->draft->changes == commit->captured)
		more = false;
	else if (!body && body_new(buf_str(&commit->value), &body) < 0)
		return true; /* no memory: it is sent once more as it is */
	else
		more = draft_rebase(commit->draft, body, commit->captured);
	body_unref(body);
	return more;
}

void commit_done(struct node *node, struct commit *commit, struct str before)
{
	struct file *file = node->file;
	bool same = commit->in_place && str_equal(before, buf_str(&commit->value));

	file->stored = true;
	if (same)
		value_touch_here(node);
	else if (value_set_here(node, buf_str(&commit->value)) < 0)
		value_drop(node); /* no memory: it is read again */
	if (!same)
		file->own_id = commit->draft->has_id && body_names_id(file->body, &commit->draft->id) &&
			       (file->own_id || !commit->draft->in_place) && !commit->draft->named;
	forget_ids(node->fs, file, before, buf_str(&commit->key));
	forget_draft(node, commit->draft);
	draft_stored(commit->draft);
	if (file->draft != commit->draft)
		return; /* opened with O_TRUNC meanwhile */
	if (!rebase(node, commit))
		file_forget_changes(node);
}

bool commit_may_pass(const struct draft *draft, int err)
{
	return !(draft && draft->gone) && (err == -EIO || err == -ETIMEDOUT || err == -ECONNRESET || err == -ENOMEM);
}

/* --- early --- */

static uint64_t pending_limit(const struct draft *draft)
{
	uint64_t chunks = FILE_MAX_PENDING_CHUNKS * draft->chunk_size;

	return chunks > FILE_MAX_PENDING ? chunks : FILE_MAX_PENDING;
}

bool commit_is_due(const struct node *node)
{
	const struct draft *draft = node->file->draft;

	return draft && draft->dirty_bytes > pending_limit(draft) && draft->size > node->fs->config.max_value;
}

static co_fn int send_early(struct node *node, bool last_too)
{
	struct draft *draft = node->file->sending = draft_ref(node->file->draft);
	struct sender sender = { .node = node, .draft = draft };
	int r = prepare_id(node, draft);

	if (r == 0 && draft->in_place)
		r = attr_before_chunks(node);
	draft_capture(draft);
	sender.size = draft->size;
	if (r == 0)
		r = send_dirty(&sender, last_too ? UINT32_MAX : draft->last);
	draft_is_sent(node);
	return r;
}

/* All but the chunk that was written last, which is likely to be written again. */
int commit_early(struct node *node)
{
	int r = 0;

	node_lock(node);
	if (commit_is_due(node))
		r = send_early(node, false);
	node_unlock(node);
	room_changed(node->fs);
	return r;
}

int commit_ahead(struct node *node, bool last_too)
{
	int r = 0;

	node_lock(node);
	if (node->file->draft && node->file->draft->tail.len)
		r = file_prepare_change(node, 0, 0);
	if (r == 0 && node->file->draft)
		r = send_early(node, last_too);
	node_unlock(node);
	return r;
}
