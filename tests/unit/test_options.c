/* The mount's command line. */
#include "mount/options.h"

#include <sys/stat.h>
#include <unistd.h>

#include "mount/fsck_options.h"
#include "unit.h"

#define WORDS_MAX 16

/* Words are separated by blanks. */
static int split(const char *line, char *copy, char *argv[WORDS_MAX + 1])
{
	int argc = 0;

	strcpy(copy, line);
	for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
		assert_true(argc < WORDS_MAX);
		argv[argc++] = word;
	}
	return argc;
}

/* Reads a command line. */
static int parse(struct options *options, const char *line, char *copy)
{
	char *argv[WORDS_MAX + 1] = { NULL };
	int argc = split(line, copy, argv);

	return options_parse(options, argc, argv);
}

/* Asserts that a command line is taken; the caller frees. */
static struct options good(const char *line)
{
	static char copy[1024];
	struct options options;

	if (parse(&options, line, copy) != MOUNT_OK)
		fail_msg("%s: %s", line, options.error);
	return options;
}

static void bad(const char *line, const char *text)
{
	char copy[1024];
	struct options options;

	assert_int_equal(parse(&options, line, copy), MOUNT_USAGE);
	assert_non_null(options.error);
	if (!strstr(options.error, text))
		fail_msg("%s: \"%s\" does not say \"%s\"", line, options.error, text);
	options_free(&options);
}

static void test_defaults(void **state)
{
	mode_t former = umask(027);
	struct options options = good("/usr/bin/hpkvfs https://host.example /mnt");

	umask(former);
	(void)state;
	assert_int_equal(options.action, OPTIONS_MOUNT);
	assert_false(options.helper || options.foreground || options.debug || options.sloppy);
	assert_string_equal(options.spec, "https://host.example");
	assert_string_equal(options.dir, "/mnt");
	assert_int_equal(options.max_value, 3072);
	assert_int_equal(options.max_key, 512);
	assert_int_equal(options.rate_micro, 0);
	assert_int_equal(options.inflight, 128);
	assert_int_equal(options.timeout_us, 30000000);
	assert_int_equal(options.ttl_us, 1000000);
	assert_int_equal(options.cache_size, 64 * 1024 * 1024);
	assert_int_equal(options.uid, geteuid());
	assert_int_equal(options.gid, getegid());
	assert_int_equal(options.umask, 027);
	assert_false(options.allow_other || options.insecure || options.nosubscribe || options.inotify);
	assert_int_equal(options.read_only, UNSET);
	assert_int_equal(options.suid, UNSET);
	assert_int_equal(options.dev, UNSET);
	assert_int_equal(options.exec, UNSET);
	assert_null(options.prefix);
	assert_null(options.delimiter);
	assert_null(options.credentials);
	assert_null(options.cacert);
	assert_null(options.state);
	options_free(&options);
}

/* What the server that local: starts takes; other limits where they are given. */
static void test_limits_of_local(void **state)
{
	struct options options = good("hpkvfs local:/store /mnt");

	(void)state;
	assert_int_equal(options.max_value, 1048576);
	assert_int_equal(options.max_key, 8192);
	options_free(&options);
	options = good("hpkvfs local:/store /mnt -o max_value=5000,max_key=300");
	assert_int_equal(options.max_value, 5000);
	assert_int_equal(options.max_key, 300);
	options_free(&options);
}

static void test_every_option(void **state)
{
	struct options options = good(
		"hpkvfs -o credentials=/k,prefix=a/b/,delimiter=:,uid=7,gid=8,umask=077,allow_other,max_value=4K "
		"https://host.example /mnt -o max_key=1k,timeout=2.5,ttl=.25,cacert=ca.pem,insecure,state=none -o ro "
		"-o dev,suid,noexec,rate=12.5,inflight=7,nosubscribe,cache_size=2m");

	(void)state;
	assert_string_equal(options.credentials, "/k");
	assert_string_equal(options.prefix, "a/b/");
	assert_string_equal(options.delimiter, ":");
	assert_int_equal(options.uid, 7);
	assert_int_equal(options.gid, 8);
	assert_int_equal(options.umask, 077);
	assert_true(options.allow_other && options.insecure && options.nosubscribe);
	assert_int_equal(options.cache_size, 2 * 1024 * 1024);
	assert_int_equal(options.max_value, 4096);
	assert_int_equal(options.max_key, 1024);
	assert_int_equal(options.rate_micro, 12500000);
	assert_int_equal(options.inflight, 7);
	assert_int_equal(options.timeout_us, 2500000);
	assert_int_equal(options.ttl_us, 250000);
	assert_string_equal(options.cacert, "ca.pem");
	assert_string_equal(options.state, "none");
	assert_int_equal(options.read_only, ON);
	assert_int_equal(options.dev, ON);
	assert_int_equal(options.suid, ON);
	assert_int_equal(options.exec, OFF);
	options_free(&options);
}

