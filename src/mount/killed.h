#ifndef HPKVFS_MOUNT_KILLED_H
#define HPKVFS_MOUNT_KILLED_H

#include <stdbool.h>
#include <sys/types.h>

/* True if a thread has a signal pending that ends it (neither caught, ignored nor blocked), is ending because of one,
 * or is gone: then nobody wants the answer to its request. A thread that cannot be seen from here (0: of another pid
 * namespace) counts as ended, since it could not be freed otherwise. Reads /proc/THREAD/status and stat. */
bool killed(pid_t thread);

#endif
