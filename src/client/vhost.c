#include "client/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/list.h"

/* A TLS context costs a millisecond and, for the system's authorities, a megabyte, so clients that trust the same
 * authorities share it. A CA file that was replaced is another one. */
struct vhost_entry {
	bool tls;      /* without, no authorities are loaded at all: that takes 15 ms */
	char *ca_file; /* NULL: the system's */
	dev_t device;
	ino_t inode;
	struct timespec mtime;
	struct lws_vhost *vhost;
	struct vhost_entry *next;
};

static int check_ca_file(const char *ca_file, struct stat *st, struct hpkv_error *error)
{
	CLEANUP_CLOSE int fd = open(ca_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	/* libwebsockets would only log it and go on without */
	if (fd < 0 || fstat(fd, st) < 0)
		return error_set(error, -errno, 0, "the file of certificate authorities %s cannot be read: %s", ca_file,
				 strerror(errno));
	if (!S_ISREG(st->st_mode))
		return error_set(error, -EINVAL, 0, "%s is not a file of certificate authorities", ca_file);
	return 0;
}

static bool matches(const struct vhost_entry *entry, bool tls, const char *ca_file, const struct stat *st)
{
	if (entry->tls != tls || !entry->ca_file || !ca_file)
		return entry->tls == tls && !entry->ca_file && !ca_file;
	return strcmp(entry->ca_file, ca_file) == 0 && entry->device == st->st_dev && entry->inode == st->st_ino &&
	       entry->mtime.tv_sec == st->st_mtim.tv_sec && entry->mtime.tv_nsec == st->st_mtim.tv_nsec;
}

static struct lws_vhost *new_vhost(struct hpkv_loop *loop, bool tls, const char *ca_file,
				   const struct lws_protocols *protocols)
{
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN,
		.vhost_name = "hpkv",
		.protocols = protocols,
		.options = tls ? LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT : 0,
		.client_ssl_ca_filepath = ca_file,
		/* not NULL: else http_proxy from the environment would get the requests to loopback too; port 0 is no proxy */
		.http_proxy_address = ":0",
	};

	if (ca_file)
		info.options |= LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS;
	return loop_vhost(loop->base, &info);
}

int vhost_get(struct hpkv_loop *loop, bool tls, const char *ca_file, const struct lws_protocols *protocols,
	      struct lws_vhost **out, struct hpkv_error *error)
{
	struct stat st = { 0 };
	struct vhost_entry *entry;
	int r = 0;

	if (!tls)
		ca_file = NULL;
	if (ca_file)
		r = check_ca_file(ca_file, &st, error);
	if (r)
		return r;
	LL_FOREACH(loop->vhosts, entry) {
		if (matches(entry, tls, ca_file, &st)) {
			*out = entry->vhost;
			return 0;
		}
	}
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return error_set(error, -ENOMEM, 0, "out of memory");
	entry->ca_file = ca_file ? strdup(ca_file) : NULL;
	entry->tls = tls;
	entry->device = st.st_dev;
	entry->inode = st.st_ino;
	entry->mtime = st.st_mtim;
	if (!ca_file || entry->ca_file)
		entry->vhost = new_vhost(loop, tls, ca_file, protocols);
	if (!entry->vhost) {
		free(entry->ca_file);
		free(entry);
		return error_set(error, -ENOMEM, 0, "no TLS context could be made%s%s", ca_file ? " with " : "",
				 ca_file ? ca_file : "");
	}
	LL_PREPEND(loop->vhosts, entry);
	*out = entry->vhost;
	return 0;
}

void vhosts_free(struct hpkv_loop *loop)
{
	struct vhost_entry *entry, *next;

	LL_FOREACH_SAFE(loop->vhosts, entry, next) {
		free(entry->ca_file);
		free(entry);
	}
	loop->vhosts = NULL;
}
