#include "server/websocket.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

static bool is_control(unsigned opcode)
{
	return opcode >= WS_CLOSE;
}

static bool known_opcode(unsigned opcode)
{
	return opcode <= WS_BINARY || (opcode >= WS_CLOSE && opcode <= WS_PONG);
}

static void unmask(char *p, size_t len, const unsigned char mask[4])
{
	uint32_t word;
	size_t i = 0;

	memcpy(&word, mask, 4);
	for (; i + 4 <= len; i += 4) {
		uint32_t part;

		memcpy(&part, p + i, 4);
		part ^= word;
		memcpy(p + i, &part, 4);
	}
	for (; i < len; i++)
		p[i] = (char)(p[i] ^ mask[i % 4]);
}

int ws_frame_parse(char *input, size_t len, size_t max, struct ws_frame *out)
{
	const unsigned char *p = (const unsigned char *)input;
	size_t header = 2, extra;
	uint64_t size;

	if (len < header)
		return 0;
	/* reserved bits, an unknown opcode, or no mask */
	if ((p[0] & 0x70) || !known_opcode(p[0] & 15) || !(p[1] & 0x80))
		return -WS_STATUS_PROTOCOL;
	size = p[1] & 127;
	if (is_control(p[0] & 15) && (size > 125 || !(p[0] & 0x80)))
		return -WS_STATUS_PROTOCOL;
	extra = size == 126 ? 2 : size == 127 ? 8 : 0;
	if (len < header + extra)
		return 0;
	if (extra)
		size = 0;
	for (size_t i = 0; i < extra; i++)
		size = size << 8 | p[header + i];
	if (size > max)
		return -WS_STATUS_TOO_BIG;
	header += extra + 4;
	if (len < header || len - header < size)
		return 0;
	out->final = p[0] & 0x80;
	out->opcode = (enum ws_opcode)(p[0] & 15);
	out->payload = input + header;
	out->len = size;
	out->total = header + size;
	unmask(out->payload, size, p + header - 4);
	return 1;
}

#define HEADER_BYTES_MAX 10
/* Room that ws_frame_begin leaves: most replies are neither shorter nor longer than goes with it, and need not be moved. */
#define HEADER_BYTES 4

static size_t header_bytes(size_t payload)
{
	return payload < 126 ? 2 : payload <= 0xffff ? 4 : HEADER_BYTES_MAX;
}

static void write_header(char *p, enum ws_opcode opcode, size_t payload)
{
	size_t size = header_bytes(payload), extra = size - 2;

	p[0] = (char)(0x80 | opcode);
	p[1] = (char)(extra == 0 ? payload : extra == 2 ? 126 : 127);
	for (size_t i = 0; i < extra; i++)
		p[2 + i] = (char)((uint64_t)payload >> (8 * (extra - 1 - i)));
}

int ws_frame_begin(struct buf *out)
{
	return buf_add(out, "\0\0\0", HEADER_BYTES);
}

int ws_frame_end(struct buf *out, size_t before, enum ws_opcode opcode)
{
	size_t payload = out->len - before - HEADER_BYTES, size = header_bytes(payload);

	if (size != HEADER_BYTES) {
		if (buf_reserve(out, HEADER_BYTES_MAX))
			return -ENOMEM;
		memmove(out->p + before + size, out->p + before + HEADER_BYTES, payload + 1);
		out->len = before + size + payload;
	}
	write_header(out->p + before, opcode, payload);
	return 0;
}

void ws_frame_cancel(struct buf *out, size_t before)
{
	if (out->len > before)
		out->p[out->len = before] = '\0';
}

int ws_frame_add(struct buf *out, enum ws_opcode opcode, struct str payload)
{
	size_t before = out->len;
	int r = ws_frame_begin(out) || buf_add_str(out, payload) || ws_frame_end(out, before, opcode) ? -ENOMEM : 0;

	if (r)
		ws_frame_cancel(out, before);
	return r;
}

int ws_close_add(struct buf *out, enum ws_status status, const char *reason)
{
	CLEANUP(buf_free) struct buf payload = BUF_INIT;
	const char code[2] = { (char)(status >> 8), (char)status };

	if (buf_add(&payload, code, 2) || buf_add_str(&payload, str_c(reason)))
		return -ENOMEM;
	return ws_frame_add(out, WS_CLOSE, buf_str(&payload));
}

void ws_accept_key(struct str key, char out[29])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	unsigned char digest[EVP_MAX_MD_SIZE];
	char text[64 + sizeof(guid)];
	size_t len = key.len < 64 ? key.len : 64;

	memcpy(text, key.p, len);
	memcpy(text + len, guid, sizeof(guid) - 1);
	EVP_Digest(text, len + sizeof(guid) - 1, digest, NULL, EVP_sha1(), NULL);
	EVP_EncodeBlock((unsigned char *)out, digest, SHA_DIGEST_LENGTH);
}
