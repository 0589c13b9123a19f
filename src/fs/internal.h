/* The filesystem's own tables: nodes in a tree as this mount knows it, what is cached of each, and what waits
 * to be written. Shared by the modules of this folder only.
 *
 * Rules that hold everywhere:
 *
 * - Time is counted in `fs->seq`. Whoever asks the store takes a number when asking (fs_tick); every local change
 *   takes one when it is done. An answer is applied to a node only if the node was not changed, nor a younger
 *   answer applied to it, since it was asked for. So no reply overwrites what is newer.
 * - A node is freed when nothing refers to it: no reference (node_ref), no lookup by the kernel, no place in its
 *   directory. Who waits holds a reference.
 * - Keys are made anew after every wait: a rename may have moved the node.
 * - One change of a key is under way at a time (node->lock). Changes of the tree's form by the renaming of
 *   directories exclude all other changes (tree_shared, tree_exclusive). Order: tree, then nodes by id. */
#ifndef HPKVFS_FS_INTERNAL_H
#define HPKVFS_FS_INTERNAL_H

#include "base/hash.h"
#include "base/list.h"
#include "base/tree.h"
#include "fs/attr.h"
#include "fs/chunks.h"
#include "fs/content.h"
#include "fs/draft.h"
#include "fs/echo.h"
#include "fs/fs.h"
#include "fs/journal.h"
#include "fs/layout.h"
#include "fs/names.h"
#include "fs/push.h"
#include "fs/record.h"
#include "fs/room.h"
#include "fs/waiting.h"
#include "fs/walk.h"

/* Of one file so many changed bytes wait in memory, or so many chunks if that is more; beyond that whole chunks go to the
 * store. */
#define FILE_MAX_PENDING (4u * 1024 * 1024)
#define FILE_MAX_PENDING_CHUNKS 8

/* Chunks and values that commits send at once, of all files together, have so many bytes; each is in memory some four times on
 * its way. */
#define SENDING_MOST (8u * 1024 * 1024)

/* Content that is not plain and has at most this many bytes is in the stub itself, if that fits a value. */
#define INLINE_MOST (16u * 1024)

/* Processes that opened or wrote a handle, and so commit when they close it. */
#define HANDLE_MAX_PIDS 8

/* A copy of names that was read while they changed. */
#define COPY_MIXED UINT64_MAX

/* Names of a large directory that the store was last asked for, or that were removed here, and that are not there. */
#define ABSENT_NAMES 8

struct node;
RB_HEAD(id_tree, node);
RB_HEAD(ino_tree, node);
RB_HEAD(cookie_tree, node);

struct tomb;

/* A regular file. The members of this and of struct node are in an order that leaves no holes: many are kept. */
struct file {
	/* what the store holds, as far as is known */
	bool stored;     /* the key exists */
	bool have_value; /* `value` is in memory; else only size and hash are */
	bool stub;
	bool damaged; /* and the log says so */
	bool own_id; /* this mount made the id of the stored chunks and has not renamed the file since: nobody shares it */
	bool provisional; /* appended to here: others may have done so before */
	bool loading;     /* a GET is under way */
	bool in_lru;
	struct node *lru_prev, *lru_next; /* while have_value */
	struct co_queue loaded;
	struct buf value;
	struct body *body;       /* of `value`, where that is a stub; else NULL */
	uint64_t alone_us;       /* when `i/` was last asked, and named no other holder of the id; 0: never */
	uint64_t doubt_us;       /* until then chunks may change elsewhere without a sign; 0: what changes shows */
	uint64_t size;           /* of the content */
	uint64_t version;        /* grows with every change of the content */
	uint64_t kernel_version; /* that the kernel's pages are from; 0: none */
	char hash[CONTENT_HASH_LEN + 1];

