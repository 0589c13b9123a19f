/* Content and stubs: the manual's examples, the limits, and everything that must not be taken for a stub. */
#include "fs/content.h"

#include <openssl/sha.h>

#include "fail_alloc.h"
#include "fs/base64.h"
#include "layout_example.h"
#include "unit.h"

#define MAX_VALUE 3072
#define ID "1a0c4506c000123456789abcdef0123456789abcdef"

/* A stub with a right checksum, whatever the parts are. */
static struct buf make_stub(struct str parts, const char *text)
{
	struct buf out = BUF_INIT;
	unsigned char digest[SHA256_DIGEST_LENGTH];

	SHA256((const unsigned char *)parts.p, parts.len, digest);
	assert_int_equal(buf_add_str(&out, STR("hpkvfs1 ")), 0);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(buf_printf(&out, "%02x", digest[i]), 0);
	assert_int_equal(buf_add_char(&out, ' '), 0);
	assert_int_equal(buf_add_str(&out, parts), 0);
	assert_int_equal(buf_printf(&out, "\n%s", text), 0);
	return out;
}

static bool is_stub(struct str value)
{
	struct content content;

	assert_int_equal(content_decode(value, &content), 0);
	if (!content.stub) {
		assert_int_equal(content.part_count, 0);
		assert_true(content.text.p == value.p && content.text.len == value.len);
	}
	return content.stub;
}

/* --- the manual's examples --- */

static void check_example(const char *name, struct str bytes)
{
	CLEANUP(buf_free) struct buf value = layout_example(name);
	CLEANUP(buf_free) struct buf out = BUF_INIT;
	struct content content;
	uint64_t size;

	assert_int_equal(content_decode(buf_str(&value), &content), 0);
	assert_true(content.stub);
	assert_int_equal(content_size(&content), bytes.len);
	assert_int_equal(content_value_size(buf_str(&value), &size), 0);
	assert_int_equal(size, bytes.len);
	assert_int_equal(content_bytes(&content, &out), 0);
	assert_str(buf_str(&out), bytes);
	assert_int_equal(content_encode_stub(&content, &out), 0);
	assert_str(buf_str(&out), buf_str(&value));
	if (content.text.len == 0) {
		assert_int_equal(content_encode(bytes, MAX_VALUE, &out), 0);
		assert_str(buf_str(&out), buf_str(&value));
	}
}

static void test_inline_examples(void **state)
{
	(void)state;
	check_example("empty", STR(""));
	check_example("binary", STR("\x00\x01\xff"));
	check_example("appended", STR("a line, appended by PATCH\n"));
	/* These, those of the next two tests, and those of records. */
	assert_int_equal(layout_example_count(""), 5 + layout_example_count("record-") + layout_example_count("names") +
							   layout_example_count("journal-"));
}

static void test_chunk_example(void **state)
{
	CLEANUP(buf_free) struct buf value = layout_example("chunks");
	CLEANUP(buf_free) struct buf out = BUF_INIT;
	struct content content;

	(void)state;
	assert_int_equal(content_decode(buf_str(&value), &content), 0);
	assert_true(content.stub);
	assert_int_equal(content.part_count, 1);
	assert_int_equal(content.parts[0].kind, CONTENT_CHUNKS);
	assert_string_equal(content.parts[0].id.hex, ID);
	assert_int_equal(content.parts[0].size, 10000);
	assert_int_equal(content.parts[0].chunk_size, 2280);
	assert_int_equal(content.parts[0].encoding, CONTENT_BASE64);
	assert_int_equal(content_chunk_count(&content.parts[0]), 5);
	assert_int_equal(content_size(&content), 10000);
	assert_int_equal(content_bytes(&content, &out), -EOPNOTSUPP);
	assert_int_equal(content_encode_stub(&content, &out), 0);
	assert_str(buf_str(&out), buf_str(&value));
}

