/* How deep a JSON text nests: jansson reads nested values by recursion, and on a coroutine's stack a deep one would be
 * fatal. */
#ifndef HPKVFS_BASE_JSON_DEPTH_H
#define HPKVFS_BASE_JSON_DEPTH_H

#include "base/buf.h"

/* True if arrays and objects nest deeper than `most`. The text need not be JSON. */
bool json_nests_deeper(struct str text, unsigned most);

#endif
