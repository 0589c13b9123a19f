#include "mount/test_hooks.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

void test_stop_init(struct test_stop *stop)
{
	const char *text = secure_getenv("HPKVFS_TEST_STOP");
	char *end;

	*stop = (struct test_stop){ 0 };
	if (!text)
		return;
	stop->writes_left = strtoul(text, &end, 10);
	if (strcmp(end, ":kill") == 0)
		stop->signal = SIGKILL;
	else if (strcmp(end, ":stop") == 0)
		stop->signal = SIGSTOP;
	else
		stop->writes_left = 0;
	if (stop->writes_left)
		log_warning("HPKVFS_TEST_STOP is set: this mount will not live long");
}

void test_stop_written(struct test_stop *stop)
{
	if (stop->writes_left && --stop->writes_left == 0)
		raise(stop->signal);
}

void test_suspend_init(struct test_suspend *suspend)
{
	suspend->path = secure_getenv("HPKVFS_TEST_SUSPEND");
}

uint64_t test_suspend_us(const struct test_suspend *suspend)
{
	if (!suspend->path || access(suspend->path, F_OK) < 0)
		return 0;
	return 3600 * (uint64_t)CLOCK_US_PER_S;
}

bool test_notify_directly(void)
{
	const char *text = secure_getenv("HPKVFS_TEST_NOTIFY");
	bool directly = text && strcmp(text, "directly") == 0;

	if (directly)
		log_warning("HPKVFS_TEST_NOTIFY is set: this mount will hang");
	return directly;
}

/* The number at *text, and *text behind it and the colon that follows it. */
static uint64_t take_ms(char **text)
{
	uint64_t ms = strtoul(*text, text, 10);

	if (**text == ':')
		(*text)++;
	return ms * CLOCK_US_PER_MS;
}

void test_times_init(struct test_times *times)
{
	char *text = secure_getenv("HPKVFS_TEST_TIMES");

	*times = (struct test_times){ 0 };
	if (!text)
		return;
	times->grace_us = take_ms(&text);
	times->beat_us = take_ms(&text);
	times->orphan_us = take_ms(&text);
}
