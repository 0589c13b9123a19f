/* What operations give when each is done at once: names and contents, without keys, requests or mounts. */
#include "sim.h"

#include "base/list.h"

#define ENTRIES_MAX 24

/* Bytes that live until the search is over. */
struct kept {
	struct kept *next;
	char bytes[];
};

struct entry {
	struct str path; /* a directory's without a slash */
	bool dir;
	mode_t mode;
	struct str note; /* its xattr */
	struct str content;
};

struct world {
	struct entry entries[ENTRIES_MAX];
	unsigned count;
};

struct search {
	const struct sim *sim;
	struct kept *kept;
	struct world past[SIM_OPS_MAX + 2]; /* from the beginning to now: what a stale cache can hold */
	unsigned depth;
	struct str view;
	struct buf *expected;
	bool found;
	bool finishing; /* what another did to finish what a dead one left was tried */
};

static struct str keep(struct search *search, struct str a, struct str b)
{
	struct kept *kept = malloc(sizeof(*kept) + a.len + b.len + 1);

	sim_must(kept, "no memory");
	LL_PREPEND(search->kept, kept);
	if (a.len)
		memcpy(kept->bytes, a.p, a.len);
	if (b.len)
		memcpy(kept->bytes + a.len, b.p, b.len);
	return str_of(kept->bytes, a.len + b.len);
}

/* --- the world --- */

static struct entry *find(struct world *world, struct str path)
{
	for (unsigned i = 0; i < world->count; i++)
		if (str_equal(world->entries[i].path, path))
			return &world->entries[i];
	return NULL;
}

static struct entry *make(struct world *world, struct str path)
{
	struct entry *entry = find(world, path);

	if (entry)
		return entry;
	sim_must(world->count < ENTRIES_MAX, "too many files");
	entry = &world->entries[world->count++];
	*entry = (struct entry){ .path = path, .mode = S_IFREG | 0644 };
	return entry;
}

static void drop(struct world *world, struct str path)
{
	struct entry *entry = find(world, path);

	if (entry)
		*entry = world->entries[--world->count];
}

static bool is_below(struct str path, struct str dir)
{
	return path.len > dir.len && path.p[dir.len] == '/' && str_starts(path, dir);
}

/* What others have removed since the mount saw it in `known`, it brings back under the new name. */
static void rename_all(struct search *search, struct world *world, const struct world *known, struct str from,
		       struct str to)
{
	struct world before = *world;

	for (unsigned i = 0; i < known->count; i++)
		if (!find(&before, known->entries[i].path))
			before.entries[before.count++] = known->entries[i];
	if (find(&before, from) && !find(&before, from)->dir)
		drop(world, to);
	for (unsigned i = 0; i < before.count; i++) {
		struct entry entry = before.entries[i];

		if (!str_equal(entry.path, from) && !is_below(entry.path, from))
			continue;
		drop(world, entry.path);
		entry.path = keep(search, to, str_skip(entry.path, from.len));
		*make(world, entry.path) = entry;
	}
}

static void exchange(struct world *world, struct str a, struct str b)
{
	struct entry *one = find(world, a), *other = find(world, b);

	if (one)
		one->path = b;
	if (other)
		other->path = a;
}

static void write_at(struct search *search, struct entry *entry, struct str base, size_t offset, struct str text)
{
	size_t size = offset + text.len > base.len ? offset + text.len : base.len;
	CLEANUP(buf_free) struct buf content = BUF_INIT;

	sim_must(buf_set(&content, base) == 0 && buf_resize(&content, size) == 0, "no memory");
	if (text.len)
		memcpy(content.p + offset, text.p, text.len);
	entry->content = keep(search, buf_str(&content), STR(""));
}

static void resize(struct search *search, struct entry *entry, struct str base, size_t size)
{
	if (size > base.len)
		write_at(search, entry, base, size, STR(""));
	else
		entry->content = str_of(base.p, size);
}

static struct str content_of(const struct world *world, struct str path)
{
	for (unsigned i = 0; i < world->count; i++)
		if (str_equal(world->entries[i].path, path))
			return world->entries[i].content;
	return STR("");
}

