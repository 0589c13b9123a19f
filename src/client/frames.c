#include "client/frames.h"

#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <sys/random.h>

#define FINAL_TEXT 0x81
#define FINAL_PING 0x89
#define MASKED 0x80
#define LENGTH_16 126
#define LENGTH_64 127
#define MASK_SIZE 4
#define HEAD_MAX (2 + 8 + MASK_SIZE)

/* What is kept for the next frames. */
#define KEEP (64 * 1024)

/* RFC 6455 wants masks that nobody can foresee. */
static int take_mask(struct frames *frames, unsigned char *mask)
{
	if (frames->random_left < MASK_SIZE) {
		ssize_t n = getrandom(frames->random, sizeof(frames->random), 0);

		if (n < MASK_SIZE)
			return n < 0 ? -errno : -EIO;
		frames->random_left = (size_t)n;
	}
	frames->random_left -= MASK_SIZE;
	memcpy(mask, frames->random + frames->random_left, MASK_SIZE);
	return 0;
}

/* Answers the size. */
static size_t write_head(unsigned char *head, unsigned char first, size_t len)
{
	uint16_t len16 = htobe16((uint16_t)len);
	uint64_t len64 = htobe64(len);

	head[0] = first;
	if (len < LENGTH_16) {
		head[1] = (unsigned char)(MASKED | len);
		return 2;
	}
	if (len <= UINT16_MAX) {
		head[1] = MASKED | LENGTH_16;
		memcpy(head + 2, &len16, sizeof(len16));
		return 2 + sizeof(len16);
	}
	head[1] = MASKED | LENGTH_64;
	memcpy(head + 2, &len64, sizeof(len64));
	return 2 + sizeof(len64);
}

static void copy_masked(char *to, struct str text, const unsigned char *mask)
{
	size_t i = 0;
	uint64_t wide, word;

	memcpy(&wide, mask, MASK_SIZE);
	memcpy((char *)&wide + MASK_SIZE, mask, MASK_SIZE);
	for (; i + sizeof(word) <= text.len; i += sizeof(word)) {
		memcpy(&word, text.p + i, sizeof(word));
		word ^= wide;
		memcpy(to + i, &word, sizeof(word));
	}
	for (; i < text.len; i++)
		to[i] = (char)((unsigned char)text.p[i] ^ mask[i % MASK_SIZE]);
}

static int add(struct frames *frames, unsigned char first, struct str text)
{
	unsigned char head[HEAD_MAX];
	size_t size = write_head(head, first, text.len);
	int r = take_mask(frames, head + size);

	if (r == 0)
		r = buf_reserve(&frames->out, size + MASK_SIZE + text.len);
	if (r)
		return r;
	r = buf_add(&frames->out, head, size + MASK_SIZE);
	if (r)
		return r;
	copy_masked(frames->out.p + frames->out.len, text, head + size);
	frames->out.len += text.len;
	frames->out.p[frames->out.len] = '\0';
	return 0;
}

int frames_add_text(struct frames *frames, struct str text)
{
	return add(frames, FINAL_TEXT, text);
}

int frames_add_ping(struct frames *frames, struct str payload)
{
	return add(frames, FINAL_PING, payload);
}

void frames_clear(struct frames *frames)
{
	if (frames->out.capacity > KEEP)
		buf_free(&frames->out);
	buf_clear(&frames->out);
}

void frames_free(struct frames *frames)
{
	buf_free(&frames->out);
}