static void test_rate_auto_after_a_number(void **state)
{
	struct options options = good("hpkvfs local:/s /mnt -o rate=10,rate=auto");

	(void)state;
	assert_int_equal(options.rate_micro, 0);
	options_free(&options);
}

static void test_local_has_larger_values(void **state)
{
	struct options options = good("hpkvfs local:/s /mnt");

	(void)state;
	assert_int_equal(options.max_value, 1048576);
	options_free(&options);
	options = good("hpkvfs local:/s /mnt -o max_value=3072");
	assert_int_equal(options.max_value, 3072);
	options_free(&options);
}

static void test_the_last_one_counts(void **state)
{
	struct options options = good("hpkvfs local:/s /mnt -o ro,ttl=5,prefix=a,rw,nosuid,suid -o ttl=7,prefix=b");

	(void)state;
	assert_int_equal(options.read_only, OFF);
	assert_int_equal(options.suid, ON);
	assert_int_equal(options.ttl_us, 7000000);
	assert_string_equal(options.prefix, "b");
	options_free(&options);
}

static void test_commas_in_values(void **state)
{
	struct options options = good("hpkvfs local:/s /mnt -o prefix=a\\,b\\\\c\\d,,ro,");

	(void)state;
	assert_string_equal(options.prefix, "a,b\\c\\d");
	assert_int_equal(options.read_only, ON);
	options_free(&options);
	options = good("hpkvfs local:/s /mnt -o delimiter=\\,");
	assert_string_equal(options.delimiter, ",");
	options_free(&options);
}

static void test_times(void **state)
{
	static const struct {
		const char *text;
		uint64_t us;
	} times[] = {
		{ "0", 0 },       { "0.5", 500000 },        { "1.", 1000000 },
		{ ".000001", 1 }, { "1.0000019", 1000001 }, { "86400", 86400000000ull },
	};
	char line[100];

	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		struct options options;

		snprintf(line, sizeof(line), "hpkvfs local:/s /mnt -o ttl=%s", times[i].text);
		options = good(line);
		assert_int_equal(options.ttl_us, times[i].us);
		options_free(&options);
	}
}

static void test_bad_values(void **state)
{
	static const struct {
		const char *option, *text;
	} values[] = {
		{ "ttl", "ttl needs a value" },
		{ "ttl=", "ttl= is not a number of seconds" },
		{ "ttl=.", "ttl=. is not a number of seconds" },
		{ "ttl=1s", "ttl=1s is not a number of seconds" },
		{ "ttl=-1", "ttl=-1 is not a number of seconds" },
		{ "ttl=1.5.2", "is not a number of seconds" },
		{ "ttl=99999999999999999999999", "is not a number of seconds" },
		{ "timeout=0", "timeout=0 is too small" },
		{ "timeout=86401", "timeout=86401 is too large" },
		{ "rate=0", "rate=0 is too small" },
		{ "rate=1000001", "rate=1000001 is too large" },
		{ "rate=automatic", "rate=automatic is not auto, or a number a second" },
		{ "rate=-1", "rate=-1 is not auto, or a number a second" },
		{ "inflight=0", "inflight=0 is too small" },
		{ "inflight=65537", "inflight=65537 is too large" },
		{ "inflight=1.5", "inflight=1.5 is not a whole number" },
		{ "inflight=auto", "inflight=auto is not a whole number" },
		{ "max_value=0", "max_value=0 is too small" },
		{ "max_value=1G", "max_value=1G is too large" },
		{ "max_value=3k2", "max_value=3k2 is not a number of bytes" },
		{ "max_value=K", "max_value=K is not a number of bytes" },
		{ "max_value=18446744073709551616", "is not a number of bytes" },
		{ "max_value=99999999999999999G", "is not a number of bytes" },
		{ "cache_size=0", "cache_size=0 is too small" },
		{ "cache_size=1048575", "cache_size=1048575 is too small" },
		{ "cache_size=much", "cache_size=much is not a number of bytes" },
		{ "nosubscribe=1", "nosubscribe takes no value" },
		{ "max_key=-5", "max_key=-5 is not a number of bytes" },
		{ "umask=8", "umask=8 is not an octal number" },
		{ "umask=1000", "umask=1000 is too large" },
		{ "uid=nobody-is-called-so", "is not a user's name or number" },
		{ "uid=4294967295", "uid=4294967295 is too large" },
		{ "gid=nobody-is-called-so", "is not a group's name or number" },
		{ "delimiter=", "is not one ASCII character" },
		{ "delimiter=ab", "is not one ASCII character" },
		{ "delimiter=\xc3\xa4", "is not one ASCII character" },
		{ "delimiter=%", "delimiter=% cannot separate names" },
		{ "prefix=\xff", "prefix= is not UTF-8" },
		{ "max_key=16,prefix=0123456789abcdef", "no room" },
		{ "allow_other=1", "allow_other takes no value" },
		{ "ro=1", "ro takes no value" },
		{ "no_such_option", "unknown option: no_such_option" },
		{ "no_such_option=5", "unknown option: no_such_option" },
		{ "TTL=1", "unknown option: TTL" },
		{ "ttlx=1", "unknown option: ttlx" },
		{ "sync", "unknown option: sync" },
	};
	char line[200];

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		snprintf(line, sizeof(line), "hpkvfs local:/s /mnt -o ro,%s,rw", values[i].option);
		bad(line, values[i].text);
	}
}

