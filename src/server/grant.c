#include "server/grant.h"

/* More would only make every notification slower. */
#define MAX_PATTERNS 1000
#define MAX_ACCESS_BYTES 1024
/* Its parts, with counts written out: nested ones could take all memory. */
#define MAX_ACCESS_SIZE 10000

bool pattern_matches(struct str pattern, struct str text)
{
	size_t p = 0, t = 0, star = SIZE_MAX, resume = 0;

	while (t < text.len) {
		if (p < pattern.len && pattern.p[p] == '*') {
			star = p++;
			resume = t;
		} else if (p < pattern.len && pattern.p[p] == text.p[t]) {
			p++;
			t++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			t = ++resume;
		} else {
			return false;
		}
	}
	while (p < pattern.len && pattern.p[p] == '*')
		p++;
	return p == pattern.len;
}

/* What a part of a pattern comes to: regcomp writes counts out, a{9} as nine copies, a+ as aa*, and the groups in them too. */
struct extent {
	double before; /* of the same group's parts before the last */
	double last;
};

struct access_scan {
	struct str pattern;
	size_t at;
	bool repeatable; /* there is something before it that a repetition is of */
	unsigned depth;
	struct extent groups[MAX_ACCESS_BYTES + 1];
};

static char scan_next(const struct access_scan *scan)
{
	return scan->at + 1 < scan->pattern.len ? scan->pattern.p[scan->at + 1] : 0;
}

static void part_begins(struct extent *group)
{
	group->before += group->last;
	group->last = 1;
}

/* POSIX regcomp takes what it does not know for something else: \d for a plain d, \< for the begin of a word. Backreferences are
 * refused as they can take exponential time. */
static const char *scan_escape(struct access_scan *scan)
{
	char next = scan_next(scan);

	scan->at++;
	if (next && strchr("wWsSbB", next))
		return NULL;
	if ((next >= '0' && next <= '9') || (next >= 'A' && next <= 'Z') || (next >= 'a' && next <= 'z') ||
	    (next && strchr("<>`'", next)))
		return "accessPattern uses an escape that POSIX regular expressions do not have";
	return NULL;
}

/* [:alpha:] and the like, from its [ to its ]. */
static void scan_class(struct access_scan *scan)
{
	char kind = scan_next(scan);

	scan->at += 2;
	while (scan->at < scan->pattern.len && !(scan->pattern.p[scan->at] == kind && scan_next(scan) == ']'))
		scan->at++;
	scan->at++;
}

static const char *scan_list(struct access_scan *scan)
{
	scan->at += scan_next(scan) == '^';
	scan->at += scan_next(scan) == ']';
	for (scan->at++; scan->at < scan->pattern.len && scan->pattern.p[scan->at] != ']'; scan->at++) {
		char c = scan->pattern.p[scan->at], next = scan_next(scan);

		if (c == '\\')
			return "accessPattern has a \\ in [], where POSIX regular expressions have no escapes";
		if (c == '[' && next && strchr(":.=", next))
			scan_class(scan);
	}
	return NULL;
}

/* With no number behind the comma, regcomp writes a copy more, as of a+. */
static const char *scan_count(struct access_scan *scan)
{
	double number = 0, largest = 1;
	char c = '{';

	if (scan_next(scan) == ',')
		return "accessPattern has a { that begins no count";
	for (scan->at++; scan->at < scan->pattern.len && scan->pattern.p[scan->at] != '}'; scan->at++) {
		c = scan->pattern.p[scan->at];
		if (c != ',' && (c < '0' || c > '9'))
			return "accessPattern has a { that begins no count";
		number = c == ',' ? 0 : number * 10 + (c - '0');
		largest = number > largest ? number : largest;
	}
	scan->groups[scan->depth].last *= largest + (c == ',');
	return NULL;
}

/* Elsewhere a+? is a+ that takes as little as it can, here it is (a+)?, which may be nothing at all. */
static const char *scan_repetition(struct access_scan *scan)
{
	char c = scan->pattern.p[scan->at];

	if (!scan->repeatable)
		return "accessPattern has a repetition of nothing, or of a repetition";
	scan->repeatable = false;
	if (c == '{')
		return scan_count(scan);
	if (c == '+')
		scan->groups[scan->depth].last *= 2;
	return NULL;
}

static const char *scan_group_end(struct access_scan *scan)
{
	struct extent *group = &scan->groups[scan->depth];

	if (scan->depth == 0)
		return "accessPattern has a ) without a (";
	scan->groups[--scan->depth].last += group->before + group->last;
	scan->repeatable = true;
	return NULL;
}

