#include "client/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "client/http_transfer.h"

#define BODY_MAX (64 * 1024)

void transfer_free(struct transfer *transfer)
{
	if (transfer->curl) {
		curl_easy_cleanup(transfer->curl);
		for (struct curl_slist *header = transfer->headers; header; header = header->next)
			explicit_bzero(header->data, strlen(header->data)); /* one is the API key */
		curl_slist_free_all(transfer->headers);
		curl_slist_free_all(transfer->address);
	}
	buf_wipe(&transfer->body); /* a token */
	*transfer = (struct transfer){ 0 };
}

/* --- setting up --- */

static size_t take_body(char *data, size_t size, size_t count, void *arg)
{
	struct transfer *transfer = arg;

	(void)size; /* always 1 */
	transfer->too_long = count > BODY_MAX - transfer->body.len;
	if (transfer->too_long || buf_add(&transfer->body, data, count) < 0)
		return 0;
	return count;
}

static int add_header(struct transfer *transfer, const char *name, const char *value)
{
	CLEANUP(buf_wipe) struct buf line = BUF_INIT;
	struct curl_slist *grown;

	if (buf_printf(&line, "%s: %s", name, value) < 0)
		return -ENOMEM;
	grown = curl_slist_append(transfer->headers, line.p);
	if (!grown)
		return -ENOMEM;
	transfer->headers = grown;
	return 0;
}

static void set_limits(CURL *curl, uint64_t deadline_us)
{
	uint64_t now = clock_now_us();
	uint64_t left_ms = now < deadline_us ? (deadline_us - now) / CLOCK_US_PER_MS : 0;

	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	/* 0 would be no limit */
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, left_ms ? (long)left_ms : 1L);
	/* libcurl would find a kept connection by its socket's path, and one through /proc/self/fd comes to mean another
	 * socket. Besides, a token is asked for too rarely. */
	curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
	curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
}

static void set_authorities(CURL *curl, const char *ca_file)
{
	if (!ca_file)
		return;
	curl_easy_setopt(curl, CURLOPT_CAINFO, ca_file);
	curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* the file may be replaced by another */
	curl_easy_setopt(curl, CURLOPT_CA_CACHE_TIMEOUT, 0L);
#endif
}

/* For every host and port: this address, with the port as it is. Host header and certificate stay the URL's. */
static int set_address(struct transfer *transfer, const char *address)
{
	CLEANUP(buf_free) struct buf line = BUF_INIT;
	struct in6_addr v6;

	if (!address)
		return 0;
	if (buf_printf(&line, inet_pton(AF_INET6, address, &v6) == 1 ? "::[%s]:" : "::%s:", address) < 0)
		return -ENOMEM;
	transfer->address = curl_slist_append(NULL, line.p);
	if (!transfer->address)
		return -ENOMEM;
	curl_easy_setopt(transfer->curl, CURLOPT_CONNECT_TO, transfer->address);
	return 0;
}

int transfer_init(struct transfer *transfer, const struct http_request *request)
{
	CURL *curl;
	int r;

	curl = transfer->curl = curl_easy_init();
	if (!curl || curl_easy_setopt(curl, CURLOPT_URL, request->url) != CURLE_OK)
		return -ENOMEM;
	set_limits(curl, request->deadline_us);
	set_authorities(curl, request->ca_file);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, transfer->text);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
	if (request->unix_socket && curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, request->unix_socket) != CURLE_OK)
		return -ENOMEM;
	r = set_address(transfer, request->address);
	if (r == 0 && request->api_key)
		r = add_header(transfer, "x-api-key", request->api_key);
	if (r == 0 && request->body) {
		r = add_header(transfer, "Content-Type", "application/json");
		if (curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS, request->body) != CURLE_OK)
			r = -ENOMEM;
	}
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, transfer->headers);
	return r;
}

/* --- ending --- */

static int transfer_errno(CURL *curl, CURLcode code)
{
	long os = 0;

	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os);
		return os ? (int)-os : -ECONNREFUSED;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_ABORTED_BY_CALLBACK:
		return -ECANCELED;
	case CURLE_WRITE_ERROR:
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
		return -ECONNRESET;
	default: /* TLS, nonsense */
		return -EPROTO;
	}
}

int transfer_result(struct transfer *transfer, CURLcode code, struct http_response *response, struct hpkv_error *error)
{
	long status = 0;

	if (code == CURLE_WRITE_ERROR && transfer->too_long)
		return error_set(error, -EPROTO, 0, "the server's answer is larger than %d bytes", BODY_MAX);
	if (code != CURLE_OK)
		return error_set(error, transfer_errno(transfer->curl, code), 0, "%s",
				 transfer->text[0] ? transfer->text : curl_easy_strerror(code));
	curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &status);
	response->status = (int)status;
	response->body = buf_take(&transfer->body);
	return 0;
}

/* --- blocking --- */

static int look_at_job(void *arg, curl_off_t total, curl_off_t now, curl_off_t upload_total, curl_off_t upload_now)
{
	(void)total;
	(void)now;
	(void)upload_total;
	(void)upload_now;
	return job_cancelled(arg);
}

int http_do(const struct http_request *request, struct job *job, struct http_response *response,
	    struct hpkv_error *error)
{
	CLEANUP(transfer_free) struct transfer transfer = { 0 };

	if (!curl_library())
		return error_set(error, -ELIBACC, 0, "libcurl is not installed");
	if (transfer_init(&transfer, request) < 0)
		return error_set(error, -ENOMEM, 0, "out of memory");
	if (job) {
		curl_easy_setopt(transfer.curl, CURLOPT_XFERINFOFUNCTION, look_at_job);
		curl_easy_setopt(transfer.curl, CURLOPT_XFERINFODATA, job);
		curl_easy_setopt(transfer.curl, CURLOPT_NOPROGRESS, 0L);
	}
	return transfer_result(&transfer, curl_easy_perform(transfer.curl), response, error);
}
