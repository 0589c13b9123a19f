/* JSON objects without structure, read in place. Most of what client and server send is such an object: a few members, strings
 * without escapes, numbers, true, false and null. Building a tree of them would be most of what a small one costs. What is
 * not as simple as that is left to jansson, and so is the judgement of what is no JSON at all. */
#ifndef HPKVFS_BASE_FLAT_H
#define HPKVFS_BASE_FLAT_H

#include "base/buf.h"

#define FLAT_MEMBERS 12

enum flat_kind {
	FLAT_MISSING,
	FLAT_STRING,
	FLAT_NUMBER,
	FLAT_TRUE,
	FLAT_FALSE,
	FLAT_NULL,
	FLAT_OTHER, /* an array or object; flat_read refuses those */
};

struct flat_value {
	enum flat_kind kind;
	struct str text; /* a string's content, a number's text */
};

struct flat {
	size_t count;
	struct str names[FLAT_MEMBERS];
	struct flat_value values[FLAT_MEMBERS];
};

/* True: `raw` is a JSON object, and all of it is in `flat`, which points into it. False: it is not this simple; nothing
 * else is said. */
bool flat_read(struct flat *flat, struct str raw);

/* The last member of this name, as jansson does it. */
struct flat_value flat_get(const struct flat *flat, struct str name);

/* True: between quotes these bytes are the JSON string of themselves, if they are UTF-8. */
bool flat_plain(struct str s);

#endif
