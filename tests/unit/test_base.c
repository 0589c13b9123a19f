/* Byte strings, UTF-8, clocks, log. */
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json_number.h"
#include "base/log.h"
#include "base/utf8.h"
#include "fail_alloc.h"
#include "unit.h"

static void test_str(void **state)
{
	(void)state;
	assert_true(str_equal(STR("ab"), str_c("ab")));
	assert_false(str_equal(STR("ab"), STR("abc")));
	assert_false(str_equal(STR("ab"), STR("ac")));
	assert_true(str_equal(str_of(NULL, 0), STR("")));
	assert_true(str_starts(STR("abc"), STR("ab")));
	assert_true(str_starts(STR("abc"), str_of(NULL, 0)));
	assert_false(str_starts(STR("a"), STR("ab")));
	assert_int_equal(str_compare(STR("a\0b"), STR("a\0b")), 0);
	assert_true(str_compare(STR("a"), STR("ab")) < 0);
	assert_true(str_compare(STR("ab"), STR("a")) > 0);
	assert_true(str_compare(STR("a\x80"), STR("az")) > 0);
	assert_true(str_compare(str_of(NULL, 0), STR("a")) < 0);
	assert_int_equal(str_compare(str_of(NULL, 0), STR("")), 0);
	assert_str(str_skip(STR("abc"), 2), STR("c"));
}

static void test_buf(void **state)
{
	struct buf b = BUF_INIT, taken;

	(void)state;
	assert_int_equal(buf_str(&b).len, 0);
	assert_non_null(buf_str(&b).p);
	buf_clear(&b);
	assert_int_equal(buf_add_str(&b, STR("a\0b")), 0);
	assert_int_equal(buf_add_char(&b, 'c'), 0);
	assert_int_equal(buf_add(&b, NULL, 0), 0);
	assert_int_equal(buf_printf(&b, "%d-%s", 42, "x"), 0);
	assert_str(buf_str(&b), STR("a\0bc42-x"));
	assert_int_equal(b.p[b.len], '\0');
	for (int i = 0; i < 1000; i++)
		assert_int_equal(buf_printf(&b, "%d", i % 10), 0);
	assert_int_equal(b.len, 1008);
	assert_int_equal(b.p[1007], '9');
	assert_int_equal(b.p[b.len], '\0');

	assert_int_equal(buf_set(&b, str_of(b.p + 2, 4)), 0);
	assert_str(buf_str(&b), STR("bc42"));
	assert_int_equal(buf_resize(&b, 2), 0);
	assert_string_equal(b.p, "bc");
	assert_int_equal(buf_resize(&b, 5), 0);
	assert_str(buf_str(&b), STR("bc\0\0\0"));
	buf_clear(&b);
	assert_int_equal(b.len, 0);
	assert_string_equal(b.p, "");
	assert_int_equal(buf_add_str(&b, STR("t")), 0);
	taken = buf_take(&b);
	assert_null(b.p);
	assert_string_equal(taken.p, "t");
	assert_int_equal(buf_reserve(&b, SIZE_MAX), -ENOMEM);
	assert_int_equal(buf_reserve(&taken, SIZE_MAX - 1), -ENOMEM);
	assert_string_equal(taken.p, "t");
	buf_free(&taken);
	buf_free(&taken);
}

static void test_buf_escaped(void **state)
{
	CLEANUP(buf_free) struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(buf_add_escaped(&b, STR("a\\b\n\t\r\x01\x7f\0\xc3\xa4")), 0);
	assert_str(buf_str(&b), STR("a\\\\b\\n\\t\\r\\x01\\x7f\\x00\xc3\xa4"));
	/* U+009B would begin a command to a terminal, as ESC does; U+00A0 and U+00DB are none, nor is half a character */
	buf_clear(&b);
	assert_int_equal(buf_add_escaped(&b, STR("\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0\xc3\x9b\xe2\x82\x9b\xc2")), 0);
	assert_str(buf_str(&b), STR("\\xc2\\x80\\xc2\\x9b\\xc2\\x9f\xc2\xa0\xc3\x9b\xe2\x82\x9b\xc2"));
}

static void test_buf_numbers(void **state)
{
	CLEANUP(buf_free) struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(buf_add_unsigned(&b, 0), 0);
	assert_int_equal(buf_add_char(&b, ' '), 0);
	assert_int_equal(buf_add_unsigned(&b, 1024), 0);
	assert_int_equal(buf_add_char(&b, ' '), 0);
	assert_int_equal(buf_add_unsigned(&b, UINT64_MAX), 0);
	assert_string_equal(b.p, "0 1024 18446744073709551615");
}

static void test_buf_without_memory(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	assert_survives_failures(buf_add_str(&b, STR("text")), buf_free(&b));
	assert_survives_failures(buf_printf(&b, "%100d", 1), buf_free(&b));
	assert_survives_failures(buf_add_unsigned(&b, 1), buf_free(&b));
	assert_survives_failures(buf_set(&b, STR("text")), buf_free(&b));
	assert_survives_failures(buf_resize(&b, 100), buf_free(&b));
	/* What was there stays. */
	assert_int_equal(buf_add_str(&b, STR("text")), 0);
	fail_alloc_at(1);
	assert_int_equal(buf_resize(&b, 10000), -ENOMEM);
	assert_true(fail_alloc_end());
	fail_alloc_at(1);
	assert_int_equal(buf_set(&b, STR("other")), -ENOMEM);
	assert_true(fail_alloc_end());
	assert_string_equal(b.p, "text");
	assert_int_equal(b.len, 4);
	buf_free(&b);
}

