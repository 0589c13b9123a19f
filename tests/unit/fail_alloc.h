/* Lack of memory on demand. The dependency fail_alloc_dep wraps malloc and its kin, for what is linked statically:
 * the code of this project, but not the libraries that it calls. */
#ifndef HPKVFS_TESTS_FAIL_ALLOC_H
#define HPKVFS_TESTS_FAIL_ALLOC_H

#include <stdbool.h>

/* The n-th allocation from now on fails, once; 0: none. */
void fail_alloc_at(unsigned n);

/* Ends it. True if an allocation was made to fail. */
bool fail_alloc_end(void);

/* For wrappers of other allocators (json_set_alloc_funcs): counts like malloc. */
void *fail_alloc_malloc(size_t size);

/* Runs `call` with its first allocation failing, its second, and so on until none fails. As long as one does, the call
 * must answer -ENOMEM; at last it must answer 0. `undo` runs after each call. */
#define assert_survives_failures(call, undo)                          \
	do {                                                          \
		bool failed_ = true;                                  \
		for (unsigned n_ = 1; failed_; n_++) {                \
			int rc_;                                      \
			fail_alloc_at(n_);                            \
			rc_ = (call);                                 \
			failed_ = fail_alloc_end();                   \
			assert_int_equal(rc_, failed_ ? -ENOMEM : 0); \
			undo;                                         \
		}                                                     \
	} while (0)

#endif
