#include "server/protocol.h"

#include <errno.h>
#include <inttypes.h>

#include "base/utf8.h"

#define REQUEST_MAX_DEPTH 32
#define MESSAGE_ID_MAX_BYTES 32

static int refuse(int code, const char *text, const char **error)
{
	*error = text;
	return code;
}

static int out_of_memory(const char **error)
{
	return refuse(500, "Out of memory", error);
}

int protocol_check_key(struct str key, size_t max_key, const char **error)
{
	if (!key.len)
		return refuse(400, "Key must not be empty", error);
	if (key.len > max_key)
		return refuse(400, "Key is too long", error);
	if (!utf8_valid(key))
		return refuse(400, "Key must be UTF-8", error);
	return 200;
}

static int read_key(struct flat_value key, size_t max_key, struct buf *out, const char **error)
{
	int code;

	if (key.kind != FLAT_STRING)
		return refuse(400, "Key must be a string", error);
	code = protocol_check_key(key.text, max_key, error);
	if (code == 200 && buf_set(out, key.text))
		return out_of_memory(error);
	return code;
}

/* SET and PATCH: text, or a number, which keeps its own text. */
static int read_value(struct flat_value value, size_t max_value, struct engine_request *request, const char **error)
{
	if (value.kind != FLAT_STRING && value.kind != FLAT_NUMBER)
		return refuse(400, "Value must be a string or a number", error);
	if (!value.text.len)
		return refuse(400, "Value must not be empty", error);
	if (value.text.len > max_value)
		return refuse(413, "Value is too large", error);
	request->number = value.kind == FLAT_NUMBER;
	return buf_set(&request->value, value.text) ? out_of_memory(error) : 200;
}

static int read_increment(struct flat_value value, struct engine_request *request, const char **error)
{
	if (value.kind != FLAT_NUMBER)
		return refuse(400, "Increment must be a number", error);
	return buf_set(&request->value, value.text) ? out_of_memory(error) : 200;
}

int protocol_check_limit(struct str text, unsigned *out, const char **error)
{
	unsigned limit = 0;

	*out = PROTOCOL_RANGE_LIMIT;
	if (!text.len)
		return 200;
	for (size_t i = 0; i < text.len; i++) {
		if (text.p[i] < '0' || text.p[i] > '9')
			return refuse(400, "Limit must be a whole number from 1", error);
		if (limit <= PROTOCOL_RANGE_LIMIT_MAX)
			limit = limit * 10 + (unsigned)(text.p[i] - '0');
	}
	if (!limit)
		return refuse(400, "Limit must be a whole number from 1", error);
	*out = limit < PROTOCOL_RANGE_LIMIT_MAX ? limit : PROTOCOL_RANGE_LIMIT_MAX;
	return 200;
}

static int read_range(const struct json_exact_object *object, size_t max_key, struct engine_request *request,
		      const char **error)
{
	struct flat_value end_key = json_exact_object_get(object, JSON_EXACT_NAME("endKey"));
	struct flat_value limit = json_exact_object_get(object, JSON_EXACT_NAME("limit"));
	int code = read_key(end_key, max_key, &request->end_key, error);

	if (code != 200)
		return code;
	if (limit.kind == FLAT_MISSING || limit.kind == FLAT_NULL)
		limit.text = STR("");
	else if (limit.kind != FLAT_NUMBER)
		return refuse(400, "Limit must be a whole number from 1", error);
	return protocol_check_limit(limit.text, &request->limit, error);
}

static int parse(struct json_exact_object *object, struct str text, const char **error)
{
	switch (json_exact_object_read(object, text, REQUEST_MAX_DEPTH)) {
	case 0:
		return 200;
	case -ENOTSUP:
		return refuse(400, "Request must be a JSON object", error);
	case -ENOMEM:
		return out_of_memory(error);
	case -E2BIG:
		return refuse(400, "JSON is nested too deeply", error);
	default:
		return refuse(400, "Request is not valid JSON", error);
	}
}

static int read_message_id(struct flat_value id, struct buf *out, const char **error)
{
	if (id.kind == FLAT_MISSING || id.kind == FLAT_NULL)
		return 200;
	if (id.kind != FLAT_NUMBER || id.text.len > MESSAGE_ID_MAX_BYTES)
		return refuse(400, "messageId must be a number", error);
	return buf_set(out, id.text) ? out_of_memory(error) : 200;
}

