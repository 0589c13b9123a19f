/* Records: the manual's examples, every member's limits, merge patches. */
#include "fs/record.h"

#include <jansson.h>
#include <sys/stat.h>

#include "fail_alloc.h"
#include "layout_example.h"
#include "unit.h"

static void check_encodes(const struct record *record, struct str expected)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;

	assert_int_equal(record_encode(record, &value), 0);
	assert_str(buf_str(&value), expected);
}

/* Decodes an example, which must encode to itself again. */
static void decode_example(const char *name, struct record *record)
{
	CLEANUP(buf_free) struct buf text = layout_example(name);
	struct str value = str_of(text.p, text.len - 1); /* without the newline */

	assert_int_equal(record_decode(value, record), 0);
	check_encodes(record, value);
}

static void test_examples(void **state)
{
	CLEANUP(record_deinit) struct record r = { 0 };
	const struct buf *xattr;

	(void)state;
	decode_example("record-file", &r);
	assert_int_equal(r.has, RECORD_MODE | RECORD_UID | RECORD_GID | RECORD_MTIME | RECORD_HASH);
	assert_int_equal(r.mode, S_IFREG | 0644);
	assert_int_equal(r.uid, 1000);
	assert_int_equal(r.gid, 1000);
	assert_int_equal(r.mtime.tv_sec, 1790000000);
	assert_int_equal(r.mtime.tv_nsec, 123456789);
	assert_string_equal(r.hash, "5891b5b522d5df086d0ff0b110fbd9d2");
	decode_example("record-directory", &r);
	assert_int_equal(r.has, RECORD_MODE);
	assert_int_equal(r.mode, S_IFDIR | 0755);
	decode_example("record-symlink", &r);
	assert_int_equal(r.has, RECORD_MODE | RECORD_TARGET);
	assert_int_equal(r.mode, S_IFLNK | 0777);
	assert_str(buf_str(&r.target), STR("../etc/motd"));
	decode_example("record-device", &r);
	assert_int_equal(r.has, RECORD_MODE | RECORD_RDEV);
	assert_int_equal(r.mode, S_IFCHR | 0666);
	assert_int_equal(r.rdev, 0x103);
	decode_example("record-xattr", &r);
	assert_int_equal(r.has, RECORD_XATTR);
	assert_int_equal(r.xattr_count, 2);
	xattr = record_xattr_find(&r, STR("user.note"));
	assert_non_null(xattr);
	assert_str(buf_str(xattr), STR("hello"));
	xattr = record_xattr_find(&r, STR("security.capability"));
	assert_non_null(xattr);
	assert_str(buf_str(xattr), STR("\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"));
	/* These, and the next test's. */
	assert_int_equal(layout_example_count("record-"), 6);
}

static void test_patch_example(void **state)
{
	CLEANUP(buf_free) struct buf text = layout_example("record-patch");
	CLEANUP(buf_free) struct buf patch = BUF_INIT;
	CLEANUP(record_deinit) struct record from = { 0 };
	CLEANUP(record_deinit) struct record to = { 0 };
	struct str value = str_of(text.p, text.len - 1);

	(void)state;
	from.has = RECORD_MODE | RECORD_UID;
	from.mode = S_IFREG | 0644;
	from.uid = 1000;
	assert_int_equal(record_xattr_set(&from, STR("user.note"), STR("hello")), 0);
	assert_int_equal(record_xattr_set(&from, STR("user.stays"), STR("")), 0);
	to.has = RECORD_MODE;
	to.mode = S_IFREG | 0755;
	assert_int_equal(record_xattr_set(&to, STR("user.stays"), STR("")), 0);
	assert_int_equal(record_encode_patch(&from, &to, 0, &patch), 0);
	assert_str(buf_str(&patch), value);
	/* Where there was no record, the patch itself is one. */
	assert_int_equal(record_decode(value, &from), 0);
	assert_int_equal(from.has, RECORD_MODE);
	assert_int_equal(from.mode, S_IFREG | 0755);
}

