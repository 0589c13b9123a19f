/* What the parts of client_sync_driver share. */
#ifndef HPKVFS_TESTS_CLIENT_SYNC_DRIVER_H
#define HPKVFS_TESTS_CLIENT_SYNC_DRIVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/hpkv.h"

struct run {
	const char *self; /* the program's path */
	const char *url, *key;
	char **arguments;
	bool with_thread; /* the loop is served by a thread of its own */
};

#define CHECK(condition)                                                                \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			exit(1);                                                        \
		}                                                                       \
	} while (0)

struct hpkv_loop *new_loop(const struct run *run);
struct hpkv_client *new_client(const struct run *run, struct hpkv_loop *loop);
struct hpkv_client *connected_client(const struct run *run, struct hpkv_loop *loop);
void free_client(void *client); /* for hpkv_loop_call */
void end(struct hpkv_loop *loop, struct hpkv_client *client);

/* client_sync_driver_iterator.c */
void run_iterate(const struct run *run);
void run_iterator(const struct run *run);
void run_again(const struct run *run);

/* client_sync_driver_process.c */
void run_signals(const struct run *run);
void run_hangup(const struct run *run);
void run_fork(const struct run *run);
void run_exec(const struct run *run);
void run_descriptors(const struct run *run);

#endif
