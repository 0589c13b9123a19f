#include "client/resolver.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

struct lookup {
	struct job job;
	char *host;
	bool loopback_only;
	struct addresses addresses;
	struct hpkv_error error;
	void (*done)(void *arg, struct addresses *addresses, const struct hpkv_error *error);
	void *arg;
};

void addresses_free(struct addresses *addresses)
{
	for (size_t i = 0; i < addresses->count; i++)
		free(addresses->list[i]);
	*addresses = (struct addresses){ 0 };
}

static int lookup_errno(int code)
{
	switch (code) {
	case EAI_SYSTEM:
		return -errno;
	case EAI_MEMORY:
		return -ENOMEM;
	default:
		return -EHOSTUNREACH;
	}
}

static void lookup_work(struct job *job)
{
	struct lookup *lookup = (struct lookup *)job;
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	int code = getaddrinfo(lookup->host, NULL, &hints, &found);

	if (code) {
		error_set(&lookup->error, lookup_errno(code), 0, "the host %s is not known: %s", lookup->host,
			  gai_strerror(code));
		return;
	}
	for (struct addrinfo *a = found; a && lookup->addresses.count < RESOLVER_MAX; a = a->ai_next) {
		char text[NI_MAXHOST];

		if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) != 0 ||
		    (lookup->loopback_only && !url_address_is_loopback(text)))
			continue;
		lookup->addresses.list[lookup->addresses.count] = strdup(text);
		if (lookup->addresses.list[lookup->addresses.count])
			lookup->addresses.count++;
	}
	freeaddrinfo(found);
	if (lookup->addresses.count == 0)
		error_set(&lookup->error, -EHOSTUNREACH, 0, "the host %s has no %saddress", lookup->host,
			  lookup->loopback_only ? "loopback " : "");
}

static void lookup_done(struct job *job)
{
	struct lookup *lookup = (struct lookup *)job;

	lookup->done(lookup->arg, &lookup->addresses, lookup->error.err ? &lookup->error : NULL);
}

static void lookup_free(struct job *job)
{
	struct lookup *lookup = (struct lookup *)job;

	addresses_free(&lookup->addresses);
	free(lookup->host);
	free(lookup);
}

static const struct job_type lookup_type = {
	.work = lookup_work,
	.done = lookup_done,
	.free = lookup_free,
};

int resolver_start(struct loop *loop, const struct url *url,
		   void (*done)(void *arg, struct addresses *addresses, const struct hpkv_error *error), void *arg,
		   struct job **out)
{
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	int r;

	if (!lookup)
		return -ENOMEM;
	lookup->done = done;
	lookup->arg = arg;
	lookup->host = strdup(url->host);
	lookup->loopback_only = url->loopback_only;
	r = lookup->host ? job_start(&lookup->job, &lookup_type, loop) : -ENOMEM;
	if (r) {
		lookup_free(&lookup->job);
		return r;
	}
	*out = &lookup->job;
	return 0;
}
