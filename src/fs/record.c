#include "fs/record.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/json_depth.h"
#include "base/utf8.h"
#include "fs/base64.h"

/* Anyone can write a record's key, and jansson reads nested values by recursion: on a coroutine's stack a deep one
 * would be fatal. Records of this version nest twice. */
#define MAX_NESTING 16

static void xattr_deinit(struct record_xattr *xattr)
{
	buf_free(&xattr->name);
	buf_free(&xattr->value);
}

void record_init(struct record *record)
{
	*record = (struct record){ 0 };
}

void record_deinit(struct record *record)
{
	for (size_t i = 0; i < record->xattr_count; i++)
		xattr_deinit(&record->xattrs[i]);
	free(record->xattrs);
	buf_free(&record->target);
	record_init(record);
}

/* --- xattrs and target --- */

static int check_text(struct str text)
{
	if (!utf8_valid(text))
		return -EILSEQ;
	return text.len == 0 || memchr(text.p, 0, text.len) ? -EINVAL : 0;
}

/* Where the name stands, or would stand. */
static size_t xattr_position(const struct record *record, struct str name, bool *found)
{
	size_t at = 0;
	int order = 1;

	while (at < record->xattr_count) {
		order = str_compare(buf_str(&record->xattrs[at].name), name);
		if (order >= 0)
			break;
		at++;
	}
	*found = at < record->xattr_count && order == 0;
	return at;
}

const struct buf *record_xattr_find(const struct record *record, struct str name)
{
	bool found;
	size_t at = xattr_position(record, name, &found);

	return found ? &record->xattrs[at].value : NULL;
}

/* Puts an xattr, whose buffers it takes, at its place. */
static int xattr_insert(struct record *record, size_t at, struct record_xattr *xattr)
{
	struct record_xattr *grown = reallocarray(record->xattrs, record->xattr_count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	memmove(grown + at + 1, grown + at, (record->xattr_count - at) * sizeof(*grown));
	grown[at].name = buf_take(&xattr->name);
	grown[at].value = buf_take(&xattr->value);
	record->xattrs = grown;
	record->xattr_count++;
	record->has |= RECORD_XATTR;
	return 0;
}

int record_xattr_set(struct record *record, struct str name, struct str value)
{
	CLEANUP(xattr_deinit) struct record_xattr xattr = { 0 };
	bool found;
	size_t at = xattr_position(record, name, &found);
	int rc = check_text(name);

	if (rc < 0)
		return rc;
	if (found)
		return buf_set(&record->xattrs[at].value, value);
	rc = buf_set(&xattr.name, name);
	if (rc == 0)
		rc = buf_set(&xattr.value, value);
	return rc < 0 ? rc : xattr_insert(record, at, &xattr);
}

bool record_xattr_remove(struct record *record, struct str name)
{
	bool found;
	size_t at = xattr_position(record, name, &found);

	if (!found)
		return false;
	xattr_deinit(&record->xattrs[at]);
	record->xattr_count--;
	memmove(record->xattrs + at, record->xattrs + at + 1, (record->xattr_count - at) * sizeof(*record->xattrs));
	if (record->xattr_count == 0)
		record->has &= ~RECORD_XATTR;
	return true;
}

int record_set_target(struct record *record, struct str target)
{
	int rc = check_text(target);

	if (rc == 0)
		rc = buf_set(&record->target, target);
	if (rc == 0)
		record->has |= RECORD_TARGET;
	return rc;
}

int record_copy(const struct record *from, struct record *to)
{
	struct record made = *from;
	int rc = 0;

	made.xattrs = NULL;
	made.xattr_count = 0;
	made.target = BUF_INIT;
	if (from->has & RECORD_TARGET)
		rc = buf_set(&made.target, buf_str(&from->target));
	for (size_t i = 0; rc == 0 && i < from->xattr_count; i++)
		rc = record_xattr_set(&made, buf_str(&from->xattrs[i].name), buf_str(&from->xattrs[i].value));
	if (rc < 0) {
		record_deinit(&made);
		return rc;
	}
	record_deinit(to);
	*to = made;
	return 0;
}

/* --- members as text --- */

static bool valid_mode(json_int_t mode)
{
	if (mode < 0 || mode & ~(json_int_t)(S_IFMT | 07777))
		return false;
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return true;
	default:
		return false;
	}
}

