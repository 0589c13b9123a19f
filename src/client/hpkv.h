/* libhpkv: a client for HPKV, a key-value store that speaks JSON over WebSocket.
 *
 * A client belongs to a loop and is used on that loop's thread only; hpkv_loop_post is the one call that any
 * thread may make. Requests are asynchronous: any number may be under way, each with its own timeout, and
 * each started request calls its callback exactly once, never before the call that started it has returned.
 *
 * Functions that can fail answer 0 or a negative errno, and fill the caller's `struct hpkv_error` where one is
 * given (NULL is allowed). Outputs are written only on success. Keys and values are bytes with a length, and
 * must be UTF-8. Sources: the protocol of HPKV and the interface of its JavaScript client. */
#ifndef HPKV_H
#define HPKV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HPKV_API __attribute__((visibility("default")))

/* --- errors --- */

struct hpkv_error {
	int err;        /* negative errno */
	int code;       /* the server's code or HTTP status; 0 where no server said anything */
	char text[256]; /* one line, UTF-8, never a credential */
};

/* The one map from a server's code to a negative errno: 404 -ENOENT, 401 and 403 -EACCES, 413 -EFBIG, 429 -EAGAIN,
 * other 4xx -EINVAL, 5xx and everything else -EIO. 200 is 0. */
HPKV_API int hpkv_code_errno(int code);

/* --- loop --- */

struct hpkv_loop;

/* 0 or -ENOMEM. Free with hpkv_loop_free after every client on it was freed. */
HPKV_API int hpkv_loop_new(struct hpkv_loop **out);
HPKV_API void hpkv_loop_free(struct hpkv_loop *loop);

/* Serves events until hpkv_loop_stop. */
HPKV_API void hpkv_loop_run(struct hpkv_loop *loop);
HPKV_API void hpkv_loop_stop(struct hpkv_loop *loop);

/* Runs fn(arg) on the loop's thread. Any thread. 0 or -ENOMEM. */
HPKV_API int hpkv_loop_post(struct hpkv_loop *loop, void (*fn)(void *arg), void *arg);

/* --- client --- */

struct hpkv_client;

enum hpkv_state {
	HPKV_DISCONNECTED,
	HPKV_CONNECTING,
	HPKV_CONNECTED,
	HPKV_DISCONNECTING,
	HPKV_RECONNECTING,
};

struct hpkv_config {
	/* http(s)://HOST[:PORT], ws(s)://HOST[:PORT][/ws], unix:PATH, or local:DIR (an hpkvd on a Unix socket in
	 * DIR, started if none answers there). */
	const char *url;
	/* One of the two; for local:DIR both may be NULL (the key is taken from DIR). Copied. */
	const char *api_key;
	const char *token;
	const char *ca_file;           /* PEM; NULL: the system's authorities */
	bool insecure;                 /* allow plain ws:// to a host that is not loopback; skips no other check */
	unsigned connect_timeout_ms;   /* default 5000 */
	unsigned operation_timeout_ms; /* default 10000, from sending */
	size_t max_message_bytes;      /* a larger message closes the connection; default 8 MiB */
	/* Called once a connection that was made, before the `done` of those who asked for it; and once when it
	 * was lost (the error tells why; its code is the server's close code), not after hpkv_client_disconnect.
	 * Either may be NULL. */
	void (*connected)(struct hpkv_client *client, void *arg);
	void (*disconnected)(struct hpkv_client *client, const struct hpkv_error *error, void *arg);
	void *arg;
};

/* Fills in the defaults. */
HPKV_API void hpkv_config_init(struct hpkv_config *config);

/* Checks the configuration and copies it; no traffic yet. 0, -EINVAL (the text says what is wrong), -ENOMEM. */
HPKV_API int hpkv_client_new(struct hpkv_loop *loop, const struct hpkv_config *config, struct hpkv_client **out,
			     struct hpkv_error *error);

/* Closes without waiting. What is pending ends with -ECANCELED before this returns, the `done` of a connect or
 * disconnect included; no callback comes afterwards. Safe inside any callback. NULL is allowed. */
HPKV_API void hpkv_client_free(struct hpkv_client *client);

/* Connects, once: after a loss call it again, inside `disconnected` if you like. `done` (may be NULL) gets NULL
 * for success, or the error: -EACCES (the server said 401 or 403), -EAGAIN (429), -EIO (5xx), -EPROTO (another
 * answer, a bad certificate, no TLS), -ECONNREFUSED, -ECONNRESET, -EHOSTUNREACH (no such host), -ETIMEDOUT,
 * -ECANCELED (disconnected or freed meanwhile); for local:DIR also -EPROTONOSUPPORT (a server of another version
 * runs) and what opening DIR gives. Redirects, proxies and .netrc are not used. Where it connects already, the
 * call joins; where it is connected, `done` is told so; while it disconnects, it connects afterwards. 0, -ENOMEM,
 * -ECANCELED (the client was freed). */
