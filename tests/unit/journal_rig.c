#include "journal_rig.h"

#include <jansson.h>

#include "layout_example.h"

#define LAYOUT "{\"v\":1,\"delimiter\":\"/\"}"

int journal_setup(void **state)
{
	struct rig *rig;

	assert_int_equal(rig_setup(state), 0);
	rig = *state;
	rig->config.grace_us = GRACE_US;
	rig->config.beat_us = BEAT_US;
	rig_restart(rig);
	return 0;
}

int rename_in_root(struct rig *rig, const char *from, const char *to, unsigned flags)
{
	return run(rig, op_rename, .parent = FS_ROOT_ID, .name = from, .new_parent = FS_ROOT_ID, .new_name = to,
		   .flags = (int)flags);
}

void write_foreign(void *arg)
{
	struct foreign *foreign = arg;

	memstore_put(foreign->rig->ms, foreign->key, foreign->value);
}

/* --- a journal of the test's own --- */

void look_run(void *arg)
{
	struct asking *asking = arg;

	asking->r = journal_look(&asking->journal, asking->watch, &asking->list);
	asking->done = true;
}

void finish_run(void *arg)
{
	struct asking *asking = arg;

	asking->r = journal_finish(&asking->journal, asking->entry, &asking->kept);
	asking->done = true;
}

static struct names_rules rules = { .delimiter = '/', .prefix = { "", 0 }, .max_key = RIG_MAX_KEY };

int ask(struct rig *rig, void (*fn)(void *), struct asking *asking)
{
	struct layout layout = {
		.loop = rig->loop, .store = memstore_store(rig->ms), .rules = &rules, .max_value = RIG_MAX_VALUE
	};

	assert_int_equal(journal_init(&asking->journal, &layout, 60 * 1000000, 10 * 1000000), 0);
	asking->done = false;
	assert_int_equal(co_start(rig->loop, fn, asking), 0);
	while (!asking->done)
		loop_once(rig->loop);
	return asking->r;
}

int finish_one(struct rig *rig, unsigned *kept)
{
	struct journal_watch watch = { 0 };
	struct asking asking = { .watch = &watch };
	int r;

	assert_int_equal(ask(rig, look_run, &asking), 0);
	asking.entry = asking.list;
	assert_non_null(asking.entry);
	assert_null(asking.entry->next);
	r = ask(rig, finish_run, &asking);
	*kept = asking.kept;
	journal_free(&asking.list);
	journal_watch_deinit(&watch);
	return r;
}

bool journal_is_empty(const struct rig *rig)
{
	struct str prefix = STR(".hpkvfs/j/");

	for (size_t i = 0; memstore_key(rig->ms, i).p; i++)
		if (str_starts(memstore_key(rig->ms, i), prefix))
			return false;
	return true;
}

void until_empty(struct rig *rig)
{
	while (!journal_is_empty(rig))
		rig_serve(rig, 1000);
	rig_serve(rig, 1000); /* the last answer */
}

const char *journal_entry_value(const struct rig *rig)
{
	for (size_t i = 0; memstore_key(rig->ms, i).p; i++) {
		struct str key = memstore_key(rig->ms, i);

		if (str_starts(key, STR(".hpkvfs/j/")) &&
		    !memchr(key.p + strlen(".hpkvfs/j/"), '/', key.len - strlen(".hpkvfs/j/")))
			return memstore_value(rig->ms, key.p);
	}
	return NULL;
}

void assert_example(const struct rig *rig, const char *name)
{
	CLEANUP(buf_free) struct buf text = layout_example(name);
	json_t *expected = json_loadb(text.p, text.len, 0, NULL),
	       *stored = json_loads(journal_entry_value(rig), 0, NULL);

	assert_non_null(expected);
	assert_non_null(stored);
	assert_int_equal(strlen(json_string_value(json_object_get(stored, "owner"))), 32);
	assert_true(json_is_integer(json_object_get(stored, "beat")));
	assert_int_equal(json_object_set(stored, "owner", json_object_get(expected, "owner")), 0);
	assert_int_equal(json_object_set(stored, "beat", json_object_get(expected, "beat")), 0);
	assert_true(json_equal(stored, expected));
	json_decref(expected);
	json_decref(stored);
}

/* --- dying at every point --- */

/* True when the store went away before the call was through. */
static bool dies_after(const struct scene *scene, unsigned requests)
{
	void *state;
	struct rig *rig;
	int r;

	assert_int_equal(journal_setup(&state), 0);
	rig = state;
	memstore_put(rig->ms, ".hpkvfs/fs", LAYOUT);
	scene->prepare(rig);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .any = true, .pass = requests, .err = -EIO });
	r = scene->act(rig);
	rig_restart(rig);
	memstore_clear_faults(rig->ms);
	if (scene->check_dead)
		scene->check_dead(rig);
	assert_int_equal(run(rig, op_start), 0);
	until_empty(rig);
	assert_int_equal(run(rig, op_end), 0);
	rig_restart(rig);
	scene->check_mended(rig, r == 0);
	assert_int_equal(rig_teardown(&state), 0);
	return r < 0;
}

void die_everywhere(const struct scene *scene)
{
	unsigned requests = 0;

	while (dies_after(scene, requests))
		requests++;
	assert_true(requests > 3);
}
