/* Programs here and clients elsewhere change the same few names at random, replies and notifications come in every order; when all is
 * told, the filesystem shows what one shows that has read everything anew, and what the kernel was given for ever, and was not
 * told to ask for, is still so. */
#include "push_rig.h"

#include <stdlib.h>

#include "base/clock.h"
#include "fs/internal.h"

#define ROUNDS 3000
#define WIDER_ROUNDS 1500
#define STEPS 30

/* Seeds beyond those that have found a fault once. */
static const unsigned FAULTS[] = { 3363,  3371,  4067,  5702,  5706,  8987,  9628,  14244, 11054,
				   14579, 15527, 19030, 27641, 27877, 32369, 35589, 37293, 55918 };
#define FAULT_COUNT (sizeof(FAULTS) / sizeof(FAULTS[0]))

/* The last two are names of backups, which wait. */
static const char *const PATHS[] = { "a", "b", "c", "d/a", "d/b", "e/f/a", "a/b", "e/f", "a~", "d/a~" };
static const char *const DIRS[] = { "d", "e", "e/f", "g" };

#define PATH_COUNT (sizeof(PATHS) / sizeof(PATHS[0]))
#define WAITING_COUNT 2
#define DIR_COUNT (sizeof(DIRS) / sizeof(DIRS[0]))

/* All mtimes that a record sets here are before. */
#define SET_TIMES_END 1100000000

/* --- chance --- */

static uint64_t chance;
static unsigned seed;
static bool wider; /* backups that wait, and records that set times */

static bool tracing;

/* What a failure's seed does, for whoever looks for why. */
#define trace(...)                                    \
	do {                                          \
		if (tracing)                          \
			fprintf(stderr, __VA_ARGS__); \
	} while (0)

static unsigned pick(unsigned below)
{
	chance = chance * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(chance >> 33) % below;
}

static const char *a_path(void)
{
	return PATHS[pick(wider ? PATH_COUNT : PATH_COUNT - WAITING_COUNT)];
}

static const char *a_text(void)
{
	static char text[64];
	static unsigned number;

	snprintf(text, sizeof(text), "%.*s%u", (int)pick(20), "xxxxxxxxxxxxxxxxxxxx", number++);
	return text;
}

static void put(struct rig *rig, const char *key, const char *value)
{
	trace("others: %s = %s\n", key, value);
	memstore_put(rig->ms, key, value);
}

static void take(struct rig *rig, const char *key)
{
	trace("others: %s is removed\n", key);
	if (memstore_value(rig->ms, key))
		memstore_remove(rig->ms, key);
}

static const char *record_key(const char *path, bool dir)
{
	static char key[64];

	snprintf(key, sizeof(key), ".hpkvfs/m/%s%s", path, dir ? "/" : "");
	return key;
}

/* --- what the kernel was given for ever --- */

struct given {
	struct given *next;
	uint64_t parent, id; /* id 0: absent */
	char name[32];
	bool entry, attributes; /* that still hold */
	struct stat st;
};

static struct given *kernel;

/* And what it has read of a file, which it shows again without asking where it may. */
struct pages {
	struct pages *next;
	uint64_t id;
	struct buf content;
};

static struct pages *cache;

/* Those of one file, or of all. */
static void pages_drop(const uint64_t *id)
{
	struct pages **at = &cache;

	while (*at) {
		struct pages *pages = *at;

		if (id && pages->id != *id) {
			at = &pages->next;
			continue;
		}
		*at = pages->next;
		buf_free(&pages->content);
		free(pages);
	}
}

static struct pages *pages_of(uint64_t id)
{
	struct pages *pages = cache;

	while (pages && pages->id != id)
		pages = pages->next;
	return pages;
}

static void kernel_forget(struct rig *rig)
{
	while (kernel) {
		struct given *given = kernel;

		kernel = given->next;
		free(given);
	}
	rig_notes_clear(rig);
}

