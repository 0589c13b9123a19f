#include "fs_rig.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"

/* A test that waits for what never comes is ended. */
#define WATCHDOG_S 60

/* --- time: the linker puts this in the place of base/clock's --- */

static uint64_t clock_offset_us, real_offset_us;

uint64_t __real_clock_now_us(void);
uint64_t __wrap_clock_now_us(void);

uint64_t __wrap_clock_now_us(void)
{
	return __real_clock_now_us() + clock_offset_us;
}

uint64_t __real_clock_boot_us(void);
uint64_t __wrap_clock_boot_us(void);

uint64_t __wrap_clock_boot_us(void)
{
	return __real_clock_boot_us() + clock_offset_us;
}

int64_t __real_clock_real_ns(void);
int64_t __wrap_clock_real_ns(void);

int64_t __wrap_clock_real_ns(void)
{
	return __real_clock_real_ns() + (int64_t)real_offset_us * 1000;
}

void rig_pass(uint64_t us)
{
	clock_offset_us += us;
}

void rig_pass_everywhere(uint64_t us)
{
	rig_pass(us);
	real_offset_us += us;
}

void rig_expire(struct rig *rig)
{
	clock_offset_us += rig->config.ttl_us + 1;
}

/* --- notifications --- */

static void note(struct rig *rig, struct note note, struct str name)
{
	rig->notes = realloc(rig->notes, (rig->note_count + 1) * sizeof(*rig->notes));
	assert_non_null(rig->notes);
	assert_int_equal(buf_set(&note.name, name), 0);
	rig->notes[rig->note_count++] = note;
}

static void expire_entry(void *arg, uint64_t parent, struct str name)
{
	note(arg, (struct note){ .entry = true, .id = parent }, name);
}

static void inval_entry(void *arg, uint64_t parent, struct str name)
{
	note(arg, (struct note){ .entry = true, .gone = true, .id = parent }, name);
}

static void inval_inode(void *arg, uint64_t id)
{
	note(arg, (struct note){ .id = id }, STR(""));
}

static bool was_noted(const struct rig *rig, uint64_t parent, const char *name, bool gone)
{
	for (unsigned i = 0; i < rig->note_count; i++) {
		const struct note *note = &rig->notes[i];

		if (note->entry && (note->gone || !gone) && note->id == parent &&
		    str_equal(buf_str(&note->name), str_c(name)))
			return true;
	}
	return false;
}

bool rig_was_expired(const struct rig *rig, uint64_t parent, const char *name)
{
	return was_noted(rig, parent, name, false);
}

bool rig_name_went(const struct rig *rig, uint64_t parent, const char *name)
{
	return was_noted(rig, parent, name, true);
}

bool rig_was_invalidated(const struct rig *rig, uint64_t id)
{
	for (unsigned i = 0; i < rig->note_count; i++)
		if (!rig->notes[i].entry && rig->notes[i].id == id)
			return true;
	return false;
}

void rig_notes_clear(struct rig *rig)
{
	for (unsigned i = 0; i < rig->note_count; i++)
		buf_free(&rig->notes[i].name);
	free(rig->notes);
	rig->notes = NULL;
	rig->note_count = 0;
}

/* --- calls --- */

static pid_t pid_of(const struct call *call)
{
	return call->args.pid ? call->args.pid : RIG_PID;
}

/* Who is somebody else than the mount's owner says so. */
static struct fs_maker maker_of(const struct call *call)
{
	return call->args.maker.uid ? call->args.maker : (struct fs_maker){ .uid = RIG_UID, .gid = RIG_GID };
}

int op_lookup(struct call *call)
{
	return fs_lookup(call->rig->fs, call->args.parent, str_c(call->args.name), &call->entry);
}

int op_getattr(struct call *call)
{
	return fs_getattr(call->rig->fs, call->args.id, &call->entry);
}

int op_setattr(struct call *call)
{
	return fs_setattr(call->rig->fs, call->args.id, call->args.handle, &call->args.change, &call->entry);
}

int op_mkdir(struct call *call)
{
	struct fs_maker maker = maker_of(call);

	return fs_mkdir(call->rig->fs, call->args.parent, str_c(call->args.name), call->args.mode, &maker,
			&call->entry);
}

int op_rmdir(struct call *call)
{
	return fs_rmdir(call->rig->fs, call->args.parent, str_c(call->args.name));
}

int op_unlink(struct call *call)
{
	return fs_unlink(call->rig->fs, call->args.parent, str_c(call->args.name));
}

int op_rename(struct call *call)
{
	return fs_rename(call->rig->fs, call->args.parent, str_c(call->args.name), call->args.new_parent,
			 str_c(call->args.new_name), (unsigned)call->args.flags);
}

int op_open(struct call *call)
{
	return fs_open(call->rig->fs, call->args.id, call->args.flags, pid_of(call), &call->handle, &call->keep_cache);
}

int op_create(struct call *call)
{
	struct fs_maker maker = maker_of(call);

	return fs_create(call->rig->fs, call->args.parent, str_c(call->args.name), call->args.mode, call->args.flags,
			 &maker, pid_of(call), &call->entry, &call->handle);
}

