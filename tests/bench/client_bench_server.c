/* A server that is no limit: it answers every get and set at once, without JSON, without a store and many at a time, so that
 * what is measured is the client. Only for client_bench and its like: it believes whatever it is sent.
 *
 *   client_bench_server      writes the port of 127.0.0.1 on which it listens; serves one connection after the other
 *
 * Ends with its standard input. */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define HEAD "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
#define VALUE "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"
#define MASK_SIZE 4
#define CLOSE 8

static void die(const char *what)
{
	fprintf(stderr, "client_bench_server: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void check(int r)
{
	if (r < 0)
		die("out of memory");
}

/* --- sockets --- */

/* Ends the program when there is nobody left to serve. */
static void wait_for(int fd)
{
	struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };

	if (poll(fds, 2, -1) < 0)
		die("poll");
	if (fds[1].revents)
		exit(0);
}

/* False: the other side has hung up. */
static bool receive(int fd, struct buf *in)
{
	ssize_t n;

	check(buf_reserve(in, 64 * 1024));
	n = recv(fd, in->p + in->len, 64 * 1024, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN) {
		wait_for(fd);
		return receive(fd, in);
	}
	if (n <= 0)
		return false;
	in->len += (size_t)n;
	in->p[in->len] = '\0';
	return true;
}

static bool send_all(int fd, struct buf *out)
{
	size_t sent = 0;

	while (sent < out->len) {
		ssize_t n = send(fd, out->p + sent, out->len - sent, MSG_NOSIGNAL);

		if (n < 0)
			return false;
		sent += (size_t)n;
	}
	buf_clear(out);
	return true;
}

/* --- WebSocket --- */

static bool shake_hands(int fd, struct buf *in, struct buf *out)
{
	unsigned char digest[SHA_DIGEST_LENGTH], accept[32];
	char key[128];
	const char *line;

	while (!in->p || !strstr(in->p, "\r\n\r\n")) {
		if (!receive(fd, in))
			return false;
	}
	line = strcasestr(in->p, "sec-websocket-key:");
	if (!line || sscanf(line + strlen("sec-websocket-key:"), " %60[^ \r\n]", key) != 1)
		return false;
	strcat(key, GUID);
	SHA1((const unsigned char *)key, strlen(key), digest);
	EVP_EncodeBlock(accept, digest, sizeof(digest));
	check(buf_printf(out, "%s%s\r\n\r\n", HEAD, (const char *)accept));
	buf_clear(in);
	return send_all(fd, out);
}

static void add_frame(struct buf *out, const char *text, size_t len)
{
	uint16_t len16 = htobe16((uint16_t)len);

	check(buf_add_char(out, (char)0x81));
	check(buf_add_char(out, (char)(len < 126 ? len : 126)));
	if (len >= 126)
		check(buf_add(out, &len16, sizeof(len16)));
	check(buf_add(out, text, len));
}

static void answer(struct buf *out, const char *request)
{
	const char *id = strstr(request, "\"messageId\":");
	char text[512];
	int len;

	if (!id)
		return;
	if (strstr(request, "\"op\":1,"))
		len = snprintf(text, sizeof(text),
			       "{\"code\":200,\"messageId\":%ld,\"key\":\"bench:0000\",\"value\":\"%s\"}",
			       strtol(id + strlen("\"messageId\":"), NULL, 10), VALUE);
	else
		len = snprintf(text, sizeof(text), "{\"code\":200,\"messageId\":%ld,\"success\":true}",
			       strtol(id + strlen("\"messageId\":"), NULL, 10));
	add_frame(out, text, (size_t)len);
}

/* The size of the frame that begins at p, or 0: not all of it is there yet. A client's requests are below 64 KiB. */
static size_t take_frame(unsigned char *p, size_t len, struct buf *out, bool *closed)
{
	size_t head = 2, size;
	unsigned char after;

	if (len < 4)
		return 0;
	size = p[1] & 0x7f;
	if (size == 126) {
		size = (size_t)p[2] << 8 | p[3];
		head += 2;
	}
	if (len < head + MASK_SIZE + size)
		return 0;
	for (size_t i = 0; i < size; i++)
		p[head + MASK_SIZE + i] ^= p[head + i % MASK_SIZE];
	if ((p[0] & 0xf) == CLOSE)
		*closed = true;
	/* as text, for a moment */
	after = p[head + MASK_SIZE + size];
	p[head + MASK_SIZE + size] = '\0';
	if ((p[0] & 0xf) == 1)
		answer(out, (const char *)p + head + MASK_SIZE);
	p[head + MASK_SIZE + size] = after;
	return head + MASK_SIZE + size;
}

static void serve(int fd)
{
	CLEANUP(buf_free) struct buf in = BUF_INIT, out = BUF_INIT;
	bool closed = false;

	if (!shake_hands(fd, &in, &out))
		return;
	while (!closed && receive(fd, &in)) {
		size_t used = 0, size;

		while ((size = take_frame((unsigned char *)in.p + used, in.len - used, &out, &closed)))
			used += size;
		memmove(in.p, in.p + used, in.len - used + 1);
		in.len -= used;
		if (closed)
			check(buf_add(&out, "\x88\x02\x03\xe8", 4));
		if (!send_all(fd, &out))
			return;
	}
}

int main(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 16) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &size) < 0)
		die("no socket");
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	for (;;) {
		int client;

		wait_for(fd);
		client = accept(fd, NULL, NULL);
		if (client < 0)
			die("accept");
		serve(client);
		close(client);
	}
}