	/* what a program here has changed and the store does not hold yet */
	bool dirty;
	bool written;     /* by write or ftruncate, not only by creation or O_TRUNC, since the last commit */
	bool append_only; /* nothing but appends: they are the draft's tail, and others' may come before them */
	bool in_room;
	bool closed_once;    /* by some process, since it was opened first */
	bool pinned;         /* the value stays in memory */
	unsigned opens;      /* handles */
	int lost;            /* how a commit ended while nobody had it open; told by the next fsync or close */
	struct draft *draft; /* while dirty */
	struct draft
		*sending; /* the one that is being sent, with the node locked: what is sent of it stays meanwhile */
	struct node *room_prev, *room_next; /* while it has a draft */
	int64_t stored_mtime_ns;            /* of what the store holds */
	struct content_id
		*tail_id; /* of the last part, where this mount made it and nothing has gone wrong with it; else NULL */

	struct chunk_user *chunk_users; /* push.h */

	struct held *held; /* its renaming waits: held.h */
	struct waiting waiting;
};

struct directory {
	struct node *children;      /* uthash by name */
	struct cookie_tree cookies; /* the same, in order of cookies */
	uint64_t next_cookie;
	unsigned subdirectories;

	struct buf key, record; /* its children's prefixes, while keys_generation is the tree's */
	uint64_t keys_generation;

	struct leftover *leftovers; /* leftover.h */
	uint64_t leftovers_lost;    /* when one was last not remembered; 0: all are */
	struct held *held;          /* held.h */

	bool recorded; /* the store has its record */
	bool implied;  /* keys below it were seen; without a record it then stays until rmdir or unmount */

	bool complete;       /* `children` was all there was at `listed_us` */
	bool large;          /* too many keys for a listing a lookup */
	uint64_t listed_us;  /* 0: never */
	uint64_t listed_seq; /* when that was asked for */
	bool doubtful; /* what was told since the present listing began may have hidden something that it brings */
	bool listing;  /* under way */
	bool listing_whole;
	int listing_err; /* how the last one ended */
	struct co_queue listed;
	uint64_t value_known_us;              /* when it was last known whether its own key has a value (`%=`) */
	char time_base[CONTENT_HASH_LEN + 1]; /* hash of the record's mtime, to which that of the state file is bound */

	struct {
		struct buf name;
		uint64_t at_us, seq;
	} absent[ABSENT_NAMES]; /* a ring: a creation asks again for what its lookup has just asked for */
	unsigned next_absent;

	uint64_t recheck_us; /* begin of the present window of single lookups, and how many there were */
	unsigned rechecks;

	uint64_t names_version; /* grows with every name that comes or goes */
	uint64_t copy_version;  /* the version that the kernel has a copy of; 0: of none; COPY_MIXED */
	unsigned copiers;       /* handles by which that copy is read and filled */

	unsigned opens;     /* handles: who reads piece by piece is still to be given the children it has not seen */
	unsigned readers;   /* requests under way whose answers name children */
	struct tomb *tombs; /* names removed here while there were readers */
};

/* A symbolic link, FIFO, socket or device: a record and no key. */
struct special {
	struct buf target; /* of a symbolic link */
	uint32_t rdev;
};

struct node {
	RB_ENTRY(node) by_id, by_ino, by_cookie;
	UT_hash_handle by_name;
	struct fs *fs;
	uint64_t id, ino, cookie;
	struct node *parent; /* NULL: the root, or no longer in any directory */
	struct buf name;
	uint64_t lookups;  /* the kernel's */
	uint64_t given_us; /* until when the kernel believes what it was given; 0: it does not */
	struct co_mutex lock;
	uint64_t change_seq;  /* of the last local change */
	uint64_t answer_seq;  /* of the last answer applied */
	uint64_t checked_us;  /* when the store last confirmed it; 0: never */
	uint64_t checked_seq; /* and when that was asked for */
	int64_t told_ms;      /* the time of the last notification of its value */
	int64_t record_told_ms;
	uint64_t record_seq;         /* of that of its record */
	uint64_t record_checked_seq; /* when that was last asked for, told or written here */
	uint64_t event_seq;          /* when programs were last told of it by an event */
	uint64_t seen;               /* number of the listing that last saw it */
	uint64_t record_seen;        /* and its record */

