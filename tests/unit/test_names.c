/* Names and keys: golden pairs, then the property that they are one to one, over every short string of the characters that
 * matter and over random byte strings. */
#include "fs/names.h"

#include "base/utf8.h"
#include "fail_alloc.h"
#include "unit.h"

#define ROOMY 4096

static const char alphabet[] = { '%', '2', '5', '-', '.', '=', '0', '/', 'a', '\0', 'F' };

static struct names_rules rules_with(char delimiter)
{
	return (struct names_rules){ .delimiter = delimiter, .prefix = STR(""), .max_key = ROOMY };
}

/* --- golden --- */

struct pair {
	char delimiter;
	struct str segment;
	struct str name;
};

#define S(literal)                             \
	{                                      \
		(literal), sizeof(literal) - 1 \
	}

static const struct pair pairs[] = {
	{ '/', S("plain.txt"), S("plain.txt") },
	{ '/', S(""), S("%-") },
	{ '/', S("."), S("%.") },
	{ '/', S(".."), S("%..") },
	{ '/', S("..."), S("...") },
	{ '/', S("%"), S("%") },
	{ '/', S("%-"), S("%25-") },
	{ '/', S("%25-"), S("%2525-") },
	{ '/', S("%."), S("%25.") },
	{ '/', S("%.."), S("%25..") },
	{ '/', S("%..."), S("%...") },
	{ '/', S("%="), S("%25=") },
	{ '/', S("%=="), S("%==") },
	{ '/', S("a%="), S("a%=") },
	{ '/', S("%-x"), S("%-x") },
	{ '/', S("%25"), S("%25") },
	{ '/', S("%41"), S("%41") },
	{ '/', S("%2F"), S("%2F") },
	{ '/', S("%2f"), S("%2f") },
	{ '/', S("\0"), S("%00") },
	{ '/', S("a\0b"), S("a%00b") },
	{ '/', S("%00"), S("%2500") },
	{ '/', S("x%2500y"), S("x%252500y") },
	{ '/', S("%\0"), S("%%00") },
	{ '/', S("%25\0"), S("%25%00") },
	{ '/', S("100%"), S("100%") },
	{ '/', S("a\nb\tc "), S("a\nb\tc ") },
	{ '/', S("gr\xc3\xbc\xc3\x9f"), S("gr\xc3\xbc\xc3\x9f") },
	{ '/', S("a:b"), S("a:b") },
	{ ':', S("a/b"), S("a%2Fb") },
	{ ':', S("/"), S("%2F") },
	{ ':', S("%2F"), S("%252F") },
	{ ':', S("%2f"), S("%2f") },
	{ ':', S("%252F/"), S("%25252F%2F") },
	{ ':', S("%/"), S("%%2F") },
	{ ':', S(""), S("%-") },
	{ ':', S(".."), S("%..") },
	{ '.', S(""), S("%-") },
	{ '.', S("a/b"), S("a%2Fb") },
	{ '=', S("%-"), S("%25-") },
};

static void test_pairs(void **state)
{
	struct buf out = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct names_rules rules = rules_with(pairs[i].delimiter);

		assert_int_equal(names_name_from_segment(&rules, pairs[i].segment, &out), 0);
		assert_str(buf_str(&out), pairs[i].name);
		assert_int_equal(names_segment_from_name(&rules, pairs[i].name, &out), 0);
		assert_str(buf_str(&out), pairs[i].segment);
		assert_true(names_valid(&rules, pairs[i].name));
	}
	buf_free(&out);
}

