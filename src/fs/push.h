/* Coherence by push: while a subscription stands, every change in the store is told, and what is known here is kept right by it
 * alone. fs.h has what the mount calls. */
#ifndef HPKVFS_FS_PUSH_H
#define HPKVFS_FS_PUSH_H

#include "base/hash.h"
#include "base/loop.h"
#include "fs/content.h"
#include "fs/echo.h"

struct fs;
struct fs_figures;
struct node;
struct gone;
struct absence;

struct push {
	bool live;       /* there is a subscription, and all that was in use has been asked for since */
	uint64_t since;  /* what was asked for at this number or later is kept right */
	unsigned period; /* grows with each begin and end */
	struct echoes echoes;
	struct push_name *names; /* being made here */
	int64_t told_ns;         /* of the notification that is being applied; else 0 */
	struct gone *gone;       /* a ring */
	unsigned next_gone;
	struct absence *absences; /* that the kernel holds, oldest first */
	struct chunk_user *by_id; /* files by the ids of their chunks */
};

void push_init(struct fs *fs, struct store *store);
void push_free(struct fs *fs);

void push_figures(const struct fs *fs, struct fs_figures *figures);

/* True if an answer asked for at `seq` is kept right. */
bool push_keeps(const struct fs *fs, uint64_t seq);
/* The time of what is being told, else now. */
int64_t push_now_ns(const struct fs *fs);
/* Something that was being changed here is so no more. */
void push_go_on(struct fs *fs);

/* A name that is being made here, and has no node yet that could be locked: what is told of it waits. */
struct push_name {
	struct push_name *prev, *next;
	const struct node *dir;
	struct str name;
};
/* Both are borrowed until the end. From before the name is looked for until it has its node, else what is told in between, of a
 * directory that is not known whole, is lost. */
void push_name_begin(struct push_name *held, const struct node *dir, struct str name);
/* Nothing, where it was not begun. */
void push_name_end(struct push_name *held);
/* The kernel is told that the name, asked for at `seq`, is not there: for how long. */
uint64_t push_give_absent(struct node *dir, struct str name, uint64_t seq);

/* --- who shows the chunks of an id --- */

struct chunk_user {
	UT_hash_handle hh; /* the first of its id alone */
	struct content_id id;
	struct node *node;
	struct chunk_user *prev, *next; /* of the same id */
	struct chunk_user *more;        /* of the same node */
};

/* Those of its present body, as long as the value is what it is, also when that is dropped from memory. */
void chunk_users_set(struct node *node);
void chunk_users_forget(struct node *node);

#endif
