/* The BSD trees: RB_HEAD, RB_ENTRY, RB_GENERATE_STATIC and friends. */
#ifndef HPKVFS_BASE_TREE_H
#define HPKVFS_BASE_TREE_H

#include <bsd/sys/tree.h>

/* The original asks for a macro __unused, which libbsd lacks and which is a member's name in glibc's headers. */
#undef RB_GENERATE_STATIC
#define RB_GENERATE_STATIC(name, type, field, cmp) \
	RB_GENERATE_INTERNAL(name, type, field, cmp, __attribute__((__unused__)) static)

#endif
