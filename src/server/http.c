#include "server/http.h"

#include <errno.h>
#include <strings.h>

static bool equal_nocase(struct str a, struct str b)
{
	return a.len == b.len && strncasecmp(a.p, b.p, a.len) == 0;
}

static struct str trim(struct str s)
{
	while (s.len && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = str_skip(s, 1);
	while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
		s.len--;
	return s;
}

/* Cuts the text up to `separator` off the front of rest; all of it where there is none. */
static struct str cut(struct str *rest, char separator)
{
	const char *end = rest->len ? memchr(rest->p, separator, rest->len) : NULL;
	struct str part = *rest;

	if (end) {
		part.len = (size_t)(end - rest->p);
		*rest = str_skip(*rest, part.len + 1);
	} else {
		*rest = str_skip(*rest, rest->len);
	}
	return part;
}

/* True if a header's list, separated by commas, has the word. */
static bool has_word(struct str list, struct str word)
{
	while (list.len)
		if (equal_nocase(trim(cut(&list, ',')), word))
			return true;
	return false;
}

static int parse_length(struct str value, size_t *out)
{
	size_t length = 0;

	if (!value.len || value.len > 15)
		return -1;
	for (size_t i = 0; i < value.len; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return -1;
		length = length * 10 + (size_t)(value.p[i] - '0');
	}
	*out = length;
	return 0;
}

static int parse_request_line(struct str line, struct http_head *out)
{
	struct str target, version;

	out->method = cut(&line, ' ');
	target = cut(&line, ' ');
	version = line;
	if (!out->method.len || !target.len || target.p[0] != '/')
		return -1;
	for (size_t i = 0; i < target.len; i++)
		if (target.p[i] <= ' ' || target.p[i] == 127)
			return -1;
	out->path = cut(&target, '?');
	out->query = target;
	if (str_equal(version, STR("HTTP/1.1")))
		out->keep_alive = true;
	else if (!str_equal(version, STR("HTTP/1.0")))
		return -1;
	return 0;
}

static int parse_header(struct str line, struct http_head *out)
{
	struct str name = cut(&line, ':'), value = trim(line);

	/* a space before the colon and folded lines are ways to smuggle requests */
	if (!name.len || name.p[0] == ' ' || name.p[0] == '\t' || name.p[name.len - 1] == ' ')
		return -1;
	if (equal_nocase(name, STR("content-length")))
		return parse_length(value, &out->content_length);
	if (equal_nocase(name, STR("transfer-encoding")))
		out->chunked = true;
	else if (equal_nocase(name, STR("x-api-key")))
		out->api_key = value;
	else if (equal_nocase(name, STR("upgrade")))
		out->upgrade = has_word(value, STR("websocket"));
	else if (equal_nocase(name, STR("sec-websocket-key")))
		out->ws_key = value;
	else if (equal_nocase(name, STR("sec-websocket-version")))
		out->ws_version = value;
	else if (equal_nocase(name, STR("expect")))
		out->expect_continue = equal_nocase(value, STR("100-continue"));
	else if (equal_nocase(name, STR("connection")) && has_word(value, STR("close")))
		out->keep_alive = false;
	else if (equal_nocase(name, STR("connection")) && has_word(value, STR("keep-alive")))
		out->keep_alive = true;
	return 0;
}

int http_head_parse(struct str input, struct http_head *out)
{
	const char *end = input.len ? memmem(input.p, input.len, "\r\n\r\n", 4) : NULL;
	struct http_head head = { 0 };
	bool first = true;
	struct str text;

	if (!end)
		return 0;
	head.total = (size_t)(end - input.p) + 4;
	text = str_of(input.p, head.total - 2);
	while (text.len) {
		struct str line = cut(&text, '\n');

		if (!line.len || line.p[line.len - 1] != '\r')
			return -400;
		line.len--;
		if (first ? parse_request_line(line, &head) : parse_header(line, &head))
			return -400;
		first = false;
	}
	*out = head;
	return 1;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int http_decode(struct str text, bool plus_is_space, struct buf *out)
{
	if (buf_reserve(out, text.len))
		return -ENOMEM;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.p[i];

		if (c == '%') {
			if (text.len - i < 3 || hex(text.p[i + 1]) < 0 || hex(text.p[i + 2]) < 0)
				return -EINVAL;
			c = (char)(hex(text.p[i + 1]) << 4 | hex(text.p[i + 2]));
			i += 2;
		} else if (c == '+' && plus_is_space) {
			c = ' ';
		}
		if (buf_add_char(out, c))
			return -ENOMEM;
	}
	return 0;
}

bool http_query_find(struct str query, struct str name, struct str *out)
{
	while (query.len) {
		struct str value = cut(&query, '&');

		if (str_equal(cut(&value, '='), name)) {
			*out = value;
			return true;
		}
	}
	return false;
}

static const char *reason(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 401:
		return "Unauthorized";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 411:
		return "Length Required";
	case 413:
		return "Content Too Large";
	case 426:
		return "Upgrade Required";
	case 429:
		return "Too Many Requests";
	case 431:
		return "Request Header Fields Too Large";
	case 503:
		return "Service Unavailable";
	case 507:
		return "Insufficient Storage";
	default:
		return "Internal Server Error";
	}
}

int http_reply_add(struct buf *out, int status, const char *content_type, struct str body, bool keep_alive)
{
	if (buf_printf(out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n", status,
		       reason(status), content_type, body.len, keep_alive ? "" : "Connection: close\r\n"))
		return -ENOMEM;
	return buf_add_str(out, body);
}
