/* The filesystem on a store, without FUSE and without sockets: files and directories by number, as the
 * kernel knows them. One loop thread owns everything; co_fn functions run in coroutines.
 *
 * Every function answers 0 or a negative errno and writes its outputs only on success. Names and data that
 * are passed in are copied before the first wait. */
#ifndef HPKVFS_FS_FS_H
#define HPKVFS_FS_FS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/buf.h"
#include "base/coroutine.h"
#include "base/loop.h"
#include "fs/state.h"
#include "fs/store.h"

#define FS_ROOT_ID 1

struct fs;

struct fs_config {
	struct str prefix; /* borrowed for the life of the fs */
	char delimiter;
	size_t max_value;  /* bytes */
	size_t max_key;    /* bytes */
	uint64_t ttl_us;   /* how long what was read holds */
	size_t cache_size; /* bytes of values and chunks that are kept in memory to be read again; 0: FS_CACHE_BYTES */
	uint32_t uid, gid;
	mode_t umask;
	bool read_only;
	struct state *state;   /* borrowed; may be NULL */
	uint64_t timeout_us;   /* the renaming of a directory that would take longer is refused; 0: none is */
	struct str local;      /* patterns of local names, separated by ':'; borrowed; empty: none */
	uint64_t local_ttl_us; /* after its last close a local file is committed */
	uint64_t commit_us; /* an open file is committed so long after a change, if it was closed once; 0: it is not */

	/* For tests; 0: as below. */
	uint64_t
		grace_us; /* chunks that nothing needs, and what another mount has begun and not finished, are left so long */
	uint64_t beat_us;       /* how often a mount shows that it is at work on something */
	uint64_t announce_us;   /* after this ids that no key names are announced */
	uint64_t attr_delay_us; /* for which changes of attributes wait for more */
	size_t together_least; /* where so many directories are to be listed anew, the whole store is read, if that is less */
	uint64_t waiting_most; /* memory for changed content; swap files have their own */
	uint64_t retry_us;     /* before content whose commit failed is sent again first; doubles to FS_RETRY_MOST_US */
};

#define FS_GRACE_US (60 * 1000000ull)
#define FS_BEAT_US (10 * 1000000ull)
#define FS_ANNOUNCE_US (600 * 1000000ull)
#define FS_ATTR_DELAY_US 1000000ull
#define FS_RETRY_US 1000000ull
#define FS_TOGETHER_LEAST 8
#define FS_CACHE_BYTES (64u * 1024 * 1024)
/* As much as what is kept to be read again. With less, more would be sent twice of what programs write in one go. */
#define FS_WAITING_MOST (64u * 1024 * 1024)
#define FS_RETRY_MOST_US (30 * 1000000ull)

/* What another client did, as programs here are told of it (inotify). */
enum fs_event_kind {
	FS_EVENT_CREATED, /* the name is new */
	FS_EVENT_CHANGED, /* the file's content is another */
	FS_EVENT_REMOVED,
};

struct fs_event {
	enum fs_event_kind kind;
	uint64_t parent;
	struct str name; /* borrowed for the call */
	uint64_t id;     /* of what is there, or was; 0: it was not known */
	mode_t mode;     /* its type and permissions; of what was not known, those of a regular file */
};

/* What the filesystem tells the kernel, outside of replies. Called on the loop; must not block. Each may be NULL but the first
 * three. */
struct fs_notify {
	/* The name's dentry is to be looked up again. An answer about it that the kernel is just taking in may hold nevertheless. */
	void (*expire_entry)(void *arg, uint64_t parent, struct str name);
	/* The name leads no longer to what it led to: its dentry goes. */
	void (*inval_entry)(void *arg, uint64_t parent, struct str name);
	/* Pages and attributes of the inode are stale. */
	void (*inval_inode)(void *arg, uint64_t id);
	/* All dentries are to be looked up again. False: the kernel cannot do that at once. */
	bool (*expire_all)(void *arg);
	/* The attributes of the inode are stale, and only these. */
	void (*inval_attributes)(void *arg, uint64_t id);
	/* A change that the store has taken was not announced: the subscription is dead, whatever its connection looks like. */
	void (*echo_missing)(void *arg);
	/* After the invalidation of what it is about; in a directory that the kernel holds, and with a subscription alone. */
	void (*event)(void *arg, const struct fs_event *event);
	void *arg;
};