static void kernel_hears(struct rig *rig)
{
	for (unsigned i = 0; i < rig->note_count; i++) {
		const struct note *note = &rig->notes[i];

		for (struct given *given = kernel; given; given = given->next) {
			if (note->entry && given->parent == note->id &&
			    str_equal(str_c(given->name), buf_str(&note->name)))
				given->entry = given->attributes = false;
			if (!note->entry && given->id == note->id)
				given->attributes = false;
		}
		if (!note->entry)
			pages_drop(&note->id);
	}
	rig_notes_clear(rig);
}

static void kernel_looks(struct rig *rig, const char *path)
{
	const char *name = strrchr(path, '/');
	char parent[32] = "";
	uint64_t id = FS_ROOT_ID;
	struct given *given;
	int r;

	if (name) {
		snprintf(parent, sizeof(parent), "%.*s", (int)(name - path), path);
		if (look(rig, parent) < 0 || !S_ISDIR(rig->entry.st.st_mode))
			return;
		id = rig->entry.id;
	}
	name = name ? name + 1 : path;
	r = run(rig, op_lookup, .parent = id, .name = name);
	if (r == -ESTALE)
		return; /* the directory has gone while its listing was waited for: Linux looks for it again */
	assert_true(r == 0 || r == -ENOENT);
	kernel_hears(rig);
	if (rig->entry.ttl_us != FS_FOREVER)
		return;
	given = calloc(1, sizeof(*given));
	assert_non_null(given);
	given->parent = id;
	given->id = r == 0 ? rig->entry.id : 0;
	snprintf(given->name, sizeof(given->name), "%s", name);
	given->entry = true;
	given->attributes = r == 0;
	given->st = rig->entry.st;
	given->next = kernel;
	kernel = given;
}

static void kernel_reads(struct rig *rig, const char *path)
{
	struct pages *pages;
	uint64_t id;

	if (look(rig, path) < 0 || !S_ISREG(rig->entry.st.st_mode))
		return;
	id = rig->entry.id;
	if (read_file(rig, path) < 0)
		return;
	kernel_hears(rig);
	pages = pages_of(id);
	if (pages && rig->keep_cache) {
		if (!str_equal(buf_str(&pages->content), buf_str(&rig->out)))
			print_message("seed %u: old pages of %s\n", seed, path);
		assert_true(str_equal(buf_str(&pages->content), buf_str(&rig->out)));
		return;
	}
	pages_drop(&id);
	pages = calloc(1, sizeof(*pages));
	assert_non_null(pages);
	pages->id = id;
	assert_int_equal(buf_set(&pages->content, buf_str(&rig->out)), 0);
	pages->next = cache;
	cache = pages;
}

static void kernel_is_right(struct rig *rig)
{
	kernel_hears(rig);
	for (struct given *given = kernel; given; given = given->next) {
		if (given->entry) {
			int r = run(rig, op_lookup, .parent = given->parent, .name = given->name);

			if (r == -ESTALE)
				continue; /* its directory is gone, and expired in its own */
			if ((r == 0 ? rig->entry.id : 0) != given->id)
				print_message("seed %u: %s in %lu was %lu, is %lu (%d)\n", seed, given->name,
					      given->parent, given->id, rig->entry.id, r);
			assert_int_equal(r == 0 ? rig->entry.id : 0, given->id);
		}
		if (given->attributes && node_find(rig->fs, given->id) &&
		    !node_is_unlinked(node_find(rig->fs, given->id))) {
			assert_int_equal(run(rig, op_getattr, .id = given->id), 0);
			if (given->st.st_mode != rig->entry.st.st_mode || given->st.st_size != rig->entry.st.st_size)
				print_message("seed %u: %s\n", seed, given->name);
			assert_int_equal(rig->entry.st.st_mode, given->st.st_mode);
			assert_int_equal(rig->entry.st.st_uid, given->st.st_uid);
			assert_int_equal(rig->entry.st.st_mtim.tv_sec, given->st.st_mtim.tv_sec);
			assert_int_equal(rig->entry.st.st_mtim.tv_nsec, given->st.st_mtim.tv_nsec);
			if (!S_ISDIR(given->st.st_mode))
				assert_int_equal(rig->entry.st.st_size, given->st.st_size);
		}
	}
	kernel_forget(rig);
}

