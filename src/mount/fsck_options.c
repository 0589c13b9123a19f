#include "mount/fsck_options.h"

#include <getopt.h>
#include <string.h>

/* -f (force), -r (ask), -t (show times) and -C FD (show progress on FD) are what fsck(8) and its callers may pass on. */
#define SWITCHES ":hVnyapfrtC:o:"

static const struct option long_options[] = {
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ 0 },
};

static int set_mode(struct fsck_options *options, enum fsck_mode mode)
{
	if (options->mode != FSCK_ASK && options->mode != mode)
		return options_fail(&options->store, "only one of -n, -y and -a (or -p)");
	options->mode = mode;
	return MOUNT_OK;
}

static int parse_switch(struct fsck_options *options, int c, char **argv)
{
	switch (c) {
	case 'n':
		return set_mode(options, FSCK_LOOK);
	case 'y':
		return set_mode(options, FSCK_ALL);
	case 'a':
	case 'p':
		return set_mode(options, FSCK_SAFE);
	case 'o':
		return options_parse_list(&options->store, optarg);
	case ':':
		return options_fail(&options->store, "the switch -%c needs a value", optopt);
	case '?':
		if (optopt)
			return options_fail(&options->store, "unknown switch: -%c", optopt);
		return options_fail(&options->store, "unknown switch: %s", argv[optind - 1]);
	default:
		return MOUNT_OK;
	}
}

static int parse(struct fsck_options *options, int argc, char **argv)
{
	struct options *store = &options->store;
	int c, r;

	opterr = 0;
	optind = 0;
	while ((c = getopt_long(argc, argv, SWITCHES, long_options, NULL)) != -1) {
		if (c == 'h' || c == 'V') {
			store->action = c == 'h' ? OPTIONS_HELP : OPTIONS_VERSION;
			return MOUNT_OK;
		}
		r = parse_switch(options, c, argv);
		if (r)
			return r;
	}
	if (argc - optind < 1)
		return options_fail(store, "SPEC is missing; see --help");
	if (argc - optind > 1)
		return options_fail(store, "too much on the command line: %s", argv[optind + 1]);
	store->spec = argv[optind];
	return options_check(store);
}

int fsck_options_parse(struct fsck_options *options, int argc, char **argv)
{
	int r;

	*options = (struct fsck_options){ .mode = FSCK_ASK };
	options_init(&options->store);
	r = parse(options, argc, argv);
	if (r == MOUNT_OK)
		return FSCK_OK;
	return r == MOUNT_USAGE ? FSCK_USAGE : FSCK_LIBRARY;
}

void fsck_options_help(FILE *out)
{
	fputs("Examine what hpkvfs has stored in an HPKV store, and repair it.\n\n"
	      "Usage: fsck.hpkvfs SPEC [-n|-y|-a] [-o OPTION[,OPTION]...]\n\n"
	      "SPEC is the URL of a server, such as https://api-eu-1.hpkv.io, or local:STORE for a store in the\n"
	      "folder STORE on this machine. It may be mounted.\n\n"
	      "  -n             change nothing\n"
	      "  -y             make every repair that needs no judgement, without asking\n"
	      "  -a, -p         make the repairs by which nothing can be lost, without asking\n"
	      "  -f, -r, -t     accepted, without effect\n"
	      "  -C FD          the same\n"
	      "  -h, --help     this text\n"
	      "  -V, --version  the version\n\n"
	      "Without -n, -y, -a and -p it asks before each kind of repair, if it has a terminal to ask on.\n\n"
	      "Options for -o, as the mount has them; a comma in a value is written \\,\n\n",
	      out);
	options_help_list(out, true);
	fputs("\nOther options of the mount are ignored. More: fsck.hpkvfs(8).\n", out);
}
