/* Attributes that two mounts change at once. */
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

static const struct sim_case cases[] = {
	{
		.name = "mode against xattr, no record before",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_CHMOD, .path = "f", .mode = 0600 },
			{ .by = SIM_B, .verb = SIM_XATTR, .path = "f", .text = "b" },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "mode against xattr, with a record",
		.rule = "records change by PATCH of what changed",
		.before = RECORDED_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_CHMOD, .path = "f", .mode = 0640 },
			{ .by = SIM_B, .verb = SIM_XATTR, .path = "f", .text = "b" },
			{ .by = SIM_A, .verb = SIM_CHMOD, .path = "f", .mode = 0400 },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "mode against whole content",
		.before = RECORDED_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_CHMOD, .path = "f", .mode = 0640 },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "b" },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "f", .text = "x" },
		},
		.present = { "f" },
		.guarded = { "f", ".hpkvfs/m/f" },
		.crash = true,
	},
	{
		.name = "a new file that only its owner may read",
		.rule = "the record before a value that others may not read",
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "a", .mode = 0600 },
		},
		.guarded = { "f", ".hpkvfs/m/f" },
		.crash = true,
	},
	{
		.name = "a new long file that only its owner may read",
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", LONG('a'), .mode = 0600 },
		},
		.guarded = { "f", ".hpkvfs/m/f" },
		.crash = true,
	},
	{
		.name = "a file that only its owner may read, renamed",
		.before = RECORDED_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .path = "f", .to = "g" },
		},
		.present = { "f", "g" },
		.guarded = { "g", ".hpkvfs/m/g" },
		.crash = true,
	},
	{
		.name = "a file with a record unlinked against whole content",
		.before = RECORDED_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_UNLINK, .path = "f" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "b" },
		},
		.crash = true,
	},
	{
		.name = "a file that only its owner may read, unlinked",
		.rule = "the key goes before its record",
		.before = RECORDED_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_UNLINK, .path = "f" },
		},
		.guarded = { "f", ".hpkvfs/m/f" },
		.crash = true,
	},
};

int main(void)
{
	return sim_cases_run("records", cases, sizeof(cases) / sizeof(*cases));
}
