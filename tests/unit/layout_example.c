#include "layout_example.h"

#include "unit.h"

#define PAGE TEST_SOURCE_ROOT "/packaging/man/hpkvfs-layout.7"
#define MARK ".\\\" example: "

static FILE *open_page(void)
{
	FILE *page = fopen(PAGE, "r");

	if (!page)
		fail_msg("cannot read %s: %s", PAGE, strerror(errno));
	return page;
}

static void add_line(struct buf *out, const char *line)
{
	for (; *line; line++) {
		char c = *line;

		if (c == '\\') {
			line++;
			if (*line != '-' && *line != 'e')
				fail_msg("unknown escape in %s: \\%c", PAGE, *line);
			c = *line == 'e' ? '\\' : '-';
		}
		assert_int_equal(buf_add_char(out, c), 0);
	}
}

struct buf layout_example(const char *name)
{
	struct buf out = BUF_INIT;
	FILE *page = open_page();
	enum {
		SEARCH,
		MARKED,
		INSIDE,
		DONE
	} where = SEARCH;
	char line[1024];

	while (where != DONE && fgets(line, sizeof(line), page)) {
		if (where == SEARCH && strncmp(line, MARK, strlen(MARK)) == 0) {
			line[strcspn(line, "\n")] = '\0';
			if (strcmp(line + strlen(MARK), name) == 0)
				where = MARKED;
		} else if (where == MARKED && strcmp(line, ".EX\n") == 0) {
			where = INSIDE;
		} else if (where == INSIDE && strcmp(line, ".EE\n") == 0) {
			where = DONE;
		} else if (where == INSIDE) {
			add_line(&out, line);
		}
	}
	fclose(page);
	if (where != DONE)
		fail_msg("%s has no example %s", PAGE, name);
	return out;
}

unsigned layout_example_count(const char *prefix)
{
	FILE *page = open_page();
	unsigned count = 0;
	char line[1024];

	while (fgets(line, sizeof(line), page)) {
		if (strncmp(line, MARK, strlen(MARK)) == 0 && strncmp(line + strlen(MARK), prefix, strlen(prefix)) == 0)
			count++;
	}
	fclose(page);
	return count;
}
