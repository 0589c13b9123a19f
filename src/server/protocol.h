/* The JSON of requests and replies, over WebSocket and REST. */
#ifndef HPKVFS_SERVER_PROTOCOL_H
#define HPKVFS_SERVER_PROTOCOL_H

#include "server/engine.h"
#include "server/json_exact.h"

struct protocol_limits {
	size_t max_key, max_value; /* bytes */
};

#define PROTOCOL_RANGE_LIMIT 100
#define PROTOCOL_RANGE_LIMIT_MAX 1000
/* A range may begin or end just behind a key of the greatest length: that key and one more character. */
#define PROTOCOL_RANGE_KEY_EXTRA 8

/* Reads a WebSocket request into `request` (zeroed before; its strings are to be freed in any case). `message_id` gets
 * the id's JSON text, and `operation` the number, as far as they could be read. 200, 400, 413, or 500; else than
 * with 200 static text in `error`. */
CHECKED int protocol_decode(struct str text, const struct protocol_limits *limits, struct engine_request *request,
			    struct buf *message_id, unsigned *operation, const char **error);

/* The same for REST's POST /record (set and patch) and POST /record/atomic. */
CHECKED int protocol_decode_record(struct str body, const struct protocol_limits *limits,
				   struct engine_request *request, const char **error);
CHECKED int protocol_decode_atomic(struct str body, const struct protocol_limits *limits,
				   struct engine_request *request, const char **error);

/* A key that came in another way, to be checked: 200 or 400. */
CHECKED int protocol_check_key(struct str key, size_t max_key, const char **error);

/* A range's limit from its text: absent (empty) is the default, too many is the most. 200 or 400. */
CHECKED int protocol_check_limit(struct str text, unsigned *out, const char **error);

/* Appends replies. 0; -ENOMEM; -EINVAL: what the store holds is not UTF-8. */
CHECKED int protocol_add_reply(struct buf *out, const struct engine_request *request, struct str message_id);
CHECKED int protocol_add_error(struct buf *out, int code, const char *error, struct str message_id);
CHECKED int protocol_add_rest_reply(struct buf *out, const struct engine_request *request);
CHECKED int protocol_add_rest_error(struct buf *out, const char *error);

/* `value` NULL: deleted. */
CHECKED int protocol_add_notification(struct buf *out, struct str key, const struct str *value, bool number,
				      int64_t timestamp_ms);

#endif
