#include "mount/fsck_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

#define PROGRESS_US (100u * CLOCK_US_PER_MS)

void fsck_report_init(struct fsck_report *report)
{
	*report = (struct fsck_report){ .terminal = isatty(STDERR_FILENO) };
}

static void put_escaped(struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c == '\\')
			fputs("\\\\", stdout);
		else if (c < ' ' || c == 0x7f)
			printf("\\x%02x", c);
		else
			putchar(c);
	}
}

void fsck_report_line(struct fsck_report *report, const char *before, struct str key, struct str text)
{
	fsck_report_clear(report);
	fputs(before, stdout);
	put_escaped(key);
	if (key.len && text.len)
		fputs(": ", stdout);
	put_escaped(text);
	putchar('\n');
	fflush(stdout);
}

void fsck_report_progress(struct fsck_report *report, const char *what, uint64_t count)
{
	uint64_t now;

	if (!report->terminal)
		return;
	now = clock_now_us();
	if (now < report->next_us)
		return;
	report->next_us = now + PROGRESS_US;
	report->shown = true;
	fprintf(stderr, "\r\033[K%s: %" PRIu64, what, count);
}

void fsck_report_clear(struct fsck_report *report)
{
	if (report->shown)
		fputs("\r\033[K", stderr);
	report->shown = false;
}
