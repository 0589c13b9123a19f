/* A rig whose filesystem has a subscription to its store. */
#ifndef HPKVFS_TESTS_PUSH_RIG_H
#define HPKVFS_TESTS_PUSH_RIG_H

#include "fs_rig.h"

/* Begins it, and serves the loop until all that is in use has been asked for again. */
void push_begin(struct rig *rig);
/* Begins it, and waits for nothing. */
void push_begin_soon(struct rig *rig);
/* Tells all that is to be told, and serves the loop until it is done. */
void push_tell_all(struct rig *rig);
/* The same for one. */
void push_tell(struct rig *rig);
/* Ends the subscription; what is told meanwhile is lost. */
void push_end(struct rig *rig);
/* Serves the loop until nothing goes on any more, or a request is held. */
void push_settle(struct rig *rig);

/* Another client sets or removes a key; told of at once unless that is held. */
void push_put(struct rig *rig, const char *key, const char *value);
void push_take(struct rig *rig, const char *key);

/* Files f0000 to f1499 in the root, which is read anew: it is too large for a listing a lookup. */
void push_large_root(struct rig *rig);

/* What is at the path, which must exist. */
struct node *push_node(struct rig *rig, const char *path);

/* cmocka's fixture: as rig_setup, with the subscription. */
int push_setup(void **state);

#define push_test(name) cmocka_unit_test_setup_teardown(name, push_setup, rig_teardown)

#endif
