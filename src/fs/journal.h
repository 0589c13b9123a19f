/* The journal: what a mount is in the middle of, written down in the store, so that another can finish it when the
 * mount has died. Over a store alone: fsck uses it as mounts do.
 *
 * An entry is the key `j/<id>`, with an id of its own; hpkvfs-layout(7) has the format. Its owner changes the member
 * `beat` every beat_us while it is at work. Others judge by their own clocks: an entry is dead when it has not changed
 * before their eyes for grace_us. Who then counts `j/<id>/take` up, by ATOMIC, to exactly one more than it was when
 * he began to watch, has taken it over, and finishes it:
 *
 *     rename     keys that are not yet under the new directory are set there, then the old ones are deleted. A new key that
 *                differs is never overwritten, an old one that differs from the new one never deleted: both are kept and
 *                reported.
 *     exchange   forgotten while it is not `ready`: nothing was done yet. Else finished. Where a third value is found, the two
 *                that were to be exchanged are kept in the journal, as `kept`, and reported.
 *     ids        forgotten: what it protected is left to fsck.
 *     remove     chunks that a mount left at its end are removed, if nothing holds their id.
 *     kept       stays: somebody must look at it. Only fsck's user removes it.
 *
 * The values at `j/<id>/a` and `j/<id>/b` may be stubs: the ids in them are held as those at any other key. Ids that an entry
 * of kind `ids` names are held by a mount that is alive. */
#ifndef HPKVFS_FS_JOURNAL_H
#define HPKVFS_FS_JOURNAL_H

#include "fs/content.h"
#include "fs/layout.h"

#define JOURNAL_OWNER_LEN 32

/* Who uses it: a mount, or fsck. */
struct journal {
	struct layout layout;
	uint64_t grace_us, beat_us;
	const bool *stop; /* may be NULL: when true, what goes on ends with -ECANCELED, for another to finish */
	char owner[JOURNAL_OWNER_LEN + 1]; /* lower-case hex, new each time */
};

/* Borrows what the layout borrows. 0, or -EIO where the system has no random bits. */
CHECKED int journal_init(struct journal *journal, const struct layout *layout, uint64_t grace_us, uint64_t beat_us);

/* --- entries as they are found --- */

enum journal_op {
	JOURNAL_UNKNOWN, /* cannot be read, or of a newer kind: left alone */
	JOURNAL_REST,    /* keys that an entry has left behind, or a beat that came too late: nothing is lost with it */
	JOURNAL_RENAME,
	JOURNAL_EXCHANGE,
	JOURNAL_IDS,
	JOURNAL_REMOVE,
	JOURNAL_KEPT,
};

struct journal_id {
	struct content_id id;
	uint32_t chunk_count; /* remove */
	struct buf key;       /* remove: whose stub held it last */
};

/* Parts of an exchange: what was at the two keys, and at those of their records, before it. */
enum journal_part {
	JOURNAL_A,
	JOURNAL_B,
	JOURNAL_A_RECORD,
	JOURNAL_B_RECORD,
	JOURNAL_PARTS
};

struct journal_entry {
	struct journal_entry *prev, *next;
	char name[CONTENT_ID_LEN + 1]; /* as in its key */
	enum journal_op op;
	struct buf value; /* as it was read; empty for JOURNAL_REST without one */
	struct buf from,
		to; /* rename: the directories' keys, with the delimiter; exchange, kept: the files', a and b */
	bool ready; /* exchange: it may have begun */
	bool has[JOURNAL_PARTS]; /* exchange, kept */
	struct buf parts[JOURNAL_PARTS];
	struct journal_id *ids; /* ids, remove */
	size_t id_count;
	int64_t taken;     /* how often it was taken over */
	uint64_t quiet_us; /* for so long it has not changed, as far as the watcher knows; 0 without one */
};

/* Frees one, which is in no list; a list, and leaves NULL. */
void journal_entry_free(struct journal_entry *entry);
void journal_free(struct journal_entry **list);

/* All entries, in order of their names: new; the caller frees them. One RANGE, more where there are many. Errors of the store. */
co_fn CHECKED int journal_read(const struct journal *journal, struct journal_entry **list);

/* Remembers what entries looked like, and since when. Start with {0}. */
struct journal_watch {
	struct journal_seen *seen;
};
void journal_watch_deinit(struct journal_watch *watch);

/* The same as journal_read, with quiet_us by what the watch has seen before. Entries may be finished when they have been quiet
 * for grace_us: look, wait, look again. */
co_fn CHECKED int journal_look(const struct journal *journal, struct journal_watch *watch, struct journal_entry **list);

/* Takes a dead entry over, does what is left of it and removes it. `kept` counts the files of which both values were kept;
 * each is logged. 0; -EALREADY: it has changed since it was read, or another was faster; -ECANCELED by `stop`; errors of the
 * store: it stays, and is dead again after a grace. -EINVAL: JOURNAL_UNKNOWN, JOURNAL_KEPT, or one whose keys make no sense. */
co_fn CHECKED int journal_finish(const struct journal *journal, struct journal_entry *entry, unsigned *kept);

/* Deletes an entry and what belongs to it, whatever it is: for whoever has looked at what was kept. */
co_fn CHECKED int journal_remove(const struct journal *journal, const struct journal_entry *entry);

struct intent;

/* Carries out an exchange that is ready, or what is left of it: each value, and record, goes to the other key. The file `from`
 * (a) should be the one with the stricter mode: its record goes before its value, the other's behind it. -EBUSY: one of the
 * keys holds a third value, nothing was done; errors of the store and intent_sure's. */
co_fn CHECKED int journal_exchange(const struct journal *journal, const struct journal_entry *entry,
				   struct intent *intent);

/* --- entries of one's own --- */

/* What this mount is at work on: its entry in the store, kept alive until the end. */
struct intent {
	const struct journal *journal;
	char name[CONTENT_ID_LEN + 1];
	struct buf key;
	struct loop_timer timer;
	bool beating; /* a beat is under way */
	bool lost;    /* another has taken it over */
	uint64_t
		sure_us; /* when the store last said that it is ours; of the clock that goes on in a suspended machine */
	struct co_queue beaten;
};

struct json_t;

/* Writes an entry and begins to keep it alive. `members` are those of its kind, as JSON; taken, also on error. Errors of the
 * store; -EFBIG where it does not fit a value. */
co_fn CHECKED int intent_open(struct intent *intent, const struct journal *journal, const char *op,
			      struct json_t *members);

/* The same for an entry that was taken over. */
co_fn CHECKED int intent_adopt(struct intent *intent, const struct journal *journal, const char *name);

/* Changes members of it, by a merge patch; `members` is taken. Errors of the store. */
co_fn CHECKED int intent_change(struct intent *intent, struct json_t *members);

/* Before each write under it: 0; -EOWNERDEAD where another has taken it over while this machine slept, and goes on with it;
 * errors of the store. Asks the store only where the last beat is long ago. */
co_fn CHECKED int intent_sure(struct intent *intent);

/* The key of a part: `j/<name>/<part>`. */
CHECKED int journal_part_key(const struct journal *journal, const char *name, enum journal_part part, struct buf *key);

/* Ends the beats; where all is done, deletes the entry (parts are the caller's). Else it stays, and is finished by who finds it
 * dead. Frees. What cannot be deleted now is found by others, who see that nothing is left to do. */
co_fn void intent_close(struct intent *intent, bool done);

/* Frees without a word to the store, as if this mount had died; no beat may be under way. */
void intent_abandon(struct intent *intent);

#endif
