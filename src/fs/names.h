/* Names and keys: how the path of a file below the mount becomes the key of its value and of its record, and
 * back. Pure functions; the layout is documented in hpkvfs-layout(7).
 *
 * A key is the prefix, then segments joined by the delimiter. A file name is a segment in which only that is
 * escaped which no file name can say:
 *
 *     %-  %.  %..   the whole segment is empty, `.` or `..`
 *     %=            (a name, never a segment) the value of the directory's own key
 *     %00           a NUL
 *     %2F           a `/`, where the delimiter is another character
 *
 * Where a segment holds `%`, any number of `25`, and then what would be read as one of these, one more `25`
 * is put in. Every other name stands for itself, so every name that passes the checks of
 * names_segment_from_name is one segment, and every segment one name. */
#ifndef HPKVFS_FS_NAMES_H
#define HPKVFS_FS_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* The segment that is reserved and hidden at every depth. */
#define NAMES_RESERVED ".hpkvfs"

/* What stands between the prefix and the escaped path in a record's key. */
#define NAMES_RECORDS NAMES_RESERVED "/m/"

/* The name of the value of a key that is also a directory. */
#define NAMES_VALUE "%="

/* The longest name that is shown: every kernel takes so many bytes from a FUSE filesystem. And the longest that is made here,
 * for which programs have room; those of foreign keys may be longer. */
#define NAMES_SHOWN_BYTES 1024
#define NAMES_NEW_BYTES 255

struct names_rules {
	char delimiter;
	struct str prefix; /* borrowed; may be empty, may end in the delimiter or not */
	size_t max_key;    /* bytes that a key may have */
};

/* 0, or -EINVAL where the delimiter is not usable (NUL, not ASCII, or a character of the escapes that stands in
 * names: one of `% - 0 2 5 F`), -EILSEQ where the prefix is not UTF-8 or holds a NUL, -ENAMETOOLONG where
 * max_key leaves no room for a record of a one-byte name. */
CHECKED int names_rules_check(const struct names_rules *rules);

/* --- one segment --- */

/* True for the name of a directory's own value, `%=`. Ask this first: it names no segment. */
bool names_is_value(struct str name);

/* Replaces *segment by the key segment that the file name stands for; it may be empty (`%-`). -EILSEQ not UTF-8;
 * -EINVAL empty, `.`, `..`, `%=`, or holds a NUL, a `/` or the delimiter; -ENOMEM. On error *segment is
 * unchanged. */
CHECKED int names_segment_from_name(const struct names_rules *rules, struct str name, struct buf *segment);

/* Replaces *name by the file name of a segment. -EILSEQ not UTF-8; -EINVAL holds the delimiter; -ENOMEM. On
 * error *name is unchanged. */
CHECKED int names_name_from_segment(const struct names_rules *rules, struct str segment, struct buf *name);

/* True for a name that names_segment_from_name takes: for what comes out of record keys, where anyone may have
 * written `m/..`. */
bool names_valid(const struct names_rules *rules, struct str name);

/* --- keys, built downwards ---
 *
 * A directory has two key prefixes, to which its children's names are added:
 *     dir_key     of the children's values:  the root's is the prefix, others end in the delimiter
 *     dir_record  of the children's records: the root's is `<prefix>.hpkvfs/m/`, others end in the delimiter
 * dir_record is also the key of the directory's own record. */

/* Replaces *dir_record by the root's (its dir_key is rules->prefix). 0, -ENOMEM. */
CHECKED int names_root_record(const struct names_rules *rules, struct buf *dir_record);

/* Replaces *key and *record by those of the child `name`: of a file, the keys of its value and of its record; of a
 * directory (is_dir), its dir_key and dir_record, which end in the delimiter. Either output may be NULL; both
 * lengths are checked all the same. The outputs may be the buffers that dir_key and dir_record borrow from.
 *
 * `%=` (a file only) gives the directory's own keys without their last delimiter; so `a/%=` has the keys of `a`.
 *
 * Errors of names_segment_from_name; -EINVAL also for `%=` as a directory or in the root, and for a file with
 * an empty key (`%-` in the root without a prefix; it can be a directory, though); -ENAMETOOLONG where key
 * or record is longer than max_key; -ENOMEM. On error the outputs are unchanged. */
CHECKED int names_child(const struct names_rules *rules, struct str dir_key, struct str dir_record, struct str name,
			bool is_dir, struct buf *key, struct buf *record);

/* True where the child `segment` of the directory belongs to the layout: `.hpkvfs` at any depth and whatever is
 * below `<prefix>.hpkvfs/`, which with another delimiter than `/` is a segment that begins so. */
bool names_is_reserved(const struct names_rules *rules, struct str dir_key, struct str segment);

/* The same for a whole key as listings bring them: true if the key, or a directory that it implies, is reserved.
 * Check listed keys with this one: with the delimiter `.` the reserved keys lie in the directory `%-`. */
bool names_key_is_reserved(const struct names_rules *rules, struct str key);

/* Replaces *record by that of the file whose value is at `key`. -EINVAL where the key does not begin with the prefix; -EILSEQ;
 * -ENOMEM. On error *record is unchanged. */
CHECKED int names_record_of_file(const struct names_rules *rules, struct str key, struct buf *record);

/* Replaces *dir_record by that of the directory whose dir_key this is. -EINVAL where it is none; -EILSEQ; -ENOMEM. On error
 * *dir_record is unchanged. */
CHECKED int names_record_of_dir(const struct names_rules *rules, struct str dir_key, struct buf *dir_record);

/* --- listings --- */

/* A listed key, taken apart below its directory. Everything is borrowed from the key. */
struct names_split {
	struct str segment; /* up to the first delimiter, or all */
	struct str rest;    /* behind that delimiter; empty where there is none */
	bool deeper;        /* a delimiter follows: the segment is a directory */
};

/* `dir` is a dir_key, or a dir_record: then the segment is a file name (check it with names_valid), and `deeper`
 * with an empty rest is the record of that directory itself. A key equal to a dir_record is the record of the
 * listed directory: test for it first. 0, or -EINVAL where the key does not begin with `dir`. */
CHECKED int names_split(const struct names_rules *rules, struct str dir, struct str key, struct names_split *out);

/* Replaces *out by the first key that can begin with `prefix`: itself, or U+0001 where it is empty (a range's ends
 * cannot be). 0, -ENOMEM. */
CHECKED int names_first(struct str prefix, struct buf *out);

/* Replaces *out by a key behind all that begin with `prefix` and whose segment there can be shown: as many U+10FFFF behind it
 * as fit max_key, then the last character that fits in the rest; but not more than such a segment can have, since it goes
 * with every request for a range. 0, -ENOMEM. `prefix` must not point into *out. */
CHECKED int names_last(struct str prefix, size_t max_key, struct buf *out);

/* --- whole paths --- */

/* Replaces *path by the path of the file whose value is at `key`: names joined by `/`, no leading `/`. Where the
 * key is also a directory, its value is shown in it: `/%=` is added. -EINVAL where the key is empty or does not
 * begin with the prefix; -EILSEQ; -ENOMEM. On error *path is unchanged. */
CHECKED int names_path_from_key(const struct names_rules *rules, struct str key, bool also_directory, struct buf *path);

/* Replaces *key by the key of the value at `path` (names joined by `/`, the last may be `%=`). Errors of names_child;
 * -EINVAL for an empty path. On error *key is unchanged. */
CHECKED int names_key_from_path(const struct names_rules *rules, struct str path, struct buf *key);

#endif