static void test_hole_example(void **state)
{
	CLEANUP(buf_free) struct buf value = layout_example("holes");
	CLEANUP(buf_free) struct buf out = BUF_INIT;
	struct content content;
	struct str rest;
	uint32_t first, count;

	(void)state;
	assert_int_equal(content_decode(buf_str(&value), &content), 0);
	assert_true(content.stub);
	assert_int_equal(content.part_count, 2);
	assert_int_equal(content_chunk_count(&content.parts[0]), 439);
	rest = content.parts[0].holes;
	assert_true(content_hole_next(&rest, &first, &count));
	assert_int_equal(first, 0);
	assert_int_equal(count, 3);
	assert_true(content_hole_next(&rest, &first, &count));
	assert_int_equal(first, 10);
	assert_int_equal(count, 429);
	assert_false(content_hole_next(&rest, &first, &count));
	assert_int_equal(content.parts[1].kind, CONTENT_INLINE);
	assert_int_equal(content_size(&content), 1000002);
	assert_int_equal(content_encode_stub(&content, &out), 0);
	assert_str(buf_str(&out), buf_str(&value));
}

/* --- plain --- */

static void test_plain(void **state)
{
	static const struct {
		struct str bytes;
		bool plain;
	} cases[] = {
		{ { "x", 1 }, true },
		{ { "hello\n", 6 }, true },
		{ { "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", 11 }, true },
		{ { "\x01\x7f\r\n\t", 5 }, true },
		{ { "hpkvfs1", 7 }, true },
		{ { "hpkvfs12", 8 }, true },
		{ { " hpkvfs1 ", 9 }, true },
		{ { "{\"a\":1}", 7 }, true },
		{ { "", 0 }, false },
		{ { "a\0b", 3 }, false },
		{ { "\0", 1 }, false },
		{ { "\xff", 1 }, false },
		{ { "a\xc3", 2 }, false },
		{ { "\xed\xa0\x80", 3 }, false },
		{ { "hpkvfs1 ", 8 }, false },
		{ { "hpkvfs1 380918b946a52664 =\n", 27 }, false },
	};
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct content content;

		assert_int_equal(content_is_plain(cases[i].bytes, MAX_VALUE), cases[i].plain);
		assert_int_equal(content_encode(cases[i].bytes, MAX_VALUE, &value), 0);
		assert_int_equal(str_equal(buf_str(&value), cases[i].bytes), cases[i].plain);
		assert_int_equal(is_stub(buf_str(&value)), !cases[i].plain);
		assert_int_equal(content_decode(buf_str(&value), &content), 0);
		assert_int_equal(content_bytes(&content, &bytes), 0);
		assert_str(buf_str(&bytes), cases[i].bytes);
	}
}

static void test_limits(void **state)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	char bytes[101];

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	assert_int_equal(content_encode(str_of(bytes, 100), 100, &value), 0);
	assert_int_equal(value.len, 100);
	assert_int_equal(content_encode(str_of(bytes, 101), 100, &value), -EFBIG);
	assert_int_equal(value.len, 100);
	/* 8 + 16 + 2 + 4 n + 1 bytes hold 3 n. */
	bytes[0] = '\0';
	assert_int_equal(content_encode(str_of(bytes, 54), 99, &value), 0);
	assert_int_equal(value.len, 99);
	assert_int_equal(content_encode(str_of(bytes, 54), 98, &value), -EFBIG);
	assert_int_equal(content_encode(str_of(bytes, 55), 99, &value), -EFBIG);
	assert_int_equal(content_encode(STR(""), 27, &value), 0);
	assert_int_equal(content_encode(STR(""), 26, &value), -EFBIG);
}

static void test_random_bytes(void **state)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	CLEANUP(buf_free) struct buf back = BUF_INIT;
	uint64_t seed = 42;
	char bytes[300];

	(void)state;
	for (size_t i = 0; i < 20000; i++) {
		size_t len = unit_below(&seed, sizeof(bytes));
		size_t range = unit_below(&seed, 2) ? 256 : 128;
		struct content content;

		for (size_t at = 0; at < len; at++)
			bytes[at] = (char)unit_below(&seed, range);
		assert_int_equal(content_encode(str_of(bytes, len), MAX_VALUE, &value), 0);
		assert_int_equal(content_decode(buf_str(&value), &content), 0);
		assert_int_equal(content_size(&content), len);
		assert_int_equal(content_bytes(&content, &back), 0);
		assert_str(buf_str(&back), str_of(bytes, len));
	}
}

