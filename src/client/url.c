#include "client/url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/utf8.h"
#include "client/internal.h"

struct scheme {
	struct str name;
	enum url_kind kind;
	bool tls;
};

static const struct scheme schemes[] = {
	{ { "https://", 8 }, URL_TCP, true }, { { "wss://", 6 }, URL_TCP, true },
	{ { "http://", 7 }, URL_TCP, false }, { { "ws://", 5 }, URL_TCP, false },
	{ { "unix:", 5 }, URL_UNIX, false },  { { "local:", 6 }, URL_LOCAL, false },
};

static const struct scheme *find_scheme(struct str spec)
{
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		struct str name = schemes[i].name;

		if (spec.len >= name.len && strncasecmp(spec.p, name.p, name.len) == 0)
			return &schemes[i];
	}
	return NULL;
}

bool url_address_is_loopback(const char *address)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, address, &v4) == 1)
		return (ntohl(v4.s_addr) >> 24) == 127;
	return inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static char *dup_str(struct str s)
{
	return strndup(s.p, s.len);
}

static bool name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
	       c == '_';
}

/* A name, an IPv4 address, or an IPv6 address that was in brackets. */
static bool host_valid(struct str host, bool brackets)
{
	if (host.len == 0 || host.len > 253)
		return false;
	if (brackets) {
		char text[INET6_ADDRSTRLEN];
		struct in6_addr address;

		if (host.len >= sizeof(text))
			return false;
		memcpy(text, host.p, host.len);
		text[host.len] = '\0';
		return inet_pton(AF_INET6, text, &address) == 1;
	}
	for (size_t i = 0; i < host.len; i++)
		if (!name_char(host.p[i]))
			return false;
	return true;
}

static int parse_port(struct str text, uint16_t *out)
{
	unsigned value = 0;

	if (text.len == 0 || text.len > 5)
		return -EINVAL;
	for (size_t i = 0; i < text.len; i++) {
		if (text.p[i] < '0' || text.p[i] > '9')
			return -EINVAL;
		value = value * 10 + (unsigned)(text.p[i] - '0');
	}
	if (value == 0 || value > UINT16_MAX)
		return -EINVAL;
	*out = (uint16_t)value;
	return 0;
}

/* HOST[:PORT] or [ADDRESS][:PORT]; the rest of the text is left in *rest. */
static int parse_authority(struct str s, struct url *url, struct str *rest, struct hpkv_error *error)
{
	bool brackets = s.len > 0 && s.p[0] == '[';
	struct str host, port;
	size_t end = 0, host_end;

	while (end < s.len && s.p[end] != '/' && s.p[end] != '?' && s.p[end] != '#')
		end++;
	*rest = str_skip(s, end);
	s.len = end;
	if (s.len && memchr(s.p, '@', s.len))
		return error_set(error, -EINVAL, 0, "the URL must not hold a user name or password");
	if (brackets) {
		const char *close = memchr(s.p, ']', s.len);

		host_end = close ? (size_t)(close - s.p) : s.len;
		host = str_of(s.p + 1, host_end - 1);
		port = str_skip(s, close ? host_end + 1 : s.len);
		if (!close)
			host.len = 0;
	} else {
		const char *colon = s.len ? memchr(s.p, ':', s.len) : NULL;

		host = str_of(s.p, colon ? (size_t)(colon - s.p) : s.len);
		port = str_skip(s, host.len);
	}
	if (!host_valid(host, brackets))
		return error_set(error, -EINVAL, 0, "the URL has no valid host name");
	if (port.len && (port.p[0] != ':' || parse_port(str_skip(port, 1), &url->port) != 0))
		return error_set(error, -EINVAL, 0, "the URL has no valid port");
	url->host = dup_str(host);
	return url->host ? 0 : -ENOMEM;
}

/* What follows the host: a path, of which a trailing slash and a trailing /ws do not count. */
static int parse_prefix(struct str s, struct url *url, struct hpkv_error *error)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == '?' || s.p[i] == '#')
			return error_set(error, -EINVAL, 0, "the URL must not hold a query or a fragment");
		if (s.p[i] <= ' ' || s.p[i] >= 0x7f)
			return error_set(error, -EINVAL, 0,
					 "the URL's path holds a character that must be percent-encoded");
	}
	while (s.len && s.p[s.len - 1] == '/')
		s.len--;
	if (s.len >= 3 && memcmp(s.p + s.len - 3, "/ws", 3) == 0)
		s.len -= 3;
	while (s.len && s.p[s.len - 1] == '/')
		s.len--;
	url->prefix = dup_str(s);
	return url->prefix ? 0 : -ENOMEM;
}

