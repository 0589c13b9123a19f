/* fsck while mounts and foreign clients are at work. */
#include "sim.h"

#define PLAIN_F                                                                  \
	{                                                                        \
		{                                                                \
			.by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "0" \
		}                                                                \
	}
#define RECORDED_F                                                                     \
	{                                                                              \
		{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "0" },          \
			{ .by = SIM_A, .verb = SIM_CHMOD, .path = "f", .mode = 0600 }, \
	}
#define LONG(c) .fill = (c), .count = 1000
/* With pages of two keys 'a' and 'z' are in different ones. */
#define Z_AND_OTHERS                                                                  \
	{                                                                             \
		{ .by = SIM_A, .verb = SIM_WRITE, .path = "m", .text = "1" },         \
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "n", .text = "2" }, \
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "z", LONG('o') },   \
	}

static const struct sim_case cases[] = {
	{
		.name = "fsck against long content and unlink",
		.before = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", LONG('o') },
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "g", LONG('p') },
		},
		.ops = {
			{ .by = SIM_FSCK, .verb = SIM_CHECK },
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", LONG('a') },
			{ .by = SIM_B, .verb = SIM_UNLINK, .path = "g" },
		},
		.crash = true,
		.aged = true,
	},
	{
		.name = "fsck against a renaming of long content",
		.before = { { .by = SIM_A, .verb = SIM_WRITE, .path = "z", LONG('o') } },
		.ops = {
			{ .by = SIM_FSCK, .verb = SIM_CHECK },
			{ .by = SIM_A, .verb = SIM_RENAME, .path = "z", .to = "a" },
		},
		.present = { "a", "z" },
		.page_records = 3,
		.crash = true,
		.aged = true,
	},
	{
		.name = "fsck against a file that is renamed past its listings",
		.rule = "fsck asks the names in i/ID before it takes chunks for those of no file",
		.before = Z_AND_OTHERS,
		.ops = {
			{ .by = SIM_FSCK, .verb = SIM_CHECK },
			{ .by = SIM_A, .verb = SIM_RENAME, .path = "z", .to = "a" },
			{ .by = SIM_A, .verb = SIM_RENAME, .path = "a", .to = "z" },
			{ .by = SIM_A, .verb = SIM_RENAME, .path = "z", .to = "a" },
		},
		.present = { "a", "z" },
		.page_records = 2,
		.aged = true,
		.no_orphans = true,
	},
	{
		.name = "fsck against a file that a foreign client renames past its listing",
		.rule = "fsck lists all files once more before it takes chunks for those of no file",
		.before = Z_AND_OTHERS,
		.ops = {
			{ .by = SIM_FSCK, .verb = SIM_CHECK },
			{ .by = SIM_FOREIGN, .verb = SIM_COPY, .path = "z", .to = "a" },
			{ .by = SIM_FOREIGN, .verb = SIM_DELETE, .path = "z" },
		},
		.present = { "a", "z" },
		.page_records = 2,
		.aged = true,
		.no_orphans = true,
	},
	{
		.name = "fsck against a file that a foreign client renames past two listings",
		.rule = "fsck lists all files once more before it removes chunks",
		.before = Z_AND_OTHERS,
		.ops = {
			{ .by = SIM_FSCK, .verb = SIM_CHECK },
			{ .by = SIM_FOREIGN, .verb = SIM_COPY, .path = "z", .to = "a" },
			{ .by = SIM_FOREIGN, .verb = SIM_DELETE, .path = "z" },
			{ .by = SIM_FOREIGN, .verb = SIM_COPY, .path = "a", .to = "z" },
			{ .by = SIM_FOREIGN, .verb = SIM_DELETE, .path = "a" },
		},
		.present = { "a", "z" },
		.page_records = 2,
		.aged = true,
	},
	{
		.name = "fsck against a new long file",
		.rule = "an id that is less than an hour old may be named yet",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_FSCK, .verb = SIM_CHECK },
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "g", LONG('a') },
		},
		.no_orphans = true,
	},
	{
		.name = "fsck against mode and an append",
		.before = RECORDED_F,
		.ops = {
			{ .by = SIM_FSCK, .verb = SIM_CHECK },
			{ .by = SIM_A, .verb = SIM_CHMOD, .path = "f", .mode = 0640 },
			{ .by = SIM_B, .verb = SIM_APPEND, .path = "f", .text = "b" },
		},
		.present = { "f" },
		.crash = true,
		.aged = true,
	},
	{
		.name = "fsck against a new file that only its owner may read",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_FSCK, .verb = SIM_CHECK },
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "g", .text = "a", .mode = 0600 },
			{ .by = SIM_A, .verb = SIM_UNLINK, .path = "g" },
		},
		.crash = true,
		.aged = true,
	},
	{
		.name = "fsck against a directory's renaming",
		.before = {
			{ .by = SIM_A, .verb = SIM_MKDIR, .path = "d" },
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "d/x", LONG('o') },
		},
		.ops = {
			{ .by = SIM_FSCK, .verb = SIM_CHECK },
			{ .by = SIM_A, .verb = SIM_RENAME, .path = "d", .to = "e" },
		},
		.present = { "d/x", "e/x" },
		.crash = true,
		.aged = true,
	},
};

int main(void)
{
	return sim_cases_run("fsck", cases, sizeof(cases) / sizeof(*cases));
}
