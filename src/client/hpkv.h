/* libhpkv: a client for HPKV, a key-value store that speaks JSON over WebSocket.
 *
 * A client belongs to a loop and is used on that loop's thread only. Three kinds of functions may be called on any
 * thread: hpkv_loop_post, hpkv_loop_call, and those whose names end in _sync. Requests are asynchronous: any number may
 * be under way, each with its own timeout, and each started request calls its callback exactly once, never before the
 * call that started it has returned.
 *
 * Functions that can fail answer 0 or a negative errno, and fill the caller's `struct hpkv_error` where one is
 * given (NULL is allowed). Outputs are written only on success. Keys and values are bytes with a length, and
 * must be UTF-8. Sources: the protocol of HPKV and the interface of its JavaScript client. */
#ifndef HPKV_H
#define HPKV_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HPKV_API __attribute__((visibility("default")))

/* --- errors --- */

enum hpkv_error_kind {
	HPKV_ERROR_NONE,
	HPKV_ERROR_SERVER,         /* the server refused the request; `code` is its code */
	HPKV_ERROR_AUTHENTICATION, /* the server refused the API key or token, or the key lies outside of the token's pattern */
	HPKV_ERROR_CONNECTION, /* no connection could be made, or it was lost */
	HPKV_ERROR_TIMEOUT,
	HPKV_ERROR_PROTOCOL,  /* what the server sent makes no sense */
	HPKV_ERROR_CANCELLED, /* by this program */
	HPKV_ERROR_LOCAL,     /* an argument, memory, or a call in the wrong state */
};

struct hpkv_error {
	enum hpkv_error_kind kind;
	int err;              /* negative errno */
	int code;             /* the server's code, HTTP status or close code; 0 where no server said anything */
	bool unknown_outcome; /* a change that may or may not have taken effect */
	char text[256];       /* one line, UTF-8, never a credential */
};

/* The one map from a server's code to a negative errno: 404 -ENOENT, 401 and 403 -EACCES, 413 -EFBIG, 429 -EAGAIN,
 * other 4xx -EINVAL, 5xx and everything else -EIO. 200 is 0. */
HPKV_API int hpkv_code_errno(int code);

/* --- loop --- */

struct hpkv_loop;

/* 0 or -ENOMEM. It has room for 1000 clients. Free with hpkv_loop_free after every client on it was freed; that ends and
 * joins the loop's thread where hpkv_loop_start_thread made one. Not on the loop's own thread, nor inside of
 * hpkv_loop_run. */
HPKV_API int hpkv_loop_new(struct hpkv_loop **out);
HPKV_API void hpkv_loop_free(struct hpkv_loop *loop);

/* Serves events until hpkv_loop_stop, which any thread may call; where another thread serves the loop, it waits for the
 * stop, and takes over if that thread ends. A stop before the run ends the run at once. SIGPIPE is blocked on a thread
 * while it serves a loop, in callbacks too: TLS could raise it. */
HPKV_API void hpkv_loop_run(struct hpkv_loop *loop);
HPKV_API void hpkv_loop_stop(struct hpkv_loop *loop);

/* For programs with a loop of their own: a thread serves events from now on, until hpkv_loop_free. All signals are
 * blocked on it. 0; -EALREADY: the loop is being run; -EAGAIN, -ENOMEM: no thread could be made. */
HPKV_API int hpkv_loop_start_thread(struct hpkv_loop *loop);

/* Runs fn(arg) on the loop's thread. Any thread. 0 or -ENOMEM. */
HPKV_API int hpkv_loop_post(struct hpkv_loop *loop, void (*fn)(void *arg), void *arg);

/* The same, and waits until fn has returned: the way to make, use and free clients from other threads. Where no thread
 * serves the loop it is served by the caller meanwhile. 0, -EDEADLK (on the loop's own thread, inside a
 * callback), -ENOMEM. */
HPKV_API int hpkv_loop_call(struct hpkv_loop *loop, void (*fn)(void *arg), void *arg);

/* --- client --- */

struct hpkv_client;

enum hpkv_state {
	HPKV_DISCONNECTED,
	HPKV_CONNECTING,
	HPKV_CONNECTED,
	HPKV_DISCONNECTING,
	HPKV_RECONNECTING,
};

/* "disconnected", "connecting" and so on; never NULL. */
HPKV_API const char *hpkv_state_name(enum hpkv_state state);

/* A number of reconnect attempts without end. */
#define HPKV_FOREVER UINT_MAX