static void test_good(void **state)
{
	static const struct {
		const char *value;
		unsigned has;
	} cases[] = {
		{ "{\"v\":1}", 0 },
		{ " { \"v\" : 1 }\n", 0 },
		{ "{\"v\":1,\"later\":[{\"a\":{}}],\"mode\":33188}", RECORD_MODE },
		{ "{\"v\":1,\"mode\":null,\"uid\":null,\"mtime\":null,\"xattr\":null,\"target\":null,\"hash\":null}",
		  0 },
		{ "{\"v\":1,\"xattr\":{}}", 0 },
		{ "{\"v\":1,\"xattr\":{\"user.a\":null}}", 0 },
		{ "{\"v\":1,\"xattr\":{\"user.a\":\"\"}}", RECORD_XATTR },
		{ "{\"v\":1,\"uid\":0,\"gid\":4294967294}", RECORD_UID | RECORD_GID },
		{ "{\"v\":1,\"mode\":53247}", RECORD_MODE },
		{ "{\"v\":1,\"mode\":4096}", RECORD_MODE },
		{ "{\"v\":1,\"rdev\":4294967295}", RECORD_RDEV },
		{ "{\"v\":1,\"mtime\":\"0.000000000\"}", RECORD_MTIME },
		{ "{\"v\":1,\"target\":\"\\u00e4/\\ud83d\\ude00\"}", RECORD_TARGET },
	};
	CLEANUP(record_deinit) struct record r = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(record_decode(str_c(cases[i].value), &r), 0);
		assert_int_equal(r.has, cases[i].has);
	}
	assert_str(buf_str(&r.target), STR("\xc3\xa4/\xf0\x9f\x98\x80"));
}

static void test_bad(void **state)
{
	static const char *const cases[] = {
		"",
		" ",
		"x",
		"1",
		"null",
		"\"v\"",
		"[]",
		"{",
		"{}",
		"{\"v\":1",
		"{\"v\":1}x",
		"{\"v\":1}{}",
		"{\"v\":0}",
		"{\"v\":-1}",
		"{\"v\":\"1\"}",
		"{\"v\":1.0}",
		"{\"v\":null}",
		"{\"mode\":33188}",
		"{\"v\":1,\"mode\":420}",
		"{\"v\":1,\"mode\":-1}",
		"{\"v\":1,\"mode\":98724}",
		"{\"v\":1,\"mode\":61604}",
		"{\"v\":1,\"mode\":33188.0}",
		"{\"v\":1,\"mode\":\"33188\"}",
		"{\"v\":1,\"mode\":true}",
		"{\"v\":1,\"uid\":-1}",
		"{\"v\":1,\"uid\":4294967295}",
		"{\"v\":1,\"gid\":4294967296}",
		"{\"v\":1,\"gid\":[]}",
		"{\"v\":1,\"gid\":99999999999999999999}",
		"{\"v\":1,\"rdev\":4294967296}",
		"{\"v\":1,\"mtime\":1790000000}",
		"{\"v\":1,\"mtime\":\"\"}",
		"{\"v\":1,\"mtime\":\"1\"}",
		"{\"v\":1,\"mtime\":\"1.5\"}",
		"{\"v\":1,\"mtime\":\"1.0000000000\"}",
		"{\"v\":1,\"mtime\":\"1.00000000\"}",
		"{\"v\":1,\"mtime\":\"01.000000000\"}",
		"{\"v\":1,\"mtime\":\"+1.000000000\"}",
		"{\"v\":1,\"mtime\":\" 1.000000000\"}",
		"{\"v\":1,\"mtime\":\"1.-00000001\"}",
		"{\"v\":1,\"mtime\":\"1.+00000001\"}",
		"{\"v\":1,\"mtime\":\"-0.000000000\"}",
		"{\"v\":1,\"mtime\":\"--1.000000000\"}",
		"{\"v\":1,\"mtime\":\".000000000\"}",
		"{\"v\":1,\"mtime\":\"9223372036854775808.000000000\"}",
		"{\"v\":1,\"mtime\":\"-9223372036854775808.000000001\"}",
		"{\"v\":1,\"mtime\":\"-9223372036854775808.000000000\"}",
		"{\"v\":1,\"mtime\":\"1000000000000000000000000000000000000.000000000\"}",
		"{\"v\":1,\"hash\":\"\"}",
		"{\"v\":1,\"hash\":\"5891b5b522d5df086d0ff0b110fbd9d\"}",
		"{\"v\":1,\"hash\":\"5891b5b522d5df086d0ff0b110fbd9d22\"}",
		"{\"v\":1,\"hash\":\"5891B5B522D5DF086D0FF0B110FBD9D2\"}",
		"{\"v\":1,\"hash\":1}",
		"{\"v\":1,\"target\":\"\"}",
		"{\"v\":1,\"target\":1}",
		"{\"v\":1,\"target\":\"a\\u0000b\"}",
		"{\"v\":1,\"target\":\"\xff\"}",
		"{\"v\":1,\"xattr\":[]}",
		"{\"v\":1,\"xattr\":\"\"}",
		"{\"v\":1,\"xattr\":{\"user.a\":1}}",
		"{\"v\":1,\"xattr\":{\"user.a\":\"AB==\"}}",
		"{\"v\":1,\"xattr\":{\"\":\"\"}}",
	};
	CLEANUP(record_deinit) struct record r = { 0 };

	(void)state;
	assert_int_equal(record_decode(STR("{\"v\":1,\"uid\":7}"), &r), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (record_decode(str_c(cases[i]), &r) != -EINVAL)
			fail_msg("taken for a record: %s", cases[i]);
	}
	assert_int_equal(record_decode(STR("{\"v\":2}"), &r), -EPROTONOSUPPORT);
	assert_int_equal(record_decode(STR("{\"v\":2,\"mode\":\"other\"}"), &r), -EPROTONOSUPPORT);
	assert_int_equal(record_decode(STR("{\"v\":1}\0"), &r), -EINVAL);
	assert_int_equal(r.has, RECORD_UID);
	assert_int_equal(r.uid, 7);
}