struct fs_entry {
	uint64_t id;
	struct stat st;
	uint64_t ttl_us; /* for the entry and for its attributes; FS_FOREVER: until the kernel is told */
};
#define FS_FOREVER UINT64_MAX

/* An open file or directory. */
struct fs_handle;

/* A request begins to use the handle, and ends: it may be closed meanwhile, since the kernel closes what a killed program had open
 * while that program's requests go on. NULL is allowed. */
void fs_handle_hold(struct fs_handle *handle);
void fs_handle_drop(struct fs_handle *handle);

/* What is asked for and may be known. */
enum fs_known {
	FS_NAMES,
	FS_ATTRIBUTES,
	FS_CONTENT, /* values and chunks */
	FS_LISTINGS,
	FS_KNOWN_KINDS
};

struct fs_figures {
	uint64_t hits[FS_KNOWN_KINDS], misses[FS_KNOWN_KINDS]; /* answered from memory, or not */
	uint64_t cached_bytes;                                 /* values and chunks that are kept to be read again */
	uint64_t nodes, handles, dirty_bytes;
	uint64_t waiting_bytes, swap_bytes; /* memory that changed content takes, and that of swap files */
	uint64_t background;                /* what goes on without a program that waits for it */
	uint64_t deferred;                  /* keys whose news waits for what is being changed here */
	uint64_t absences;                  /* names that the kernel believes absent without limit */
};

/* 0 or -ENOMEM, -EINVAL. `store` and `notify`'s arg are borrowed. No requests yet. */
CHECKED int fs_new(struct loop *loop, struct store *store, const struct fs_config *config,
		   const struct fs_notify *notify, struct fs **out);

/* Other limits than those of fs_new, before fs_start. -ENAMETOOLONG: no room for names behind the prefix. */
CHECKED int fs_set_limits(struct fs *fs, size_t max_key, size_t max_value);

/* Reads the layout's version: the first request of a mount. -EPROTONOSUPPORT: a newer layout or another delimiter;
 * `why` then holds one line. Other errors: the store's. */
co_fn CHECKED int fs_start(struct fs *fs, struct buf *why);

/* Sends what waits in memory. The first error. */
co_fn CHECKED int fs_sync(struct fs *fs);

/* The end of a mount: the same, then waits for what goes on in the background and leaves what is to be done later to the next
 * mount. No other call may be under way, and only fs_free may follow. */
co_fn CHECKED int fs_end(struct fs *fs);

/* Frees everything; no coroutine of this fs may be left: after fs_end, or where fs_start was the last call. */
void fs_free(struct fs *fs);

void fs_set_read_only(struct fs *fs, bool on);

/* A subscription to all keys that begin with the prefix stands: a reply has come on its own connection, and from now on each
 * change is given to fs_notified. What is in use is asked for again in the background; behind that, what is known holds without
 * limit, until fs_subscription_end. Both may be called again and again. */
void fs_subscription_begin(struct fs *fs);
/* It has ended. What is known holds for ttl_us, and the kernel is told to ask for all that it holds. */
void fs_subscription_end(struct fs *fs);
/* The store tells of a change: the key holds `value`, or is gone (NULL). `time_ms`: when, by the server's clock. */
void fs_notified(struct fs *fs, struct str key, const struct str *value, int64_t time_ms);
struct fs_figures fs_figures(const struct fs *fs);

/* On success the kernel's count of the node grows by one: fs_forget takes it back. -ENOENT: out->ttl_us is how long the name
 * is known to be absent, 0: only now. */
co_fn CHECKED int fs_lookup(struct fs *fs, uint64_t parent, struct str name, struct fs_entry *out);
void fs_forget(struct fs *fs, uint64_t id, uint64_t count);

co_fn CHECKED int fs_getattr(struct fs *fs, uint64_t id, struct fs_entry *out);

