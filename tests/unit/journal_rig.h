/* What the tests of the journal share: short times, another who looks into it, and mounts that die at every point. */
#ifndef HPKVFS_TESTS_JOURNAL_RIG_H
#define HPKVFS_TESTS_JOURNAL_RIG_H

#include "fs_rig.h"

#include <linux/fs.h>

#include "fs/journal.h"

/* Longer than what a test does first, short enough to wait for. */
#define GRACE_US 20000
#define BEAT_US 2000

#define ID "1a0c4506c000123456789abcdef0123456789abcdef"
#define CHUNK_ID "1a0c4506c001123456789abcdef0123456789abcdef"
#define STUB "hpkvfs1 1cc72b015edf8714 " CHUNK_ID ":10000:2280:b64\n"
#define ENTRY ".hpkvfs/j/" ID
#define OTHER_OWNER "\"owner\":\"0123456789abcdef0123456789abcdef\",\"beat\":1"
#define SECRET_RECORD "{\"v\":1,\"mode\":33152}" /* 0600 */

/* cmocka's fixture: as rig_setup, with these times. */
int journal_setup(void **state);

int rename_in_root(struct rig *rig, const char *from, const char *to, unsigned flags);

/* Another client writes; as `arrived` of a fault, with one of these as `arg`. */
struct foreign {
	struct rig *rig;
	const char *key, *value;
};
void write_foreign(void *arg);

/* --- a journal of the test's own: fsck, or another mount --- */

struct asking {
	struct journal journal;
	struct journal_watch *watch;
	struct journal_entry *list, *entry;
	unsigned kept;
	int r;
	bool done;
};

/* What ask does: a look by `watch`, which leaves `list`; the finishing of `entry`. */
void look_run(void *arg);
void finish_run(void *arg);
int ask(struct rig *rig, void (*fn)(void *), struct asking *asking);

/* Finishes the one entry that is there, as if it had been watched long enough. */
int finish_one(struct rig *rig, unsigned *kept);

bool journal_is_empty(const struct rig *rig);
void until_empty(struct rig *rig);
/* The value of the first entry; NULL if there is none. */
const char *journal_entry_value(const struct rig *rig);

/* The one entry that the journal has is this example in the manual, but for owner and beat. */
void assert_example(const struct rig *rig, const char *name);

/* --- dying at every point --- */

struct scene {
	void (*prepare)(struct rig *rig);
	int (*act)(struct rig *rig);
	void (*check_dead)(struct rig *rig); /* right after the death */
	void (*check_mended)(struct rig *rig,
			     bool done); /* when the next mount has found it; done: the call had succeeded */
};

/* Lets the store go away before each of the requests of `act` in turn. */
void die_everywhere(const struct scene *scene);

#define journal_test(name) cmocka_unit_test_setup_teardown(name, journal_setup, rig_teardown)

#endif
