/* All orders, depth first: each is run from the beginning, by the choices that lead to it. */
#include "sim.h"

#include "base/hash.h"
#include "base/list.h"
#include "sim_loop.h"

/* More runs than this of one case are not made, and it is said so. */
#define RUNS_MAX 20000

#define CHOICES_MAX 400

/* Longer than the ttl; longer than any grace. */
#define TTL_US 1100000
#define LONG_US (300 * 1000000ull)
#define AGE_US (3 * 3600 * 1000000ull)

struct seen {
	UT_hash_handle hh;
	uint64_t fingerprint;
};

struct choice {
	unsigned taken, of;
};

struct explorer {
	const struct sim_case *c;
	struct choice choices[CHOICES_MAX];
	unsigned depth; /* of what is known */
	struct seen *seen;
	unsigned runs, judged;
};

static bool first_time(struct explorer *explorer, uint64_t fingerprint)
{
	struct seen *seen;

	HASH_FIND(hh, explorer->seen, &fingerprint, sizeof(fingerprint), seen);
	if (seen)
		return false;
	seen = calloc(1, sizeof(*seen));
	sim_must(seen, "no memory");
	seen->fingerprint = fingerprint;
	HASH_ADD(hh, explorer->seen, fingerprint, sizeof(seen->fingerprint), seen);
	return true;
}

/* --- the parties' operations --- */

static unsigned ended_now(const struct sim *sim)
{
	unsigned ended = 0;

	for (unsigned i = 0; i < SIM_OPS_MAX; i++)
		ended |= sim->ops[i].ended ? 1u << i : 0;
	return ended;
}

static co_fn bool wait_to_begin(struct party *party)
{
	party->waiting = co_self();
	while (!party->begin)
		if (co_wait() < 0)
			continue;
	party->begin = false;
	party->waiting = NULL;
	return !party->dead;
}

static void script(void *arg)
{
	struct party *party = arg;
	struct sim *sim = party->sim;

	for (unsigned i = 0; i < SIM_OPS_MAX; i++) {
		const struct sim_op *op = &sim->c->ops[i];
		struct op_state *state = &sim->ops[i];
		int r;

		if (op->verb == SIM_NONE || op->by != party->who)
			continue;
		party->next = i;
		if (!wait_to_begin(party))
			break;
		party->op = i;
		sim_forget_reads(party);
		state->begun = true;
		state->after = ended_now(sim);
		r = sim_op_run(party, op);
		if (party->dead)
			break;
		state->r = r;
		state->ended = true;
	}
	party->done = true;
}

/* --- one run --- */

struct order {
	struct party *party; /* NULL: time passes */
	bool dies;
};

/* The one that waits for nothing but time, and not for long. While requests are under way no such time passes. */
static struct party *next_timer(const struct sim *sim)
{
	struct party *next = NULL;

	for (int i = 0; i < SIM_PARTIES; i++) {
		struct party *party = sim->parties[i];

		if (!party || party->dead)
			continue;
		if (party->held)
			return NULL;
		if (!party->done && !party->waiting && (!next || sim_loop_due(party->loop) < sim_loop_due(next->loop)))
			next = party;
	}
	return next;
}

static bool may_go_on(const struct sim *sim, const struct party *party)
{
	const struct party *a = sim->parties[SIM_A];

	if (party->dead)
		return false;
	return party->held || (party->waiting && (!sim->c->ops[party->next].last || a->dead || a->done));
}

static unsigned orders(struct sim *sim, struct order *out)
{
	struct party *a = sim->parties[SIM_A];
	unsigned count = 0;

	for (int i = 0; i < SIM_PARTIES; i++) {
		struct party *party = sim->parties[i];

		if (party && may_go_on(sim, party))
			out[count++] = (struct order){ .party = party };
	}
	if (sim->c->crash && !sim->crashed && a->wrote && !a->done)
		out[count++] = (struct order){ .party = a, .dies = true };
	if (next_timer(sim))
		out[count++] = (struct order){ .party = NULL };
	return count;
}

static unsigned at_rest(const struct sim *sim)
{
	unsigned count = 0;

	for (int i = 0; i < SIM_PARTIES; i++)
		count += sim->parties[i] && (sim->parties[i]->done || sim->parties[i]->waiting);
	return count;
}

