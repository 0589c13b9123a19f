/* One run of hpkv. */
#ifndef HPKVFS_CLI_CLI_H
#define HPKVFS_CLI_CLI_H

#include "base/buf.h"
#include "cli/options.h"
#include "client/hpkv.h"

struct cli {
	struct options options;
	struct hpkv_loop *loop;
	struct hpkv_client *client;
	char *api_key;                  /* NULL for local:DIR */
	struct buf value;               /* set, patch */
	struct hpkv_iterator *iterator; /* range */
	unsigned long written;          /* range: records */
	uint64_t began_us;              /* ping */
	uint64_t connected_us;
	enum exit_code exit_code;
};

/* commands.c: starts the command on a connected client; its end stops the loop. */
void command_start(struct cli *cli);

/* The command is over. */
void cli_finish(struct cli *cli, enum exit_code code);
/* The same with the error's line on standard error. */
void cli_fail(struct cli *cli, const struct hpkv_error *error);

/* output.c: all answer 0 or -errno of writing. */
CHECKED int output_value(const struct cli *cli, struct hpkv_slice key, struct hpkv_slice value, bool number);
CHECKED int output_record(const struct cli *cli, const struct hpkv_record *record);
CHECKED int output_number(const struct cli *cli, struct hpkv_slice key, struct hpkv_slice number);
CHECKED int output_done(const struct cli *cli, struct hpkv_slice key);
CHECKED int output_token(const struct cli *cli, const char *token);
CHECKED int output_ping(const struct cli *cli, uint64_t connect_us, uint64_t answer_us);

#endif