static bool valid_hash(const char *hash)
{
	return strlen(hash) == CONTENT_HASH_LEN && strspn(hash, "0123456789abcdef") == CONTENT_HASH_LEN;
}

/* The decimal number itself, so that half a second before 1970 is -0.500000000. False where it has no such text. */
bool record_format_time(const struct timespec *time, char text[RECORD_TIME_SIZE])
{
	int64_t seconds = time->tv_sec;
	long ns = time->tv_nsec;
	bool negative = seconds < 0;

	if (ns < 0 || ns >= CLOCK_NS_PER_S)
		return false;
	if (negative && ns > 0) {
		seconds++;
		ns = CLOCK_NS_PER_S - ns;
	}
	if (seconds == INT64_MIN)
		return false;
	snprintf(text, RECORD_TIME_SIZE, "%s%" PRId64 ".%09ld", negative ? "-" : "", seconds < 0 ? -seconds : seconds,
		 ns);
	return true;
}

/* Only what record_format_time writes. */
static bool parse_time(const char *text, struct timespec *time)
{
	char again[RECORD_TIME_SIZE];
	char *end;
	long long seconds;
	long ns;

	if (strlen(text) >= RECORD_TIME_SIZE)
		return false;
	errno = 0;
	seconds = strtoll(text, &end, 10);
	if (errno || seconds == LLONG_MIN || *end != '.' || strlen(end + 1) != 9)
		return false;
	ns = strtol(end + 1, &end, 10);
	if (*end || ns < 0 || ns >= CLOCK_NS_PER_S)
		return false;
	if (text[0] == '-' && ns > 0) {
		seconds--;
		ns = CLOCK_NS_PER_S - ns;
	}
	time->tv_sec = seconds;
	time->tv_nsec = ns;
	return record_format_time(time, again) && strcmp(again, text) == 0;
}

/* --- decoding --- */

/* A member, or NULL where it is absent or null. */
static const json_t *member(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return json_is_null(value) ? NULL : value;
}

/* Reads an integer member: true if there is one or none, false where it is of another type or out of range. */
static bool decode_number(const json_t *object, const char *name, enum record_member bit, json_int_t max,
			  json_int_t *out, unsigned *has)
{
	const json_t *value = member(object, name);

	if (!value)
		return true;
	if (!json_is_integer(value))
		return false;
	*out = json_integer_value(value);
	*has |= bit;
	return *out >= 0 && *out <= max;
}

static bool decode_numbers(const json_t *object, struct record *out)
{
	json_int_t mode = 0, uid = 0, gid = 0, rdev = 0;

	/* The last uid and gid mean "unchanged" to the kernel. */
	if (!decode_number(object, "mode", RECORD_MODE, UINT32_MAX, &mode, &out->has) ||
	    !decode_number(object, "uid", RECORD_UID, UINT32_MAX - 1, &uid, &out->has) ||
	    !decode_number(object, "gid", RECORD_GID, UINT32_MAX - 1, &gid, &out->has) ||
	    !decode_number(object, "rdev", RECORD_RDEV, UINT32_MAX, &rdev, &out->has))
		return false;
	if (out->has & RECORD_MODE && !valid_mode(mode))
		return false;
	out->mode = (mode_t)mode;
	out->uid = (uid_t)uid;
	out->gid = (gid_t)gid;
	out->rdev = (uint32_t)rdev;
	return true;
}

static int decode_strings(const json_t *object, struct record *out)
{
	const json_t *mtime = member(object, "mtime");
	const json_t *hash = member(object, "hash");
	const json_t *target = member(object, "target");

	if (mtime) {
		if (!json_is_string(mtime) || !parse_time(json_string_value(mtime), &out->mtime))
			return -EINVAL;
		out->has |= RECORD_MTIME;
	}
	if (hash) {
		if (!json_is_string(hash) || !valid_hash(json_string_value(hash)))
			return -EINVAL;
		memcpy(out->hash, json_string_value(hash), CONTENT_HASH_LEN + 1);
		out->has |= RECORD_HASH;
	}
	if (!target)
		return 0;
	if (!json_is_string(target))
		return -EINVAL;
	return record_set_target(out, str_of(json_string_value(target), json_string_length(target)));
}