struct hpkv_throttle {
	bool enabled; /* false: nothing is paced, and a request that gets a 429 ends with it */
	/* Requests a second at most; 0: as many as the server takes. In both cases a 429 pauses all requests for a moment
	 * (longer each time, until one succeeds) and cuts the rate to three quarters of what the server was found to take.
	 * Some seconds later it is there again, and goes on growing slowly, then faster, while requests wait for it. */
	double rate_per_s;
};

struct hpkv_token_config {
	const char *url; /* as hpkv_config.url */
	const char *api_key;
	const char *ca_file;
	bool insecure;
	const char *const *subscribe_patterns; /* NULL-ended, or NULL; `*` stands for any characters */
	const char *access_pattern;            /* a regular expression, or NULL */
	unsigned timeout_ms;                   /* default 5000 */
};

struct hpkv_config {
	/* http(s)://HOST[:PORT], ws(s)://HOST[:PORT][/ws], unix:PATH, or local:DIR (an hpkvd on a Unix socket in
	 * DIR, started if none answers there). */
	const char *url;
	/* One of the two; for local:DIR both may be NULL (the key is taken from DIR). Copied. A client with a token gets
	 * notifications, and may run operations too. */
	const char *api_key;
	const char *token;
	/* Instead of both: the client gets its tokens with this (copied; a url, api_key or ca_file that is NULL is the
	 * client's own), one for each connection, and changes over to a connection with a new one before the old one
	 * expires. Notifications are neither lost nor told twice over that, and there is no event; where the old connection
	 * ends before all of them have come, the new one is dropped too, and that is an ordinary loss. A token that cannot be had
	 * fails the attempt to connect; of a renewal it is HPKV_EVENT_ERROR, and it is tried again after reconnect's delays as long
	 * as the old connection stands. */
	const struct hpkv_token_config *tokens;
	/* How long a token is used, at most; one that says itself when it expires is used for nine tenths of its time if that
	 * is shorter. Default 6600000 (110 minutes). */
	unsigned token_lifetime_ms;
	const char *ca_file; /* PEM; NULL: the system's authorities */
	bool insecure;       /* allow plain ws:// to a host that is not loopback; skips no other check */

	unsigned connect_timeout_ms;   /* for each attempt; default 5000 */
	unsigned operation_timeout_ms; /* default 10000; see struct hpkv_options */
	/* A peer that is silent for so long is pinged, and one that is then silent until dead_after_s is taken for dead.
	 * Defaults 10 and 15; dead_after_s is the larger one, and at most 65535. */
	unsigned ping_after_s;
	unsigned dead_after_s;

	/* After a connection was lost. 0 attempts: never; HPKV_FOREVER. Default 3. The delay before the first is
	 * reconnect_initial_delay_ms (default 1000), before each other twice the last, at most reconnect_max_delay_ms (default
	 * 30000); to each a random time up to reconnect_jitter_ms (default 500) is added. A server that refuses the API
	 * key or token ends the attempts. They are counted anew once a connection has carried a message, or stood for
	 * reconnect_max_delay_ms: one that is dropped before was only an attempt. */
	unsigned max_reconnect_attempts;
	unsigned reconnect_initial_delay_ms;
	unsigned reconnect_max_delay_ms;
	unsigned reconnect_jitter_ms;

	struct hpkv_throttle throttle; /* default: enabled, rate 0 */
	unsigned max_in_flight;        /* requests sent and not answered, or one more (hpkv_set); default 1024 */
	unsigned max_queued;           /* requests not sent yet; one more answers -ENOBUFS; default 65536 */
	size_t max_message_bytes;      /* a larger message closes the connection; default 8 MiB */
};

/* Fills in the defaults. */
HPKV_API void hpkv_config_init(struct hpkv_config *config);

/* Checks the configuration and copies it; no traffic yet. Any thread. 0, -EINVAL (the text says what is wrong),
 * -ENOMEM. */
HPKV_API int hpkv_client_new(struct hpkv_loop *loop, const struct hpkv_config *config, struct hpkv_client **out,
			     struct hpkv_error *error);

/* Closes without waiting. What is pending ends with -ECANCELED before this returns, the `done` of a connect or
 * disconnect included, and with it the calls of other threads that wait; no callback comes afterwards. Safe in every state and inside any callback. NULL is allowed. */
HPKV_API void hpkv_client_free(struct hpkv_client *client);

