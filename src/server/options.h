/* The command line of hpkvd. */
#ifndef HPKVFS_SERVER_OPTIONS_H
#define HPKVFS_SERVER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct options {
	const char *store;
	const char **listen; /* as given */
	size_t listen_count;
	const char *api_key_file;
	unsigned max_value, max_key; /* bytes */
	unsigned rate;               /* requests a second; 0: no limit */
	unsigned token_ttl_s;
	unsigned idle_exit_s; /* 0: never */
	bool sync_normal;
	bool debug;
	bool help, version;
};

/* 0, or -1 after one line on standard error. Strings are borrowed from argv. */
CHECKED int options_parse(int argc, char **argv, struct options *out);
void options_free(struct options *options);

void options_print_help(void);

#endif
