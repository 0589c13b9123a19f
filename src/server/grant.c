#include "server/grant.h"

/* More would only make every notification slower. */
#define MAX_PATTERNS 1000
#define MAX_ACCESS_BYTES 1024
/* regcomp builds a{n} as n copies: nested counts could take all memory. */
#define MAX_ACCESS_COUNTS 2

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

/* POSIX regcomp takes what it does not know for something else: \d for a plain d, (?: for an error at best. A rule
 * on access must not mean something else than its author meant: such patterns are refused. Backreferences
 * are refused as they can take exponential time. */
static const char *check_access(struct str pattern)
{
	unsigned counts = 0;

	if (pattern.len > MAX_ACCESS_BYTES)
		return "accessPattern is too long";
	for (size_t i = 0; i < pattern.len; i++) {
		char c = pattern.p[i], next = i + 1 < pattern.len ? pattern.p[i + 1] : 0;

		if (c == 0)
			return "accessPattern contains a NUL";
		if (c == '(' && next == '?')
			return "accessPattern uses (?, which POSIX regular expressions do not have";
		if (c == '{' && ++counts > MAX_ACCESS_COUNTS)
			return "accessPattern has too many {counts}";
		if (c != '\\')
			continue;
		i++;
		if ((next >= '0' && next <= '9') || (next >= 'A' && next <= 'Z') || (next >= 'a' && next <= 'z'))
			if (!strchr("wWsSbB", next))
				return "accessPattern uses an escape that POSIX regular expressions do not have";
	}
	return NULL;
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
