/* The state file: what is remembered, across opens, next to other processes, and when the file is no good. */
#include "fs/state.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fail_alloc.h"
#include "unit.h"

#define HASH_A "0123456789abcdef0123456789abcdef"
#define HASH_B "fedcba9876543210fedcba9876543210"
#define WAIT_TRIES 3000
#define WAIT_US 10000

static char folder[] = "/tmp/test_state.XXXXXX";
static char path[48];

/* Each test has the folder for itself. */
static int make_folder(void **state)
{
	(void)state;
	strcpy(folder + strlen(folder) - 6, "XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/a/b/state", folder);
	return 0;
}

static int remove_folder(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static struct state *open_rows(const char *file, const char *url, const char *prefix, size_t max_rows)
{
	struct state_config config = { file, str_c(url), str_c(prefix), max_rows };
	struct state *s = NULL;

	assert_int_equal(state_open(&config, &s), 0);
	return s;
}

static struct state *open_state(void)
{
	struct state *s = open_rows(path, "http://h", "p/", 0);

	assert_true(state_is_stored(s));
	return s;
}

static void assert_mtime(struct state *s, const char *key, const char *hash, int64_t expected)
{
	int64_t mtime = 0;

	assert_true(state_find(s, str_c(key), hash, &mtime));
	assert_true(mtime == expected);
}

static void assert_none(struct state *s, const char *key)
{
	struct state_row row;

	assert_false(state_get(s, str_c(key), &row));
}

/* --- in memory --- */

static void test_memory(void **state)
{
	struct state *s = open_rows(NULL, "", "", 0);
	struct state_row row;
	int64_t mtime = 7;

	(void)state;
	assert_false(state_is_stored(s));
	assert_false(state_find(s, STR("k"), HASH_A, &mtime));
	state_put(s, STR("k"), HASH_A, -5);
	assert_mtime(s, "k", HASH_A, -5);
	assert_false(state_find(s, STR("k"), HASH_B, &mtime));
	assert_false(state_find(s, STR("k"), "", &mtime));
	assert_int_equal(mtime, 7);
	state_put(s, STR("k"), HASH_B, 6);
	assert_mtime(s, "k", HASH_B, 6);
	assert_false(state_find(s, STR("k"), HASH_A, &mtime));
	state_put(s, STR("d/"), "", 8);
	assert_mtime(s, "d/", "", 8);

	/* Numbers and times come and go apart. */
	state_put_ino(s, STR("k"), 99);
	state_put_ino(s, STR("only"), UINT64_MAX);
	assert_true(state_get(s, STR("k"), &row));
	assert_string_equal(row.hash, HASH_B);
	assert_true(row.has_mtime && row.mtime_ns == 6 && row.ino == 99);
	assert_true(state_get(s, STR("only"), &row));
	assert_true(!row.has_mtime && row.ino == UINT64_MAX);
	assert_false(state_find(s, STR("only"), "", &mtime));
	state_put(s, STR("k"), HASH_A, 10);
	assert_true(state_get(s, STR("k"), &row));
	assert_int_equal(row.ino, 99);
	state_put(s, STR("k"), "", 11);
	assert_mtime(s, "k", "", 11);
	state_remove(s, STR("k"));
	state_remove(s, STR("k"));
	assert_none(s, "k");
	state_put_ino(s, STR("none"), 0);
	assert_none(s, "none");
	state_close(s);
	state_close(NULL);
}

static void test_rename(void **state)
{
	struct state *s = open_rows(NULL, "", "", 0);
	struct state_row row;

	(void)state;
	state_put(s, STR("a"), HASH_A, 1);
	state_put_ino(s, STR("a"), 11);
	state_put(s, STR("b"), HASH_B, 2);
	state_rename(s, STR("a"), STR("b"));
	assert_none(s, "a");
	assert_true(state_get(s, STR("b"), &row));
	assert_true(row.mtime_ns == 1 && row.ino == 11);
	state_rename(s, STR("b"), STR("b"));
	assert_mtime(s, "b", HASH_A, 1);
	state_rename(s, STR("none"), STR("b"));
	assert_none(s, "b");

	state_put(s, STR("d/"), "", 1);
	state_put(s, STR("d/x"), HASH_A, 2);
	state_put(s, STR("d/y/z"), HASH_A, 3);
	state_put(s, STR("d"), HASH_A, 4);
	state_put(s, STR("d0"), HASH_A, 5);
	state_put(s, STR("e/x"), HASH_B, 6);
	state_put(s, STR("e/old"), HASH_B, 7);
	state_put(s, STR("e"), HASH_B, 8);
	state_rename_prefix(s, STR("d/"), STR("e/"));
	assert_mtime(s, "e/", "", 1);
	assert_mtime(s, "e/x", HASH_A, 2);
	assert_mtime(s, "e/y/z", HASH_A, 3);
	assert_mtime(s, "d", HASH_A, 4);
	assert_mtime(s, "d0", HASH_A, 5);
	assert_mtime(s, "e", HASH_B, 8);
	assert_none(s, "e/old");
	assert_none(s, "d/");
	assert_none(s, "d/x");
	assert_none(s, "d/y/z");
	state_rename_prefix(s, STR("e/"), STR("e/y/"));
	assert_mtime(s, "e/x", HASH_A, 2);
	state_close(s);
}

static void test_bound(void **state)
{
	struct state *s = open_rows(NULL, "", "", 3);

	(void)state;
	state_put(s, STR("1"), HASH_A, 1);
	state_put(s, STR("2"), HASH_A, 2);
	state_put(s, STR("3"), HASH_A, 3);
	state_put(s, STR("1"), HASH_A, 4);
	state_put(s, STR("2"), HASH_A, 2); /* says nothing new, so it does not count */
	state_put(s, STR("4"), HASH_A, 5);
	assert_none(s, "2");
	assert_mtime(s, "1", HASH_A, 4);
	assert_mtime(s, "3", HASH_A, 3);
	assert_mtime(s, "4", HASH_A, 5);
	state_close(s);
}

static void test_no_memory(void **state)
{
	struct state_config config = { NULL, STR(""), STR(""), 0 };
	struct state *s = NULL;

	(void)state;
	assert_survives_failures(state_open(&config, &s), (state_close(s), s = NULL));
	/* A row is lost, no more. */
	s = open_rows(NULL, "", "", 0);
	state_put(s, STR("a"), HASH_A, 1);
	fail_alloc_at(1);
	state_put(s, STR("b"), HASH_A, 1);
	assert_true(fail_alloc_end());
	assert_none(s, "b");
	fail_alloc_at(1);
	state_put_ino(s, STR("b"), 1);
	assert_true(fail_alloc_end());
	assert_none(s, "b");
	fail_alloc_at(1);
	state_rename(s, STR("a"), STR("c"));
	assert_true(fail_alloc_end());
	assert_none(s, "a");
	assert_none(s, "c");
	state_put(s, STR("d/a"), HASH_A, 1);
	fail_alloc_at(1);
	state_rename_prefix(s, STR("d/"), STR("e/"));
	assert_true(fail_alloc_end());
	assert_none(s, "d/a");
	assert_none(s, "e/a");
	state_close(s);
}

/* --- in the file --- */

static void test_reopen(void **state)
{
	struct str odd = STR("p/nul\0\xc3\xa4\n");
	struct state *s = open_state();
	struct state_row row;
	int64_t mtime;

	(void)state;
	state_put(s, STR("p/a"), HASH_A, 1790000000123456789);
	state_put_ino(s, STR("p/a"), UINT64_MAX);
	state_put_ino(s, STR("p/i"), 5);
	state_put(s, STR("p/d/"), "", -1);
	state_put(s, odd, HASH_B, 0);
	state_put(s, STR(""), HASH_B, 3);
	state_put(s, STR("p/gone"), HASH_A, 1);
	state_remove(s, STR("p/gone"));
	state_put(s, STR("p/back"), HASH_A, 1);
	state_remove(s, STR("p/back"));
	state_put(s, STR("p/back"), HASH_B, 2);
	state_close(s);

	s = open_state();
	assert_mtime(s, "p/a", HASH_A, 1790000000123456789);
	assert_true(state_get(s, STR("p/a"), &row));
	assert_true(row.ino == UINT64_MAX);
	assert_true(state_get(s, STR("p/i"), &row));
	assert_true(!row.has_mtime && row.ino == 5 && row.hash[0] == '\0');
	assert_mtime(s, "p/d/", "", -1);
	assert_true(state_find(s, odd, HASH_B, &mtime));
	assert_mtime(s, "", HASH_B, 3);
	assert_none(s, "p/gone");
	assert_mtime(s, "p/back", HASH_B, 2);
	state_remove(s, STR("p/a"));
	state_rename_prefix(s, STR("p/d/"), STR("p/e/"));
	state_close(s);

	s = open_state();
	assert_none(s, "p/a");
	assert_none(s, "p/d/");
	assert_mtime(s, "p/e/", "", -1);
	state_close(s);
}

static void test_apart(void **state)
{
	struct state *a = open_state();
	struct state *b = open_rows(path, "http://h", "q/", 0);
	struct state *c = open_rows(path, "http://other", "p/", 0);

	(void)state;
	state_put(a, STR("k"), HASH_A, 1);
	state_put(b, STR("k"), HASH_A, 2);
	state_put(c, STR("k"), HASH_A, 3);
	state_close(a);
	state_close(b);
	state_close(c);
	a = open_state();
	assert_mtime(a, "k", HASH_A, 1);
	state_close(a);
	b = open_rows(path, "http://h", "q/", 0);
	assert_mtime(b, "k", HASH_A, 2);
	state_close(b);
	c = open_rows(path, "http://other", "p/", 0);
	assert_mtime(c, "k", HASH_A, 3);
	state_close(c);
}

/* Two mounts of one thing: what each put is there. */
static void test_shared(void **state)
{
	struct state *a = open_state();
	struct state *b = open_state();
	char key[32];

	(void)state;
	for (int i = 0; i < 500; i++) {
		snprintf(key, sizeof(key), "a%d", i);
		state_put(a, str_c(key), HASH_A, i);
		snprintf(key, sizeof(key), "b%d", i);
		state_put(b, str_c(key), HASH_B, i);
	}
	state_close(a);
	state_close(b);
	a = open_state();
	for (int i = 0; i < 500; i++) {
		snprintf(key, sizeof(key), "a%d", i);
		assert_mtime(a, key, HASH_A, i);
		snprintf(key, sizeof(key), "b%d", i);
		assert_mtime(a, key, HASH_B, i);
	}
	state_close(a);
}

static void test_bound_in_file(void **state)
{
	struct state *s = open_rows(path, "http://h", "p/", 100);
	char key[32];

	(void)state;
	for (int i = 0; i < 150; i++) {
		snprintf(key, sizeof(key), "%d", i);
		state_put(s, str_c(key), HASH_A, i);
	}
	state_close(s);
	s = open_state();
	assert_none(s, "49");
	assert_mtime(s, "50", HASH_A, 50);
	assert_mtime(s, "149", HASH_A, 149);
	state_close(s);
	/* Of more rows than are wanted the latest are loaded; the oldest of them is the first to go. */
	s = open_rows(path, "http://h", "p/", 10);
	assert_none(s, "139");
	assert_mtime(s, "140", HASH_A, 140);
	state_put(s, STR("new"), HASH_A, 1);
	assert_none(s, "140");
	assert_mtime(s, "141", HASH_A, 141);
	state_close(s);
	s = open_state();
	assert_none(s, "139");
	assert_none(s, "140");
	assert_mtime(s, "141", HASH_A, 141);
	state_close(s);
}

static void test_modes(void **state)
{
	struct stat st;
	char name[64];
	mode_t old = umask(0);

	(void)state;
	state_close(open_state());
	umask(old);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	snprintf(name, sizeof(name), "%s/a", folder);
	assert_int_equal(stat(name, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	snprintf(name, sizeof(name), "%s/a/b", folder);
	assert_int_equal(stat(name, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	/* A file that others could read is closed to them. */
	assert_int_equal(chmod(path, 0644), 0);
	state_close(open_state());
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static sqlite3 *open_sqlite(void)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 10000);
	return db;
}

static int count_rows(sqlite3 *db)
{
	sqlite3_stmt *stmt;
	int count;

	assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM entry", -1, &stmt, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	count = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	return count;
}

static void wait_for_rows(sqlite3 *db, int expected)
{
	for (int i = 0; i < WAIT_TRIES && count_rows(db) != expected; i++)
		usleep(WAIT_US);
	assert_int_equal(count_rows(db), expected);
}

/* It is written while the mount runs, not only at its end; and again after that. */
static void test_written_meanwhile(void **state)
{
	struct state *s = open_state();
	sqlite3 *db = open_sqlite();

	(void)state;
	state_put(s, STR("1"), HASH_A, 1);
	state_put(s, STR("2"), HASH_A, 1);
	wait_for_rows(db, 2);
	state_put(s, STR("1"), HASH_A, 2);
	state_put(s, STR("3"), HASH_A, 2);
	wait_for_rows(db, 3);
	state_remove(s, STR("2"));
	wait_for_rows(db, 2);
	state_close(s);
	sqlite3_close(db);
	s = open_state();
	assert_mtime(s, "1", HASH_A, 2);
	assert_none(s, "2");
	state_close(s);
}

/* --- when the file is no good --- */

/* A state that could not use its file works all the same. */
static void assert_memory_only(void)
{
	struct state *s = open_rows(path, "http://h", "p/", 0);

	assert_false(state_is_stored(s));
	state_put(s, STR("k"), HASH_A, 1);
	assert_mtime(s, "k", HASH_A, 1);
	state_remove(s, STR("k"));
	state_close(s);
}

static void write_file(const char *name, const char *text)
{
	FILE *file = fopen(name, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void test_unusable(void **state)
{
	char name[64];

	(void)state;
	snprintf(name, sizeof(name), "%s/a", folder);
	write_file(name, "a file where a folder should be");
	assert_memory_only();
	assert_int_equal(unlink(name), 0);
	state_close(open_state());
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_memory_only();
	strcpy(path, "");
	assert_memory_only();
}

static void test_not_a_database(void **state)
{
	struct state *s = open_state();
	char name[64], text[64] = "";
	FILE *file;

	(void)state;
	state_put(s, STR("k"), HASH_A, 1);
	state_close(s);
	write_file(path, "This was a list of mtimes once, and it is none any more.\n");
	s = open_state();
	assert_none(s, "k");
	state_put(s, STR("k"), HASH_A, 2);
	state_close(s);
	s = open_state();
	assert_mtime(s, "k", HASH_A, 2);
	state_close(s);
	snprintf(name, sizeof(name), "%s.damaged", path);
	file = fopen(name, "r");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	assert_string_equal(text, "This was a list of mtimes once, and it is none any more.\n");
}

/* A database with pages overwritten from `first` on. */
static void check_damaged_pages(off_t first)
{
	struct state *s = open_state();
	char key[32], page[4096], name[64];
	int fd;

	for (int i = 0; i < 2000; i++) {
		snprintf(key, sizeof(key), "key number %d", i);
		state_put(s, str_c(key), HASH_A, i);
	}
	state_close(s);
	memset(page, 0xa5, sizeof(page));
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	for (off_t at = first * (off_t)sizeof(page); at < 60 * (off_t)sizeof(page); at += (off_t)sizeof(page))
		assert_int_equal(pwrite(fd, page, sizeof(page), at), sizeof(page));
	close(fd);
	s = open_state();
	assert_none(s, "key number 1999");
	state_put(s, STR("k"), HASH_A, 2);
	state_close(s);
	s = open_state();
	assert_mtime(s, "k", HASH_A, 2);
	state_close(s);
	snprintf(name, sizeof(name), "%s.damaged", path);
	assert_int_equal(access(name, F_OK), 0);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(unlink(path), 0);
}

/* Damage that opening shows, and damage that only reading the rows does. */
static void test_damaged_pages(void **state)
{
	(void)state;
	check_damaged_pages(1);
	check_damaged_pages(40);
}

static void test_newer(void **state)
{
	sqlite3 *db;

	(void)state;
	state_close(open_state());
	db = open_sqlite();
	assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 2; DROP TABLE entry;", NULL, NULL, NULL), SQLITE_OK);
	assert_memory_only();
	assert_int_equal(sqlite3_exec(db, "CREATE TABLE entry (x)", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void test_locked_at_open(void **state)
{
	sqlite3 *db;

	(void)state;
	state_close(open_state());
	db = open_sqlite();
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_memory_only();
	assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	state_close(open_state());
}

/* Longer than the worker waits for a lock: nothing is lost, the later change of a key is the one that stays. */
static void test_locked_for_long(void **state)
{
	struct state *s = open_state();
	sqlite3 *db = open_sqlite();

	(void)state;
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	state_put(s, STR("1"), HASH_A, 1);
	state_put(s, STR("2"), HASH_A, 1);
	usleep(3500000);
	state_put(s, STR("1"), HASH_B, 2);
	state_remove(s, STR("2"));
	state_put(s, STR("3"), HASH_B, 2);
	assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	wait_for_rows(db, 2);
	assert_true(state_is_stored(s));
	state_close(s);
	sqlite3_close(db);
	s = open_state();
	assert_mtime(s, "1", HASH_B, 2);
	assert_none(s, "2");
	assert_mtime(s, "3", HASH_B, 2);
	state_close(s);
}

/* --- against a model --- */

#define MODEL_KEYS 12

struct model {
	char key[8];
	struct state_row row;
	bool there;
};

static void check_model(struct state *s, const struct model *model)
{
	for (size_t i = 0; i < MODEL_KEYS; i++) {
		struct state_row row = { 0 };

		assert_int_equal(state_get(s, str_c(model[i].key), &row), model[i].there);
		if (!model[i].there)
			continue;
		assert_string_equal(row.hash, model[i].row.hash);
		assert_true(row.has_mtime == model[i].row.has_mtime && row.mtime_ns == model[i].row.mtime_ns &&
			    row.ino == model[i].row.ino);
	}
}

static void change(struct state *s, struct model *model, uint64_t *seed)
{
	struct model *a = &model[unit_below(seed, MODEL_KEYS)], *b = &model[unit_below(seed, MODEL_KEYS)];
	const char *hash = unit_below(seed, 2) ? HASH_A : HASH_B;
	int64_t mtime = (int64_t)unit_below(seed, 4);

	switch (unit_below(seed, 6)) {
	case 0:
		state_remove(s, str_c(a->key));
		*a = (struct model){ .there = false, .key[0] = a->key[0], .key[1] = a->key[1], .key[2] = a->key[2] };
		break;
	case 1:
		state_rename(s, str_c(a->key), str_c(b->key));
		if (a == b)
			break;
		b->row = a->row;
		b->there = a->there;
		a->there = false;
		a->row = (struct state_row){ 0 };
		break;
	case 2:
		state_put_ino(s, str_c(a->key), (uint64_t)mtime);
		a->row.ino = (uint64_t)mtime;
		a->there = a->there || mtime;
		break;
	case 3:
		/* Half of the keys are below x/, with names that the others have below y/. */
		state_rename_prefix(s, STR("x/"), STR("y/"));
		for (size_t i = 0; i < MODEL_KEYS / 2; i++) {
			model[i + MODEL_KEYS / 2].row = model[i].row;
			model[i + MODEL_KEYS / 2].there = model[i].there;
			model[i].there = false;
			model[i].row = (struct state_row){ 0 };
		}
		break;
	default:
		state_put(s, str_c(a->key), hash, mtime);
		strcpy(a->row.hash, hash);
		a->row.mtime_ns = mtime;
		a->row.has_mtime = true;
		a->there = true;
	}
}

static void test_model(void **state)
{
	struct model model[MODEL_KEYS] = { 0 };
	uint64_t seed = 7;
	struct state *s;

	(void)state;
	for (size_t i = 0; i < MODEL_KEYS; i++)
		snprintf(model[i].key, sizeof(model[i].key), "%c/%c", i < MODEL_KEYS / 2 ? 'x' : 'y',
			 (char)('a' + i % (MODEL_KEYS / 2)));
	s = open_state();
	for (int i = 0; i < 3000; i++) {
		change(s, model, &seed);
		check_model(s, model);
		if (i % 100 == 99) {
			state_close(s);
			s = open_state();
			check_model(s, model);
		}
	}
	state_close(s);
}

#define STATE_TEST(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory),   cmocka_unit_test(test_rename),
		cmocka_unit_test(test_bound),    cmocka_unit_test(test_no_memory),
		STATE_TEST(test_reopen),         STATE_TEST(test_apart),
		STATE_TEST(test_shared),         STATE_TEST(test_bound_in_file),
		STATE_TEST(test_modes),          STATE_TEST(test_written_meanwhile),
		STATE_TEST(test_unusable),       STATE_TEST(test_not_a_database),
		STATE_TEST(test_damaged_pages),  STATE_TEST(test_newer),
		STATE_TEST(test_locked_at_open), STATE_TEST(test_locked_for_long),
		STATE_TEST(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