/* --- others --- */

static void foreign_step(struct rig *rig)
{
	const char *path = a_path(), *dir = DIRS[pick(DIR_COUNT)], *key, *value;
	char record[160], hash[CONTENT_HASH_LEN + 1];

	switch (pick(wider ? 9 : 8)) {
	case 0:
	case 1:
	case 2:
		put(rig, path, a_text());
		break;
	case 3:
		take(rig, path);
		break;
	case 4:
		snprintf(record, sizeof(record), "{\"v\":1,\"mode\":%u}", S_IFREG | (pick(2) ? 0600u : 0640u));
		put(rig, record_key(path, false), record);
		break;
	case 5:
		snprintf(record, sizeof(record), "{\"v\":1,\"mode\":%u,\"target\":\"%s\"}", S_IFLNK | 0777u, a_text());
		put(rig, record_key(path, false), record);
		break;
	case 6:
		take(rig, record_key(path, false));
		break;
	case 8:
		value = memstore_value(rig->ms, path);
		assert_int_equal(content_hash(str_c(value ? value : "none"), hash), 0);
		snprintf(record, sizeof(record), "{\"v\":1,\"mode\":%u,\"mtime\":\"%u.000000000\",\"hash\":\"%s\"}",
			 S_IFREG | (pick(2) ? 0600u : 0640u), SET_TIMES_END - 1 - pick(1000), hash);
		put(rig, record_key(path, false), record);
		break;
	default:
		key = record_key(dir, true);
		if (memstore_value(rig->ms, key))
			take(rig, key);
		else
			put(rig, key, pick(2) ? "{\"v\":1,\"mode\":16877}" : "{\"v\":1,\"mode\":16832}");
		break;
	}
}

static void tell_some(struct rig *rig)
{
	for (unsigned i = pick(4); i > 0; i--)
		if (memstore_tell(rig->ms))
			trace("told\n");
	for (unsigned i = pick(3); i > 0; i--)
		push_settle(rig);
}

/* Meanwhile. */
static void others(struct rig *rig)
{
	for (unsigned i = pick(3); i > 0; i--) {
		foreign_step(rig);
		tell_some(rig);
	}
}

/* --- programs here --- */

static int op_write_whole(struct call *call)
{
	struct fs_entry entry;
	struct fs_handle *handle;
	struct fs_maker maker = { .uid = RIG_UID, .gid = RIG_GID };
	bool keep;
	int r = fs_lookup(call->rig->fs, call->args.parent, str_c(call->args.name), &entry), flushed;

	if (r == 0)
		r = S_ISREG(entry.st.st_mode)
			    ? fs_open(call->rig->fs, entry.id, call->args.flags, RIG_PID, &handle, &keep)
			    : -EINVAL;
	else if (r == -ENOENT)
		r = fs_create(call->rig->fs, call->args.parent, str_c(call->args.name), 0644, call->args.flags, &maker,
			      RIG_PID, &entry, &handle);
	if (r < 0)
		return r;
	r = fs_write(handle, 0, call->args.data, RIG_PID);
	flushed = fs_flush(handle, RIG_PID);
	fs_release(handle);
	return r < 0 ? r : flushed;
}

static int op_remove(struct call *call)
{
	struct fs_entry entry;
	int r = fs_lookup(call->rig->fs, call->args.parent, str_c(call->args.name), &entry);

	if (r < 0)
		return r;
	return S_ISDIR(entry.st.st_mode) ? fs_rmdir(call->rig->fs, call->args.parent, str_c(call->args.name))
					 : fs_unlink(call->rig->fs, call->args.parent, str_c(call->args.name));
}

static int op_mode(struct call *call)
{
	struct fs_attr_change change = { .set_mode = true, .mode = call->args.mode };
	struct fs_entry entry;
	int r = fs_lookup(call->rig->fs, call->args.parent, str_c(call->args.name), &entry);

	if (r < 0)
		return r;
	r = fs_setattr(call->rig->fs, entry.id, NULL, &change, &entry);
	return r < 0 ? r : fs_sync(call->rig->fs);
}

