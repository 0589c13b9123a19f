/* The examination of a store: what a crash, a foreign client or a lost key has left in it, and its repair. Over a store
 * alone, while mounts may be at work on it: nothing is believed that was not true when it was looked at again, and nothing
 * is removed that a mount may still need (hpkvfs-layout(7), fsck.hpkvfs(8)).
 *
 * What is kept in memory grows with the ids of chunks, the records of files and the faults, never with values. */
#ifndef HPKVFS_FS_CHECK_H
#define HPKVFS_FS_CHECK_H

#include "fs/layout.h"

/* Faults, in the order in which they are repaired. */
enum check_kind {
	CHECK_LAYOUT,     /* reserved keys, but none that names the layout's version */
	CHECK_INTENT,     /* a rename or exchange that its mount did not finish */
	CHECK_KEPT,       /* two values of which neither could be dropped when such a one was finished */
	CHECK_ANNOUNCED,  /* left in the journal by a mount that has died, and of no use */
	CHECK_RECORD,     /* of a file that is not there */
	CHECK_BAD_RECORD, /* cannot be read */
	CHECK_NAMES,      /* files share an id, or one was renamed, and `i/ID` does not say so */
	CHECK_ORPHAN,     /* chunks, or an `i/ID`, of an id that no key names */
	CHECK_LOST,       /* a file some of whose chunks are missing or damaged */
	CHECK_STUB,       /* begins like a stub, names chunks that are there, and is none */
	CHECK_FOREIGN,    /* a reserved key that nothing here has written */
	CHECK_KINDS
};

/* Who may have it repaired. */
enum check_cure {
	CHECK_NEVER,    /* it is told, and left */
	CHECK_ASKED,    /* a person who was asked: a value goes that somebody may want */
	CHECK_WANTED,   /* who wants all repairs: something goes that could not be read */
	CHECK_ANY_TIME, /* nothing is lost by it */
};
enum check_cure check_cure(enum check_kind kind);

/* What a person is asked; without a question mark. */
const char *check_question(enum check_kind kind);

/* Borrowed. */
struct check_finding {
	enum check_kind kind;
	struct str key;  /* for CHECK_ORPHAN what the keys of the id's chunks begin with, or its `i/ID` */
	struct str text; /* what is wrong with it: one line */
};

struct check_config {
	struct layout layout; /* borrowed, and what it borrows */
	const bool *stop;     /* may be NULL: when true, what goes on ends with -ECANCELED */

	/* 0: as the layout has it; for tests */
	uint64_t grace_us;    /* what is under way changes within this time */
	uint64_t announce_us; /* an id may be in use so long though neither a key nor the journal names it */
	uint64_t orphan_us;   /* the least age of an id that is removed */

	/* All on the loop; they must not wait. */
	void *arg;
	void (*found)(void *arg, const struct check_finding *finding);
	/* What is no fault but worth knowing, or went wrong with a repair; `key` may be empty. */
	void (*note)(void *arg, struct str key, const char *text);
	/* What goes on, and how many keys were looked at; often. */
	void (*progress)(void *arg, const char *what, uint64_t keys);
};

struct check;

/* 0 or -ENOMEM, -EIO. */
CHECKED int check_new(const struct check_config *config, struct check **out);
void check_free(struct check *check);

/* Looks at everything, once. -EPROTONOSUPPORT: a newer layout, another delimiter, or no layout of ours, and `why` says so in
 * one line; -ECANCELED; errors of the store. Faults are no error. */
co_fn CHECKED int check_examine(struct check *check, struct buf *why);

/* How many faults of a kind were found and are not repaired. */
unsigned check_count(const struct check *check, enum check_kind kind);

/* How long check_repair is going to wait, from now, before it removes what a mount may still be using: microseconds. */
uint64_t check_delay_us(const struct check *check, const bool kinds[CHECK_KINDS]);

/* Repairs what was found of these kinds, each fault looked at again before. *repaired counts; what was no fault any more counts
 * neither as repaired nor as left. Errors as above: they end it. A fault that could not be repaired is noted and left. */
co_fn CHECKED int check_repair(struct check *check, const bool kinds[CHECK_KINDS], unsigned *repaired);

#endif
