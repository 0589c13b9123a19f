/* Messages read in place: the same as jansson makes of them, or left to it. */
#include "base/flat.h"

#include <jansson.h>

#include "unit.h"

/* --- beside jansson --- */

static void assert_same_value(struct flat_value value, const json_t *expected)
{
	switch (value.kind) {
	case FLAT_STRING:
		assert_true(json_is_string(expected));
		assert_int_equal(value.text.len, json_string_length(expected));
		assert_memory_equal(value.text.p, json_string_value(expected), value.text.len);
		break;
	case FLAT_NUMBER:
		assert_true(json_is_number(expected));
		assert_float_equal(strtod(value.text.p, NULL), json_number_value(expected), 0);
		break;
	case FLAT_TRUE:
		assert_true(json_is_true(expected));
		break;
	case FLAT_FALSE:
		assert_true(json_is_false(expected));
		break;
	case FLAT_NULL:
		assert_true(json_is_null(expected));
		break;
	default:
		fail();
	}
}

/* Answers whether the text was simple enough. What is accepted is what jansson accepts. */
static bool compare(struct str text)
{
	/* of its exact size, so that a sanitizer sees a byte too far; numbers end by what follows them */
	char *copy = malloc(text.len + (text.len == 0));
	struct flat flat;
	bool simple;

	assert_non_null(copy);
	memcpy(copy, text.p, text.len);
	simple = flat_read(&flat, str_of(copy, text.len));
	if (simple) {
		json_t *tree = json_loadb(copy, text.len, 0, NULL);

		assert_true(json_is_object(tree));
		for (size_t i = 0; i < flat.count; i++) {
			char *name = strndup(flat.names[i].p, flat.names[i].len);

			assert_non_null(name);
			/* the last of several with one name counts for both */
			assert_same_value(flat_get(&flat, flat.names[i]), json_object_get(tree, name));
			free(name);
		}
		json_decref(tree);
	}
	free(copy);
	return simple;
}

static void simple_ones(void **state)
{
	static const char *const texts[] = {
		"{\"code\":200,\"messageId\":1,\"key\":\"a\",\"value\":\"b\"}",
		"{\"a\":\"\"}",
		"{\"\":1}",
		" \t\r\n{ \"a\" : true ,\n\"b\":false,\"c\": null } \n",
		"{\"n\":-0,\"m\":0.10,\"l\":1e5,\"k\":-12.5E-3}",
		"{\"a\":1,\"a\":\"two\",\"b\":3,\"a\":null}",
		"{\"\xc3\xa9\":\"\xf0\x9f\x98\x80\x7f\"}",
		"{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9,\"j\":10,\"k\":11,\"l\":12}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (!compare(str_c(texts[i])))
			fail_msg("%s is simple", texts[i]);
}

static void others(void **state)
{
	static const char *const texts[] = {
		"",
		"{}", /* valid, and not worth a case */
		"[]",
		"1",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{,\"a\":1}",
		"{\"a\":1}}",
		"{\"a\":1}x",
		"{\"a\":1",
		"{\"a\":\"b",
		"{\"a\":\"b\\n\"}",
		"{\"a\\u0000\":1}",
		"{\"a\":\"\n\"}",
		"{\"a\":\"\n\"true}",
		"{\"a\":\"\\n\"null}",
		"{\"a\":[]}",
		"{\"a\":{}}",
		"{\"a\":01}",
		"{\"a\":1.}",
		"{\"a\":+1}",
		"{\"a\":truex}",
		"{\"a\":tru}",
		"{\"a\":nullnull}",
		"{\"a\":True}",
		"{a:1}",
		"{'a':1}",
		"{\"a\":1 \"b\":2}",
		"{\"a\":\"\xc3\"}",
		"{\"a\":\"\xed\xa0\x80\"}",
		"{\"\xff\":1}",
		"{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9,\"j\":10,\"k\":11,\"l\":12,\"m\":13}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (compare(str_c(texts[i])))
			fail_msg("%s is not simple", texts[i]);
	assert_false(compare(STR("{\"a\":\"\0\"}")));
}

static void damaged(void **state)
{
	static const char text[] = "{\"code\":200, \"value\":\"x\xc3\xa9y\",\"n\":-1.5e3,\"ok\":true,\"no\":null}";
	char copy[sizeof(text) - 1];

	(void)state;
	for (size_t len = 0; len < sizeof(copy); len++)
		assert_false(compare(str_of(text, len)));
	for (size_t at = 0; at < sizeof(copy); at++) {
		for (unsigned c = 0; c < 256; c++) {
			memcpy(copy, text, sizeof(copy));
			copy[at] = (char)c;
			compare(str_of(copy, sizeof(copy)));
		}
	}
}

/* --- the rest --- */

static void the_last_of_a_name(void **state)
{
	struct flat flat;

	(void)state;
	assert_true(flat_read(&flat, STR("{\"a\":1,\"a\":2,\"ab\":3}")));
	assert_memory_equal(flat_get(&flat, STR("a")).text.p, "2", 1);
	assert_int_equal(flat_get(&flat, STR("b")).kind, FLAT_MISSING);
}

static void plain(void **state)
{
	(void)state;
	assert_true(flat_plain(STR("")));
	assert_true(flat_plain(STR("a b/\x7f\xc3\xa9")));
	assert_false(flat_plain(STR("a\"")));
	assert_false(flat_plain(STR("\\")));
	assert_false(flat_plain(STR("0123456789abcdef0123456789abcdef\x1f")));
	assert_false(flat_plain(STR("\0")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(simple_ones),        cmocka_unit_test(others), cmocka_unit_test(damaged),
		cmocka_unit_test(the_last_of_a_name), cmocka_unit_test(plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
