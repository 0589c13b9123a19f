#include "mount/killed.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint64_t bit(int signal)
{
	return (uint64_t)1 << (signal - 1);
}

/* The default action of these is not to end the process. */
static uint64_t harmless(void)
{
	return bit(SIGCHLD) | bit(SIGCONT) | bit(SIGURG) | bit(SIGWINCH) | bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) |
	       bit(SIGTTOU);
}

static bool read_file(pid_t thread, const char *name, char *text, size_t size)
{
	char path[64];
	FILE *file;
	size_t len;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)thread, name);
	file = fopen(path, "re");
	if (!file)
		return false;
	len = fread(text, 1, size - 1, file);
	text[len] = '\0';
	fclose(file);
	return len != 0;
}

static uint64_t mask(const char *status, const char *field)
{
	const char *line = strstr(status, field);
	unsigned long long value = 0;

	if (line)
		sscanf(line + strlen(field), "%llx", &value);
	return value;
}

/* Field 52 of stat is the exit code; a signal lies in its low seven bits. It is 0 while the thread lives. */
static bool ending_by_signal(const char *stat)
{
	const char *at = strrchr(stat, ')'); /* the name before it may hold anything */
	int field = 2;
	int code = 0;

	while (at && field < 52) {
		at = strchr(at + 1, ' ');
		field++;
	}
	if (at)
		sscanf(at, "%d", &code);
	return code & 0x7f;
}

/* That it may not be sent a signal says that it is there. */
static bool gone(pid_t thread)
{
	return kill(thread, 0) < 0 && errno == ESRCH;
}

bool killed(pid_t thread, bool interrupted)
{
	char text[8192];
	uint64_t pending, kept;

	if (thread == 0 || !read_file(thread, "status", text, sizeof(text)))
		return interrupted || gone(thread);
	pending = mask(text, "\nSigPnd:") | mask(text, "\nShdPnd:");
	kept = mask(text, "\nSigCgt:") | mask(text, "\nSigIgn:") | mask(text, "\nSigBlk:");
	if (pending & ~kept & ~harmless())
		return true;
	return read_file(thread, "stat", text, sizeof(text)) && ending_by_signal(text);
}