static const char *scan_atom(struct access_scan *scan)
{
	char c = scan->pattern.p[scan->at];

	part_begins(&scan->groups[scan->depth]);
	scan->repeatable = !strchr("(|^$", c);
	switch (c) {
	case '\\':
		return scan_escape(scan);
	case '[':
		return scan_list(scan);
	case '(':
		if (scan_next(scan) == '?')
			return "accessPattern uses (?, which POSIX regular expressions do not have";
		scan->groups[++scan->depth] = (struct extent){ 0 };
		return NULL;
	default:
		return NULL;
	}
}

static const char *scan_part(struct access_scan *scan)
{
	switch (scan->pattern.p[scan->at]) {
	case '+':
	case '*':
	case '?':
	case '{':
		return scan_repetition(scan);
	case ')':
		return scan_group_end(scan);
	default:
		return scan_atom(scan);
	}
}

/* A rule on access must not mean something else than its author meant: such patterns are refused. */
static const char *check_access(struct str pattern)
{
	struct access_scan scan = { .pattern = pattern };
	double size = 0;

	if (pattern.len > MAX_ACCESS_BYTES)
		return "accessPattern is too long";
	if (memchr(pattern.p, 0, pattern.len))
		return "accessPattern contains a NUL";
	for (; scan.at < pattern.len; scan.at++) {
		const char *why = scan_part(&scan);

		if (why)
			return why;
	}
	for (unsigned i = 0; i <= scan.depth; i++)
		size += scan.groups[i].before + scan.groups[i].last;
	return size > MAX_ACCESS_SIZE ? "accessPattern is too large once its counts are written out" : NULL;
}

static const char *read_access(struct grant *grant, const json_t *node)
{
	struct str pattern = str_of(json_string_value(node), json_string_length(node));
	const char *why;

	if (!node || json_is_null(node))
		return NULL;
	if (!json_is_string(node))
		return "accessPattern must be a string";
	why = check_access(pattern);
	if (why)
		return why;
	if (regcomp(&grant->access, pattern.p, REG_EXTENDED | REG_NOSUB))
		return "accessPattern is not a regular expression";
	grant->restricted = true;
	return NULL;
}

/* A list of strings, or nothing. */
static const char *read_list(json_t *node, json_t **out)
{
	json_t *each;
	size_t i;

	if (!node || json_is_null(node))
		return NULL;
	if (!json_is_array(node) || json_array_size(node) > MAX_PATTERNS)
		return "subscribePatterns and subscribeKeys must be arrays of at most 1000 strings";
	json_array_foreach(node, i, each)
		if (!json_is_string(each) || !json_string_length(each))
			return "subscribePatterns and subscribeKeys must hold strings that are not empty";
	*out = json_incref(node);
	return NULL;
}

int grant_new(const json_t *object, struct grant **out, const char **why)
{
	struct grant *grant = calloc(1, sizeof(*grant));

	if (!grant) {
		*why = "Out of memory";
		return -1;
	}
	grant->refs = 1;
	*why = read_list(json_object_get(object, "subscribePatterns"), &grant->patterns);
	if (!*why)
		*why = read_list(json_object_get(object, "subscribeKeys"), &grant->keys);
	if (!*why)
		*why = read_access(grant, json_object_get(object, "accessPattern"));
	if (*why) {
		grant_unref(grant);
		return -1;
	}
	*out = grant;
	return 0;
}

struct grant *grant_ref(struct grant *grant)
{
	if (grant)
		grant->refs++;
	return grant;
}

void grant_unref(struct grant *grant)
{
	if (!grant || --grant->refs)
		return;
	json_decref(grant->patterns);
	json_decref(grant->keys);
	if (grant->restricted)
		regfree(&grant->access);
	free(grant);
}

bool grant_subscribes(const struct grant *grant)
{
	return json_array_size(grant->patterns) || json_array_size(grant->keys);
}

static struct str text_of(const json_t *node)
{
	return str_of(json_string_value(node), json_string_length(node));
}

bool grant_hears(const struct grant *grant, struct str key)
{
	json_t *each;
	size_t i;

	json_array_foreach(grant->patterns, i, each)
		if (pattern_matches(text_of(each), key))
			return true;
	json_array_foreach(grant->keys, i, each)
		if (str_equal(text_of(each), key))
			return true;
	return false;
}

bool grant_allows(const struct grant *grant, struct str key)
{
	regmatch_t whole = { .rm_so = 0, .rm_eo = (regoff_t)key.len };

	return !grant->restricted || regexec(&grant->access, key.p, 1, &whole, REG_STARTEND) == 0;
}
