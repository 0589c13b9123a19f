/* Requests of the kernel, counted by operation. */
#ifndef HPKVFS_MOUNT_UPCALLS_H
#define HPKVFS_MOUNT_UPCALLS_H

#include <stddef.h>
#include <stdint.h>

/* Numbers of operations (enum fuse_opcode of linux/fuse.h) are below this; the last stands for all that are not. */
#define UPCALLS_OPERATIONS 64

struct upcalls {
	uint64_t counts[UPCALLS_OPERATIONS];
};

/* A request as it was read, `len` bytes. */
void upcalls_count(struct upcalls *upcalls, const void *request, size_t len);

/* "LOOKUP" and so on; NULL: there is none of this number. */
const char *upcalls_name(unsigned operation);

#endif