/* A path is made absolute at once, because daemons change their directory. */
static int parse_path(struct str s, struct url *url, struct hpkv_error *error)
{
	CLEANUP_FREE char *cwd = NULL;

	if (s.len == 0)
		return error_set(error, -EINVAL, 0, "the URL has no path");
	while (s.len > 1 && s.p[s.len - 1] == '/')
		s.len--;
	url->host = strdup("localhost");
	url->prefix = strdup("");
	if (!url->host || !url->prefix)
		return -ENOMEM;
	if (s.p[0] == '/') {
		url->path = dup_str(s);
		return url->path ? 0 : -ENOMEM;
	}
	cwd = getcwd(NULL, 0);
	if (!cwd)
		return error_set(error, -errno, 0, "the working directory is not known: %s", strerror(errno));
	return asprintf(&url->path, "%s/%.*s", cwd, (int)s.len, s.p) < 0 ? -ENOMEM : 0;
}

static bool host_is_loopback(const char *host)
{
	return strcasecmp(host, "localhost") == 0 || url_address_is_loopback(host);
}

static int parse(struct str spec, bool insecure, struct url *url, struct hpkv_error *error)
{
	const struct scheme *scheme = find_scheme(spec);
	struct str rest;
	int r;

	if (!scheme)
		return error_set(error, -EINVAL, 0,
				 "the URL must begin with https://, http://, wss://, ws://, unix: or local:");
	url->kind = scheme->kind;
	url->tls = scheme->tls;
	url->port = scheme->tls ? 443 : 80;
	rest = str_skip(spec, scheme->name.len);
	if (scheme->kind != URL_TCP)
		return parse_path(rest, url, error);
	r = parse_authority(rest, url, &rest, error);
	if (r)
		return r;
	r = parse_prefix(rest, url, error);
	if (r)
		return r;
	if (!url->tls && !insecure && !host_is_loopback(url->host))
		return error_set(
			error, -EINVAL, 0,
			"refused: the connection to %s would not be encrypted, key and values could be read on the way; use "
			"https://, or allow it with \"insecure\"",
			url->host);
	url->loopback_only = !url->tls && !insecure;
	return 0;
}

int url_parse(const char *spec, bool insecure, struct url *out, struct hpkv_error *error)
{
	struct url url = { 0 };
	int r;

	if (!spec)
		return error_set(error, -EINVAL, 0, "no URL was given");
	if (!utf8_valid(str_c(spec)))
		return error_set(error, -EINVAL, 0, "the URL is not UTF-8");
	r = parse(str_c(spec), insecure, &url, error);
	if (r) {
		url_free(&url);
		return r == -ENOMEM ? error_set(error, r, 0, "out of memory") : r;
	}
	*out = url;
	return 0;
}

void url_free(struct url *url)
{
	free(url->host);
	free(url->prefix);
	free(url->path);
	*url = (struct url){ 0 };
}

static int add_percent_encoded(struct buf *out, char c)
{
	return name_char(c) || c == '~' ? buf_add_char(out, c) : buf_printf(out, "%%%02X", (unsigned char)c);
}

int url_add_ws_path(const struct url *url, const char *name, const char *secret, struct buf *out)
{
	size_t before = out->len;
	/* all at once: what grows leaves copies */
	int r = buf_reserve(out, URL_WS_PATH_MAX + 4);

	if (r == 0)
		r = buf_printf(out, "%s/ws?%s=", url->prefix, name);
	for (const char *c = secret; r == 0 && *c; c++)
		r = out->len - before >= URL_WS_PATH_MAX ? -EMSGSIZE : add_percent_encoded(out, *c);
	return r == 0 && out->len - before > URL_WS_PATH_MAX ? -EMSGSIZE : r;
}

int url_add_authority(const struct url *url, struct buf *out)
{
	bool v6 = strchr(url->host, ':') != NULL;
	int r = buf_printf(out, "%s%s%s", v6 ? "[" : "", url->host, v6 ? "]" : "");

	if (r == 0 && url->port != (url->tls ? 443 : 80))
		r = buf_printf(out, ":%u", url->port);
	return r;
}

int url_add_http_base(const struct url *url, struct buf *out)
{
	int r = buf_add_str(out, url->tls ? STR("https://") : STR("http://"));

	if (r == 0)
		r = url_add_authority(url, out);
	return r ? r : buf_printf(out, "%s", url->prefix);
}