/* --- what is no stub --- */

static void test_good_parts(void **state)
{
	static const struct {
		const char *parts;
		uint64_t size;
	} cases[] = {
		{ "=", 0 },
		{ "= =", 0 },
		{ "=AA== =AAA=", 3 },
		{ ID ":1:1:b64", 1 },
		{ ID ":1:16777216:b64:0+1", 1 },
		{ ID ":4294967295:1:b64", 4294967295 },
		{ ID ":72057594021150720:16777216:b64", 72057594021150720 },
		{ ID ":100:10:b64:1+1,3+1,5+5", 100 },
		{ ID ":100:10:b64:0+10", 100 },
		{ ID ":101:10:b64:10+1 " ID ":5:7:b64 =AA==", 107 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CLEANUP(buf_free) struct buf value = make_stub(str_c(cases[i].parts), "text");
		uint64_t size;

		assert_true(is_stub(buf_str(&value)));
		assert_int_equal(content_value_size(buf_str(&value), &size), 0);
		assert_int_equal(size, cases[i].size + 4);
	}
}

static const char *const bad_parts[] = {
	"",
	" =",
	"= ",
	"=  =",
	"x",
	"AA==",
	"=A",
	"=AA=",
	"=AA",
	"=AAAAA",
	"=A===",
	"=====",
	"=AB==",
	"=AAB=",
	"=AA==AA==",
	"=A-A=",
	"=AA\r=",
	"=\t",
	ID,
	ID ":1",
	ID ":1:1",
	ID ":1:1:",
	ID ":1:1:raw",
	ID ":1:1:b64x",
	ID ":1:1:b64:",
	ID ":1:1:b64:0+1:",
	ID ":0:1:b64",
	ID ":1:0:b64",
	ID ":01:1:b64",
	ID ":1:01:b64",
	ID ":+1:1:b64",
	ID ":-1:1:b64",
	ID ":1 :1:b64",
	ID ":0x1:1:b64",
	ID "::1:b64",
	ID ":1::b64",
	ID ":1:16777217:b64",
	ID ":4294967296:1:b64",
	ID ":9223372036854775808:1:b64",
	ID ":9223372036854775807:16777216:b64",
	ID ":18446744073709551617:1:b64",
	ID ":72057594021150721:16777216:b64",
	"0" ID ":1:1:b64",
	"1A0C4506C000123456789abcdef0123456789abcdef:1:1:b64",
	"1a0c4506c000123456789abcdef0123456789abcde:1:1:b64",
	"1a0c4506c000123456789abcdef0123456789abcdeg:1:1:b64",
	ID ":100:10:b64:0",
	ID ":100:10:b64:0+",
	ID ":100:10:b64:+1",
	ID ":100:10:b64:0+0",
	ID ":100:10:b64:0+11",
	ID ":100:10:b64:10+1",
	ID ":100:10:b64:0+1,1+1",
	ID ":100:10:b64:2+1,0+1",
	ID ":100:10:b64:0+3,2+1",
	ID ":100:10:b64:0+1,",
	ID ":100:10:b64:,0+1",
	ID ":100:10:b64:0+1,,3+1",
	ID ":100:10:b64:0+1+1",
	ID ":100:10:b64:00+1",
	ID ":100:10:b64:0-1",
	ID ":100:10:b64:4294967295+4294967295",
	ID ":100:10:b64:0+18446744073709551615",
};

static void test_bad_parts(void **state)
{
	struct buf value;

	(void)state;
	for (size_t i = 0; i < sizeof(bad_parts) / sizeof(bad_parts[0]); i++) {
		uint64_t size;

		value = make_stub(str_c(bad_parts[i]), "");
		if (is_stub(buf_str(&value)))
			fail_msg("taken for a stub: %s", bad_parts[i]);
		assert_int_equal(content_value_size(buf_str(&value), &size), 0);
		assert_int_equal(size, value.len);
		buf_free(&value);
	}
	value = make_stub(str_of("=\0", 2), "");
	assert_false(is_stub(buf_str(&value)));
	buf_free(&value);
}

static struct buf many_parts(const char *part, unsigned count)
{
	struct buf parts = BUF_INIT, value;

	for (unsigned i = 0; i < count; i++)
		assert_int_equal(buf_printf(&parts, "%s%s", i ? " " : "", part), 0);
	value = make_stub(buf_str(&parts), "");
	buf_free(&parts);
	return value;
}

/* As many parts as there may be, of the largest size that one may have, are still a size that a file can have. */
static void test_sums(void **state)
{
	CLEANUP(buf_free) struct buf most = many_parts("=AA==", 64);
	CLEANUP(buf_free) struct buf more = many_parts("=AA==", 65);
	CLEANUP(buf_free) struct buf large = many_parts(ID ":72057594021150720:16777216:b64", 64);
	uint64_t size;

	(void)state;
	assert_true(is_stub(buf_str(&most)));
	assert_int_equal(content_value_size(buf_str(&most), &size), 0);
	assert_int_equal(size, 64);
	assert_false(is_stub(buf_str(&more)));
	assert_true(is_stub(buf_str(&large)));
	assert_int_equal(content_value_size(buf_str(&large), &size), 0);
	assert_true(size == 64 * 72057594021150720u);
	assert_true(size <= CONTENT_MAX_SIZE);
}

static void test_damaged(void **state)
{
	static const char *const cuts[] = { "hpkvfs1 ",
					    "hpkvfs1 \n",
					    "hpkvfs1 380918b946a52664",
					    "hpkvfs1 380918b946a52664\n",
					    "hpkvfs1 380918b946a52664 ",
					    "hpkvfs1 380918b946a52664 \n",
					    "hpkvfs1 380918b946a52664 =",
					    "hpkvfs1  =\n",
					    "hpkvfs1 380918B946A52664 =\n",
					    "hpkvfs1 380918b946a52664 =\r\n",
					    "hpkvfs2 380918b946a52664 =\n",
					    "hpkvfs1  380918b946a52664 =\n",
					    "hpkvfs1 380918b946a5266 =\n" };
	CLEANUP(buf_free) struct buf good = layout_example("holes");

	(void)state;
	for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++)
		assert_false(is_stub(str_c(cuts[i])));
	for (size_t len = 0; len < good.len; len++)
		assert_false(is_stub(str_of(good.p, len)));
	for (size_t at = 0; at < good.len; at++) {
		for (int bit = 0; bit < 8; bit++) {
			good.p[at] = (char)(good.p[at] ^ 1 << bit);
			assert_false(is_stub(buf_str(&good)));
			good.p[at] = (char)(good.p[at] ^ 1 << bit);
		}
	}
	assert_true(is_stub(buf_str(&good)));
}

