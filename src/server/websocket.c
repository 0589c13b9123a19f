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

int ws_frame_add(struct buf *out, enum ws_opcode opcode, struct str payload)
{
	unsigned char header[10] = { (unsigned char)(0x80 | opcode) };
	size_t extra = payload.len < 126 ? 0 : payload.len <= 0xffff ? 2 : 8;

	if (buf_reserve(out, sizeof(header) + payload.len))
		return -ENOMEM;
	header[1] = (unsigned char)(extra == 0 ? payload.len : extra == 2 ? 126 : 127);
	for (size_t i = 0; i < extra; i++)
		header[2 + i] = (unsigned char)((uint64_t)payload.len >> (8 * (extra - 1 - i)));
	return buf_add(out, header, 2 + extra) || buf_add_str(out, payload) ? -ENOMEM : 0;
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