/* Until somebody asks for something, or has done what he waited for. */
static void let_time_pass(struct sim *sim)
{
	unsigned before = at_rest(sim);
	struct party *next = next_timer(sim);

	next->history++;
	while (next && at_rest(sim) == before) {
		sim_must(sim_loop_due(next->loop) != UINT64_MAX, "an operation waits for what never comes");
		sim_loop_fire(next->loop);
		sim_quiesce(sim);
		next = next_timer(sim);
	}
}

static void carry_out(struct sim *sim, const struct order *order)
{
	struct party *party = order->party;

	if (!party) {
		let_time_pass(sim);
		return;
	}
	if (order->dies) {
		sim->crashed = true;
		sim_must(buf_add_str(&sim->trace, STR("    A dies\n")) == 0, "no memory");
		party_kill(party);
		return;
	}
	if (party->held) {
		party_release(party);
		return;
	}
	party->wrote = false;
	party->begin = true;
	party->history++;
	co_wake(party->waiting);
	sim_must(buf_printf(&sim->trace, "    %c begins its next operation\n", "ABFKL"[party->who]) == 0, "no memory");
}

/* False: it has come to where another order was. */
static bool run_orders(struct explorer *explorer, struct sim *sim)
{
	for (unsigned at = 0;;) {
		struct order order[SIM_PARTIES + 2];
		unsigned count;

		sim_quiesce(sim);
		if (sim->failure.len)
			return true;
		count = orders(sim, order);
		if (count == 0)
			return true;
		if (count == 1) {
			carry_out(sim, &order[0]);
			continue;
		}
		sim_must(at < CHOICES_MAX, "too many choices");
		if (at == explorer->depth) {
			if (!first_time(explorer, sim_fingerprint(sim)))
				return false;
			explorer->choices[explorer->depth++] = (struct choice){ .of = count };
		}
		sim_must(explorer->choices[at].of == count, "the same order went another way");
		carry_out(sim, &order[explorer->choices[at++].taken]);
	}
}

/* --- its judgement --- */

static int start_mount(struct party *party, void *arg)
{
	CLEANUP(buf_free) struct buf why = BUF_INIT;

	(void)arg;
	return fs_start(party->fs, &why);
}

static int view_mount(struct party *party, void *arg)
{
	return sim_view(party, arg);
}

static void view_anew(struct sim *sim, unsigned number, struct buf *out)
{
	struct party *party = party_new(sim, SIM_LATER, number);

	sim->parties[SIM_LATER] = party;
	party->done = true;
	if (sim_call(party, start_mount, NULL) < 0 || sim_call(party, view_mount, out) < 0)
		sim_fail(sim, "a mount made anew fails");
	if (memmem(out->p ? out->p : "", out->len, "error -", 7))
		sim_fail(sim, "a mount made anew cannot read:\n%s", out->p);
}

static void later_ends(struct sim *sim)
{
	party_free(sim->parties[SIM_LATER]);
	sim->parties[SIM_LATER] = NULL;
}

/* A directory without a record stays for the mount that has seen it. */
static void drop_directories(struct buf *view)
{
	CLEANUP(buf_free) struct buf rest = BUF_INIT;
	const char *line = view->p;

	while (line && *line) {
		const char *end = strchr(line, '\n') + 1, *space = strchr(line, ' ');

		if (space[-1] != '/')
			sim_must(buf_add(&rest, line, (size_t)(end - line)) == 0, "no memory");
		line = end;
	}
	sim_must(buf_set(view, buf_str(&rest)) == 0, "no memory");
}

static void compare_mounts(struct sim *sim, struct str anew)
{
	CLEANUP(buf_free) struct buf expected = BUF_INIT;

	sim_must(buf_set(&expected, anew) == 0, "no memory");
	drop_directories(&expected);
	for (enum sim_who who = SIM_A; who <= SIM_B; who++) {
		CLEANUP(buf_free) struct buf view = BUF_INIT;

		if (sim->parties[who]->dead)
			continue;
		if (sim_call(sim->parties[who], view_mount, &view) < 0)
			sim_fail(sim, "mount %c cannot be read", "AB"[who]);
		drop_directories(&view);
		if (!str_equal(buf_str(&view), buf_str(&expected)))
			sim_fail(sim, "mount %c shows\n%s  but a mount made anew\n%s", "AB"[who], view.p ? view.p : "",
				 expected.p ? expected.p : "");
	}
}

