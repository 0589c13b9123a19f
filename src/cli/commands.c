#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#define PAGE 1000 /* the most that a server gives at once */

static struct hpkv_slice slice_c(const char *text)
{
	return (struct hpkv_slice){ text, strlen(text) };
}

static struct hpkv_slice slice_buf(const struct buf *buf)
{
	return (struct hpkv_slice){ buf_str(buf).p, buf->len };
}

static const char *key_of(const struct cli *cli)
{
	return cli->options.arguments[0];
}

/* --- endings --- */

enum exit_code cli_exit_code(const struct hpkv_error *error)
{
	if (error->code == 404 && error->err == -ENOENT)
		return EXIT_NOT_FOUND;
	return error->code >= 400 && error->code < 500 ? EXIT_REFUSED : EXIT_UNREACHABLE;
}

void cli_finish(struct cli *cli, enum exit_code code)
{
	cli->over = true;
	cli->exit_code = code;
	hpkv_loop_stop(cli->loop);
}

void cli_fail(struct cli *cli, const struct hpkv_error *error)
{
	fprintf(stderr, "hpkv: %s\n", error->text);
	cli_finish(cli, cli_exit_code(error));
}

/* A failure on this side: the output, memory, or an argument that the library refused. */
static void fail_here(struct cli *cli, const char *what, int r)
{
	fprintf(stderr, "hpkv: %s: %s\n", what, strerror(-r));
	cli_finish(cli, EXIT_USAGE);
}

void cli_finish_output(struct cli *cli, int r)
{
	if (r == -EPIPE) /* the reader has seen enough (`hpkv range a | head`): nothing to tell */
		cli_finish(cli, EXIT_USAGE);
	else if (r)
		fail_here(cli, "standard output", r);
	else
		cli_finish(cli, EXIT_OK);
}

/* --- callbacks --- */

static void got(void *arg, const struct hpkv_reply *reply)
{
	struct cli *cli = arg;

	if (reply->error)
		cli_fail(cli, reply->error);
	else
		cli_finish_output(cli, output_value(cli, slice_c(key_of(cli)), reply->value, reply->number));
}

static void done(void *arg, const struct hpkv_reply *reply)
{
	struct cli *cli = arg;

	if (reply->error)
		cli_fail(cli, reply->error);
	else
		cli_finish_output(cli, output_done(cli, slice_c(key_of(cli))));
}

static void added(void *arg, const struct hpkv_reply *reply)
{
	struct cli *cli = arg;

	if (reply->error)
		cli_fail(cli, reply->error);
	else
		cli_finish_output(cli, output_number(cli, slice_c(key_of(cli)), reply->value));
}

/* Any answer to the question is one, also that there is no such key. */
static void pinged(void *arg, const struct hpkv_reply *reply)
{
	struct cli *cli = arg;

	if (reply->error && reply->error->err != -ENOENT)
		cli_fail(cli, reply->error);
	else
		cli_finish_output(
			cli, output_ping(cli, cli->connected_us - cli->began_us, clock_now_us() - cli->connected_us));
}

/* --- range --- */

static int next_record(struct cli *cli);

static void listed(void *arg, const struct hpkv_record *record, const struct hpkv_error *error)
{
	struct cli *cli = arg;
	int r;

	if (error) {
		cli_fail(cli, error);
		return;
	}
	r = record ? output_record(cli, record) : 0;
	if (!record || r || ++cli->written == cli->options.limit) {
		cli_finish_output(cli, r);
		return;
	}
	r = next_record(cli);
	if (r)
		fail_here(cli, "range", r);
}

static int next_record(struct cli *cli)
{
	return hpkv_iterator_next(cli->iterator, listed, cli);
}

static int start_range(struct cli *cli)
{
	const char *start = *key_of(cli) ? key_of(cli) : "\x01"; /* the first key that can be named */
	const char *end =
		cli->options.count > 1 ? cli->options.arguments[1] : "\xf4\x8f\xbf\xbf"; /* U+10FFFF, the last */
	unsigned limit = cli->options.limit < PAGE ? (unsigned)cli->options.limit : 0;
	int r = hpkv_iterator_new(cli->client, slice_c(start), slice_c(end), limit, NULL, &cli->iterator);

	return r ? r : next_record(cli);
}

/* --- start --- */

void command_start(struct cli *cli)
{
	const char *key = cli->options.count ? key_of(cli) : "hpkv-ping";
	const char *increment = cli->options.count > 1 ? cli->options.arguments[1] : "1";
	int r = -EINVAL;

	cli->connected_us = clock_now_us();
	switch (cli->options.command) {
	case COMMAND_GET:
		r = hpkv_get(cli->client, slice_c(key), NULL, got, cli, NULL);
		break;
	case COMMAND_SET:
		r = hpkv_set(cli->client, slice_c(key), slice_buf(&cli->value), NULL, done, cli, NULL);
		break;
	case COMMAND_PATCH:
		r = hpkv_patch(cli->client, slice_c(key), slice_buf(&cli->value), NULL, done, cli, NULL);
		break;
	case COMMAND_DEL:
		r = hpkv_delete(cli->client, slice_c(key), NULL, done, cli, NULL);
		break;
	case COMMAND_RANGE:
		r = start_range(cli);
		break;
	case COMMAND_INCR:
		r = hpkv_atomic(cli->client, slice_c(key), slice_c(increment), NULL, added, cli, NULL);
		break;
	case COMMAND_PING:
		r = hpkv_get(cli->client, slice_c(key), NULL, pinged, cli, NULL);
		break;
	case COMMAND_WATCH: /* goes on by itself */
		r = 0;
		break;
	case COMMAND_TOKEN: /* needs no connection */
		break;
	}
	if (r)
		fail_here(cli, key, r);
}
