/* A simulation of several clients of one store: two mounts and one that writes keys as it likes. Each does its own
 * operations one after the other, and each request waits until the simulation lets it through: so every order in which the
 * store can see them is tried. Where the store, and what each client has been told, are as they were in an order before, what
 * follows would be the same, and is not tried again.
 *
 * A mount may die right after any of its writes.
 *
 * When all is done and the ttl has passed, both mounts and one made anew must show the same files, and these must be what the
 * operations give, one after the other, in some order in which each that had ended when another began comes before that
 * other. The expected files come from sim_model.c alone. */
#ifndef HPKVFS_TESTS_SIM_H
#define HPKVFS_TESTS_SIM_H

#include "unit.h"

#include <sys/stat.h>

#include "fs/fs.h"
#include "memstore.h"

/* Operations of a case, and those before it. */
#define SIM_OPS_MAX 8

/* Long stubs and records fit; content of more bytes lies in chunks. */
#define SIM_MAX_VALUE 512

enum sim_who {
	SIM_A,
	SIM_B,
	SIM_FOREIGN,
	SIM_FSCK,
	SIM_LATER, /* a mount that comes when all is done */
	SIM_PARTIES,
};

enum sim_verb {
	SIM_NONE,
	SIM_WRITE,    /* open with O_CREAT and O_TRUNC, write `text`, close */
	SIM_APPEND,   /* open with O_APPEND, write `text`, close */
	SIM_WRITE_AT, /* open, write `text` at `offset`, close */
	SIM_RESIZE,   /* truncate to `offset` bytes */
	SIM_READ,     /* open, read, close: what one of the operations has written whole */
	SIM_UNLINK,
	SIM_RENAME,   /* to `to` */
	SIM_EXCHANGE, /* with `to` */
	SIM_MKDIR,
	SIM_RMDIR,
	SIM_CHMOD,
	SIM_XATTR, /* user.note is set to `text` */
	/* of keys, by SIM_FOREIGN */
	SIM_SET,
	SIM_DELETE,
	SIM_PATCH,
	SIM_COPY,  /* what is at `path` is set at `to`: a stub names the chunks of another then */
	SIM_WAIT,  /* for `offset` seconds; 0: longer than what is dead is left alone */
	SIM_CHECK, /* by SIM_FSCK: examine and repair */
};

struct sim_op {
	enum sim_who by;
	enum sim_verb verb;
	const char *path, *to;
	const char *text; /* NULL: `count` times the byte `fill` */
	char fill;
	size_t count;
	uint64_t offset;
	uint64_t pause;  /* so many seconds a file is open before it is closed, or read */
	mode_t mode;     /* of SIM_CHMOD; of SIM_WRITE for a file that it makes, 0: 0644 */
	int may_fail[4]; /* errors that are documented for it here: then it has done nothing */
	bool stale;      /* it changes the content, or moves the names, that it knows, which may be older: documented */
	bool behind;     /* it may work on what was there a ttl ago, as if before what others have ended: documented */
	bool half;       /* where it dies with its mount, each name below may have moved or not, or be there twice */
	bool last;       /* begun when SIM_A has done all or is dead */
	bool stays;      /* its text is there at the end, under whatever name, unless it was lost as documented */
};

struct sim_case {
	const char *name;
	const char *rule; /* of the order of writes: where it is taken out of the code, this case fails. May be NULL */
	struct sim_op before[SIM_OPS_MAX];
	struct sim_op ops[SIM_OPS_MAX];
	/* Of these keys one at least is there at every moment. */
	const char *present[2];
	/* While the first holds a value, the second is there: who may not read it is kept out. */
	const char *guarded[2];
	unsigned page_records; /* of a range's page; 0: no limit */
	bool crash;            /* also: SIM_A dies after each of its writes */
	bool tidy;             /* nothing is left for fsck unless one dies */
	bool aged;             /* what is before is hours old */
	bool no_orphans;       /* SIM_CHECK finds no chunks without a file: there are none */
};

/* Tries all orders. Ends the test where one is wrong, with what was sent in which order on standard error. */
void sim_explore(const struct sim_case *c);

/* For cmocka: a case as a test. */
void sim_test_case(void **state);
int sim_cases_run(const char *name, const struct sim_case *cases, size_t count);

/* --- between the parts of the simulation --- */

struct op_state {
	bool begun, ended;
	int r;
	struct buf read;
	unsigned after; /* bits of the operations that had ended when it began */
	bool lost; /* its value was destroyed between another's GET and the SET or DELETE right behind it: documented */
};

struct key_note;
struct held;

struct party {
	struct store store;
	struct sim *sim;
	enum sim_who who;
	struct loop *loop;
	struct fs *fs;     /* NULL: the foreign client */
	bool dead;         /* its requests reach nothing any more */
	struct held *held; /* in the order in which they were made */
	bool wrote;        /* its last request that was let through was a write */
	uint64_t history;  /* of all that it asked and was answered */

	struct coroutine *waiting; /* for its next operation to be begun */
	bool begin;
	unsigned op, next; /* the present one; the one that it waits for */
	bool done;
};

struct sim {
	const struct sim_case *c;
	struct memstore *ms;
	struct party *parties[SIM_PARTIES]; /* NULL: not there */
	struct op_state ops[SIM_OPS_MAX];
	struct key_note *notes;
	bool watching; /* `present` holds */
	bool crashed;
	struct buf trace;
	struct buf failure; /* empty: none */
};

void sim_must(bool ok, const char *what);
/* Notes the first failure of the run. */
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* sim.c */
struct party *party_new(struct sim *sim, enum sim_who who, unsigned number);
void party_free(struct party *party);
/* Its process dies. */
void party_kill(struct party *party);
/* Starts fn(arg) on the party's loop. */
void party_start(struct party *party, void (*fn)(void *arg), void *arg);
/* Lets the party's first request through. */
void party_release(struct party *party);
/* Runs everybody until all wait for requests. */
void sim_quiesce(struct sim *sim);
/* Lets requests through in their order until none is left. */
void sim_settle(struct sim *sim);
/* So much time passes, and what is to be done in it is done. */
void sim_pass(struct sim *sim, uint64_t us);
/* Does fn(party, arg) to its end, with nothing of others between. */
int sim_call(struct party *party, int (*fn)(struct party *party, void *arg), void *arg);
void sim_forget_notes(struct sim *sim);
/* What the party has read is no longer what it is about to change. */
void sim_forget_reads(struct party *party);
/* The store and all that was said, in a number. */
uint64_t sim_fingerprint(const struct sim *sim);

/* sim_ops.c */
co_fn int sim_op_run(struct party *party, const struct sim_op *op);
struct str sim_op_text(const struct sim_op *op, struct buf *buf);

/* What SIM_READ has read was written so. */
bool sim_read_is_whole(const struct sim *sim, unsigned op);

/* sim_view.c: all files of a mount, a line each: path, mode and content. -errno. */
co_fn int sim_view(struct party *party, struct buf *out);
/* The same line for the model. */
void sim_view_line(struct buf *out, struct str path, mode_t mode, struct str note, struct str content);
/* Keys that nothing needs, a line each. */
void sim_leftovers(const struct sim *sim, struct buf *out);

/* sim_check.c: what fsck does. The faults that it leaves, a line each. -errno. */
co_fn int sim_check(struct party *party, struct buf *left);

/* sim_model.c: true if the operations can have given this view. Else `expected` has what they can give. */
bool sim_model_allows(const struct sim *sim, struct str view, struct buf *expected);

#endif
