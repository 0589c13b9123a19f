#include "mount/test_hooks.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

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

void test_times(uint64_t *grace_us, uint64_t *beat_us)
{
	const char *text = secure_getenv("HPKVFS_TEST_TIMES");
	unsigned long grace_ms, beat_ms;
	char *end;

	if (!text)
		return;
	grace_ms = strtoul(text, &end, 10);
	beat_ms = *end == ':' ? strtoul(end + 1, NULL, 10) : 0;
	if (grace_ms)
		*grace_us = grace_ms * CLOCK_US_PER_MS;
	if (beat_ms)
		*beat_us = beat_ms * CLOCK_US_PER_MS;
}
