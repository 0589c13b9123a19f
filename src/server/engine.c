#include "server/engine.h"

void engine_request_deinit(struct engine_request *request)
{
	buf_free(&request->key);
	buf_free(&request->end_key);
	buf_free(&request->value);
	buf_free(&request->result);
	buf_free(&request->records_data);
	free(request->records);
}
