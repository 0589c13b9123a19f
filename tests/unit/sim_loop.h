/* A loop without libwebsockets in which no time passes by itself: the linker puts these in the place of base/loop's and of the
 * clocks, so that one order of events is always the same run. Random bytes are numbers in a row, for each loop another row.
 *
 * Everything of one party runs on a loop of its own: so it is known whose timers and coroutines are whose. */
#ifndef HPKVFS_TESTS_SIM_LOOP_H
#define HPKVFS_TESTS_SIM_LOOP_H

#include "base/loop.h"

/* `number` tells the loops' random bytes apart. Lack of memory ends the program. */
struct loop *sim_loop_new(unsigned number);
/* No timer may be set. */
void sim_loop_free(struct loop *loop);

/* Runs what was deferred, until nothing is. True if there was anything. */
bool sim_loop_run(struct loop *loop);

/* What is called next from outside of loops belongs to this one. */
void sim_loop_use(struct loop *loop);

/* When the next timer is due; UINT64_MAX: none is set. */
uint64_t sim_loop_due(const struct loop *loop);
/* Sets the clock to when that timer is due, if that is later than now, and fires it. */
void sim_loop_fire(struct loop *loop);

/* The clock of all loops. */
void sim_clock_reset(void);
uint64_t sim_clock_us(void);
void sim_clock_set(uint64_t us);

/* What the code under test logs goes to standard error, or nowhere. */
void sim_log(bool on);

#endif
