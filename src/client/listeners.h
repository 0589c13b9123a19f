/* Callbacks with ids, called in the order of their adding; any of them may add and remove some, itself included. */
#ifndef HPKVFS_CLIENT_LISTENERS_H
#define HPKVFS_CLIENT_LISTENERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct listener {
	struct listener *prev, *next;
	uint64_t id; /* 0: removed; the memory goes when nobody goes through the list */
	unsigned kind;
	void (*fn)(void); /* to be cast back to its type */
	void *arg;
};

/* {0} is an empty list. */
struct listeners {
	struct listener *list;
	uint64_t last_id;
	unsigned walks; /* under way */
	bool removed;   /* some wait for the end of the walks */
};

/* 0 or -ENOMEM. *id is never 0. */
CHECKED int listeners_add(struct listeners *listeners, unsigned kind, void (*fn)(void), void *arg, uint64_t *id);

/* An unknown id is ignored. */
void listeners_remove(struct listeners *listeners, uint64_t id);

/* None is called any more, not even by a walk that is under way. */
void listeners_remove_all(struct listeners *listeners);

/* Calls call(data, listener) for each of this kind that was there when it began and is not removed before its turn. */
void listeners_each(struct listeners *listeners, unsigned kind,
		    void (*call)(void *data, const struct listener *listener), void *data);

/* Not during a walk. */
void listeners_free(struct listeners *listeners);

#endif
