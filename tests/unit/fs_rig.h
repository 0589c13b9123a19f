/* What the tests of src/fs stand on: a filesystem over a memstore, its calls made from outside of coroutines, the
 * kernel's notifications written down, and a clock that the tests move.
 *
 * run(rig, op_lookup, .parent = FS_ROOT_ID, .name = "a") makes a call and serves the loop until it has answered. With
 * begin() instead, the call goes on beside the test, until end(). */
#ifndef HPKVFS_TESTS_FS_RIG_H
#define HPKVFS_TESTS_FS_RIG_H

#include "unit.h"

#include <fcntl.h>

#include "fs/fs.h"
#include "memstore.h"

/* What the tests' filesystems have unless told otherwise. The ttl passes only by rig_expire and rig_pass. */
#define RIG_TTL_US (1000 * 1000000ull)
#define RIG_UMASK 022
#define RIG_UID 1000
#define RIG_GID 1001
#define RIG_MAX_VALUE 3072
#define RIG_MAX_KEY 512

/* A process that opens, writes and closes, where it does not matter which. */
#define RIG_PID getpid()

struct note {
	bool entry; /* expire_entry or inval_entry, else inval_inode */
	bool gone;  /* inval_entry */
	uint64_t id;
	struct buf name;
};

struct call;

struct rig {
	struct loop *loop;
	struct memstore *ms;
	struct state *state; /* NULL unless rig_use_state */
	struct fs_config config;
	struct fs *fs;
	struct note *notes;
	unsigned note_count;
	struct call *calls; /* begun and not ended */

	/* what the last call that was run or ended has left */
	struct fs_entry entry;
	struct fs_handle *handle;
	bool keep_cache;
	uint64_t offset;
	struct buf out;
};

struct args {
	uint64_t parent, id, new_parent;
	const char *name, *new_name;
	struct fs_handle *handle;
	int flags;
	mode_t mode;
	pid_t pid; /* 0: RIG_PID */
	uint64_t offset;
	size_t size;
	struct str data;
	struct fs_attr_change change;
	struct fs_maker maker; /* uid 0: the mount's owner, without umask */
};

struct call {
	struct call *prev, *next;
	struct rig *rig;
	struct args args;
	co_fn int (*op)(struct call *call);
	bool done;
	int r;
	struct fs_entry entry;
	struct fs_handle *handle;
	bool keep_cache;
	uint64_t offset;
	struct buf out;
};

/* op_readdir leaves "name name/ ... " in `out`, without the dots; args.flags: with_plus. */
int op_lookup(struct call *call);
int op_getattr(struct call *call);
int op_setattr(struct call *call);
int op_mkdir(struct call *call);
int op_rmdir(struct call *call);
int op_unlink(struct call *call);
int op_rename(struct call *call);
int op_open(struct call *call);
int op_create(struct call *call);
int op_read(struct call *call);
int op_write(struct call *call);
int op_write_pages(struct call *call);
int op_fallocate(struct call *call); /* args.flags: the mode */
int op_lseek(struct call *call);     /* args.flags: whence; leaves the place in rig->offset */
int op_flush(struct call *call);
int op_fsync(struct call *call);
int op_fsyncdir(struct call *call);
int op_release(struct call *call);
int op_readdir(struct call *call);
int op_sync(struct call *call);
int op_end(struct call *call);
int op_start(struct call *call);

int run_call(struct rig *rig, int (*op)(struct call *), struct args args);
struct call *begin_call(struct rig *rig, int (*op)(struct call *), struct args args);
/* Serves the loop until it has answered, and frees it. */
int end(struct call *call);
/* Serves the loop until so many requests are held in the store. */
void rig_until_held(struct rig *rig, unsigned held);

#define run(rig, op, ...) run_call(rig, op, (struct args){ __VA_ARGS__ })
#define begin(rig, op, ...) begin_call(rig, op, (struct args){ __VA_ARGS__ })

/* --- longer ways --- */

/* Looks every part of a path up from the root. The last answer; `entry` is set on success. */
int look(struct rig *rig, const char *path);
/* The id of what must exist. */
uint64_t id_of(struct rig *rig, const char *path);
/* Splits a path: the id of its directory, which must exist, and the last name. */
uint64_t dir_of(struct rig *rig, const char *path, const char **name);

