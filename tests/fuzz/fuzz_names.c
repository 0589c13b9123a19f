/* Every key has one path, and that path the key. */
#include "fuzz.h"

#include "fs/names.h"

static void check(char delimiter, struct str key)
{
	const struct names_rules rules = { .delimiter = delimiter, .prefix = STR(""), .max_key = SIZE_MAX / 4 };
	struct buf path = BUF_INIT, back = BUF_INIT;

	if (names_path_from_key(&rules, key, false, &path) == 0) {
		must(names_key_from_path(&rules, buf_str(&path), &back) == 0);
		must(str_equal(buf_str(&back), key));
	}
	/* as a path it is refused or means one key, whose path it is */
	if (names_key_from_path(&rules, key, &back) == 0 &&
	    names_path_from_key(&rules, buf_str(&back), false, &path) == 0)
		must(str_equal(buf_str(&path), key) || (key.len >= 2 && names_is_value(str_skip(key, key.len - 2))));
	buf_free(&path);
	buf_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str key = str_of((const char *)data, size);

	check('/', key);
	check(':', key);
	return 0;
}