static int decode_xattrs(const json_t *object, struct record *out)
{
	/* jansson's iterators want the object without const. */
	json_t *xattrs = json_object_get(object, "xattr");
	const char *name;
	json_t *text;

	if (!xattrs || json_is_null(xattrs))
		return 0;
	if (!json_is_object(xattrs))
		return -EINVAL;
	json_object_foreach(xattrs, name, text) {
		CLEANUP(buf_free) struct buf value = BUF_INIT;
		int rc;

		if (json_is_null(text))
			continue;
		if (!json_is_string(text))
			return -EINVAL;
		rc = base64_decode(str_of(json_string_value(text), json_string_length(text)), &value);
		if (rc == 0)
			rc = record_xattr_set(out, str_c(name), buf_str(&value));
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int decode_members(const json_t *object, struct record *out)
{
	const json_t *version = json_object_get(object, "v");
	int rc;

	if (!json_is_integer(version) || json_integer_value(version) < 1)
		return -EINVAL;
	if (json_integer_value(version) > RECORD_VERSION)
		return -EPROTONOSUPPORT;
	if (!decode_numbers(object, out))
		return -EINVAL;
	rc = decode_strings(object, out);
	return rc < 0 ? rc : decode_xattrs(object, out);
}

int record_decode(struct str value, struct record *out)
{
	struct record made = { 0 };
	json_error_t error = { 0 };
	json_t *object;
	int rc;

	if (value.len == 0 || json_nests_deeper(value, MAX_NESTING))
		return -EINVAL;
	object = json_loadb(value.p, value.len, 0, &error);
	/* A fault of syntax always has a text; lack of memory mostly has none, but jansson calls some of it an invalid token. */
	if (!object)
		return error.text[0] ? -EINVAL : -ENOMEM;
	rc = json_is_object(object) ? decode_members(object, &made) : -EINVAL;
	json_decref(object);
	if (rc < 0) {
		record_deinit(&made);
		return rc;
	}
	record_deinit(out);
	*out = made;
	return 0;
}

/* --- encoding --- */

/* Takes `value`, which may be NULL for lack of memory. */
static int set_json(json_t *object, const char *name, json_t *value)
{
	return json_object_set_new(object, name, value) < 0 ? -ENOMEM : 0;
}

static int check_ranges(const struct record *r)
{
	char text[RECORD_TIME_SIZE];

	if ((r->has & RECORD_MODE && !valid_mode(r->mode)) || (r->has & RECORD_UID && r->uid == UINT32_MAX) ||
	    (r->has & RECORD_GID && r->gid == UINT32_MAX) ||
	    (r->has & RECORD_MTIME && !record_format_time(&r->mtime, text)) ||
	    (r->has & RECORD_HASH && !valid_hash(r->hash)) ||
	    (r->has & RECORD_TARGET && check_text(buf_str(&r->target)) < 0))
		return -EINVAL;
	return 0;
}

static int set_xattr(json_t *object, const struct record_xattr *xattr)
{
	CLEANUP(buf_free) struct buf text = BUF_INIT;
	int rc = base64_encode(buf_str(&xattr->value), &text);

	return rc < 0 ? rc : set_json(object, xattr->name.p, json_stringn(buf_str(&text).p, text.len));
}

/* The xattrs of `to`: all of them, or those that `from` has not like this; and null for those that only `from` has. */
static int set_xattrs(json_t *object, const struct record *from, const struct record *to, bool all)
{
	json_t *xattrs = json_object();
	int rc = set_json(object, "xattr", xattrs);

	for (size_t i = 0; rc == 0 && i < to->xattr_count; i++) {
		const struct record_xattr *xattr = &to->xattrs[i];
		const struct buf *old = record_xattr_find(from, buf_str(&xattr->name));

		if (all || !old || !str_equal(buf_str(old), buf_str(&xattr->value)))
			rc = set_xattr(xattrs, xattr);
	}
	for (size_t i = 0; rc == 0 && i < from->xattr_count; i++) {
		const struct buf *name = &from->xattrs[i].name;

		if (!record_xattr_find(to, buf_str(name)))
			rc = set_json(xattrs, name->p, json_null());
	}
	return rc;
}

/* Sets the members that `which` names, null where the record does not have them. */
static int set_members(json_t *object, const struct record *from, const struct record *to, unsigned which,
		       bool all_xattrs)
{
	char time[RECORD_TIME_SIZE] = "";
	int rc = set_json(object, "v", json_integer(RECORD_VERSION));

#define SET(bit, name, value) \
	(rc == 0 && which & (bit) ? set_json(object, name, to->has & (bit) ? (value) : json_null()) : rc)

	if (to->has & RECORD_MTIME && !record_format_time(&to->mtime, time))
		return -EINVAL;
	rc = SET(RECORD_MODE, "mode", json_integer(to->mode));
	rc = SET(RECORD_UID, "uid", json_integer(to->uid));
	rc = SET(RECORD_GID, "gid", json_integer(to->gid));
	rc = SET(RECORD_MTIME, "mtime", json_string(time));
	rc = SET(RECORD_HASH, "hash", json_string(to->hash));
	if (rc == 0 && which & RECORD_XATTR)
		rc = set_xattrs(object, from, to, all_xattrs);
	rc = SET(RECORD_TARGET, "target", json_stringn(to->target.p, to->target.len));
	return SET(RECORD_RDEV, "rdev", json_integer(to->rdev));
#undef SET
}

/* jansson goes on after some failures of its callback: they are remembered here. */
struct dump {
	struct buf text;
	int rc;
};

static int append(const char *text, size_t len, void *arg)
{
	struct dump *dump = arg;

	if (dump->rc == 0)
		dump->rc = buf_add(&dump->text, text, len);
	return dump->rc;
}

static int encode_members(const struct record *from, const struct record *to, unsigned which, bool all_xattrs,
			  struct buf *value)
{
	struct dump dump = { 0 };
	json_t *object;
	int rc = check_ranges(to);

	if (rc < 0)
		return rc;
	object = json_object();
	rc = object ? set_members(object, from, to, which, all_xattrs) : -ENOMEM;
	if (rc == 0 && (json_dump_callback(object, append, &dump, JSON_COMPACT) < 0 || dump.rc < 0))
		rc = -ENOMEM;
	json_decref(object);
	if (rc < 0) {
		buf_free(&dump.text);
		return rc;
	}
	buf_free(value);
	*value = buf_take(&dump.text);
	return 0;
}

int record_encode(const struct record *record, struct buf *value)
{
	return encode_members(record, record, record->has, true, value);
}

static bool same_xattrs(const struct record *a, const struct record *b)
{
	if (a->xattr_count != b->xattr_count)
		return false;
	for (size_t i = 0; i < a->xattr_count; i++) {
		if (!str_equal(buf_str(&a->xattrs[i].name), buf_str(&b->xattrs[i].name)) ||
		    !str_equal(buf_str(&a->xattrs[i].value), buf_str(&b->xattrs[i].value)))
			return false;
	}
	return true;
}

unsigned record_diff(const struct record *from, const struct record *to)
{
	unsigned both = from->has & to->has;
	unsigned differs = from->has ^ to->has;

	if (both & RECORD_MODE && from->mode != to->mode)
		differs |= RECORD_MODE;
	if (both & RECORD_UID && from->uid != to->uid)
		differs |= RECORD_UID;
	if (both & RECORD_GID && from->gid != to->gid)
		differs |= RECORD_GID;
	if (both & RECORD_MTIME && (from->mtime.tv_sec != to->mtime.tv_sec || from->mtime.tv_nsec != to->mtime.tv_nsec))
		differs |= RECORD_MTIME;
	if (both & RECORD_HASH && strcmp(from->hash, to->hash) != 0)
		differs |= RECORD_HASH;
	if (both & RECORD_XATTR && !same_xattrs(from, to))
		differs |= RECORD_XATTR;
	if (both & RECORD_TARGET && !str_equal(buf_str(&from->target), buf_str(&to->target)))
		differs |= RECORD_TARGET;
	if (both & RECORD_RDEV && from->rdev != to->rdev)
		differs |= RECORD_RDEV;
	return differs;
}

int record_encode_patch(const struct record *from, const struct record *to, unsigned also, struct buf *value)
{
	unsigned which = record_diff(from, to) | also;

	if (!which) {
		buf_clear(value);
		return 0;
	}
	return encode_members(from, to, which, also & RECORD_XATTR, value);
}
