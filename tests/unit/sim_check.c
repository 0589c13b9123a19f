/* fsck beside the other parties. */
#include "sim.h"

#include "fs/check.h"

static void found(void *arg, const struct check_finding *finding)
{
	struct party *party = arg;
	struct sim *sim = party->sim;

	if (sim->c->no_orphans && !sim->ops[party->op].ended && finding->kind == CHECK_ORPHAN)
		sim_fail(sim, "fsck takes %.*s for what no file has", (int)finding->key.len, finding->key.p);
}

static void note(void *arg, struct str key, const char *text)
{
	(void)arg;
	(void)key;
	(void)text;
}

static void progress(void *arg, const char *what, uint64_t keys)
{
	(void)arg;
	(void)what;
	(void)keys;
}

static void add_left(struct buf *left, struct check *check)
{
	for (enum check_kind kind = 0; kind < CHECK_KINDS; kind++)
		if (check_count(check, kind) && kind != CHECK_KEPT)
			sim_must(buf_printf(left, "  %u of: %s\n", check_count(check, kind), check_question(kind)) == 0,
				 "no memory");
}

/* As without anybody who could be asked. */
static co_fn int repair(struct check *check)
{
	bool kinds[CHECK_KINDS];
	unsigned repaired;

	for (enum check_kind kind = 0; kind < CHECK_KINDS; kind++)
		kinds[kind] = check_cure(kind) == CHECK_ANY_TIME;
	return check_repair(check, kinds, &repaired);
}

int sim_check(struct party *party, struct buf *left)
{
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	struct names_rules rules = { .delimiter = '/', .prefix = STR(""), .max_key = 512 };
	struct check_config config = {
		.layout = { .loop = party->loop, .store = &party->store, .rules = &rules, .max_value = SIM_MAX_VALUE },
		.announce_us = 60 * 1000000ull, /* no operation takes longer here */
		.arg = party,
		.found = found,
		.note = note,
		.progress = progress,
	};
	struct check *check;
	int r = check_new(&config, &check);

	if (r < 0)
		return r;
	r = check_examine(check, &why);
	if (r == 0)
		r = repair(check);
	if (r == 0 && left)
		add_left(left, check);
	check_free(check);
	return r;
}