static void check_results(struct sim *sim)
{
	for (unsigned i = 0; i < SIM_OPS_MAX; i++) {
		const struct sim_op *op = &sim->c->ops[i];
		int r = sim->ops[i].r;
		bool documented = r == 0;

		if (op->verb == SIM_NONE || !sim->ops[i].ended)
			continue;
		for (unsigned k = 0; k < 4; k++)
			documented |= op->may_fail[k] && op->may_fail[k] == r;
		if (!documented)
			sim_fail(sim, "operation %u on %s failed: %s", i, op->path ? op->path : "nothing",
				 strerror(-r));
		if (op->verb == SIM_READ && r == 0 && !sim_read_is_whole(sim, i))
			sim_fail(sim, "operation %u has read what nobody wrote", i);
	}
}

/* fsck finds nothing that it does not repair at once, and repairs it without a change of any file. */
static int check_mount(struct party *party, void *arg)
{
	return sim_check(party, arg);
}

static void judge_check(struct sim *sim, struct str view)
{
	CLEANUP(buf_free) struct buf after = BUF_INIT;
	CLEANUP(buf_free) struct buf left = BUF_INIT;
	struct party *fsck = sim->parties[SIM_FSCK];

	sim_pass(sim, AGE_US);
	if (sim_call(fsck, check_mount, &left) < 0 || left.len)
		sim_fail(sim, "fsck leaves\n%s", left.p ? left.p : "nothing, but fails");
	view_anew(sim, 6, &after);
	if (!str_equal(buf_str(&after), view))
		sim_fail(sim, "after fsck there is\n%s  instead of\n%.*s", buf_str(&after).p, (int)view.len, view.p);
	later_ends(sim);
	sim_leftovers(sim, &left);
	if (left.len)
		sim_fail(sim, "fsck leaves what nothing needs\n%s", left.p);
}

static void check_stays(struct sim *sim, struct str view)
{
	for (unsigned i = 0; i < SIM_OPS_MAX; i++) {
		const struct sim_op *op = &sim->c->ops[i];
		CLEANUP(buf_free) struct buf line = BUF_INIT;

		if (!op->stays || !sim->ops[i].ended || sim->ops[i].r < 0 || sim->ops[i].lost)
			continue;
		sim_must(buf_printf(&line, " %s\n", op->text) == 0, "no memory");
		if (!memmem(view.p, view.len, line.p, line.len))
			sim_fail(sim, "what operation %u wrote is in no file:\n%.*s", i, (int)view.len, view.p);
	}
}

static void judge(struct sim *sim)
{
	CLEANUP(buf_free) struct buf anew = BUF_INIT;
	CLEANUP(buf_free) struct buf last = BUF_INIT;
	CLEANUP(buf_free) struct buf text = BUF_INIT;

	sim_must(buf_add_str(&sim->trace, STR("    all is done\n")) == 0, "no memory");
	check_results(sim);
	sim_pass(sim, TTL_US);
	view_anew(sim, 4, &anew);
	compare_mounts(sim, buf_str(&anew));
	/* what the dead have left is finished by who is alive */
	sim_pass(sim, LONG_US);
	later_ends(sim);
	view_anew(sim, 5, &last);
	if (!sim->crashed && !str_equal(buf_str(&anew), buf_str(&last)))
		sim_fail(sim, "after a while there is\n%s  instead of\n%s", last.p ? last.p : "", anew.p ? anew.p : "");
	if (!sim_model_allows(sim, buf_str(&last), &text))
		sim_fail(sim, "there is\n%s  instead of %s", last.p ? last.p : "", text.p ? text.p : "");
	buf_clear(&text);
	if (sim->c->tidy && !sim->crashed)
		sim_leftovers(sim, &text);
	if (text.len)
		sim_fail(sim, "nothing needs\n%s", text.p);
	later_ends(sim);
	check_stays(sim, buf_str(&last));
	judge_check(sim, buf_str(&last));
}

/* --- life --- */

struct before {
	const struct sim_op *op;
};

static int do_before(struct party *party, void *arg)
{
	return sim_op_run(party, ((struct before *)arg)->op);
}