struct fs_attr_change {
	bool set_mode, set_uid, set_gid, set_size, set_mtime, set_atime;
	bool mtime_now; /* with set_mtime: not a time of the program's own choice */
	mode_t mode;
	uint32_t uid, gid;
	uint64_t size;
	int64_t mtime_ns, atime_ns;
};
/* `handle` may be NULL: then a change of size is committed before this answers. */
co_fn CHECKED int fs_setattr(struct fs *fs, uint64_t id, struct fs_handle *handle, const struct fs_attr_change *change,
			     struct fs_entry *out);

/* Sends what waits of a directory: its attributes, and files in it that were renamed. */
co_fn CHECKED int fs_fsyncdir(struct fs *fs, uint64_t id);
/* Content is replaced by who may not keep set-id bits: takes them off, where there are any. */
void fs_drop_set_id(struct fs_handle *handle);

/* xattrs. `name` and `value` are copied. -ENODATA: there is none; -ENOSPC: no record could hold it. `keeps_group_id`: the caller
 * may leave the set-group-id bit where an ACL is set. */
co_fn CHECKED int fs_setxattr(struct fs *fs, uint64_t id, struct str name, struct str value, int flags,
			      bool keeps_group_id);
/* The group of what is known by this number, from memory. */
CHECKED bool fs_group(struct fs *fs, uint64_t id, uint32_t *gid);
co_fn CHECKED int fs_getxattr(struct fs *fs, uint64_t id, struct str name, struct buf *out);
/* The same where that can be told from memory, else false. */
CHECKED bool fs_getxattr_at_once(struct fs *fs, uint64_t id, struct str name, struct buf *out, int *r);
/* Names, each ended by a NUL; `all`: with those that only root sees. */
co_fn CHECKED int fs_listxattr(struct fs *fs, uint64_t id, bool all, struct buf *out);
co_fn CHECKED int fs_removexattr(struct fs *fs, uint64_t id, struct str name);

/* Who makes a name. */
struct fs_maker {
	uint32_t uid, gid;
	mode_t umask; /* does not apply where the directory has a default ACL */
};

co_fn CHECKED int fs_mkdir(struct fs *fs, uint64_t parent, struct str name, mode_t mode, const struct fs_maker *maker,
			   struct fs_entry *out);
/* A FIFO, a socket or a device. -EINVAL for another type. `rdev` as Linux encodes it in 32 bits. */
co_fn CHECKED int fs_mknod(struct fs *fs, uint64_t parent, struct str name, mode_t mode, uint32_t rdev,
			   const struct fs_maker *maker, struct fs_entry *out);
/* -EILSEQ: a target that is not UTF-8; -ENOSPC: one that no record can hold. */
co_fn CHECKED int fs_symlink(struct fs *fs, uint64_t parent, struct str name, struct str target,
			     const struct fs_maker *maker, struct fs_entry *out);
/* Replaces *out by the target. -EINVAL: no symbolic link. */
CHECKED int fs_readlink(struct fs *fs, uint64_t id, struct buf *out);
co_fn CHECKED int fs_rmdir(struct fs *fs, uint64_t parent, struct str name);
co_fn CHECKED int fs_unlink(struct fs *fs, uint64_t parent, struct str name);
/* flags: RENAME_NOREPLACE; RENAME_EXCHANGE of two regular files; others -EINVAL. -EXDEV: a directory with so many keys below
 * it that moving them would take longer than timeout_us. */
co_fn CHECKED int fs_rename(struct fs *fs, uint64_t parent, struct str name, uint64_t new_parent, struct str new_name,
			    unsigned flags);

/* flags as open(2). `keep_cache`: the kernel's pages of this file still hold. `pid`: the opener's thread. */
co_fn CHECKED int fs_open(struct fs *fs, uint64_t id, int flags, pid_t pid, struct fs_handle **out, bool *keep_cache);
co_fn CHECKED int fs_create(struct fs *fs, uint64_t parent, struct str name, mode_t mode, int flags,
			    const struct fs_maker *maker, pid_t pid, struct fs_entry *entry, struct fs_handle **out);

/* The bytes are copied into `out` (which is cleared first); fewer than asked for at the end of the file. */
co_fn CHECKED int fs_read(struct fs_handle *handle, uint64_t offset, size_t size, struct buf *out);
/* All or nothing. */
co_fn CHECKED int fs_write(struct fs_handle *handle, uint64_t offset, struct str data, pid_t pid);