/* `known`: what was there when the operation looked. */
static void apply(struct search *search, struct world *world, const struct sim_op *op, const struct world *known)
{
	CLEANUP(buf_free) struct buf buf = BUF_INIT;
	struct str text = sim_op_text(op, &buf), path = str_c(op->path ? op->path : "");
	struct entry *entry;

	text = keep(search, text, STR(""));
	switch (op->verb) {
	case SIM_WRITE:
	case SIM_SET:
		if (op->mode && !find(world, path))
			make(world, path)->mode = S_IFREG | op->mode;
		make(world, path)->content = text;
		return;
	case SIM_APPEND:
	case SIM_PATCH:
		entry = make(world, path);
		entry->content = keep(search, entry->content, text);
		return;
	case SIM_WRITE_AT:
		write_at(search, make(world, path), content_of(known, path), op->offset, text);
		return;
	case SIM_RESIZE:
		resize(search, make(world, path), content_of(known, path), op->offset);
		return;
	case SIM_UNLINK:
	case SIM_RMDIR:
	case SIM_DELETE:
		drop(world, path);
		return;
	case SIM_RENAME:
		rename_all(search, world, known, path, str_c(op->to));
		return;
	case SIM_COPY:
		make(world, str_c(op->to))->content = content_of(world, path);
		return;
	case SIM_EXCHANGE:
		exchange(world, path, str_c(op->to));
		return;
	case SIM_MKDIR:
		entry = make(world, path);
		entry->dir = true;
		entry->mode = S_IFDIR | 0755;
		return;
	case SIM_CHMOD:
		entry = find(world, path);
		if (entry)
			entry->mode = (entry->mode & S_IFMT) | op->mode;
		return;
	case SIM_XATTR:
		entry = find(world, path);
		if (entry)
			entry->note = text;
		return;
	case SIM_NONE:
	case SIM_READ:
	case SIM_WAIT:
	case SIM_CHECK:
		return;
	}
}

/* --- as a mount would show it --- */

static int by_path(const void *a, const void *b)
{
	const struct buf *x = a, *y = b;

	return str_compare(buf_str(x), buf_str(y));
}

static void render(const struct world *from, struct buf *out)
{
	struct world world = *from;
	struct buf lines[ENTRIES_MAX] = { { 0 } };

	for (unsigned i = 0; i < from->count; i++)
		for (size_t at = 0; at < from->entries[i].path.len; at++)
			if (from->entries[i].path.p[at] == '/') {
				struct str path = str_of(from->entries[i].path.p, at);

				if (find(&world, path))
					continue;
				make(&world, path)->mode = S_IFDIR | 0755;
				find(&world, path)->dir = true;
			}
	for (unsigned i = 0; i < world.count; i++) {
		struct entry *entry = &world.entries[i];
		CLEANUP(buf_free) struct buf path = BUF_INIT;

		sim_must(buf_set(&path, entry->path) == 0 && (!entry->dir || buf_add_char(&path, '/') == 0),
			 "no memory");
		sim_view_line(&lines[i], buf_str(&path), entry->mode, entry->note, entry->content);
	}
	qsort(lines, world.count, sizeof(*lines), by_path);
	buf_clear(out);
	for (unsigned i = 0; i < world.count; i++) {
		sim_must(buf_add_str(out, buf_str(&lines[i])) == 0 && buf_add_char(out, '\n') == 0, "no memory");
		buf_free(&lines[i]);
	}
}

/* --- all orders --- */

static void compare(struct search *search, const struct world *world)
{
	CLEANUP(buf_free) struct buf text = BUF_INIT;

	render(world, &text);
	if (str_equal(buf_str(&text), search->view)) {
		search->found = true;
		return;
	}
	if (search->expected->len < 4000 &&
	    !(search->expected->len && memmem(search->expected->p, search->expected->len, buf_str(&text).p, text.len)))
		sim_must(buf_add_str(search->expected, STR("  or\n")) == 0 &&
				 buf_add_str(search->expected, buf_str(&text)) == 0,
			 "no memory");
}

static void try_all(struct search *search, unsigned done);

static void try_world(struct search *search, const struct world *world, unsigned done)
{
	if (search->found)
		return;
	search->past[++search->depth] = *world;
	try_all(search, done);
	search->depth--;
}

static bool has_effect(const struct op_state *state)
{
	return state->begun && (!state->ended || state->r == 0);
}

