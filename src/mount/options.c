#include "mount/options.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "client/local.h"
#include "client/url.h"
#include "config.h"
#include "fs/names.h"

#define KIB 1024ull
#define MIB (1024ull * KIB)
#define ID_MAX 0xfffffffeull

/* max_value= and max_key= where they are not given: those of the small hosted plans, or of the server that local:DIR
 * starts. */
#define MAX_VALUE_REMOTE 3072u
#define MAX_KEY_REMOTE 512u

/* Names by which vim, rsync, sed -i and git make files that they rename or remove in a moment. */
#define LOCAL_DEFAULT "*.swp:*.swx:*.swpx:4913:.*.??????:sed??????:*~:*.lock:tmp_*_??????:.tmp-*-pack-*"

enum kind {
	KIND_STRING,
	KIND_SIZE, /* bytes, with K, M or G for powers of 1024 */
	KIND_TIME, /* seconds, with a fraction; kept in microseconds */
	KIND_RATE, /* a number a second, with a fraction; kept in millionths; or auto: 0 */
	KIND_COUNT,
	KIND_USER, /* a name or a number */
	KIND_GROUP,
	KIND_OCTAL,
	KIND_FLAG,
	KIND_ON, /* enum tristate */
	KIND_OFF,
	KIND_IGNORE,
};

/* The table. Rows without a text are not for people: mount(8) passes them to every helper. A name may be a pattern
 * there. */
struct row {
	const char *name;
	const char *argument; /* NULL: takes none */
	enum kind kind;
	size_t offset;
	uint64_t min, max;
	const char *text;
	bool store; /* concerns the store, and so fsck.hpkvfs too */
};

#define FIELD(name) offsetof(struct options, name)

