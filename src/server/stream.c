#include "server/stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* At least so much room for each recv(); with it, the buffer is as large as one that is kept. */
#define READ_BYTES (KEEP_BYTES - 1)
/* In one go; then others get their turn. */
#define READ_ROUND_BYTES (256 * 1024)
/* At shutdown: a sender that never stops must not keep the server from ending. */
#define READ_NOW_ROUNDS 32
/* An idle connection keeps no larger buffer than this; a busy one keeps of what it has sent no more than this, or than it
 * has still to send. */
#define KEEP_BYTES (16 * 1024)

struct stream {
	struct loop *loop;
	struct lws *wsi;
	int fd; /* owned by wsi */
	const struct stream_handlers *handlers;
	void *arg;
	uint64_t *received, *sent;
	struct buf in, out;
	size_t consumed, written; /* of in, out */
	bool paused, eof, failed, freed;
	struct loop_task flush, pump;
};

/* Where the other side is always behind, not everything is ever sent. Never is more moved than was sent. */
static void drop_sent(struct stream *stream)
{
	size_t rest = stream->out.len - stream->written;

	if (stream->written <= KEEP_BYTES || stream->written < rest)
		return;
	memmove(stream->out.p, stream->out.p + stream->written, rest + 1);
	stream->out.len = rest;
	stream->written = 0;
}

/* 0; -1: the connection failed. */
static int send_queued(struct stream *stream)
{
	while (stream->written < stream->out.len) {
		ssize_t n = send(stream->fd, stream->out.p + stream->written, stream->out.len - stream->written,
				 MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			drop_sent(stream);
			return 0;
		}
		if (n < 0)
			return -1;
		stream->written += (size_t)n;
		*stream->sent += (uint64_t)n;
	}
	buf_clear(&stream->out);
	stream->written = 0;
	if (stream->out.capacity > KEEP_BYTES)
		buf_free(&stream->out);
	return 0;
}

static void stream_lost(struct stream *stream)
{
	void (*closed)(void *arg) = stream->handlers->closed;
	void *arg = stream->arg;

	stream_free(stream);
	closed(arg);
}

/* Queued tasks cannot be taken back: the last of them frees the memory. True: it is being freed. */
static bool is_freed(struct stream *stream)
{
	if (!stream->freed)
		return false;
	if (!stream->flush.queued && !stream->pump.queued)
		free(stream);
	return true;
}

static void flush_task(struct loop_task *task)
{
	struct stream *stream = lws_container_of(task, struct stream, flush);

	if (is_freed(stream))
		return;
	if (send_queued(stream))
		stream_lost(stream);
	else if (stream->written < stream->out.len)
		lws_callback_on_writable(stream->wsi);
	else
		stream->handlers->drained(stream->arg);
}

/* A handler may free the stream; whatever calls one must touch it no more. */
static void receive(struct stream *stream)
{
	size_t round = 0;

	if (stream->consumed) {
		memmove(stream->in.p, stream->in.p + stream->consumed, stream->in.len - stream->consumed);
		stream->in.len -= stream->consumed;
		stream->consumed = 0;
	}
	while (round < READ_ROUND_BYTES && !stream->eof && !stream->failed) {
		size_t room;
		ssize_t n;

		if (buf_reserve(&stream->in, READ_BYTES)) {
			stream->failed = true;
			break;
		}
		room = stream->in.capacity - stream->in.len - 1;
		n = recv(stream->fd, stream->in.p + stream->in.len, room, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		stream->failed = n < 0;
		stream->eof = n == 0;
		if (n > 0) {
			stream->in.len += (size_t)n;
			round += (size_t)n;
			*stream->received += (uint64_t)n;
			/* most likely that was all, and if not, the loop will say so */
			if ((size_t)n < room)
				break;
		}
	}
}

static void pump_task(struct loop_task *task)
{
	struct stream *stream = lws_container_of(task, struct stream, pump);

	if (is_freed(stream))
		return;
	if (!stream->paused)
		receive(stream);
	if (stream->failed) {
		stream_lost(stream);
		return;
	}
	/* the end would be reported again and again */
	if (stream->eof)
		lws_rx_flow_control(stream->wsi, 0);
	stream->handlers->readable(stream->arg);
}

static int stream_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct stream *stream = lws_get_opaque_user_data(wsi);

	(void)user;
	(void)in;
	(void)len;
	if (!stream)
		return 0;
	switch (reason) {
	case LWS_CALLBACK_RAW_RX_FILE:
		/* Deferred, as handlers may free the stream, which libwebsockets still holds here. */
		loop_defer(stream->loop, &stream->pump);
		break;
	case LWS_CALLBACK_RAW_WRITEABLE_FILE:
		/* libwebsockets takes back the interest in writing after this, so sending waits as well. */
		loop_defer(stream->loop, &stream->flush);
		break;
	case LWS_CALLBACK_RAW_CLOSE_FILE:
		stream->wsi = NULL;
		stream_lost(stream);
		break;
	default:
		break;
	}
	return 0;
}

