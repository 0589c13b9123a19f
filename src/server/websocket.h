/* RFC 6455 on the server's side: the handshake's answer and frames. No extensions. */
#ifndef HPKVFS_SERVER_WEBSOCKET_H
#define HPKVFS_SERVER_WEBSOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum ws_opcode {
	WS_CONTINUATION = 0,
	WS_TEXT = 1,
	WS_BINARY = 2,
	WS_CLOSE = 8,
	WS_PING = 9,
	WS_PONG = 10,
};

enum ws_status {
	WS_STATUS_NORMAL = 1000,
	WS_STATUS_GOING_AWAY = 1001,
	WS_STATUS_PROTOCOL = 1002,
	WS_STATUS_UNACCEPTABLE = 1003,
	WS_STATUS_POLICY = 1008,
	WS_STATUS_TOO_BIG = 1009,
};

struct ws_frame {
	bool final;
	enum ws_opcode opcode;
	char *payload; /* unmasked in place, inside the input */
	size_t len;
	size_t total; /* with its header: what to consume */
};

/* Takes the frame that `len` bytes of input begin with. 1: there is one; 0: more bytes are needed; a negative
 * ws_status: the connection must be closed with it. A payload over `max` is refused from its header on. */
CHECKED int ws_frame_parse(char *input, size_t len, size_t max, struct ws_frame *out);

/* Appends a whole frame. 0 or -ENOMEM. */
CHECKED int ws_frame_add(struct buf *out, enum ws_opcode opcode, struct str payload);

/* The same for a payload that is made where it is to be: begin, append it to `out`, then end, or cancel, with the length
 * that `out` had before. 0 or -ENOMEM. */
CHECKED int ws_frame_begin(struct buf *out);
CHECKED int ws_frame_end(struct buf *out, size_t before, enum ws_opcode opcode);
void ws_frame_cancel(struct buf *out, size_t before);

CHECKED int ws_close_add(struct buf *out, enum ws_status status, const char *reason);

/* The value of Sec-WebSocket-Accept for a client's Sec-WebSocket-Key: 28 characters and a NUL. */
void ws_accept_key(struct str key, char out[29]);

#endif
