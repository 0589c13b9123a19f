#ifndef HPKVFS_BASE_UTF8_H
#define HPKVFS_BASE_UTF8_H

#include <stdbool.h>

#include "base/buf.h"

/* True for well-formed UTF-8 (RFC 3629: shortest forms, no surrogates, up to U+10FFFF). NUL is allowed. */
bool utf8_valid(struct str s);

#endif
