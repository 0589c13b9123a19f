/* JSON through jansson, with every number kept as it was written: jansson turns 1.10 into a double and
 * refuses integers beyond 64 bits, but a store must give back what it was given.
 *
 * A tree from json_exact_parse holds no JSON numbers. All its strings, the names of members included, begin
 * with 's', and its numbers are strings that begin with 'n'; the functions here add and remove these marks. */
#ifndef HPKVFS_SERVER_JSON_EXACT_H
#define HPKVFS_SERVER_JSON_EXACT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/flat.h"

/* A member's name as the tree has it: json_object_get(tree, JSON_EXACT_NAME("key")). */
#define JSON_EXACT_NAME(literal) ("s" literal)

/* Parses an object or an array. 0; -EINVAL: not JSON, or not UTF-8; -E2BIG: nested deeper than max_depth; -ENOMEM.
 * Free the tree with json_decref. */
CHECKED int json_exact_parse(struct str text, unsigned max_depth, json_t **out);

/* True and the content (borrowed) if the node is a string. */
bool json_exact_string(const json_t *node, struct str *out);

/* True and the text (borrowed) if the node is a number. */
bool json_exact_number(const json_t *node, struct str *out);

/* An object to read members of: in place where it is as simple as base/flat.h says, as nearly all are, else as such a
 * tree. Points into the text it was read from. */
struct json_exact_object {
	struct flat flat;
	json_t *tree; /* NULL: it is in `flat` */
};

/* 0; -EINVAL, -E2BIG, -ENOMEM as above; -ENOTSUP: it is an array. To be freed in any case. */
CHECKED int json_exact_object_read(struct json_exact_object *object, struct str text, unsigned max_depth);
void json_exact_object_free(struct json_exact_object *object);

/* The last member of this name: json_exact_object_get(&object, JSON_EXACT_NAME("key")). */
struct flat_value json_exact_object_get(const struct json_exact_object *object, const char *marked_name);

/* Appends the tree as JSON text without white space. 0 or -ENOMEM. */
CHECKED int json_exact_dump(const json_t *tree, struct buf *out);

/* Appends a string (not from such a tree) as a JSON string, with its quotes. 0, -EINVAL: not UTF-8, -ENOMEM. */
CHECKED int json_add_string(struct buf *out, struct str s);

#endif
