/* JSON to the server and back: what is sent, byte for byte, and what is made of all that can come. */
#include "client/codec.h"

#include "client/scan.h"
#include "fail_alloc.h"
#include "unit.h"

/* --- requests --- */

static void assert_encoded(const struct call *call, uint32_t id, const char *expected)
{
	CLEANUP(buf_free) struct buf out = BUF_INIT;

	assert_int_equal(codec_encode(&out, id, call), 0);
	assert_string_equal(out.p, expected);
}

static void requests(void **state)
{
	(void)state;
	assert_encoded(&(struct call){ .op = OP_GET, .key = STR("a") }, 1, "{\"op\":1,\"messageId\":1,\"key\":\"a\"}");
	assert_encoded(&(struct call){ .op = OP_SET, .key = STR("k\"\n\\"), .value = STR("v\t\x01/") }, 2147483647,
		       "{\"op\":2,\"messageId\":2147483647,\"key\":\"k\\\"\\n\\\\\",\"value\":\"v\\t\\u0001/\"}");
	assert_encoded(&(struct call){ .op = OP_PATCH, .key = STR("\xc3\xa9"), .value = STR("\xf0\x9f\x98\x80") }, 7,
		       "{\"op\":3,\"messageId\":7,\"key\":\"\xc3\xa9\",\"value\":\"\xf0\x9f\x98\x80\"}");
	assert_encoded(&(struct call){ .op = OP_DELETE, .key = STR("a") }, 8,
		       "{\"op\":4,\"messageId\":8,\"key\":\"a\"}");
	assert_encoded(&(struct call){ .op = OP_RANGE, .key = STR("a"), .end_key = STR("b") }, 9,
		       "{\"op\":5,\"messageId\":9,\"key\":\"a\",\"endKey\":\"b\"}");
	assert_encoded(&(struct call){ .op = OP_RANGE, .key = STR("a"), .end_key = STR("b"), .limit = 1000 }, 9,
		       "{\"op\":5,\"messageId\":9,\"key\":\"a\",\"endKey\":\"b\",\"limit\":1000}");
}

static void nul_in_strings(void **state)
{
	(void)state;
	assert_encoded(&(struct call){ .op = OP_SET, .key = STR("a\0b"), .value = STR("\0") }, 1,
		       "{\"op\":2,\"messageId\":1,\"key\":\"a\\u0000b\",\"value\":\"\\u0000\"}");
}

static void increments_keep_their_text(void **state)
{
	(void)state;
	assert_encoded(&(struct call){ .op = OP_ATOMIC, .key = STR("n"), .value = STR("-0.10") }, 3,
		       "{\"op\":6,\"messageId\":3,\"key\":\"n\",\"value\":-0.10}");
	assert_encoded(
		&(struct call){ .op = OP_ATOMIC, .key = STR("n"), .value = STR("123456789012345678901234567890") }, 3,
		"{\"op\":6,\"messageId\":3,\"key\":\"n\",\"value\":123456789012345678901234567890}");
}

/* --- numbers --- */

