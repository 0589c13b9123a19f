#include "fs/removal.h"

#include <errno.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/internal.h"

/* So many keys are left to the next mount at the most: whoever unmounts waits for it. */
#define LEAVE_MOST 16

/* What an entry of the journal has around its ids, and an id around its member. */
#define ENTRY_BYTES 160
#define MEMBER_BYTES (CONTENT_ID_LEN + 4)

struct removal {
	struct removal *prev, *next;
	struct content_id id;
	uint32_t chunk_count;
	uint64_t due_us;
	struct buf key;
};

static void removal_drop(struct removal *removal)
{
	buf_free(&removal->key);
	free(removal);
}

static bool is_of_draft(const struct draft *draft, const struct content_id *id)
{
	return draft->has_id && memcmp(draft->id.hex, id->hex, CONTENT_ID_LEN) == 0;
}

/* An open may have been on its way when the file was removed: nobody saw then that it would be read. And what a renaming that failed
 * has left under another name may have gone from there. */
static bool is_needed(const struct fs *fs, const struct content_id *id)
{
	const struct node *node;
	const struct fs_handle *handle;

	DL_FOREACH(fs->open, handle) {
		const struct file *file = handle->node->file;

		if (file && (body_names_id(file->body, id) || (file->draft && body_names_id(file->draft->base, id))))
			return true;
	}
	DL_FOREACH2(fs->room.files, node, file->room_next)
	if (is_of_draft(node->file->draft, id))
		return true;
	return false;
}

static co_fn int remove_now(struct fs *fs, const struct removal *removal)
{
	struct id_holders holders;
	int r = id_find_holders(&fs->layout, &removal->id, buf_str(&removal->key), STR(""), &holders);

	if (r < 0 || holders.held)
		return r;
	return id_remove(&fs->layout, &removal->id, removal->chunk_count, holders.listed, &fs->ending);
}

static void timer_fired(struct loop_timer *timer);

static void wait_for_first(struct fs *fs)
{
	uint64_t now = clock_now_us();

	if (!fs->removals || fs->ending)
		return;
	loop_timer_set(fs->loop, &fs->removal_timer, fs->removals->due_us > now ? fs->removals->due_us - now : 0,
		       timer_fired);
}

/* One at a time. What is read here, and what the store did not answer for, is tried again after as long a time. */
static void remove_due(void *arg)
{
	struct fs *fs = arg;

	while (fs->removals && !fs->ending && fs->removals->due_us <= clock_now_us()) {
		struct removal *removal = fs->removals;
		int r;

		DL_DELETE(fs->removals, removal);
		r = is_needed(fs, &removal->id) ? -EBUSY : remove_now(fs, removal);
		if (r == 0) {
			removal_drop(removal);
			continue;
		}
		if (r == -EUCLEAN) {
			log_warning("chunks that nothing needs stay in the store: who holds id %s cannot be read",
				    removal->id.hex);
			removal_drop(removal);
			continue;
		}
		removal->due_us = clock_now_us() + fs->config.grace_us;
		DL_APPEND(fs->removals, removal);
	}
	fs->removing = false;
	wait_for_first(fs);
	fs_background_end(fs);
}

static void timer_fired(struct loop_timer *timer)
{
	struct fs *fs = lws_container_of(timer, struct fs, removal_timer);

	if (fs->removing)
		return; /* at its end it sets the timer again */
	fs->removing = true;
	if (fs_background_start(fs, remove_due) == 0)
		return;
	fs->removing = false;
	loop_timer_set(fs->loop, timer, fs->config.grace_us, timer_fired);
}

static bool is_listed(const struct fs *fs, const struct content_id *id)
{
	const struct removal *removal;

	DL_FOREACH(fs->removals, removal)
		if (memcmp(removal->id.hex, id->hex, CONTENT_ID_LEN) == 0)
			return true;
	return false;
}

void removal_later(struct fs *fs, const struct content_id *id, uint32_t chunk_count, struct str key)
{
	struct removal *removal;
	bool first = !fs->removals;

	/* what is known of its key says more than nothing */
	if (!key.len && is_listed(fs, id))
		return;
	removal = calloc(1, sizeof(*removal));
	if (!removal || buf_set(&removal->key, key) < 0) {
		free(removal);
		return;
	}
	removal->id = *id;
	removal->chunk_count = chunk_count;
	removal->due_us = clock_now_us() + fs->config.grace_us;
	DL_APPEND(fs->removals, removal);
	if (first)
		wait_for_first(fs);
}

void removal_free(struct fs *fs)
{
	struct removal *removal, *next;

	loop_timer_cancel(&fs->removal_timer);
	DL_FOREACH_SAFE(fs->removals, removal, next)
		removal_drop(removal);
	fs->removals = NULL;
}

/* --- at the end --- */

/* Takes as many as fit an entry out of the list. NULL: no memory. */
static json_t *take_some(struct fs *fs)
{
	json_t *ids = json_object();
	size_t left = fs->config.max_value > ENTRY_BYTES ? fs->config.max_value - ENTRY_BYTES : 0;

	while (ids && fs->removals) {
		struct removal *removal = fs->removals;
		json_t *member = json_pack("{s:I, s:o}", "chunks", (json_int_t)removal->chunk_count, "key",
					   json_stringn(buf_str(&removal->key).p, removal->key.len));
		size_t size = member ? json_dumpb(member, NULL, 0, JSON_COMPACT) + MEMBER_BYTES : 0;

		if (size > left && json_object_size(ids) > 0) {
			json_decref(member);
			break;
		}
		if (json_object_set_new(ids, removal->id.hex, member) < 0) {
			json_decref(ids);
			return NULL;
		}
		left -= size < left ? size : left;
		DL_DELETE(fs->removals, removal);
		removal_drop(removal);
	}
	return ids;
}

void removal_leave(struct fs *fs)
{
	struct intent intent;
	int r = fs->removals ? layout_ensure(fs) : 0;

	for (int i = 0; i < LEAVE_MOST && fs->removals && r == 0; i++) {
		json_t *ids = take_some(fs);

		r = ids ? intent_open(&intent, &fs->journal, "remove", json_pack("{s:o}", "ids", ids)) : -ENOMEM;
		if (r == 0)
			intent_close(&intent, false);
	}
	if (fs->removals || r < 0)
		log_info("chunks that nothing needs any more stay in the store: fsck.hpkvfs removes them");
}