/* The operation's number, or 0. */
static unsigned read_operation(struct flat_value op)
{
	if (op.kind != FLAT_NUMBER || op.text.len != 1 || op.text.p[0] < '1' || op.text.p[0] > '6')
		return 0;
	return (unsigned)(op.text.p[0] - '0');
}

/* All but the message's id. */
static int read_request(const struct json_exact_object *object, const struct protocol_limits *limits,
			struct engine_request *request, unsigned *operation, const char **error)
{
	struct flat_value value = json_exact_object_get(object, JSON_EXACT_NAME("value"));
	size_t max_key = limits->max_key;
	int code;

	*operation = read_operation(json_exact_object_get(object, JSON_EXACT_NAME("op")));
	if (!*operation)
		return refuse(400, "Invalid operation", error);
	request->op = (enum engine_op) * operation;
	if (request->op == ENGINE_RANGE)
		max_key += PROTOCOL_RANGE_KEY_EXTRA;
	code = read_key(json_exact_object_get(object, JSON_EXACT_NAME("key")), max_key, &request->key, error);
	if (code != 200)
		return code;
	switch (request->op) {
	case ENGINE_SET:
	case ENGINE_PATCH:
		return read_value(value, limits->max_value, request, error);
	case ENGINE_ATOMIC:
		return read_increment(value, request, error);
	case ENGINE_RANGE:
		return read_range(object, max_key, request, error);
	case ENGINE_GET:
	case ENGINE_DELETE:
		break;
	}
	return 200;
}

int protocol_decode(struct str text, const struct protocol_limits *limits, struct engine_request *request,
		    struct buf *message_id, unsigned *operation, const char **error)
{
	CLEANUP(json_exact_object_free) struct json_exact_object object = { 0 };
	int code = parse(&object, text, error);

	if (code == 200)
		code = read_message_id(json_exact_object_get(&object, JSON_EXACT_NAME("messageId")), message_id, error);
	return code == 200 ? read_request(&object, limits, request, operation, error) : code;
}

int protocol_decode_record(struct str body, const struct protocol_limits *limits, struct engine_request *request,
			   const char **error)
{
	CLEANUP(json_exact_object_free) struct json_exact_object object = { 0 };
	struct flat_value partial;
	int code = parse(&object, body, error);

	request->op = ENGINE_SET;
	if (code != 200)
		return code;
	partial = json_exact_object_get(&object, JSON_EXACT_NAME("partialUpdate"));
	if (partial.kind == FLAT_TRUE)
		request->op = ENGINE_PATCH;
	else if (partial.kind != FLAT_MISSING && partial.kind != FLAT_NULL && partial.kind != FLAT_FALSE)
		return refuse(400, "partialUpdate must be true or false", error);
	code = read_key(json_exact_object_get(&object, JSON_EXACT_NAME("key")), limits->max_key, &request->key, error);
	if (code != 200)
		return code;
	return read_value(json_exact_object_get(&object, JSON_EXACT_NAME("value")), limits->max_value, request, error);
}

int protocol_decode_atomic(struct str body, const struct protocol_limits *limits, struct engine_request *request,
			   const char **error)
{
	CLEANUP(json_exact_object_free) struct json_exact_object object = { 0 };
	int code = parse(&object, body, error);

	request->op = ENGINE_ATOMIC;
	if (code != 200)
		return code;
	code = read_key(json_exact_object_get(&object, JSON_EXACT_NAME("key")), limits->max_key, &request->key, error);
	if (code != 200)
		return code;
	return read_increment(json_exact_object_get(&object, JSON_EXACT_NAME("increment")), request, error);
}

/* --- replies --- */

static int add_text(struct buf *out, const char *text)
{
	return buf_add_str(out, str_c(text));
}

/* `"name":` and the value. */
static int add_value(struct buf *out, const char *name, struct str value, bool number)
{
	int r = buf_add_char(out, '"') || add_text(out, name) || buf_add(out, "\":", 2) ? -ENOMEM : 0;

	if (!r)
		r = number ? buf_add_str(out, value) : json_add_string(out, value);
	return r;
}

