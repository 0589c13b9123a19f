#include "fs/walk.h"

#include <errno.h>

#include "base/log.h"

/* A server that never comes to an end is not believed for ever. */
#define WALK_MAX_PAGES 100000

struct walk {
	const struct layout *layout;
	struct str prefix;
	bool deep;
	bool files; /* deep, but without the reserved keys */
	struct buf reserved;
	struct buf start, end;
	struct buf last; /* the last key of the page before */
};

static int skip_to_end_of(struct walk *walk, struct str prefix)
{
	return names_last(prefix, walk->layout->rules->max_key, &walk->start);
}

/* Where the next page begins. A page continues from its last key, inclusive, since a longer one could pass the
 * server's limit; but behind a subdirectory at once, whose keys are not wanted here. */
static int next_start(struct walk *walk, struct str last, bool stuck, bool *skipped)
{
	CLEANUP(buf_free) struct buf below = BUF_INIT;
	struct names_split split;
	int r;

	*skipped = true;
	if ((!walk->deep || walk->files) && str_starts(last, buf_str(&walk->reserved)) &&
	    !str_starts(walk->prefix, buf_str(&walk->reserved)))
		return skip_to_end_of(walk, buf_str(&walk->reserved));
	r = names_split(walk->layout->rules, walk->prefix, last, &split);
	if (r == 0 && split.deeper && !walk->deep) {
		r = buf_set(&below, str_of(last.p, walk->prefix.len + split.segment.len + 1));
		return r < 0 ? r : skip_to_end_of(walk, buf_str(&below));
	}
	*skipped = false;
	r = buf_set(&walk->start, last);
	/* a page that held this one key only: the key behind it, one byte longer, is the one way on */
	if (r == 0 && stuck)
		r = buf_add_char(&walk->start, '\0');
	return r;
}

static int visit_page(struct walk *walk, const struct store_page *page, walk_visit *visit, void *arg)
{
	for (size_t i = 0; i < page->count; i++) {
		const struct store_record *record = &page->records[i];
		int r;

		if (!str_starts(record->key, walk->prefix))
			continue;
		if (i == 0 && walk->last.len && str_equal(record->key, buf_str(&walk->last)))
			continue;
		r = visit(arg, record->key, record->value);
		if (r < 0)
			return r;
	}
	return 0;
}

static co_fn int walk_pages(struct walk *walk, bool first_page_only, walk_visit *visit, void *arg, bool *whole)
{
	bool stuck = false;

	for (unsigned pages = 0; pages < WALK_MAX_PAGES; pages++) {
		CLEANUP(store_page_deinit) struct store_page page = { 0 };
		struct str last;
		bool skipped, same;
		int r = store_range(walk->layout->store, buf_str(&walk->start), buf_str(&walk->end), PAGE_RECORDS,
				    &page);

		if (r == -ENOENT)
			break; /* no range is absent: it would be empty */
		if (r == 0)
			r = visit_page(walk, &page, visit, arg);
		if (r < 0 || !page.truncated)
			return r;
		if (page.count == 0)
			break;
		last = page.records[page.count - 1].key;
		same = walk->last.len && str_equal(last, buf_str(&walk->last));
		if (same && stuck)
			break;
		stuck = same;
		r = next_start(walk, last, stuck, &skipped);
		if (r == 0)
			r = buf_set(&walk->last, last);
		if (r < 0)
			return r;
		if (first_page_only && !skipped) {
			*whole = false;
			return 0;
		}
	}
	log_error("the server's answers to a range make no sense; the listing is given up");
	return -EIO;
}

static co_fn int walk_from(struct walk *walk, bool first_page_only, walk_visit *visit, void *arg, bool *whole)
{
	int r = layout_key(walk->layout, &walk->reserved, "%s", "");

	*whole = true;
	if (r == 0)
		r = names_first(walk->prefix, &walk->start);
	if (r == 0)
		r = names_last(walk->prefix, walk->layout->rules->max_key, &walk->end);
	if (r == 0)
		r = walk_pages(walk, first_page_only, visit, arg, whole);
	buf_free(&walk->reserved);
	buf_free(&walk->start);
	buf_free(&walk->end);
	buf_free(&walk->last);
	return r;
}

int walk_range(const struct layout *layout, struct str prefix, bool deep, bool first_page_only, walk_visit *visit,
	       void *arg, bool *whole)
{
	struct walk walk = { .layout = layout, .prefix = prefix, .deep = deep };

	return walk_from(&walk, first_page_only, visit, arg, whole);
}

int walk_all(const struct layout *layout, struct str prefix, walk_visit *visit, void *arg)
{
	bool whole;

	return walk_range(layout, prefix, true, false, visit, arg, &whole);
}

int walk_files(const struct layout *layout, walk_visit *visit, void *arg)
{
	struct walk walk = { .layout = layout, .prefix = layout->rules->prefix, .deep = true, .files = true };
	bool whole;

	return walk_from(&walk, false, visit, arg, &whole);
}
