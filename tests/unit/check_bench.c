#include "check_bench.h"

#include <inttypes.h>

/* --- what it tells --- */

static void tell(struct bench *bench, enum check_kind kind, struct str key, const char *text)
{
	struct told *told = &bench->told[bench->count];

	assert_true(bench->count < FINDINGS_MAX);
	told->kind = kind;
	snprintf(told->key, sizeof(told->key), "%.*s", (int)key.len, key.p);
	snprintf(told->text, sizeof(told->text), "%s", text);
	bench->count++;
}

static void found(void *arg, const struct check_finding *finding)
{
	char text[TEXT_MAX];

	snprintf(text, sizeof(text), "%.*s", (int)finding->text.len, finding->text.p);
	tell(arg, finding->kind, finding->key, text);
}

static void note(void *arg, struct str key, const char *text)
{
	tell(arg, CHECK_KINDS, key, text);
}

static void progress(void *arg, const char *what, uint64_t keys)
{
	(void)arg;
	(void)keys;
	assert_non_null(what);
}

/* --- its calls --- */

static void examine_main(void *arg)
{
	struct bench *bench = arg;

	bench->r = check_examine(bench->check, &bench->why);
	bench->done = true;
}

static void repair_main(void *arg)
{
	struct bench *bench = arg;

	bench->r = check_repair(bench->check, bench->kinds, &bench->repaired);
	bench->done = true;
}

static void begin_main(struct bench *bench, void (*fn)(void *arg))
{
	bench->done = false;
	assert_int_equal(co_start(bench->rig->loop, fn, bench), 0);
}

int finish(struct bench *bench)
{
	while (!bench->done)
		loop_once(bench->rig->loop);
	return bench->r;
}

void begin_examination(struct bench *bench)
{
	check_free(bench->check);
	bench->check = NULL;
	bench->count = 0;
	buf_clear(&bench->why);
	memstore_log_clear(bench->rig->ms);
	assert_int_equal(check_new(&bench->config, &bench->check), 0);
	begin_main(bench, examine_main);
}

unsigned writes(struct bench *bench)
{
	struct memstore *ms = bench->rig->ms;

	return memstore_count(ms, STORE_SET) + memstore_count(ms, STORE_PATCH) + memstore_count(ms, STORE_DELETE) +
	       memstore_count(ms, STORE_ATOMIC);
}

/* Looks at everything, and sees that nothing was changed. */
int examine(struct bench *bench)
{
	int r;

	begin_examination(bench);
	r = finish(bench);
	assert_int_equal(writes(bench), 0);
	return r;
}

/* What was found of the kinds that may be repaired at any time, or (all) by who wants everything. */
unsigned repair(struct bench *bench, enum check_cure least)
{
	bool kinds[CHECK_KINDS];

	for (unsigned i = 0; i < CHECK_KINDS; i++)
		kinds[i] = check_cure(i) >= least && check_cure(i) != CHECK_NEVER;
	memstore_log_clear(bench->rig->ms);
	bench->kinds = kinds;
	begin_main(bench, repair_main);
	assert_int_equal(finish(bench), 0);
	return bench->repaired;
}

unsigned faults(struct bench *bench)
{
	unsigned count = 0;

	for (unsigned i = 0; i < bench->count; i++)
		count += bench->told[i].kind != CHECK_KINDS;
	return count;
}

/* Asserts that a fault, or a note, of this key was told, with a text that has `part` in it. */
void assert_told(struct bench *bench, enum check_kind kind, const char *key, const char *part)
{
	for (unsigned i = 0; i < bench->count; i++)
		if (bench->told[i].kind == kind && strcmp(bench->told[i].key, key) == 0 &&
		    strstr(bench->told[i].text, part))
			return;
	for (unsigned i = 0; i < bench->count; i++)
		fprintf(stderr, "told: %d %s: %s\n", bench->told[i].kind, bench->told[i].key, bench->told[i].text);
	fail_msg("%s: %s was not told", key, part);
}

/* The one fault that there is. */
void assert_fault(struct bench *bench, enum check_kind kind, const char *key, const char *part)
{
	assert_int_equal(examine(bench), 0);
	assert_told(bench, kind, key, part);
	assert_int_equal(faults(bench), 1);
	assert_int_equal(check_count(bench->check, kind), 1);
}

