/* What is taken for a record is written again as the same. */
#include "fuzz.h"

#include "fs/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct record record, again;
	struct buf value = BUF_INIT;

	record_init(&record);
	record_init(&again);
	if (record_decode(str_of((const char *)data, size), &record) == 0) {
		must(record_encode(&record, &value) == 0);
		must(record_decode(buf_str(&value), &again) == 0);
		must(record_diff(&record, &again) == 0);
	}
	record_deinit(&record);
	record_deinit(&again);
	buf_free(&value);
	return 0;
}
