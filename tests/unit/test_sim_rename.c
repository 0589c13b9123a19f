/* Names that one mount changes while the other and a foreign client write, make and remove what they name. */
#include "sim.h"

/* A has 'f' written before, and both mounts have seen it. */
#define PLAIN_F                                                                  \
	{                                                                        \
		{                                                                \
			.by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "0" \
		}                                                                \
	}
#define PLAIN_F_AND_G                                                                 \
	{                                                                             \
		{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "0" },         \
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "g", .text = "1" }, \
	}
#define TREE                                                                            \
	{                                                                               \
		{ .by = SIM_A, .verb = SIM_MKDIR, .path = "d" },                        \
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "d/x", .text = "0" }, \
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "d/y", .text = "1" }, \
	}

static const struct sim_case cases[] = {
	{
		.name = "a file renamed against whole content",
		.rule = "the new key is set before the old one is deleted; a rename takes along what was written meanwhile",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .path = "f", .to = "g" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "b" },
		},
		.present = { "f", "g" },
		.crash = true,
	},
	{
		.name = "a file renamed against appends",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .path = "f", .to = "g" },
			{ .by = SIM_B, .verb = SIM_APPEND, .path = "f", .text = "b", .may_fail = { -ENOENT } },
			{ .by = SIM_FOREIGN, .verb = SIM_PATCH, .path = "f", .text = "x" },
		},
		.present = { "f", "g" },
		.crash = true,
	},
	{
		.name = "a file renamed against unlink",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .path = "f", .to = "g", .may_fail = { -ENOENT } },
			{ .by = SIM_B, .verb = SIM_UNLINK, .path = "f", .may_fail = { -ENOENT } },
		},
		.crash = true,
	},
	{
		.name = "a file renamed over another against whole content of both",
		.before = PLAIN_F_AND_G,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .path = "f", .to = "g" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "g", .text = "b" },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "f", .text = "x" },
		},
		.present = { "g" },
		.crash = true,
	},
	{
		.name = "a file renamed to two names at once",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .path = "f", .to = "g", .may_fail = { -ENOENT } },
			{ .by = SIM_B, .verb = SIM_RENAME, .stale = true, .path = "f", .to = "h", .may_fail = { -ENOENT } },
		},
		.crash = true,
	},
	{
		.name = "a directory renamed against whole content and a creation below it",
		.rule = "new keys before old ones; a rename takes along what was written meanwhile",
		.before = TREE,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .path = "d", .to = "e" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "d/x", .text = "b" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "d/z", .text = "c" },
		},
		.present = { "d/x", "e/x" },
	},
	{
		.name = "a directory renamed against unlink below it",
		.before = TREE,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .path = "d", .to = "e" },
			{ .by = SIM_B, .verb = SIM_UNLINK, .path = "d/x", .may_fail = { -ENOENT } },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "d/y", .text = "x" },
		},
		.present = { "d/y", "e/y" },
	},
	{
		.name = "a directory renamed by one that dies",
		.rule = "an intent is written first, and finished by another",
		.before = TREE,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .path = "d", .to = "e" },
		},
		.present = { "d/x", "e/x" },
		.crash = true,
	},
	{
		.name = "a directory renamed by one that dies, against whole content and a creation below it",
		.before = TREE,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .half = true, .path = "d", .to = "e" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "d/x", .text = "b", .stays = true },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "d/z", .text = "c", .stays = true },
		},
		.present = { "d/y", "e/y" },
		.crash = true,
	},
	{
		.name = "a directory whose renaming is finished by another, against foreign sets",
		.rule = "who finishes a rename deletes nothing that has changed",
		.before = TREE,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .half = true, .path = "d", .to = "e" },
			{ .by = SIM_B, .verb = SIM_WAIT },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "d/x", .text = "x", .last = true, .stays = true },
		},
		.present = { "d/x", "e/x" },
		.crash = true,
	},
	{
		.name = "a directory whose renaming is finished by another, against foreign sets of new keys",
		.rule = "who finishes a rename overwrites nothing that differs",
		.before = TREE,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .half = true, .path = "d", .to = "e" },
			{ .by = SIM_B, .verb = SIM_WAIT },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "e/y", .text = "x", .last = true, .stays = true },
		},
		.present = { "d/y", "e/y" },
		.crash = true,
	},
	{
		.name = "a directory renamed to two names at once",
		.before = TREE,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .path = "d", .to = "e", .may_fail = { -ENOENT } },
			{ .by = SIM_B, .verb = SIM_RENAME, .stale = true, .path = "d/x", .to = "d/w", .may_fail = { -ENOENT } },
		},
	},
	{
		.name = "a directory whose renaming two finish at once",
		.rule = "who finishes what a dead one has left takes it over first, by an atomic count",
		.before = { { .by = SIM_A, .verb = SIM_MKDIR, .path = "d" }, { .by = SIM_A, .verb = SIM_WRITE, .path = "d/x", .text = "0" } },
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .half = true, .path = "d", .to = "e" },
			{ .by = SIM_B, .verb = SIM_WAIT },
			{ .by = SIM_FSCK, .verb = SIM_CHECK },
		},
		.present = { "d/x", "e/x" },
		.crash = true,
	},
	{
		.name = "a file renamed to its backup and made anew against whole content",
		.rule = "mv f f~ keeps f in the store until the new f is set",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .path = "f", .to = "f~" },
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "a" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "b" },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "f", .text = "x" },
		},
		.present = { "f" },
	},
	{
		.name = "a file renamed to its backup for good against a foreign set",
		.rule = "a foreign change of f ends the keeping of f",
		.before = PLAIN_F,
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .stale = true, .path = "f", .to = "f~" },
			{ .by = SIM_A, .verb = SIM_WAIT, .offset = 1 },
			{ .by = SIM_FOREIGN, .verb = SIM_SET, .path = "f", .text = "x", .stays = true },
		},
		.present = { "f", "f~" },
	},
	{
		.name = "a file in chunks renamed to its backup and made anew",
		.before = { { .by = SIM_A, .verb = SIM_WRITE, .path = "f", .fill = 'o', .count = 1000 } },
		.ops = {
			{ .by = SIM_A, .verb = SIM_RENAME, .path = "f", .to = "f~" },
			{ .by = SIM_A, .verb = SIM_WRITE, .path = "f", .text = "a" },
			{ .by = SIM_B, .verb = SIM_READ, .path = "f", .may_fail = { -ESTALE } },
			{ .by = SIM_FSCK, .verb = SIM_CHECK },
		},
		.present = { "f" },
		.tidy = true,
	},
	{
		.name = "two files exchanged against whole content",
		.before = PLAIN_F_AND_G,
		.ops = {
			{ .by = SIM_A, .verb = SIM_EXCHANGE, .path = "f", .to = "g" },
			{ .by = SIM_B, .verb = SIM_WRITE, .path = "f", .text = "b" },
		},
		.present = { "f" },
	},
	{
		.name = "two files exchanged by one that dies",
		.before = { { .by = SIM_A, .verb = SIM_WRITE, .path = "f", .fill = 'o', .count = 1000 },
			    { .by = SIM_A, .verb = SIM_WRITE, .path = "g", .text = "1" } },
		.ops = {
			{ .by = SIM_A, .verb = SIM_EXCHANGE, .path = "f", .to = "g" },
		},
		.present = { "f" },
		.crash = true,
	},
};

int main(void)
{
	return sim_cases_run("rename", cases, sizeof(cases) / sizeof(*cases));
}
