/* Base64 (RFC 4648, section 4: `+` and `/`, with padding, no line breaks), strictly: text that the encoder would not
 * have written is refused. */
#ifndef HPKVFS_FS_BASE64_H
#define HPKVFS_FS_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* Length of the text for `len` bytes. */
static inline size_t base64_length(size_t len)
{
	return (len + 2) / 3 * 4;
}

/* Appends the text of `bytes`. 0 or -ENOMEM (unchanged). */
CHECKED int base64_encode(struct str bytes, struct buf *text);

/* True, and the number of bytes in *len, where `text` is valid. */
bool base64_check(struct str text, size_t *len);

/* Appends the bytes of `text`. 0, -EINVAL not valid, -ENOMEM (unchanged). */
CHECKED int base64_decode(struct str text, struct buf *bytes);

#endif
