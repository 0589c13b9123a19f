/* The life of a mount: connect, mount, serve, drain. Everything runs on one loop, in the calling process. */
#ifndef HPKVFS_MOUNT_DAEMON_H
#define HPKVFS_MOUNT_DAEMON_H

#include "mount/options.h"
#include "mount/target.h"

struct daemon_config {
	const struct options *options;
	const char *mountpoint; /* as mountpoint_resolve makes it */
	const struct target *target;
	const char *cacert; /* absolute, or NULL */
	const char *state;  /* absolute, or NULL: none */
	/* Called when the mount answers. False: whoever wanted it is gone, unmount. */
	bool (*mounted)(void *arg);
	void *arg;
};

struct daemon_result {
	int code;       /* enum mount_exit */
	char text[512]; /* one line that says what went wrong; empty if nothing did */
};

/* Mounts and serves until the mount is gone, or SIGTERM, SIGINT or SIGHUP ask for its end; all memory is freed again. Blocks
 * those signals and ignores SIGPIPE, for good; SIGCHLD must not be ignored. Fork first: there will be threads. */
void daemon_run(const struct daemon_config *config, struct daemon_result *result);

#endif
