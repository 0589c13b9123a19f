/* Starting hpkvd in the background, from a program that may have threads. */
#ifndef HPKVFS_CLIENT_LOCAL_SPAWN_H
#define HPKVFS_CLIENT_LOCAL_SPAWN_H

#include <sys/types.h>

#include "base/cleanup.h"
#include "client/hpkv.h"

/* Starts `hpkvd` for DIR in a session of its own, as DIR's owner if that is another user and we are root. `life`
 * becomes a descriptor that reads end of file when that server has ended. 0, or -errno with the text in `error`.
 */
CHECKED int local_spawn(const char *dir, int dir_fd, int *life, struct hpkv_error *error);

#endif
