#include "fs/acl.h"

#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#define ACL_VERSION 2

enum acl_tag {
	ACL_OWNER = 0x01,
	ACL_USER = 0x02,
	ACL_OWNING_GROUP = 0x04,
	ACL_GROUP = 0x08,
	ACL_MASK = 0x10,
	ACL_OTHERS = 0x20,
};

struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};

#define HEADER_SIZE sizeof(uint32_t)

static size_t entry_count(struct str acl)
{
	return (acl.len - HEADER_SIZE) / sizeof(struct acl_entry);
}

static struct acl_entry entry_get(struct str acl, size_t n)
{
	struct acl_entry entry;

	memcpy(&entry, acl.p + HEADER_SIZE + n * sizeof(entry), sizeof(entry));
	return (struct acl_entry){ le16toh(entry.tag), le16toh(entry.perm), le32toh(entry.id) };
}

static void entry_set_perm(struct buf *acl, size_t n, mode_t perm)
{
	uint16_t stored = htole16((uint16_t)perm);

	memcpy(acl->p + HEADER_SIZE + n * sizeof(struct acl_entry) + offsetof(struct acl_entry, perm), &stored,
	       sizeof(stored));
}

int acl_check(struct str acl)
{
	uint32_t version;

	if (acl.len < HEADER_SIZE || (acl.len - HEADER_SIZE) % sizeof(struct acl_entry))
		return -EINVAL;
	memcpy(&version, acl.p, sizeof(version));
	if (le32toh(version) != ACL_VERSION)
		return -EINVAL;
	for (size_t i = 0; i < entry_count(acl); i++)
		if (entry_get(acl, i).perm & ~7)
			return -EINVAL;
	return 0;
}

/* Which entry the group's bits of the mode stand for: the mask where there is one. SIZE_MAX: neither is there. */
static size_t group_entry(struct str acl)
{
	size_t found = SIZE_MAX;

	for (size_t i = 0; i < entry_count(acl); i++) {
		uint16_t tag = entry_get(acl, i).tag;

		if (tag == ACL_MASK)
			return i;
		if (tag == ACL_OWNING_GROUP)
			found = i;
	}
	return found;
}

static bool says_more_than_mode(struct str acl)
{
	for (size_t i = 0; i < entry_count(acl); i++)
		if (entry_get(acl, i).tag & (ACL_USER | ACL_GROUP | ACL_MASK))
			return true;
	return false;
}

/* How far left the bits of an entry stand in a mode; -1: not there. */
static int shift_of(struct str acl, size_t n)
{
	switch (entry_get(acl, n).tag) {
	case ACL_OWNER:
		return 6;
	case ACL_OTHERS:
		return 0;
	default:
		return n == group_entry(acl) ? 3 : -1;
	}
}

bool acl_to_mode(struct str acl, mode_t *mode)
{
	for (size_t i = 0; i < entry_count(acl); i++) {
		int shift = shift_of(acl, i);

		if (shift >= 0)
			*mode = (*mode & ~((mode_t)7 << shift)) | ((mode_t)entry_get(acl, i).perm << shift);
	}
	return !says_more_than_mode(acl);
}

void acl_chmod(struct buf *acl, mode_t mode)
{
	for (size_t i = 0; i < entry_count(buf_str(acl)); i++) {
		int shift = shift_of(buf_str(acl), i);

		if (shift >= 0)
			entry_set_perm(acl, i, mode >> shift & 7);
	}
}

bool acl_create(struct buf *acl, mode_t *mode)
{
	for (size_t i = 0; i < entry_count(buf_str(acl)); i++) {
		int shift = shift_of(buf_str(acl), i);
		mode_t both;

		if (shift < 0)
			continue;
		both = entry_get(buf_str(acl), i).perm & (*mode >> shift & 7);
		entry_set_perm(acl, i, both);
		*mode = (*mode & ~((mode_t)7 << shift)) | both << shift;
	}
	return !says_more_than_mode(buf_str(acl));
}