static void number_grammar(void **state)
{
	static const char *const good[] = { "0",     "-0",  "1",    "10",    "-12",    "0.5",
					    "1.50",  "1e5", "1E+5", "1e-05", "-1.2e3", "9007199254740993",
					    "1e400", "0e0" };
	static const char *const bad[] = { "",     "-",   "+1", "01", "-01", "1.",  ".5",  "1e",       "1e+",
					   "1e5.", "0x1", "1 ", " 1", "--1", "1-1", "NaN", "Infinity", "1.2.3" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!scan_number_valid(str_c(good[i])))
			fail_msg("%s is a number", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (scan_number_valid(str_c(bad[i])))
			fail_msg("%s is no number", bad[i]);
}

static void message_ids(void **state)
{
	(void)state;
	assert_int_equal(scan_number_id(STR("1")), 1);
	assert_int_equal(scan_number_id(STR("2147483647")), 2147483647);
	assert_int_equal(scan_number_id(STR("2147483648")), 0);
	assert_int_equal(scan_number_id(STR("99999999999999999999")), 0);
	assert_int_equal(scan_number_id(STR("-1")), 0);
	assert_int_equal(scan_number_id(STR("1.0")), 0);
	assert_int_equal(scan_number_id(STR("0")), 0);
	assert_int_equal(scan_number_id(STR("")), 0);
}

/* --- replies --- */

struct parsed {
	struct message message;
	struct hpkv_reply reply;
	struct hpkv_error error;
	int r;
};

static void parsed_free(struct parsed *parsed)
{
	message_free(&parsed->message);
}

#define PARSED CLEANUP(parsed_free) struct parsed p = { 0 }

static void parse(struct parsed *parsed, enum op op, struct str raw)
{
	parsed->r = message_decode(&parsed->message, raw);
	if (parsed->r == 0 && parsed->message.kind == MESSAGE_REPLY)
		message_reply(&parsed->message, op, &parsed->reply, &parsed->error);
}

static void assert_slice(struct hpkv_slice slice, struct str expected)
{
	assert_int_equal(slice.size, expected.len);
	assert_memory_equal(slice.data, expected.p, expected.len);
}

static void get_string(void **state)
{
	PARSED;

	(void)state;
	parse(&p, OP_GET,
	      STR("{\"messageId\":5,\"code\":200,\"key\":\"a\",\"value\":\"x \\u0000 \\ud83d\\ude00 \\u00e9 \\\" \\\\\"}"));
	assert_int_equal(p.r, 0);
	assert_int_equal(p.message.id, 5);
	assert_null(p.reply.error);
	assert_false(p.reply.number);
	assert_slice(p.reply.value, STR("x \0 \xf0\x9f\x98\x80 \xc3\xa9 \" \\"));
}

static void get_numbers_exact(void **state)
{
	static const char *const numbers[] = {
		"0", "-0", "0.10", "1e400", "-1E-400", "12345678901234567890123", "9007199254740993", "1.0"
	};

	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		CLEANUP(buf_free) struct buf raw = BUF_INIT;
		PARSED;

		assert_int_equal(buf_printf(&raw, "{ \"value\" : %s , \"code\":200,\"messageId\":1}", numbers[i]), 0);
		parse(&p, OP_GET, buf_str(&raw));
		assert_int_equal(p.r, 0);
		assert_null(p.reply.error);
		assert_true(p.reply.number);
		assert_slice(p.reply.value, str_c(numbers[i]));
	}
}

static void digits_in_strings_stay(void **state)
{
	PARSED;

	(void)state;
	parse(&p, OP_GET, STR("{\"messageId\":1,\"code\":200,\"value\":\"12 \\\\\\\" 34 -5e3 {[\\\\\"}"));
	assert_null(p.reply.error);
	assert_slice(p.reply.value, STR("12 \\\" 34 -5e3 {[\\"));
}