/* The parser recurses, and a coroutine's stack is small: what nests deeply is refused before it. */
static void test_deep(void **state)
{
	CLEANUP(record_deinit) struct record r = { 0 };
	CLEANUP(buf_free) struct buf value = BUF_INIT;

	(void)state;
	assert_int_equal(buf_add_str(&value, STR("{\"v\":1,\"x\":")), 0);
	for (int i = 0; i < 1500; i++)
		assert_int_equal(buf_add_char(&value, '['), 0);
	for (int i = 0; i < 1500; i++)
		assert_int_equal(buf_add_char(&value, ']'), 0);
	assert_int_equal(buf_add_char(&value, '}'), 0);
	assert_int_equal(record_decode(buf_str(&value), &r), -EINVAL);
	/* Signs in strings do not count. */
	assert_int_equal(record_decode(STR("{\"v\":1,\"x\":\"[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[\\\\\",\"uid\":3}"), &r),
			 0);
	assert_int_equal(r.uid, 3);
}

static void test_times(void **state)
{
	static const struct {
		int64_t seconds;
		long ns;
		const char *text;
	} cases[] = {
		{ 0, 0, "0.000000000" },
		{ 0, 1, "0.000000001" },
		{ -1, 500000000, "-0.500000000" },
		{ -1, 0, "-1.000000000" },
		{ -2, 999999999, "-1.000000001" },
		{ 1790000000, 999999999, "1790000000.999999999" },
		{ INT64_MAX, 999999999, "9223372036854775807.999999999" },
		{ -INT64_MAX, 0, "-9223372036854775807.000000000" },
		{ INT64_MIN, 1, "-9223372036854775807.999999999" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CLEANUP(buf_free) struct buf value = BUF_INIT;
		CLEANUP(record_deinit) struct record r = { .has = RECORD_MTIME };

		r.mtime = (struct timespec){ cases[i].seconds, cases[i].ns };
		assert_int_equal(buf_printf(&value, "{\"v\":1,\"mtime\":\"%s\"}", cases[i].text), 0);
		check_encodes(&r, buf_str(&value));
		r.mtime = (struct timespec){ 5, 5 };
		assert_int_equal(record_decode(buf_str(&value), &r), 0);
		assert_true(r.mtime.tv_sec == cases[i].seconds);
		assert_int_equal(r.mtime.tv_nsec, cases[i].ns);
	}
}

static void test_encode_refuses(void **state)
{
	const struct record cases[] = {
		{ .has = RECORD_MODE, .mode = 0644 },
		{ .has = RECORD_MODE, .mode = S_IFREG | 0200000 },
		{ .has = RECORD_UID, .uid = UINT32_MAX },
		{ .has = RECORD_GID, .gid = UINT32_MAX },
		{ .has = RECORD_MTIME, .mtime = { 0, -1 } },
		{ .has = RECORD_MTIME, .mtime = { 0, 1000000000 } },
		{ .has = RECORD_MTIME, .mtime = { INT64_MIN, 0 } },
		{ .has = RECORD_HASH, .hash = "abc" },
		{ .has = RECORD_TARGET },
	};
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	const struct record empty = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(record_encode(&cases[i], &value), -EINVAL);
		assert_int_equal(record_encode_patch(&empty, &cases[i], 0, &value), -EINVAL);
	}
}

