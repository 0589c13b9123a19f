#include "fs/names.h"

#include <errno.h>
#include <stdint.h>

#include "base/utf8.h"

/* Escapes are found the same way in both directions: at a `%`, pass over every `25`, and see what follows. In a name
 * without any `25` it is an escape; with k of them it stands for the same text with k - 1. In a segment every
 * such text gets one more. Since nothing that an escape stands for (NUL, `/`, or a whole segment) can be part of
 * another escape, the two are inverse to each other. */

#define GUARD "25"
#define GUARD_LEN 2

static bool is_text(struct str s, const char *text)
{
	return str_equal(s, str_c(text));
}

/* Whether `tail`, which reaches to the end and stands behind a `%` and guards, reads as an escape of one byte; sets what it
 * stands for. */
static bool is_byte_escape(const struct names_rules *rules, struct str tail, char *byte)
{
	if (str_starts(tail, STR("00"))) {
		*byte = '\0';
		return true;
	}
	if (rules->delimiter != '/' && str_starts(tail, STR("2F"))) {
		*byte = '/';
		return true;
	}
	return false;
}

static bool is_whole_escape(struct str tail)
{
	return is_text(tail, "-") || is_text(tail, ".") || is_text(tail, "..") || is_text(tail, "=");
}

/* What stands behind the `%` at `at` and its guards. */
static struct str escape_tail(struct str s, size_t at)
{
	struct str tail = str_skip(s, at + 1);

	while (str_starts(tail, STR(GUARD)))
		tail = str_skip(tail, GUARD_LEN);
	return tail;
}

static bool has_byte(struct str s, char c)
{
	return s.len > 0 && memchr(s.p, c, s.len);
}

int names_rules_check(const struct names_rules *rules)
{
	unsigned char c = (unsigned char)rules->delimiter;

	if (c == 0 || c >= 0x80 || strchr("%-025F", c))
		return -EINVAL;
	if (!utf8_valid(rules->prefix) || has_byte(rules->prefix, '\0'))
		return -EILSEQ;
	/* A directory's record: one byte of name and the delimiter. */
	if (rules->prefix.len + strlen(NAMES_RECORDS) + 2 > rules->max_key)
		return -ENAMETOOLONG;
	return 0;
}

bool names_is_value(struct str name)
{
	return is_text(name, NAMES_VALUE);
}

static int check_name(const struct names_rules *rules, struct str name)
{
	if (!utf8_valid(name))
		return -EILSEQ;
	if (name.len == 0 || is_text(name, ".") || is_text(name, "..") || names_is_value(name))
		return -EINVAL;
	if (has_byte(name, '\0') || has_byte(name, '/') || has_byte(name, rules->delimiter))
		return -EINVAL;
	return 0;
}

bool names_valid(const struct names_rules *rules, struct str name)
{
	return check_name(rules, name) == 0;
}

/* Appends what the `%` at *at stands for, alone or as an escape, and moves *at behind it. */
static int add_unescaped(const struct names_rules *rules, struct str name, size_t *at, struct buf *out)
{
	size_t percent = *at;
	struct str tail = escape_tail(name, percent);
	size_t behind = name.len - tail.len;
	size_t text = percent + 1 + GUARD_LEN;
	char byte;
	int rc;

	if (!is_byte_escape(rules, tail, &byte)) {
		*at = percent + 1;
		return buf_add_char(out, '%');
	}
	*at = behind + 2;
	if (behind == percent + 1)
		return buf_add_char(out, byte);
	rc = buf_add_char(out, '%');
	return rc < 0 ? rc : buf_add(out, name.p + text, *at - text);
}

/* Appends the segment of a name that was checked. */
static int add_segment(const struct names_rules *rules, struct str name, struct buf *out)
{
	struct str tail = name.p[0] == '%' ? escape_tail(name, 0) : name;
	int rc = 0;

	if (name.p[0] == '%' && is_whole_escape(tail)) {
		if (tail.len + 1 == name.len)
			return is_text(tail, "-") ? 0 : buf_add_str(out, tail);
		rc = buf_add_char(out, '%');
		return rc < 0 ? rc : buf_add_str(out, str_skip(name, 1 + GUARD_LEN));
	}
	for (size_t at = 0; rc == 0 && at < name.len;) {
		if (name.p[at] == '%')
			rc = add_unescaped(rules, name, &at, out);
		else
			rc = buf_add_char(out, name.p[at++]);
	}
	return rc;
}

static int add_guarded(struct str text, struct buf *out)
{
	int rc = buf_add_str(out, STR("%" GUARD));

	return rc < 0 ? rc : buf_add_str(out, str_skip(text, 1));
}