	unsigned refs;
	mode_t mode; /* type and permissions */
	uint32_t uid, gid;
	int64_t mtime_ns, ctime_ns, atime_ns;
	struct buf record_value; /* its record in the store; empty: none known */
	unsigned record_has;     /* enum record_member, of the record that was applied last */
	bool record_known;       /* the store was asked for it */
	bool own;                /* likewise: it belongs to the present value, so its time and set-id bits hold */
	bool atime_set;
	bool gone_here;        /* it was removed or replaced here: programs that have it go on with it */
	struct attr_wait wait; /* what the record is still to become */
	struct xattrs *xattrs; /* NULL: none, nor have any changed */

	struct file *file; /* one of the three */
	struct directory *dir;
	struct special *special;
};

struct fs {
	struct loop *loop;
	struct store *store; /* that of `push`, over the one that fs_new was given */
	struct push push;
	struct fs_config config;
	struct fs_notify notify;
	struct names_rules rules;    /* for names that are made */
	struct names_rules existing; /* for those in the store, whose keys may be longer than ours may be */
	struct buf layout_key;       /* `<prefix>.hpkvfs/fs` */
	struct buf reserved;         /* `<prefix>.hpkvfs/` */
	bool layout_written;
	struct co_mutex layout_lock;

	struct id_tree by_id; /* in the order in which they were made */
	struct ino_tree by_ino;
	size_t node_count;
	struct node *root;
	uint64_t next_id;
	uint64_t seq;
	uint64_t tree_generation; /* grows when a directory moves or goes */

	unsigned shared;
	bool exclusive, exclusive_waits;
	uint64_t exclusives; /* how often it was */
	struct co_queue tree_free;

	struct node *lru; /* head: longest unused */
	struct chunk *chunks, *chunk_lru;
	size_t value_bytes; /* of both */
	size_t chunk_bytes;
	uint64_t hits[FS_KNOWN_KINDS], misses[FS_KNOWN_KINDS];
	uint64_t handles;
	struct fs_handle *open; /* the same as a list */
	struct loop_timer sweep;

	struct layout layout;     /* the store, for what works without nodes */
	struct removal *removals; /* in the order in which they are due */
	struct loop_timer removal_timer;
	bool removing;

	struct journal journal;
	struct journal_watch journal_watch;
	struct loop_timer recovery_timer;

	struct unnamed *unnamed; /* uthash by id */
	struct announcement *announcements;
	struct loop_timer announce_timer;

	bool ending;         /* nothing is begun any more but announcing */
	unsigned background; /* coroutines that serve no request */
	struct co_queue background_ended;

	struct node *attr_waiting; /* a list, each referred to: attributes that the store does not have yet */
	struct loop_timer attr_timer;
	unsigned attr_rounds; /* attr_commit_all under way */
	struct co_queue attr_sent;

	struct node *waiting; /* files that are local or are to be committed later */
	struct loop_timer waiting_timer;
	uint64_t waiting_next_us; /* that it is set to; 0: it is not */
	struct room room;
	uint64_t sending; /* bytes of chunks and values under way */
	struct co_queue sent;
	struct co_mutex sending_turn;
	bool local_full; /* and the log says so */

	struct held *held; /* held.h */
	unsigned held_count;
	size_t held_bytes;
};

struct fs_handle {
	struct fs_handle *prev, *next;
	struct fs *fs;
	struct node *node;
	int flags;
	unsigned holds; /* requests that use it */
	bool closed;    /* freed with the last of them */
	struct co_queue let_go;
	bool copies; /* one of its directory's copiers */
	struct loop_timer copy_expiry;
	unsigned pid_count;
	pid_t pids[HANDLE_MAX_PIDS]; /* threads, as the kernel names them */
	bool any_pid;                /* more than fit: every process commits */
	int lost; /* how a commit ended of what may have been written through it; told by the next fsync or close */
	uint64_t read_to; /* where its last read ended */
};

static inline uint64_t fs_tick(struct fs *fs)
{
	return ++fs->seq;
}

/* For the figures. */
static inline void fs_count(struct fs *fs, enum fs_known kind, bool known)
{
	uint64_t *counts = known ? fs->hits : fs->misses;

	counts[kind]++;
}

/* --- node.c --- */