/* Connects. `done` (may be NULL) gets NULL for success, or the error: -EACCES (the server said 401 or 403), -EAGAIN
 * (429), -EIO (5xx), -EPROTO (another answer, a bad certificate, no TLS), -EMSGSIZE (a key or token of more than
 * some 2000 bytes), -ECONNREFUSED, -ECONNRESET, -EHOSTUNREACH (no such host), -ETIMEDOUT, -ECANCELED (disconnected or freed meanwhile); for local:DIR also -EPROTONOSUPPORT (a server
 * of another version runs) and what opening DIR gives. Redirects, proxies and .netrc are not used. A first connection
 * that fails is not tried again by itself. Where it connects already, the call joins; where it is connected, `done` is told
 * so; while it disconnects, it connects afterwards; while it waits for a reconnect, that is made at once, and `done` gets its outcome,
 * though the attempts go on. 0, -ENOMEM, -ECANCELED (the client was freed). */
HPKV_API int hpkv_client_connect(struct hpkv_client *client, void (*done)(void *arg, const struct hpkv_error *error),
				 void *arg);

/* Sends a close frame and waits for the other side, at most connect_timeout_ms. With `cancel`, requests under way end with
 * -ECANCELED first; without, those that were made are waited for (each has its timeout; what was not sent while there is no connection
 * is cancelled), and no new ones are taken. A connect under way ends with -ECANCELED. `done` may be NULL. Safe in every state. 0,
 * -ENOMEM, -ECANCELED (the client was freed). */
HPKV_API int hpkv_client_disconnect(struct hpkv_client *client, bool cancel, void (*done)(void *arg), void *arg);

HPKV_API enum hpkv_state hpkv_client_state(const struct hpkv_client *client);

/* Another token for what comes: the next connection, and at once, if there is a connection, the change over to
 * one with this token, as with `tokens`. If the server refuses it, that is HPKV_EVENT_ERROR, and the connection stays as it
 * is. 0, -EINVAL (the client has no token, or gets them itself), -ENOMEM. */
HPKV_API int hpkv_client_set_token(struct hpkv_client *client, const char *token);

/* --- events --- */

enum hpkv_event_type {
	HPKV_EVENT_CONNECTED, /* once a connection */
	HPKV_EVENT_DISCONNECTED, /* once a connection: lost, or closed by hpkv_client_disconnect; not by hpkv_client_free */
	HPKV_EVENT_RECONNECTING, /* an attempt will be made after delay_ms */
	/* The attempts are used up, or the server refused the credential. Not where max_reconnect_attempts is 0. */
	HPKV_EVENT_RECONNECT_FAILED,
	/* What no caller is told of otherwise: an attempt that failed, or a token that could not be renewed; and a message that
	 * makes no sense (HPKV_ERROR_PROTOCOL) or for which there was no memory (HPKV_ERROR_LOCAL), which may have been a
	 * notification: as long as there is a connection these two are nothing else. */
	HPKV_EVENT_ERROR,
};

/* Borrowed, valid during the call. */
struct hpkv_event {
	enum hpkv_event_type type;
	const struct hpkv_error *error; /* disconnected: NULL where graceful; reconnect failed and error: why */
	enum hpkv_state previous_state; /* disconnected: connected or disconnecting */
	bool graceful;                  /* disconnected: as this program asked */
	unsigned attempt;               /* reconnecting: from 1 */
	unsigned max_attempts;          /* reconnecting: may be HPKV_FOREVER */
	unsigned delay_ms;              /* reconnecting */
};

typedef void hpkv_listener(void *arg, const struct hpkv_event *event);

/* Several listeners an event type are called in the order of their adding. One that is added while they are being called
 * hears of the next event; one that is removed is not called any more, at once. `id` is never 0. 0, -ENOMEM. */
HPKV_API int hpkv_client_on(struct hpkv_client *client, enum hpkv_event_type type, hpkv_listener *fn, void *arg,
			    uint64_t *id);
/* An id that is unknown is ignored. */
HPKV_API void hpkv_client_off(struct hpkv_client *client, uint64_t id);

/* --- requests --- */

struct hpkv_slice {
	const char *data;
	size_t size;
};

static inline struct hpkv_slice hpkv_str(const char *text)
{
	struct hpkv_slice slice = { text, strlen(text) };

	return slice;
}

struct hpkv_record {
	struct hpkv_slice key;
	struct hpkv_slice value; /* a number is given as its JSON text, exactly as received */
	bool number;
};

