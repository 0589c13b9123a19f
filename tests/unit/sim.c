/* The parties and their requests. */
#include "sim.h"

#include <stdarg.h>

#include "base/list.h"
#include "sim_loop.h"

/* More than this in a row means that something asks for ever. */
#define STEPS_MAX 100000

struct held {
	struct held *prev, *next;
	struct party *party;
	struct store_request request;
	struct buf key, value, end;
	store_done *done;
	void *arg;
};

/* Which operations the value of a key is from. */
struct key_note {
	struct key_note *prev, *next;
	struct buf key;
	unsigned writers;
	unsigned owners; /* of an entry of the journal: who has shown that he is at work on it */
	/* those whose writes each party saw when it read the key, since its present operation began and it last wrote there */
	bool got[SIM_PARTIES];
	unsigned got_writers[SIM_PARTIES];
};

void sim_must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "simulation: %s\n", what);
	abort();
}

void sim_fail(struct sim *sim, const char *format, ...)
{
	va_list args;
	char *text;

	if (sim->failure.len)
		return;
	va_start(args, format);
	sim_must(vasprintf(&text, format, args) >= 0, "no memory");
	va_end(args);
	sim_must(buf_set(&sim->failure, str_c(text)) == 0, "no memory");
	free(text);
}

/* --- numbers of what was said --- */

static uint64_t mix(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * 0x100000001b3ull;
	return (hash ^ len) * 0x100000001b3ull;
}

static uint64_t mix_str(uint64_t hash, struct str s)
{
	return mix(hash, s.p, s.len);
}

static uint64_t mix_number(uint64_t hash, uint64_t n)
{
	return mix(hash, &n, sizeof(n));
}

static uint64_t mix_note(const struct key_note *note)
{
	uint64_t hash = mix_number(mix_number(mix_str(0, buf_str(&note->key)), note->writers), note->owners);

	for (int i = 0; i < SIM_PARTIES; i++)
		hash = mix_number(hash, note->got[i] ? note->got_writers[i] + 1u : 0);
	return hash;
}

uint64_t sim_fingerprint(const struct sim *sim)
{
	uint64_t hash = mix_number(0xcbf29ce484222325ull, sim_clock_us()), writers = 0;
	const struct key_note *note;

	for (size_t i = 0; i < memstore_size(sim->ms); i++) {
		struct store_record pair = memstore_pair(sim->ms, i);

		hash = mix_str(mix_str(hash, pair.key), pair.value);
	}
	for (int i = 0; i < SIM_PARTIES; i++) {
		const struct party *party = sim->parties[i];

		if (!party)
			continue;
		hash = mix_number(mix_number(hash, party->history), party->dead);
	}
	for (unsigned i = 0; i < SIM_OPS_MAX; i++)
		hash = mix_number(mix_number(hash, sim->ops[i].after), sim->ops[i].lost + 2u * sim->ops[i].ended);
	DL_FOREACH(sim->notes, note)
		writers ^= mix_note(note);
	return mix_number(hash, writers);
}

/* --- which operations a value is from --- */

static struct key_note *note_of(struct sim *sim, struct str key)
{
	struct key_note *note;

	DL_FOREACH(sim->notes, note)
		if (str_equal(buf_str(&note->key), key))
			return note;
	note = calloc(1, sizeof(*note));
	sim_must(note && buf_set(&note->key, key) == 0, "no memory");
	DL_APPEND(sim->notes, note);
	return note;
}

void sim_forget_notes(struct sim *sim)
{
	struct key_note *note, *next;

	DL_FOREACH_SAFE(sim->notes, note, next) {
		buf_free(&note->key);
		free(note);
	}
	sim->notes = NULL;
}

void sim_forget_reads(struct party *party)
{
	struct key_note *note;

	DL_FOREACH(party->sim->notes, note)
		note->got[party->who] = false;
}