static void sim_begin(struct sim *sim, const struct sim_case *c)
{
	CLEANUP(buf_free) struct buf view = BUF_INIT;

	*sim = (struct sim){ .c = c };
	sim_clock_reset();
	sim->ms = memstore_new(NULL);
	memstore_limit_value(sim->ms, SIM_MAX_VALUE);
	memstore_limit_pages(sim->ms, c->page_records, 0);
	for (enum sim_who who = SIM_A; who <= SIM_FSCK; who++)
		sim->parties[who] = party_new(sim, who, who + 1);
	for (unsigned i = 0; i < SIM_OPS_MAX && c->before[i].verb != SIM_NONE; i++) {
		struct before before = { &c->before[i] };

		sim_must(sim_call(sim->parties[c->before[i].by], do_before, &before) == 0, "what is before fails");
	}
	if (c->aged)
		sim_pass(sim, AGE_US);
	for (enum sim_who who = SIM_A; who <= SIM_B; who++)
		sim_must(sim_call(sim->parties[who], start_mount, NULL) == 0 &&
				 sim_call(sim->parties[who], view_mount, &view) == 0,
			 "a mount fails before anything is done");
	buf_clear(&sim->trace);
	sim->watching = true;
	for (enum sim_who who = SIM_A; who <= SIM_FSCK; who++) {
		sim->parties[who]->wrote = false;
		party_start(sim->parties[who], script, sim->parties[who]);
	}
}

static void sim_end(struct sim *sim)
{
	sim->watching = false;
	for (int i = 0; i < SIM_PARTIES; i++)
		if (sim->parties[i])
			party_free(sim->parties[i]);
	for (unsigned i = 0; i < SIM_OPS_MAX; i++)
		buf_free(&sim->ops[i].read);
	sim_forget_notes(sim);
	memstore_free(sim->ms);
	buf_free(&sim->trace);
	buf_free(&sim->failure);
}

/* To the next order that was not tried: false at the end. */
static bool next_order(struct explorer *explorer)
{
	while (explorer->depth) {
		struct choice *last = &explorer->choices[explorer->depth - 1];

		if (++last->taken < last->of)
			return true;
		explorer->depth--;
	}
	return false;
}

static bool explore_one(struct explorer *explorer)
{
	struct sim sim;
	bool failed;

	sim_begin(&sim, explorer->c);
	explorer->runs++;
	if (run_orders(explorer, &sim) && !sim.failure.len) {
		explorer->judged++;
		judge(&sim);
	}
	failed = sim.failure.len;
	if (failed)
		fprintf(stderr, "%s: %s\n    rule: %s\n    order:\n%s", explorer->c->name, sim.failure.p,
			explorer->c->rule ? explorer->c->rule : "several", sim.trace.p);
	sim_end(&sim);
	return !failed;
}

void sim_explore(const struct sim_case *c)
{
	struct explorer *explorer = calloc(1, sizeof(*explorer));
	struct seen *seen, *next;
	bool right = true;

	sim_must(explorer, "no memory");
	explorer->c = c;
	do
		right = explore_one(explorer);
	while (right && next_order(explorer) && explorer->runs < RUNS_MAX);
	printf("           %u states, %u ends\n", HASH_COUNT(explorer->seen), explorer->judged);
	if (explorer->runs == RUNS_MAX)
		printf("           stopped after %u runs: not all orders were tried\n", RUNS_MAX);
	HASH_ITER(hh, explorer->seen, seen, next) {
		HASH_DEL(explorer->seen, seen);
		free(seen);
	}
	free(explorer);
	co_pool_free();
	assert_true(right);
}

void sim_test_case(void **state)
{
	sim_explore(*state);
}

int sim_cases_run(const char *name, const struct sim_case *cases, size_t count)
{
	struct CMUnitTest *tests = calloc(count, sizeof(*tests));
	int r;

	sim_must(tests, "no memory");
	for (size_t i = 0; i < count; i++)
		tests[i] = (struct CMUnitTest){
			.name = cases[i].name,
			.test_func = sim_test_case,
			.initial_state = (void *)(uintptr_t)&cases[i],
		};
	r = _cmocka_run_group_tests(name, tests, count, NULL, NULL);
	free(tests);
	return r;
}