/* What a callback gets; everything is borrowed and valid during the callback only. */
struct hpkv_reply {
	const struct hpkv_error *error; /* NULL: success */
	struct hpkv_slice value;        /* get; atomic: the new value's JSON text */
	bool number;                    /* get: the value was a number */
	const struct hpkv_record *records;
	size_t count;
	bool truncated; /* range: more keys were in the range */
};

typedef void hpkv_callback(void *arg, const struct hpkv_reply *reply);

enum hpkv_priority {
	HPKV_INTERACTIVE, /* before all background requests that wait */
	HPKV_BACKGROUND,
};

enum hpkv_repeat {
	/* A request that the server refused with 429, or that was under way when its connection was lost, is sent again
	 * where that cannot do harm: get and range; after a 429 all. A set or delete whose connection was lost reads the key first:
	 * what it wanted stands: success (a 404 to a repeated delete as well); what `before` says still stands: it is
	 * repeated; anything else, and every patch and atomic: -ECONNRESET with unknown_outcome. What made a message too
	 * large for max_message_bytes is not repeated. Changes of one key that are under way together may take
	 * effect in another order after a 429. */
	HPKV_REPEAT_SAFE,
	/* Set and delete are repeated whatever the key holds by then: the last writer wins. */
	HPKV_REPEAT_OVERWRITE,
	/* Nothing is sent twice: -ECONNRESET, and -EAGAIN for 429. */
	HPKV_REPEAT_NEVER,
	/* Only what did nothing is sent again: get and range, and after a 429 all. A change whose connection was lost:
	 * -ECONNRESET, for callers that judge by themselves. */
	HPKV_REPEAT_REFUSED,
};

/* How one request is made. {0}, or NULL instead, is the default. */
struct hpkv_options {
	/* 0: the client's. It is counted from the first sending, repetitions included; for what waits to be sent, only while there is no
	 * connection, or nothing but 429 comes. Waiting for the rate, or for others in flight, is not counted. */
	unsigned timeout_ms;
	enum hpkv_priority priority;
	enum hpkv_repeat repeat;
	/* Set, delete: what the key held when it was last looked at (data NULL: it was absent), or NULL: not known. Copied. */
	const struct hpkv_slice *before;
};

/* A request under way; valid until its callback was called. */
struct hpkv_request;

/* `out` may be NULL. Strings are copied. Answers 0, -EINVAL (an empty key, bytes that are not UTF-8, an empty value
 * to set), -ENOMEM, -ENOBUFS (max_queued), -ENOTCONN (there is no connection and none is being made: hpkv_client_connect was not called, or failed,
 * or hpkv_client_disconnect was called since, or the reconnecting has failed); then the callback is not called.
 *
 * While there is no connection, requests are kept and sent once there is one; each ends after its timeout, or
 * with the error of a connect or reconnect that finally fails (but never with -ENOENT, which only the server's 404 gives).
 *
 * Errors that arrive in the callback: hpkv_code_errno of the server's code, with that code; -ETIMEDOUT (with code 429 where
 * 429 was the last answer, of kind HPKV_ERROR_CONNECTION where there was no connection to send it on);
 * -ECONNRESET (the connection was lost while the request was under way, and it could not be repeated); -EPROTO (the
 * server's reply makes no sense, or was larger than max_message_bytes, which also ends the connection and all
 * that is under way on it); -ECANCELED. After all of these but the server's own the outcome of anything but get and
 * range is unknown if it was sent: unknown_outcome says so. */
HPKV_API int hpkv_get(struct hpkv_client *client, struct hpkv_slice key, const struct hpkv_options *options,
		      hpkv_callback *callback, void *arg, struct hpkv_request **out);
/* Called right after hpkv_get of the same key, with the same priority, it goes out together with that, so that as little as may
 * be comes between: it does not wait for the rate, which later requests make up for, nor for room in flight. */
HPKV_API int hpkv_set(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice value,
		      const struct hpkv_options *options, hpkv_callback *callback, void *arg,
		      struct hpkv_request **out);
/* The official client's set with partialUpdate: a JSON merge patch (RFC 7396) where both are JSON objects, else
 * `value` is appended. */
HPKV_API int hpkv_patch(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice value,
			const struct hpkv_options *options, hpkv_callback *callback, void *arg,
			struct hpkv_request **out);
HPKV_API int hpkv_delete(struct hpkv_client *client, struct hpkv_slice key, const struct hpkv_options *options,
			 hpkv_callback *callback, void *arg, struct hpkv_request **out);
