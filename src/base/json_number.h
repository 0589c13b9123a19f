/* JSON's grammar of numbers: libraries turn numbers into int64 or double, and a store must give back what it was given. */
#ifndef HPKVFS_BASE_JSON_NUMBER_H
#define HPKVFS_BASE_JSON_NUMBER_H

#include "base/buf.h"

/* The length of the JSON number that s begins with (RFC 8259, section 6); 0: it begins with none. What follows is not looked
 * at. */
size_t json_number_length(struct str s);

#endif
