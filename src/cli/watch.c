/* watch: the changes of the store, until something ends it. */
#include <unistd.h>

#include "cli/cli.h"

/* A line on standard error, behind what was written before. Where there is no memory for it, none can be had for the changes. */
static void say(struct cli *cli, const char *text, const char *reason)
{
	CLEANUP(buf_free) struct buf line = BUF_INIT;
	int r = buf_printf(&line, "hpkv: %s%s%s\n", text, reason ? ": " : "", reason ? reason : "");

	if (r == 0)
		r = writer_add(cli->writer, STDERR_FILENO, buf_str(&line));
	if (r)
		cli_finish_output(cli, r);
}

/* --- what happens --- */

static void changed(void *arg, const struct hpkv_notification *change)
{
	CLEANUP(buf_free) struct buf line = BUF_INIT;
	struct cli *cli = arg;
	int r;

	if (cli->over)
		return;
	r = output_change(cli, change, &line);
	if (r == 0)
		r = writer_add(cli->writer, STDOUT_FILENO, buf_str(&line));
	if (r || ++cli->written == cli->options.changes)
		cli_finish_output(cli, r);
}

static void connected(void *arg, const struct hpkv_event *event)
{
	struct cli *cli = arg;

	(void)event;
	if (!cli->over)
		say(cli, cli->lost ? "watching again; what changed meanwhile is not shown" : "watching", NULL);
	cli->lost = false;
}

static void disconnected(void *arg, const struct hpkv_event *event)
{
	struct cli *cli = arg;

	if (!cli->over)
		say(cli, "not watching", event->error->text);
	cli->lost = true;
}

/* The server refused the API key or the token: it will not be otherwise the next time. */
static void refused(void *arg, const struct hpkv_event *event)
{
	struct cli *cli = arg;

	if (cli->over)
		return;
	say(cli, event->error->text, NULL);
	cli_finish(cli, cli_exit_code(event->error));
}

/* A message that cannot be read may have been a change. Attempts that failed are not told one by one, nor is a token that could not be
 * renewed: as long as the connection stands, nothing is missed. */
static void failed(void *arg, const struct hpkv_event *event)
{
	struct cli *cli = arg;
	enum hpkv_error_kind kind = event->error->kind;

	if (!cli->over && !cli->lost && (kind == HPKV_ERROR_PROTOCOL || kind == HPKV_ERROR_LOCAL))
		say(cli, event->error->text, NULL);
}

static void output_failed(void *arg)
{
	struct cli *cli = arg;

	if (!cli->over)
		cli_finish_output(cli, writer_error(cli->writer));
}

/* On the writer's thread. Without memory for the message, the next change finds it out. */
static void writer_failed(void *arg)
{
	struct cli *cli = arg;

	(void)!hpkv_loop_post(cli->loop, output_failed, cli);
}

/* --- begin and end --- */

void watch_configure(struct cli *cli, struct hpkv_config *config, struct hpkv_token_config *tokens)
{
	static const char *const all[] = { "*", NULL };

	*tokens = (struct hpkv_token_config){
		.subscribe_patterns = cli->options.count ? (const char *const *)cli->options.arguments : all,
	};
	config->tokens = tokens;
	config->max_reconnect_attempts = HPKV_FOREVER;
}

int watch_start(struct cli *cli)
{
	static const struct {
		enum hpkv_event_type type;
		hpkv_listener *fn;
	} listeners[] = {
		{ HPKV_EVENT_CONNECTED, connected },
		{ HPKV_EVENT_DISCONNECTED, disconnected },
		{ HPKV_EVENT_RECONNECT_FAILED, refused },
		{ HPKV_EVENT_ERROR, failed },
	};
	uint64_t id;
	int r = writer_new(writer_failed, cli, &cli->writer);

	for (size_t i = 0; r == 0 && i < sizeof(listeners) / sizeof(listeners[0]); i++)
		r = hpkv_client_on(cli->client, listeners[i].type, listeners[i].fn, cli, &id);
	return r ? r : hpkv_subscribe(cli->client, changed, cli, &id);
}

void watch_stop(struct cli *cli)
{
	cli->over = true;
	if (cli->writer)
		writer_stop(cli->writer);
}

int watch_end(struct cli *cli)
{
	return writer_end(cli->writer);
}