/* Pages that were changed through a mapping: at their place, also where the handle appends. */
co_fn CHECKED int fs_write_pages(struct fs_handle *handle, uint64_t offset, struct str data);

/* fallocate(2): mode 0, FALLOC_FL_KEEP_SIZE, and with it FALLOC_FL_PUNCH_HOLE; FALLOC_FL_ZERO_RANGE; others -EOPNOTSUPP. No
 * room is set aside: a store has no known size. */
co_fn CHECKED int fs_fallocate(struct fs_handle *handle, int mode, uint64_t offset, uint64_t len, pid_t pid);
/* lseek(2) with SEEK_DATA or SEEK_HOLE. -ENXIO. */
co_fn CHECKED int fs_lseek(struct fs_handle *handle, uint64_t offset, int whence, uint64_t *out);
/* copy_file_range(2): bytes copied, at most FS_COPY_BYTES, which go through memory; fewer at the end of what is read. */
#define FS_COPY_BYTES (1u << 20)
co_fn CHECKED int fs_copy_range(struct fs_handle *from, uint64_t from_offset, struct fs_handle *to, uint64_t to_offset,
				size_t len, pid_t pid, size_t *copied);

/* close(2) by one process: commits what was written since the last commit, if `pid` opened or wrote it. */
co_fn CHECKED int fs_flush(struct fs_handle *handle, pid_t pid);
co_fn CHECKED int fs_fsync(struct fs_handle *handle);

/* The last close: waits for those that hold the handle, commits what is left, then frees it (in every case). */
co_fn void fs_release(struct fs_handle *handle);

CHECKED int fs_opendir(struct fs *fs, uint64_t id, struct fs_handle **out);
/* The handle is freed when nobody holds it. */
void fs_releasedir(struct fs_handle *handle);

/* What the kernel is to do with its own copy of a directory's names when a handle is opened. */
enum fs_copy {
	FS_COPY_BYPASS, /* leave the copy alone; what is read by this handle is asked for and not put into it */
	FS_COPY_RENEW,  /* drop it, and fill it anew with what is read */
	FS_COPY_KEEP,   /* read it: it is right */
};

/* Once for each handle, for the answer to its opening. */
enum fs_copy fs_copy(struct fs_handle *handle);

/* Offers the entries behind `offset` (0: from the start, and reads the directory again where `ttl` has passed) to
 * `add`, "." and ".." included, until it answers false (the entry was not taken). With `plus`, an entry that was taken
 * counts as looked up, unless its id is 0: so it is for "." and "..", and for what the kernel has been given lately. Of an entry
 * with id 0, and of all without `plus`, only number and type are sure. `next` is the offset that continues behind the entry. */
typedef bool fs_add_entry(void *arg, struct str name, const struct fs_entry *entry, uint64_t next);
co_fn CHECKED int fs_readdir(struct fs_handle *handle, uint64_t offset, bool plus, fs_add_entry *add, void *arg);

/* Nobody was told how a request on the node, or on that name in it, has ended (empty: on no name): the kernel asks again. */
void fs_unanswered(struct fs *fs, uint64_t id, struct str name);

/* From memory, asking nobody, for a helper of the mount's. */
struct fs_found {
	uint64_t id;
	mode_t mode;
	bool held; /* the kernel knows it */
};
/* What is known under a name; false: nothing. */
CHECKED bool fs_find(struct fs *fs, uint64_t parent, struct str name, struct fs_found *out);
/* Its attributes as they are known; false: there is no such node. Its ttl is 0 where they would have to be asked for. */
CHECKED bool fs_recall(struct fs *fs, uint64_t id, struct fs_entry *out);
/* The same for an answer by which the kernel's count of the node grows by one. */
CHECKED bool fs_give(struct fs *fs, uint64_t id, struct fs_entry *out);
/* The way from the root to a directory: replaces *ids by the number of each directory below the root (uint64_t), and *names by
 * their names, each ended by a NUL. -ESTALE, -ENOMEM. */
CHECKED int fs_path(struct fs *fs, uint64_t id, struct buf *ids, struct buf *names);

/* f_namemax is the longest name that anything made in the directory `id` can have; in that of the file `id` otherwise. */
CHECKED int fs_statfs(struct fs *fs, uint64_t id, struct statvfs *out);

#endif
