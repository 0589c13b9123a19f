/* WebSocket frames of the client's side, many gathered in one buffer, so that they go out with one system call. A call
 * for each would be most of what a small request costs. */
#ifndef HPKVFS_CLIENT_FRAMES_H
#define HPKVFS_CLIENT_FRAMES_H

#include "base/buf.h"

/* {0} before first use; free with frames_free. */
struct frames {
	struct buf out;
	unsigned char random[256]; /* masks for the next frames: a system call brings many */
	size_t random_left;
};

/* Appends a masked frame with a whole text message. 0, -ENOMEM, or -errno where the system gives no random bytes;
 * then nothing was appended. */
CHECKED int frames_add_text(struct frames *frames, struct str text);

/* The same for a ping, of at most 125 bytes. */
CHECKED int frames_add_ping(struct frames *frames, struct str payload);

/* Empties it, and gives back what an unusually large message took. */
void frames_clear(struct frames *frames);

void frames_free(struct frames *frames);

#endif
