/* Who may do what with a file. Its content and its record are two keys, written one after the other: whoever looks in between, or
 * after a crash there, sees the content of one moment with the record of another. Nobody may then do what he may with neither
 * of the two whole files. */
#ifndef HPKVFS_FS_RIGHTS_H
#define HPKVFS_FS_RIGHTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "fs/record.h"

struct node;

struct rights {
	mode_t mode; /* without type */
	uint32_t uid, gid;
	struct str acl; /* borrowed; empty: none */
};

/* As this mount sees them. */
struct rights rights_of_node(const struct node *node);

/* Of a regular file with this record. ACLs are borrowed from it. */
struct rights rights_of_record(const struct node *node, const struct record *record);

/* True if nobody may do by `a` what he may not by `b`. */
bool rights_within(const struct rights *a, const struct rights *b);

/* Permissions with which, without an ACL, the owner and the group of `a` make rights that are within both. */
mode_t rights_common(const struct rights *a, const struct rights *b);

#endif