void assert_clean(struct bench *bench)
{
	assert_int_equal(examine(bench), 0);
	for (unsigned i = 0; i < bench->count; i++)
		if (bench->told[i].kind != CHECK_KINDS)
			fail_msg("told: %s: %s", bench->told[i].key, bench->told[i].text);
}

/* --- what there is --- */

void put(struct bench *bench, const char *key, const char *value)
{
	memstore_put(bench->rig->ms, key, value);
}

/* A chunk of so many zeros. */
void put_chunk(struct bench *bench, const char *id, uint32_t index, size_t size)
{
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	char key[TEXT_MAX];

	for (size_t i = 0; i < size / 3 * 4; i++)
		assert_int_equal(buf_add_char(&text, 'A'), 0);
	if (size % 3)
		assert_int_equal(buf_add_str(&text, size % 3 == 1 ? STR("AA==") : STR("AAA=")), 0);
	snprintf(key, sizeof(key), ".hpkvfs/c/%s/%08" PRIx32, id, index);
	put(bench, key, buf_str(&text).p);
}

void remove_chunk(struct bench *bench, uint32_t index)
{
	char key[TEXT_MAX];

	snprintf(key, sizeof(key), ".hpkvfs/c/" ID "/%08" PRIx32, index);
	memstore_remove(bench->rig->ms, key);
}

void put_chunks(struct bench *bench, const char *id)
{
	for (uint32_t i = 0; i < CHUNKS; i++)
		put_chunk(bench, id, i, i == CHUNKS - 1 ? SIZE - (CHUNKS - 1) * CHUNK_SIZE : CHUNK_SIZE);
}

void put_file(struct bench *bench, const char *key)
{
	put(bench, key, STUB);
	put_chunks(bench, ID);
}

/* One of everything that a mount can leave. */
void put_tree(struct bench *bench)
{
	put(bench, "plain", "text");
	put(bench, "deep/er/plain", "text");
	put(bench, "!first", "sorts before the reserved keys");
	put(bench, ".hpkvfs/m/!first", RECORD);
	put(bench, "empty", "hpkvfs1 380918b946a52664 =\n");
	put_file(bench, "file");
	put(bench, ".hpkvfs/i/" ID, "{\"v\":1,\"names\":{\"file\":true,\"former\":true}}");
	put(bench, ".hpkvfs/m/", "{\"v\":1,\"mode\":16877}");
	put(bench, ".hpkvfs/m/deep/", "{\"v\":1,\"mode\":16877}");
	put(bench, ".hpkvfs/m/made/", "{\"v\":1,\"mode\":16877}");
	put(bench, ".hpkvfs/m/plain", RECORD);
	put(bench, ".hpkvfs/m/deep/er/plain", "{\"v\":1,\"uid\":7}");
	put(bench, ".hpkvfs/m/link", "{\"v\":1,\"mode\":41471,\"target\":\"x\"}");
	put(bench, ".hpkvfs/m/%2500", RECORD);
	put(bench, "%00", "text");
	put(bench, "a//b", "text");
	put(bench, ".hpkvfs/m/a/%-/b", RECORD);
}

int bench_setup(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	void *rig;

	assert_non_null(bench);
	assert_int_equal(rig_setup(&rig), 0);
	bench->rig = rig;
	bench->rules = (struct names_rules){ .delimiter = '/', .prefix = STR(""), .max_key = RIG_MAX_KEY };
	bench->config = (struct check_config){
		.layout = {
			.loop = bench->rig->loop,
			.store = memstore_store(bench->rig->ms),
			.rules = &bench->rules,
			.max_value = RIG_MAX_VALUE,
		},
		.stop = &bench->stop,
		.grace_us = GRACE_US,
		.announce_us = ANNOUNCE_US,
		.arg = bench,
		.found = found,
		.note = note,
		.progress = progress,
	};
	put(bench, FS_KEY, FS_VALUE);
	*state = bench;
	return 0;
}

int bench_teardown(void **state)
{
	struct bench *bench = *state;
	void *rig = bench->rig;

	check_free(bench->check);
	buf_free(&bench->why);
	free(bench);
	return rig_teardown(&rig);
}