static void test_inotify(void **state)
{
	struct options options = good("hpkvfs local:/s /mnt -o inotify,ro,rw");

	(void)state;
	assert_true(options.inotify);
	options_free(&options);
	bad("hpkvfs local:/s /mnt -o ro,inotify", "ro and inotify cannot be used together");
	bad("hpkvfs local:/s /mnt -o inotify,nosubscribe", "inotify cannot be used with nosubscribe");
	bad("hpkvfs local:/s /mnt -o inotify=1", "inotify takes no value");
	/* mount(8) repeats what stands in fstab */
	options = good("mount.hpkvfs local:/s /mnt -o inotify,remount,ro");
	assert_int_equal(options.action, OPTIONS_REMOUNT);
	options_free(&options);
}

static void test_what_mount_passes_is_ignored(void **state)
{
	struct options options =
		good("mount.hpkvfs local:/s /mnt -o "
		     "rw,defaults,_netdev,nofail,noauto,auto,user,user=ann,users,owner,group,x-systemd.automount,"
		     "X-mount.mkdir,x-a=b,comment=some,noatime,relatime,strictatime,lazytime,uhelper=hal,async");

	(void)state;
	assert_int_equal(options.action, OPTIONS_MOUNT);
	assert_int_equal(options.read_only, OFF);
	options_free(&options);
}

static void test_helper_switches(void **state)
{
	struct options options = good("/sbin/mount.hpkvfs local:/s /mnt -fnvs -t hpkvfs -o no_such_option=1,ro -N /n");

	(void)state;
	assert_true(options.helper && options.sloppy);
	assert_false(options.foreground);
	assert_int_equal(options.action, OPTIONS_FAKE);
	assert_int_equal(options.read_only, ON);
	assert_string_equal(options.mount_namespace, "/n");
	options_free(&options);
	/* -s behind the options counts as well */
	options = good("mount.hpkvfs local:/s /mnt -o no_such_option -s");
	options_free(&options);
	bad("mount.hpkvfs local:/s /mnt -d", "unknown switch: -d");
	bad("mount.hpkvfs local:/s /mnt -t", "-t needs a value");
	/* a fake remount is a fake */
	options = good("mount.hpkvfs local:/s /mnt -f -o remount,ro");
	assert_int_equal(options.action, OPTIONS_FAKE);
	options_free(&options);
}

static void test_person_switches(void **state)
{
	struct options options = good("hpkvfs -f local:/s /mnt");

	(void)state;
	assert_true(options.foreground);
	assert_false(options.debug);
	assert_int_equal(options.action, OPTIONS_MOUNT);
	options_free(&options);
	options = good("hpkvfs local:/s /mnt -d");
	assert_true(options.foreground && options.debug);
	options_free(&options);
	bad("hpkvfs local:/s /mnt -s", "unknown switch: -s");
	bad("hpkvfs local:/s /mnt --foreground", "unknown switch: --foreground");
}