static void test_xattrs(void **state)
{
	CLEANUP(record_deinit) struct record r = { 0 };

	(void)state;
	assert_int_equal(record_xattr_set(&r, STR("user.b"), STR("2")), 0);
	assert_int_equal(record_xattr_set(&r, STR("user.a"), STR("1\0")), 0);
	assert_int_equal(record_xattr_set(&r, STR("user.c"), STR("")), 0);
	assert_int_equal(record_xattr_set(&r, STR("user.b"), STR("22")), 0);
	assert_int_equal(r.xattr_count, 3);
	assert_str(buf_str(&r.xattrs[0].name), STR("user.a"));
	assert_str(buf_str(record_xattr_find(&r, STR("user.b"))), STR("22"));
	assert_null(record_xattr_find(&r, STR("user.")));
	check_encodes(&r, STR("{\"v\":1,\"xattr\":{\"user.a\":\"MQA=\",\"user.b\":\"MjI=\",\"user.c\":\"\"}}"));
	assert_int_equal(record_xattr_set(&r, STR(""), STR("x")), -EINVAL);
	assert_int_equal(record_xattr_set(&r, STR("a\0b"), STR("x")), -EINVAL);
	assert_int_equal(record_xattr_set(&r, STR("a\xff"), STR("x")), -EILSEQ);
	assert_int_equal(record_set_target(&r, STR("")), -EINVAL);
	assert_int_equal(record_set_target(&r, STR("\xff")), -EILSEQ);
	assert_false(record_xattr_remove(&r, STR("user.d")));
	assert_true(record_xattr_remove(&r, STR("user.a")));
	assert_true(record_xattr_remove(&r, STR("user.c")));
	assert_int_equal(r.has, RECORD_XATTR);
	assert_true(record_xattr_remove(&r, STR("user.b")));
	assert_int_equal(r.has, 0);
}

/* A record with every member. */
static void fill(struct record *r)
{
	record_init(r);
	r->has = RECORD_ALL & ~(RECORD_TARGET | RECORD_XATTR);
	r->mode = S_IFBLK | 0600;
	r->uid = 1;
	r->gid = 2;
	r->mtime = (struct timespec){ 3, 4 };
	strcpy(r->hash, "0123456789abcdef0123456789abcdef");
	r->rdev = 5;
	assert_int_equal(record_set_target(r, STR("t")), 0);
	assert_int_equal(record_xattr_set(r, STR("user.a"), STR("1")), 0);
	assert_int_equal(record_xattr_set(r, STR("user.b"), STR("2")), 0);
}

#define FILLED                                                                                                                 \
	"{\"v\":1,\"mode\":24960,\"uid\":1,\"gid\":2,\"mtime\":\"3.000000004\",\"hash\":\"0123456789abcdef0123456789abcdef\"," \
	"\"xattr\":{\"user.a\":\"MQ==\",\"user.b\":\"Mg==\"},\"target\":\"t\",\"rdev\":5}"

static void check_patch(const struct record *from, const struct record *to, unsigned also, const char *expected)
{
	CLEANUP(buf_free) struct buf patch = BUF_INIT;

	assert_int_equal(record_encode_patch(from, to, also, &patch), 0);
	assert_str(buf_str(&patch), str_c(expected));
}

