#include "mount/target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/credentials.h"
#include "client/internal.h"
#include "client/url.h"

static int set_url(const struct options *options, const struct url *url, struct target *out)
{
	if (url->kind == URL_TCP) {
		out->url = strdup(options->spec);
		return out->url ? 0 : -ENOMEM;
	}
	if (asprintf(&out->url, "%s:%s", url->kind == URL_LOCAL ? "local" : "unix", url->path) < 0) {
		out->url = NULL;
		return -ENOMEM;
	}
	if (url->kind == URL_LOCAL)
		out->local_dir = strdup(url->path);
	return url->kind == URL_UNIX || out->local_dir ? 0 : -ENOMEM;
}

int target_find(const struct options *options, struct target *out, struct hpkv_error *error)
{
	struct url url;
	int r = url_parse(options->spec, options->insecure, &url, error);

	*out = (struct target){ 0 };
	if (r)
		return r;
	r = set_url(options, &url, out);
	if (r)
		error_set(error, r, 0, "out of memory");
	else if (url.kind == URL_LOCAL)
		unsetenv("HPKV_API_KEY"); /* its server has a key of its own */
	else
		r = credentials_read(options->credentials, &out->api_key, error);
	url_free(&url);
	return r;
}

void target_free(struct target *target)
{
	free(target->url);
	free(target->local_dir);
	credentials_free(target->api_key);
	*target = (struct target){ 0 };
}

int target_store(const struct target *target, const struct options *options, const char *ca_file, struct loop *loop,
		 struct store_hpkv **out, struct hpkv_error *error)
{
	const struct store_hpkv_config config = {
		.url = target->url,
		.api_key = target->api_key,
		.ca_file = ca_file,
		.insecure = options->insecure,
		.timeout_us = options->timeout_us,
		.max_value = (size_t)options->max_value,
		.inflight = (unsigned)options->inflight,
		.rate_per_s = (double)options->rate_micro / 1e6,
	};

	return store_hpkv_new(loop, &config, out, error);
}

int target_subscription(const struct target *target, const struct options *options, const char *ca_file,
			struct loop *loop, const struct subscription_events *events, struct subscription **out,
			struct hpkv_error *error)
{
	const struct subscription_config config = {
		.url = target->url,
		.api_key = target->api_key,
		.ca_file = ca_file,
		.insecure = options->insecure,
		.max_value = (size_t)options->max_value,
		.prefix = options->prefix ? str_c(options->prefix) : STR(""),
	};

	return subscription_new(loop, &config, events, out, error);
}