static const struct row rows[] = {
	{ "credentials", "FILE", KIND_STRING, FIELD(credentials), 0, 0,
	  "file that holds the API key, readable by its owner only (default: HPKV_API_KEY, or systemd's credential)",
	  true },
	{ "prefix", "KEYS", KIND_STRING, FIELD(prefix), 0, 0,
	  "show only the keys that begin so, without it (default: none)", true },
	{ "delimiter", "CHAR", KIND_STRING, FIELD(delimiter), 0, 0, "what separates directories in keys (default: /)",
	  true },
	{ "uid", "USER", KIND_USER, FIELD(uid), 0, ID_MAX, "owner of files without a record (default: who mounts)",
	  false },
	{ "gid", "GROUP", KIND_GROUP, FIELD(gid), 0, ID_MAX, "their group (default: that of who mounts)", false },
	{ "umask", "OCTAL", KIND_OCTAL, FIELD(umask), 0, 0777,
	  "permissions they lack (default: the umask of who mounts)", false },
	{ "allow_other", NULL, KIND_FLAG, FIELD(allow_other), 0, 0, "let other users in, as far as permissions allow",
	  false },
	{ "max_value", "BYTES", KIND_SIZE, FIELD(max_value), 64, 64 * MIB,
	  "the most bytes that the server takes in a value (default: 3072; with local:DIR 1M)", true },
	{ "max_key", "BYTES", KIND_SIZE, FIELD(max_key), 16, 64 * KIB,
	  "the most bytes that the server takes in a key (default: 512; with local:DIR 8K)", true },
	{ "rate", "auto|NUMBER", KIND_RATE, FIELD(rate_micro), 1000, 1000000ull * 1000000,
	  "the most requests a second (default: auto, as many as the server takes)", true },
	{ "inflight", "NUMBER", KIND_COUNT, FIELD(inflight), 1, 65536,
	  "the most requests that are sent and not answered (default: 128)", true },
	{ "timeout", "SECONDS", KIND_TIME, FIELD(timeout_us), 1000, 86400ull * CLOCK_US_PER_S,
	  "how long a request, or a lost connection, may take (default: 30)", true },
	{ "ttl", "SECONDS", KIND_TIME, FIELD(ttl_us), 0, 365 * 86400ull * CLOCK_US_PER_S,
	  "how long what was read is taken for true while the server does not tell of changes (default: 1)", false },
	{ "nosubscribe", NULL, KIND_FLAG, FIELD(nosubscribe), 0, 0,
	  "do not let the server tell of changes by other clients", false },
	{ "inotify", NULL, KIND_FLAG, FIELD(inotify), 0, 0,
	  "let programs that watch by inotify(7) see what other clients change", false },
	{ "cache_size", "BYTES", KIND_SIZE, FIELD(cache_size), 1 * MIB, SIZE_MAX / 2,
	  "memory for what was read and may be read again (default: 64M)", false },
	{ "commit", "SECONDS", KIND_TIME, FIELD(commit_us), 0, 86400ull * CLOCK_US_PER_S,
	  "when changes of an open file that was closed before are sent; 0: when a program closes it (default: 5)",
	  false },
	{ "local", "PATTERNS", KIND_STRING, FIELD(local), 0, 0,
	  "names of temporary files, separated by colons, which wait here to be renamed (default: " LOCAL_DEFAULT ")",
	  false },
	{ "local_ttl", "SECONDS", KIND_TIME, FIELD(local_ttl_us), 0, 86400ull * CLOCK_US_PER_S,
	  "how long they wait after their last close (default: 10)", false },
	{ "cacert", "FILE", KIND_STRING, FIELD(cacert), 0, 0,
	  "certificates (PEM) that the server's is checked by (default: the system's)", true },
	{ "insecure", NULL, KIND_FLAG, FIELD(insecure), 0, 0, "allow http:// to another host than this one", true },
	{ "state", "FILE", KIND_STRING, FIELD(state), 0, 0,
	  "where times of change are remembered, or none (default: below the user's state directory; root: /var/lib/hpkvfs)",
	  false },
	{ "ro", NULL, KIND_ON, FIELD(read_only), 0, 0, "read only", false },
	{ "rw", NULL, KIND_OFF, FIELD(read_only), 0, 0, "read and write (the default)", false },
	{ "dev", NULL, KIND_ON, FIELD(dev), 0, 0, "let device files work", false },
	{ "nodev", NULL, KIND_OFF, FIELD(dev), 0, 0, "do not (the default)", false },
	{ "suid", NULL, KIND_ON, FIELD(suid), 0, 0, "let set-id bits work", false },
	{ "nosuid", NULL, KIND_OFF, FIELD(suid), 0, 0, "do not (the default)", false },
	{ "exec", NULL, KIND_ON, FIELD(exec), 0, 0, "let programs run (the default)", false },
	{ "noexec", NULL, KIND_OFF, FIELD(exec), 0, 0, "do not", false },
	{ "remount", NULL, KIND_FLAG, FIELD(remount), 0, 0,
	  "change ro, rw, dev, suid or exec of what is mounted on DIR", false },
	{ "defaults", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "async", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "auto", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "noauto", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "nofail", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "_netdev", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "user", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "user=*", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "nouser", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "users", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "nousers", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "owner", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "noowner", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "group", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "nogroup", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "comment=*", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "helper=*", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "uhelper=*", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "[xX]-*", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	/* times of access are never kept, so these change nothing */
	{ "atime", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "noatime", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "diratime", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "nodiratime", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "relatime", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "norelatime", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "strictatime", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "nostrictatime", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "lazytime", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "nolazytime", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	/* how the kernel shows a mount, which mount(8) repeats at a remount */
	{ "default_permissions", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "user_id=*", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
	{ "group_id=*", NULL, KIND_IGNORE, 0, 0, 0, NULL, false },
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

int options_fail(struct options *options, const char *format, ...)
{
	va_list ap;

	free(options->error);
	va_start(ap, format);
	if (vasprintf(&options->error, format, ap) < 0)
		options->error = NULL;
	va_end(ap);
	return MOUNT_USAGE;
}

static int no_memory(struct options *options)
{
	options_fail(options, "out of memory");
	return MOUNT_SYSTEM;
}

/* --- values --- */

static bool parse_digits(const char **p, unsigned base, uint64_t *out)
{
	uint64_t value = 0;
	const char *start = *p;

	for (; **p >= '0' && **p < (char)('0' + base); (*p)++) {
		if (value > UINT64_MAX / 16)
			return false;
		value = value * base + (uint64_t)(**p - '0');
	}
	*out = value;
	return *p > start;
}

static bool parse_size(const char *text, uint64_t *out)
{
	static const char units[] = "KMG";
	const char *unit;

	if (!parse_digits(&text, 10, out))
		return false;
	if (!*text)
		return true;
	unit = strchr(units, toupper((unsigned char)*text));
	if (!unit || text[1] || *out > UINT64_MAX >> 40)
		return false;
	*out <<= 10 * (unit - units + 1);
	return true;
}

/* Digits behind the sixth are beyond what is kept. */
static bool parse_time(const char *text, uint64_t *out)
{
	uint64_t seconds = 0, micro = 0, unit = CLOCK_US_PER_S / 10;
	bool whole = parse_digits(&text, 10, &seconds), fraction = false;

	if (*text == '.')
		for (text++; isdigit((unsigned char)*text); text++, unit /= 10) {
			micro += unit * (uint64_t)(*text - '0');
			fraction = true;
		}
	if (*text || (!whole && !fraction) || seconds > UINT64_MAX / (2 * CLOCK_US_PER_S))
		return false;
	*out = seconds * CLOCK_US_PER_S + micro;
	return true;
}

static bool parse_user(const char *text, uint64_t *out)
{
	const char *p = text;
	struct passwd *entry;

	if (parse_digits(&p, 10, out) && !*p)
		return true;
	entry = getpwnam(text);
	if (entry)
		*out = entry->pw_uid;
	return entry != NULL;
}

static bool parse_group(const char *text, uint64_t *out)
{
	const char *p = text;
	struct group *entry;

	if (parse_digits(&p, 10, out) && !*p)
		return true;
	entry = getgrnam(text);
	if (entry)
		*out = entry->gr_gid;
	return entry != NULL;
}

static int set_number(struct options *options, const struct row *row, const char *text)
{
	static const char *const wanted[] = {
		[KIND_SIZE] = "a number of bytes such as 3072 or 64K",
		[KIND_TIME] = "a number of seconds such as 30 or 0.5",
		[KIND_RATE] = "auto, or a number a second such as 10 or 0.5",
		[KIND_COUNT] = "a whole number",
		[KIND_USER] = "a user's name or number",
		[KIND_GROUP] = "a group's name or number",
		[KIND_OCTAL] = "an octal number such as 022",
	};
	uint64_t value = 0;
	const char *p = text;
	bool automatic = row->kind == KIND_RATE && strcmp(text, "auto") == 0, ok = false;

	switch (row->kind) {
	case KIND_SIZE:
		ok = parse_size(text, &value);
		break;
	case KIND_TIME:
	case KIND_RATE:
		ok = automatic || parse_time(text, &value);
		break;
	case KIND_COUNT:
		ok = parse_digits(&p, 10, &value) && !*p;
		break;
	case KIND_USER:
		ok = parse_user(text, &value);
		break;
	case KIND_GROUP:
		ok = parse_group(text, &value);
		break;
	case KIND_OCTAL:
		ok = parse_digits(&p, 8, &value) && !*p;
		break;
	default:
		break;
	}
	if (!ok)
		return options_fail(options, "%s=%s is not %s", row->name, text, wanted[row->kind]);
	if (!automatic && (value < row->min || value > row->max))
		return options_fail(options, "%s=%s is too %s", row->name, text, value < row->min ? "small" : "large");
	memcpy((char *)options + row->offset, &value, sizeof(value));
	return MOUNT_OK;
}

/* --- one option --- */

static int set_value(struct options *options, const struct row *row, const char *value)
{
	char *field = (char *)options + row->offset;
	char *copy;

	switch (row->kind) {
	case KIND_STRING:
		copy = strdup(value);
		if (!copy)
			return no_memory(options);
		free(*(char **)field);
		*(char **)field = copy;
		return MOUNT_OK;
	case KIND_FLAG:
		*(bool *)field = true;
		return MOUNT_OK;
	case KIND_ON:
		*(enum tristate *)field = ON;
		return MOUNT_OK;
	case KIND_OFF:
		*(enum tristate *)field = OFF;
		return MOUNT_OK;
	case KIND_IGNORE:
		return MOUNT_OK;
	default:
		return set_number(options, row, value);
	}
}

static const struct row *find_row(const char *word, size_t name_len)
{
	for (size_t i = 0; i < ROW_COUNT; i++) {
		if (strlen(rows[i].name) == name_len && memcmp(rows[i].name, word, name_len) == 0)
			return &rows[i];
		if (rows[i].kind == KIND_IGNORE && fnmatch(rows[i].name, word, 0) == 0)
			return &rows[i];
	}
	return NULL;
}

static int parse_word(struct options *options, const char *word)
{
	const char *equals = strchr(word, '=');
	size_t name_len = equals ? (size_t)(equals - word) : strlen(word);
	const struct row *row = find_row(word, name_len);

	if (!row && options->sloppy)
		return MOUNT_OK;
	if (!row)
		return options_fail(options, "unknown option: %.*s", (int)name_len, word);
	if (row->kind == KIND_IGNORE)
		return MOUNT_OK;
	if (row->argument && !equals)
		return options_fail(options, "the option %s needs a value: %s=%s", row->name, row->name, row->argument);
	if (!row->argument && equals)
		return options_fail(options, "the option %s takes no value", row->name);
	return set_value(options, row, equals ? equals + 1 : NULL);
}

/* Words are separated by commas; a backslash in front of a comma or a backslash makes it part of the word. */
int options_parse_list(struct options *options, const char *list)
{
	CLEANUP_FREE char *word = malloc(strlen(list) + 1);

	if (!word)
		return no_memory(options);
	while (*list) {
		size_t len = 0;
		int r;

		for (; *list && *list != ','; list++) {
			if (*list == '\\' && (list[1] == ',' || list[1] == '\\'))
				list++;
			word[len++] = *list;
		}
		word[len] = '\0';
		if (*list)
			list++;
		r = len ? parse_word(options, word) : MOUNT_OK;
		if (r)
			return r;
	}
	return MOUNT_OK;
}

/* --- the command line --- */

const char *options_program(char **argv)
{
	const char *slash = argv[0] ? strrchr(argv[0], '/') : NULL;

	return slash ? slash + 1 : argv[0] ? argv[0] : "hpkvfs";
}

static const struct option long_options[] = {
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ 0 },
};

/* Those of mount(8)'s helpers: -f is fake, -s sloppy. Answers false for one that is unknown. */
static bool helper_switch(struct options *options, int c)
{
	switch (c) {
	case 'f':
		options->action = OPTIONS_FAKE;
		return true;
	case 's':
		options->sloppy = true;
		return true;
	case 'N':
		options->mount_namespace = optarg;
		return true;
	case 'n': /* no mtab, which nobody has any more */
	case 'v':
	case 't':
		return true;
	default:
		return false;
	}
}

static bool person_switch(struct options *options, int c)
{
	switch (c) {
	case 'd':
		options->debug = true;
		options->foreground = true;
		return true;
	case 'f':
		options->foreground = true;
		return true;
	default:
		return false;
	}
}

/* Option lists are read after all switches: -s may stand behind them. */
static int parse_lists(struct options *options, int argc, char **argv, const char *switches)
{
	int c, r = MOUNT_OK;

	optind = 0;
	while (r == MOUNT_OK && (c = getopt_long(argc, argv, switches, long_options, NULL)) != -1)
		if (c == 'o')
			r = options_parse_list(options, optarg);
	return r;
}

static int parse_switches(struct options *options, int argc, char **argv, const char *switches)
{
	int c;

	opterr = 0;
	optind = 0;
	while ((c = getopt_long(argc, argv, switches, long_options, NULL)) != -1) {
		if (c == 'h' || c == 'V') {
			options->action = c == 'h' ? OPTIONS_HELP : OPTIONS_VERSION;
			return MOUNT_OK;
		}
		if (c == ':')
			return options_fail(options, "the switch -%c needs a value", optopt);
		if (c == '?' && !optopt)
			return options_fail(options, "unknown switch: %s", argv[optind - 1]);
		if (c == '?')
			return options_fail(options, "unknown switch: -%c", optopt);
		if (c != 'o' && !(options->helper ? helper_switch(options, c) : person_switch(options, c)))
			return options_fail(options, "unknown switch: -%c", c);
	}
	if (argc - optind < 2)
		return options_fail(options, "%s is missing; see --help", argc - optind ? "DIR" : "SPEC");
	if (argc - optind > 2)
		return options_fail(options, "too much on the command line: %s", argv[optind + 2]);
	options->spec = argv[optind];
	options->dir = argv[optind + 1];
	return MOUNT_OK;
}

void options_init(struct options *options)
{
	mode_t mask = umask(0);

	umask(mask);
	*options = (struct options){
		.timeout_us = 30ull * CLOCK_US_PER_S,
		.inflight = 128,
		.ttl_us = CLOCK_US_PER_S,
		.cache_size = 64 * MIB,
		.commit_us = 5ull * CLOCK_US_PER_S,
		.local_ttl_us = 10ull * CLOCK_US_PER_S,
		.uid = geteuid(),
		.gid = getegid(),
		.umask = mask & 0777,
	};
}

static int set_limits(struct options *options)
{
	struct hpkv_error error;
	struct url url;
	bool local;

	if (url_parse(options->spec, options->insecure, &url, &error))
		return options_fail(options, "%s", error.text);
	local = url.kind == URL_LOCAL;
	url_free(&url);
	if (!options->max_value)
		options->max_value = local ? LOCAL_MAX_VALUE : MAX_VALUE_REMOTE;
	if (!options->max_key)
		options->max_key = local ? LOCAL_MAX_KEY : MAX_KEY_REMOTE;
	return MOUNT_OK;
}

static int check_names(struct options *options)
{
	struct names_rules rules = { .delimiter = '/', .max_key = (size_t)options->max_key };
	int r;

	if (options->delimiter && strlen(options->delimiter) != 1)
		return options_fail(options, "delimiter=%s is not one ASCII character", options->delimiter);
	if (options->delimiter)
		rules.delimiter = options->delimiter[0];
	if (options->prefix)
		rules.prefix = str_c(options->prefix);
	r = names_rules_check(&rules);
	if (r == -EILSEQ)
		return options_fail(options, "prefix= is not UTF-8");
	if (r == -ENAMETOOLONG)
		return options_fail(options, "max_key=%llu leaves no room for names behind the prefix",
				    (unsigned long long)options->max_key);
	if (r)
		return options_fail(options, "delimiter=%s cannot separate names", options->delimiter);
	return MOUNT_OK;
}

int options_check(struct options *options)
{
	int r = set_limits(options);

	if (r == MOUNT_OK)
		r = check_names(options);
	if (r)
		return r;
	if (!options->local) {
		options->local = strdup(LOCAL_DEFAULT);
		if (!options->local)
			return no_memory(options);
	}
	return MOUNT_OK;
}

/* Events are raised by what looks like changes, which the kernel does not let through to what is read only. */
static int check_inotify(struct options *options)
{
	if (options->inotify && options->read_only == ON)
		return options_fail(options, "ro and inotify cannot be used together");
	if (options->inotify && options->nosubscribe)
		return options_fail(options,
				    "inotify cannot be used with nosubscribe: the server has to tell of changes");
	return MOUNT_OK;
}

int options_parse(struct options *options, int argc, char **argv)
{
	const char *switches;
	int r;

	options_init(options);
	options->helper = strncmp(options_program(argv), "mount.", strlen("mount.")) == 0;
	switches = options->helper ? ":hVfno:st:vN:" : ":hVdfo:";
	r = parse_switches(options, argc, argv, switches);
	if (r || options->action == OPTIONS_HELP || options->action == OPTIONS_VERSION)
		return r;
	r = parse_lists(options, argc, argv, switches);
	if (r)
		return r;
	if (options->remount) {
		if (options->action == OPTIONS_MOUNT)
			options->action = OPTIONS_REMOUNT;
		return MOUNT_OK;
	}
	if (!*options->dir)
		return options_fail(options, "DIR is empty");
	r = check_inotify(options);
	return r ? r : options_check(options);
}

void options_free(struct options *options)
{
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (rows[i].kind == KIND_STRING)
			free(*(char **)((char *)options + rows[i].offset));
	free(options->error);
}

/* --- help --- */

void options_help_list(FILE *out, bool store_only)
{
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (rows[i].text && (rows[i].store || !store_only))
			fprintf(out, "  %s%s%s\n        %s\n", rows[i].name, rows[i].argument ? "=" : "",
				rows[i].argument ? rows[i].argument : "", rows[i].text);
}

void options_help(FILE *out)
{
	fputs("Mount an HPKV store: its keys as files.\n\n"
	      "Usage: hpkvfs SPEC DIR [-f] [-d] [-o OPTION[,OPTION]...]\n"
	      "       mount.hpkvfs SPEC DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTION[,OPTION]...]\n\n"
	      "SPEC is the URL of a server, such as https://api-eu-1.hpkv.io, or local:STORE for a store in the\n"
	      "folder STORE on this machine. The second form is for mount(8); there -f checks only.\n\n"
	      "  -f             stay in the foreground\n"
	      "  -d             the same, and tell what is done\n"
	      "  -h, --help     this text\n"
	      "  -V, --version  the version\n\n"
	      "Options for -o; a comma in a value is written \\,\n\n",
	      out);
	options_help_list(out, false);
	fputs("\nThe options that mount(8) passes to every helper are ignored. More: mount.hpkvfs(8).\n", out);
}

void options_version(FILE *out)
{
	fprintf(out, "hpkvfs %s\n", HPKVFS_VERSION);
}
