/* Appends by two mounts, and others' changes at the same time. A value has room for 512 bytes here. */
#include "sim.h"

/* 300 bytes of text, and appends that leave no room, so that the second is a fold. */
#define FULL_F                                                                                 \
	{                                                                                      \
		{                                                                              \
			.by = SIM_A, .verb = SIM_WRITE, .path = "f", .fill = '0', .count = 300 \
		}                                                                              \
	}
#define MUCH(c) .fill = (c), .count = 250

/* 1000 bytes in chunks. */
#define LONG_F                                                                                  \
	{                                                                                       \
		{                                                                               \
			.by = SIM_A, .verb = SIM_WRITE, .path = "f", .fill = '0', .count = 1000 \
		}                                                                               \
	}

static const struct sim_case cases[] = {
	{
		.name = "a fold that dies",
		.before = FULL_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", MUCH('a') },
			{ .by = SIM_B, .verb = SIM_APPEND, .path = "f", .text = "b", .last = true },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "a fold against an append",
		.rule = "what a fold's SET destroyed besides what it had read is appended again",
		.before = FULL_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", MUCH('a') },
			{ .by = SIM_B, .verb = SIM_APPEND, .path = "f", .text = "b" },
		},
		.present = { "f" },
	},
	{
		.name = "a fold against a fold",
		.rule = "another value that a fold's SET destroyed is put back",
		.before = FULL_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", MUCH('a') },
			{ .by = SIM_B, .verb = SIM_APPEND, .path = "f", MUCH('b') },
		},
		.present = { "f" },
	},
	{
		.name = "a fold against a foreign append",
		.before = FULL_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", MUCH('a') },
			{ .by = SIM_FOREIGN, .path = "f", .verb = SIM_PATCH, .text = "x" },
		},
		.present = { "f" },
	},
	{
		.name = "a fold against a foreign set",
		.before = FULL_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", MUCH('a') },
			{ .by = SIM_FOREIGN, .path = "f", .verb = SIM_SET, .text = "x" },
		},
		.present = { "f" },
	},
	{
		.name = "a fold against a foreign delete",
		.rule = "where a fold's SET destroyed nothing, the own text alone is set",
		.before = FULL_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", MUCH('a') },
			{ .by = SIM_FOREIGN, .path = "f", .verb = SIM_DELETE },
		},
	},
	{
		.name = "a fold against unlink",
		.before = FULL_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", MUCH('a') },
			{ .by = SIM_B, .verb = SIM_UNLINK, .path = "f", .may_fail = { -ENOENT } },
		},
	},
	{
		.name = "a fold against whole content",
		.before = FULL_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", MUCH('a') },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "b" },
		},
		.present = { "f" },
	},
	{
		.name = "folds one after the other against an append",
		.before = FULL_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", MUCH('a') },
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", MUCH('c') },
			{ .by = SIM_B, .verb = SIM_APPEND, .path = "f", .text = "b" },
		},
		.present = { "f" },
	},
	{
		.name = "text behind chunks",
		.rule = "an append is one PATCH",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", .text = "a" },
			{ .by = SIM_B, .verb = SIM_APPEND, .path = "f", .text = "b" },
			{ .by = SIM_FOREIGN, .path = "f", .verb = SIM_PATCH, .text = "x" },
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", .text = "c" },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "text and what is no text behind chunks",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", .text = "a" },
			{ .by = SIM_B, .verb = SIM_APPEND, .path = "f", .text = "\xff" },
		},
		.present = { "f" },
	},
	{
		.name = "what is no text behind chunks, twice",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_APPEND, .path = "f", .text = "\xfe" },
			{ .by = SIM_B, .verb = SIM_APPEND, .path = "f", .text = "\xff" },
		},
		.present = { "f" },
	},
};

int main(void)
{
	return sim_cases_run("appends", cases, sizeof(cases) / sizeof(*cases));
}