int op_read(struct call *call)
{
	return fs_read(call->args.handle, call->args.offset, call->args.size, &call->out);
}

int op_write(struct call *call)
{
	return fs_write(call->args.handle, call->args.offset, call->args.data, pid_of(call));
}

int op_write_pages(struct call *call)
{
	return fs_write_pages(call->args.handle, call->args.offset, call->args.data);
}

int op_fallocate(struct call *call)
{
	return fs_fallocate(call->args.handle, call->args.flags, call->args.offset, call->args.size, pid_of(call));
}

int op_lseek(struct call *call)
{
	return fs_lseek(call->args.handle, call->args.offset, call->args.flags, &call->offset);
}

int op_flush(struct call *call)
{
	return fs_flush(call->args.handle, pid_of(call));
}

int op_fsyncdir(struct call *call)
{
	return fs_fsyncdir(call->rig->fs, call->args.id);
}

int op_fsync(struct call *call)
{
	return fs_fsync(call->args.handle);
}

int op_release(struct call *call)
{
	fs_release(call->args.handle);
	return 0;
}

static bool add_name(void *arg, struct str name, const struct fs_entry *entry, uint64_t next)
{
	struct call *call = arg;

	(void)next;
	if (str_equal(name, STR(".")) || str_equal(name, STR("..")))
		return true;
	assert_int_equal(buf_add_str(&call->out, name), 0);
	assert_int_equal(buf_add_str(&call->out, S_ISDIR(entry->st.st_mode) ? STR("/ ") : STR(" ")), 0);
	return true;
}

int op_readdir(struct call *call)
{
	return fs_readdir(call->args.handle, call->args.offset, call->args.flags, add_name, call);
}

int op_sync(struct call *call)
{
	return fs_sync(call->rig->fs);
}

int op_end(struct call *call)
{
	return fs_end(call->rig->fs);
}

int op_start(struct call *call)
{
	return fs_start(call->rig->fs, &call->out);
}

static void call_run(void *arg)
{
	struct call *call = arg;

	call->r = call->op(call);
	call->done = true;
}

struct call *begin_call(struct rig *rig, int (*op)(struct call *), struct args args)
{
	struct call *call = calloc(1, sizeof(*call));

	assert_non_null(call);
	call->rig = rig;
	call->args = args;
	call->op = op;
	DL_APPEND(rig->calls, call);
	assert_int_equal(co_start(rig->loop, call_run, call), 0);
	return call;
}

int end(struct call *call)
{
	struct rig *rig = call->rig;
	int r;

	while (!call->done)
		loop_once(rig->loop);
	DL_DELETE(rig->calls, call);
	r = call->r;
	rig->entry = call->entry;
	rig->handle = call->handle;
	rig->keep_cache = call->keep_cache;
	rig->offset = call->offset;
	buf_free(&rig->out);
	rig->out = buf_take(&call->out);
	if (!rig->out.p)
		assert_int_equal(buf_set(&rig->out, STR("")), 0);
	free(call);
	return r;
}

int run_call(struct rig *rig, int (*op)(struct call *), struct args args)
{
	return end(begin_call(rig, op, args));
}

void rig_until_held(struct rig *rig, unsigned held)
{
	while (memstore_held(rig->ms) < held)
		loop_once(rig->loop);
}

/* --- longer ways --- */

int look(struct rig *rig, const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);
	uint64_t id = FS_ROOT_ID;
	char *saved = NULL;
	int r = -EINVAL;

	assert_non_null(copy);
	for (char *name = strtok_r(copy, "/", &saved); name; name = strtok_r(NULL, "/", &saved)) {
		r = run(rig, op_lookup, .parent = id, .name = name);
		if (r < 0)
			return r;
		id = rig->entry.id;
	}
	return r;
}

uint64_t id_of(struct rig *rig, const char *path)
{
	assert_int_equal(look(rig, path), 0);
	return rig->entry.id;
}

uint64_t dir_of(struct rig *rig, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *dir = slash ? strndup(path, (size_t)(slash - path)) : NULL;

	*name = slash ? slash + 1 : path;
	return dir ? id_of(rig, dir) : FS_ROOT_ID;
}

struct fs_handle *open_file(struct rig *rig, const char *path, int flags)
{
	const char *name;
	uint64_t dir = dir_of(rig, path, &name);
	int r = run(rig, op_lookup, .parent = dir, .name = name);

	if (r == -ENOENT && (flags & O_CREAT))
		r = run(rig, op_create, .parent = dir, .name = name, .mode = 0644, .flags = flags);
	else if (r == 0)
		r = run(rig, op_open, .id = rig->entry.id, .flags = flags & ~O_CREAT);
	assert_int_equal(r, 0);
	return rig->handle;
}

int write_at(struct rig *rig, struct fs_handle *handle, uint64_t offset, const char *text)
{
	return run(rig, op_write, .handle = handle, .offset = offset, .data = str_c(text));
}

