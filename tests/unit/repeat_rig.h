/* What the tests of commits that failed and are repeated have beside push_rig.h and waiting_rig.h. */
#ifndef HPKVFS_TESTS_REPEAT_RIG_H
#define HPKVFS_TESTS_REPEAT_RIG_H

#include "push_rig.h"
#include "waiting_rig.h"

#include "fs/internal.h"

#define LARGE (3 * RIG_MAX_VALUE)

/* How long it is watched that something does not happen. */
#define QUIET_US 100000

/* How this mount learns what another client does. */
enum heard {
	NOT,
	TOLD,
	LISTED,      /* with the ttl over */
	FOUND_AGAIN, /* with a new subscription */
	HEARD_WAYS,
};

/* A filesystem in which the file `f` is stored as `value` (NULL: is not there), and nothing is sent by time. */
void begin_with(struct rig *rig, const char *value, enum heard heard);
/* What another client does with `f`; NULL: it goes. */
void change_elsewhere(struct rig *rig, const char *value, enum heard heard);
/* `text` is written to `f`, and its commit fails in the background. */
struct fs_handle *write_and_fail(struct rig *rig, const char *text);
/* The same, and no answer comes in time. */
struct fs_handle *write_and_wait(struct rig *rig, const char *text, bool arrives);
/* `f` is as another client has it. */
void assert_theirs(struct rig *rig, const char *value);
void assert_lost(struct rig *rig, struct fs_handle *handle, const char *value);
/* LARGE bytes, more than a value holds; to be freed. */
char *large_text(void);

#endif