static int add_records(struct buf *out, const struct engine_request *request)
{
	const char *data = request->records_data.p;
	int r = add_text(out, "\"records\":[");

	for (size_t i = 0; !r && i < request->count; i++) {
		const struct engine_record *record = &request->records[i];

		r = add_text(out, i ? ",{" : "{");
		if (!r)
			r = add_value(out, "key", str_of(data + record->key_offset, record->key_len), false);
		if (!r)
			r = buf_add_char(out, ',');
		if (!r)
			r = add_value(out, "value", str_of(data + record->value_offset, record->value_len),
				      record->number);
		if (!r)
			r = buf_add_char(out, '}');
	}
	if (!r)
		r = buf_printf(out, "],\"count\":%zu,\"truncated\":%s", request->count,
			       request->truncated ? "true" : "false");
	return r;
}

/* The members that belong to the operation. */
static int add_result(struct buf *out, const struct engine_request *request)
{
	int r = 0;

	switch (request->op) {
	case ENGINE_GET:
		r = add_value(out, "key", buf_str(&request->key), false);
		if (!r)
			r = buf_add_char(out, ',');
		return r ? r : add_value(out, "value", buf_str(&request->result), request->result_number);
	case ENGINE_RANGE:
		return add_records(out, request);
	case ENGINE_ATOMIC:
		r = add_text(out, "\"success\":true,");
		if (!r)
			r = add_value(out, "key", buf_str(&request->key), false);
		if (!r)
			r = buf_add_char(out, ',');
		return r ? r : add_value(out, "newValue", buf_str(&request->result), true);
	case ENGINE_SET:
	case ENGINE_PATCH:
		return add_text(out, "\"success\":true,\"message\":\"Record inserted/updated successfully\"");
	case ENGINE_DELETE:
		return add_text(out, "\"success\":true,\"message\":\"Record deleted successfully\"");
	}
	return r;
}

/* `{"messageId":1,"code":200,` */
static int add_head(struct buf *out, int code, struct str message_id)
{
	int r = buf_add_char(out, '{');

	if (!r && message_id.len)
		r = add_value(out, "messageId", message_id, true) || buf_add_char(out, ',') ? -ENOMEM : 0;
	if (!r)
		r = add_text(out, "\"code\":");
	if (!r)
		r = buf_add_unsigned(out, (unsigned)code);
	return r ? r : buf_add_char(out, ',');
}

int protocol_add_reply(struct buf *out, const struct engine_request *request, struct str message_id)
{
	int r = add_head(out, 200, message_id);

	if (!r)
		r = add_result(out, request);
	return r ? r : buf_add_char(out, '}');
}

int protocol_add_error(struct buf *out, int code, const char *error, struct str message_id)
{
	int r = add_head(out, code, message_id);

	if (!r)
		r = add_value(out, "error", str_c(error), false);
	if (!r)
		r = buf_add_char(out, ',');
	if (!r)
		r = add_value(out, "message", str_c(error), false);
	return r ? r : buf_add_char(out, '}');
}

int protocol_add_rest_reply(struct buf *out, const struct engine_request *request)
{
	int r = buf_add_char(out, '{');

	if (!r && request->op == ENGINE_ATOMIC)
		r = add_value(out, "result", buf_str(&request->result), true) || buf_add_char(out, ',') ? -ENOMEM : 0;
	if (!r)
		r = add_result(out, request);
	return r ? r : buf_add_char(out, '}');
}

int protocol_add_rest_error(struct buf *out, const char *error)
{
	int r = buf_add_char(out, '{');

	if (!r)
		r = add_value(out, "error", str_c(error), false);
	return r ? r : buf_add_char(out, '}');
}

int protocol_add_notification(struct buf *out, struct str key, const struct str *value, bool number,
			      int64_t timestamp_ms)
{
	int r = add_text(out, "{\"type\":\"notification\",");

	if (!r)
		r = add_value(out, "key", key, false);
	if (!r)
		r = buf_add_char(out, ',');
	if (!r)
		r = value ? add_value(out, "value", *value, number) : add_text(out, "\"value\":null");
	return r ? r : buf_printf(out, ",\"timestamp\":%" PRId64 "}", timestamp_ms);
}
