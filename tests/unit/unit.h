/* What every unit test includes. */
#ifndef HPKVFS_TESTS_UNIT_H
#define HPKVFS_TESTS_UNIT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"

/* Byte strings with their lengths compared, NULs included. */
#define assert_str(actual, expected)                                        \
	do {                                                                \
		struct str actual_ = (actual), expected_ = (expected);      \
		assert_int_equal(actual_.len, expected_.len);               \
		assert_memory_equal(actual_.p, expected_.p, expected_.len); \
	} while (0)

/* A random source of the tests' own, so that a failure repeats: xorshift64*. */
static inline uint64_t unit_random(uint64_t *seed)
{
	*seed ^= *seed >> 12;
	*seed ^= *seed << 25;
	*seed ^= *seed >> 27;
	return *seed * 0x2545f4914f6cdd1dULL;
}

static inline size_t unit_below(uint64_t *seed, size_t limit)
{
	return (size_t)(unit_random(seed) >> 33) % limit;
}

#endif