static void test_patches(void **state)
{
	CLEANUP(record_deinit) struct record a, b = { 0 };
	const struct record none = { 0 };

	(void)state;
	fill(&a);
	check_encodes(&a, STR(FILLED));
	assert_int_equal(record_copy(&a, &b), 0);
	assert_int_equal(record_diff(&a, &b), 0);
	assert_int_equal(record_diff(&none, &a), RECORD_ALL);
	check_patch(&a, &b, 0, "");
	check_patch(&a, &b, RECORD_UID, "{\"v\":1,\"uid\":1}");
	check_patch(&a, &b, RECORD_XATTR, "{\"v\":1,\"xattr\":{\"user.a\":\"MQ==\",\"user.b\":\"Mg==\"}}");
	check_patch(&none, &a, 0, FILLED);
	check_patch(&a, &none, 0,
		    "{\"v\":1,\"mode\":null,\"uid\":null,\"gid\":null,\"mtime\":null,\"hash\":null,"
		    "\"xattr\":{\"user.a\":null,\"user.b\":null},\"target\":null,\"rdev\":null}");
	check_patch(&none, &none, RECORD_MODE, "{\"v\":1,\"mode\":null}");

	b.mode = S_IFBLK | 0644;
	b.uid = 9;
	b.gid = 9;
	b.mtime.tv_nsec++;
	b.hash[0] = 'f';
	b.rdev = 6;
	assert_int_equal(record_set_target(&b, STR("u")), 0);
	assert_int_equal(record_xattr_set(&b, STR("user.b"), STR("3")), 0);
	assert_int_equal(record_xattr_set(&b, STR("user.c"), STR("")), 0);
	assert_true(record_xattr_remove(&b, STR("user.a")));
	assert_int_equal(record_diff(&a, &b), RECORD_ALL);
	check_patch(&a, &b, 0,
		    "{\"v\":1,\"mode\":24996,\"uid\":9,\"gid\":9,\"mtime\":\"3.000000005\","
		    "\"hash\":\"f123456789abcdef0123456789abcdef\","
		    "\"xattr\":{\"user.b\":\"Mw==\",\"user.c\":\"\",\"user.a\":null},\"target\":\"u\",\"rdev\":6}");
	record_deinit(&a);
}

/* The copy stands alone. */
static void test_copy(void **state)
{
	struct record a, b = { 0 };

	(void)state;
	fill(&a);
	assert_int_equal(record_copy(&a, &b), 0);
	record_deinit(&a);
	assert_int_equal(a.has, 0);
	check_encodes(&b, STR(FILLED));
	record_deinit(&b);
}

/* The JSON parser can report lack of memory as a fault of syntax. */
static void decode_without_memory(void)
{
	struct record r = { 0 };
	bool failed = true;

	for (unsigned n = 1; failed; n++) {
		int rc;

		fail_alloc_at(n);
		rc = record_decode(STR(FILLED), &r);
		failed = fail_alloc_end();
		if (failed) {
			assert_true(rc == -ENOMEM || rc == -EINVAL);
			assert_int_equal(r.has, 0);
		} else {
			assert_int_equal(rc, 0);
			check_encodes(&r, STR(FILLED));
		}
	}
	record_deinit(&r);
}

static void test_no_memory(void **state)
{
	struct record a, b = { 0 };
	struct buf out = BUF_INIT;
	struct str long_text = STR("a text of more bytes than a small buffer would have room for");

	(void)state;
	fill(&a);
	json_set_alloc_funcs(fail_alloc_malloc, free);
	decode_without_memory();
	assert_survives_failures(record_encode(&a, &out), buf_free(&out));
	assert_survives_failures(record_encode_patch(&a, &b, RECORD_ALL, &out), buf_free(&out));
	assert_survives_failures(record_copy(&a, &b), record_deinit(&b));
	assert_survives_failures(record_set_target(&b, long_text), record_deinit(&b));
	assert_survives_failures(record_xattr_set(&b, long_text, long_text), record_deinit(&b));
	json_set_alloc_funcs(malloc, free);
	check_encodes(&a, STR(FILLED));
	record_deinit(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_examples),       cmocka_unit_test(test_patch_example),
		cmocka_unit_test(test_good),           cmocka_unit_test(test_bad),
		cmocka_unit_test(test_deep),           cmocka_unit_test(test_times),
		cmocka_unit_test(test_encode_refuses), cmocka_unit_test(test_xattrs),
		cmocka_unit_test(test_patches),        cmocka_unit_test(test_copy),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