static void test_steal(void **state)
{
	char *p = malloc(1), *stolen = STEAL(p);

	(void)state;
	assert_null(p);
	assert_non_null(stolen);
	free(stolen);
}

/* --- UTF-8 --- */

static size_t encode(uint32_t c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* Every character is valid, and no part of one is. */
static void test_every_character(void **state)
{
	(void)state;
	for (uint32_t c = 0; c <= 0x10ffff; c++) {
		bool surrogate = c >= 0xd800 && c <= 0xdfff;
		char text[4];
		size_t len = encode(c, text);

		assert_int_equal(utf8_valid(str_of(text, len)), !surrogate);
		for (size_t cut = 1; cut < len; cut++) {
			assert_false(utf8_valid(str_of(text, cut)));
			assert_false(utf8_valid(str_of(text + cut, len - cut)));
		}
	}
}

/* Of all strings of up to three bytes exactly those are valid that consist of characters. */
static void test_count_of_valid(void **state)
{
	size_t valid[4] = { 0 };
	char text[3];

	(void)state;
	for (uint32_t n = 0; n < 1u << 24; n++) {
		text[0] = (char)(n >> 16);
		text[1] = (char)(n >> 8);
		text[2] = (char)n;
		valid[3] += utf8_valid(str_of(text, 3));
		if (n < 1u << 16)
			valid[2] += utf8_valid(str_of(text + 1, 2));
		if (n < 1u << 8)
			valid[1] += utf8_valid(str_of(text + 2, 1));
	}
	/* 128 characters of one byte, 1,920 of two, 61,440 of three. */
	assert_int_equal(valid[1], 128);
	assert_int_equal(valid[2], 128 * 128 + 1920);
	assert_int_equal(valid[3], 128 * 128 * 128 + 2 * 128 * 1920 + 61440);
}

static void test_json_numbers(void **state)
{
	static const struct {
		const char *text;
		size_t length;
	} cases[] = {
		{ "0", 1 },        { "-0", 2 },   { "10", 2 },   { "1.50", 4 }, { "1e5", 3 }, { "1E+05", 5 },
		{ "-1.5e-10", 8 }, { "12,3", 2 }, { "1 ", 1 },   { "1x", 1 },   { "", 0 },    { "-", 0 },
		{ "01", 0 },       { "1.", 0 },   { "1.e5", 0 }, { "1e", 0 },   { "1e+", 0 }, { ".5", 0 },
		{ "+1", 0 },       { "NaN", 0 },  { "x1", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(json_number_length(str_c(cases[i].text)), cases[i].length);
	assert_int_equal(json_number_length(str_of("123456", 3)), 3);
}

static void test_bad_utf8(void **state)
{
	static const char *const cases[] = { "\xc0\x80",
					     "\xc1\xbf",
					     "\xe0\x80\x80",
					     "\xe0\x9f\xbf",
					     "\xf0\x80\x80\x80",
					     "\xf0\x8f\xbf\xbf",
					     "\xf4\x90\x80\x80",
					     "\xf5\x80\x80\x80",
					     "\xf8\x88\x80\x80\x80",
					     "\xfe",
					     "\xff",
					     "a\x80",
					     "\xf0\x9f\x98",
					     "\xf0\x9f\x98\x41" };

	(void)state;
	assert_true(utf8_valid(STR("")));
	assert_true(utf8_valid(str_of(NULL, 0)));
	assert_true(utf8_valid(STR("a\0\xf0\x9f\x98\x80")));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_false(utf8_valid(str_c(cases[i])));
}

/* --- clock, log --- */

static void test_clock(void **state)
{
	uint64_t before = clock_now_us();

	(void)state;
	assert_true(clock_now_us() >= before);
	assert_true(clock_real_ns() > 1700000000 * (int64_t)CLOCK_NS_PER_S);
}

static void test_log(void **state)
{
	char text[256] = "";
	FILE *sink = tmpfile();
	int saved;

	(void)state;
	assert_non_null(sink);
	fflush(stderr);
	saved = dup(STDERR_FILENO);
	assert_true(saved >= 0 && dup2(fileno(sink), STDERR_FILENO) >= 0);
	log_init("tester", LOG_LEVEL_WARNING);
	errno = ENOTTY;
	log_error("an %s of %d", "error", 1);
	log_warning("a warning of %s", "a\nname\x1b\x7f\xc3\xa4\xc2\x9b");
	log_info("not seen");
	log_debug("not seen");
	assert_int_equal(errno, ENOTTY);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(sink);
	assert_true(fread(text, 1, sizeof(text) - 1, sink) > 0);
	fclose(sink);
	assert_string_equal(text, "tester: an error of 1\ntester: a warning of a?name??\xc3\xa4??\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_str),
		cmocka_unit_test(test_buf),
		cmocka_unit_test(test_buf_escaped),
		cmocka_unit_test(test_buf_numbers),
		cmocka_unit_test(test_buf_without_memory),
		cmocka_unit_test(test_steal),
		cmocka_unit_test(test_every_character),
		cmocka_unit_test(test_count_of_valid),
		cmocka_unit_test(test_bad_utf8),
		cmocka_unit_test(test_json_numbers),
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