static void test_words(void **state)
{
	(void)state;
	bad("hpkvfs", "SPEC is missing");
	bad("hpkvfs local:/s", "DIR is missing");
	bad("hpkvfs local:/s /mnt more", "more");
	bad("hpkvfs nonsense /mnt", "URL");
	bad("hpkvfs ftp://host /mnt", "URL");
	bad("hpkvfs http://host.example /mnt", "insecure");
}

static void test_help_version_remount(void **state)
{
	struct options options = good("hpkvfs --help");

	(void)state;
	assert_int_equal(options.action, OPTIONS_HELP);
	options_free(&options);
	options = good("mount.hpkvfs -V");
	assert_int_equal(options.action, OPTIONS_VERSION);
	options_free(&options);
	/* SPEC is not looked at: mount(8) takes it from anywhere */
	options = good("mount.hpkvfs none /mnt -o remount,ro,nosuid");
	assert_int_equal(options.action, OPTIONS_REMOUNT);
	assert_int_equal(options.read_only, ON);
	assert_int_equal(options.suid, OFF);
	assert_int_equal(options.dev, UNSET);
	options_free(&options);
	bad("mount.hpkvfs none /mnt -o remount,no_such_option", "unknown option: no_such_option");
}

static void test_names_of_users(void **state)
{
	struct options options = good("hpkvfs local:/s /mnt -o uid=root,gid=root");

	(void)state;
	assert_int_equal(options.uid, 0);
	assert_int_equal(options.gid, 0);
	options_free(&options);
}

/* --- fsck.hpkvfs --- */

static int parse_fsck(struct fsck_options *options, const char *line, char *copy)
{
	char *argv[WORDS_MAX + 1] = { NULL };
	int argc = split(line, copy, argv);

	return fsck_options_parse(options, argc, argv);
}

static void test_fsck(void **state)
{
	static const struct {
		const char *line;
		enum fsck_mode mode;
	} good_lines[] = {
		{ "fsck.hpkvfs local:/s", FSCK_ASK },
		{ "fsck.hpkvfs -n local:/s", FSCK_LOOK },
		{ "fsck.hpkvfs local:/s -y -f -t -r", FSCK_ALL },
		{ "fsck.hpkvfs -a -C0 local:/s", FSCK_SAFE },
		{ "fsck.hpkvfs -a -p -C 1 local:/s", FSCK_SAFE },
		{ "fsck.hpkvfs -o prefix=p/,uid=7,ro,_netdev local:/s -o rate=2.5,timeout=3", FSCK_ASK },
	};
	static const char *const bad_lines[] = {
		"fsck.hpkvfs",
		"fsck.hpkvfs local:/s more",
		"fsck.hpkvfs -y -n local:/s",
		"fsck.hpkvfs -a -y local:/s",
		"fsck.hpkvfs local:/s -C",
		"fsck.hpkvfs -x local:/s",
		"fsck.hpkvfs local:/s -o no_such_option",
		"fsck.hpkvfs http://host.example",
	};
	struct fsck_options options;
	char copy[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(good_lines) / sizeof(good_lines[0]); i++) {
		assert_int_equal(parse_fsck(&options, good_lines[i].line, copy), FSCK_OK);
		assert_int_equal(options.mode, good_lines[i].mode);
		assert_string_equal(options.store.spec, "local:/s");
		assert_int_equal(options.store.max_value, 1 << 20);
		if (i == 5) {
			assert_string_equal(options.store.prefix, "p/");
			assert_int_equal(options.store.rate_micro, 2500000);
			assert_int_equal(options.store.timeout_us, 3000000);
		}
		options_free(&options.store);
	}
	for (size_t i = 0; i < sizeof(bad_lines) / sizeof(bad_lines[0]); i++) {
		assert_int_equal(parse_fsck(&options, bad_lines[i], copy), FSCK_USAGE);
		assert_non_null(options.store.error);
		options_free(&options.store);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_limits_of_local),
		cmocka_unit_test(test_every_option),
		cmocka_unit_test(test_rate_auto_after_a_number),
		cmocka_unit_test(test_local_has_larger_values),
		cmocka_unit_test(test_the_last_one_counts),
		cmocka_unit_test(test_commas_in_values),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_inotify),
		cmocka_unit_test(test_what_mount_passes_is_ignored),
		cmocka_unit_test(test_helper_switches),
		cmocka_unit_test(test_person_switches),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_help_version_remount),
		cmocka_unit_test(test_names_of_users),
		cmocka_unit_test(test_fsck),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
