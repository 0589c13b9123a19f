/* The command line of the mount, under both of its names, and its -o options, some of which fsck.hpkvfs takes too: one table
 * (options.c) drives parsing and --help; tests compare the man pages and the completions with --help. */
#ifndef HPKVFS_MOUNT_OPTIONS_H
#define HPKVFS_MOUNT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/buf.h"

/* Exit codes of mount(8). */
enum mount_exit {
	MOUNT_OK = 0,
	MOUNT_USAGE = 1,  /* wrong call, or no permission */
	MOUNT_SYSTEM = 2, /* no memory, no process */
	MOUNT_INTERRUPTED = 8,
	MOUNT_FAILURE = 32 /* no server, wrong key, mount(2) failed */
};

enum options_action {
	OPTIONS_MOUNT,
	OPTIONS_REMOUNT, /* change the flags of what is mounted on `dir` */
	OPTIONS_FAKE,    /* everything was right, and nothing is to be done */
	OPTIONS_HELP,
	OPTIONS_VERSION,
};

/* An option that may have been left out. */
enum tristate {
	UNSET,
	OFF,
	ON,
};

struct options {
	enum options_action action;
	bool helper; /* called as mount(8) calls its helpers */
	bool foreground;
	bool debug;
	bool sloppy;      /* unknown options are passed over */
	const char *spec; /* borrowed from argv */
	const char *dir;
	const char *mount_namespace; /* -N: a path or a pid; NULL: this one */

	/* -o; strings are owned */
	char *credentials;
	char *prefix;
	char *delimiter;
	char *cacert;
	char *state;         /* as given; NULL: the default */
	char *local;         /* patterns, separated by ':' */
	uint64_t max_value;  /* bytes */
	uint64_t max_key;    /* bytes */
	uint64_t rate_micro; /* millionths of a request a second; 0: as many as the server takes */
	uint64_t inflight;
	uint64_t timeout_us;
	uint64_t ttl_us;
	uint64_t cache_size; /* bytes */
	uint64_t commit_us, local_ttl_us;
	uint64_t uid, gid;
	uint64_t umask;
	bool allow_other;
	bool insecure;
	bool nosubscribe;
	bool inotify;
	bool remount;
	enum tristate read_only, suid, dev, exec;

	char *error; /* one line that says what was wrong; owned */
};

/* Reads the command line and checks it; the name it was called by (argv[0]) decides between the style of mount(8)'s helpers
 * and that for people. Paths are not made absolute nor looked at. MOUNT_OK, or an exit code and `error`. */
int options_parse(struct options *options, int argc, char **argv);
void options_free(struct options *options);

/* The program's name for messages: the last part of argv[0]. */
const char *options_program(char **argv);

void options_help(FILE *out);

/* --- for fsck.hpkvfs, which shares the options that concern the store --- */

/* Sets the defaults. */
void options_init(struct options *options);

/* Reads a list of -o; those that concern a mount only are taken too. MOUNT_OK, or an exit code of mount(8) and `error`. */
int options_parse_list(struct options *options, const char *list);

/* What can be checked without a server, once `spec` is set. As above. */
int options_check(struct options *options);

/* Sets `error` and answers MOUNT_USAGE. */
int options_fail(struct options *options, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The options of -o as --help shows them: all, or those that concern the store. */
void options_help_list(FILE *out, bool store_only);
void options_version(FILE *out);

#endif