/* A new node outside of any directory, with one reference. NULL: no memory. */
struct node *node_new_file(struct fs *fs);
struct node *node_new_dir(struct fs *fs);
struct node *node_new_special(struct fs *fs);

struct node *node_find(struct fs *fs, uint64_t id); /* borrowed */
/* All nodes in the order in which they were made, first (behind NULL) the root; NULL: no more. */
struct node *node_next(struct fs *fs, struct node *node);
struct node *node_get(struct fs *fs, uint64_t id); /* with a reference; NULL: no such node */
/* A directory, with a reference. -ESTALE, -ENOTDIR. */
CHECKED int dir_get(struct fs *fs, uint64_t id, struct node **dir);
void node_ref(struct node *node);
void node_unref(struct node *node);
void node_unref_cleanup(struct node **node);
#define CLEANUP_NODE CLEANUP(node_unref_cleanup)

/* Puts a node that is in no directory into one, under a name that is free there. 0 or -ENOMEM (unchanged). */
CHECKED int node_attach(struct node *parent, struct node *node, struct str name);
/* Takes it out again. What was asked for before will not bring the name back. */
void node_detach(struct node *node);
/* The same where an answer says so that was asked for at `seq`: a younger one may bring the name back. */
void node_detach_since(struct node *node, uint64_t seq);
/* The nodes below `top`, each before those below it: the one behind `node`, first `top` itself. NULL: no more. The tree must
 * not change meanwhile. */
struct node *node_next_below(const struct node *top, struct node *node);
struct node *node_child(struct node *parent, struct str name);
/* A name that was not in the tree was removed from the store. */
void node_note_removed(struct node *parent, struct str name);
/* An answer asked for at `seq` that shows one of that kind is older than a removal. If that was of another kind, it may be there
 * all the same, and the directory is doubted. */
enum node_kind {
	NODE_FILE,
	NODE_DIR,
	NODE_SPECIAL,
};
bool node_removed_since(struct node *parent, struct str name, uint64_t seq, enum node_kind kind);
/* While answers are awaited that name children of `dir`, removals are remembered. */
void node_readers_add(struct node *dir);
void node_readers_drop(struct node *dir);
struct node *node_next_child(struct node *parent, uint64_t cookie);

/* Fills dir->key and dir->record. -ESTALE: the directory, or one above, is in no directory any more. */
CHECKED int node_dir_keys(struct node *dir);
/* Replaces *key and *record (either may be NULL) by a node's own: a file's key and record; a directory's prefixes. */
CHECKED int node_keys(struct node *node, struct buf *key, struct buf *record);

/* Inode numbers come from the path, so they are the same after a remount; exceptions (a renamed file keeps its own, two
 * paths may have one hash) are in the state file. */
void node_set_ino(struct node *node, struct str key);
void node_add_ino(struct node *node, uint64_t ino); /* one that no other node has */
/* 64 bits that differ for keys that differ, as good as always. */
uint64_t key_hash(struct str key);
/* The node has moved to `key`, with its number. */
void node_keep_ino(struct node *node, struct str key);

/* An answer of the store that still holds has confirmed it. */
bool node_was_checked(const struct node *node);
/* What is known of it needs no asking. */
bool node_fresh(const struct node *node);
/* The store has confirmed it, asked at `seq`. */
void node_checked(struct node *node, uint64_t seq);
/* An answer asked for at `seq` and given `at_us` still holds: notifications have kept it right since; without them: the ttl is not over. */
bool answer_holds(const struct fs *fs, uint64_t seq, uint64_t at_us);
/* A directory that only keys imply and this mount has seen stays until rmdir or unmount, also when its last key goes. */
bool node_stays(const struct node *node);
bool node_is_unlinked(const struct node *node);
uint64_t node_size(const struct node *node);
void node_entry(const struct node *node, struct fs_entry *out);
/* The same, for an answer by which the kernel counts one more lookup of the node. */
void node_give(struct node *node, struct fs_entry *out);
/* The kernel knows it. */
bool node_is_held(const struct node *node);
/* True if the kernel still believes, for a good while, what it was last given. */
bool node_is_given(const struct node *node, uint64_t now_us);
/* What programs see as its inode number. */
uint64_t node_number(const struct node *node);
/* The name is known to be absent, for a ttl. */
void node_add_absent(struct node *dir, struct str name, uint64_t seq);
void node_forget_absent(struct node *dir, struct str name);
/* `since`: and was asked for then or later. */
bool node_has_absent(const struct node *dir, struct str name, uint64_t since);
void node_changed_here(struct node *node);
/* The store has now what was changed here before, and was dated then. */
void node_stored_here(struct node *node);
void node_touch_dir(struct node *dir);
/* The time of a directory or special file is what this machine remembers, else now. */
void node_date(struct node *node);
/* Writes its time of change to the state file. */
void node_remember_time(struct node *node);
void node_invalidate(struct node *node);
/* The same of its attributes alone. */
void node_invalidate_attributes(struct node *node);
void nodes_sweep(struct fs *fs);
/* At the end of the filesystem: all, whoever still refers to them. */
void nodes_free(struct fs *fs);

