#include "client/codec.h"

#include <errno.h>

#include "client/internal.h"

/* --- requests --- */

static int dump_part(const char *part, size_t len, void *arg)
{
	return buf_add(arg, part, len);
}

int codec_add_string(struct buf *out, struct str s)
{
	json_t *string = json_stringn_nocheck(s.len ? s.p : "", s.len);
	int r = -ENOMEM;

	if (string && json_dump_callback(string, dump_part, out, JSON_ENCODE_ANY) == 0)
		r = 0;
	json_decref(string);
	return r;
}

static int add_member(struct buf *out, const char *name, struct str s)
{
	int r = buf_printf(out, ",\"%s\":", name);

	return r ? r : codec_add_string(out, s);
}

/* The members are written here and only the strings by jansson, because it cannot write a number from its text. */
int codec_encode(struct buf *out, uint32_t id, const struct call *call)
{
	int r = buf_printf(out, "{\"op\":%d,\"messageId\":%u", call->op, id);

	if (r == 0)
		r = add_member(out, "key", call->key);
	if (r == 0 && (call->op == OP_SET || call->op == OP_PATCH))
		r = add_member(out, "value", call->value);
	if (r == 0 && call->op == OP_ATOMIC)
		r = buf_printf(out, ",\"value\":%.*s", (int)call->value.len, call->value.p);
	if (r == 0 && call->op == OP_RANGE)
		r = add_member(out, "endKey", call->end_key);
	if (r == 0 && call->op == OP_RANGE && call->limit)
		r = buf_printf(out, ",\"limit\":%u", call->limit);
	return r ? r : buf_add_char(out, '}');
}

/* --- messages --- */

/* The text of a number; the scan made every number an index. */
static struct str number_text(const struct message *message, const json_t *number)
{
	return message->scan.numbers[json_integer_value(number)];
}

/* A value is a string or a number. False for anything else. */
static bool get_value(const struct message *message, const json_t *value, struct hpkv_slice *out, bool *number)
{
	if (json_is_string(value)) {
		*out = (struct hpkv_slice){ json_string_value(value), json_string_length(value) };
		*number = false;
		return true;
	}
	if (json_is_integer(value)) {
		struct str text = number_text(message, value);

		*out = (struct hpkv_slice){ text.p, text.len };
		*number = true;
		return true;
	}
	return false;
}

static int get_code(const struct message *message)
{
	const json_t *code = json_object_get(message->root, "code");

	return json_is_integer(code) ? (int)scan_number_id(number_text(message, code)) : 0;
}

static int64_t get_timestamp(const struct message *message)
{
	const json_t *timestamp = json_object_get(message->root, "timestamp");
	const struct str *text;
	int64_t value = 0;

	if (!json_is_integer(timestamp))
		return 0;
	text = &message->scan.numbers[json_integer_value(timestamp)];
	/* whole milliseconds; a fraction is cut off */
	for (size_t i = 0; i < text->len && i < 18 && text->p[i] >= '0' && text->p[i] <= '9'; i++)
		value = value * 10 + (text->p[i] - '0');
	return value;
}

static int decode_notification(struct message *message)
{
	const json_t *key = json_object_get(message->root, "key");
	const json_t *value = json_object_get(message->root, "value");
	struct hpkv_notification *notification = &message->notification;

	*notification = (struct hpkv_notification){ .timestamp_ms = get_timestamp(message) };
	if (!json_is_string(key))
		return -EPROTO;
	notification->key = (struct hpkv_slice){ json_string_value(key), json_string_length(key) };
	if (json_is_null(value))
		return 0;
	return get_value(message, value, &notification->value, &notification->number) ? 0 : -EPROTO;
}

/* Lack of memory has a code of its own, or none where it hit jansson's parser; where it hit the scanner, it
 * cannot be told from a fault of the text. */
static int decode_errno(const json_error_t *failure)
{
	enum json_error_code code = json_error_code(failure);

	return code == json_error_out_of_memory || code == json_error_unknown ? -ENOMEM : -EPROTO;
}

