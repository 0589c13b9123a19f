/* What PATCH and ATOMIC make of an old value: RFC 7396 merge patch, append, addition. */
#ifndef HPKVFS_SERVER_MERGE_H
#define HPKVFS_SERVER_MERGE_H

#include "base/buf.h"

/* PATCH. Two JSON objects are merged (members that are null in the patch are removed, objects merged, all else
 * replaced; numbers keep their text); else the new text is appended to the old. `merged` tells which it was.
 * Answers the protocol's code: 200; 400, nested too deeply; 500, no memory; then with static text in `error`. */
CHECKED int merge_patch(struct str old, struct str patch, struct buf *out, bool *merged, const char **error);

/* ATOMIC. Both are texts of JSON numbers with a whole value; the sum must fit into 64 bits. 200, 400, 500. */
CHECKED int merge_add(struct str old, struct str increment, struct buf *out, const char **error);

#endif
