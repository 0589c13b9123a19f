/* What fsck.hpkvfs says: faults and notes on standard output, one a line, and a line of progress on a terminal. */
#ifndef HPKVFS_MOUNT_FSCK_REPORT_H
#define HPKVFS_MOUNT_FSCK_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct fsck_report {
	bool terminal;    /* standard error is one */
	bool shown;       /* a progress line is on it */
	uint64_t next_us; /* when it may be shown again */
};

void fsck_report_init(struct fsck_report *report);

/* KEY: TEXT; either may be empty. Escaped as buf_add_escaped does it. */
void fsck_report_line(struct fsck_report *report, const char *before, struct str key, struct str text);

/* At most some times a second. */
void fsck_report_progress(struct fsck_report *report, const char *what, uint64_t count);

/* Takes the line of progress away. */
void fsck_report_clear(struct fsck_report *report);

#endif