static void test_encode_refuses(void **state)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	struct content content = { .part_count = 1 };
	struct content_part *part = &content.parts[0];
	int64_t ms;

	(void)state;
	part->base64 = STR("AB==");
	assert_int_equal(content_encode_stub(&content, &value), -EINVAL);
	part->base64 = STR("AA== =");
	assert_int_equal(content_encode_stub(&content, &value), -EINVAL);
	part->base64 = STR("AA==");
	assert_int_equal(content_encode_stub(&content, &value), 0);
	content.part_count = 0;
	assert_int_equal(content_encode_stub(&content, &value), -EINVAL);
	content.part_count = CONTENT_MAX_PARTS + 1;
	assert_int_equal(content_encode_stub(&content, &value), -EINVAL);
	content.part_count = 1;
	*part = (struct content_part){ .kind = CONTENT_CHUNKS, .size = 10, .chunk_size = 3 };
	assert_int_equal(content_encode_stub(&content, &value), -EINVAL);
	assert_true(content_id_parse(STR(ID), &part->id, &ms));
	assert_int_equal(content_encode_stub(&content, &value), 0);
	part->holes = STR("3+2");
	assert_int_equal(content_encode_stub(&content, &value), -EINVAL);
	part->holes = STR("3+1");
	assert_int_equal(content_encode_stub(&content, &value), 0);
	part->chunk_size = 0;
	assert_int_equal(content_encode_stub(&content, &value), -EINVAL);
}

/* --- ids, hash, base64 --- */

