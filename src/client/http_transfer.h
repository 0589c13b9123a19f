/* One request as libcurl sees it: what http.c, which waits, and http_loop.c have in common. */
#ifndef HPKVFS_CLIENT_HTTP_TRANSFER_H
#define HPKVFS_CLIENT_HTTP_TRANSFER_H

#include "client/curl_library.h"
#include "client/http.h"

struct transfer {
	CURL *curl;
	struct curl_slist *headers, *address;
	char text[CURL_ERROR_SIZE];
	struct buf body;
	bool too_long; /* the body */
};

/* {0} before. Afterwards transfer_free is due in any case, and the transfer must not move. 0 or -ENOMEM. */
CHECKED int transfer_init(struct transfer *transfer, const struct http_request *request);

/* What libcurl's end of it means. `response` is written only where 0 is answered. */
CHECKED int transfer_result(struct transfer *transfer, CURLcode code, struct http_response *response,
			    struct hpkv_error *error);

void transfer_free(struct transfer *transfer);

#endif
