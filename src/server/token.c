/* TOKEN is base64url(JSON) "." base64url(HMAC-SHA256 of the first part). */
#include "server/token.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#define MAC_BYTES 32

static void cleanup_json(json_t **tree)
{
	json_decref(*tree);
}

static int mac(const unsigned char *key, size_t key_len, struct str text, unsigned char out[MAC_BYTES])
{
	unsigned len = MAC_BYTES;

	return HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text.p, text.len, out, &len) ? 0 : -ENOMEM;
}

int token_key_derive(struct str api_key, unsigned char key[TOKEN_KEY_BYTES])
{
	return mac((const unsigned char *)api_key.p, api_key.len, STR("hpkvd websocket token 1"), key);
}

static int add_base64url(struct buf *out, const void *p, size_t len)
{
	size_t start = out->len, encoded = (len + 2) / 3 * 4;

	/* EVP_EncodeBlock writes a NUL as well */
	if (buf_resize(out, start + encoded + 1))
		return -ENOMEM;
	EVP_EncodeBlock((unsigned char *)out->p + start, p, (int)len);
	out->len = start + encoded;
	for (size_t i = start; i < out->len; i++)
		out->p[i] = out->p[i] == '+' ? '-' : out->p[i] == '/' ? '_' : out->p[i];
	while (out->len > start && out->p[out->len - 1] == '=')
		out->len--;
	return 0;
}

static int decode_base64url(struct str text, struct buf *out)
{
	CLEANUP(buf_free) struct buf padded = BUF_INIT;
	size_t padding = (4 - text.len % 4) % 4;
	int n;

	if (!text.len || padding == 3 || buf_set(&padded, text) || buf_add(&padded, "===", padding))
		return -EINVAL;
	for (size_t i = 0; i < text.len; i++) {
		char c = padded.p[i];

		if (c == '+' || c == '/' || c == '=')
			return -EINVAL;
		padded.p[i] = c == '-' ? '+' : c == '_' ? '/' : c;
	}
	if (buf_resize(out, padded.len / 4 * 3))
		return -ENOMEM;
	n = EVP_DecodeBlock((unsigned char *)out->p, (unsigned char *)padded.p, (int)padded.len);
	if (n < 0)
		return -EINVAL;
	out->len = (size_t)n - padding;
	return 0;
}

/* The members that a token carries, and its end. */
static json_t *claims(const json_t *request, int64_t expires_s)
{
	static const char *const names[] = { "subscribePatterns", "subscribeKeys", "accessPattern" };
	json_t *object = json_object();

	for (size_t i = 0; object && i < sizeof(names) / sizeof(names[0]); i++) {
		json_t *value = json_object_get(request, names[i]);

		if (value && json_object_set(object, names[i], value)) {
			json_decref(object);
			object = NULL;
		}
	}
	if (object && json_object_set_new(object, "expires", json_integer(expires_s))) {
		json_decref(object);
		object = NULL;
	}
	return object;
}

int token_add(struct buf *out, const unsigned char key[TOKEN_KEY_BYTES], const json_t *request, int64_t expires_s,
	      const char **why)
{
	CLEANUP(cleanup_json) json_t *object = NULL;
	CLEANUP_FREE char *text = NULL;
	unsigned char signature[MAC_BYTES];
	struct grant *grant;
	size_t start = out->len;

	if (grant_new(request, &grant, why))
		return -EINVAL;
	grant_unref(grant);
	object = claims(request, expires_s);
	text = json_dumps(object, JSON_COMPACT);
	if (!text || add_base64url(out, text, strlen(text)) ||
	    mac(key, TOKEN_KEY_BYTES, str_of(out->p + start, out->len - start), signature) || buf_add_char(out, '.') ||
	    add_base64url(out, signature, sizeof(signature)))
		return -ENOMEM;
	return 0;
}

static int read_claims(struct str encoded, int64_t now_s, struct grant **out)
{
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	CLEANUP(cleanup_json) json_t *object = NULL;
	int64_t expires_s;
	const char *why;

	if (decode_base64url(encoded, &text))
		return -EACCES;
	object = json_loadb(text.p, text.len, JSON_ALLOW_NUL, NULL);
	expires_s = json_integer_value(json_object_get(object, "expires"));
	if (expires_s <= now_s || grant_new(object, out, &why))
		return -EACCES;
	(*out)->expires_s = expires_s;
	return 0;
}

int token_read(struct str token, const unsigned char key[TOKEN_KEY_BYTES], int64_t now_s, struct grant **out)
{
	CLEANUP(buf_free) struct buf given = BUF_INIT;
	unsigned char signature[MAC_BYTES];
	const char *dot = token.len ? memchr(token.p, '.', token.len) : NULL;
	struct str encoded;

	if (!dot)
		return -EACCES;
	encoded = str_of(token.p, (size_t)(dot - token.p));
	if (mac(key, TOKEN_KEY_BYTES, encoded, signature) || decode_base64url(str_skip(token, encoded.len + 1), &given))
		return -EACCES;
	if (given.len != MAC_BYTES || CRYPTO_memcmp(given.p, signature, MAC_BYTES) != 0)
		return -EACCES;
	return read_claims(encoded, now_s, out);
}