/* Appends the name of a segment that was checked. */
static int add_name(const struct names_rules *rules, struct str segment, struct buf *out)
{
	char ignored;

	if (segment.len == 0)
		return buf_add_str(out, STR("%-"));
	if (is_text(segment, ".") || is_text(segment, ".."))
		return buf_add_char(out, '%') ?: buf_add_str(out, segment);
	if (segment.p[0] == '%' && is_whole_escape(escape_tail(segment, 0)))
		return add_guarded(segment, out);
	for (size_t at = 0; at < segment.len; at++) {
		char c = segment.p[at];
		int rc;

		if (c == '\0')
			rc = buf_add_str(out, STR("%00"));
		else if (c == '/')
			rc = buf_add_str(out, STR("%2F"));
		else if (c == '%' && is_byte_escape(rules, escape_tail(segment, at), &ignored))
			rc = buf_add_str(out, STR("%" GUARD));
		else
			rc = buf_add_char(out, c);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Replaces *out by *made where all went well, else drops *made. */
static int finish(int rc, struct buf *made, struct buf *out)
{
	if (rc < 0) {
		buf_free(made);
		return rc;
	}
	buf_free(out);
	*out = buf_take(made);
	return 0;
}

int names_segment_from_name(const struct names_rules *rules, struct str name, struct buf *segment)
{
	struct buf made = BUF_INIT;
	int rc = check_name(rules, name);

	if (rc == 0)
		rc = add_segment(rules, name, &made);
	return finish(rc, &made, segment);
}

static int check_segment(const struct names_rules *rules, struct str segment)
{
	if (!utf8_valid(segment))
		return -EILSEQ;
	return has_byte(segment, rules->delimiter) ? -EINVAL : 0;
}

int names_name_from_segment(const struct names_rules *rules, struct str segment, struct buf *name)
{
	struct buf made = BUF_INIT;
	int rc = check_segment(rules, segment);

	if (rc == 0)
		rc = add_name(rules, segment, &made);
	return finish(rc, &made, name);
}

int names_root_record(const struct names_rules *rules, struct buf *dir_record)
{
	struct buf made = BUF_INIT;
	int rc = buf_add_str(&made, rules->prefix);

	if (rc == 0)
		rc = buf_add_str(&made, STR(NAMES_RECORDS));
	return finish(rc, &made, dir_record);
}

/* The keys of the directory itself, as a file: without the last delimiter. */
static int own_value(const struct names_rules *rules, struct str dir_key, struct str dir_record, struct buf *key,
		     struct buf *record)
{
	int rc;

	if (dir_key.len <= rules->prefix.len || dir_record.len == 0)
		return -EINVAL;
	rc = buf_add(key, dir_key.p, dir_key.len - 1);
	return rc < 0 ? rc : buf_add(record, dir_record.p, dir_record.len - 1);
}

static int child(const struct names_rules *rules, struct str dir_key, struct str dir_record, struct str name,
		 bool is_dir, struct buf *key, struct buf *record)
{
	int rc;

	if (names_is_value(name))
		return is_dir ? -EINVAL : own_value(rules, dir_key, dir_record, key, record);
	rc = check_name(rules, name);
	if (rc == 0)
		rc = buf_add_str(key, dir_key);
	if (rc == 0)
		rc = add_segment(rules, name, key);
	if (rc == 0)
		rc = buf_add_str(record, dir_record);
	if (rc == 0)
		rc = buf_add_str(record, name);
	if (rc == 0 && is_dir)
		rc = buf_add_char(key, rules->delimiter);
	if (rc == 0 && is_dir)
		rc = buf_add_char(record, rules->delimiter);
	return rc;
}

int names_child(const struct names_rules *rules, struct str dir_key, struct str dir_record, struct str name,
		bool is_dir, struct buf *key, struct buf *record)
{
	CLEANUP(buf_free) struct buf new_key = BUF_INIT;
	CLEANUP(buf_free) struct buf new_record = BUF_INIT;
	int rc = child(rules, dir_key, dir_record, name, is_dir, &new_key, &new_record);

	if (rc < 0)
		return rc;
	if (new_key.len == 0)
		return -EINVAL;
	if (new_key.len > rules->max_key || new_record.len > rules->max_key)
		return -ENAMETOOLONG;
	if (key) {
		buf_free(key);
		*key = buf_take(&new_key);
	}
	if (record) {
		buf_free(record);
		*record = buf_take(&new_record);
	}
	return 0;
}

/* Whether `a` followed by `b` begins with `prefix`. */
static bool joined_starts(struct str a, struct str b, struct str prefix)
{
	if (a.len >= prefix.len)
		return str_starts(a, prefix);
	return str_starts(prefix, a) && str_starts(b, str_skip(prefix, a.len));
}

bool names_is_reserved(const struct names_rules *rules, struct str dir_key, struct str segment)
{
	if (str_equal(segment, STR(NAMES_RESERVED)))
		return true;
	if (!str_starts(dir_key, rules->prefix))
		return false;
	return joined_starts(str_skip(dir_key, rules->prefix.len), segment, STR(NAMES_RESERVED "/"));
}

bool names_key_is_reserved(const struct names_rules *rules, struct str key)
{
	struct names_split part = { .rest = key };

	if (!str_starts(key, rules->prefix))
		return false;
	part.rest = str_skip(key, rules->prefix.len);
	if (str_starts(part.rest, STR(NAMES_RESERVED "/")))
		return true;
	do {
		if (names_split(rules, str_of("", 0), part.rest, &part) < 0)
			return false;
		if (str_equal(part.segment, STR(NAMES_RESERVED)))
			return true;
	} while (part.deeper);
	return false;
}

int names_split(const struct names_rules *rules, struct str dir, struct str key, struct names_split *out)
{
	struct str below;
	const char *end;

	if (!str_starts(key, dir))
		return -EINVAL;
	below = str_skip(key, dir.len);
	end = below.len ? memchr(below.p, rules->delimiter, below.len) : NULL;
	if (end) {
		out->segment = str_of(below.p, (size_t)(end - below.p));
		out->rest = str_skip(below, out->segment.len + 1);
		out->deeper = true;
	} else {
		out->segment = below;
		out->rest = str_skip(below, below.len);
		out->deeper = false;
	}
	return 0;
}

int names_first(struct str prefix, struct buf *out)
{
	return buf_set(out, prefix.len ? prefix : STR("\x01"));
}

int names_last(struct str prefix, size_t max_key, struct buf *out)
{
	/* The greatest character of each length in UTF-8. */
	static const char *const greatest[] = { "\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf" };
	struct buf made = BUF_INIT;
	int rc = buf_add_str(&made, prefix);
	size_t most = prefix.len + NAMES_SHOWN_BYTES + 4;

	if (most > max_key)
		most = max_key;
	while (rc == 0 && made.len < most) {
		size_t room = most - made.len;

		if (room > 4)
			room = 4;
		rc = buf_add(&made, greatest[room - 1], room);
	}
	return finish(rc, &made, out);
}

static int add_path(const struct names_rules *rules, struct str key, char separator, struct buf *path)
{
	struct names_split part = { .rest = key };
	int rc;

	do {
		rc = names_split(rules, str_of("", 0), part.rest, &part);
		if (rc == 0)
			rc = check_segment(rules, part.segment);
		if (rc == 0)
			rc = add_name(rules, part.segment, path);
		if (rc == 0 && part.deeper)
			rc = buf_add_char(path, separator);
	} while (rc == 0 && part.deeper);
	return rc;
}

int names_path_from_key(const struct names_rules *rules, struct str key, bool also_directory, struct buf *path)
{
	struct buf made = BUF_INIT;
	int rc;

	if (key.len == 0 || !str_starts(key, rules->prefix))
		return -EINVAL;
	rc = add_path(rules, str_skip(key, rules->prefix.len), '/', &made);
	if (rc == 0 && also_directory)
		rc = buf_add_str(&made, STR("/" NAMES_VALUE));
	return finish(rc, &made, path);
}

int names_key_from_path(const struct names_rules *rules, struct str path, struct buf *key)
{
	CLEANUP(buf_free) struct buf at_key = BUF_INIT;
	CLEANUP(buf_free) struct buf at_record = BUF_INIT;
	bool last = false;
	int rc;

	rc = buf_set(&at_key, rules->prefix);
	if (rc == 0)
		rc = names_root_record(rules, &at_record);
	while (rc == 0 && !last) {
		const char *slash = path.len ? memchr(path.p, '/', path.len) : NULL;
		struct str name = slash ? str_of(path.p, (size_t)(slash - path.p)) : path;

		last = !slash;
		rc = names_child(rules, buf_str(&at_key), buf_str(&at_record), name, !last, &at_key, &at_record);
		if (!last)
			path = str_skip(path, name.len + 1);
	}
	return finish(rc, &at_key, key);
}

int names_record_of_file(const struct names_rules *rules, struct str key, struct buf *record)
{
	struct buf made = BUF_INIT;
	int rc = str_starts(key, rules->prefix) ? names_root_record(rules, &made) : -EINVAL;

	if (rc == 0)
		rc = add_path(rules, str_skip(key, rules->prefix.len), rules->delimiter, &made);
	return finish(rc, &made, record);
}

int names_record_of_dir(const struct names_rules *rules, struct str dir_key, struct buf *dir_record)
{
	struct buf made = BUF_INIT;
	int rc;

	if (str_equal(dir_key, rules->prefix))
		return names_root_record(rules, dir_record);
	if (dir_key.len == 0 || dir_key.p[dir_key.len - 1] != rules->delimiter)
		return -EINVAL;
	rc = names_record_of_file(rules, str_of(dir_key.p, dir_key.len - 1), &made);
	if (rc == 0)
		rc = buf_add_char(&made, rules->delimiter);
	return finish(rc, &made, dir_record);
}