static bool split(struct rig *rig, const char *path, uint64_t *parent, const char **name)
{
	char dir[32] = "";

	*name = strrchr(path, '/');
	*parent = FS_ROOT_ID;
	if (*name) {
		snprintf(dir, sizeof(dir), "%.*s", (int)(*name - path), path);
		if (look(rig, dir) < 0 || !S_ISDIR(rig->entry.st.st_mode))
			return false;
		*parent = rig->entry.id;
	}
	*name = *name ? *name + 1 : path;
	return true;
}

static struct call *program_begin(struct rig *rig)
{
	const char *path = pick(4) ? a_path() : DIRS[pick(DIR_COUNT)], *to = a_path(), *name, *new_name;
	static const char *const verbs[] = { "write", "write", "append", "remove", "rename", "mode", "mkdir" };
	static char text[64];
	uint64_t parent, new_parent;
	unsigned verb;

	if (!split(rig, path, &parent, &name) || !split(rig, to, &new_parent, &new_name))
		return NULL;
	snprintf(text, sizeof(text), "%s", a_text());
	verb = pick(7);
	trace("here: %s %s %s %s\n", verbs[verb], path, verb == 4 ? to : "", verb < 3 ? text : "");
	if (verb < 3)
		pages_drop(NULL); /* of one it has what is written now */
	switch (verb) {
	case 0:
	case 1:
		return begin(rig, op_write_whole, .parent = parent, .name = name, .flags = O_WRONLY | O_TRUNC | O_CREAT,
			     .data = str_c(text));
	case 2:
		return begin(rig, op_write_whole, .parent = parent, .name = name,
			     .flags = O_WRONLY | O_APPEND | O_CREAT, .data = str_c(text));
	case 3:
		return begin(rig, op_remove, .parent = parent, .name = name);
	case 4:
		return begin(rig, op_rename, .parent = parent, .name = name, .new_parent = new_parent,
			     .new_name = new_name);
	case 5:
		return begin(rig, op_mode, .parent = parent, .name = name, .mode = pick(2) ? 0600 : 0640);
	default:
		return begin(rig, op_mkdir, .parent = parent, .name = name, .mode = 0755);
	}
}

/* The kernel knows of what goes through it; of what it does not know it asks anew. */
static void program_step(struct rig *rig)
{
	struct memstore_fault fault = { .any = true, .pass = pick(3), .times = 1 };
	struct call *call;

	kernel_forget(rig);
	fault.hold = pick(2) ? MEMSTORE_HOLD_REQUEST : MEMSTORE_HOLD_REPLY;
	call = program_begin(rig);
	if (pick(2))
		memstore_add_fault(rig->ms, fault);
	push_settle(rig);
	others(rig);
	while (call && !call->done) {
		if (memstore_held(rig->ms)) {
			others(rig);
			memstore_clear_faults(rig->ms);
			memstore_release(rig->ms);
		}
		loop_once(rig->loop);
	}
	memstore_clear_faults(rig->ms);
	memstore_release(rig->ms);
	if (call) {
		int r = end(call);

		trace("here: answered %d\n", r);
	}
	kernel_forget(rig);
}

static void look_step(struct rig *rig)
{
	const char *path = pick(3) ? a_path() : DIRS[pick(DIR_COUNT)];

	kernel_looks(rig, path);
	if (pick(4) == 0)
		kernel_reads(rig, path);
	if (pick(8) == 0)
		assert_int_equal(list_dir(rig, ""), 0);
	kernel_hears(rig);
}

/* --- what is shown --- */