static void refusals(void **state)
{
	static const struct {
		const char *raw;
		int err, code;
		const char *text;
	} cases[] = {
		{ "{\"messageId\":1,\"code\":404,\"error\":\"Record not found\"}", -ENOENT, 404, "Record not found" },
		{ "{\"messageId\":1,\"code\":400,\"message\":\"empty value\"}", -EINVAL, 400, "empty value" },
		{ "{\"messageId\":1,\"code\":401}", -EACCES, 401, "the server answered code 401" },
		{ "{\"messageId\":1,\"code\":403,\"error\":\"\",\"message\":\"no\"}", -EACCES, 403, "no" },
		{ "{\"messageId\":1,\"code\":409,\"error\":5}", -EINVAL, 409, "the server answered code 409" },
		{ "{\"messageId\":1,\"code\":413,\"error\":\"too large\"}", -EFBIG, 413, "too large" },
		{ "{\"messageId\":1,\"code\":429,\"error\":\"slow down\"}", -EAGAIN, 429, "slow down" },
		{ "{\"messageId\":1,\"code\":500,\"error\":\"two\\nlines\"}", -EIO, 500, "two lines" },
		{ "{\"messageId\":1,\"code\":201}", -EIO, 201, "the server answered code 201" },
		{ "{\"messageId\":1}", -EPROTO, 0, "the server's reply has no code" },
		{ "{\"messageId\":1,\"code\":\"200\",\"value\":\"x\"}", -EPROTO, 0, "the server's reply has no code" },
		{ "{\"messageId\":1,\"code\":-200,\"value\":\"x\"}", -EPROTO, 0, "the server's reply has no code" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		PARSED;

		parse(&p, OP_GET, str_c(cases[i].raw));
		assert_int_equal(p.r, 0);
		assert_ptr_equal(p.reply.error, &p.error);
		assert_int_equal(p.error.err, cases[i].err);
		assert_int_equal(p.error.code, cases[i].code);
		assert_string_equal(p.error.text, cases[i].text);
	}
}

static void senseless_successes(void **state)
{
	static const struct {
		enum op op;
		const char *members;
	} cases[] = {
		{ OP_GET, "" },
		{ OP_GET, ",\"value\":null" },
		{ OP_GET, ",\"value\":{}" },
		{ OP_GET, ",\"value\":[\"a\"]" },
		{ OP_GET, ",\"value\":true" },
		{ OP_SET, ",\"success\":false" },
		{ OP_RANGE, "" },
		{ OP_RANGE, ",\"records\":{}" },
		{ OP_RANGE, ",\"records\":[1]" },
		{ OP_RANGE, ",\"records\":[{\"key\":\"a\"}]" },
		{ OP_RANGE, ",\"records\":[{\"value\":\"a\"}]" },
		{ OP_RANGE, ",\"records\":[{\"key\":1,\"value\":\"a\"}]" },
		{ OP_RANGE, ",\"records\":[{\"key\":\"a\",\"value\":null}]" },
		{ OP_ATOMIC, "" },
		{ OP_ATOMIC, ",\"newValue\":\"5\"" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CLEANUP(buf_free) struct buf raw = BUF_INIT;
		PARSED;

		assert_int_equal(buf_printf(&raw, "{\"messageId\":1,\"code\":200%s}", cases[i].members), 0);
		parse(&p, cases[i].op, buf_str(&raw));
		assert_int_equal(p.r, 0);
		assert_ptr_equal(p.reply.error, &p.error);
		assert_int_equal(p.error.err, -EPROTO);
		assert_null(p.reply.records);
	}
}

static void plain_successes(void **state)
{
	static const enum op ops[] = { OP_SET, OP_PATCH, OP_DELETE };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		PARSED;

		parse(&p, ops[i], STR("{\"success\":true,\"messageId\":1,\"code\":200}"));
		assert_null(p.reply.error);
	}
}

static void range_records(void **state)
{
	PARSED;

	(void)state;
	parse(&p, OP_RANGE,
	      STR("{\"code\":200,\"messageId\":3,\"records\":[{\"key\":\"a\\u0000\",\"value\":\"1\"},{\"value\":2.50,\"key\":\"b\"}],"
		  "\"count\":2,\"truncated\":true}"));
	assert_null(p.reply.error);
	assert_int_equal(p.reply.count, 2);
	assert_true(p.reply.truncated);
	assert_slice(p.reply.records[0].key, STR("a\0"));
	assert_slice(p.reply.records[0].value, STR("1"));
	assert_false(p.reply.records[0].number);
	assert_slice(p.reply.records[1].key, STR("b"));
	assert_slice(p.reply.records[1].value, STR("2.50"));
	assert_true(p.reply.records[1].number);
}

static void range_empty(void **state)
{
	PARSED;

	(void)state;
	parse(&p, OP_RANGE, STR("{\"code\":200,\"messageId\":3,\"records\":[],\"count\":0,\"truncated\":false}"));
	assert_null(p.reply.error);
	assert_int_equal(p.reply.count, 0);
	assert_false(p.reply.truncated);
}

static void atomic_sum(void **state)
{
	PARSED;

	(void)state;
	parse(&p, OP_ATOMIC,
	      STR("{\"code\":200,\"messageId\":3,\"success\":true,\"key\":\"n\",\"newValue\":18446744073709551616}"));
	assert_null(p.reply.error);
	assert_slice(p.reply.value, STR("18446744073709551616"));
	assert_true(p.reply.number);
}

/* The same struct for one message after the other: nothing of one may show in the next. */
static void decoded_again(void **state)
{
	PARSED;

	(void)state;
	parse(&p, OP_GET, STR("{\"messageId\":1,\"code\":200,\"value\":17}"));
	assert_slice(p.reply.value, STR("17"));
	parse(&p, OP_GET, STR("{\"messageId\":2,\"code\":200"));
	assert_int_equal(p.r, -EPROTO);
	parse(&p, OP_GET, STR("{\"type\":\"notification\",\"key\":\"k\",\"value\":null,\"timestamp\":1700000000000}"));
	assert_int_equal(p.message.kind, MESSAGE_NOTIFICATION);
	parse(&p, OP_GET, STR("{\"messageId\":3,\"code\":200,\"value\":\"s\"}"));
	assert_int_equal(p.message.kind, MESSAGE_REPLY);
	assert_int_equal(p.message.id, 3);
	assert_slice(p.reply.value, STR("s"));
}

/* --- notifications --- */

static void notifications(void **state)
{
	PARSED;

	(void)state;
	assert_int_equal(
		message_decode(
			&p.message,
			STR("{\"type\":\"notification\",\"key\":\"k\",\"value\":\"v\",\"timestamp\":1700000000123}")),
		0);
	assert_int_equal(p.message.kind, MESSAGE_NOTIFICATION);
	assert_slice(p.message.notification.key, STR("k"));
	assert_slice(p.message.notification.value, STR("v"));
	assert_true(p.message.notification.timestamp_ms == 1700000000123);
	assert_int_equal(
		message_decode(&p.message,
			       STR("{\"type\":\"notification\",\"key\":\"k\",\"value\":null,\"timestamp\":1.7e3}")),
		0);
	assert_null(p.message.notification.value.data);
	assert_int_equal(message_decode(&p.message, STR("{\"type\":\"notification\",\"key\":\"k\",\"value\":0.1}")), 0);
	assert_slice(p.message.notification.value, STR("0.1"));
	assert_true(p.message.notification.number);
	assert_int_equal(message_decode(&p.message, STR("{\"type\":\"notification\",\"value\":\"v\"}")), -EPROTO);
	assert_int_equal(message_decode(&p.message, STR("{\"type\":\"notification\",\"key\":\"k\"}")), -EPROTO);
	assert_int_equal(message_decode(&p.message, STR("{\"type\":\"notification\",\"key\":\"k\",\"value\":[]}")),
			 -EPROTO);
}

/* --- garbage --- */

static void garbage(void **state)
{
	static const struct str cases[] = {
		{ "", 0 },
		{ "\0", 1 },
		{ "null", 4 },
		{ "5", 1 },
		{ "\"x\"", 3 },
		{ "[]", 2 },
		{ "{", 1 },
		{ "{}}", 3 },
		{ "{\"a\":1", 6 },
		{ "{\"a\":\"", 6 },
		{ "{\"a\":\"\\", 7 },
		{ "{\"a\":01}", 8 },
		{ "{\"a\":1 2}", 9 },
		{ "{\"a\":1,}", 8 },
		{ "{\"a\":tr1ue}", 11 },
		{ "{\"a\":\"\xff\"}", 9 },
		{ "{\"a\":\"\\ud800\"}", 14 },
		{ "{\"a\":\"\n\"}", 9 },
		{ "<html>", 6 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		PARSED;

		if (message_decode(&p.message, cases[i]) != -EPROTO)
			fail_msg("case %zu was not refused", i);
	}
}

static void broken_replies_keep_their_id(void **state)
{
	static const struct {
		const char *raw;
		uint32_t id;
	} cases[] = {
		{ "{\"messageId\":12,\"code\":200,\"value\":\"\\ud800\"}", 12 },
		{ "{\"value\":\"\xff\",\"messageId\" : 13 ,\"code\":200}", 13 },
		{ "{\"messageId\":14,\"value\":01}", 14 },
		{ "{\"a\":{\"messageId\":15},\"value\":01}", 0 },
		{ "{\"a\":\"messageId\",\"b\":15,\"value\":01}", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		PARSED;

		assert_int_equal(message_decode(&p.message, str_c(cases[i].raw)), -EPROTO);
		assert_int_equal(p.message.id, cases[i].id);
	}
}

static void others(void **state)
{
	static const char *const cases[] = { "{}",
					     "{\"messageId\":0,\"code\":200}",
					     "{\"messageId\":\"1\",\"code\":200}",
					     "{\"messageId\":1.5}",
					     "{\"messageId\":-1}",
					     "{\"type\":\"hello\",\"value\":1}" };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		PARSED;

		assert_int_equal(message_decode(&p.message, str_c(cases[i])), 0);
		assert_int_equal(p.message.kind, MESSAGE_OTHER);
	}
}

static void nested(struct buf *out, size_t depth)
{
	assert_int_equal(buf_add_str(out, STR("{\"a\":")), 0);
	for (size_t i = 1; i < depth; i++)
		assert_int_equal(buf_add_char(out, '['), 0);
	for (size_t i = 1; i < depth; i++)
		assert_int_equal(buf_add_char(out, ']'), 0);
	assert_int_equal(buf_add_str(out, depth == 1 ? STR("1}") : STR("}")), 0);
}

static void depth_is_bounded(void **state)
{
	static const struct {
		size_t depth;
		int r;
	} cases[] = { { 1, 0 }, { SCAN_MAX_DEPTH, 0 }, { SCAN_MAX_DEPTH + 1, -EPROTO }, { 1000000, -EPROTO } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CLEANUP(buf_free) struct buf raw = BUF_INIT;
		PARSED;

		nested(&raw, cases[i].depth);
		assert_int_equal(message_decode(&p.message, buf_str(&raw)), cases[i].r);
	}
}

/* Every beginning of a good message, and it with every byte changed in turn: no crash, no read past the end (the
 * text is copied to a block of exactly its size, for the sanitizers). */
static void damaged(void **state)
{
	static const char text[] =
		"{\"messageId\":1,\"code\":200,\"records\":[{\"key\":\"a\\\\\\\"\",\"value\":-1.5e+3}],\"truncated\":true}";
	const struct str whole = STR(text);

	(void)state;
	for (size_t len = 0; len < whole.len; len++) {
		char *copy = malloc(len + (len == 0));
		PARSED;

		assert_non_null(copy);
		memcpy(copy, whole.p, len);
		assert_int_equal(message_decode(&p.message, str_of(copy, len)), -EPROTO);
		free(copy);
	}
	for (size_t at = 0; at < whole.len; at++) {
		static const char changes[] = { '"', '\\', '{', '}', '[', ']', ',', ':', '0', '-', 'e', '\0', '\x80' };

		for (size_t c = 0; c < sizeof(changes); c++) {
			char copy[sizeof(text) - 1];
			PARSED;

			memcpy(copy, whole.p, sizeof(copy));
			copy[at] = changes[c];
			parse(&p, OP_RANGE, str_of(copy, sizeof(copy)));
			assert_true(p.r == 0 || p.r == -EPROTO);
		}
	}
}

/* --- lack of memory --- */

static int encode_once(const struct call *call)
{
	CLEANUP(buf_free) struct buf out = BUF_INIT;

	return codec_encode(&out, 1, call);
}

/* jansson reports lack of memory in its scanner as an invalid token, so -EPROTO is as good; what matters is that
 * nothing leaks and that it is a failure. */
static int decode_again(struct parsed *parsed, enum op op, struct str raw)
{
	parsed->reply = (struct hpkv_reply){ 0 };
	parse(parsed, op, raw);
	if (parsed->r)
		return parsed->r == -EPROTO ? -ENOMEM : parsed->r;
	return parsed->reply.error ? parsed->reply.error->err : 0;
}

static int decode_once(enum op op, struct str raw)
{
	PARSED;

	return decode_again(&p, op, raw);
}

static void encoding_out_of_memory(void **state)
{
	static const struct call calls[] = {
		{ .op = OP_GET, .key = { "a\n", 2 } },
		{ .op = OP_SET, .key = { "a", 1 }, .value = { "\xc3\xa9 \"\\ and more than fits at once", 33 } },
		{ .op = OP_PATCH, .key = { "a", 1 }, .value = { "{\"b\":null}", 10 } },
		{ .op = OP_DELETE, .key = { "a", 1 } },
		{ .op = OP_RANGE, .key = { "a\n", 2 }, .end_key = { "b", 1 }, .limit = 5 },
		{ .op = OP_ATOMIC, .key = { "a", 1 }, .value = { "-12.50", 6 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		assert_survives_failures(encode_once(&calls[i]), (void)0);
}

/* Simple ones, which are read in place, and others; afresh, and by a struct that has decoded before. */
static void decoding_out_of_memory(void **state)
{
	static const struct {
		enum op op;
		const char *raw;
	} cases[] = {
		{ OP_GET, "{\"messageId\":1,\"code\":200,\"key\":\"a\",\"value\":\"x\"}" },
		{ OP_GET, "{\"messageId\":1,\"code\":200,\"value\":\"\\u00e9 \\n \\ud83d\\ude00\"}" },
		{ OP_GET, "{\"messageId\":1,\"code\":200,\"value\":12.50,\"more\":{\"a\":[1,2.5,{}]}}" },
		{ OP_SET, "{\"messageId\":1,\"code\":200,\"success\":true,\"\\u0061\":1}" },
		{ OP_RANGE,
		  "{\"messageId\":1,\"code\":200,\"records\":[{\"key\":\"a\",\"value\":1.5},"
		  "{\"key\":\"b\",\"value\":\"\"},{\"value\":\"\\u0000\",\"key\":\"c\"}],\"truncated\":true}" },
		{ OP_ATOMIC, "{\"messageId\":1,\"code\":200,\"newValue\":123456789012345678901234567890,\"x\":[]}" },
		{ OP_GET,
		  "{\"type\":\"notification\",\"key\":\"\\u006b\",\"value\":0.10,\"timestamp\":1,\"x\":[0.1]}" },
	};
	PARSED;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct str raw = str_c(cases[i].raw);

		assert_survives_failures(decode_once(cases[i].op, raw), (void)0);
		assert_survives_failures(decode_again(&p, cases[i].op, raw), (void)0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests),
		cmocka_unit_test(nul_in_strings),
		cmocka_unit_test(increments_keep_their_text),
		cmocka_unit_test(number_grammar),
		cmocka_unit_test(message_ids),
		cmocka_unit_test(get_string),
		cmocka_unit_test(get_numbers_exact),
		cmocka_unit_test(digits_in_strings_stay),
		cmocka_unit_test(refusals),
		cmocka_unit_test(senseless_successes),
		cmocka_unit_test(plain_successes),
		cmocka_unit_test(range_records),
		cmocka_unit_test(range_empty),
		cmocka_unit_test(atomic_sum),
		cmocka_unit_test(decoded_again),
		cmocka_unit_test(notifications),
		cmocka_unit_test(garbage),
		cmocka_unit_test(broken_replies_keep_their_id),
		cmocka_unit_test(others),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(damaged),
		cmocka_unit_test(encoding_out_of_memory),
		cmocka_unit_test(decoding_out_of_memory),
	};

	json_set_alloc_funcs(fail_alloc_malloc, free);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