/* Only one takes over what a dead one has left. */
static void account_owner(struct party *party, const struct store_request *request)
{
	struct key_note *note;

	if (request->op != STORE_PATCH || party->who == SIM_A || !str_starts(request->key, STR(".hpkvfs/j/")))
		return;
	note = note_of(party->sim, request->key);
	note->owners |= 1u << party->who;
	if (note->owners & (note->owners - 1))
		sim_fail(party->sim, "two have taken over %.*s", (int)request->key.len, request->key.p);
}

/* Without a subscription a mount learns by a GET what it is about to destroy. What another writes between that GET and the
 * SET or DELETE behind it is lost, and documented to be. */
static void account(struct party *party, const struct store_request *request)
{
	struct sim *sim = party->sim;
	struct key_note *note;
	unsigned own = 1u << party->op, lost;

	if (request->op == STORE_RANGE || !sim->watching || str_starts(request->key, STR(".hpkvfs/m/")))
		return;
	note = note_of(sim, request->key);
	if (request->op == STORE_GET) {
		note->got[party->who] = true;
		note->got_writers[party->who] = note->writers;
		return;
	}
	lost = note->writers & ~note->got_writers[party->who] & ~own;
	if (request->op != STORE_PATCH && party->fs && note->got[party->who])
		for (unsigned i = 0; i < SIM_OPS_MAX; i++)
			sim->ops[i].lost |= lost >> i & 1;
	note->writers = request->op == STORE_PATCH ? note->writers | own : own;
	note->got[party->who] = false;
}

/* --- requests --- */

static void trace_text(struct buf *trace, struct str text)
{
	for (size_t i = 0; i < text.len && i < 60; i++)
		sim_must(buf_add_char(trace, text.p[i] >= ' ' && text.p[i] < 127 ? text.p[i] : '.') == 0, "no memory");
	sim_must(text.len <= 60 || buf_printf(trace, "... (%zu)", text.len) == 0, "no memory");
}

static void trace_request(struct party *party, const struct store_request *request, const struct store_reply *reply)
{
	static const char *const verbs[] = { "GET", "SET", "PATCH", "DELETE", "RANGE", "ATOMIC" };
	struct buf *trace = &party->sim->trace;

	sim_must(buf_printf(trace, "    %c %s ", "ABFKL"[party->who], verbs[request->op]) == 0, "no memory");
	trace_text(trace, request->key);
	if (request->value.len) {
		sim_must(buf_add_str(trace, STR(" := ")) == 0, "no memory");
		trace_text(trace, request->value);
	}
	if (request->op == STORE_RANGE)
		sim_must(buf_printf(trace, " -> %zu", reply->count) == 0, "no memory");
	else
		sim_must(buf_printf(trace, " -> %d ", reply->err) == 0, "no memory");
	trace_text(trace, reply->value);
	sim_must(buf_add_char(trace, '\n') == 0, "no memory");
}

static void answered(void *arg, const struct store_reply *reply)
{
	struct held *held = arg;
	struct party *party = held->party;

	party->history = mix_number(mix_str(party->history, reply->value), (uint64_t)reply->err);
	for (size_t i = 0; i < reply->count; i++)
		party->history = mix_str(mix_str(party->history, reply->records[i].key), reply->records[i].value);
	trace_request(party, &held->request, reply);
	held->done(held->arg, reply);
}

static struct held *take_first(struct party *party)
{
	struct held *held = party->held;

	DL_DELETE(party->held, held);
	return held;
}

static void held_free(struct held *held)
{
	buf_free(&held->key);
	buf_free(&held->value);
	buf_free(&held->end);
	free(held);
}

static bool is_write(const struct store_request *request)
{
	return request->op != STORE_GET && request->op != STORE_RANGE;
}

static void check_present(struct sim *sim)
{
	const char *const *present = sim->c->present;

	if (!sim->watching || !present[0] || memstore_value(sim->ms, present[0]))
		return;
	if (!present[1] || !memstore_value(sim->ms, present[1]))
		sim_fail(sim, "the key %s is absent%s%s", present[0], present[1] ? ", and so is " : "",
			 present[1] ? present[1] : "");
}

