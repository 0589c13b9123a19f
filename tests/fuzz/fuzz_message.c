/* Whatever a server sends is decoded, as a reply to each kind of request, without harm. */
#include "fuzz.h"

#include "client/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct message message;
	struct str raw = str_of((const char *)data, size);

	if (message_decode(&message, raw) < 0)
		return 0;
	for (enum op op = OP_GET; op <= OP_ATOMIC && message.kind == MESSAGE_REPLY; op++) {
		struct hpkv_reply reply = { 0 };
		struct hpkv_error error;

		message_reply(&message, op, &reply, &error);
		must(reply.error || op != OP_RANGE || reply.count == 0 || reply.records);
		for (size_t i = 0; !reply.error && i < reply.count; i++)
			must(reply.records[i].key.data && reply.records[i].value.data);
	}
	return 0;
}
