/* Two mounts and a foreign client at one file. */
#include "sim.h"

/* A has 'f' written before, and both mounts have seen it. */
#define PLAIN_F                                                                  \
	{                                                                        \
		{                                                                \
			.by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "0" \
		}                                                                \
	}

static const struct sim_case cases[] = {
	{
		.name = "whole new content, twice",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "a" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "b" },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "a new file, twice",
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "a" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "\xff" },
		},
		.crash = true,
	},
	{
		.name = "appends to a plain file",
		.rule = "an append is one PATCH",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", .text = "a" },
			{ .by = SIM_B, .verb = SIM_APPEND, .path = "f", .text = "b" },
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", .text = "c" },
			{ .by = SIM_FOREIGN, .verb = SIM_PATCH, .path = "f", .text = "x" },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "whole content against unlink",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "a" },
			{ .by = SIM_B, .verb = SIM_UNLINK, .path = "f", .may_fail = { -ENOENT } },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "f", .text = "x" },
		},
		.crash = true,
	},
	{
		.name = "whole content of either kind against the other",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "\xff\x01" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "b" },
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "\xfe" },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "whole content against foreign ones",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "\xff\x01" },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "f", .text = "x" },
			{ .by = SIM_FOREIGN, .verb = SIM_DELETE, .path = "f" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "b" },
		},
		.crash = true,
	},
	{
		.name = "appends against whole content",
		.rule = "an append is one PATCH",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", .text = "a" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "b" },
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", .text = "c" },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "appends against unlink and foreign ones",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", .text = "a" },
			{ .by = SIM_B, .verb = SIM_UNLINK, .path = "f", .may_fail = { -ENOENT } },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "f", .text = "x" },
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", .text = "c", .may_fail = { -ENOENT } },
		},
		.crash = true,
	},
	{
		.name = "a write in place of a plain file against whole content",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE_AT, .path = "f", .text = "a", .offset = 2, .stale = true },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "bbbb" },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "f", .text = "x" },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "a truncation against whole content",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RESIZE, .path = "f", .offset = 2, .stale = true },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "bbbb" },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "unlink, twice, against a foreign set",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_UNLINK, .path = "f", .may_fail = { -ENOENT } },
			{ .by = SIM_B, .verb = SIM_UNLINK, .path = "f", .may_fail = { -ENOENT } },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "f", .text = "x" },
		},
		.crash = true,
	},
};

int main(void)
{
	return sim_cases_run("files", cases, sizeof(cases) / sizeof(*cases));
}
