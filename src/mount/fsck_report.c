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

void fsck_report_line(struct fsck_report *report, const char *before, struct str key, struct str text)
{
	CLEANUP(buf_free) struct buf line = BUF_INIT;
	int r = buf_add_str(&line, str_c(before));

	if (r == 0)
		r = buf_add_escaped(&line, key);
	if (r == 0 && key.len && text.len)
		r = buf_add_str(&line, STR(": "));
	if (r == 0)
		r = buf_add_escaped(&line, text);
	fsck_report_clear(report);
	puts(r == 0 ? line.p : "out of memory");
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