/* Both ends are inclusive. limit 0: the server's default (100); at most 1000. One page: `truncated` says whether there is more. */
HPKV_API int hpkv_range(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice end_key, unsigned limit,
			const struct hpkv_options *options, hpkv_callback *callback, void *arg,
			struct hpkv_request **out);
/* `increment` is a JSON number's text, so that no precision is lost. */
HPKV_API int hpkv_atomic(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice increment,
			 const struct hpkv_options *options, hpkv_callback *callback, void *arg,
			 struct hpkv_request **out);

/* Ends a request with -ECANCELED, in its callback, later. What was sent may still take effect. */
HPKV_API void hpkv_request_cancel(struct hpkv_request *request);

/* --- a range, record by record, over as many pages as it takes --- */

struct hpkv_iterator;

/* limit: records a page, 0: 1000, which is the most. Keys are copied, options too. Any thread. Once the client was freed, the
 * iterator can only be freed. 0, -EINVAL, -ENOMEM. */
HPKV_API int hpkv_iterator_new(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice end_key,
			       unsigned limit, const struct hpkv_options *options, struct hpkv_iterator **out);
/* Safe inside `done`; a next that is under way is not told. Any thread, while no next is under way. NULL is allowed. */
HPKV_API void hpkv_iterator_free(struct hpkv_iterator *iterator);

/* Asks for the next record. `done` is called once, later: with a record (borrowed, valid until the next call with this
 * iterator), with NULL and no error at the end, or with an error, after which the same record can be asked for again. Keys outside
 * of the range are dropped; keys that do not ascend, or none where the server says that there are more, are -EPROTO. One at a
 * time: -EBUSY. 0, or what hpkv_range answers. */
HPKV_API int hpkv_iterator_next(struct hpkv_iterator *iterator,
				void (*done)(void *arg, const struct hpkv_record *record,
					     const struct hpkv_error *error),
				void *arg);

/* --- the same, waiting: for simple programs --- */

/* These may be called on any thread. Where a thread serves the loop, they wait for it; where none does, the
 * caller serves it meanwhile. Inside a callback of the loop they answer -EDEADLK. `error` may be NULL. Each answers 0 or what the
 * asynchronous call, or its callback, would say. */

/* Bytes with a NUL behind them, owned by the caller. */
struct hpkv_value {
	char *data;
	size_t size;
	bool number; /* a JSON number's text */
};
HPKV_API void hpkv_value_free(struct hpkv_value *value);

/* A page of records, owned by the caller. A NUL stands behind each key and value. */
struct hpkv_page {
	struct hpkv_record *records;
	size_t count;
	bool truncated;
	char *bytes; /* what the records point into */
};
HPKV_API void hpkv_page_free(struct hpkv_page *page);

/* The shortest way: a client with the defaults, on a loop of its own that a thread serves, connected. api_key NULL: the one
 * in the folder of local:DIR. Answers what hpkv_client_new, hpkv_loop_start_thread and hpkv_client_connect do. Free with
 * hpkv_close_sync. */
HPKV_API int hpkv_open_sync(const char *url, const char *api_key, struct hpkv_client **out, struct hpkv_error *error);
/* Disconnects, and frees the client with its loop and thread. Only for what hpkv_open_sync made; not while other threads use it.
 * NULL is allowed. */
HPKV_API void hpkv_close_sync(struct hpkv_client *client);

HPKV_API int hpkv_connect_sync(struct hpkv_client *client, struct hpkv_error *error);
HPKV_API int hpkv_disconnect_sync(struct hpkv_client *client, bool cancel, struct hpkv_error *error);
HPKV_API int hpkv_get_sync(struct hpkv_client *client, struct hpkv_slice key, const struct hpkv_options *options,
			   struct hpkv_value *out, struct hpkv_error *error);
HPKV_API int hpkv_set_sync(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice value,
			   const struct hpkv_options *options, struct hpkv_error *error);
HPKV_API int hpkv_patch_sync(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice value,
			     const struct hpkv_options *options, struct hpkv_error *error);
HPKV_API int hpkv_delete_sync(struct hpkv_client *client, struct hpkv_slice key, const struct hpkv_options *options,
			      struct hpkv_error *error);
HPKV_API int hpkv_range_sync(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice end_key,
			     unsigned limit, const struct hpkv_options *options, struct hpkv_page *out,
			     struct hpkv_error *error);
HPKV_API int hpkv_atomic_sync(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice increment,
			      const struct hpkv_options *options, struct hpkv_value *out, struct hpkv_error *error);
