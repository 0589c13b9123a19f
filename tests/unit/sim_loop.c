#include "sim_loop.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"

/* 2026-01-01, so that times in milliseconds have the digits that they have in stores. */
#define REAL_BASE_NS (1767225600ll * CLOCK_NS_PER_S)

/* A timer's own storage has no room for a time: it stands here. */
struct alarm {
	struct alarm *prev, *next;
	struct loop_timer *timer;
	uint64_t due_us;
};

struct loop {
	struct loop_task *first, **last;
	struct alarm *alarms; /* in the order in which they are due */
	unsigned number;
	uint64_t randoms;
	uint64_t looks; /* at the clock: no two give the same time, whoever looks */
};

static uint64_t now_us;
static struct loop *running;
static bool logging;

/* What the code under test calls. */
void __wrap_loop_defer(struct loop *loop, struct loop_task *task);
void __wrap_loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay_us,
			   void (*fn)(struct loop_timer *timer));
void __wrap_loop_timer_cancel(struct loop_timer *timer);
uint64_t __wrap_clock_now_us(void);
uint64_t __wrap_clock_boot_us(void);
int64_t __wrap_clock_real_ns(void);
ssize_t __wrap_getrandom(void *out, size_t size, unsigned flags);
void __wrap_log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void *must_alloc(size_t size)
{
	void *p = calloc(1, size);

	if (!p)
		abort();
	return p;
}

struct loop *sim_loop_new(unsigned number)
{
	struct loop *loop = must_alloc(sizeof(*loop));

	loop->last = &loop->first;
	loop->number = number;
	return loop;
}

void sim_loop_free(struct loop *loop)
{
	if (loop->alarms || loop->first)
		abort();
	free(loop);
}

/* --- tasks --- */

void __wrap_loop_defer(struct loop *loop, struct loop_task *task)
{
	if (task->queued)
		return;
	task->queued = true;
	task->next = NULL;
	*loop->last = task;
	loop->last = &task->next;
}

void sim_loop_use(struct loop *loop)
{
	running = loop;
}

bool sim_loop_run(struct loop *loop)
{
	bool any = loop->first;

	running = loop;
	while (loop->first) {
		struct loop_task *task = loop->first;

		loop->first = task->next;
		if (!loop->first)
			loop->last = &loop->first;
		task->next = NULL;
		task->queued = false;
		task->fn(task);
	}
	return any;
}

/* --- timers --- */

static struct alarm *alarm_find(const struct loop *loop, const struct loop_timer *timer)
{
	struct alarm *alarm;

	DL_FOREACH(loop->alarms, alarm)
		if (alarm->timer == timer)
			return alarm;
	return NULL;
}

static int by_time(const struct alarm *a, const struct alarm *b)
{
	return a->due_us < b->due_us ? -1 : a->due_us > b->due_us;
}

void __wrap_loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay_us,
			   void (*fn)(struct loop_timer *timer))
{
	struct alarm *alarm = timer->loop ? alarm_find(loop, timer) : NULL;

	if (alarm)
		DL_DELETE(loop->alarms, alarm);
	else
		alarm = must_alloc(sizeof(*alarm));
	timer->loop = loop;
	timer->fn = fn;
	alarm->timer = timer;
	alarm->due_us = now_us + delay_us;
	DL_INSERT_INORDER(loop->alarms, alarm, by_time);
}

void __wrap_loop_timer_cancel(struct loop_timer *timer)
{
	struct loop *loop = timer->loop;
	struct alarm *alarm = loop ? alarm_find(loop, timer) : NULL;

	timer->loop = NULL;
	if (!alarm)
		return;
	DL_DELETE(loop->alarms, alarm);
	free(alarm);
}

uint64_t sim_loop_due(const struct loop *loop)
{
	return loop->alarms ? loop->alarms->due_us : UINT64_MAX;
}

void sim_loop_fire(struct loop *loop)
{
	struct alarm *alarm = loop->alarms;
	struct loop_timer *timer = alarm->timer;

	if (alarm->due_us > now_us)
		now_us = alarm->due_us;
	DL_DELETE(loop->alarms, alarm);
	free(alarm);
	timer->loop = NULL;
	running = loop;
	timer->fn(timer);
}

/* --- clocks, chance, the log --- */

void sim_clock_reset(void)
{
	now_us = CLOCK_US_PER_S;
}

uint64_t sim_clock_us(void)
{
	return now_us;
}

void sim_clock_set(uint64_t us)
{
	now_us = us;
}

uint64_t __wrap_clock_now_us(void)
{
	return now_us;
}

uint64_t __wrap_clock_boot_us(void)
{
	return now_us;
}

int64_t __wrap_clock_real_ns(void)
{
	return REAL_BASE_NS + (int64_t)now_us * 1000 + (int64_t)(++running->looks * 16 + running->number);
}

ssize_t __wrap_getrandom(void *out, size_t size, unsigned flags)
{
	unsigned char *bytes = out;
	uint64_t n = ++running->randoms;

	(void)flags;
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(i == 0 ? running->number : i < 8 ? n >> (8 * (i - 1)) : 0);
	return (ssize_t)size;
}

void sim_log(bool on)
{
	logging = on;
}

void __wrap_log_write(enum log_level level, const char *format, ...)
{
	va_list args;

	if (!logging || level > LOG_LEVEL_INFO)
		return;
	va_start(args, format);
	fprintf(stderr, "      log: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
}