/* --- value.c: the store's content of a file in memory --- */

/* The store holds `value` at the node's key; asked for at `seq`. -ENOMEM. */
CHECKED int value_apply(struct node *node, struct str value, uint64_t seq);
/* The same of a file that programs here have changed: it holds nothing there. */
void value_apply_absence(struct node *node, uint64_t seq);
/* The same after our own SET, without telling the kernel, whose pages are those of the writer. */
CHECKED int value_set_here(struct node *node, struct str value);
/* Binds the time of change to the present value, in the state file. */
void value_remember_time(struct node *node);
void value_drop(struct node *node);
/* The store has it no more, and programs may still read it: it stays in memory as long as the node. */
void value_keep(struct node *node);
/* With the node locked: the value, if it is in memory or comes, stays there until it is unpinned, however much is read meanwhile.
 * NULL, or no regular file: nothing. */
void value_pin(struct node *node);
void value_unpin(struct node *node);
/* Brings the value at the node's key: one GET, shared by all who wait. -ESTALE: the key is gone. */
co_fn CHECKED int value_load(struct node *node);
/* The same from the store, whatever is known. */
co_fn CHECKED int value_reload(struct node *node);
struct store_expect value_expect(const struct node *node);
/* Chunks of the stored content were changed here, and nothing else: what the key holds was not asked. */
void value_touch_here(struct node *node);
/* Another mount may have changed chunks in place: they are fetched again. */
void value_doubt_chunks(struct node *node);
/* The same with each answer of the store, until at least `us` from now: what others change may show in nothing else. */
void value_doubt_for(struct node *node, uint64_t us);
/* Frees what has not been used for longest, but not the value of `node`, until all fits. */
void cache_trim(struct fs *fs, const struct node *node);

/* --- read.c --- */

/* Makes the content readable. What was removed here while it was open is read from memory alone; -ESTALE where it is not
 * there. */
co_fn CHECKED int file_readable(struct node *node);
/* Appends up to `len` bytes of content to *out: of the file as programs here see it, or of a draft of it (not NULL). Fewer at
 * the end. -EIO where the content is damaged, -ESTALE where it was replaced elsewhere. */
co_fn CHECKED int content_read(struct node *node, struct draft *draft, uint64_t offset, uint64_t len, struct buf *out);

/* --- commit.c --- */

/* The content of a file on its way to the store: prepare, SET of `value` at the key (where it is to be), done. */
struct commit {
	struct node *node;   /* that of the draft */
	struct draft *draft; /* its file's `sending` until commit_deinit */
	struct buf key;
	struct buf value;
	uint64_t captured;
	uint64_t size;
	bool in_place;    /* the value is what the key holds already: chunks alone have changed */
	uint64_t sending; /* counted in the filesystem's until commit_deinit */
};

