/* libcurl's multi interface on the loop: its sockets are members of an epoll descriptor, which the loop watches like any
 * other descriptor, and its clock is one of the loop's timers. */
#include "client/http.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "client/http_transfer.h"

#define EVENTS 16

struct http {
	struct hpkv_loop *loop;
	CURLM *multi;
	int epoll_fd;
	struct loop_fd *watch;
	struct loop_timer timer;
};

struct http_call {
	struct http *http;
	struct transfer transfer;
	void (*done)(void *arg, struct http_response *response, const struct hpkv_error *error);
	void *arg;
};

static void call_free(struct http_call *call)
{
	if (call->transfer.curl)
		curl_multi_remove_handle(call->http->multi, call->transfer.curl);
	transfer_free(&call->transfer);
	free(call);
}

/* --- what happens --- */

static void call_ended(struct http_call *call, CURLcode code)
{
	void (*done)(void *arg, struct http_response *response, const struct hpkv_error *error) = call->done;
	void *arg = call->arg;
	struct http_response response = { 0 };
	struct hpkv_error error;
	int r = transfer_result(&call->transfer, code, &response, &error);

	call_free(call);
	done(arg, r ? NULL : &response, r ? &error : NULL);
	buf_wipe(&response.body);
}

/* `done` may start and cancel others: a message is asked for anew each time. */
static void tell_ended(struct http *http)
{
	const CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(http->multi, &left))) {
		struct http_call *call = NULL;

		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
		call_ended(call, message->data.result);
	}
}

static void sockets_ready(void *arg)
{
	struct http *http = arg;
	struct epoll_event events[EVENTS];
	int running, n = epoll_wait(http->epoll_fd, events, EVENTS, 0);

	/* what an earlier of them closed is unknown to libcurl by then, which takes no harm */
	for (int i = 0; i < n; i++) {
		int mask = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
			   (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
			   (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

		curl_multi_socket_action(http->multi, events[i].data.fd, mask, &running);
	}
	tell_ended(http);
}

static void time_came(struct loop_timer *timer)
{
	struct http *http = lws_container_of(timer, struct http, timer);
	int running;

	curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	tell_ended(http);
}

/* --- what libcurl asks for --- */

static int watch_socket(CURL *curl, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct http *http = arg;
	struct epoll_event event = {
		.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u),
		.data.fd = fd,
	};

	(void)curl;
	(void)socket_arg;
	if (what == CURL_POLL_REMOVE)
		epoll_ctl(http->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	else if (epoll_ctl(http->epoll_fd, EPOLL_CTL_MOD, fd, &event) < 0 &&
		 (errno != ENOENT || epoll_ctl(http->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0))
		return -1; /* ends the multi's transfers with an error; only lack of memory comes here */
	return 0;
}

static int set_clock(CURLM *multi, long timeout_ms, void *arg)
{
	struct http *http = arg;

	(void)multi;
	if (timeout_ms < 0)
		loop_timer_cancel(&http->timer);
	else
		loop_timer_set(http->loop->base, &http->timer, (uint64_t)timeout_ms * CLOCK_US_PER_MS, time_came);
	return 0;
}

/* --- life --- */

void http_free(struct hpkv_loop *loop)
{
	struct http *http = loop->http;

	if (!http)
		return;
	loop->http = NULL;
	if (http->multi)
		curl_multi_cleanup(http->multi);
	loop_timer_cancel(&http->timer);
	loop_fd_free(http->watch);
	cleanup_close(&http->epoll_fd);
	free(http);
}

static int http_get(struct hpkv_loop *loop, struct http **out)
{
	struct http *http = loop->http;
	int r;

	if (!curl_library())
		return -ELIBACC;
	if (!http) {
		http = calloc(1, sizeof(*http));
		if (!http)
			return -ENOMEM;
		loop->http = http;
		http->loop = loop;
		http->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		http->multi = curl_multi_init();
		r = http->epoll_fd < 0 || !http->multi
			    ? -ENOMEM
			    : loop_fd_new(loop->base, http->epoll_fd, sockets_ready, NULL, http, &http->watch);
		if (r) {
			http_free(loop);
			return -ENOMEM;
		}
		curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
		curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
		curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, set_clock);
		curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
	}
	*out = http;
	return 0;
}

/* --- calls --- */

int http_start(struct hpkv_loop *loop, const struct http_request *request,
	       void (*done)(void *arg, struct http_response *response, const struct hpkv_error *error), void *arg,
	       struct http_call **out)
{
	struct http_call *call;
	struct http *http;
	int r = http_get(loop, &http);

	if (r)
		return r;
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	call->http = http;
	call->done = done;
	call->arg = arg;
	r = transfer_init(&call->transfer, request);
	if (r == 0 && (curl_easy_setopt(call->transfer.curl, CURLOPT_PRIVATE, call) != CURLE_OK ||
		       curl_multi_add_handle(http->multi, call->transfer.curl) != CURLM_OK))
		r = -ENOMEM;
	if (r) {
		call_free(call);
		return r;
	}
	*out = call;
	return 0;
}

void http_cancel(struct http_call *call)
{
	call_free(call);
}
