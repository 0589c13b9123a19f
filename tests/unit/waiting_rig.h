/* What the tests of content that waits have beside attr_rig.h: a filesystem with local names. */
#ifndef HPKVFS_TESTS_WAITING_RIG_H
#define HPKVFS_TESTS_WAITING_RIG_H

#include "attr_rig.h"

#include "base/clock.h"

#define SOON_US 1000
#define LATE_US (3600 * CLOCK_US_PER_S)

/* A new filesystem with these times, in whose root `names` are found. */
void use_with(struct rig *rig, const char *names, uint64_t local_ttl_us, uint64_t commit_us);
/* cmocka's fixture: an empty one in which nothing is sent by time. */
int waiting_setup(void **state);
#define waiting_test(name) cmocka_unit_test_setup_teardown(name, waiting_setup, rig_teardown)

/* In the root: made with O_EXCL, and `text` written; the handle is open. */
struct fs_handle *make_temporary(struct rig *rig, const char *name, const char *text, mode_t mode);
/* The same, closed. */
void temporary(struct rig *rig, const char *name, const char *text);
int rename_to(struct rig *rig, const char *from, const char *to);
int remove_file(struct rig *rig, const char *name);
/* Serves the loop until the key is there, or no longer; the watchdog ends a test in which it never is so. */
void until_stored(struct rig *rig, const char *key);
void until_not_stored(struct rig *rig, const char *key);
/* So many SETs, from now on, are answered so without being carried out. */
void fail_sets(struct rig *rig, int err, unsigned times);

#endif
