/* The command line of fsck.hpkvfs, as people and fsck(8) write it. */
#ifndef HPKVFS_MOUNT_FSCK_OPTIONS_H
#define HPKVFS_MOUNT_FSCK_OPTIONS_H

#include "mount/options.h"

/* Exit codes of fsck(8), which are added. */
enum fsck_exit {
	FSCK_OK = 0,
	FSCK_CORRECTED = 1,
	FSCK_LEFT = 4,
	FSCK_FAILURE = 8, /* no server, wrong key, a newer layout */
	FSCK_USAGE = 16,
	FSCK_CANCELLED = 32,
	FSCK_LIBRARY = 128, /* no memory */
};

enum fsck_mode {
	FSCK_ASK,
	FSCK_LOOK, /* -n */
	FSCK_SAFE, /* -a, -p */
	FSCK_ALL,  /* -y */
};

struct fsck_options {
	struct options store; /* its spec, action, error, and what -o says of the store */
	enum fsck_mode mode;
};

/* FSCK_OK, or an exit code and store.error. Free with options_free(&options->store) in either case. */
int fsck_options_parse(struct fsck_options *options, int argc, char **argv);

void fsck_options_help(FILE *out);

#endif
