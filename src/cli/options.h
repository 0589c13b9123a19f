/* The command line of hpkv: one table of options and one of commands give the parser and --help. */
#ifndef HPKVFS_CLI_OPTIONS_H
#define HPKVFS_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "base/cleanup.h"

/* Exit codes; scripts rely on them. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_NOT_FOUND = 1,
	EXIT_USAGE = 2,       /* also what is wrong on this side: credentials, input, output, memory */
	EXIT_REFUSED = 3,     /* by the server: credentials, key, value, rate */
	EXIT_UNREACHABLE = 4, /* no usable answer: no connection, certificate, timeout, 5xx, nonsense */
};

enum command {
	COMMAND_GET,
	COMMAND_SET,
	COMMAND_PATCH,
	COMMAND_DEL,
	COMMAND_RANGE,
	COMMAND_INCR,
	COMMAND_WATCH,
	COMMAND_TOKEN,
	COMMAND_PING,
};

struct options {
	const char *url;
	const char *credentials;
	const char *ca;
	const char *access;
	bool json;
	bool insecure;
	bool keys;
	unsigned timeout_ms;   /* 0: the library's defaults */
	unsigned long limit;   /* 0: none */
	unsigned long changes; /* 0: no end */
	enum command command;
	char **arguments; /* of the command, NULL-ended; points into argv, whose order changes */
	int count;
};

/* 0: go on; 1: --help or --version was answered, exit with success; -1: wrong, one line was written to standard
 * error. */
CHECKED int options_parse(struct options *options, int argc, char **argv);

#endif
