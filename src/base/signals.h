/* The signals that ask a program to end, as a descriptor that its loop watches. */
#ifndef HPKVFS_BASE_SIGNALS_H
#define HPKVFS_BASE_SIGNALS_H

#include "base/cleanup.h"

/* Blocks SIGTERM, SIGINT and SIGHUP in this thread and in those that it will start, and ignores SIGPIPE. A new descriptor, not
 * blocking, from which each is read as a struct signalfd_siginfo; or -errno. */
CHECKED int signals_open(void);

#endif
