/* hpkv: the store on the command line. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "client/credentials.h"
#include "client/scan.h"
#include "client/url.h"

#define INPUT_MAX ((size_t)64 * 1024 * 1024)

static int complain(const char *text)
{
	fprintf(stderr, "hpkv: %s\n", text);
	return -1;
}

/* --- before anything is sent --- */

static int read_input(struct buf *out)
{
	char part[65536];
	size_t n;

	while ((n = fread(part, 1, sizeof(part), stdin)) > 0) {
		if (out->len + n > INPUT_MAX)
			return complain("the value on standard input is larger than 64 MiB");
		if (buf_add(out, part, n) < 0)
			return complain("out of memory");
	}
	return ferror(stdin) ? complain("standard input cannot be read") : 0;
}

static int take_value(struct cli *cli)
{
	const char *argument = cli->options.count > 1 ? cli->options.arguments[1] : "-";

	if (strcmp(argument, "-") == 0) {
		if (read_input(&cli->value) < 0)
			return -1;
	} else if (buf_set(&cli->value, str_c(argument)) < 0) {
		return complain("out of memory");
	}
	if (cli->value.len == 0)
		return complain("the value is empty; HPKV stores no empty values (del removes a key)");
	if (!utf8_valid(buf_str(&cli->value)))
		return complain("the value is not UTF-8; HPKV stores text only (encode it, for instance with base64)");
	return 0;
}

static int check_patterns(const struct options *options)
{
	for (int i = 0; i < options->count; i++) {
		if (!utf8_valid(str_c(options->arguments[i])))
			return complain("a pattern is not UTF-8");
		if (options->command == COMMAND_WATCH && !*options->arguments[i])
			return complain("a pattern is empty, and no key is");
	}
	return 0;
}

static int check_arguments(struct cli *cli)
{
	const struct options *options = &cli->options;

	if (options->command == COMMAND_TOKEN || options->command == COMMAND_WATCH)
		return check_patterns(options);
	for (int i = 0; i < options->count; i++)
		if (!utf8_valid(str_c(options->arguments[i])) && !(i == 1 && options->command == COMMAND_SET) &&
		    !(i == 1 && options->command == COMMAND_PATCH))
			return complain("the key is not UTF-8");
	if (options->command != COMMAND_RANGE && options->count && !*options->arguments[0])
		return complain("the key is empty");
	if (options->command == COMMAND_RANGE && options->count > 1 && !*options->arguments[1])
		return complain("the END of the range is empty");
	if (options->command == COMMAND_INCR && options->count > 1 && !scan_number_valid(str_c(options->arguments[1])))
		return complain("incr takes a number");
	if (options->command == COMMAND_SET || options->command == COMMAND_PATCH)
		return take_value(cli);
	return 0;
}

/* local:DIR has its own key; HPKV_API_KEY is another server's, unless a file was named on purpose. */
static int take_credentials(struct cli *cli)
{
	struct hpkv_error error;
	struct url url;
	bool own_key;

	if (!cli->options.url)
		cli->options.url = getenv("HPKV_URL");
	if (!cli->options.url || !*cli->options.url)
		return complain("no server is named: use --url, or set HPKV_URL");
	if (url_parse(cli->options.url, cli->options.insecure, &url, &error) < 0)
		return complain(error.text);
	own_key = url.kind == URL_LOCAL && !cli->options.credentials;
	url_free(&url);
	if (own_key)
		return 0;
	if (credentials_read(cli->options.credentials, &cli->api_key, &error) < 0)
		return complain(error.text);
	return 0;
}

/* --- on the loop --- */

static void connected(void *arg, const struct hpkv_error *error)
{
	struct cli *cli = arg;

	if (cli->over) /* its output has failed meanwhile */
		return;
	if (error)
		cli_fail(cli, error);
	else
		command_start(cli);
}

static void token_arrived(void *arg, const char *token, const struct hpkv_error *error)
{
	struct cli *cli = arg;

	if (error)
		cli_fail(cli, error);
	else
		cli_finish(cli, output_token(cli, token) == 0 ? EXIT_OK : EXIT_USAGE);
}

static int start_token(struct cli *cli, struct hpkv_error *error)
{
	const struct hpkv_token_config config = {
		.url = cli->options.url,
		.api_key = cli->api_key,
		.ca_file = cli->options.ca,
		.insecure = cli->options.insecure,
		.subscribe_patterns = cli->options.count ? (const char *const *)cli->options.arguments : NULL,
		.access_pattern = cli->options.access,
		.timeout_ms = cli->options.timeout_ms,
	};

	return hpkv_token_generate(cli->loop, &config, token_arrived, cli, error);
}

static int start_client(struct cli *cli, struct hpkv_error *error)
{
	struct hpkv_token_config tokens;
	struct hpkv_config config;
	int r;

	hpkv_config_init(&config);
	config.url = cli->options.url;
	config.api_key = cli->api_key;
	config.ca_file = cli->options.ca;
	config.insecure = cli->options.insecure;
	if (cli->options.timeout_ms) {
		config.connect_timeout_ms = cli->options.timeout_ms;
		config.operation_timeout_ms = cli->options.timeout_ms;
	}
	if (cli->options.command == COMMAND_WATCH)
		watch_configure(cli, &config, &tokens);
	r = hpkv_client_new(cli->loop, &config, &cli->client, error);
	if (r == 0 && cli->options.command == COMMAND_WATCH)
		r = watch_start(cli);
	if (r)
		return r;
	cli->began_us = clock_now_us();
	return hpkv_client_connect(cli->client, connected, cli);
}

static enum exit_code serve(struct cli *cli)
{
	struct hpkv_error error = { .text = "out of memory" };
	int r = hpkv_loop_new(&cli->loop);

	if (r == 0)
		r = cli->options.command == COMMAND_TOKEN ? start_token(cli, &error) : start_client(cli, &error);
	if (r == 0) {
		hpkv_loop_run(cli->loop);
	} else {
		complain(error.text);
		cli->exit_code = EXIT_USAGE;
	}
	hpkv_iterator_free(cli->iterator);
	hpkv_client_free(cli->client);
	watch_stop(cli);
	hpkv_loop_free(cli->loop);
	/* a slow reader takes its time, and the server is not kept waiting for it */
	r = watch_end(cli);
	if (fflush(stdout) != 0)
		r = -errno;
	if (r && cli->exit_code == EXIT_OK) {
		if (r != -EPIPE)
			complain("standard output cannot be written");
		cli->exit_code = EXIT_USAGE;
	}
	return cli->exit_code;
}

int main(int argc, char **argv)
{
	struct cli cli = { .exit_code = EXIT_USAGE };
	int r = options_parse(&cli.options, argc, argv);

	if (r)
		return r > 0 ? EXIT_OK : EXIT_USAGE;
	signal(SIGPIPE, SIG_IGN);   /* a reader of standard output that goes is told by its write */
	lws_set_log_level(0, NULL); /* every failure is told in a line of our own */
	if (check_arguments(&cli) == 0 && take_credentials(&cli) == 0)
		serve(&cli);
	credentials_free(cli.api_key);
	buf_free(&cli.value);
	return (int)cli.exit_code;
}