static void test_bad_names(void **state)
{
	static const struct {
		char delimiter;
		struct str name;
		int rc;
	} cases[] = {
		{ '/', S(""), -EINVAL },         { '/', S("."), -EINVAL },
		{ '/', S(".."), -EINVAL },       { '/', S("a/b"), -EINVAL },
		{ '/', S("a\0b"), -EINVAL },     { '/', S("%="), -EINVAL },
		{ '/', S("\xff"), -EILSEQ },     { '/', S("a\xc3"), -EILSEQ },
		{ '/', S("\xc0\xaf"), -EILSEQ }, { '/', S("\xed\xa0\x80"), -EILSEQ },
		{ ':', S("a:b"), -EINVAL },      { ':', S("a/b"), -EINVAL },
		{ '.', S("a.b"), -EINVAL },      { '.', S("%."), -EINVAL },
	};
	struct buf out = BUF_INIT;

	(void)state;
	assert_int_equal(buf_add_str(&out, STR("kept")), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct names_rules rules = rules_with(cases[i].delimiter);

		assert_int_equal(names_segment_from_name(&rules, cases[i].name, &out), cases[i].rc);
		assert_false(names_valid(&rules, cases[i].name));
	}
	assert_int_equal(names_name_from_segment(&(struct names_rules){ .delimiter = ':' }, STR("a:b"), &out), -EINVAL);
	assert_int_equal(names_name_from_segment(&(struct names_rules){ .delimiter = ':' }, STR("\xfe"), &out),
			 -EILSEQ);
	assert_str(buf_str(&out), STR("kept"));
	assert_true(names_is_value(STR("%=")));
	assert_false(names_is_value(STR("%25=")));
	assert_false(names_is_value(STR("%")));
	buf_free(&out);
}

static void test_rules(void **state)
{
	struct names_rules rules = rules_with('/');

	(void)state;
	for (int c = 0; c < 256; c++) {
		bool usable = c > 0 && c < 128 && !strchr("%-025F", c);

		rules.delimiter = (char)c;
		assert_int_equal(names_rules_check(&rules), usable ? 0 : -EINVAL);
	}
	rules = rules_with('/');
	rules.prefix = STR("a\xff");
	assert_int_equal(names_rules_check(&rules), -EILSEQ);
	rules.prefix = STR("a\0b");
	assert_int_equal(names_rules_check(&rules), -EILSEQ);
	rules.prefix = STR("app/");
	rules.max_key = strlen("app/.hpkvfs/m/x/");
	assert_int_equal(names_rules_check(&rules), 0);
	rules.max_key--;
	assert_int_equal(names_rules_check(&rules), -ENAMETOOLONG);
}

/* --- one to one --- */

/* What the documentation says a name may be. */
static bool may_be_name(char delimiter, struct str s)
{
	return s.len > 0 && !str_equal(s, STR(".")) && !str_equal(s, STR("..")) && !str_equal(s, STR("%=")) &&
	       !memchr(s.p, 0, s.len) && !memchr(s.p, '/', s.len) && !memchr(s.p, delimiter, s.len) && utf8_valid(s);
}

/* What it says a path may be; sets *of_directory where it is the value of a key that is also a directory. */
static bool may_be_path(char delimiter, struct str path, bool *of_directory)
{
	size_t names = 0;

	*of_directory = false;
	for (;;) {
		const char *slash = path.len ? memchr(path.p, '/', path.len) : NULL;
		struct str name = slash ? str_of(path.p, (size_t)(slash - path.p)) : path;

		names++;
		if (!slash && names > 1 && str_equal(name, STR("%="))) {
			*of_directory = true;
			return true;
		}
		if (!may_be_name(delimiter, name))
			return false;
		if (!slash)
			return true;
		path = str_skip(path, name.len + 1);
	}
}

static void check_segment(const struct names_rules *rules, struct str s, struct buf *name, struct buf *back)
{
	bool valid = utf8_valid(s) && !(s.len && memchr(s.p, rules->delimiter, s.len));
	int rc = names_name_from_segment(rules, s, name);

	if (!valid) {
		assert_true(rc < 0 && rc != -ENOMEM);
		return;
	}
	assert_int_equal(rc, 0);
	assert_true(may_be_name(rules->delimiter, buf_str(name)));
	assert_int_equal(names_segment_from_name(rules, buf_str(name), back), 0);
	assert_str(buf_str(back), s);
}