static const struct lws_protocols stream_protocols[] = {
	{ .name = "hpkvd-stream", .callback = stream_callback },
	{ 0 },
};

struct lws_vhost *stream_vhost_new(struct loop *loop)
{
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN,
		.vhost_name = "hpkvd",
		.protocols = stream_protocols,
	};

	return loop_vhost(loop, &info);
}

int stream_new(struct loop *loop, struct lws_vhost *vhost, int fd, const struct stream_handlers *handlers, void *arg,
	       uint64_t *received, uint64_t *sent, struct stream **out)
{
	struct stream *stream = calloc(1, sizeof(*stream));
	lws_sock_file_fd_type adopted = { .filefd = fd };

	if (!stream) {
		close(fd);
		return -ENOMEM;
	}
	stream->loop = loop;
	stream->fd = fd;
	stream->handlers = handlers;
	stream->arg = arg;
	stream->received = received;
	stream->sent = sent;
	stream->flush.fn = flush_task;
	stream->pump.fn = pump_task;
	stream->wsi =
		lws_adopt_descriptor_vhost(vhost, LWS_ADOPT_RAW_FILE_DESC, adopted, stream_protocols[0].name, NULL);
	if (!stream->wsi) {
		free(stream);
		return -ENOMEM;
	}
	lws_set_opaque_user_data(stream->wsi, stream);
	*out = stream;
	return 0;
}

void stream_free(struct stream *stream)
{
	if (!stream)
		return;
	if (stream->wsi) {
		lws_set_opaque_user_data(stream->wsi, NULL);
		lws_set_timeout(stream->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
		stream->wsi = NULL;
	}
	buf_free(&stream->in);
	buf_free(&stream->out);
	stream->freed = true;
	(void)is_freed(stream);
}

struct str stream_input(const struct stream *stream)
{
	return str_skip(buf_str(&stream->in), stream->consumed);
}

char *stream_input_bytes(struct stream *stream)
{
	return stream->in.p ? stream->in.p + stream->consumed : NULL;
}

void stream_consume(struct stream *stream, size_t len)
{
	stream->consumed += len;
	if (stream->consumed < stream->in.len)
		return;
	stream->consumed = 0;
	buf_clear(&stream->in);
	if (stream->in.capacity > KEEP_BYTES)
		buf_free(&stream->in);
}

bool stream_eof(const struct stream *stream)
{
	return stream->eof;
}

void stream_pause(struct stream *stream, bool paused)
{
	if (stream->paused == paused)
		return;
	stream->paused = paused;
	if (!stream->eof)
		lws_rx_flow_control(stream->wsi, !paused);
}

void stream_read_now(struct stream *stream)
{
	for (int i = 0; i < READ_NOW_ROUNDS && !stream->eof && !stream->failed; i++) {
		uint64_t before = *stream->received;

		receive(stream);
		if (*stream->received == before)
			break;
	}
}

void stream_wake(struct stream *stream)
{
	loop_defer(stream->loop, &stream->pump);
}

struct buf *stream_output(struct stream *stream)
{
	return &stream->out;
}

void stream_flush(struct stream *stream)
{
	loop_defer(stream->loop, &stream->flush);
}

size_t stream_queued(const struct stream *stream)
{
	return stream->out.len - stream->written;
}

void stream_shutdown(struct stream *stream)
{
	shutdown(stream->fd, SHUT_WR);
}