HPKV_API int hpkv_client_connect(struct hpkv_client *client, void (*done)(void *arg, const struct hpkv_error *error),
				 void *arg);

/* Sends a close frame and waits for the other side, at most connect_timeout_ms. Requests under way, and a
 * connect, end with -ECANCELED. `done` may be NULL. Safe in every state. 0, -ENOMEM, -ECANCELED (the client was
 * freed). */
HPKV_API int hpkv_client_disconnect(struct hpkv_client *client, void (*done)(void *arg), void *arg);

HPKV_API enum hpkv_state hpkv_client_state(const struct hpkv_client *client);

/* --- requests --- */

struct hpkv_slice {
	const char *data;
	size_t size;
};

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

/* A request under way; valid until its callback was called. */
struct hpkv_request;

/* timeout_ms 0: the client's. `out` may be NULL. Strings are copied. Answers 0, -EINVAL (an empty key, bytes that
 * are not UTF-8, an empty value to set), -ENOMEM, -ENOTCONN (hpkv_client_connect was not called, or
 * hpkv_client_disconnect was called since); then the callback is not called.
 *
 * While there is no connection, requests are kept and sent once there is one; each ends after its timeout, or
 * with the error of a connect that fails (but never with -ENOENT, which only the server's 404 gives). Once sent,
 * the time counts anew.
 *
 * Errors that arrive in the callback: hpkv_code_errno of the server's code, with that code; -ETIMEDOUT;
 * -ECONNRESET (the connection was lost while the request was under way); -EPROTO (the server's reply makes no
 * sense, or was larger than max_message_bytes, which also ends the connection and all that is under way on it);
 * -ECANCELED. After all of these but the server's own the outcome of anything but get and range is unknown. */
HPKV_API int hpkv_get(struct hpkv_client *client, struct hpkv_slice key, unsigned timeout_ms, hpkv_callback *callback,
		      void *arg, struct hpkv_request **out);
HPKV_API int hpkv_set(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice value, unsigned timeout_ms,
		      hpkv_callback *callback, void *arg, struct hpkv_request **out);
HPKV_API int hpkv_patch(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice value, unsigned timeout_ms,
			hpkv_callback *callback, void *arg, struct hpkv_request **out);
HPKV_API int hpkv_delete(struct hpkv_client *client, struct hpkv_slice key, unsigned timeout_ms,
			 hpkv_callback *callback, void *arg, struct hpkv_request **out);
/* limit 0: the server's default. */
HPKV_API int hpkv_range(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice end_key, unsigned limit,
			unsigned timeout_ms, hpkv_callback *callback, void *arg, struct hpkv_request **out);
/* `increment` is a JSON number's text, so that no precision is lost. */
HPKV_API int hpkv_atomic(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice increment,
			 unsigned timeout_ms, hpkv_callback *callback, void *arg, struct hpkv_request **out);

/* Ends a request with -ECANCELED, in its callback, later. What was sent may still take effect. */
HPKV_API void hpkv_request_cancel(struct hpkv_request *request);

/* --- notifications: arrive on token connections --- */

struct hpkv_notification {
	struct hpkv_slice key;
	struct hpkv_slice value; /* data NULL: the key was deleted */
	bool number;
	int64_t timestamp_ms;
};

typedef void hpkv_notification_fn(void *arg, const struct hpkv_notification *notification);

/* One handler for now; NULL removes it. */
HPKV_API void hpkv_client_on_notification(struct hpkv_client *client, hpkv_notification_fn *fn, void *arg);

/* --- tokens --- */

struct hpkv_token_config {
	const char *url; /* as hpkv_config.url */
	const char *api_key;
	const char *ca_file;
	bool insecure;
	const char *const *subscribe_patterns; /* NULL-ended, or NULL */
	const char *access_pattern;            /* a regular expression, or NULL */
	unsigned timeout_ms;                   /* default 5000 */
};

/* Asks for a token (POST /token/websocket). `done` gets the token (borrowed) or the error, once: as those of
 * hpkv_client_connect, or -ECANCELED when the loop is freed. 0; -EINVAL (`error` says what is wrong), -ENOMEM,
 * -EAGAIN: then `done` is not called. */
HPKV_API int hpkv_token_generate(struct hpkv_loop *loop, const struct hpkv_token_config *config,
				 void (*done)(void *arg, const char *token, const struct hpkv_error *error), void *arg,
				 struct hpkv_error *error);

#ifdef __cplusplus
}
#endif

#endif
