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
	json_t *string;
	int r = -ENOMEM;

	if (flat_plain(s)) {
		r = buf_add_char(out, '"');
		if (r == 0)
			r = buf_add_str(out, s);
		return r ? r : buf_add_char(out, '"');
	}
	string = json_stringn_nocheck(s.p, s.len);
	if (string && json_dump_callback(string, dump_part, out, JSON_ENCODE_ANY) == 0)
		r = 0;
	json_decref(string);
	return r;
}

static int add_name(struct buf *out, struct str name)
{
	int r = buf_add(out, ",\"", 2);

	if (r == 0)
		r = buf_add_str(out, name);
	return r ? r : buf_add(out, "\":", 2);
}

static int add_member(struct buf *out, struct str name, struct str s)
{
	int r = add_name(out, name);

	return r ? r : codec_add_string(out, s);
}

static int add_number_member(struct buf *out, struct str name, uint32_t number)
{
	int r = add_name(out, name);

	return r ? r : buf_add_unsigned(out, number);
}

/* The members are written here and only strings that need it by jansson, because it cannot write a number from its text. */
int codec_encode(struct buf *out, uint32_t id, const struct call *call)
{
	int r = buf_add_str(out, STR("{\"op\":"));

	if (r == 0)
		r = buf_add_unsigned(out, call->op);
	if (r == 0)
		r = add_number_member(out, STR("messageId"), id);
	if (r == 0)
		r = add_member(out, STR("key"), call->key);
	if (r == 0 && (call->op == OP_SET || call->op == OP_PATCH))
		r = add_member(out, STR("value"), call->value);
	if (r == 0 && call->op == OP_ATOMIC)
		r = add_name(out, STR("value"));
	if (r == 0 && call->op == OP_ATOMIC)
		r = buf_add_str(out, call->value);
	if (r == 0 && call->op == OP_RANGE)
		r = add_member(out, STR("endKey"), call->end_key);
	if (r == 0 && call->op == OP_RANGE && call->limit)
		r = add_number_member(out, STR("limit"), call->limit);
	return r ? r : buf_add_char(out, '}');
}

/* --- messages --- */

/* Of jansson's tree; the scan made every number an index. */
static struct flat_value tree_value(const struct message *message, const json_t *value)
{
	if (!value)
		return (struct flat_value){ .kind = FLAT_MISSING };
	switch (json_typeof(value)) {
	case JSON_STRING:
		return (struct flat_value){ .kind = FLAT_STRING,
					    .text = str_of(json_string_value(value), json_string_length(value)) };
	case JSON_INTEGER:
		return (struct flat_value){ .kind = FLAT_NUMBER,
					    .text = message->scan.numbers[json_integer_value(value)] };
	case JSON_TRUE:
		return (struct flat_value){ .kind = FLAT_TRUE };
	case JSON_FALSE:
		return (struct flat_value){ .kind = FLAT_FALSE };
	case JSON_NULL:
		return (struct flat_value){ .kind = FLAT_NULL };
	default:
		return (struct flat_value){ .kind = FLAT_OTHER };
	}
}

/* A member of the message, however it was read. */
static struct flat_value member(const struct message *message, const char *name)
{
	if (message->root)
		return tree_value(message, json_object_get(message->root, name));
	return flat_get(&message->flat, str_c(name));
}

static struct hpkv_slice slice_of(struct str s)
{
	return (struct hpkv_slice){ s.p, s.len };
}

/* A value is a string or a number. False for anything else. */
static bool get_value(struct flat_value value, struct hpkv_slice *out, bool *number)
{
	if (value.kind != FLAT_STRING && value.kind != FLAT_NUMBER)
		return false;
	*out = slice_of(value.text);
	*number = value.kind == FLAT_NUMBER;
	return true;
}

/* 0 for anything but a whole number from 1 to 2^31-1. */
static uint32_t get_whole(const struct message *message, const char *name)
{
	struct flat_value value = member(message, name);

	return value.kind == FLAT_NUMBER ? scan_number_id(value.text) : 0;
}

