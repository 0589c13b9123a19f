#ifndef HPKVFS_MOUNT_KILLED_H
#define HPKVFS_MOUNT_KILLED_H

#include <stdbool.h>
#include <sys/types.h>

/* True if a thread has a signal pending that ends it (neither caught, ignored nor blocked), is ending because of one,
 * or is gone: then nobody wants the answer to its request. Reads /proc/THREAD/status and stat. A thread
 * that cannot be seen from here (0: of another pid namespace; or /proc hides other users' processes) counts as ended once it was
 * interrupted, since it could not be freed otherwise; before that, only when it is gone. */
bool killed(pid_t thread, bool interrupted);

#endif
