/* Clocks. Microseconds are uint64_t; wall-clock times are nanoseconds since the epoch. */
#ifndef HPKVFS_BASE_CLOCK_H
#define HPKVFS_BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_US_PER_MS 1000u
#define CLOCK_US_PER_S 1000000u
#define CLOCK_NS_PER_S 1000000000

/* CLOCK_MONOTONIC in microseconds: for timeouts and ages. */
uint64_t clock_now_us(void);

/* CLOCK_BOOTTIME in microseconds: it goes on while the machine is suspended. */
uint64_t clock_boot_us(void);

/* CLOCK_REALTIME in nanoseconds since the epoch: for file times. */
int64_t clock_real_ns(void);

#endif