static void check_name(const struct names_rules *rules, struct str s, struct buf *segment, struct buf *back)
{
	int rc = names_segment_from_name(rules, s, segment);

	if (!may_be_name(rules->delimiter, s)) {
		assert_true(rc < 0 && rc != -ENOMEM);
		return;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(names_name_from_segment(rules, buf_str(segment), back), 0);
	assert_str(buf_str(back), s);
}

static void check_key(const struct names_rules *rules, struct str key, struct buf *path, struct buf *back)
{
	bool of_directory;
	int rc = names_path_from_key(rules, key, false, path);

	if (key.len == 0 || !utf8_valid(key)) {
		assert_true(rc < 0 && rc != -ENOMEM);
		return;
	}
	assert_int_equal(rc, 0);
	assert_true(may_be_path(rules->delimiter, buf_str(path), &of_directory) && !of_directory);
	assert_int_equal(names_key_from_path(rules, buf_str(path), back), 0);
	assert_str(buf_str(back), key);
}

static void check_path(const struct names_rules *rules, struct str path, struct buf *key, struct buf *back)
{
	bool of_directory;
	int rc = names_key_from_path(rules, path, key);

	/* Without a prefix the empty key is no key: as a file, `%-` in the root is nothing. */
	if (!may_be_path(rules->delimiter, path, &of_directory) || str_equal(path, STR("%-")) ||
	    str_equal(path, STR("%-/%="))) {
		assert_true(rc < 0 && rc != -ENOMEM);
		return;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(names_path_from_key(rules, buf_str(key), of_directory, back), 0);
	assert_str(buf_str(back), path);
}

static void check_all(const struct names_rules *rules, struct str s, struct buf *a, struct buf *b)
{
	check_segment(rules, s, a, b);
	check_name(rules, s, a, b);
	check_key(rules, s, a, b);
	check_path(rules, s, a, b);
}

static void check_every(const struct names_rules *rules, size_t max_len)
{
	struct buf a = BUF_INIT, b = BUF_INIT;
	size_t digit[8];
	char text[8];

	for (size_t len = 0; len <= max_len; len++) {
		size_t at;

		memset(digit, 0, sizeof(digit));
		do {
			for (size_t i = 0; i < len; i++)
				text[i] = alphabet[digit[i]];
			check_all(rules, str_of(text, len), &a, &b);
			for (at = 0; at < len && ++digit[at] == sizeof(alphabet); at++)
				digit[at] = 0;
		} while (at < len);
	}
	buf_free(&a);
	buf_free(&b);
}

static void test_every_short_string(void **state)
{
	static const char delimiters[] = "/:.=a";

	(void)state;
	for (size_t i = 0; i < strlen(delimiters); i++) {
		struct names_rules rules = rules_with(delimiters[i]);

		assert_int_equal(names_rules_check(&rules), 0);
		check_every(&rules, delimiters[i] == ':' ? 6 : 5);
	}
}

/* Escapes guarded up to six times, alone and within more text. */
static void test_guards(void **state)
{
	static const char *const tails[] = { "-", ".", "..", "=", "2F", "00", "2", "5", "25", "" };
	static const char *const heads[] = { "", "a", "%", "%25", "." };
	struct buf s = BUF_INIT, a = BUF_INIT, b = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < 10 * 10 * 5 * 7; i++) {
		struct names_rules rules = rules_with(i % 2 ? '/' : ':');

		buf_clear(&s);
		assert_int_equal(buf_printf(&s, "%s%%", heads[i % 5]), 0);
		for (size_t guards = i / 5 % 7; guards > 0; guards--)
			assert_int_equal(buf_add_str(&s, STR("25")), 0);
		assert_int_equal(buf_printf(&s, "%s%s", tails[i / 35 % 10], i / 350 ? tails[i / 350] : ""), 0);
		check_all(&rules, buf_str(&s), &a, &b);
	}
	buf_free(&s);
	buf_free(&a);
	buf_free(&b);
}

static void random_string(uint64_t *seed, struct buf *out)
{
	static const char *const pieces[] = {
		"%",      "25", "2F", "00", "%25",      "%-",           "%.",
		"%=",     "..", "/",  ":",  "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
		".hpkvfs"
	};
	size_t count = unit_below(seed, 12);

	buf_clear(out);
	for (size_t i = 0; i < count; i++) {
		size_t kind = unit_below(seed, 100);
		int rc;

		if (kind < 60)
			rc = buf_add_str(out, str_c(pieces[unit_below(seed, sizeof(pieces) / sizeof(pieces[0]))]));
		else if (kind < 90)
			rc = buf_add_char(out, alphabet[unit_below(seed, sizeof(alphabet))]);
		else if (kind < 98)
			rc = buf_add_char(out, (char)unit_below(seed, 128));
		else
			rc = buf_add_char(out, (char)unit_below(seed, 256));
		assert_int_equal(rc, 0);
	}
}

static void test_random_strings(void **state)
{
	static const char delimiters[] = "/:.=|\n";
	struct buf s = BUF_INIT, a = BUF_INIT, b = BUF_INIT;
	uint64_t seed = 0x9e3779b97f4a7c15;

	(void)state;
	for (size_t i = 0; i < 100000; i++) {
		struct names_rules rules = rules_with(delimiters[i % strlen(delimiters)]);

		random_string(&seed, &s);
		check_all(&rules, buf_str(&s), &a, &b);
	}
	buf_free(&s);
	buf_free(&a);
	buf_free(&b);
}

/* --- records --- */

static int compare_buf(const void *a, const void *b)
{
	return str_compare(buf_str(a), buf_str(b));
}

/* No two files, and no file and directory, share a record. */
static void check_records(char delimiter)
{
	static const char *const names[] = { "%-", "%", "%%", "%25", "-", "=", "a", "%25-", "%.", "m", "%2F", "%25=" };
	enum {
		NAMES = sizeof(names) / sizeof(names[0])
	};
	struct names_rules rules = rules_with(delimiter);
	struct buf all[2 * (NAMES + NAMES * NAMES)] = { 0 };
	struct buf root = BUF_INIT, key = BUF_INIT, dir_key = BUF_INIT, dir = BUF_INIT;
	size_t count = 0;

	assert_int_equal(names_root_record(&rules, &root), 0);
	for (size_t i = 0; i < NAMES; i++) {
		if (!names_valid(&rules, str_c(names[i])))
			continue;
		if (strcmp(names[i], "%-") != 0)
			assert_int_equal(names_child(&rules, STR(""), buf_str(&root), str_c(names[i]), false, &key,
						     &all[count++]),
					 0);
		assert_int_equal(names_child(&rules, STR(""), buf_str(&root), str_c(names[i]), true, &dir_key, &dir),
				 0);
		assert_int_equal(buf_set(&all[count++], buf_str(&dir)), 0);
		for (size_t j = 0; j < 2 * NAMES; j++) {
			struct str name = str_c(names[j / 2]);

			if (names_valid(&rules, name))
				assert_int_equal(names_child(&rules, buf_str(&dir_key), buf_str(&dir), name, j % 2,
							     &key, &all[count++]),
						 0);
		}
	}
	qsort(all, count, sizeof(all[0]), compare_buf);
	for (size_t i = 1; i < count; i++)
		assert_false(str_equal(buf_str(&all[i - 1]), buf_str(&all[i])));
	assert_true(count > 40);
	for (size_t i = 0; i < count; i++)
		buf_free(&all[i]);
	buf_free(&root);
	buf_free(&key);
	buf_free(&dir_key);
	buf_free(&dir);
}

static void test_records_differ(void **state)
{
	(void)state;
	check_records('/');
	check_records(':');
	check_records('.');
	check_records('=');
	check_records('a');
}

static void test_child(void **state)
{
	struct names_rules rules = { .delimiter = ':', .prefix = STR("app:"), .max_key = 64 };
	struct buf key = BUF_INIT, record = BUF_INIT, dir_key = BUF_INIT, dir_record = BUF_INIT;

	(void)state;
	assert_int_equal(names_root_record(&rules, &dir_record), 0);
	assert_str(buf_str(&dir_record), STR("app:.hpkvfs/m/"));
	assert_int_equal(names_child(&rules, STR("app:"), buf_str(&dir_record), STR("a%2Fb"), false, &key, &record), 0);
	assert_str(buf_str(&key), STR("app:a/b"));
	assert_str(buf_str(&record), STR("app:.hpkvfs/m/a%2Fb"));

	/* Downwards, with the outputs in place of the inputs. */
	assert_int_equal(names_child(&rules, STR("app:"), buf_str(&dir_record), STR("%-"), true, &dir_key, &dir_record),
			 0);
	assert_str(buf_str(&dir_key), STR("app::"));
	assert_str(buf_str(&dir_record), STR("app:.hpkvfs/m/%-:"));
	assert_int_equal(
		names_child(&rules, buf_str(&dir_key), buf_str(&dir_record), STR("x"), true, &dir_key, &dir_record), 0);
	assert_str(buf_str(&dir_key), STR("app::x:"));
	assert_str(buf_str(&dir_record), STR("app:.hpkvfs/m/%-:x:"));

	/* The value of the directory's own key; either output may be left out. */
	assert_int_equal(names_child(&rules, buf_str(&dir_key), buf_str(&dir_record), STR("%="), false, &key, NULL), 0);
	assert_int_equal(names_child(&rules, buf_str(&dir_key), buf_str(&dir_record), STR("%="), false, NULL, &record),
			 0);
	assert_str(buf_str(&key), STR("app::x"));
	assert_str(buf_str(&record), STR("app:.hpkvfs/m/%-:x"));
	assert_int_equal(names_child(&rules, buf_str(&dir_key), buf_str(&dir_record), STR("%="), true, &key, NULL),
			 -EINVAL);
	assert_int_equal(names_child(&rules, STR("app:"), STR("app:.hpkvfs/m/"), STR("%="), false, &key, NULL),
			 -EINVAL);
	assert_int_equal(names_child(&rules, STR("app:"), STR("app:.hpkvfs/m/"), STR("a:b"), false, &key, NULL),
			 -EINVAL);
	assert_int_equal(names_child(&rules, STR("app:"), STR("app:.hpkvfs/m/"), STR("\xff"), false, &key, NULL),
			 -EILSEQ);
	assert_str(buf_str(&key), STR("app::x"));
	buf_free(&key);
	buf_free(&record);
	buf_free(&dir_key);
	buf_free(&dir_record);
}

static void test_empty_key(void **state)
{
	struct names_rules rules = rules_with('/');
	struct buf key = BUF_INIT;

	(void)state;
	/* `%-` in the root: no file without a prefix, but a directory; with a prefix also the key that is the prefix. */
	assert_int_equal(names_child(&rules, STR(""), STR(".hpkvfs/m/"), STR("%-"), false, &key, NULL), -EINVAL);
	assert_int_equal(names_child(&rules, STR(""), STR(".hpkvfs/m/"), STR("%-"), true, &key, NULL), 0);
	assert_str(buf_str(&key), STR("/"));
	assert_int_equal(names_path_from_key(&rules, STR(""), false, &key), -EINVAL);
	rules.prefix = STR("user");
	assert_int_equal(names_child(&rules, STR("user"), STR("user.hpkvfs/m/"), STR("%-"), false, &key, NULL), 0);
	assert_str(buf_str(&key), STR("user"));
	assert_int_equal(names_path_from_key(&rules, STR("user"), false, &key), 0);
	assert_str(buf_str(&key), STR("%-"));
	assert_int_equal(names_path_from_key(&rules, STR("user/1"), false, &key), 0);
	assert_str(buf_str(&key), STR("%-/1"));
	assert_int_equal(names_path_from_key(&rules, STR("use"), false, &key), -EINVAL);
	assert_str(buf_str(&key), STR("%-/1"));
	buf_free(&key);
}

static void test_lengths(void **state)
{
	struct names_rules rules = { .delimiter = '/', .prefix = STR("p/"), .max_key = 32 };
	struct str record = STR("p/.hpkvfs/m/"); /* 12 bytes: 20 are left */
	struct buf key = BUF_INIT;

	(void)state;
	assert_int_equal(names_child(&rules, STR("p/"), record, STR("12345678901234567890"), false, &key, NULL), 0);
	assert_int_equal(names_child(&rules, STR("p/"), record, STR("123456789012345678901"), false, &key, NULL),
			 -ENAMETOOLONG);
	assert_int_equal(names_child(&rules, STR("p/"), record, STR("1234567890123456789"), true, &key, NULL), 0);
	assert_int_equal(names_child(&rules, STR("p/"), record, STR("12345678901234567890"), true, &key, NULL),
			 -ENAMETOOLONG);
	assert_str(buf_str(&key), STR("p/1234567890123456789/"));
	/* The escape makes the record's key too long, not the key. */
	assert_int_equal(names_child(&rules, STR("p/"), record, STR("1234567890123456%00"), false, &key, NULL), 0);
	assert_int_equal(names_child(&rules, STR("p/"), record, STR("123456789012345678%00"), false, &key, NULL),
			 -ENAMETOOLONG);
	/* The key too long, not its record: deep in a tree of short names the record is never shorter, so a made-up one. */
	assert_int_equal(
		names_child(&rules, STR("p/234567890123456789012345678901/"), STR("r/"), STR("x"), false, &key, NULL),
		-ENAMETOOLONG);
	assert_int_equal(names_key_from_path(&rules, STR("123456789/1234567890"), &key), 0);
	assert_int_equal(names_key_from_path(&rules, STR("1234567890/1234567890"), &key), -ENAMETOOLONG);
	buf_free(&key);
}

/* --- reserved, listings --- */

static void test_reserved(void **state)
{
	static const struct {
		char delimiter;
		const char *prefix, *key;
		bool reserved;
	} keys[] = {
		{ '/', "", ".hpkvfs/m/a", true },   { '/', "", ".hpkvfs", true },
		{ '/', "", "a/.hpkvfs", true },     { '/', "", "a/.hpkvfs/b", true },
		{ '/', "", ".hpkvfsx", false },     { '/', "", "x.hpkvfs/m/a", false },
		{ '/', "", ".hpkv", false },        { '/', "p", "p.hpkvfs/fs", true },
		{ '/', "p", "p/.hpkvfs/fs", true }, { '/', "p", "q", false },
		{ ':', "", ".hpkvfs/m/a:b", true }, { ':', "", "a:.hpkvfs/m", false },
		{ ':', "", "a:.hpkvfs:m", true },   { '.', "", ".hpkvfs/m/a.b", true },
		{ '.', "", ".hpkvfs", false },      { 'h', "", ".hpkvfs/m/", true },
	};
	struct names_rules rules;

	(void)state;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		rules = rules_with(keys[i].delimiter);
		rules.prefix = str_c(keys[i].prefix);
		assert_int_equal(names_key_is_reserved(&rules, str_c(keys[i].key)), keys[i].reserved);
	}
	rules = rules_with('/');
	assert_true(names_is_reserved(&rules, STR(""), STR(".hpkvfs")));
	assert_true(names_is_reserved(&rules, STR("a/b/"), STR(".hpkvfs")));
	assert_true(names_is_reserved(&rules, STR(".hpkvfs/m/"), STR("x")));
	assert_false(names_is_reserved(&rules, STR(""), STR(".hpkvfs2")));
	rules = rules_with(':');
	rules.prefix = STR("p:");
	assert_true(names_is_reserved(&rules, STR("p:"), STR(".hpkvfs/fs")));
	assert_true(names_is_reserved(&rules, STR("p:"), STR(".hpkvfs")));
	assert_false(names_is_reserved(&rules, STR("p:a:"), STR(".hpkvfs/fs")));
	assert_false(names_is_reserved(&rules, STR(""), STR("p")));
	rules = rules_with('.');
	assert_false(names_is_reserved(&rules, STR(""), STR("")));
	assert_true(names_is_reserved(&rules, STR("."), STR("hpkvfs/m/a")));
	assert_false(names_is_reserved(&rules, STR("."), STR("hpkvfs")));
}

