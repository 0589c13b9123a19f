#ifndef HPKVFS_BASE_UTF8_H
#define HPKVFS_BASE_UTF8_H

#include <stdbool.h>

#include "base/buf.h"

/* True for well-formed UTF-8 (RFC 3629: shortest forms, no surrogates, up to U+10FFFF). NUL is allowed. */
bool utf8_valid(struct str s);

/* The bytes of the control character that s begins with: 1, or 2 for U+0080 to U+009F, which are commands to a terminal as well;
 * 0: it begins with none. */
size_t utf8_control(struct str s);

/* Writes `by` over each byte of a control character. */
void utf8_replace_controls(char *text, char by);

#endif
