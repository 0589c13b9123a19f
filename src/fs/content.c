#include "fs/content.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/utf8.h"
#include "fs/base64.h"

/* The checksum is over the text of the parts. It is not there against an attacker, who could compute it, but so that a
 * text that happens to begin like a stub, or a stub that was cut or edited, is never taken for one. */
#define CHECKSUM_LEN 16
#define ID_TIME_LEN 11

static bool is_hex(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
			return false;
	}
	return true;
}

/* The first `len` (even, at most 64) hex digits of the SHA-256, NUL-ended. */
static int sha256_hex(struct str s, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (EVP_Digest(s.len ? s.p : "", s.len, digest, NULL, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	for (size_t i = 0; i < len / 2; i++) {
		out[2 * i] = digits[digest[i] >> 4];
		out[2 * i + 1] = digits[digest[i] & 15];
	}
	out[len] = '\0';
	return 0;
}

int content_hash(struct str value, char out[CONTENT_HASH_LEN + 1])
{
	return sha256_hex(value, CONTENT_HASH_LEN, out);
}

/* --- fields --- */

/* Takes everything up to the separator, or to the end, off *rest. False if *rest was exhausted before: its p is NULL. */
static bool next_field(struct str *rest, char separator, struct str *field)
{
	const char *end;

	if (!rest->p)
		return false;
	end = rest->len ? memchr(rest->p, separator, rest->len) : NULL;
	if (end) {
		*field = str_of(rest->p, (size_t)(end - rest->p));
		*rest = str_skip(*rest, field->len + 1);
	} else {
		*field = *rest;
		*rest = str_of(NULL, 0);
	}
	return true;
}

/* A decimal number as the encoder writes it: no sign, no leading zeros. */
static bool parse_number(struct str s, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;

	if (s.len == 0 || (s.len > 1 && s.p[0] == '0'))
		return false;
	for (size_t i = 0; i < s.len; i++) {
		uint64_t digit = (uint64_t)(s.p[i] - '0');

		if (s.p[i] < '0' || s.p[i] > '9' || n > (max - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*out = n;
	return true;
}

bool content_id_parse(struct str text, struct content_id *id, int64_t *created_ms)
{
	int64_t ms = 0;

	if (text.len != CONTENT_ID_LEN || !is_hex(text))
		return false;
	for (size_t i = 0; i < ID_TIME_LEN; i++)
		ms = ms << 4 | (text.p[i] <= '9' ? text.p[i] - '0' : text.p[i] - 'a' + 10);
	memcpy(id->hex, text.p, CONTENT_ID_LEN);
	id->hex[CONTENT_ID_LEN] = '\0';
	*created_ms = ms;
	return true;
}

int content_id_new(int64_t now_ms, struct content_id *id)
{
	uint64_t random[2];

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -EIO;
	snprintf(id->hex, sizeof(id->hex), "%011" PRIx64 "%016" PRIx64 "%016" PRIx64,
		 (uint64_t)(now_ms < 0 ? 0 : now_ms) & 0xfffffffffff, random[0], random[1]);
	return 0;
}

bool content_hole_next(struct str *rest, uint32_t *first, uint32_t *count)
{
	struct str range, part;
	uint64_t number;

	if (rest->len == 0)
		return false;
	if (!next_field(rest, ',', &range) || !next_field(&range, '+', &part) ||
	    !parse_number(part, CONTENT_MAX_CHUNKS, &number))
		return false;
	*first = (uint32_t)number;
	if (!next_field(&range, '+', &part) || range.p || !parse_number(part, CONTENT_MAX_CHUNKS, &number))
		return false;
	*count = (uint32_t)number;
	return true;
}

uint32_t content_chunk_count(const struct content_part *part)
{
	return (uint32_t)((part->size - 1) / part->chunk_size + 1);
}

/* Ranges in order, none empty, none touching the next, none beyond the end. */
static bool check_holes(struct str holes, uint64_t chunks)
{
	struct str rest = holes;
	uint64_t free_from = 0;

	if (holes.len == 0)
		return false;
	do {
		uint32_t first, count;

		if (!content_hole_next(&rest, &first, &count))
			return false;
		if (first < free_from || count == 0 || (uint64_t)first + count > chunks)
			return false;
		free_from = (uint64_t)first + count + 1;
	} while (rest.p);
	return true;
}

/* --- parts --- */

static bool parse_inline(struct str base64, struct content_part *part)
{
	size_t size;

	if (!base64_check(base64, &size))
		return false;
	part->kind = CONTENT_INLINE;
	part->base64 = base64;
	part->size = size;
	return true;
}

static bool parse_chunks(struct str text, struct content_part *part)
{
	struct str field;
	int64_t created_ms;

	part->kind = CONTENT_CHUNKS;
	if (!next_field(&text, ':', &field) || !content_id_parse(field, &part->id, &created_ms))
		return false;
	if (!next_field(&text, ':', &field) || !parse_number(field, CONTENT_MAX_SIZE, &part->size) || part->size == 0)
		return false;
	if (!next_field(&text, ':', &field) || !parse_number(field, CONTENT_MAX_CHUNK_SIZE, &part->chunk_size) ||
	    part->chunk_size == 0 || (part->size - 1) / part->chunk_size >= CONTENT_MAX_CHUNKS)
		return false;
	if (!next_field(&text, ':', &field) || !str_equal(field, STR("b64")))
		return false;
	part->encoding = CONTENT_BASE64;
	if (!next_field(&text, ':', &field))
		return true;
	part->holes = field;
	return !text.p && check_holes(field, content_chunk_count(part));
}

static bool parse_part(struct str text, struct content_part *part)
{
	*part = (struct content_part){ 0 };
	if (text.len > 0 && text.p[0] == '=')
		return parse_inline(str_skip(text, 1), part);
	return parse_chunks(text, part);
}

/* Reads the parts into `out`, and sees that all sizes together are one that a file can have. */
static bool parse_parts(struct str parts, struct content *out)
{
	uint64_t total = out->text.len;
	struct str field;

	out->part_count = 0;
	while (next_field(&parts, ' ', &field)) {
		struct content_part *part = &out->parts[out->part_count];

		if (out->part_count == CONTENT_MAX_PARTS || !parse_part(field, part))
			return false;
		if (part->size > CONTENT_MAX_SIZE - total)
			return false;
		total += part->size;
		out->part_count++;
	}
	return true;
}

/* Sets *stub; out is filled only if it is one. */
static int decode_stub(struct str value, struct content *out, bool *stub)
{
	struct str line = str_skip(value, strlen(CONTENT_MAGIC));
	const char *newline = line.len ? memchr(line.p, '\n', line.len) : NULL;
	char checksum[CHECKSUM_LEN + 1];
	struct str parts;
	int rc;

	*stub = false;
	if (!newline)
		return 0;
	line.len = (size_t)(newline - line.p);
	if (line.len < CHECKSUM_LEN + 1 || line.p[CHECKSUM_LEN] != ' ')
		return 0;
	parts = str_skip(line, CHECKSUM_LEN + 1);
	rc = sha256_hex(parts, CHECKSUM_LEN, checksum);
	if (rc < 0)
		return rc;
	if (memcmp(checksum, line.p, CHECKSUM_LEN) != 0)
		return 0;
	out->text = str_skip(value, (size_t)(newline + 1 - value.p));
	*stub = parse_parts(parts, out);
	return 0;
}

int content_decode(struct str value, struct content *out)
{
	bool stub = false;
	int rc = 0;

	if (str_starts(value, STR(CONTENT_MAGIC)))
		rc = decode_stub(value, out, &stub);
	if (rc < 0)
		return rc;
	out->stub = stub;
	if (!stub) {
		out->text = value;
		out->part_count = 0;
	}
	return 0;
}

uint64_t content_size(const struct content *content)
{
	uint64_t size = content->text.len;

	for (unsigned i = 0; i < content->part_count; i++)
		size += content->parts[i].size;
	return size;
}

int content_value_size(struct str value, uint64_t *size)
{
	struct content content;
	int rc;

	if (!str_starts(value, STR(CONTENT_MAGIC))) {
		*size = value.len;
		return 0;
	}
	rc = content_decode(value, &content);
	if (rc == 0)
		*size = content_size(&content);
	return rc;
}

int content_bytes(const struct content *content, struct buf *bytes)
{
	struct buf made = BUF_INIT;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < content->part_count; i++) {
		const struct content_part *part = &content->parts[i];

		rc = part->kind == CONTENT_INLINE ? base64_decode(part->base64, &made) : -EOPNOTSUPP;
	}
	if (rc == 0)
		rc = buf_add_str(&made, content->text);
	if (rc < 0) {
		buf_free(&made);
		return rc;
	}
	buf_free(bytes);
	*bytes = buf_take(&made);
	return 0;
}

/* --- encoding --- */

bool content_is_plain(struct str bytes, size_t max_value)
{
	return bytes.len > 0 && bytes.len <= max_value && !memchr(bytes.p, 0, bytes.len) && utf8_valid(bytes) &&
	       !str_starts(bytes, STR(CONTENT_MAGIC));
}

/* Puts line and text around the parts, and the result into *value. */
static int finish_stub(struct str parts, struct str text, struct buf *value)
{
	struct buf made = BUF_INIT;
	char checksum[CHECKSUM_LEN + 1];
	int rc = sha256_hex(parts, CHECKSUM_LEN, checksum);

	if (rc == 0)
		rc = buf_printf(&made, CONTENT_MAGIC "%s ", checksum);
	if (rc == 0)
		rc = buf_add_str(&made, parts);
	if (rc == 0)
		rc = buf_add_char(&made, '\n');
	if (rc == 0)
		rc = buf_add_str(&made, text);
	if (rc < 0) {
		buf_free(&made);
		return rc;
	}
	buf_free(value);
	*value = buf_take(&made);
	return 0;
}

int content_encode(struct str bytes, size_t max_value, struct buf *value)
{
	CLEANUP(buf_free) struct buf part = BUF_INIT;
	size_t frame = strlen(CONTENT_MAGIC) + CHECKSUM_LEN + strlen(" =\n");
	int rc;

	if (content_is_plain(bytes, max_value))
		return buf_set(value, bytes);
	if (bytes.len > max_value || frame + base64_length(bytes.len) > max_value)
		return -EFBIG;
	rc = buf_add_char(&part, '=');
	if (rc == 0)
		rc = base64_encode(bytes, &part);
	return rc < 0 ? rc : finish_stub(buf_str(&part), STR(""), value);
}

static int add_part(const struct content_part *part, struct buf *out)
{
	int rc;

	if (part->kind == CONTENT_INLINE) {
		rc = buf_add_char(out, '=');
		return rc < 0 ? rc : buf_add_str(out, part->base64);
	}
	rc = buf_printf(out, "%s:%" PRIu64 ":%" PRIu64 ":b64", part->id.hex, part->size, part->chunk_size);
	if (rc == 0 && part->holes.len > 0) {
		rc = buf_add_char(out, ':');
		if (rc == 0)
			rc = buf_add_str(out, part->holes);
	}
	return rc;
}

int content_encode_stub(const struct content *content, struct buf *value)
{
	CLEANUP(buf_free) struct buf parts = BUF_INIT;
	struct content check = { .text = content->text };
	int rc = 0;

	if (content->part_count == 0 || content->part_count > CONTENT_MAX_PARTS)
		return -EINVAL;
	for (unsigned i = 0; rc == 0 && i < content->part_count; i++) {
		if (i > 0)
			rc = buf_add_char(&parts, ' ');
		if (rc == 0)
			rc = add_part(&content->parts[i], &parts);
	}
	if (rc < 0)
		return rc;
	/* What cannot be read back must not be written. */
	if (!parse_parts(buf_str(&parts), &check) || check.part_count != content->part_count)
		return -EINVAL;
	return finish_stub(buf_str(&parts), content->text, value);
}
