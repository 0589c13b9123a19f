#include "server/notify.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "server/conn.h"

/* Bytes that may wait for one subscriber, its replies included. */
#define MAX_WAITING_BYTES (16 * 1024 * 1024)

static int64_t timestamp_ms(struct server *server)
{
	int64_t now = clock_real_ns() / (CLOCK_NS_PER_S / 1000);

	if (now > server->last_timestamp_ms)
		server->last_timestamp_ms = now;
	return server->last_timestamp_ms;
}

/* 0 or negative: no memory, or a value that is not text. */
static int make_frame(struct server *server, struct str key, const struct str *value, bool number, struct buf *frame)
{
	int r = ws_frame_begin(frame);

	if (!r)
		r = protocol_add_notification(frame, key, value, number, timestamp_ms(server));
	if (!r)
		r = ws_frame_end(frame, 0, WS_TEXT);
	if (r)
		ws_frame_cancel(frame, 0);
	return r;
}

static void deliver(struct conn *conn, struct str frame)
{
	if (stream_queued(conn->stream) + frame.len > MAX_WAITING_BYTES ||
	    buf_add_str(stream_output(conn->stream), frame)) {
		log_warning("a subscriber does not keep up: closed");
		conn->server->metrics.slow_subscribers++;
		conn_abort(conn);
		return;
	}
	conn->server->metrics.notifications++;
	stream_flush(conn->stream);
}

void notify_change(struct server *server, struct str key, const struct str *value, bool number)
{
	CLEANUP(buf_free) struct buf frame = BUF_INIT;
	struct conn *conn, *next;

	DL_FOREACH_SAFE2(server->subscribers, conn, next, subscriber_next)
	{
		if (!grant_hears(conn->grant, key))
			continue;
		if (!frame.len && make_frame(server, key, value, number, &frame)) {
			/* whoever should have heard of it must not believe that nothing happened */
			conn_abort(conn);
			continue;
		}
		deliver(conn, buf_str(&frame));
	}
}
