#include "fs/leftover.h"

#include "fs/internal.h"

/* More in one directory are left to fsck: the oldest, since a file's record comes right before it. */
#define MOST 1000

struct leftover {
	UT_hash_handle hh;
	struct buf name, value;
	uint64_t seq; /* when it was added */
};

static void leftover_free(struct node *dir, struct leftover *leftover)
{
	HASH_DEL(dir->dir->leftovers, leftover);
	buf_free(&leftover->name);
	buf_free(&leftover->value);
	free(leftover);
}

static struct leftover *find(const struct node *dir, struct str name)
{
	struct leftover *leftover;

	HASH_FIND(hh, dir->dir->leftovers, name.p, name.len, leftover);
	return leftover;
}

/* The record of a directory's own value lies beside those of the directory's neighbours. */
struct node *leftover_place(struct node *dir, struct str name)
{
	return names_is_value(name) && dir->parent ? dir->parent : dir;
}

static void find_place(struct node **dir, struct str *name)
{
	struct node *place = leftover_place(*dir, *name);

	if (place != *dir)
		*name = buf_str(&(*dir)->name);
	*dir = place;
}

void leftover_add(struct node *dir, struct str name, struct str value)
{
	struct leftover *leftover;
	uint64_t seq = fs_tick(dir->fs);

	find_place(&dir, &name);
	leftover = find(dir, name);
	if (leftover)
		leftover_free(dir, leftover);
	if (HASH_COUNT(dir->dir->leftovers) >= MOST) {
		leftover_free(dir, dir->dir->leftovers);
		dir->dir->leftovers_lost = seq;
	}
	leftover = calloc(1, sizeof(*leftover));
	if (!leftover) {
		dir->dir->leftovers_lost = seq;
		return;
	}
	leftover->seq = seq;
	if (buf_set(&leftover->name, name) == 0 && buf_set(&leftover->value, value) == 0)
		HASH_ADD_KEYPTR(hh, dir->dir->leftovers, leftover->name.p, leftover->name.len, leftover);
	if (leftover->hh.tbl)
		return;
	dir->dir->leftovers_lost = seq;
	buf_free(&leftover->name);
	buf_free(&leftover->value);
	free(leftover);
}

/* No name of a file has a slash. */
static int name_below(struct str name, struct buf *out)
{
	int r = buf_set(out, name);

	return r < 0 ? r : buf_add_char(out, '/');
}

void leftover_add_below(struct node *dir, struct str name)
{
	CLEANUP(buf_free) struct buf below = BUF_INIT;

	if (name_below(name, &below) == 0)
		leftover_add(dir, buf_str(&below), STR(""));
}

bool leftover_take_below(struct node *dir, struct str name)
{
	CLEANUP(buf_free) struct buf below = BUF_INIT;
	CLEANUP(buf_free) struct buf value = BUF_INIT;

	return dir->dir->leftovers_lost || name_below(name, &below) < 0 || leftover_take(dir, buf_str(&below), &value);
}

void leftovers_forget(struct node *dir, uint64_t seq)
{
	struct leftover *leftover, *next;

	if (dir->dir->leftovers_lost <= seq)
		dir->dir->leftovers_lost = 0;
	HASH_ITER(hh, dir->dir->leftovers, leftover, next)
		if (leftover->seq <= seq)
			leftover_free(dir, leftover);
}

bool leftover_may_be(struct node *dir, struct str name)
{
	find_place(&dir, &name);
	return dir->dir->leftovers_lost && !find(dir, name);
}

bool leftover_take(struct node *dir, struct str name, struct buf *value)
{
	struct leftover *leftover;

	find_place(&dir, &name);
	leftover = find(dir, name);
	if (!leftover)
		return false;
	buf_free(value);
	*value = buf_take(&leftover->value);
	leftover_free(dir, leftover);
	return true;
}