int close_file(struct rig *rig, struct fs_handle *handle)
{
	int r = run(rig, op_flush, .handle = handle);

	assert_int_equal(run(rig, op_release, .handle = handle), 0);
	return r;
}

int write_file(struct rig *rig, const char *path, const char *text)
{
	struct fs_handle *handle = open_file(rig, path, O_WRONLY | O_CREAT | O_TRUNC);
	int r;

	assert_int_equal(run(rig, op_flush, .handle = handle), 0);
	r = write_at(rig, handle, 0, text);
	if (r < 0) {
		assert_int_equal(close_file(rig, handle), 0);
		return r;
	}
	return close_file(rig, handle);
}

int append_file(struct rig *rig, const char *path, const char *text)
{
	struct fs_handle *handle = open_file(rig, path, O_WRONLY | O_CREAT | O_APPEND);
	int r = write_at(rig, handle, 0, text);
	int closed = close_file(rig, handle);

	return r < 0 ? r : closed;
}

int read_handle(struct rig *rig, struct fs_handle *handle)
{
	return run(rig, op_read, .handle = handle, .size = 1 << 20);
}

int read_file(struct rig *rig, const char *path)
{
	struct buf content;
	int r = look(rig, path);

	if (r == 0)
		r = run(rig, op_open, .id = rig->entry.id, .flags = O_RDONLY);
	if (r < 0)
		return r;
	struct fs_handle *handle = rig->handle;

	r = read_handle(rig, handle);
	content = buf_take(&rig->out);
	assert_int_equal(close_file(rig, handle), 0);
	buf_free(&rig->out);
	rig->out = content;
	return r;
}

int list_dir(struct rig *rig, const char *path)
{
	uint64_t id = *path ? id_of(rig, path) : FS_ROOT_ID;
	struct fs_handle *handle;
	int r;

	assert_int_equal(fs_opendir(rig->fs, id, &handle), 0);
	r = run(rig, op_readdir, .handle = handle);
	fs_releasedir(handle);
	return r;
}

/* --- many --- */

void put_numbered(struct rig *rig, const char *format, int count)
{
	char key[64];

	for (int i = 0; i < count; i++) {
		snprintf(key, sizeof(key), format, i);
		memstore_put(rig->ms, key, "value");
	}
}

unsigned words(const char *text)
{
	unsigned count = 0;

	for (; *text; text++)
		count += *text == ' ';
	return count;
}

/* --- life --- */

static void make_fs(struct rig *rig)
{
	struct fs_notify notify = {
		.expire_entry = expire_entry,
		.inval_entry = inval_entry,
		.inval_inode = inval_inode,
		.arg = rig,
	};

	assert_int_equal(fs_new(rig->loop, memstore_store(rig->ms), &rig->config, &notify, &rig->fs), 0);
}

/* Reading ahead has nobody who waits for it. */
static void end_fs(struct rig *rig)
{
	assert_null(rig->calls);
	while (fs_figures(rig->fs).background)
		loop_once(rig->loop);
	fs_free(rig->fs);
}

void rig_restart(struct rig *rig)
{
	end_fs(rig);
	make_fs(rig);
	memstore_log_clear(rig->ms);
	rig_notes_clear(rig);
}

void rig_use_state(struct rig *rig)
{
	struct state_config config = { .url = STR("memory:"), .prefix = STR("") };

	assert_int_equal(state_open(&config, &rig->state), 0);
	rig->config.state = rig->state;
}

int rig_setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	alarm(WATCHDOG_S);
	lws_set_log_level(LLL_ERR | LLL_WARN, NULL);
	assert_int_equal(loop_new(&rig->loop), 0);
	rig->ms = memstore_new(rig->loop);
	rig->config = (struct fs_config){
		.prefix = STR(""),
		.delimiter = '/',
		.max_value = RIG_MAX_VALUE,
		.max_key = RIG_MAX_KEY,
		.ttl_us = RIG_TTL_US,
		.uid = RIG_UID,
		.gid = RIG_GID,
		.umask = RIG_UMASK,
	};
	make_fs(rig);
	*state = rig;
	return 0;
}

int rig_teardown(void **state)
{
	struct rig *rig = *state;

	end_fs(rig);
	state_close(rig->state);
	memstore_free(rig->ms);
	loop_free(rig->loop);
	rig_notes_clear(rig);
	buf_free(&rig->out);
	free(rig);
	co_pool_free();
	alarm(0);
	return 0;
}

struct alarm {
	struct loop_timer timer;
	bool fired;
};

static void fired(struct loop_timer *timer)
{
	lws_container_of(timer, struct alarm, timer)->fired = true;
}

void rig_serve(struct rig *rig, uint64_t us)
{
	struct alarm alarm = { 0 };

	loop_timer_set(rig->loop, &alarm.timer, us, fired);
	while (!alarm.fired)
		loop_once(rig->loop);
}

size_t rig_chunk_count(struct rig *rig)
{
	size_t count = 0;

	for (size_t i = 0; i < memstore_size(rig->ms); i++)
		count += str_starts(memstore_key(rig->ms, i), STR(".hpkvfs/c/"));
	return count;
}
