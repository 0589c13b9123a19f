/* What the value at a key says about a file's content. Plain values are the content itself; what a value cannot
 * hold (empty, binary, large) is described by a stub line, behind which appended text may stand:
 *
 *     hpkvfs1 <checksum> <part> <part>...\n<text>
 *
 * The content is the parts in order, then the text. hpkvfs-layout(7) has the format; the tests compare its
 * examples with this code. */
#ifndef HPKVFS_FS_CONTENT_H
#define HPKVFS_FS_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* How a stub line begins. */
#define CONTENT_MAGIC "hpkvfs1 "

/* More parts than this make the value no stub. */
#define CONTENT_MAX_PARTS 64

/* The most bytes a file may have. */
#define CONTENT_MAX_SIZE INT64_MAX

/* The most chunks a part may have: their index is written in 8 hex digits. */
#define CONTENT_MAX_CHUNKS UINT32_MAX

/* The most bytes a chunk may have: nobody allocates more because a stub says so. */
#define CONTENT_MAX_CHUNK_SIZE (16u << 20)

/* Digits of an id: 11 of the creation time in milliseconds, 32 of random bits, all lower-case hex. */
#define CONTENT_ID_LEN 43

/* Digits of a content hash. */
#define CONTENT_HASH_LEN 32

enum content_kind {
	CONTENT_INLINE,
	CONTENT_CHUNKS,
};

enum content_encoding {
	CONTENT_BASE64, /* `b64` */
};

struct content_id {
	char hex[CONTENT_ID_LEN + 1];
};

struct content_part {
	enum content_kind kind;
	uint64_t size;     /* bytes of content */
	struct str base64; /* CONTENT_INLINE: the content, encoded; borrowed */

	/* CONTENT_CHUNKS: */
	struct content_id id;
	uint64_t chunk_size; /* bytes of content in every chunk but the last */
	enum content_encoding encoding;
	struct str holes; /* as text (`first+count,...`), checked, borrowed; read it with content_hole_next */
};

/* A decoded value. Borrows from it. 6 KiB: fit for a coroutine's stack, not for a cache. */
struct content {
	bool stub;
	struct str text; /* plain: the whole value. stub: what stands behind the line */
	unsigned part_count;
	struct content_part parts[CONTENT_MAX_PARTS];
};

/* True if a key can hold these bytes as they are: UTF-8 without NUL, 1 to max_value bytes, not beginning like a stub. */
bool content_is_plain(struct str bytes, size_t max_value);

/* Replaces *value by the value for a file's bytes: the bytes themselves where they are plain, else a stub with one
 * inline part. -EFBIG where neither fits max_value; -ENOMEM. On error *value is unchanged. `bytes` must not
 * point into *value. */
CHECKED int content_encode(struct str bytes, size_t max_value, struct buf *value);

/* Replaces *value by the stub line of `content` (which must have parts) and its text. -EINVAL where the parts do not
 * make a valid stub; -ENOMEM. On error *value is unchanged. */
CHECKED int content_encode_stub(const struct content *content, struct buf *value);

/* Reads a value. One that begins like a stub but is none, by its checksum or by any field, is plain. 0, or
 * -ENOMEM. */
CHECKED int content_decode(struct str value, struct content *out);

/* Bytes of the file; never above CONTENT_MAX_SIZE. */
uint64_t content_size(const struct content *content);

/* Size straight from the value: for listings. 0, or -ENOMEM. */
CHECKED int content_value_size(struct str value, uint64_t *size);

/* Replaces *bytes by the file's content. -EOPNOTSUPP where parts are chunks, which have to be fetched; -ENOMEM. On error
 * *bytes is unchanged. */
CHECKED int content_bytes(const struct content *content, struct buf *bytes);

/* --- chunks --- */

/* A new id: never used before. 0, or -EIO where the system has no random bits. */
CHECKED int content_id_new(int64_t now_ms, struct content_id *id);

/* True and the creation time where the text is an id. */
bool content_id_parse(struct str text, struct content_id *id, int64_t *created_ms);

/* How many chunks (holes counted) a part of kind CONTENT_CHUNKS has. */
uint32_t content_chunk_count(const struct content_part *part);

/* The next range of chunks that are holes. Start with *rest = part->holes; false at the end. */
bool content_hole_next(struct str *rest, uint32_t *first, uint32_t *count);

/* --- hash --- */

/* First 32 hex digits of the SHA-256 of a value, NUL-ended: what a record's mtime is bound to. 0, or -ENOMEM. */
CHECKED int content_hash(struct str value, char out[CONTENT_HASH_LEN + 1]);

#endif