static int64_t get_timestamp(const struct message *message)
{
	struct flat_value timestamp = member(message, "timestamp");
	int64_t value = 0;

	if (timestamp.kind != FLAT_NUMBER)
		return 0;
	/* whole milliseconds; a fraction is cut off */
	for (size_t i = 0; i < timestamp.text.len && i < 18; i++) {
		char digit = timestamp.text.p[i];

		if (digit < '0' || digit > '9')
			break;
		value = value * 10 + (digit - '0');
	}
	return value;
}

static int decode_notification(struct message *message)
{
	struct flat_value key = member(message, "key"), value = member(message, "value");
	struct hpkv_notification *notification = &message->notification;

	*notification = (struct hpkv_notification){ .timestamp_ms = get_timestamp(message) };
	if (key.kind != FLAT_STRING)
		return -EPROTO;
	notification->key = slice_of(key.text);
	if (value.kind == FLAT_NULL)
		return 0;
	return get_value(value, &notification->value, &notification->number) ? 0 : -EPROTO;
}

/* Lack of memory has a code of its own, or none where it hit jansson's parser; where it hit the scanner, it
 * cannot be told from a fault of the text. */
static int decode_errno(const json_error_t *failure)
{
	enum json_error_code code = json_error_code(failure);

	return code == json_error_out_of_memory || code == json_error_unknown ? -ENOMEM : -EPROTO;
}

static int read_tree(struct message *message, struct str raw)
{
	json_error_t failure;
	int r = scan_json(&message->scan, raw);

	message->id = message->scan.id;
	if (r)
		return r;
	message->root = json_loadb(message->scan.text.p, message->scan.text.len, JSON_ALLOW_NUL, &failure);
	if (!message->root)
		return decode_errno(&failure);
	return json_is_object(message->root) ? 0 : -EPROTO;
}

int message_decode(struct message *message, struct str raw)
{
	struct flat_value type;
	int r = 0;

	json_decref(message->root);
	message->root = NULL;
	if (!flat_read(&message->flat, raw))
		r = read_tree(message, raw);
	if (r)
		return r;
	message->id = get_whole(message, "messageId");
	message->code = (int)get_whole(message, "code");
	type = member(message, "type");
	if (type.kind == FLAT_STRING && str_equal(type.text, STR("notification"))) {
		message->kind = MESSAGE_NOTIFICATION;
		return decode_notification(message);
	}
	message->kind = message->id ? MESSAGE_REPLY : MESSAGE_OTHER;
	return 0;
}

/* --- replies --- */

static struct str refusal_text(const struct message *message)
{
	static const char *const members[] = { "error", "message" };

	for (size_t i = 0; i < 2; i++) {
		struct flat_value text = member(message, members[i]);

		if (text.kind == FLAT_STRING && text.text.len > 0)
			return text.text;
	}
	return STR("");
}

static int refused(const struct message *message, struct hpkv_error *error)
{
	struct str text = refusal_text(message);

	if (text.len)
		return error_set(error, hpkv_code_errno(message->code), message->code, "%.*s",
				 (int)(text.len < INT_MAX ? text.len : INT_MAX), text.p);
	if (message->code)
		return error_set(error, hpkv_code_errno(message->code), message->code, "the server answered code %d",
				 message->code);
	return error_set(error, -EPROTO, 0, "the server's reply has no code");
}

static int read_record(const struct message *message, const json_t *from, struct hpkv_record *record)
{
	struct flat_value key = tree_value(message, json_object_get(from, "key"));
	struct flat_value value = tree_value(message, json_object_get(from, "value"));

	if (key.kind != FLAT_STRING)
		return -EPROTO;
	record->key = slice_of(key.text);
	return get_value(value, &record->value, &record->number) ? 0 : -EPROTO;
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
	if (member(message, "success").kind == FLAT_FALSE)
		return -EPROTO;
	switch (op) {
	case OP_GET:
		return get_value(member(message, "value"), &reply->value, &reply->number) ? 0 : -EPROTO;
	case OP_ATOMIC:
		return get_value(member(message, "newValue"), &reply->value, &reply->number) && reply->number ? 0
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