/* As `printf text > path`: open or create and truncate, the flush of a copy, write, flush, release. */
int write_file(struct rig *rig, const char *path, const char *text);
int append_file(struct rig *rig, const char *path, const char *text);
/* Opens, or creates where it is not there, for writing. */
struct fs_handle *open_file(struct rig *rig, const char *path, int flags);
int write_at(struct rig *rig, struct fs_handle *handle, uint64_t offset, const char *text);
/* flush and release; the flush's answer. */
int close_file(struct rig *rig, struct fs_handle *handle);
/* Content as a C string in rig->out. */
int read_file(struct rig *rig, const char *path);
int read_handle(struct rig *rig, struct fs_handle *handle);
/* Opens, reads whole and closes the directory: names in rig->out. */
int list_dir(struct rig *rig, const char *path);

#define assert_reads(rig, path, text)                                \
	do {                                                         \
		assert_int_equal(read_file(rig, path), 0);           \
		assert_string_equal(buf_str(&(rig)->out).p, (text)); \
	} while (0)
#define assert_lists(rig, path, names)                                \
	do {                                                          \
		assert_int_equal(list_dir(rig, path), 0);             \
		assert_string_equal(buf_str(&(rig)->out).p, (names)); \
	} while (0)
#define assert_stored(rig, key, text)                                        \
	do {                                                                 \
		assert_non_null(memstore_value((rig)->ms, key));             \
		assert_string_equal(memstore_value((rig)->ms, key), (text)); \
	} while (0)
#define assert_not_stored(rig, key) assert_null(memstore_value((rig)->ms, key))

/* Requests since the log was cleared, which is then cleared: all, and by kind. */
#define assert_requests(rig, gets, sets, patches, deletes, ranges)                                \
	do {                                                                                      \
		struct memstore *ms_ = (rig)->ms;                                                 \
		if (memstore_requests(ms_) != (gets) + (sets) + (patches) + (deletes) + (ranges)) \
			memstore_log_print(ms_);                                                  \
		assert_int_equal(memstore_count(ms_, STORE_GET), (gets));                         \
		assert_int_equal(memstore_count(ms_, STORE_SET), (sets));                         \
		assert_int_equal(memstore_count(ms_, STORE_PATCH), (patches));                    \
		assert_int_equal(memstore_count(ms_, STORE_DELETE), (deletes));                   \
		assert_int_equal(memstore_count(ms_, STORE_RANGE), (ranges));                     \
		memstore_log_clear(ms_);                                                          \
	} while (0)
#define assert_no_requests(rig) assert_requests(rig, 0, 0, 0, 0, 0)

/* Chunks in the store, of whatever id. */
size_t rig_chunk_count(struct rig *rig);

/* --- time --- */

/* All that was read is older than the ttl. */
void rig_expire(struct rig *rig);
/* Sets `count` keys, named by their number. */
void put_numbered(struct rig *rig, const char *format, int count);
/* How many names a listing's output has. */
unsigned words(const char *text);
/* So much time passes; file times and ids show nothing of it. */
void rig_pass(uint64_t us);
/* The same, and they do. */
void rig_pass_everywhere(uint64_t us);
/* Serves the loop for so long, by the real clock. */
void rig_serve(struct rig *rig, uint64_t us);

/* --- the kernel's notifications --- */

/* In either way. */
bool rig_was_expired(const struct rig *rig, uint64_t parent, const char *name);
/* By inval_entry. */
bool rig_name_went(const struct rig *rig, uint64_t parent, const char *name);
bool rig_was_invalidated(const struct rig *rig, uint64_t id);
void rig_notes_clear(struct rig *rig);

/* --- life --- */

/* cmocka's fixture: a filesystem on an empty store, with nothing asked yet. */
int rig_setup(void **state);
int rig_teardown(void **state);
/* Ends the filesystem, as a crash would, and makes another on the same store with the present rig->config. */
void rig_restart(struct rig *rig);
/* From the next rig_restart on with a state file in memory, which outlives restarts. */
void rig_use_state(struct rig *rig);

#define fs_test(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

#endif
