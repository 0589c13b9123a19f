#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct command_entry {
	const char *name;
	const char *synopsis;
	const char *help;
	int min, max; /* arguments; max -1: any number */
};

/* In the order of enum command. */
static const struct command_entry commands[] = {
	[COMMAND_GET] = { "get", "KEY", "write the value of KEY to standard output", 1, 1 },
	[COMMAND_SET] = { "set", "KEY [VALUE]", "store VALUE at KEY", 1, 2 },
	[COMMAND_PATCH] = { "patch", "KEY [VALUE]", "merge VALUE into a JSON object, else append it", 1, 2 },
	[COMMAND_DEL] = { "del", "KEY", "delete KEY", 1, 1 },
	[COMMAND_RANGE] = { "range", "START [END]", "list the keys from START to END, both included, with their values",
			    1, 2 },
	[COMMAND_INCR] = { "incr", "KEY [N]", "add N (default 1) to the number at KEY and write the sum", 1, 2 },
	[COMMAND_WATCH] = { "watch", "[PATTERN...]", "write each change of keys that match a PATTERN, as it comes", 0,
			    -1 },
	[COMMAND_TOKEN] = { "token", "[PATTERN...]", "write a token that subscribes to PATTERNs", 0, -1 },
	[COMMAND_PING] = { "ping", "", "connect, ask once, and write how long it took", 0, 0 },
};

enum option {
	OPTION_URL,
	OPTION_CREDENTIALS,
	OPTION_CA,
	OPTION_INSECURE,
	OPTION_TIMEOUT,
	OPTION_JSON,
	OPTION_LIMIT,
	OPTION_KEYS,
	OPTION_COUNT,
	OPTION_ACCESS,
	OPTION_HELP,
	OPTION_VERSION,
};

struct option_entry {
	const char *name;
	const char *argument; /* NULL: takes none */
	const char *help;
	int command; /* the only one that it belongs to, or -1 */
};

static const struct option_entry table[] = {
	[OPTION_URL] = { "url", "URL",
			 "the server: https://HOST, wss://HOST, unix:PATH or local:DIR (default: HPKV_URL)", -1 },
	[OPTION_CREDENTIALS] = { "credentials", "FILE", "a file that holds the API key and that only you can read",
				 -1 },
	[OPTION_CA] = { "ca", "FILE", "certificate authorities (PEM) to trust instead of the system's", -1 },
	[OPTION_INSECURE] = { "insecure", NULL, "allow a connection without TLS to another machine", -1 },
	[OPTION_TIMEOUT] = { "timeout", "SECONDS", "for connecting, and for each answer (default: 5 and 10)", -1 },
	[OPTION_JSON] = { "json", NULL, "write JSON", -1 },
	[OPTION_LIMIT] = { "limit", "N", "range: at most N keys", COMMAND_RANGE },
	[OPTION_KEYS] = { "keys", NULL, "range: keys without values", COMMAND_RANGE },
	[OPTION_COUNT] = { "count", "N", "watch: end after N changes", COMMAND_WATCH },
	[OPTION_ACCESS] = { "access", "REGEX", "token: the keys that it may operate on", COMMAND_TOKEN },
	[OPTION_HELP] = { "help", NULL, "write this help", -1 },
	[OPTION_VERSION] = { "version", NULL, "write the version", -1 },
};

