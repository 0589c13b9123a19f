/* What a token allows: which keys its bearer hears of, and which it may read and write. */
#ifndef HPKVFS_SERVER_GRANT_H
#define HPKVFS_SERVER_GRANT_H

#include <jansson.h>
#include <regex.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct grant {
	unsigned refs;    /* the loop's thread counts */
	json_t *patterns; /* array of strings in which '*' stands for any text */
	json_t *keys;     /* array of literal keys */
	bool restricted;  /* only keys that match `access` */
	regex_t access;
	int64_t expires_s; /* seconds since the epoch */
};

/* Reads the members subscribePatterns, subscribeKeys and accessPattern of an object; others are ignored.
 * 0, or -1 and static text in `why`. */
CHECKED int grant_new(const json_t *object, struct grant **out, const char **why);
struct grant *grant_ref(struct grant *grant);
void grant_unref(struct grant *grant); /* NULL is allowed */

bool grant_subscribes(const struct grant *grant);
bool grant_hears(const struct grant *grant, struct str key);

/* Thread-safe. */
bool grant_allows(const struct grant *grant, struct str key);

/* True if `text` is `pattern` with each '*' replaced by some text, maybe none. */
bool pattern_matches(struct str pattern, struct str text);

#endif
