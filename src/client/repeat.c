#include "client/client.h"

#include <errno.h>

/* What is sent again, and when not: enum hpkv_repeat. */

bool repeat_changes(const struct hpkv_request *request)
{
	return request->call.op != OP_GET && request->call.op != OP_RANGE;
}

bool repeat_doubt_left(const struct hpkv_request *request)
{
	return request->lost && repeat_changes(request) && request->repeat == HPKV_REPEAT_OVERWRITE;
}

bool repeat_after_loss(struct request_table *table, struct hpkv_request *request)
{
	request->lost = true;
	request->refused = false;
	if (request->repeat == HPKV_REPEAT_NEVER)
		return false;
	if (!repeat_changes(request)) {
		request_again(table, request);
		return true;
	}
	if (request->repeat == HPKV_REPEAT_REFUSED || request->call.op == OP_PATCH || request->call.op == OP_ATOMIC)
		return false;
	request_recover(table, request);
	return true;
}

bool repeat_after_refusal(struct calls *calls, struct hpkv_request *request)
{
	request->refused = true;
	if (!request->look)
		request->doubt = repeat_doubt_left(request); /* what was refused did nothing */
	if (request->repeat == HPKV_REPEAT_NEVER || !calls->throttle.config.enabled)
		return false;
	request_again(&calls->table, request);
	return true;
}

enum repeat_verdict repeat_judge(const struct hpkv_request *request, const struct hpkv_reply *found)
{
	bool absent = found->error && found->error->code == 404;
	struct str value = str_of(found->value.data, found->value.size);

	if (found->error && !absent)
		return REPEAT_UNKNOWN;
	if (request->call.op == OP_DELETE ? absent : !absent && str_equal(value, request->call.value))
		return REPEAT_DONE;
	if (!request->before_known || absent != !request->before.p)
		return REPEAT_UNKNOWN;
	return absent || str_equal(value, request->before) ? REPEAT_AGAIN : REPEAT_UNKNOWN;
}
