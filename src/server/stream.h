/* A connected socket on the loop: bytes in, bytes out, both buffered here.
 *
 * libwebsockets serves as the poll loop only. Its HTTP parser decodes and tidies paths before anyone sees them
 * (an encoded "//" becomes "/", "a/../b" loses a part, a NUL ends the connection), which would turn keys into
 * other keys; http.c and websocket.c read the bytes instead. */
#ifndef HPKVFS_SERVER_STREAM_H
#define HPKVFS_SERVER_STREAM_H

#include "base/buf.h"
#include "base/loop.h"

struct stream_handlers {
	/* More in stream_input, or stream_eof. */
	void (*readable)(void *arg);
	/* All that was written has left (called from the loop, not from inside stream_write). */
	void (*drained)(void *arg);
	/* The other side is gone; the stream is freed by then. Not called after stream_free. */
	void (*closed)(void *arg);
};

struct stream;

/* The vhost that carries streams; once a loop. NULL: no memory. */
struct lws_vhost *stream_vhost_new(struct loop *loop);

/* Takes a non-blocking socket. `sent` and `received` count bytes. 0 or -ENOMEM: the descriptor is closed either way. */
CHECKED int stream_new(struct loop *loop, struct lws_vhost *vhost, int fd, const struct stream_handlers *handlers,
		       void *arg, uint64_t *received, uint64_t *sent, struct stream **out);

/* Closes at once; what was not sent is lost. */
void stream_free(struct stream *stream);

/* What was received and not yet consumed. May be changed in place (unmasking); valid until stream_consume, or
 * until the loop is left. */
struct str stream_input(const struct stream *stream);
char *stream_input_bytes(struct stream *stream);
void stream_consume(struct stream *stream, size_t len);

/* The other side has sent its last byte. */
bool stream_eof(const struct stream *stream);

/* Stops reading from the socket, or goes on; the sender is slowed down by the kernel's full buffers. */
void stream_pause(struct stream *stream, bool paused);

/* Takes what the kernel holds already, also while paused. */
void stream_read_now(struct stream *stream);

/* Calls `readable`, later, whether there is more to read or not. */
void stream_wake(struct stream *stream);

/* Where to append what is to be sent; call stream_flush afterwards. What is in it moves, or goes, when it is sent, which is
 * never before the loop is left. */
struct buf *stream_output(struct stream *stream);

/* Sends what was appended, at the end of the present round: many replies, one system call. */
void stream_flush(struct stream *stream);

/* Bytes that wait to be sent. */
size_t stream_queued(const struct stream *stream);

/* No more will be written: the other side sees the end. */
void stream_shutdown(struct stream *stream);

#endif
