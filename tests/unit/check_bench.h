/* What the tests of fsck's examination stand on: a store in memory, the stubs and chunks of hpkvfs-layout(7), and all that the
 * examination tells, written down. */
#ifndef HPKVFS_TESTS_CHECK_BENCH_H
#define HPKVFS_TESTS_CHECK_BENCH_H

#include "fs_rig.h"

#include "fs/check.h"

/* hpkvfs-layout(7)'s: made in 2026. */
#define ID "1a0c4506c000123456789abcdef0123456789abcdef"
#define STUB "hpkvfs1 fe19008925f555ca " ID ":10000:2280:b64\n"
#define HOLES "hpkvfs1 b72c45fadb41f167 " ID ":1000000:2280:b64:0+3,10+429 =AAE=\n"
#define CHUNK_SIZE 2280
#define CHUNKS 5
#define SIZE 10000

/* Made in 1970: of no file, and old enough to go. */
#define OLD "000000000010123456789abcdef0123456789abcdef"
#define OLDER "000000000000123456789abcdef0123456789abcdef"

#define FS_KEY ".hpkvfs/fs"
#define FS_VALUE "{\"v\":1,\"delimiter\":\"/\"}"
#define RECORD "{\"v\":1,\"mode\":33188}"
#define OWNER "\"owner\":\"00000000000000000000000000000000\",\"beat\":1"

/* Long enough for what a test does first, short enough to wait for. */
#define GRACE_US 20000
#define ANNOUNCE_US 30000

#define TEXT_MAX 400
#define FINDINGS_MAX 64

struct told {
	enum check_kind kind; /* CHECK_KINDS: a note */
	char key[TEXT_MAX], text[TEXT_MAX];
};

struct bench {
	struct rig *rig;
	struct check_config config;
	struct names_rules rules;
	struct check *check;
	struct told told[FINDINGS_MAX];
	unsigned count;
	bool stop;

	/* of the call under way */
	const bool *kinds;
	bool done;
	int r;
	unsigned repaired;
	struct buf why;
};

/* cmocka's fixture: a store that has the layout's version and nothing else. */
int bench_setup(void **state);
int bench_teardown(void **state);

#define check_test(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)

/* --- its calls --- */

/* Starts an examination, which goes on while the loop is served, until finish(). */
void begin_examination(struct bench *bench);
int finish(struct bench *bench);
/* Looks at everything, and sees that nothing was changed. */
int examine(struct bench *bench);
/* Repairs what may be repaired by whom `least` says. How much was. */
unsigned repair(struct bench *bench, enum check_cure least);

/* Requests by it that changed something, since it was last called. */
unsigned writes(struct bench *bench);

/* --- what it told --- */

unsigned faults(struct bench *bench);
/* Asserts that a fault, or a note (CHECK_KINDS), of this key was told, with a text that has `part` in it. */
void assert_told(struct bench *bench, enum check_kind kind, const char *key, const char *part);
/* Examines: this is the one fault that there is; there is none. */
void assert_fault(struct bench *bench, enum check_kind kind, const char *key, const char *part);
void assert_clean(struct bench *bench);

/* --- what there is --- */

void put(struct bench *bench, const char *key, const char *value);
/* A chunk of so many zeros. */
void put_chunk(struct bench *bench, const char *id, uint32_t index, size_t size);
/* One of ID. */
void remove_chunk(struct bench *bench, uint32_t index);
/* Those that STUB is about. */
void put_chunks(struct bench *bench, const char *id);
/* STUB and its chunks. */
void put_file(struct bench *bench, const char *key);
/* One of everything that a mount can leave. */
void put_tree(struct bench *bench);

#endif
