/* What SPEC may be, and what becomes of it. */
#include "client/url.h"

#include <unistd.h>

#include "fail_alloc.h"
#include "unit.h"

static void addresses(void **state)
{
	static const struct {
		const char *spec;
		bool tls;
		const char *host;
		int port;
		const char *ws, *http;
	} cases[] = {
		{ "https://api-eu-1.hpkv.io", true, "api-eu-1.hpkv.io", 443, "/ws?apiKey=K",
		  "https://api-eu-1.hpkv.io" },
		{ "wss://api-eu-1.hpkv.io/ws", true, "api-eu-1.hpkv.io", 443, "/ws?apiKey=K",
		  "https://api-eu-1.hpkv.io" },
		{ "https://h.example/", true, "h.example", 443, "/ws?apiKey=K", "https://h.example" },
		{ "https://h.example:8443/base", true, "h.example", 8443, "/base/ws?apiKey=K",
		  "https://h.example:8443/base" },
		{ "https://h.example/base/ws/", true, "h.example", 443, "/base/ws?apiKey=K", "https://h.example/base" },
		{ "https://h.example/news", true, "h.example", 443, "/news/ws?apiKey=K", "https://h.example/news" },
		{ "http://127.0.0.1:8080", false, "127.0.0.1", 8080, "/ws?apiKey=K", "http://127.0.0.1:8080" },
		{ "ws://127.1.2.3/ws", false, "127.1.2.3", 80, "/ws?apiKey=K", "http://127.1.2.3" },
		{ "ws://localhost:1", false, "localhost", 1, "/ws?apiKey=K", "http://localhost:1" },
		{ "HTTP://LocalHost:65535", false, "LocalHost", 65535, "/ws?apiKey=K", "http://LocalHost:65535" },
		{ "http://[::1]:8080", false, "::1", 8080, "/ws?apiKey=K", "http://[::1]:8080" },
		{ "https://[2001:db8::1]", true, "2001:db8::1", 443, "/ws?apiKey=K", "https://[2001:db8::1]" },
		{ "https://h.example:80", true, "h.example", 80, "/ws?apiKey=K", "https://h.example:80" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CLEANUP(buf_free) struct buf ws = BUF_INIT;
		CLEANUP(buf_free) struct buf http = BUF_INIT;
		struct hpkv_error error;
		struct url url;

		if (url_parse(cases[i].spec, false, &url, &error) != 0)
			fail_msg("%s: %s", cases[i].spec, error.text);
		assert_int_equal(url.kind, URL_TCP);
		assert_int_equal(url.tls, cases[i].tls);
		assert_string_equal(url.host, cases[i].host);
		assert_int_equal(url.port, cases[i].port);
		assert_int_equal(url_add_ws_path(&url, "apiKey", "K", &ws), 0);
		assert_string_equal(ws.p, cases[i].ws);
		assert_int_equal(url_add_http_base(&url, &http), 0);
		assert_string_equal(http.p, cases[i].http);
		url_free(&url);
	}
}

static void refused(void **state)
{
	static const char *const cases[] = {
		"",
		"api-eu-1.hpkv.io",
		"ftp://h.example",
		"https:/h.example",
		"https://",
		"https:///ws",
		"https://h.example:",
		"https://h.example:0",
		"https://h.example:65536",
		"https://h.example:123456",
		"https://h.example:8x",
		"https://h.example:-1",
		"https://user:sesame@h.example",
		"https://h.example?apiKey=K",
		"https://h.example/ws?x",
		"https://h.example#f",
		"https://h.example/a b",
		"https://h.example/\n",
		"https://h\xc3\xa9.example",
		"https://h.example/\xc3\xa9",
		"https://h.example/\xff",
		"https://[::1",
		"https://[]",
		"https://[::1]x",
		"https://[zz]",
		"https://[127.0.0.1]",
		"https://h ost",
		"http://example.com",
		"ws://10.0.0.1",
		"ws://128.0.0.1",
		"ws://127.0.0.1.example.com",
		"ws://localhost.example.com",
		"ws://[::2]",
		"unix:",
		"local:",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hpkv_error error = { 0 };
		struct url url = { .port = 4711 };

		if (url_parse(cases[i], false, &url, &error) != -EINVAL)
			fail_msg("%s was not refused", cases[i]);
		assert_int_equal(error.err, -EINVAL);
		assert_true(*error.text);
		assert_null(strchr(error.text, '\n'));
		assert_null(strstr(error.text, "sesame"));
		assert_int_equal(url.port, 4711);
	}
	assert_int_equal(url_parse(NULL, false, &(struct url){ 0 }, NULL), -EINVAL);
}

static void plain_text_on_purpose(void **state)
{
	struct url url;

	(void)state;
	assert_int_equal(url_parse("ws://10.0.0.1", true, &url, NULL), 0);
	assert_false(url.loopback_only);
	url_free(&url);
	assert_int_equal(url_parse("ws://localhost", false, &url, NULL), 0);
	assert_true(url.loopback_only);
	url_free(&url);
}

static void secrets_are_encoded(void **state)
{
	CLEANUP(buf_free) struct buf ws = BUF_INIT;
	struct url url;

	(void)state;
	assert_int_equal(url_parse("https://h.example", false, &url, NULL), 0);
	assert_int_equal(url_add_ws_path(&url, "token", "a+b/c=&#? %\xc3\xa9.-_~9", &ws), 0);
	assert_string_equal(ws.p, "/ws?token=a%2Bb%2Fc%3D%26%23%3F%20%25%C3%A9.-_~9");
	url_free(&url);
}

static void long_secrets(void **state)
{
	static const char letters[] = { 'a', '+' };
	char secret[URL_WS_PATH_MAX + 100];
	struct url url;

	(void)state;
	assert_int_equal(url_parse("https://h.example/base", false, &url, NULL), 0);
	for (size_t i = 0; i < sizeof(letters); i++) {
		const size_t each = letters[i] == '+' ? 3 : 1, head = strlen("/base/ws?token=");
		const size_t most = (URL_WS_PATH_MAX - head) / each;

		for (size_t len = most - 2; len < most + 50; len++) {
			CLEANUP(buf_free) struct buf out = BUF_INIT;

			memset(secret, letters[i], len);
			secret[len] = '\0';
			assert_int_equal(url_add_ws_path(&url, "token", secret, &out), len <= most ? 0 : -EMSGSIZE);
			if (len <= most)
				assert_int_equal(out.len, head + len * each);
		}
	}
	url_free(&url);
}

static void paths(void **state)
{
	char cwd[4096], expected[5000];
	struct url url;

	(void)state;
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	assert_int_equal(url_parse("unix:/run/x.socket", false, &url, NULL), 0);
	assert_int_equal(url.kind, URL_UNIX);
	assert_string_equal(url.path, "/run/x.socket");
	assert_string_equal(url.host, "localhost");
	url_free(&url);
	assert_int_equal(url_parse("local:a b/c//", false, &url, NULL), 0);
	assert_int_equal(url.kind, URL_LOCAL);
	snprintf(expected, sizeof(expected), "%s/a b/c", cwd);
	assert_string_equal(url.path, expected);
	url_free(&url);
	assert_int_equal(url_parse("local:/", false, &url, NULL), 0);
	assert_string_equal(url.path, "/");
	url_free(&url);
}

static void loopback(void **state)
{
	(void)state;
	assert_true(url_address_is_loopback("127.0.0.1"));
	assert_true(url_address_is_loopback("127.255.255.255"));
	assert_true(url_address_is_loopback("::1"));
	assert_false(url_address_is_loopback("126.0.0.1"));
	assert_false(url_address_is_loopback("::"));
	assert_false(url_address_is_loopback("::ffff:8.8.8.8"));
	assert_false(url_address_is_loopback("localhost"));
}

static int parse_once(const char *spec)
{
	struct hpkv_error error = { 0 };
	struct url url = { .port = 4711 };
	int r = url_parse(spec, false, &url, &error);

	if (r) {
		assert_int_equal(error.err, r);
		assert_int_equal(url.port, 4711);
		return r;
	}
	url_free(&url);
	return 0;
}

static int write_once(const struct url *url)
{
	CLEANUP(buf_free) struct buf out = BUF_INIT;
	int r = url_add_ws_path(url, "token", "a+b and more than fits into the first piece", &out);

	return r ? r : url_add_http_base(url, &out);
}

static void out_of_memory(void **state)
{
	static const char *const specs[] = { "https://h.example:8443/base", "https://[2001:db8::1]", "unix:/run/x",
					     "local:relative" };

	(void)state;
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		struct url url;

		assert_survives_failures(parse_once(specs[i]), (void)0);
		assert_int_equal(url_parse(specs[i], false, &url, NULL), 0);
		if (url.kind == URL_TCP)
			assert_survives_failures(write_once(&url), (void)0);
		url_free(&url);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses),
		cmocka_unit_test(refused),
		cmocka_unit_test(plain_text_on_purpose),
		cmocka_unit_test(secrets_are_encoded),
		cmocka_unit_test(long_secrets),
		cmocka_unit_test(paths),
		cmocka_unit_test(loopback),
		cmocka_unit_test(out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
