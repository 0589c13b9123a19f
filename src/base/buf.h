/* Byte strings: a borrowed slice (struct str) and a growable owner (struct buf). Neither is ended by
 * a NUL unless a comment says so; both carry their length. */
#ifndef HPKVFS_BASE_BUF_H
#define HPKVFS_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* Borrowed bytes. The owner outlives the slice. */
struct str {
	const char *p;
	size_t len;
};

/* A slice of a literal. */
#define STR(literal) ((struct str){ (literal), sizeof(literal) - 1 })

static inline struct str str_of(const char *p, size_t len)
{
	return (struct str){ p, len };
}

static inline struct str str_c(const char *cstring)
{
	return (struct str){ cstring, strlen(cstring) };
}

static inline bool str_equal(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static inline bool str_starts(struct str s, struct str prefix)
{
	return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.p, prefix.p, prefix.len) == 0);
}

/* Order of bytes, the order of keys in the store. Answers <0, 0 or >0. */
int str_compare(struct str a, struct str b);

/* The first `len` bytes removed; `len` is at most s.len. */
static inline struct str str_skip(struct str s, size_t len)
{
	return (struct str){ s.p + len, s.len - len };
}

/* Owned bytes. Start with {0} (or BUF_INIT); free with buf_free or declare with CLEANUP(buf_free).
 * While capacity is not 0 a NUL stands behind the last byte, so that p is usable as a C string. */
struct buf {
	char *p;
	size_t len;
	size_t capacity;
};

#define BUF_INIT ((struct buf){ 0 })

void buf_free(struct buf *b);

/* The same for a secret, which is overwritten first. */
void buf_wipe(struct buf *b);

/* Empties, keeps the memory. */
void buf_clear(struct buf *b);

/* Makes room for `extra` more bytes. 0 or -ENOMEM (content unchanged). */
CHECKED int buf_reserve(struct buf *b, size_t extra);

/* Appends. 0 or -ENOMEM (content unchanged). */
CHECKED int buf_add(struct buf *b, const void *p, size_t len);
CHECKED int buf_add_str(struct buf *b, struct str s);
CHECKED int buf_add_char(struct buf *b, char c);
/* Its decimal digits: what buf_printf would do in many times the time. */
CHECKED int buf_add_unsigned(struct buf *b, uint64_t number);
/* Text for people, kept on one line: tabs, newlines, other control characters and backslashes as C writes them. */
CHECKED int buf_add_escaped(struct buf *b, struct str s);
CHECKED int buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Replaces the whole content by a copy of s, which may point into b. 0 or -ENOMEM. */
CHECKED int buf_set(struct buf *b, struct str s);

/* New length; growth is filled with NULs. 0 or -ENOMEM. */
CHECKED int buf_resize(struct buf *b, size_t len);

static inline struct str buf_str(const struct buf *b)
{
	return (struct str){ b->p ? b->p : "", b->len };
}

/* Transfers: the caller owns what is returned, b is empty afterwards. */
struct buf buf_take(struct buf *b);

#endif
