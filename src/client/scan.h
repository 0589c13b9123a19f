/* Keeps JSON numbers exact. jansson turns numbers into int64 or double, so 0.10, 1e400 and a counter of twenty
 * digits would be changed or make it refuse the whole message. The scan therefore runs before it: it takes every
 * number out of the text and leaves a small integer in its place, the index of the number's own text. What
 * jansson then decodes as an integer is such an index. Numbers are checked against JSON's grammar here, all else
 * by jansson. */
#ifndef HPKVFS_CLIENT_SCAN_H
#define HPKVFS_CLIENT_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define SCAN_MAX_DEPTH 64 /* replies need three; jansson recurses */

struct scan {
	struct buf text; /* the message with indexes for numbers */
	struct str *numbers;
	size_t count, capacity;
	uint32_t
		id; /* the top object's messageId as far as was read, so that a broken reply can still be matched; or 0 */
};

/* Replaces the content of `scan` ({0} before first use). The numbers point into `raw`. 0, -EPROTO (a malformed
 * number, too deep), -ENOMEM; `id` is valid in any case. */
CHECKED int scan_json(struct scan *scan, struct str raw);
void scan_free(struct scan *scan);

/* True for a JSON number and nothing else. */
bool scan_number_valid(struct str s);

/* The value of a whole number without sign, fraction and exponent from 1 to 2^31-1, else 0. */
uint32_t scan_number_id(struct str s);

#endif
