/* The BSD trees: RB_HEAD, RB_ENTRY, RB_GENERATE_STATIC and friends. */
#ifndef HPKVFS_BASE_TREE_H
#define HPKVFS_BASE_TREE_H

#include <bsd/sys/tree.h>

#endif