static void check_guarded(struct sim *sim)
{
	const char *const *guarded = sim->c->guarded;

	if (sim->watching && guarded[0] && memstore_value(sim->ms, guarded[0]) && !memstore_value(sim->ms, guarded[1]))
		sim_fail(sim, "the key %s is there without %s", guarded[0], guarded[1]);
}

void party_release(struct party *party)
{
	struct held *held = take_first(party);
	struct store_request *request = &held->request;

	party->history = mix_number(mix_str(party->history, request->key), request->op);
	party->history = mix_str(mix_str(party->history, request->value), request->end);
	account(party, request);
	account_owner(party, request);
	party->wrote = is_write(request);
	memstore_do(party->sim->ms, request, answered, held);
	if (party->wrote) {
		check_present(party->sim);
		check_guarded(party->sim);
	}
	held_free(held);
}

static int submit(struct store *store, const struct store_request *request, store_done *done, void *arg)
{
	struct party *party = lws_container_of(store, struct party, store);
	struct held *held = calloc(1, sizeof(*held));

	sim_must(held && buf_set(&held->key, request->key) == 0 && buf_set(&held->value, request->value) == 0 &&
			 buf_set(&held->end, request->end) == 0,
		 "no memory");
	held->party = party;
	held->request = *request;
	held->request.key = buf_str(&held->key);
	held->request.value = buf_str(&held->value);
	held->request.end = buf_str(&held->end);
	held->done = done;
	held->arg = arg;
	DL_APPEND(party->held, held);
	return 0;
}

static const struct store_ops ops = { .submit = submit };

/* --- parties --- */

static void expire_entry(void *arg, uint64_t parent, struct str name)
{
	(void)arg;
	(void)parent;
	(void)name;
}

static void inval_entry(void *arg, uint64_t parent, struct str name)
{
	expire_entry(arg, parent, name);
}

static void inval_inode(void *arg, uint64_t id)
{
	(void)arg;
	(void)id;
}

struct party *party_new(struct sim *sim, enum sim_who who, unsigned number)
{
	struct party *party = calloc(1, sizeof(*party));
	struct fs_config config = {
		.prefix = STR(""),
		.delimiter = '/',
		.max_value = SIM_MAX_VALUE,
		.max_key = 512,
		.ttl_us = 1000000,
		.uid = 1000,
		.gid = 1000,
		.umask = 022,
		.local = STR("*~"),
		.local_ttl_us = 500000,
	};
	struct fs_notify notify = { .expire_entry = expire_entry,
				    .inval_entry = inval_entry,
				    .inval_inode = inval_inode };

	sim_must(party, "no memory");
	party->store.ops = &ops;
	party->sim = sim;
	party->who = who;
	party->loop = sim_loop_new(number);
	sim_loop_use(party->loop);
	if (who != SIM_FOREIGN && who != SIM_FSCK)
		sim_must(fs_new(party->loop, &party->store, &config, &notify, &party->fs) == 0, "no filesystem");
	return party;
}

struct start {
	struct loop_task task;
	struct loop *loop;
	void (*fn)(void *arg);
	void *arg;
};

static void start_now(struct loop_task *task)
{
	struct start *start = lws_container_of(task, struct start, task);

	sim_must(co_start(start->loop, start->fn, start->arg) == 0, "no memory");
	free(start);
}

/* Not at once: what runs is told by the loop that runs it. */
void party_start(struct party *party, void (*fn)(void *arg), void *arg)
{
	struct start *start = calloc(1, sizeof(*start));

	sim_must(start, "no memory");
	*start = (struct start){ .task = { .fn = start_now }, .loop = party->loop, .fn = fn, .arg = arg };
	loop_defer(party->loop, &start->task);
}

