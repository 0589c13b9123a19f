/* What tests ask of a mount by its environment, since no real server can be made to do it: to die between two writes, and
 * to wait less long. mount.hpkvfs(8) has the variables. */
#ifndef HPKVFS_MOUNT_TEST_HOOKS_H
#define HPKVFS_MOUNT_TEST_HOOKS_H

#include <stdbool.h>
#include <stdint.h>

struct test_stop {
	unsigned long writes_left; /* 0: never */
	int signal;
};

/* Reads HPKVFS_TEST_STOP. */
void test_stop_init(struct test_stop *stop);

/* A write was answered. At the last one the process gets its signal here. */
void test_stop_written(struct test_stop *stop);

/* While there is a file of this name, CLOCK_BOOTTIME seems to be an hour ahead, as after a suspend. */
struct test_suspend {
	const char *path; /* NULL: never */
};

/* Reads HPKVFS_TEST_SUSPEND. */
void test_suspend_init(struct test_suspend *suspend);
/* So much it is ahead. */
uint64_t test_suspend_us(const struct test_suspend *suspend);

/* Reads HPKVFS_TEST_NOTIFY: true where the loop's own thread is to write notifications, which deadlocks. */
bool test_notify_directly(void);

/* 0: as ever. */
struct test_times {
	uint64_t grace_us, beat_us, orphan_us;
};

/* Reads HPKVFS_TEST_TIMES. */
void test_times_init(struct test_times *times);

#endif
