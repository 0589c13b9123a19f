/* When tokens say that they expire. The tokens here were made with base64(1). */
#include "client/token_expiry.h"

#include "unit.h"

#define HEADER "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9" /* {"alg":"HS256","typ":"JWT"} */

static void read_from_claims(void **state)
{
	static const struct {
		const char *token;
		int64_t now_ms;
		uint64_t left_ms;
	} cases[] = {
		/* {"exp":2000000000} */
		{ HEADER ".eyJleHAiOjIwMDAwMDAwMDB9.c2ln", 1999999990000, 10000 },
		{ HEADER ".eyJleHAiOjIwMDAwMDAwMDB9.c2ln", 1999999999999, 1 },
		{ HEADER ".eyJleHAiOjIwMDAwMDAwMDB9.", 1999999990000, 10000 },
		/* {"exp":2000000000.5} */
		{ HEADER ".eyJleHAiOjIwMDAwMDAwMDAuNX0.c2ln", 2000000000000, 500 },
		/* {"expires":2000000000}, in the first part, without and with padding */
		{ "eyJleHBpcmVzIjoyMDAwMDAwMDAwfQ.c2ln", 1999999990000, 10000 },
		{ "eyJleHBpcmVzIjoyMDAwMDAwMDAwfQ==.c2ln", 1999999990000, 10000 },
		/* {"s":"~~~???","exp":2000000000}, with the characters that are base64url's own */
		{ "eyJzIjoifn5-Pz8_IiwiZXhwIjoyMDAwMDAwMDAwfQ.c2ln", 1999999990000, 10000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(token_left_ms(cases[i].token, cases[i].now_ms), cases[i].left_ms);
}

static void not_believed(void **state)
{
	static const char *const tokens[] = {
		"",
		".",
		"..",
		"...",
		"token",
		"eyJleHAiOjIwMDAwMDAwMDB9", /* no part, though it decodes */
		HEADER ".!!!.c2ln",
		HEADER ".bm8gSlNPTg.c2ln",                     /* no JSON */
		HEADER ".W10.c2ln",                            /* [] */
		HEADER ".e30.c2ln",                            /* {} */
		HEADER ".eyJleHAiOiIyMDAwMDAwMDAwIn0.c2ln",    /* {"exp":"2000000000"} */
		HEADER ".eyJleHAiOm51bGx9.c2ln",               /* {"exp":null} */
		HEADER ".eyJleHAiOi0yMDAwMDAwMDAwfQ.c2ln",     /* {"exp":-2000000000} */
		HEADER ".eyJleHAiOjFlMzA4fQ.c2ln",             /* {"exp":1e308} */
		HEADER ".eyJleHAiOjk5OTk5OTk5OTk5OTk5fQ.c2ln", /* {"exp":99999999999999} */
		HEADER ".eyJleHAiOjIwMDAwMDAwMDB9.c2ln",       /* {"exp":2000000000}, which is now */
		HEADER "." HEADER ".eyJleHAiOjIwMDAwMDAwMDF9", /* {"exp":2000000001}, in the signature's place */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
		assert_int_equal(token_left_ms(tokens[i], 2000000000000), 0);
	assert_int_equal(token_left_ms(HEADER ".eyJleHAiOjIwMDAwMDAwMDB9.c2ln", 2100000000000), 0);
}

static void very_long(void **state)
{
	size_t len = 1024 * 1024;
	char *token = malloc(len + 3);

	(void)state;
	memset(token, 'A', len);
	memcpy(token + len, ".A", 3);
	assert_int_equal(token_left_ms(token, 0), 0);
	free(token);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(read_from_claims),
		cmocka_unit_test(not_believed),
		cmocka_unit_test(very_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