/* Makes the value of a dirty file, with the node locked; chunks are sent. -EFBIG; errors of the store. */
co_fn CHECKED int commit_prepare(struct node *node, struct commit *commit);
/* The store holds `value` at the node's key, instead of `before` (empty: not known, or nothing). */
co_fn void commit_done(struct node *node, struct commit *commit, struct str before);
void commit_deinit(struct commit *commit);
/* True if the same commit may succeed later. */
bool commit_may_pass(const struct draft *draft, int err);
/* True if too much of a file waits in memory; then its chunks are sent. */
bool commit_is_due(const struct node *node);
co_fn CHECKED int commit_early(struct node *node);
/* The same however little waits, for the sake of other files; `last_too`: also the chunk that was written last. */
co_fn CHECKED int commit_ahead(struct node *node, bool last_too);
/* Chunks that were sent of a draft and that no stub names go later, where it is dropped. */
void forget_draft(struct node *node, const struct draft *draft);
/* The value `before` at `key`, which was of this file, has been replaced by its present one, or deleted (then `file` is NULL):
 * chunks that nothing names go later. */
void forget_ids(struct fs *fs, const struct file *file, struct str before, struct str key);

/* --- append.c --- */

/* True if what waits are appends alone. */
bool append_waits(const struct node *node);
/* Sends them, with the node locked, so that what others append meanwhile stays as well. -EAGAIN: what waits is to be committed
 * as whole content. */
co_fn CHECKED int append_commit(struct node *node);
void file_forget_tail(struct file *file); /* and its id is not used again */

/* --- listing.c: directories as the store has them --- */

/* Finds a child, asking the store where what is known is older than ttl. On success *out has a new reference. */
co_fn CHECKED int lookup_child(struct node *dir, struct str name, struct node **out);
/* The same for who makes a file where there is none: what the store has left of another of that name is remembered then. */
co_fn CHECKED int lookup_to_make(struct node *dir, struct str name, struct node **out);
/* As lookup_child, with the directory's id and a name that is copied first; both outputs are new references, and may be set also
 * where it fails. */
co_fn CHECKED int lookup_path(struct fs *fs, uint64_t parent, struct str name, struct node **dir, struct node **out);
/* Brings a node's attributes up to date where they are older than ttl. -ENOENT: gone. */
co_fn CHECKED int node_refresh(struct node *node);
/* All children, as of at most ttl ago. */
co_fn CHECKED int dir_list(struct node *dir, bool whole);
/* Some of its names are to be asked for again; what is being asked already may lack them as well. */
void dir_doubt(struct node *dir);
/* True if `dir` is known whole, and that still holds. */
bool dir_is_known(const struct node *dir);

/* --- handle.c --- */
/* A handle of `node`, which it holds. `pid` is of who may write through it; NULL: out of memory. */
struct fs_handle *handle_new(struct node *node, int flags, pid_t pid);
void handle_free(struct fs_handle *handle);
/* A change of the file was lost: all who have it open for writing are told. False: nobody has. */
bool handles_lose(const struct node *node, int err);

/* A process has a part in what is changed by the handle: its close commits. */
void handle_wrote(struct fs_handle *handle, pid_t pid);
bool handle_has_part(const struct fs_handle *handle, pid_t pid);

/* --- file.c --- */
/* All that was written before it is called; what is written meanwhile may wait for the next. For a call that tells the program: a
 * change that cannot be stored is dropped. */
co_fn CHECKED int file_commit(struct node *node);
/* For nobody in particular: what may yet succeed stays and is tried again, and what is lost the next fsync or close tells. */
co_fn CHECKED int file_commit_later(struct node *node);
/* Changes the size of what programs here see. -EFBIG. */
co_fn CHECKED int file_resize(struct node *node, uint64_t size);
/* Empty from now on: what it was is replaced as a whole. */
CHECKED int file_make_empty(struct node *node);
/* Makes it dirty, with all that a change of these bytes needs in memory; until the next wait. */
co_fn CHECKED int file_prepare_change(struct node *node, uint64_t offset, uint64_t len);
/* The draft was changed, not by an append. */
void file_changed(struct node *node);
void file_forget_changes(struct node *node);
/* A commit of what waits has failed: what was sent may have arrived, and whoever sends it again first asks whether another client has
 * changed the file since. */
bool file_was_tried(const struct node *node);
/* It is stored, or may be, because a commit of it was sent. */
bool file_may_be_stored(const struct node *node);
/* After a commit of this draft, of appends alone or of content, that failed so, with the node locked: what waits is kept and tried
 * again, or is lost, of which the next fsync or close of every writer tells. */