/* What the dead ask is not carried out, and they are told so: their coroutines must come to an end somehow. */
static bool answer_dead(struct party *party)
{
	static const struct store_reply lost = { .err = -EIO };
	struct held *held;

	if (!party->dead || !party->held)
		return false;
	held = take_first(party);
	held->done(held->arg, &lost);
	held_free(held);
	return true;
}

static bool party_run(struct party *party)
{
	bool any = sim_loop_run(party->loop);

	if (!party->dead && sim_loop_due(party->loop) <= sim_clock_us()) {
		sim_loop_fire(party->loop);
		any = true;
	}
	return answer_dead(party) || any;
}

void sim_quiesce(struct sim *sim)
{
	bool any = true;

	for (unsigned steps = 0; any; steps++) {
		sim_must(steps < STEPS_MAX, "a party never comes to rest");
		any = false;
		for (int i = 0; i < SIM_PARTIES; i++)
			any |= sim->parties[i] && party_run(sim->parties[i]);
	}
}

void party_kill(struct party *party)
{
	party->dead = true;
	party->begin = true;
	if (party->waiting)
		co_wake(party->waiting);
}

static void end_of_mount(void *arg)
{
	struct party *party = arg;

	if (fs_end(party->fs) < 0 && !party->dead)
		sim_fail(party->sim, "unmounting failed");
	party->done = true;
}

/* Its coroutines are brought to their ends first, dead. */
void party_free(struct party *party)
{
	if (!party->dead)
		party_kill(party);
	for (unsigned steps = 0; !party->done; steps++) {
		sim_must(steps < STEPS_MAX, "a coroutine does not end");
		if (!party_run(party) && !party->done && sim_loop_due(party->loop) != UINT64_MAX)
			sim_loop_fire(party->loop);
	}
	if (party->fs) {
		party->done = false;
		party_start(party, end_of_mount, party);
		while (!party->done)
			if (!party_run(party) && !party->done)
				sim_loop_fire(party->loop);
		while (party_run(party))
			continue;
		fs_free(party->fs);
	}
	sim_loop_free(party->loop);
	free(party);
}

/* --- without choices --- */

void sim_settle(struct sim *sim)
{
	bool any = true;

	for (unsigned steps = 0; any; steps++) {
		sim_must(steps < STEPS_MAX, "requests without end");
		any = false;
		sim_quiesce(sim);
		for (int i = 0; i < SIM_PARTIES; i++)
			if (sim->parties[i] && sim->parties[i]->held) {
				party_release(sim->parties[i]);
				any = true;
			}
	}
}

void sim_pass(struct sim *sim, uint64_t us)
{
	uint64_t until = sim_clock_us() + us;

	for (;;) {
		struct party *next = NULL;

		sim_settle(sim);
		for (int i = 0; i < SIM_PARTIES; i++) {
			struct party *party = sim->parties[i];

			if (party && !party->dead && sim_loop_due(party->loop) <= until &&
			    (!next || sim_loop_due(party->loop) < sim_loop_due(next->loop)))
				next = party;
		}
		if (!next)
			break;
		sim_loop_fire(next->loop);
	}
	if (sim_clock_us() < until)
		sim_clock_set(until);
}

struct call {
	struct party *party;
	int (*fn)(struct party *party, void *arg);
	void *arg;
	int r;
	bool done;
};

static void call_run(void *arg)
{
	struct call *call = arg;

	call->r = call->fn(call->party, call->arg);
	call->done = true;
}

int sim_call(struct party *party, int (*fn)(struct party *party, void *arg), void *arg)
{
	struct call call = { .party = party, .fn = fn, .arg = arg };

	party_start(party, call_run, &call);
	for (unsigned steps = 0; !call.done; steps++) {
		sim_must(steps < STEPS_MAX, "a call never ends");
		sim_quiesce(party->sim);
		if (party->held)
			party_release(party);
		else if (!call.done)
			sim_loop_fire(party->loop);
	}
	sim_quiesce(party->sim);
	return call.r;
}
