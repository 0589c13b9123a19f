/* Whatever is given as a URL is refused with a reason of one line, or read; what was read, written again, is read as the
 * same, and no secret gets out of its parameter. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "base/utf8.h"
#include "client/url.h"

static void check_error(int r, const struct hpkv_error *error)
{
	struct str text = str_c(error->text);

	must(r == error->err);
	must(r == -EINVAL || r == -ENOMEM);
	must(text.len > 0 && text.len < sizeof(error->text) && utf8_valid(text));
	must(!memchr(text.p, '\n', text.len));
}

static void check_same(const struct url *a, const struct url *b)
{
	must(a->kind == b->kind && a->tls == b->tls && a->port == b->port);
	must(!strcmp(a->host, b->host) && !strcmp(a->prefix, b->prefix));
}

/* Not with a path that ends in /ws once more: as a base that would be taken for the endpoint. */
static void check_again(const struct url *url)
{
	CLEANUP(buf_free) struct buf base = BUF_INIT;
	struct hpkv_error error = { 0 };
	size_t len = strlen(url->prefix);
	struct url again;

	if (len >= 3 && !strcmp(url->prefix + len - 3, "/ws"))
		return;
	must(url_add_http_base(url, &base) == 0);
	must(url_parse(base.p, !url->loopback_only, &again, &error) == 0);
	check_same(url, &again);
	url_free(&again);
}

/* The request line is printable ASCII without blanks, and ends with the secret's bytes or their codes. */
static void check_request(const struct url *url, const char *secret)
{
	CLEANUP(buf_free) struct buf path = BUF_INIT;
	size_t start = strlen(url->prefix) + strlen("/ws?token=");
	int r = url_add_ws_path(url, "token", secret, &path);

	if (r == -EMSGSIZE)
		return;
	must(r == 0 && path.len <= URL_WS_PATH_MAX);
	must(path.p[0] == '/' && path.len >= start && path.p[start - 1] == '=');
	for (size_t i = 0; i < path.len; i++)
		must(path.p[i] > ' ' && path.p[i] < 0x7f);
	must(!strpbrk(path.p + start, "&#?/ +="));
}

static void check(const char *spec, bool insecure)
{
	struct hpkv_error error = { 0 };
	struct url url = { 0 };
	int r = url_parse(spec, insecure, &url, &error);

	if (r) {
		check_error(r, &error);
		must(!url.host && !url.prefix && !url.path);
		return;
	}
	must(url.host && *url.host && url.prefix);
	if (url.kind == URL_TCP) {
		must(url.port > 0);
		must(url.tls || insecure || url.loopback_only);
		check_again(&url);
		check_request(&url, spec);
	} else {
		must(url.path && url.path[0] == '/');
	}
	url_free(&url);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *spec = malloc(size + 1);

	must(spec);
	if (size)
		memcpy(spec, data, size);
	spec[size] = '\0';
	check(spec, false);
	check(spec, true);
	free(spec);
	return 0;
}
