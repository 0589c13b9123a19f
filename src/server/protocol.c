#include "server/protocol.h"

#include <errno.h>
#include <inttypes.h>

#include "base/utf8.h"

#define REQUEST_MAX_DEPTH 32
#define MESSAGE_ID_MAX_BYTES 32

static void cleanup_json(json_t **tree)
{
	json_decref(*tree);
}

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

static int read_key(const json_t *node, size_t max_key, struct buf *out, const char **error)
{
	struct str key;
	int code;

	if (!json_exact_string(node, &key))
		return refuse(400, "Key must be a string", error);
	code = protocol_check_key(key, max_key, error);
	if (code == 200 && buf_set(out, key))
		return out_of_memory(error);
	return code;
}

/* SET and PATCH: text, or a number, which keeps its own text. */
static int read_value(const json_t *node, size_t max_value, struct engine_request *request, const char **error)
{
	struct str value;

	if (json_exact_number(node, &value))
		request->number = true;
	else if (!json_exact_string(node, &value))
		return refuse(400, "Value must be a string or a number", error);
	if (!value.len)
		return refuse(400, "Value must not be empty", error);
	if (value.len > max_value)
		return refuse(413, "Value is too large", error);
	return buf_set(&request->value, value) ? out_of_memory(error) : 200;
}

static int read_increment(const json_t *node, struct engine_request *request, const char **error)
{
	struct str value;

	if (!json_exact_number(node, &value))
		return refuse(400, "Increment must be a number", error);
	return buf_set(&request->value, value) ? out_of_memory(error) : 200;
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

static int read_range(const json_t *object, size_t max_key, struct engine_request *request, const char **error)
{
	const json_t *limit = json_object_get(object, JSON_EXACT_NAME("limit"));
	struct str text = STR("");
	int code = read_key(json_object_get(object, JSON_EXACT_NAME("endKey")), max_key, &request->end_key, error);

	if (code != 200)
		return code;
	if (limit && !json_is_null(limit) && !json_exact_number(limit, &text))
		return refuse(400, "Limit must be a whole number from 1", error);
	return protocol_check_limit(text, &request->limit, error);
}

static int parse(struct str text, json_t **out, const char **error)
{
	switch (json_exact_parse(text, REQUEST_MAX_DEPTH, out)) {
	case 0:
		break;
	case -ENOMEM:
		return out_of_memory(error);
	case -E2BIG:
		return refuse(400, "JSON is nested too deeply", error);
	default:
		return refuse(400, "Request is not valid JSON", error);
	}
	return json_is_object(*out) ? 200 : refuse(400, "Request must be a JSON object", error);
}

static int read_message_id(const json_t *node, struct buf *out, const char **error)
{
	struct str text;

	if (!node || json_is_null(node))
		return 200;
	if (!json_exact_number(node, &text) || text.len > MESSAGE_ID_MAX_BYTES)
		return refuse(400, "messageId must be a number", error);
	return buf_set(out, text) ? out_of_memory(error) : 200;
}

/* The operation's number, or 0. */
static unsigned read_operation(const json_t *node)
{
	struct str text;

	if (!json_exact_number(node, &text) || text.len != 1 || text.p[0] < '1' || text.p[0] > '6')
		return 0;
	return (unsigned)(text.p[0] - '0');
}

int protocol_decode(struct str text, const struct protocol_limits *limits, struct engine_request *request,
		    struct buf *message_id, unsigned *operation, const char **error)
{
	CLEANUP(cleanup_json) json_t *object = NULL;
	const json_t *value;
	size_t max_key = limits->max_key;
	int code = parse(text, &object, error);

	if (code == 200)
		code = read_message_id(json_object_get(object, JSON_EXACT_NAME("messageId")), message_id, error);
	if (code != 200)
		return code;
	*operation = read_operation(json_object_get(object, JSON_EXACT_NAME("op")));
	if (!*operation)
		return refuse(400, "Invalid operation", error);
	request->op = (enum engine_op) * operation;
	if (request->op == ENGINE_RANGE)
		max_key += PROTOCOL_RANGE_KEY_EXTRA;
	code = read_key(json_object_get(object, JSON_EXACT_NAME("key")), max_key, &request->key, error);
	if (code != 200)
		return code;
	value = json_object_get(object, JSON_EXACT_NAME("value"));
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

int protocol_decode_record(struct str body, const struct protocol_limits *limits, struct engine_request *request,
			   const char **error)
{
	CLEANUP(cleanup_json) json_t *object = NULL;
	const json_t *partial;
	int code = parse(body, &object, error);

	request->op = ENGINE_SET;
	if (code != 200)
		return code;
	partial = json_object_get(object, JSON_EXACT_NAME("partialUpdate"));
	if (partial && !json_is_null(partial) && !json_is_boolean(partial))
		return refuse(400, "partialUpdate must be true or false", error);
	if (json_is_true(partial))
		request->op = ENGINE_PATCH;
	code = read_key(json_object_get(object, JSON_EXACT_NAME("key")), limits->max_key, &request->key, error);
	if (code != 200)
		return code;
	return read_value(json_object_get(object, JSON_EXACT_NAME("value")), limits->max_value, request, error);
}

int protocol_decode_atomic(struct str body, const struct protocol_limits *limits, struct engine_request *request,
			   const char **error)
{
	CLEANUP(cleanup_json) json_t *object = NULL;
	int code = parse(body, &object, error);

	request->op = ENGINE_ATOMIC;
	if (code != 200)
		return code;
	code = read_key(json_object_get(object, JSON_EXACT_NAME("key")), limits->max_key, &request->key, error);
	if (code != 200)
		return code;
	return read_increment(json_object_get(object, JSON_EXACT_NAME("increment")), request, error);
}

/* --- replies --- */

static int add_text(struct buf *out, const char *text)
{
	return buf_add_str(out, str_c(text));
}

/* `"name":` and the value. */
static int add_value(struct buf *out, const char *name, struct str value, bool number)
{
	int r = buf_printf(out, "\"%s\":", name);

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
	return r ? r : buf_printf(out, "\"code\":%d,", code);
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