static void test_split(void **state)
{
	struct names_rules rules = rules_with(':');
	struct names_split part;

	(void)state;
	assert_int_equal(names_split(&rules, STR("a:"), STR("a:b"), &part), 0);
	assert_str(part.segment, STR("b"));
	assert_false(part.deeper);
	assert_int_equal(part.rest.len, 0);
	assert_int_equal(names_split(&rules, STR("a:"), STR("a:b:c:d"), &part), 0);
	assert_str(part.segment, STR("b"));
	assert_str(part.rest, STR("c:d"));
	assert_true(part.deeper);
	assert_int_equal(names_split(&rules, STR("a:"), STR("a:b:"), &part), 0);
	assert_str(part.segment, STR("b"));
	assert_int_equal(part.rest.len, 0);
	assert_true(part.deeper);
	assert_int_equal(names_split(&rules, STR("a:"), STR("a::x"), &part), 0);
	assert_int_equal(part.segment.len, 0);
	assert_true(part.deeper);
	assert_int_equal(names_split(&rules, STR("a:"), STR("a:"), &part), 0);
	assert_int_equal(part.segment.len, 0);
	assert_false(part.deeper);
	assert_int_equal(names_split(&rules, STR("a:"), STR("b:a"), &part), -EINVAL);
	assert_int_equal(names_split(&rules, STR("a:"), STR("a"), &part), -EINVAL);
}