static bool may_have_none(const struct op_state *state)
{
	return !has_effect(state) || !state->ended || state->lost;
}

/* A file whose renaming ended with its mount has both names, the new one with what the mount knew. */
static void try_half_rename(struct search *search, const struct sim_op *op, unsigned done)
{
	for (unsigned past = 0; past <= search->depth; past++) {
		struct world world = search->past[search->depth];
		struct entry *known = find(&search->past[past], str_c(op->path));
		struct entry copy;

		if (!known || known->dir)
			continue;
		copy = *known;
		copy.path = str_c(op->to);
		*make(&world, copy.path) = copy;
		try_world(search, &world, done);
	}
}

/* A directory's: `entry` and those behind it, of what was there when it was begun. */
static void try_half_move(struct search *search, const struct sim_op *op, unsigned done, struct world *world,
			  const struct world *known, unsigned entry)
{
	const struct entry *from = &known->entries[entry];
	struct world moved = *world;
	struct entry *now, copy = *from;

	if (entry == known->count) {
		try_world(search, world, done);
		return;
	}
	try_half_move(search, op, done, world, known, entry + 1);
	if (!is_below(from->path, str_c(op->path)) || search->found)
		return;
	copy.path = keep(search, str_c(op->to), str_skip(from->path, strlen(op->path)));
	if (!find(&moved, copy.path)) {
		*make(&moved, copy.path) = copy;
		try_half_move(search, op, done, &moved, known, entry + 1);
	}
	now = find(&moved, from->path);
	if (!now)
		return;
	copy.content = now->content;
	drop(&moved, from->path);
	*make(&moved, copy.path) = copy;
	try_half_move(search, op, done, &moved, known, entry + 1);
}

static void try_op(struct search *search, unsigned i, unsigned done)
{
	const struct sim_op *op = &search->sim->c->ops[i];
	const struct op_state *state = &search->sim->ops[i];
	struct world now = search->past[search->depth];

	done |= 1u << i;
	if (may_have_none(state))
		try_world(search, &now, done);
	if (!has_effect(state))
		return;
	if (op->verb == SIM_RENAME && !state->ended)
		try_half_rename(search, op, done);
	if (op->half && !state->ended) {
		struct world world = now;

		try_half_move(search, op, done, &world, &search->past[0], 0);
	}
	for (unsigned past = op->stale ? 0 : search->depth; past <= search->depth; past++) {
		struct world world = now;

		apply(search, &world, op, &search->past[past]);
		try_world(search, &world, done);
	}
}

/* Others move what is still there at the end. */
static void try_finishing(struct search *search, unsigned done)
{
	for (unsigned i = 0; i < SIM_OPS_MAX && !search->found; i++) {
		const struct sim_op *op = &search->sim->c->ops[i];
		struct world world = search->past[search->depth], known = world;

		if (!op->half || !search->sim->ops[i].begun || search->sim->ops[i].ended)
			continue;
		search->finishing = true;
		try_half_move(search, op, done, &world, &known, 0);
		search->finishing = false;
	}
}

static void try_all(struct search *search, unsigned done)
{
	bool all = true;

	for (unsigned i = 0; i < SIM_OPS_MAX && !search->found; i++) {
		if (search->sim->c->ops[i].verb == SIM_NONE || (done & 1u << i))
			continue;
		all = false;
		if (search->sim->c->ops[i].behind || (search->sim->ops[i].after & ~done) == 0)
			try_op(search, i, done);
	}
	if (all && !search->found)
		compare(search, &search->past[search->depth]);
	if (all && !search->found && !search->finishing)
		try_finishing(search, done);
}

bool sim_model_allows(const struct sim *sim, struct str view, struct buf *expected)
{
	struct search *search = calloc(1, sizeof(*search));
	struct kept *kept, *next;
	bool found;

	sim_must(search, "no memory");
	search->sim = sim;
	search->view = view;
	search->expected = expected;
	for (unsigned i = 0; i < SIM_OPS_MAX; i++) {
		const struct sim_op *op = &sim->c->before[i];

		if (op->verb != SIM_NONE)
			apply(search, &search->past[0], op, &search->past[0]);
	}
	try_all(search, 0);
	found = search->found;
	LL_FOREACH_SAFE(search->kept, kept, next)
		free(kept);
	free(search);
	return found;
}
