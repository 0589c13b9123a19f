/* Whatever a server sends is decoded, as a reply to each kind of request, without harm; and a message that is simple enough to
 * be read in place means the same as one of the same members that is not. */
#include "fuzz.h"

#include <string.h>

#include "base/flat.h"
#include "client/codec.h"

static void same_bytes(struct hpkv_slice a, struct hpkv_slice b)
{
	must(a.size == b.size && !a.data == !b.data);
	must(a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static void check_reply(struct message *message, enum op op, struct hpkv_reply *reply, struct hpkv_error *error)
{
	message_reply(message, op, reply, error);
	must(reply->error || op != OP_RANGE || reply->count == 0 || reply->records);
	for (size_t i = 0; !reply->error && i < reply->count; i++)
		must(reply->records[i].key.data && reply->records[i].value.data);
}

static void compare_replies(struct message *simple, struct message *other)
{
	for (enum op op = OP_GET; op <= OP_ATOMIC; op++) {
		struct hpkv_reply a, b;
		struct hpkv_error a_error, b_error;

		check_reply(simple, op, &a, &a_error);
		check_reply(other, op, &b, &b_error);
		must(!a.error == !b.error && a.number == b.number && a.count == b.count);
		same_bytes(a.value, b.value);
		if (a.error)
			must(a.error->err == b.error->err && !strcmp(a.error->text, b.error->text));
	}
}

static void compare(struct message *simple, int r, struct message *other, int other_r)
{
	must(r == other_r);
	if (r < 0)
		return;
	must(simple->kind == other->kind && simple->id == other->id && simple->code == other->code);
	if (simple->kind == MESSAGE_REPLY)
		compare_replies(simple, other);
	if (simple->kind != MESSAGE_NOTIFICATION)
		return;
	must(simple->notification.number == other->notification.number);
	must(simple->notification.timestamp_ms == other->notification.timestamp_ms);
	same_bytes(simple->notification.key, other->notification.key);
	same_bytes(simple->notification.value, other->notification.value);
}

/* The object with one more member, which is not simple, as its first. */
static void compare_with_a_tree(struct message *simple, int r, struct str raw, bool empty)
{
	static struct message other;
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	const char *brace = memchr(raw.p, '{', raw.len);

	must(brace);
	must(buf_add_str(&text, empty ? STR("{\"\":[]") : STR("{\"\":[],")) == 0);
	must(buf_add_str(&text, str_skip(raw, (size_t)(brace - raw.p) + 1)) == 0);
	compare(simple, r, &other, message_decode(&other, buf_str(&text)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct message message;
	struct str raw = str_of((const char *)data, size);
	int r = message_decode(&message, raw);
	struct flat flat;

	if (flat_read(&flat, raw))
		compare_with_a_tree(&message, r, raw, flat.count == 0);
	if (r < 0)
		return 0;
	for (enum op op = OP_GET; op <= OP_ATOMIC && message.kind == MESSAGE_REPLY; op++) {
		struct hpkv_reply reply;
		struct hpkv_error error;

		check_reply(&message, op, &reply, &error);
	}
	return 0;
}
