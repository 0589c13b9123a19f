/* Files beside what they should hold, and how much of what programs have changed is in memory. */
#ifndef HPKVFS_TESTS_ROOM_RIG_H
#define HPKVFS_TESTS_ROOM_RIG_H

#include "attr_rig.h"

#define KIB 1024u
#define CHUNK 2304u

/* A write that finds room may bring a chunk into memory, and what lies in a buffer that grows. */
#define SLACK (8 * KIB)

/* A filesystem with so much room, and with local names that wait long. */
void room_limit(struct rig *rig, uint64_t bytes);
uint64_t room_taken(const struct rig *rig);

enum kind {
	TEXT,
	BINARY
};

struct twin {
	char name[32];
	struct fs_handle *handle;
	uint64_t id;
	struct buf content;
};

/* Creates and opens it. `format` gets the number. */
void twin_make(struct rig *rig, struct twin *twin, const char *format, unsigned number, int flags);
void fill(struct buf *bytes, enum kind kind, unsigned seed, size_t len);
/* The write's answer. */
int twin_append(struct rig *rig, struct twin *twin, enum kind kind, size_t len);
/* What is open, what is under the name. */
void twin_check_handle(struct rig *rig, struct twin *twin);
void twin_check(struct rig *rig, struct twin *twin);
void twin_close(struct rig *rig, struct twin *twin);
struct twin *twins_new(unsigned count);
void twins_free(struct twin *twins, unsigned count);

unsigned chunks_stored(const struct rig *rig);
void until_no_chunks(struct rig *rig);
/* Nothing waits, and another mount reads the same. */
void check_after_restart(struct rig *rig, struct twin *twins, unsigned count);

#define room_test(name) cmocka_unit_test_setup_teardown(name, attr_setup, rig_teardown)

#endif