static void test_ranges(void **state)
{
	static const struct {
		size_t max_key;
		struct str last;
	} cases[] = {
		{ 2, S("d/") },
		{ 1, S("d/") },
		{ 3, S("d/\x7f") },
		{ 4, S("d/\xdf\xbf") },
		{ 5, S("d/\xef\xbf\xbf") },
		{ 6, S("d/\xf4\x8f\xbf\xbf") },
		{ 11, S("d/\xf4\x8f\xbf\xbf\xf4\x8f\xbf\xbf\x7f") },
	};
	struct buf out = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(names_last(STR("d/"), cases[i].max_key, &out), 0);
		assert_str(buf_str(&out), cases[i].last);
	}
	/* behind the greatest name that is shown, however long keys may be */
	assert_int_equal(names_last(STR("d/"), 1 << 20, &out), 0);
	assert_int_equal(out.len, strlen("d/") + NAMES_SHOWN_BYTES + 4);
	for (size_t at = strlen("d/"); at < out.len; at += 4)
		assert_str(str_of(out.p + at, 4), STR("\xf4\x8f\xbf\xbf"));
	assert_int_equal(names_first(STR(""), &out), 0);
	assert_str(buf_str(&out), STR("\x01"));
	assert_int_equal(names_first(STR("d/"), &out), 0);
	assert_str(buf_str(&out), STR("d/"));
	buf_free(&out);
}

