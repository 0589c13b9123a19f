#include "server/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct option {
	const char *name;
	const char *argument; /* NULL: takes none */
	const char *help;
	/* 0, or -1: the argument makes no sense */
	int (*set)(struct options *options, const char *value);
};

static int number(const char *text, unsigned min, unsigned max, unsigned *out)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || value < min || value > max)
		return -1;
	*out = (unsigned)value;
	return 0;
}

static int set_store(struct options *options, const char *value)
{
	options->store = value;
	return *value ? 0 : -1;
}

static int set_listen(struct options *options, const char *value)
{
	const char **grown = reallocarray(options->listen, options->listen_count + 1, sizeof(*grown));

	if (!grown || !*value)
		return -1;
	options->listen = grown;
	options->listen[options->listen_count++] = value;
	return 0;
}

static int set_api_key_file(struct options *options, const char *value)
{
	options->api_key_file = value;
	return *value ? 0 : -1;
}

static int set_max_value(struct options *options, const char *value)
{
	return number(value, 1, 64u << 20, &options->max_value);
}

static int set_max_key(struct options *options, const char *value)
{
	return number(value, 1, 64u << 10, &options->max_key);
}

static int set_rate(struct options *options, const char *value)
{
	return number(value, 0, 1000000, &options->rate);
}

static int set_token_ttl(struct options *options, const char *value)
{
	return number(value, 1, 366 * 86400, &options->token_ttl_s);
}

static int set_idle_exit(struct options *options, const char *value)
{
	return number(value, 1, 366 * 86400, &options->idle_exit_s);
}

static int set_sync(struct options *options, const char *value)
{
	options->sync_normal = strcmp(value, "normal") == 0;
	return options->sync_normal || strcmp(value, "full") == 0 ? 0 : -1;
}

static int set_debug(struct options *options, const char *value)
{
	(void)value;
	options->debug = true;
	return 0;
}

static int set_help(struct options *options, const char *value)
{
	(void)value;
	options->help = true;
	return 0;
}

static int set_version(struct options *options, const char *value)
{
	(void)value;
	options->version = true;
	return 0;
}

static const struct option table[] = {
	{ "store", "DIR", "directory of the store; made if missing", set_store },
	{ "listen", "ADDRESS", "unix:PATH, ADDR:PORT or PORT (then of 127.0.0.1; 0: any that is free); may be repeated",
	  set_listen },
	{ "api-key-file", "FILE", "file with the API key, readable by its owner only", set_api_key_file },
	{ "max-value", "BYTES", "largest value (3072)", set_max_value },
	{ "max-key", "BYTES", "longest key (1024)", set_max_key },
	{ "rate", "N", "requests a second, above that code 429 (0: no limit)", set_rate },
	{ "token-ttl", "SECONDS", "how long a token is valid (7200)", set_token_ttl },
	{ "sync", "full|normal",
	  "full: on the disk before it is answered; normal: a power cut may lose the last writes (full)", set_sync },
	{ "idle-exit", "SECONDS", "end when nobody has been connected for so long (never)", set_idle_exit },
	{ "debug", NULL, "say more on standard error", set_debug },
	{ "help", NULL, "print this", set_help },
	{ "version", NULL, "print the version", set_version },
};

static const struct option *find(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0)
			return &table[i];
	return NULL;
}

static int fail(const char *what, const char *argument)
{
	fprintf(stderr, "hpkvd: %s '%s' (see hpkvd --help)\n", what, argument);
	return -1;
}

/* Takes the option at argv[*i], and its argument, which may be the next word. */
static int parse_one(int argc, char **argv, int *i, struct options *out)
{
	const char *word = argv[*i], *value;
	const struct option *option;
	size_t len;

	if (strncmp(word, "--", 2) != 0)
		return fail("unknown argument", word);
	len = strcspn(word + 2, "=");
	value = word[2 + len] ? word + 2 + len + 1 : NULL;
	option = find(word + 2, len);
	if (!option)
		return fail("unknown option", word);
	if (!option->argument && value)
		return fail("no argument is taken by", word);
	if (option->argument && !value) {
		if (++*i >= argc)
			return fail("an argument is needed by", word);
		value = argv[*i];
	}
	if (option->set(out, value)) {
		fprintf(stderr, "hpkvd: --%s: not a valid %s: '%s'\n", option->name, option->argument, value);
		return -1;
	}
	return 0;
}

int options_parse(int argc, char **argv, struct options *out)
{
	*out = (struct options){ .max_value = 3072, .max_key = 1024, .token_ttl_s = 7200 };
	for (int i = 1; i < argc; i++) {
		if (parse_one(argc, argv, &i, out)) {
			options_free(out);
			return -1;
		}
	}
	if (out->help || out->version || (out->store && out->listen_count))
		return 0;
	fprintf(stderr, "hpkvd: --store and --listen are needed (see hpkvd --help)\n");
	options_free(out);
	return -1;
}

void options_free(struct options *options)
{
	free(options->listen);
	options->listen = NULL;
	options->listen_count = 0;
}

void options_print_help(void)
{
	printf("Usage: hpkvd --store DIR --listen ADDRESS [OPTION...]\n"
	       "A local HPKV server: WebSocket, REST, tokens and notifications over a store in SQLite.\n\n");
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char left[40];

		snprintf(left, sizeof(left), "--%s%s%s", table[i].name, table[i].argument ? " " : "",
			 table[i].argument ? table[i].argument : "");
		printf("  %-24s %s\n", left, table[i].help);
	}
	printf("\nThe API key comes from --api-key-file, the environment's HPKV_API_KEY, or hpkv_api_key in systemd's\n"
	       "$CREDENTIALS_DIRECTORY; never from the command line.\n");
}
