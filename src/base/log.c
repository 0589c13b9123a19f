#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <syslog.h>

#include "base/utf8.h"

/* Set once at start, before there are threads. */
static const char *log_program = "hpkvfs";
static enum log_level log_limit = LOG_LEVEL_INFO;
static bool log_syslog;

void log_init(const char *program, enum log_level level)
{
	log_program = program;
	log_limit = level;
}

void log_to_syslog(void)
{
	openlog(log_program, LOG_PID, LOG_DAEMON);
	log_syslog = true;
}

static int priority(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return LOG_ERR;
	case LOG_LEVEL_WARNING:
		return LOG_WARNING;
	case LOG_LEVEL_INFO:
		return LOG_INFO;
	case LOG_LEVEL_DEBUG:
		return LOG_DEBUG;
	}
	return LOG_ERR;
}

void log_write(enum log_level level, const char *format, ...)
{
	int saved = errno;
	char line[1024];
	va_list ap;

	if (level > log_limit)
		return;
	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	/* names of files and keys may hold newlines: one message is one line, and no name looks like another message */
	utf8_replace_controls(line, '?');
	if (log_syslog)
		syslog(priority(level), "%s", line);
	else
		fprintf(stderr, "%s: %s\n", log_program, line);
	errno = saved;
}
