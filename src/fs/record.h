/* Records: the attributes of a file or directory, as JSON at a reserved key. Attributes only; the key alone says what
 * a regular file's content is. hpkvfs-layout(7) has the format.
 *
 * A record is changed in the store by PATCH of the changed members (record_encode_patch), so that two mounts that
 * change different members do not undo each other. */
#ifndef HPKVFS_FS_RECORD_H
#define HPKVFS_FS_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/buf.h"
#include "fs/content.h"

#define RECORD_VERSION 1

/* Room for an mtime as text: seconds with sign, point, nine digits. */
#define RECORD_TIME_SIZE 32

enum record_member {
	RECORD_MODE = 1u << 0,
	RECORD_UID = 1u << 1,
	RECORD_GID = 1u << 2,
	RECORD_MTIME = 1u << 3,
	RECORD_HASH = 1u << 4,
	RECORD_XATTR = 1u << 5,
	RECORD_TARGET = 1u << 6,
	RECORD_RDEV = 1u << 7,
};
#define RECORD_ALL 0xffu

struct record_xattr {
	struct buf name; /* UTF-8 without NUL, not empty */
	struct buf value;
};

/* Zeros (or record_init) are the empty record. Only what `has` names is set. */
struct record {
	unsigned has; /* enum record_member */
	mode_t mode;  /* type and permissions */
	uid_t uid;
	gid_t gid;
	struct timespec mtime;           /* tv_nsec 0 to 999999999, also before 1970 */
	char hash[CONTENT_HASH_LEN + 1]; /* of the value that mtime was set for */
	struct record_xattr *xattrs;     /* owned, in order of names; RECORD_XATTR is set while there are any */
	size_t xattr_count;
	struct buf target; /* of a symlink: UTF-8 without NUL, not empty */
	uint32_t rdev;     /* as Linux encodes it: major << 8 & 0xfff00, minor & 0xff, minor << 12 & 0xfff00000 */
};

void record_init(struct record *record);

/* Frees what it owns and leaves the empty record. */
void record_deinit(struct record *record);

/* Makes *to a copy. 0, or -ENOMEM: *to is unchanged. */
CHECKED int record_copy(const struct record *from, struct record *to);

/* Reads the value of a record's key; *out is replaced. Unknown members and members that are null are passed over.
 * -EINVAL not a record (not a JSON object, no version, a member of a wrong type or out of range);
 * -EPROTONOSUPPORT a newer version; -ENOMEM, though the JSON parser can report lack of memory as -EINVAL. On error *out is
 * unchanged. */
CHECKED int record_decode(struct str value, struct record *out);

/* Replaces *value by the whole record. -EINVAL where a member is out of range; -ENOMEM. On error *value is unchanged. */
CHECKED int record_encode(const struct record *record, struct buf *value);

/* The mtime as it stands in a record. False where it has no such text. */
bool record_format_time(const struct timespec *time, char text[RECORD_TIME_SIZE]);

/* Which members differ: enum record_member. */
unsigned record_diff(const struct record *from, const struct record *to);

/* Replaces *value by the JSON merge patch that makes, of a stored `from`, the record `to`: the members that differ and those
 * named by `also`, null for those that go; of the xattrs those that differ. The version is always in it, because PATCH
 * of an absent key writes the patch itself. Empty where nothing differs and `also` is 0. -EINVAL, -ENOMEM as above. */
CHECKED int record_encode_patch(const struct record *from, const struct record *to, unsigned also, struct buf *value);

/* The value of an xattr, borrowed until the record changes; NULL if there is none. */
const struct buf *record_xattr_find(const struct record *record, struct str name);

/* Adds or replaces; an empty value is a value. -EILSEQ name not UTF-8; -EINVAL empty or with a NUL; -ENOMEM (unchanged). */
CHECKED int record_xattr_set(struct record *record, struct str name, struct str value);

/* False if there was none. */
bool record_xattr_remove(struct record *record, struct str name);

/* Sets the target. -EILSEQ not UTF-8; -EINVAL empty or with a NUL; -ENOMEM (unchanged). */
CHECKED int record_set_target(struct record *record, struct str target);

#endif