static void test_no_memory(void **state)
{
	struct names_rules rules = { .delimiter = ':',
				     .prefix = STR("a long prefix that needs memory:"),
				     .max_key = ROOMY };
	struct str long_name = STR("a name of more bytes than a small buffer would have room for %25-%00");
	struct buf a = BUF_INIT, b = BUF_INIT;

	(void)state;
#define CLEAR (buf_free(&a), buf_free(&b))
	assert_survives_failures(names_segment_from_name(&rules, long_name, &a), CLEAR);
	assert_survives_failures(names_name_from_segment(&rules, long_name, &a), CLEAR);
	assert_survives_failures(names_root_record(&rules, &a), CLEAR);
	assert_survives_failures(names_child(&rules, rules.prefix, STR("r:"), long_name, true, &a, &b), CLEAR);
	assert_survives_failures(
		names_child(&rules, STR("a long prefix that needs memory:x:"), STR("r:"), STR("%="), false, &a, &b),
		CLEAR);
	assert_survives_failures(names_first(long_name, &a), CLEAR);
	assert_survives_failures(names_last(long_name, 512, &a), CLEAR);
	assert_survives_failures(names_path_from_key(&rules, STR("a long prefix that needs memory:a:b::c"), true, &a),
				 CLEAR);
	assert_survives_failures(names_key_from_path(&rules, STR("a/b/%-/c/%="), &a), CLEAR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs),          cmocka_unit_test(test_bad_names),
		cmocka_unit_test(test_rules),          cmocka_unit_test(test_every_short_string),
		cmocka_unit_test(test_guards),         cmocka_unit_test(test_random_strings),
		cmocka_unit_test(test_records_differ), cmocka_unit_test(test_child),
		cmocka_unit_test(test_empty_key),      cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_reserved),       cmocka_unit_test(test_split),
		cmocka_unit_test(test_ranges),         cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