/* 1: a record (borrowed, until the next call with this iterator); 0: the end; negative: an error. */
HPKV_API int hpkv_iterator_next_sync(struct hpkv_iterator *iterator, struct hpkv_record *out, struct hpkv_error *error);
/* The token is the caller's: free(). */
HPKV_API int hpkv_token_generate_sync(struct hpkv_loop *loop, const struct hpkv_token_config *config, char **out,
				      struct hpkv_error *error);

/* --- notifications: arrive on connections with a token --- */

struct hpkv_notification {
	struct hpkv_slice key;
	struct hpkv_slice value; /* data NULL: the key was deleted */
	bool number;
	int64_t timestamp_ms;
};

/* Everything is borrowed and valid during the call only. */
typedef void hpkv_notification_fn(void *arg, const struct hpkv_notification *notification);

/* Several handlers are called in the order of their adding, each for every notification, in the order of arrival. Adding
 * and removing as with listeners. What changed while there was no connection is not told: read again after
 * HPKV_EVENT_CONNECTED. 0, -ENOMEM. */
HPKV_API int hpkv_subscribe(struct hpkv_client *client, hpkv_notification_fn *fn, void *arg, uint64_t *id);
HPKV_API void hpkv_unsubscribe(struct hpkv_client *client, uint64_t id);

/* --- throttling --- */

struct hpkv_throttle_status {
	struct hpkv_throttle config;
	double current_rate_per_s; /* 0: without limit */
	unsigned queued;           /* requests that wait to be sent, for whatever reason */
	unsigned pause_ms;         /* what is left of the pause after a 429 */
};

HPKV_API void hpkv_client_throttle_status(const struct hpkv_client *client, struct hpkv_throttle_status *out);

/* Holds at once, for what is queued too. 0, -EINVAL (a rate that is negative, not finite or above 1e6). */
HPKV_API int hpkv_client_set_throttle(struct hpkv_client *client, const struct hpkv_throttle *throttle);

/* --- statistics --- */

/* Round trips of 2^(n-1) up to 2^n microseconds are counted in bucket n, those below 1 in bucket 0, all longer ones in the last. */
#define HPKV_RTT_BUCKETS 32

/* Operations by their number in the protocol: 1 get, 2 set, 3 patch, 4 delete, 5 range, 6 atomic. */
#define HPKV_OPERATIONS 7

/* Counts are of the client's whole life. */
struct hpkv_stats {
	enum hpkv_state state;
	bool connected;
	unsigned reconnect_attempts; /* of the present cycle */
	unsigned in_flight;
	unsigned queued;
	double current_rate_per_s; /* as in hpkv_throttle_status */

	uint64_t connections;               /* that were made */
	uint64_t requests[HPKV_OPERATIONS]; /* started, by operation */
	uint64_t succeeded, failed;         /* callbacks */
	uint64_t timed_out, cancelled;      /* of those that failed */
	uint64_t repeated;                  /* requests sent again */
	uint64_t rate_limited;              /* 429s */
	uint64_t notifications;
	uint64_t ignored; /* messages: late replies, unknown ids, nonsense */
	uint64_t messages_sent, messages_received;
	uint64_t bytes_sent, bytes_received; /* of the messages, without frames and TLS */

	uint64_t rtt_count, rtt_sum_us, rtt_min_us, rtt_max_us;
	uint64_t rtt_us[HPKV_RTT_BUCKETS];
};

HPKV_API void hpkv_client_stats(const struct hpkv_client *client, struct hpkv_stats *out);

/* The upper bound of the bucket in which the given share (0 to 1) of the round trips is reached; 0: there were none. */
HPKV_API uint64_t hpkv_stats_rtt_us(const struct hpkv_stats *stats, double share);

/* --- tokens --- */

/* Asks for a token (POST /token/websocket). `done` gets the token (borrowed) or the error, once: as those of
 * hpkv_client_connect, -ECANCELED when the loop is freed, or -ELIBACC: libcurl, which is loaded when the first token is
 * asked for, is not installed. 0; -EINVAL (`error` says what is wrong), -ENOMEM,
 * -ECANCELED (the loop is being freed): then `done` is not called. */
HPKV_API int hpkv_token_generate(struct hpkv_loop *loop, const struct hpkv_token_config *config,
				 void (*done)(void *arg, const char *token, const struct hpkv_error *error), void *arg,
				 struct hpkv_error *error);

#ifdef __cplusplus
}
#endif

#endif
