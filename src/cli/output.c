#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "client/codec.h"

static int put(const struct buf *text)
{
	errno = 0;
	if (fwrite(text->p, 1, text->len, stdout) != text->len)
		return errno ? -errno : -EIO;
	return 0;
}

static struct str str_slice(struct hpkv_slice slice)
{
	return str_of(slice.size ? slice.data : "", slice.size);
}

/* --- JSON: one object a line --- */

static int add_json_value(struct buf *out, struct hpkv_slice value, bool number)
{
	return number ? buf_add_str(out, str_slice(value)) : codec_add_string(out, str_slice(value));
}

/* {"key":KEY,"NAME":VALUE} */
static int put_json(struct hpkv_slice key, const char *name, struct hpkv_slice value, bool verbatim)
{
	CLEANUP(buf_free) struct buf out = BUF_INIT;
	int r = buf_add_str(&out, STR("{\"key\":"));

	if (r == 0)
		r = codec_add_string(&out, str_slice(key));
	if (r == 0 && name)
		r = buf_printf(&out, ",\"%s\":", name);
	if (r == 0 && name)
		r = add_json_value(&out, value, verbatim);
	if (r == 0)
		r = buf_add_str(&out, STR("}\n"));
	return r ? r : put(&out);
}

/* --- lines --- */

int output_value(const struct cli *cli, struct hpkv_slice key, struct hpkv_slice value, bool number)
{
	CLEANUP(buf_free) struct buf out = BUF_INIT;
	int r;

	if (cli->options.json)
		return put_json(key, "value", value, number);
	r = buf_add_str(&out, str_slice(value));
	/* bytes are kept exactly, except for a person's eyes */
	if (r == 0 && isatty(STDOUT_FILENO) && (out.len == 0 || out.p[out.len - 1] != '\n'))
		r = buf_add_char(&out, '\n');
	return r ? r : put(&out);
}

int output_record(const struct cli *cli, const struct hpkv_record *record)
{
	CLEANUP(buf_free) struct buf out = BUF_INIT;
	int r;

	if (cli->options.json)
		return put_json(record->key, cli->options.keys ? NULL : "value", record->value, record->number);
	/* keys and values may hold tabs and newlines; a listing keeps one record a line */
	r = buf_add_escaped(&out, str_slice(record->key));
	if (r == 0 && !cli->options.keys)
		r = buf_add_char(&out, '\t');
	if (r == 0 && !cli->options.keys)
		r = buf_add_escaped(&out, str_slice(record->value));
	if (r == 0)
		r = buf_add_char(&out, '\n');
	return r ? r : put(&out);
}

/* {"key":KEY,"value":VALUE,"timestamp":MS} */
static int add_json_change(struct buf *out, const struct hpkv_notification *change)
{
	int r = buf_add_str(out, STR("{\"key\":"));

	if (r == 0)
		r = codec_add_string(out, str_slice(change->key));
	if (r == 0)
		r = buf_add_str(out, STR(",\"value\":"));
	if (r == 0)
		r = change->value.data ? add_json_value(out, change->value, change->number)
				       : buf_add_str(out, STR("null"));
	return r ? r : buf_printf(out, ",\"timestamp\":%" PRId64 "}\n", change->timestamp_ms);
}

int output_change(const struct cli *cli, const struct hpkv_notification *change, struct buf *out)
{
	int r;

	if (cli->options.json)
		return add_json_change(out, change);
	r = buf_add_escaped(out, str_slice(change->key));
	if (r == 0)
		r = buf_add_char(out, '\t');
	/* in no value, as its backslashes are doubled; databases write "no value" so, in lines like these */
	if (r == 0)
		r = change->value.data ? buf_add_escaped(out, str_slice(change->value)) : buf_add_str(out, STR("\\N"));
	return r ? r : buf_add_char(out, '\n');
}

int output_number(const struct cli *cli, struct hpkv_slice key, struct hpkv_slice number)
{
	CLEANUP(buf_free) struct buf out = BUF_INIT;
	int r;

	if (cli->options.json)
		return put_json(key, "value", number, true);
	r = buf_add_str(&out, str_slice(number));
	if (r == 0)
		r = buf_add_char(&out, '\n');
	return r ? r : put(&out);
}

int output_done(const struct cli *cli, struct hpkv_slice key)
{
	return cli->options.json ? put_json(key, "success", (struct hpkv_slice){ "true", 4 }, true) : 0;
}

int output_token(const struct cli *cli, const char *token)
{
	CLEANUP(buf_free) struct buf out = BUF_INIT;
	int r = 0;

	if (cli->options.json)
		r = buf_add_str(&out, STR("{\"token\":"));
	if (r == 0)
		r = cli->options.json ? codec_add_string(&out, str_c(token)) : buf_add_str(&out, str_c(token));
	if (r == 0)
		r = buf_add_str(&out, cli->options.json ? STR("}\n") : STR("\n"));
	return r ? r : put(&out);
}

int output_ping(const struct cli *cli, uint64_t connect_us, uint64_t answer_us)
{
	CLEANUP(buf_free) struct buf out = BUF_INIT;
	double connect_ms = (double)connect_us / 1000, answer_ms = (double)answer_us / 1000;
	int r;

	if (cli->options.json)
		r = buf_printf(&out, "{\"connect_ms\":%.3f,\"answer_ms\":%.3f}\n", connect_ms, answer_ms);
	else
		r = buf_printf(&out, "connected in %.3f ms, answered in %.3f ms\n", connect_ms, answer_ms);
	return r ? r : put(&out);
}