static int wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int wrong(const char *format, ...)
{
	va_list args;

	fputs("hpkv: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs(" (hpkv --help tells more)\n", stderr);
	return -1;
}

static void print_help(void)
{
	char left[64];

	puts("Usage: hpkv [OPTION...] COMMAND [ARGUMENT...]");
	puts("\nA client for HPKV, a key-value store.\n\nCommands:");
	for (size_t i = 0; i < COUNT(commands); i++) {
		snprintf(left, sizeof(left), "%s %s", commands[i].name, commands[i].synopsis);
		printf("  %-22s %s\n", left, commands[i].help);
	}
	puts("\nOptions:");
	for (size_t i = 0; i < COUNT(table); i++) {
		snprintf(left, sizeof(left), "--%s%s%s", table[i].name, table[i].argument ? " " : "",
			 table[i].argument ? table[i].argument : "");
		printf("  %-22s %s\n", left, table[i].help);
	}
	puts("\nA VALUE that is absent or \"-\" is read from standard input. The API key comes from the\n"
	     "credentials file, HPKV_API_KEY or systemd's credential directory.\n\n"
	     "Exit codes: 0 done, 1 not found, 2 usage, 3 refused by the server, 4 unreachable.");
}

static int set_timeout(struct options *options, const char *value)
{
	char *end;
	double seconds;

	errno = 0;
	seconds = strtod(value, &end);
	if (errno || end == value || *end || !isfinite(seconds) || seconds < 0.001 || seconds > 86400)
		return wrong("--timeout takes seconds, 0.001 to 86400");
	options->timeout_ms = (unsigned)(seconds * 1000);
	return 0;
}

static int set_number(const char *name, const char *value, unsigned long *out)
{
	char *end;

	errno = 0;
	*out = strtoul(value, &end, 10);
	if (errno || *value < '0' || *value > '9' || *end || *out == 0)
		return wrong("--%s takes a number of 1 or more", name);
	return 0;
}

static int set_option(struct options *options, size_t which, const char *value)
{
	switch ((enum option)which) {
	case OPTION_URL:
		options->url = value;
		return 0;
	case OPTION_CREDENTIALS:
		options->credentials = value;
		return 0;
	case OPTION_CA:
		options->ca = value;
		return 0;
	case OPTION_INSECURE:
		options->insecure = true;
		return 0;
	case OPTION_TIMEOUT:
		return set_timeout(options, value);
	case OPTION_JSON:
		options->json = true;
		return 0;
	case OPTION_LIMIT:
		return set_number("limit", value, &options->limit);
	case OPTION_KEYS:
		options->keys = true;
		return 0;
	case OPTION_COUNT:
		return set_number("count", value, &options->changes);
	case OPTION_ACCESS:
		options->access = value;
		return 0;
	case OPTION_HELP:
		print_help();
		return 1;
	case OPTION_VERSION:
		puts("hpkv " HPKVFS_VERSION);
		return 1;
	}
	return -1;
}

/* --NAME, --NAME VALUE or --NAME=VALUE; *i is moved to the last word that was used. */
static int parse_option(struct options *options, int *i, int argc, char **argv, bool *given)
{
	const char *text = argv[*i] + 2;
	const char *equals = strchr(text, '=');
	size_t len = equals ? (size_t)(equals - text) : strlen(text);

	for (size_t which = 0; which < COUNT(table); which++) {
		const char *value = equals ? equals + 1 : NULL;

		if (strlen(table[which].name) != len || strncmp(table[which].name, text, len) != 0)
			continue;
		if (value && !table[which].argument)
			return wrong("--%s takes no value", table[which].name);
		if (!value && table[which].argument) {
			if (*i + 1 >= argc)
				return wrong("--%s needs a value: %s", table[which].name, table[which].argument);
			value = argv[++*i];
		}
		given[which] = true;
		return set_option(options, which, value);
	}
	return wrong("there is no option --%.*s", (int)len, text);
}

static int take_command(struct options *options)
{
	const struct command_entry *entry;
	size_t which;

	if (options->count == 0)
		return wrong("a command is missing");
	for (which = 0; which < COUNT(commands); which++)
		if (strcmp(commands[which].name, options->arguments[0]) == 0)
			break;
	if (which == COUNT(commands))
		return wrong("there is no command %s", options->arguments[0]);
	entry = &commands[which];
	options->command = (enum command)which;
	options->arguments++;
	options->count--;
	if (options->count < entry->min || (entry->max >= 0 && options->count > entry->max))
		return wrong("usage: hpkv %s %s", entry->name, entry->synopsis);
	return 0;
}

/* Options may stand anywhere before "--". A word with one dash is an argument: `hpkv incr n -5`. */
int options_parse(struct options *options, int argc, char **argv)
{
	bool given[COUNT(table)] = { false };
	bool ended = false;
	int r = 0;

	*options = (struct options){ .arguments = argv };
	for (int i = 1; r == 0 && i < argc; i++) {
		if (!ended && strcmp(argv[i], "--") == 0)
			ended = true;
		else if (!ended && strncmp(argv[i], "--", 2) == 0)
			r = parse_option(options, &i, argc, argv, given);
		else
			argv[options->count++] = argv[i];
	}
	argv[options->count] = NULL;
	if (r)
		return r;
	r = take_command(options);
	for (size_t i = 0; r == 0 && i < COUNT(table); i++)
		if (given[i] && table[i].command >= 0 && table[i].command != (int)options->command)
			r = wrong("--%s belongs to %s", table[i].name, commands[table[i].command].name);
	return r;
}
