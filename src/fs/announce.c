#include "fs/announce.h"

#include <errno.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/internal.h"

/* An id in an entry of the journal: its digits, quotes, a comma; and what an entry has around them. */
#define ID_BYTES (CONTENT_ID_LEN + 3)
#define ENTRY_BYTES 160

/* An id is young for so long: half of the hour that fsck gives it. */
#define YOUNG_MS (1800 * 1000)

/* One entry, with as many ids as fit. */
struct announcement {
	struct announcement *prev, *next;
	struct intent intent;
	unsigned needed; /* ids that were still needed when it was last looked */
	unsigned users;  /* who asks whether it stands */
	bool stands;     /* it has been written */
	int64_t since_ms;
};

struct unnamed {
	UT_hash_handle hh;
	struct content_id id;
	uint64_t since_us;
	bool needed; /* at the present look */
	struct announcement *announcement;
};

static void unnamed_free(struct fs *fs, struct unnamed *unnamed)
{
	HASH_DEL(fs->unnamed, unnamed);
	free(unnamed);
}

/* --- what is needed --- */

/* Without memory it is seen at the next look. */
static void note(struct fs *fs, const struct content_id *id)
{
	struct unnamed *unnamed;

	HASH_FIND(hh, fs->unnamed, id->hex, CONTENT_ID_LEN, unnamed);
	if (!unnamed) {
		unnamed = calloc(1, sizeof(*unnamed));
		if (!unnamed)
			return;
		unnamed->id = *id;
		unnamed->since_us = clock_now_us();
		HASH_ADD_KEYPTR(hh, fs->unnamed, unnamed->id.hex, CONTENT_ID_LEN, unnamed);
		if (!unnamed->hh.tbl) {
			free(unnamed);
			return;
		}
	}
	unnamed->needed = true;
}

static void note_draft(struct fs *fs, const struct draft *draft)
{
	if (draft && draft->has_id && !draft->in_place)
		note(fs, &draft->id);
	if (draft && draft->moves)
		note(fs, &draft->next);
}

static void note_file(const struct node *node)
{
	const struct file *file = node->file;

	note_draft(node->fs, file->draft);
	note_draft(node->fs, file->sending);
	if (!(file->opens && node_is_unlinked(node)) && !file->held)
		return;
	if (!file->body)
		return;
	for (unsigned i = 0; i < file->body->part_count; i++)
		if (file->body->parts[i].chunked)
			note(node->fs, &file->body->parts[i].id);
}

/* Marks what is needed now, and forgets the rest. */
static void look(struct fs *fs)
{
	struct unnamed *unnamed, *next;
	struct announcement *announcement;
	struct node *node;

	HASH_ITER(hh, fs->unnamed, unnamed, next)
		unnamed->needed = false;
	DL_FOREACH(fs->announcements, announcement)
		announcement->needed = 0;
	for (node = node_next(fs, NULL); node; node = node_next(fs, node))
		if (node->file)
			note_file(node);
	HASH_ITER(hh, fs->unnamed, unnamed, next) {
		if (!unnamed->needed)
			unnamed_free(fs, unnamed);
		else if (unnamed->announcement)
			unnamed->announcement->needed++;
	}
}

/* --- announcing --- */

static int64_t now_ms(void)
{
	return clock_real_ns() / (CLOCK_NS_PER_S / 1000);
}

static bool is_due(const struct fs *fs, const struct unnamed *unnamed)
{
	return !unnamed->announcement && clock_now_us() - unnamed->since_us >= fs->config.announce_us / 2;
}

/* One is tried where it is not certain that any fits. */
static size_t ids_that_fit(const struct fs *fs)
{
	size_t max_value = fs->config.max_value;

	return max_value > ENTRY_BYTES + ID_BYTES ? (max_value - ENTRY_BYTES) / ID_BYTES : 1;
}

/* Those that are to be announced, as many as fit, marked as announced. NULL: none, or no memory. */
static json_t *take_due(struct fs *fs, struct announcement *announcement)
{
	size_t room = ids_that_fit(fs);
	json_t *ids = NULL;
	struct unnamed *unnamed, *next;

	HASH_ITER(hh, fs->unnamed, unnamed, next) {
		if (!is_due(fs, unnamed) || json_array_size(ids) >= room)
			continue;
		if (!ids)
			ids = json_array();
		if (json_array_append_new(ids, json_string(unnamed->id.hex)) < 0)
			break;
		unnamed->announcement = announcement;
		announcement->needed++;
	}
	return ids;
}