void file_commit_ended(struct node *node, const struct draft *draft, bool appends, bool later, int err);
/* The file has no name any more: without a handle nobody can read what was changed. */
void file_forget_unnamed(struct node *node);
/* --- tree.c: locks --- */
co_fn void queue_wait(struct co_queue *queue);
co_fn void mutex_lock(struct co_mutex *mutex);
co_fn void tree_shared(struct fs *fs);
/* Waits for the end of a directory's renaming, if one is under way. */
co_fn void tree_settle(struct fs *fs);
void tree_shared_end(struct fs *fs);
co_fn void tree_exclusive(struct fs *fs);
void tree_exclusive_end(struct fs *fs);
co_fn void node_lock(struct node *node);
void node_unlock(struct node *node);

/* --- fs.c --- */

/* Starts fn(fs) in a coroutine that serves no request; it ends with fs_background_end. -ENOMEM, or -ESHUTDOWN after fs_end was
 * called. */
CHECKED int fs_background_start(struct fs *fs, void (*fn)(void *arg));
/* The same, also after fs_end was called: which waits for its end. */
CHECKED int fs_background_start_late(struct fs *fs, void (*fn)(void *arg));
void fs_background_end(struct fs *fs);

/* The end of a handle's part in its directory's copy. */
void copy_end(struct fs_handle *handle);

/* --- change.c --- */

/* -EEXIST for a name that is reserved, -EROFS, or what names_child says of the name. */
CHECKED int name_may_be_made(struct node *dir, struct str name, bool is_dir);
/* A name that is being made: first {0}, ended by making_end, also where making_begin fails. */
struct making {
	struct node *dir;
	struct buf name;
	struct push_name told;
};
/* For a name that may be made in the directory and is not there; what is told of it waits until the end. -EEXIST, and the errors
 * above. */
co_fn CHECKED int making_begin(struct fs *fs, uint64_t parent, struct str name, bool is_dir, struct making *making);
void making_end(struct making *making);
/* Before a file is removed or replaced: who has it open goes on reading. What cannot be read anyway is no error. */
co_fn CHECKED int load_while_stored(struct node *node);
/* What has no key comes into `dir`, whose other keys may go: it, and what it is in, get the records by which they are found then. */
co_fn CHECKED int dir_anchor(struct node *dir);
/* Removes a directory in which nothing is left. -ENOTEMPTY. */
co_fn CHECKED int remove_directory(struct node *node);
/* The first reserved key is preceded by the layout's version. */
co_fn CHECKED int layout_ensure(struct fs *fs);

/* --- rename.c --- */
co_fn CHECKED int rename_file(struct node *node, struct node *target, struct node *new_parent, struct str new_name);
/* What is no directory was moved from `key` to `new_key` in the store: so it is here, and `target` (NULL: nothing), which was there,
 * has no name any more. -ENOMEM, as of rename_place. */
CHECKED int rename_here(struct node *node, struct node *target, struct str key, struct node *new_parent,
			struct str new_name, struct str new_key);
/* The node takes the new name, in place of what a listing has found there meanwhile: that is what was put there. With
 * `in_dir` that may be a directory that stays, in which the node is shown as the value. -ENOMEM: it has no name, and the next
 * listing finds it again. */
CHECKED int rename_place(struct node *node, struct node *new_parent, struct str new_name, bool in_dir);

/* --- exchange.c --- */

/* Two regular files that were found under these names. -EINVAL where one is none; -EAGAIN: others were faster. */
co_fn CHECKED int rename_exchange(struct node *dir, struct str name, struct node *a, struct node *new_dir,
				  struct str new_name, struct node *b);

/* --- rename_dir.c --- */

/* With the tree's exclusive lock. -EXDEV where it would take too long. */
co_fn CHECKED int rename_dir_locked(struct node *node, struct node *target, struct node *new_parent,
				    struct str new_name);
/* What is known of the node and what is below it is to be asked for again. */
void doubt_below(struct node *top);

#endif