/* "<path>" of all directories. */
static void show_dirs(struct rig *rig, const char *path, struct buf *out)
{
	char names[1024], below[128], *word, *rest;

	assert_int_equal(buf_printf(out, "<%s>", path), 0);
	assert_int_equal(list_dir(rig, path), 0);
	snprintf(names, sizeof(names), "%s", rig->out.len ? rig->out.p : "");
	for (word = strtok_r(names, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		if (word[strlen(word) - 1] != '/')
			continue;
		word[strlen(word) - 1] = '\0';
		snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", word);
		show_dirs(rig, below, out);
	}
}

/* "path mode uid content\n" for all that is no directory. A key's value is shown in its directory, where one is remembered; and
 * links are left out that a directory hides, or is needed for, which only one of the two remembers. */
static void show(struct rig *rig, const char *path, struct buf *out, const struct buf *others_dirs)
{
	char names[1024], below[128], here[132], there[132], *word, *rest;

	snprintf(here, sizeof(here), "<%s>", path);
	assert_int_equal(list_dir(rig, path), 0);
	snprintf(names, sizeof(names), "%s", rig->out.len ? rig->out.p : "");
	for (word = strtok_r(names, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		bool dir = word[strlen(word) - 1] == '/';
		mode_t mode;
		uint32_t uid;

		if (dir)
			word[strlen(word) - 1] = '\0';
		snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", word);
		if (dir) {
			show(rig, below, out, others_dirs);
			continue;
		}
		if (look(rig, below) < 0)
			fail_msg("seed %u: %s is listed and not there", seed, below);
		mode = rig->entry.st.st_mode;
		uid = rig->entry.st.st_uid;
		snprintf(there, sizeof(there), "<%s>", below);
		if (!S_ISREG(mode) && (!strstr(others_dirs->p, here) || strstr(others_dirs->p, there)))
			continue;
		if (S_ISREG(mode))
			assert_int_equal(read_file(rig, below), 0);
		else
			assert_int_equal(fs_readlink(rig->fs, rig->entry.id, &rig->out), 0);
		if (strcmp(word, "%=") == 0)
			snprintf(below, sizeof(below), "%s", path);
		assert_int_equal(buf_printf(out, "%s %o %u %s\n", below, mode, uid, rig->out.len ? rig->out.p : ""), 0);
	}
}

/* Those that a record sets, of regular files; else 0. */
static void mtimes(struct rig *rig, time_t times[PATH_COUNT])
{
	for (size_t i = 0; i < PATH_COUNT; i++) {
		const struct stat *st = &rig->entry.st;
		char value[32];
		int r = look(rig, PATHS[i]);

		snprintf(value, sizeof(value), "%s/%%=", PATHS[i]);
		if (r == 0 && S_ISDIR(st->st_mode))
			r = look(rig, value);
		times[i] =
			r == 0 && S_ISREG(st->st_mode) && st->st_mtim.tv_sec < SET_TIMES_END ? st->st_mtim.tv_sec : 0;
	}
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What was changed here while it was being asked for is asked for once more when somebody looks. */
static void look_at_all(struct rig *rig, const char *path)
{
	char names[1024], below[128], *word, *rest;

	assert_int_equal(list_dir(rig, path), 0);
	snprintf(names, sizeof(names), "%s", rig->out.len ? rig->out.p : "");
	for (word = strtok_r(names, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		bool dir = word[strlen(word) - 1] == '/';

		if (dir)
			word[strlen(word) - 1] = '\0';
		snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", word);
		if (look(rig, below) == 0 && dir && S_ISDIR(rig->entry.st.st_mode))
			look_at_all(rig, below);
	}
}

static void sort_lines(struct buf *text)
{
	struct buf sorted = BUF_INIT;
	char *lines[256], *rest;
	size_t count = 0;

	if (!text->len)
		return;
	for (char *line = strtok_r(text->p, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		assert_true(count < 256);
		lines[count++] = line;
	}
	qsort(lines, count, sizeof(*lines), compare_lines);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(buf_printf(&sorted, "%s\n", lines[i]), 0);
	buf_free(text);
	*text = sorted;
}

static void at_rest(struct rig *rig)
{
	struct buf here = BUF_INIT, anew = BUF_INIT, dirs = BUF_INIT, known = BUF_INIT;
	time_t times_here[PATH_COUNT], times_anew[PATH_COUNT];
	struct rig *other;
	void *state;

	push_tell_all(rig);
	assert_int_equal(run(rig, op_sync, 0), 0);
	push_tell_all(rig);
	assert_true(rig->fs->push.live);
	assert_int_equal(fs_figures(rig->fs).deferred, 0);
	if (rig->fs->push.echoes.keys)
		print_message("seed %u: an echo did not come\n", seed);
	assert_null(rig->fs->push.echoes.keys);
	kernel_is_right(rig);
	pages_drop(NULL);
	assert_int_equal(rig_setup(&state), 0);
	other = state;
	for (size_t i = 0; i < memstore_size(rig->ms); i++)
		memstore_put_str(other->ms, memstore_pair(rig->ms, i).key, memstore_pair(rig->ms, i).value);
	look_at_all(rig, "");
	show_dirs(rig, "", &dirs);
	show_dirs(other, "", &known);
	show(other, "", &anew, &dirs);
	mtimes(other, times_anew);
	assert_int_equal(rig_teardown(&state), 0);
	show(rig, "", &here, &known);
	mtimes(rig, times_here);
	for (size_t i = 0; i < PATH_COUNT; i++) {
		if (times_anew[i] && times_anew[i] != times_here[i])
			print_message("seed %u: the mtime of %s\n", seed, PATHS[i]);
		assert_true(!times_anew[i] || times_anew[i] == times_here[i]);
	}
	push_end(rig);
	sort_lines(&here);
	sort_lines(&anew);
	if (strcmp(here.len ? here.p : "", anew.len ? anew.p : "") != 0)
		print_message("seed %u\n", seed);
	assert_string_equal(here.len ? here.p : "", anew.len ? anew.p : "");
	buf_free(&here);
	buf_free(&anew);
	buf_free(&dirs);
	buf_free(&known);
}

static void empty_store(struct rig *rig)
{
	while (memstore_size(rig->ms)) {
		CLEANUP(buf_free) struct buf key = BUF_INIT;

		assert_int_equal(buf_set(&key, memstore_key(rig->ms, 0)), 0);
		memstore_remove(rig->ms, key.p);
	}
}

/* It is lost, others go on, and it is found again: all that is in use is asked for beside what comes next, one directory after the
 * other or the whole at once. */
static void subscription_step(struct rig *rig)
{
	trace("lost\n");
	push_end(rig);
	kernel_hears(rig);
	for (unsigned i = pick(4); i > 0; i--)
		foreign_step(rig);
	rig->fs->config.together_least = pick(2) ? 1 : FS_TOGETHER_LEAST;
	trace("found again\n");
	push_begin_soon(rig);
}

static void a_round(struct rig *rig)
{
	chance = seed;
	memstore_hold_told(rig->ms, true);
	for (unsigned step = 0; step < STEPS; step++) {
		switch (pick(4)) {
		case 0:
			program_step(rig);
			break;
		case 1:
			foreign_step(rig);
			break;
		default:
			look_step(rig);
			break;
		}
		tell_some(rig);
		kernel_hears(rig);
		if (pick(20) == 0)
			subscription_step(rig);
	}
	at_rest(rig);
	empty_store(rig);
	rig_restart(rig);
	push_begin(rig);
}

/* True: it was one alone, that of a failure. */
static bool was_only(struct rig *rig)
{
	const char *only = getenv("HPKVFS_PUSH_SEED");

	if (!only)
		return false;
	seed = (unsigned)strtoul(only, NULL, 10);
	tracing = true;
	a_round(rig);
	return true;
}

static void anything_at_once(void **state)
{
	wider = false;
	if (was_only(*state))
		return;
	for (seed = 0; seed < ROUNDS; seed++)
		a_round(*state);
	for (size_t i = 0; i < FAULT_COUNT; i++) {
		seed = FAULTS[i];
		a_round(*state);
	}
}

static void backups_and_times_too(void **state)
{
	struct rig *rig = *state;

	wider = true;
	rig->config.local = STR("*~");
	rig->config.local_ttl_us = 3600 * CLOCK_US_PER_S;
	push_end(rig);
	rig_restart(rig);
	push_begin(rig);
	if (was_only(rig))
		return;
	for (seed = 0; seed < WIDER_ROUNDS; seed++)
		a_round(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		push_test(anything_at_once),
		push_test(backups_and_times_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
