/* Content in chunks: two mounts and a foreign client at one file. Chunks have 384 bytes here. */
#include "sim.h"

/* 1000 bytes in three chunks. */
#define LONG_F                                                                 \
	{                                                                      \
		{                                                              \
			.by = SIM_A, .verb = SIM_WRITE, .path = "f", LONG('o') \
		}                                                              \
	}
#define LONG(c) .fill = (c), .count = 1000

static const struct sim_case cases[] = {
	{
		.name = "long content, twice",
		.rule = "chunks are stored before the key names them, under an id of their own",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", LONG('a') },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", LONG('b') },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "long content against plain, twice",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", LONG('a') },
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "a" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "b" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", LONG('b') },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "long content against unlink and a foreign set",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", LONG('a') },
			{ .by = SIM_B, .verb = SIM_UNLINK, .path = "f", .may_fail = { -ENOENT } },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "f", .text = "x" },
		},
		.crash = true,
	},
	{
		.name = "long content against a foreign delete",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", LONG('a') },
			{ .by = SIM_FOREIGN, .verb = SIM_DELETE, .path = "f" },
		},
		.crash = true,
	},
	{
		.name = "a write in place against whole content",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE_AT, .behind = true, .path = "f", .text = "aaaa", .offset = 10 },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", LONG('b') },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "a truncation against whole content",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RESIZE, .stale = true, .path = "f", .offset = 600 },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", LONG('b') },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "long content against its renaming",
		.rule = "i/ID has both names before a rename; who removes chunks asks all that hold the id",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .path = "f", .to = "g" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", LONG('b') },
		},
		.present = { "f", "g" },
		.crash = true,
	},
	{
		.name = "unlink against a renaming",
		.rule = "i/ID has both names before a rename, and chunks go only a while after the last name: a renaming may be under way",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .path = "f", .to = "g", .may_fail = { -ENOENT } },
			{ .by = SIM_B, .verb = SIM_UNLINK, .path = "f", .may_fail = { -ENOENT } },
		},
		.crash = true,
	},
	{
		.name = "a write in place of what was renamed, or half renamed",
		.rule = "an id that another live name has is not written in place",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .path = "f", .to = "g" },
			{ .by = SIM_B, .verb = SIM_WRITE_AT, .stale = true, .path = "f", .text = "bbbb", .offset = 10, .last = true },
		},
		.present = { "f", "g" },
		.crash = true,
	},
	{
		.name = "long content that is read while it is replaced",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", LONG('a') },
			{ .by = SIM_B, .verb = SIM_WAIT },
			{ .by = SIM_B, .verb = SIM_READ, .path = "f" },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "f", .text = "x" },
		},
		.present = { "f" },
		.crash = true,
		.aged = true,
	},
	{
		.name = "long content that was opened long before it is read",
		.rule = "where a chunk is missing the key is looked at again",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", LONG('a') },
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", LONG('c') },
			{ .by = SIM_B, .verb = SIM_WAIT, .offset = 2 },
			{ .by = SIM_B, .verb = SIM_READ, .path = "f", .pause = 200 },
		},
		.present = { "f" },
	},
	{
		.name = "writes in place to two chunks",
		.rule = "who writes in place may have hidden another's time: chunks are then fetched again",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE_AT, .behind = true, .path = "f", .text = "aaaa", .offset = 10 },
			{ .by = SIM_B, .verb = SIM_WRITE_AT, .path = "f", .text = "bbbb", .offset = 500 },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "a write in place against growth",
		.rule = "a record that changes tells of chunks, whatever value its time is for",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE_AT, .stale = true, .path = "f", .text = "aaaa", .offset = 1200 },
			{ .by = SIM_B, .verb = SIM_WRITE_AT, .behind = true, .path = "f", .text = "bbbb", .offset = 10 },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "growth against whole content and a foreign set",
		.rule = "a chunk in memory belongs to the value that it was fetched for",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE_AT, .stale = true, .path = "f", .text = "aaaa", .offset = 1200 },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", LONG('b') },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "f", .text = "x" },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "growth against growth",
		.rule = "growth removes no chunk that another's stub may name",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE_AT, .stale = true, .path = "f", .text = "aaaa", .offset = 1200 },
			{ .by = SIM_B, .verb = SIM_WRITE_AT, .stale = true, .path = "f", .text = "bbbb", .offset = 1600 },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "growth that was begun long ago against whole content",
		.rule = "before growth it is looked whether the key still holds what is made longer",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE_AT, .stale = true, .path = "f", .text = "aaaa", .offset = 1200, .pause = 200 },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", LONG('b') },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "growth against a truncation",
		.rule = "no chunk is removed whose id is in use: another's stub may come to name it",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE_AT, .stale = true, .path = "f", .text = "aaaa", .offset = 1200 },
			{ .by = SIM_B, .verb = SIM_RESIZE, .stale = true, .path = "f", .offset = 600 },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "growth against a write in place to the last chunk",
		.rule = "a chunk in place is sent as long as any: another's stub may say that it is",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE_AT, .stale = true, .path = "f", .text = "aaaa", .offset = 1200 },
			{ .by = SIM_B, .verb = SIM_WRITE_AT, .behind = true, .stale = true, .path = "f", .text = "bbbb", .offset = 900 },
		},
		.present = { "f" },
	},
	{
		.name = "a truncation against a write in place",
		.rule = "a record that changes tells of chunks, whatever value its time is for",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RESIZE, .stale = true, .path = "f", .offset = 600 },
			{ .by = SIM_B, .verb = SIM_WRITE_AT, .behind = true, .path = "f", .text = "bbbb", .offset = 10 },
		},
		.present = { "f" },
		.crash = true,
	},
	{
		.name = "a write in place against a renaming",
		.rule = "a chunk of what was renamed is not believed for long",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .path = "f", .to = "g" },
			{ .by = SIM_B, .verb = SIM_WRITE_AT, .behind = true, .stale = true, .path = "f", .text = "bbbb", .offset = 10 },
		},
		.present = { "f", "g" },
		.crash = true,
	},
	{
		.name = "long content, alone",
		.rule = "chunks that nothing names are removed",
		.before = LONG_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", LONG('a') },
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "a" },
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", LONG('c') },
			{ .by = SIM_A, .verb = SIM_RENAME, .path = "f", .to = "g" },
			{ .by = SIM_A, .verb = SIM_UNLINK, .path = "g" },
		},
		.crash = true,
		.tidy = true,
	},
};

int main(void)
{
	return sim_cases_run("content", cases, sizeof(cases) / sizeof(*cases));
}