static void test_ids(void **state)
{
	struct content_id a, b;
	int64_t ms;

	(void)state;
	assert_int_equal(content_id_new(1790000000000, &a), 0);
	assert_int_equal(content_id_new(1790000000000, &b), 0);
	assert_int_equal(strlen(a.hex), CONTENT_ID_LEN);
	assert_memory_equal(a.hex, "1a0c4506c00", 11);
	assert_memory_equal(b.hex, "1a0c4506c00", 11);
	assert_string_not_equal(a.hex, b.hex);
	assert_true(content_id_parse(str_c(a.hex), &b, &ms));
	assert_string_equal(a.hex, b.hex);
	assert_true(ms == 1790000000000);
	assert_int_equal(content_id_new(-1, &a), 0);
	assert_memory_equal(a.hex, "00000000000", 11);
	assert_false(content_id_parse(STR("1a0c4506c00"), &b, &ms));
	assert_false(content_id_parse(STR(ID "0"), &b, &ms));
}

static void test_hash(void **state)
{
	char hash[CONTENT_HASH_LEN + 1];

	(void)state;
	/* From sha256sum(1). */
	assert_int_equal(content_hash(STR("hello\n"), hash), 0);
	assert_string_equal(hash, "5891b5b522d5df086d0ff0b110fbd9d2");
	assert_int_equal(content_hash(STR(""), hash), 0);
	assert_string_equal(hash, "e3b0c44298fc1c149afbf4c8996fb924");
}

static void test_base64(void **state)
{
	/* RFC 4648, section 10, and the two signs beyond letters and digits. */
	static const struct {
		const char *bytes, *text;
	} vectors[] = { { "", "" },
			{ "f", "Zg==" },
			{ "fo", "Zm8=" },
			{ "foo", "Zm9v" },
			{ "foob", "Zm9vYg==" },
			{ "fooba", "Zm9vYmE=" },
			{ "foobar", "Zm9vYmFy" },
			{ "\xfb\xff\xbf", "+/+/" } };
	CLEANUP(buf_free) struct buf out = BUF_INIT;
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		buf_clear(&out);
		assert_int_equal(base64_encode(str_c(vectors[i].bytes), &out), 0);
		assert_str(buf_str(&out), str_c(vectors[i].text));
		assert_int_equal(base64_length(strlen(vectors[i].bytes)), strlen(vectors[i].text));
		buf_clear(&out);
		assert_true(base64_check(str_c(vectors[i].text), &len));
		assert_int_equal(len, strlen(vectors[i].bytes));
		assert_int_equal(base64_decode(str_c(vectors[i].text), &out), 0);
		assert_str(buf_str(&out), str_c(vectors[i].bytes));
	}
	buf_clear(&out);
	assert_int_equal(base64_decode(STR("Zg"), &out), -EINVAL);
	assert_int_equal(base64_decode(STR("Zh=="), &out), -EINVAL);
	assert_int_equal(base64_decode(STR("Zg==\n"), &out), -EINVAL);
	assert_int_equal(base64_decode(STR("=Zg="), &out), -EINVAL);
	assert_int_equal(base64_decode(STR("Z\xc3\xa4="), &out), -EINVAL);
	assert_int_equal(out.len, 0);
}

static void test_no_memory(void **state)
{
	CLEANUP(buf_free) struct buf value = make_stub(STR("=AAECAwQFBgcICQoLDA0ODw== =AAEC"), "text behind the line");
	struct buf out = BUF_INIT;
	struct content content;

	(void)state;
	assert_int_equal(content_decode(buf_str(&value), &content), 0);
	assert_survives_failures(content_encode(STR("plain content of more than 32 bytes......."), MAX_VALUE, &out),
				 buf_free(&out));
	assert_survives_failures(content_encode(STR("binary\xff content of more than 32 bytes......"), MAX_VALUE, &out),
				 buf_free(&out));
	assert_survives_failures(content_bytes(&content, &out), buf_free(&out));
	assert_survives_failures(content_encode_stub(&content, &out), buf_free(&out));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inline_examples),
		cmocka_unit_test(test_chunk_example),
		cmocka_unit_test(test_hole_example),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_random_bytes),
		cmocka_unit_test(test_good_parts),
		cmocka_unit_test(test_bad_parts),
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_encode_refuses),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
