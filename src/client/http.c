#include "client/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "client/internal.h"

#define BODY_MAX (64 * 1024)

struct transfer {
	CURL *curl;
	struct curl_slist *headers;
	char text[CURL_ERROR_SIZE];
	struct buf body;
	struct job *job;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void transfer_free(struct transfer *transfer)
{
	curl_slist_free_all(transfer->headers);
	curl_easy_cleanup(transfer->curl);
	buf_free(&transfer->body);
}

static size_t take_body(char *data, size_t size, size_t count, void *arg)
{
	struct transfer *transfer = arg;

	(void)size; /* always 1 */
	if (count > BODY_MAX - transfer->body.len || buf_add(&transfer->body, data, count) < 0)
		return 0;
	return count;
}

static int look_at_job(void *arg, curl_off_t total, curl_off_t now, curl_off_t upload_total, curl_off_t upload_now)
{
	const struct transfer *transfer = arg;

	(void)total;
	(void)now;
	(void)upload_total;
	(void)upload_now;
	return transfer->job && job_cancelled(transfer->job);
}

static int add_header(struct transfer *transfer, const char *name, const char *value)
{
	CLEANUP(buf_free) struct buf line = BUF_INIT;
	struct curl_slist *grown;

	if (buf_printf(&line, "%s: %s", name, value) < 0)
		return -ENOMEM;
	grown = curl_slist_append(transfer->headers, line.p);
	if (!grown)
		return -ENOMEM;
	transfer->headers = grown;
	return 0;
}

static int set_up(struct transfer *transfer, const struct http_request *request)
{
	CURL *curl = transfer->curl;
	uint64_t now = clock_now_us();
	long left_ms = now < request->deadline_us ? (long)((request->deadline_us - now) / CLOCK_US_PER_MS) : 0;
	int r = 0;

	curl_easy_setopt(curl, CURLOPT_URL, request->url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, left_ms > 0 ? left_ms : 1L);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, transfer->text);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, look_at_job);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, transfer);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	if (request->unix_socket)
		curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, request->unix_socket);
	if (request->ca_file) {
		curl_easy_setopt(curl, CURLOPT_CAINFO, request->ca_file);
		curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
	}
	if (request->api_key)
		r = add_header(transfer, "x-api-key", request->api_key);
	if (r == 0 && request->body) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
		r = add_header(transfer, "Content-Type", "application/json");
	}
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, transfer->headers);
	return r;
}

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
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
		return -ECONNRESET;
	default: /* TLS, nonsense, a body that is too long */
		return -EPROTO;
	}
}

int http_do(const struct http_request *request, struct http_response *response, struct hpkv_error *error)
{
	CLEANUP(transfer_free) struct transfer transfer = { .job = request->job };
	long status = 0;
	CURLcode code;

	pthread_once(&once, init_curl);
	transfer.curl = curl_easy_init();
	if (!transfer.curl || set_up(&transfer, request) < 0)
		return error_set(error, -ENOMEM, 0, "out of memory");
	code = curl_easy_perform(transfer.curl);
	if (code != CURLE_OK)
		return error_set(error, transfer_errno(transfer.curl, code), 0, "%s",
				 transfer.text[0] ? transfer.text : curl_easy_strerror(code));
	curl_easy_getinfo(transfer.curl, CURLINFO_RESPONSE_CODE, &status);
	response->status = (int)status;
	response->body = buf_take(&transfer.body);
	return 0;
}