int message_decode(struct message *message, struct str raw)
{
	const json_t *type, *id;
	json_error_t failure;
	int r;

	json_decref(message->root);
	message->root = NULL;
	r = scan_json(&message->scan, raw);
	message->id = message->scan.id;
	if (r)
		return r;
	message->root = json_loadb(message->scan.text.p, message->scan.text.len, JSON_ALLOW_NUL, &failure);
	if (!message->root)
		return decode_errno(&failure);
	if (!json_is_object(message->root))
		return -EPROTO;
	id = json_object_get(message->root, "messageId");
	message->id = json_is_integer(id) ? scan_number_id(number_text(message, id)) : 0;
	message->code = get_code(message);
	type = json_object_get(message->root, "type");
	if (json_is_string(type) && strcmp(json_string_value(type), "notification") == 0) {
		message->kind = MESSAGE_NOTIFICATION;
		return decode_notification(message);
	}
	message->kind = message->id ? MESSAGE_REPLY : MESSAGE_OTHER;
	return 0;
}

/* --- replies --- */

static const char *refusal_text(const struct message *message)
{
	static const char *const members[] = { "error", "message" };

	for (size_t i = 0; i < 2; i++) {
		const json_t *text = json_object_get(message->root, members[i]);

		if (json_is_string(text) && json_string_length(text) > 0)
			return json_string_value(text);
	}
	return NULL;
}

static int refused(const struct message *message, struct hpkv_error *error)
{
	const char *text = refusal_text(message);

	if (text)
		return error_set(error, hpkv_code_errno(message->code), message->code, "%s", text);
	if (message->code)
		return error_set(error, hpkv_code_errno(message->code), message->code, "the server answered code %d",
				 message->code);
	return error_set(error, -EPROTO, 0, "the server's reply has no code");
}

static int read_record(const struct message *message, const json_t *from, struct hpkv_record *record)
{
	const json_t *key = json_object_get(from, "key");

	if (!json_is_string(key))
		return -EPROTO;
	record->key = (struct hpkv_slice){ json_string_value(key), json_string_length(key) };
	return get_value(message, json_object_get(from, "value"), &record->value, &record->number) ? 0 : -EPROTO;
}

static int read_records(struct message *message, struct hpkv_reply *reply)
{
	const json_t *list = json_object_get(message->root, "records");
	size_t count = json_array_size(list);

	if (!json_is_array(list))
		return -EPROTO;
	if (count > message->capacity) {
		struct hpkv_record *grown = reallocarray(message->records, count, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		message->records = grown;
		message->capacity = count;
	}
	for (size_t i = 0; i < count; i++) {
		int r = read_record(message, json_array_get(list, i), &message->records[i]);

		if (r)
			return r;
	}
	reply->records = message->records;
	reply->count = count;
	reply->truncated = json_is_true(json_object_get(message->root, "truncated"));
	return 0;
}

static int read_success(struct message *message, enum op op, struct hpkv_reply *reply)
{
	if (json_is_false(json_object_get(message->root, "success")))
		return -EPROTO;
	switch (op) {
	case OP_GET:
		return get_value(message, json_object_get(message->root, "value"), &reply->value, &reply->number)
			       ? 0
			       : -EPROTO;
	case OP_ATOMIC:
		return get_value(message, json_object_get(message->root, "newValue"), &reply->value, &reply->number) &&
				       reply->number
			       ? 0
			       : -EPROTO;
	case OP_RANGE:
		return read_records(message, reply);
	case OP_SET:
	case OP_PATCH:
	case OP_DELETE:
		return 0;
	}
	return -EPROTO;
}

void message_reply(struct message *message, enum op op, struct hpkv_reply *reply, struct hpkv_error *error)
{
	int r;

	*reply = (struct hpkv_reply){ 0 };
	if (message->code != 200) {
		refused(message, error);
		reply->error = error;
		return;
	}
	r = read_success(message, op, reply);
	if (r == 0)
		return;
	*reply = (struct hpkv_reply){ .error = error };
	if (r == -ENOMEM)
		error_set(error, r, 0, "out of memory");
	else
		error_set(error, r, message->code, "the server's reply makes no sense");
}

void message_free(struct message *message)
{
	json_decref(message->root);
	scan_free(&message->scan);
	free(message->records);
	*message = (struct message){ 0 };
}
