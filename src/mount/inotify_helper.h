/* The process that makes a remote change's system calls in the mount, so that the kernel tells programs of it. It knows nothing
 * but what a message says, and holds nothing in the mount between two of them. inotify.h is for the daemon. */
#ifndef HPKVFS_MOUNT_INOTIFY_HELPER_H
#define HPKVFS_MOUNT_INOTIFY_HELPER_H

#include <stdint.h>

/* Longer paths are not told of. */
#define INOTIFY_MESSAGE_MAX (64u * 1024)

/* The answer is an int: 0 or -errno. */
struct inotify_message {
	uint32_t kind;         /* enum fs_event_kind */
	uint32_t mode;         /* type and permissions */
	uint32_t major, minor; /* of the mount: nothing is done elsewhere */
	char names[];          /* of the directories from the root on, then the name itself; each ended by a NUL */
};

/* In a child of the process `parent`: serves `socket` until the other end is closed or the parent has ended. Lets go of all
 * other descriptors. */
_Noreturn void inotify_helper_run(int socket, const char *mountpoint, int parent);

#endif
