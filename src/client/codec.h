/* Requests as JSON and the server's messages back. No sockets, no state but reused memory. */
#ifndef HPKVFS_CLIENT_CODEC_H
#define HPKVFS_CLIENT_CODEC_H

#include <jansson.h>

#include "base/buf.h"
#include "base/flat.h"
#include "client/hpkv.h"
#include "client/scan.h"

enum op {
	OP_GET = 1,
	OP_SET,
	OP_PATCH,
	OP_DELETE,
	OP_RANGE,
	OP_ATOMIC,
};

struct call {
	enum op op;
	struct str key;     /* all strings are valid UTF-8 */
	struct str value;   /* set, patch; atomic: a JSON number's text */
	struct str end_key; /* range */
	unsigned limit;     /* range; 0: not sent */
};

/* Appends the request's JSON. 0 or -ENOMEM (then `out` may hold a part). */
CHECKED int codec_encode(struct buf *out, uint32_t id, const struct call *call);

/* Appends a JSON string. `s` is valid UTF-8. 0 or -ENOMEM. */
CHECKED int codec_add_string(struct buf *out, struct str s);

enum message_kind {
	MESSAGE_REPLY,
	MESSAGE_NOTIFICATION,
	MESSAGE_OTHER, /* valid JSON without a usable messageId: to be ignored */
};

/* {0} before first use; used again for every message. Free with message_free. */
struct message {
	enum message_kind kind;
	uint32_t id; /* reply; after -EPROTO the id as far as it could be read, or 0 */
	int code;    /* reply; 0 where the server gave none */
	struct hpkv_notification notification;
	/* private */
	struct flat flat; /* the message, where it is as simple as that; else: */
	json_t *root;
	struct scan scan;
	struct hpkv_record *records;
	size_t capacity;
};

/* Decodes one message. Everything in `message` is valid until the next decode and while `raw` is. 0, -EPROTO (not
 * an object of JSON, a notification that makes no sense), -ENOMEM. */
CHECKED int message_decode(struct message *message, struct str raw);

/* Reads a reply to a request of kind `op` into `reply` and `error`, which it points to where the server refused or
 * the reply makes no sense (-EPROTO). */
void message_reply(struct message *message, enum op op, struct hpkv_reply *reply, struct hpkv_error *error);

void message_free(struct message *message);

#endif
