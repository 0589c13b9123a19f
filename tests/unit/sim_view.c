/* What a mount shows, as text. */
#include "sim.h"

#include <fcntl.h>
#include <unistd.h>

/* Alike bytes in a row are counted from so many on. */
#define RUN 4

struct line {
	struct buf text;
};

struct view {
	struct line *lines;
	size_t count;
};

static void add_content(struct buf *out, struct str content)
{
	for (size_t i = 0; i < content.len;) {
		unsigned char c = (unsigned char)content.p[i];
		size_t run = 1;
		int r;

		while (i + run < content.len && content.p[i + run] == content.p[i])
			run++;
		if (run < RUN)
			run = 1;
		r = c > ' ' && c < 127 ? buf_add_char(out, (char)c) : buf_printf(out, "\\x%02x", c);
		if (r == 0 && run > 1)
			r = buf_printf(out, "*%zu ", run);
		sim_must(r == 0, "no memory");
		i += run;
	}
}

void sim_view_line(struct buf *out, struct str path, mode_t mode, struct str note, struct str content)
{
	sim_must(buf_add_str(out, path) == 0 && buf_printf(out, " %06o ", (unsigned)mode) == 0, "no memory");
	if (note.len)
		sim_must(buf_printf(out, "[%.*s] ", (int)note.len, note.p) == 0, "no memory");
	add_content(out, content);
}

static struct buf *new_line(struct view *view)
{
	view->lines = realloc(view->lines, (view->count + 1) * sizeof(*view->lines));
	sim_must(view->lines, "no memory");
	view->lines[view->count] = (struct line){ 0 };
	return &view->lines[view->count++].text;
}

struct child {
	struct buf name;
	struct fs_entry entry;
};

struct children {
	struct child *items;
	size_t count;
};

static bool add_child(void *arg, struct str name, const struct fs_entry *entry, uint64_t next)
{
	struct children *children = arg;

	(void)next;
	if (str_equal(name, STR(".")) || str_equal(name, STR("..")))
		return true;
	children->items = realloc(children->items, (children->count + 1) * sizeof(*children->items));
	sim_must(children->items, "no memory");
	children->items[children->count] = (struct child){ .entry = *entry };
	sim_must(buf_set(&children->items[children->count].name, name) == 0, "no memory");
	children->count++;
	return true;
}

static co_fn int read_content(struct fs *fs, uint64_t id, struct buf *out)
{
	struct fs_handle *handle;
	bool keep;
	int r = fs_open(fs, id, O_RDONLY, getpid(), &handle, &keep);

	if (r < 0)
		return r;
	r = fs_read(handle, 0, 1 << 20, out);
	fs_release(handle);
	return r;
}

static co_fn void view_dir(struct fs *fs, uint64_t id, struct str path, struct view *view);

static co_fn void view_child(struct fs *fs, uint64_t dir, struct str path, struct str name, struct view *view)
{
	CLEANUP(buf_free) struct buf full = BUF_INIT;
	CLEANUP(buf_free) struct buf content = BUF_INIT;
	CLEANUP(buf_free) struct buf xattr = BUF_INIT;
	struct fs_entry entry;
	int r = fs_lookup(fs, dir, name, &entry);

	sim_must(buf_set(&full, path) == 0 && buf_add_str(&full, name) == 0, "no memory");
	if (r == 0 && S_ISREG(entry.st.st_mode))
		r = read_content(fs, entry.id, &content);
	if (r == 0 && fs_getxattr(fs, entry.id, STR("user.note"), &xattr) < 0)
		buf_clear(&xattr);
	if (r == 0 && S_ISDIR(entry.st.st_mode))
		sim_must(buf_add_char(&full, '/') == 0, "no memory");
	sim_view_line(new_line(view), buf_str(&full), r == 0 ? entry.st.st_mode : 0, buf_str(&xattr),
		      buf_str(&content));
	if (r < 0)
		sim_must(buf_printf(&view->lines[view->count - 1].text, "error %d", r) == 0, "no memory");
	else if (S_ISDIR(entry.st.st_mode))
		view_dir(fs, entry.id, buf_str(&full), view);
}

static co_fn void view_dir(struct fs *fs, uint64_t id, struct str path, struct view *view)
{
	struct children children = { 0 };
	struct fs_handle *handle;
	int r = fs_opendir(fs, id, &handle);

	if (r == 0) {
		r = fs_readdir(handle, 0, false, add_child, &children);
		fs_releasedir(handle);
	}
	if (r < 0)
		sim_must(buf_printf(new_line(view), "%.*s error %d", (int)path.len, path.p, r) == 0, "no memory");
	for (size_t i = 0; i < children.count; i++) {
		view_child(fs, id, path, buf_str(&children.items[i].name), view);
		buf_free(&children.items[i].name);
	}
	free(children.items);
}

static int by_text(const void *a, const void *b)
{
	return str_compare(buf_str(&((const struct line *)a)->text), buf_str(&((const struct line *)b)->text));
}

int sim_view(struct party *party, struct buf *out)
{
	struct view view = { 0 };

	view_dir(party->fs, FS_ROOT_ID, STR(""), &view);
	if (view.count)
		qsort(view.lines, view.count, sizeof(*view.lines), by_text);
	buf_clear(out);
	for (size_t i = 0; i < view.count; i++) {
		sim_must(buf_add_str(out, buf_str(&view.lines[i].text)) == 0 && buf_add_char(out, '\n') == 0,
			 "no memory");
		buf_free(&view.lines[i].text);
	}
	free(view.lines);
	return 0;
}

/* --- what is left over --- */

static bool some_value_has(const struct sim *sim, const char *prefix, struct str text)
{
	for (size_t i = 0; i < memstore_size(sim->ms); i++) {
		struct store_record pair = memstore_pair(sim->ms, i);

		if (str_starts(pair.key, str_c(prefix)) && memmem(pair.value.p, pair.value.len, text.p, text.len))
			return true;
	}
	return false;
}

static bool has_key(const struct sim *sim, struct str key)
{
	for (size_t i = 0; i < memstore_size(sim->ms); i++)
		if (str_equal(memstore_pair(sim->ms, i).key, key))
			return true;
	return false;
}

#define RESERVED ".hpkvfs/"
#define ID_LEN 43

/* Chunks and lists of names whose id no value has, records of regular files without a key, and what is under way when nothing
 * is. */
void sim_leftovers(const struct sim *sim, struct buf *out)
{
	for (size_t i = 0; i < memstore_size(sim->ms); i++) {
		struct str key = memstore_pair(sim->ms, i).key;
		struct str rest = str_starts(key, STR(RESERVED)) ? str_skip(key, strlen(RESERVED)) : STR("");
		bool left = false;

		if (str_starts(rest, STR("c/")) || str_starts(rest, STR("i/")))
			left = !some_value_has(sim, "", str_of(rest.p + 2, ID_LEN));
		else if (str_starts(rest, STR("m/")) && key.p[key.len - 1] != '/')
			left = !has_key(sim, str_skip(rest, 2));
		else if (str_starts(rest, STR("j/")))
			left = true;
		if (left)
			sim_must(buf_add_str(out, key) == 0 && buf_add_char(out, '\n') == 0, "no memory");
	}
}
