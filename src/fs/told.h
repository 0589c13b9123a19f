/* One notification, applied. */
#ifndef HPKVFS_FS_TOLD_H
#define HPKVFS_FS_TOLD_H

#include "fs/echo.h"

struct fs;

/* -EAGAIN: it concerns something that is being changed here, or asked for, and is to be applied when that is done. -ENOMEM. */
CHECKED int told_apply(struct fs *fs, struct str key, const struct told *told);

#endif
