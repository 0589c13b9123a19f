/* Entries of the journal of one's own: written, kept alive, closed. */
#include <errno.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/json_depth.h"
#include "base/log.h"
#include "fs/journal.h"

/* An entry nests three times. */
#define MAX_NESTING 8

static co_fn int merge_members(struct intent *intent, json_t *members)
{
	char *text = members ? json_dumps(members, JSON_COMPACT) : NULL;
	int r = text ? store_merge(intent->journal->layout.store, buf_str(&intent->key), str_c(text)) : -ENOMEM;

	free(text);
	json_decref(members);
	return r;
}

/* A number that is another each time. */
static json_int_t beat_now(void)
{
	return (json_int_t)(clock_real_ns() / 1000000);
}

static co_fn int beat(struct intent *intent)
{
	uint64_t asked = clock_boot_us();
	int r = merge_members(
		intent, json_pack("{s:i, s:s, s:I}", "v", 1, "owner", intent->journal->owner, "beat", beat_now()));

	if (r == 0)
		intent->sure_us = asked;
	return r;
}

static bool is_ours(const struct intent *intent, struct str value)
{
	json_t *root =
		json_nests_deeper(value, MAX_NESTING) ? NULL : json_loadb(value.p, value.len, JSON_ALLOW_NUL, NULL);
	const char *owner = json_string_value(json_object_get(root, "owner"));
	/* a beat that came after the end leaves no more than itself */
	bool ours = owner && strcmp(owner, intent->journal->owner) == 0 && json_object_get(root, "op");

	json_decref(root);
	return ours;
}

static bool is_sure(const struct intent *intent)
{
	return clock_boot_us() - intent->sure_us < intent->journal->grace_us / 2;
}

/* After a sleep of this machine others may have found it dead. A beat alone would make it this mount's again. */
static co_fn int confirm(struct intent *intent)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	int r = 0;

	if (!is_sure(intent)) {
		r = store_get(intent->journal->layout.store, buf_str(&intent->key), &value);
		if (r == -ENOENT || (r == 0 && !is_ours(intent, buf_str(&value)))) {
			intent->lost = true;
			return -EOWNERDEAD;
		}
	}
	return r < 0 ? r : beat(intent);
}

static void timer_fired(struct loop_timer *timer);

/* One at a time. */
static co_fn int confirm_alone(struct intent *intent)
{
	int r;

	intent->beating = true;
	r = confirm(intent);
	if (!intent->lost)
		loop_timer_set(intent->journal->layout.loop, &intent->timer, intent->journal->beat_us, timer_fired);
	intent->beating = false;
	co_queue_wake_all(&intent->beaten);
	return r;
}

static void beat_run(void *arg)
{
	if (confirm_alone(arg) < 0)
		log_debug("an entry of the journal could not be kept alive");
}

static void timer_fired(struct loop_timer *timer)
{
	struct intent *intent = lws_container_of(timer, struct intent, timer);

	if (intent->beating || co_start(intent->journal->layout.loop, beat_run, intent) == 0)
		return;
	loop_timer_set(intent->journal->layout.loop, timer, intent->journal->beat_us, timer_fired);
}

static co_fn void wait_for_beat(struct intent *intent)
{
	bool former = co_uninterruptible(true);

	while (intent->beating)
		if (co_queue_wait(&intent->beaten) < 0)
			break; /* cannot be: interruptions are off */
	co_uninterruptible(former);
}

static void start_beating(struct intent *intent)
{
	loop_timer_set(intent->journal->layout.loop, &intent->timer, intent->journal->beat_us, timer_fired);
}

static int intent_init(struct intent *intent, const struct journal *journal, const char *name)
{
	*intent = (struct intent){ .journal = journal };
	memcpy(intent->name, name, sizeof(intent->name));
	return layout_key(&journal->layout, &intent->key, "j/%s", name);
}

int intent_open(struct intent *intent, const struct journal *journal, const char *op, json_t *members)
{
	struct content_id id;
	char *text = NULL;
	uint64_t asked = clock_boot_us();
	int r = members ? content_id_new(clock_real_ns() / 1000000, &id) : -ENOMEM;
	json_t *root = json_pack("{s:i, s:s, s:s, s:I}", "v", 1, "op", op, "owner", journal->owner, "beat", beat_now());

	*intent = (struct intent){ 0 };
	if (r == 0)
		r = intent_init(intent, journal, id.hex);
	if (r == 0 && (!root || json_object_update(root, members) < 0))
		r = -ENOMEM;
	if (r == 0)
		text = json_dumps(root, JSON_COMPACT);
	if (r == 0 && !text)
		r = -ENOMEM;
	if (r == 0 && strlen(text) > journal->layout.max_value)
		r = -EFBIG;
	if (r == 0)
		r = store_set(journal->layout.store, buf_str(&intent->key), str_c(text),
			      (struct store_expect){ .what = STORE_EXPECT_ABSENT });
	free(text);
	json_decref(root);
	json_decref(members);
	if (r < 0) {
		buf_free(&intent->key);
		return r;
	}
	intent->sure_us = asked;
	start_beating(intent);
	return 0;
}

int intent_adopt(struct intent *intent, const struct journal *journal, const char *name)
{
	int r = intent_init(intent, journal, name);

	if (r == 0)
		r = beat(intent);
	if (r < 0) {
		buf_free(&intent->key);
		return r;
	}
	start_beating(intent);
	return 0;
}

int intent_change(struct intent *intent, json_t *members)
{
	int r = intent_sure(intent);

	if (r == 0)
		return merge_members(intent, members);
	json_decref(members);
	return r;
}

int intent_sure(struct intent *intent)
{
	while (!intent->lost && !is_sure(intent)) {
		int r = 0;

		if (intent->beating)
			wait_for_beat(intent);
		else
			r = confirm_alone(intent);
		if (r < 0)
			return r;
	}
	return intent->lost ? -EOWNERDEAD : 0;
}

void intent_close(struct intent *intent, bool done)
{
	wait_for_beat(intent);
	loop_timer_cancel(&intent->timer);
	if (done && !intent->lost &&
	    store_delete(intent->journal->layout.store, buf_str(&intent->key),
			 (struct store_expect){ .what = STORE_EXPECT_ANY }) < 0)
		log_debug("an entry of the journal stays, though nothing is left to do: others find that out");
	buf_free(&intent->key);
}

void intent_abandon(struct intent *intent)
{
	loop_timer_cancel(&intent->timer);
	buf_free(&intent->key);
}
