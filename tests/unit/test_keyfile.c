/* Where an API key may come from, and what is refused. */
#include "base/keyfile.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "fail_alloc.h"
#include "unit.h"

static char folder[] = "/tmp/hpkvfs-test-keyfile-XXXXXX";
static char path[sizeof(folder) + 20];

static int set_up(void **state)
{
	(void)state;
	unsetenv("HPKV_API_KEY");
	unsetenv("CREDENTIALS_DIRECTORY");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/hpkv_api_key", folder);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

static void write_file(struct str content, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content.p, content.len), (ssize_t)content.len);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void assert_found(const char *file, const char *expected)
{
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	char *key = NULL;

	if (keyfile_find(file, &key, &why))
		fail_msg("%s", buf_str(&why).p);
	assert_string_equal(key, expected);
	assert_int_equal(why.len, 0);
	keyfile_free(key);
}

/* The reason is one line, names what was read, and does not hold it. */
static void assert_refused(const char *file, int err, const char *name)
{
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	char *key = NULL;

	assert_int_equal(keyfile_find(file, &key, &why), err);
	assert_null(key);
	assert_non_null(strstr(buf_str(&why).p, name));
	assert_null(strchr(why.p, '\n'));
	assert_null(strstr(why.p, "sesame"));
}

static void a_file(void **state)
{
	char longest[KEYFILE_MAX_KEY + 1] = "";

	(void)state;
	write_file(STR("key"), 0600);
	assert_found(path, "key");
	write_file(STR(" \t\r\n!key~ \r\n\n"), 0400);
	assert_found(path, "!key~");
	memset(longest, 'k', KEYFILE_MAX_KEY);
	write_file(str_c(longest), 0600);
	assert_found(path, longest);
}

static void contents_that_are_refused(void **state)
{
	static const struct str cases[] = {
		{ "", 0 },
		{ " \n\r\n", 4 },
		{ "sesame open", 11 },
		{ "sesame\nopen\n", 12 },
		{ "sesame\topen", 11 },
		{ "sesame\0open", 11 },
		{ "sesame\x7f", 7 },
		{ "sesame\xc3\xa9", 8 },
	};
	char too_long[5000];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_file(cases[i], 0600);
		assert_refused(path, -EINVAL, path);
	}
	memset(too_long, 'k', sizeof(too_long));
	write_file(str_of(too_long, KEYFILE_MAX_KEY + 1), 0600);
	assert_refused(path, -EINVAL, path);
	write_file(str_of(too_long, sizeof(too_long)), 0600);
	assert_refused(path, -EINVAL, path);
}

static void files_that_are_refused(void **state)
{
	static const mode_t modes[] = { 0640, 0620, 0610, 0604, 0602, 0601, 0666 };

	(void)state;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		write_file(STR("sesame"), modes[i]);
		assert_refused(path, -EACCES, "chmod 600");
	}
	unlink(path);
	assert_refused(path, -ENOENT, path);
	assert_refused(folder, -EINVAL, folder);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_refused(path, -EINVAL, path);
	unlink(path);
}

static void the_environment(void **state)
{
	char *value;

	(void)state;
	setenv("HPKV_API_KEY", " of-environment\n", 1);
	value = getenv("HPKV_API_KEY");
	assert_found(NULL, "of-environment");
	assert_null(getenv("HPKV_API_KEY"));
	assert_int_equal(*value, '\0'); /* what /proc/PID/environ shows */
	setenv("HPKV_API_KEY", "two words", 1);
	assert_refused(NULL, -EINVAL, "HPKV_API_KEY");
	assert_null(getenv("HPKV_API_KEY"));
}

static void their_order(void **state)
{
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	char *key = NULL;

	(void)state;
	assert_int_equal(keyfile_find(NULL, &key, &why), -ENOENT);
	assert_int_equal(why.len, 0);
	setenv("CREDENTIALS_DIRECTORY", folder, 1);
	assert_int_equal(keyfile_find(NULL, &key, &why), -ENOENT);
	assert_int_equal(why.len, 0);
	write_file(STR("of-file"), 0440); /* systemd guards the directory */
	assert_found(NULL, "of-file");
	setenv("HPKV_API_KEY", "of-environment", 1);
	assert_found(NULL, "of-environment");
	write_file(STR("of-file"), 0600);
	setenv("HPKV_API_KEY", "of-environment", 1);
	assert_found(path, "of-file");
	assert_null(getenv("HPKV_API_KEY"));
	unsetenv("CREDENTIALS_DIRECTORY");
}

static int find_once(const char *file)
{
	CLEANUP(buf_free) struct buf why = BUF_INIT;
	char *key = NULL;
	int r = keyfile_find(file, &key, &why);

	keyfile_free(key);
	return r;
}

static void out_of_memory(void **state)
{
	(void)state;
	write_file(STR("key"), 0600);
	assert_survives_failures(find_once(path), (void)0);
	setenv("CREDENTIALS_DIRECTORY", folder, 1);
	assert_survives_failures(find_once(NULL), (void)0);
	unsetenv("CREDENTIALS_DIRECTORY");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file),
		cmocka_unit_test(contents_that_are_refused),
		cmocka_unit_test(files_that_are_refused),
		cmocka_unit_test(the_environment),
		cmocka_unit_test(their_order),
		cmocka_unit_test(out_of_memory),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
