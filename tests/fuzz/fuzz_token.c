/* Whatever a server gives as a token, its end is not known, or some time within ten years. */
#include "fuzz.h"

#include <string.h>

#include "client/token_expiry.h"

#define NOW_MS INT64_C(1700000000000)
#define TEN_YEARS_MS (UINT64_C(10) * 366 * 86400 * 1000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *token = malloc(size + 1);

	must(token);
	if (size)
		memcpy(token, data, size);
	token[size] = '\0';
	must(token_left_ms(token, NOW_MS) <= TEN_YEARS_MS);
	free(token);
	return 0;
}