static void give_back(struct fs *fs, const struct announcement *announcement)
{
	struct unnamed *unnamed, *next;

	HASH_ITER(hh, fs->unnamed, unnamed, next)
		if (unnamed->announcement == announcement)
			unnamed->announcement = NULL;
}

/* False where nothing was to be announced, or it failed: then it is tried at the next look. */
static co_fn bool announce_some(struct fs *fs)
{
	struct announcement *announcement = calloc(1, sizeof(*announcement));
	json_t *ids = announcement ? take_due(fs, announcement) : NULL;
	int r = ids ? layout_ensure(fs) : 0;

	if (!ids) {
		free(announcement);
		return false;
	}
	announcement->since_ms = now_ms();
	if (r == 0)
		r = intent_open(&announcement->intent, &fs->journal, "ids", json_pack("{s:O}", "ids", ids));
	json_decref(ids);
	if (r == 0) {
		announcement->stands = true;
		DL_APPEND(fs->announcements, announcement);
		return true;
	}
	log_warning("content that is not complete yet could not be announced to fsck.hpkvfs: %s", strerror(-r));
	give_back(fs, announcement);
	free(announcement);
	return false;
}

static co_fn void take_back(struct fs *fs, struct announcement *announcement)
{
	DL_DELETE(fs->announcements, announcement);
	give_back(fs, announcement);
	intent_close(&announcement->intent, true);
	free(announcement);
}

static co_fn void take_back_unneeded(struct fs *fs)
{
	struct announcement *announcement, *next;

	/* only this coroutine changes the list */
	DL_FOREACH_SAFE(fs->announcements, announcement, next)
		if ((announcement->needed == 0 || announcement->intent.lost) && !announcement->users)
			take_back(fs, announcement);
}

static void announce(void *arg)
{
	struct fs *fs = arg;

	look(fs);
	take_back_unneeded(fs);
	while (announce_some(fs))
		continue;
	announce_start(fs);
	fs_background_end(fs);
}

/* Also while the mount ends: what is sent then may take as long as at any other time. */
static void timer_fired(struct loop_timer *timer)
{
	struct fs *fs = lws_container_of(timer, struct fs, announce_timer);

	if (fs_background_start_late(fs, announce) < 0)
		announce_start(fs);
}

int announce_kept(struct fs *fs, const struct content_id *id, bool *kept)
{
	struct announcement *announcement;
	struct content_id ignored;
	struct unnamed *unnamed;
	int64_t created_ms = 0;
	int r;

	*kept = content_id_parse(str_of(id->hex, CONTENT_ID_LEN), &ignored, &created_ms) &&
		now_ms() - created_ms < YOUNG_MS;
	HASH_FIND(hh, fs->unnamed, id->hex, CONTENT_ID_LEN, unnamed);
	announcement = unnamed ? unnamed->announcement : NULL;
	if (*kept || !announcement || !announcement->stands || announcement->since_ms - created_ms >= YOUNG_MS)
		return 0;
	announcement->users++;
	r = intent_sure(&announcement->intent);
	announcement->users--;
	*kept = r == 0;
	return r == -EOWNERDEAD ? 0 : r;
}

void announce_start(struct fs *fs)
{
	loop_timer_set(fs->loop, &fs->announce_timer, fs->config.announce_us / 2, timer_fired);
}

void announce_end(struct fs *fs)
{
	loop_timer_cancel(&fs->announce_timer);
	while (fs->announcements)
		take_back(fs, fs->announcements);
}

void announce_free(struct fs *fs)
{
	struct announcement *announcement, *next;
	struct unnamed *unnamed, *next_unnamed;

	loop_timer_cancel(&fs->announce_timer);
	DL_FOREACH_SAFE(fs->announcements, announcement, next) {
		intent_abandon(&announcement->intent);
		free(announcement);
	}
	fs->announcements = NULL;
	HASH_ITER(hh, fs->unnamed, unnamed, next_unnamed)
		unnamed_free(fs, unnamed);
}
