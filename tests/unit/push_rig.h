/* A rig whose filesystem has a subscription to its store. */
#ifndef HPKVFS_TESTS_PUSH_RIG_H
#define HPKVFS_TESTS_PUSH_RIG_H

#include "fs_rig.h"

/* Begins it, and serves the loop until all that is in use has been asked for again. */
void push_begin(struct rig *rig);
/* Tells all that is to be told, and serves the loop until it is done. */
void push_tell_all(struct rig *rig);
/* The same for one. */
void push_tell(struct rig *rig);
/* Ends the subscription; what is told meanwhile is lost. */
void push_end(struct rig *rig);
/* Serves the loop until nothing goes on any more. */
void push_settle(struct rig *rig);

/* cmocka's fixture: as rig_setup, with the subscription. */
int push_setup(void **state);

#define push_test(name) cmocka_unit_test_setup_teardown(name, push_setup, rig_teardown)

#endif
