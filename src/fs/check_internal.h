/* What the examination keeps while it goes on. Shared by check*.c only. */
#ifndef HPKVFS_FS_CHECK_INTERNAL_H
#define HPKVFS_FS_CHECK_INTERNAL_H

#include "base/hash.h"
#include "fs/check.h"
#include "fs/content.h"
#include "fs/journal.h"

/* An id that has chunks or a list of names. */
struct check_id {
	UT_hash_handle hh;
	struct content_id id;

	/* its chunks */
	uint32_t chunks;
	uint64_t next;     /* behind the last index */
	size_t size, last; /* bytes of content in the first, and in the last */
	bool irregular;    /* an index is missing, a text is no base64, or a size differs before the last */

	/* `i/ID` */
	bool listed, unreadable;
	uint64_t *names; /* hashes of the keys that it names; owned */
	size_t name_count;

	/* by the last listing of all files */
	unsigned holders;
	unsigned named_holders;
	uint64_t last_holder;

	bool wanted;    /* its holders are collected in the second listing, and looked at once more */
	uint64_t *held; /* hashes of those that held it then; owned */
	size_t held_count;
};

/* A record that says that a regular file is at a key. */
struct check_record {
	UT_hash_handle hh;
	uint64_t key_hash;
};

struct check_fault {
	struct check_fault *prev, *next;
	enum check_kind kind;
	struct buf key;
	struct buf value;     /* CHECK_RECORD, CHECK_BAD_RECORD: as it was read */
	struct buf file;      /* CHECK_RECORD: the key of the file */
	struct content_id id; /* CHECK_NAMES, CHECK_ORPHAN */
	bool done;            /* repaired, or no fault any more */
};

/* Keys to be looked at later. */
struct check_keys {
	struct buf *keys;
	size_t count, capacity;
};

struct check {
	struct check_config config;
	struct layout layout;
	struct names_rules existing; /* keys in the store may be longer than ours may be */
	struct journal journal;
	struct journal_watch watch;
	struct journal_entry *entries; /* as they were last looked at */
	struct buf reserved;           /* `<prefix>.hpkvfs/` */
	bool layout_missing, any_reserved;

	struct check_id *ids;
	struct check_record *records;
	struct check_keys suspects; /* files whose chunks do not match at first sight */
	bool collect;               /* the second listing of files */
	struct check_keys holders;  /* of wanted ids */

	struct check_fault *faults;
	uint64_t looked_us; /* when the journal was first looked at */
	uint64_t looked_last_us;
	uint64_t listed_us; /* when the first listing of files had ended */
	uint64_t spare;     /* chunks behind the end of their file, or in its holes */
	unsigned young;     /* ids without a name that are too young to be judged */

	const char *stage;
	uint64_t seen; /* keys */
};

/* --- check.c --- */

/* -ECANCELED when the end was asked for. Counts a key for the progress. */
CHECKED int check_go_on(struct check *check);
void check_stage(struct check *check, const char *stage);
void check_note(struct check *check, struct str key, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Adds a fault and tells it. NULL: no memory. */
struct check_fault *check_add_fault(struct check *check, enum check_kind kind, struct str key, struct str text);
CHECKED int check_keys_add(struct check_keys *keys, struct str key);
void check_keys_free(struct check_keys *keys);
CHECKED int check_hash(struct str key, uint64_t *hash);
/* Calls fn for each index below `count`, several side by side. The first error ends it. */
co_fn CHECKED int check_each(struct check *check, size_t count, co_fn int (*fn)(void *arg, size_t index), void *arg);
/* How long ago the id was made; negative where the clock that it was made by is ahead. */
int64_t check_id_age_us(const struct check_id *id);
/* Reads the journal again into `entries`. */
co_fn CHECKED int check_look_at_journal(struct check *check);
/* True where the journal has a rename or exchange that concerns the key. */
bool check_in_journal(const struct check *check, struct str key);
/* True where the text of an entry of the journal names the id; `all`: also of entries whose mount has died. */
bool check_journal_holds(const struct check *check, const struct content_id *id, bool all);
/* Not named by any file, nor by the journal, and old enough. */
bool check_is_orphan(const struct check *check, const struct check_id *id, bool all);
/* Whether files hold the id in a way that `i/ID` has to tell and does not. */
bool check_needs_names(const struct check_id *id);

/* --- check_list.c --- */

co_fn CHECKED int check_list_reserved(struct check *check);
/* Every file: the first time everything about it, then only which ids it holds. */
co_fn CHECKED int check_list_files(struct check *check);
/* Only the lists of names: who has carried a file past both listings of files has noted it before. */
co_fn CHECKED int check_list_names(struct check *check);
co_fn CHECKED int check_list_records(struct check *check);
/* After the second listing of files: the wanted ids, their holders and their lists as they are now. */
co_fn CHECKED int check_holders_again(struct check *check);
struct check_id *check_find_id(const struct check *check, const struct content_id *id);
void check_lists_free(struct check *check);
/* Calls fn for each id of `ids` that a text names; the first error ends it. */
CHECKED int check_scan_ids(const struct check *check, struct str text, int (*fn)(void *arg, struct check_id *id),
			   void *arg);
/* The key of the file whose record is at `record`; *is_dir where it is a directory's. -EINVAL: no record's key. */
CHECKED int check_record_file(const struct check *check, struct str record, struct buf *key, bool *is_dir);

enum check_record_state {
	CHECK_RECORD_FILE,  /* of a regular file */
	CHECK_RECORD_OTHER, /* of what needs no key */
	CHECK_RECORD_NEWER,
	CHECK_RECORD_BAD,
};
CHECKED int check_record_state(struct str value, enum check_record_state *state);

/* --- check_repair.c --- */

/* Waits, with the seconds that are left as progress. -ECANCELED. */
co_fn CHECKED int check_wait(struct check *check, uint64_t us);

/* --- check_file.c --- */

/* Looks at every chunk of the suspects, and adds faults of kind CHECK_LOST. */
co_fn CHECKED int check_suspects(struct check *check);

#endif
