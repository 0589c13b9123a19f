/* One run of hpkv. */
#ifndef HPKVFS_CLI_CLI_H
#define HPKVFS_CLI_CLI_H

#include "base/buf.h"
#include "cli/options.h"
#include "cli/writer.h"
#include "client/hpkv.h"

struct cli {
	struct options options;
	struct hpkv_loop *loop;
	struct hpkv_client *client;
	char *api_key;                  /* NULL for local:DIR */
	struct buf value;               /* set, patch */
	struct hpkv_iterator *iterator; /* range */
	struct writer *writer;          /* watch */
	bool lost;                      /* watch: the connection, which may come back */
	unsigned long written;          /* range: records; watch: changes */
	uint64_t began_us;              /* ping */
	uint64_t connected_us;
	bool over; /* the command; what comes until the loop has ended concerns nobody */
	enum exit_code exit_code;
};

/* commands.c: starts the command on a connected client; its end stops the loop. */
void command_start(struct cli *cli);

/* The command is over. */
void cli_finish(struct cli *cli, enum exit_code code);
/* The same with the error's line on standard error. */
void cli_fail(struct cli *cli, const struct hpkv_error *error);
/* The same after the last output; `r` is 0 or -errno of writing it. */
void cli_finish_output(struct cli *cli, int r);
enum exit_code cli_exit_code(const struct hpkv_error *error);

/* watch.c. Changes `config`, and borrows `tokens` for it. */
void watch_configure(struct cli *cli, struct hpkv_config *config, struct hpkv_token_config *tokens);
/* On the client that was made with it, before it connects. 0 or -errno. */
CHECKED int watch_start(struct cli *cli);
/* Nothing more is to be written, and the loop may go. */
void watch_stop(struct cli *cli);
/* Waits until all is written. 0 or -errno. */
CHECKED int watch_end(struct cli *cli);

/* output.c: the line of one change, appended. 0 or -ENOMEM. */
CHECKED int output_change(const struct cli *cli, const struct hpkv_notification *change, struct buf *out);

/* output.c: all of these answer 0 or -errno of writing. */
CHECKED int output_value(const struct cli *cli, struct hpkv_slice key, struct hpkv_slice value, bool number);
CHECKED int output_record(const struct cli *cli, const struct hpkv_record *record);
CHECKED int output_number(const struct cli *cli, struct hpkv_slice key, struct hpkv_slice number);
CHECKED int output_done(const struct cli *cli, struct hpkv_slice key);
CHECKED int output_token(const struct cli *cli, const char *token);
CHECKED int output_ping(const struct cli *cli, uint64_t connect_us, uint64_t answer_us);

#endif
