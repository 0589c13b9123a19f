/* The examples in hpkvfs-layout(7), which the code must agree with. There each is
 *
 *     .\" example: NAME
 *     .EX
 *     its lines
 *     .EE
 */
#ifndef HPKVFS_TESTS_LAYOUT_EXAMPLE_H
#define HPKVFS_TESTS_LAYOUT_EXAMPLE_H

#include "base/buf.h"

/* The lines of an example as a reader sees them, each with its newline. Fails the test if there is none. The caller frees. */
struct buf layout_example(const char *name);

/* How many examples have names that begin so. */
unsigned layout_example_count(const char *prefix);

#endif
