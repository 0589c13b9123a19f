/* Callbacks with ids: their order, and what they may do to the list that they are called from. */
#include "client/listeners.h"

#include "fail_alloc.h"
#include "unit.h"

struct rig {
	struct listeners listeners;
	char calls[64]; /* a letter each */
	uint64_t ids[8];
	int depth;
};

/* One letter, and what is done when it is called. */
struct member {
	struct rig *rig;
	char letter;
	void (*act)(struct rig *rig);
};

static void called(void)
{
}

static uint64_t add(struct rig *rig, struct member *member, unsigned kind)
{
	uint64_t id = 0;

	member->rig = rig;
	assert_int_equal(listeners_add(&rig->listeners, kind, called, member, &id), 0);
	assert_true(id != 0);
	return id;
}

static void call(void *data, const struct listener *listener)
{
	struct rig *rig = data;
	const struct member *member = listener->arg;
	char letter[2] = { member->letter };

	assert_ptr_equal(member->rig, rig);
	assert_ptr_equal(listener->fn, called);
	strcat(rig->calls, letter);
	if (member->act)
		member->act(rig);
}

static void walk(struct rig *rig, unsigned kind)
{
	listeners_each(&rig->listeners, kind, call, rig);
}

static void expect(struct rig *rig, const char *calls)
{
	rig->calls[0] = '\0';
	walk(rig, 0);
	assert_string_equal(rig->calls, calls);
}

static void order_and_kinds(void **state)
{
	struct rig rig = { 0 };
	struct member a = { .letter = 'a' }, b = { .letter = 'b' }, c = { .letter = 'c' };

	(void)state;
	expect(&rig, "");
	rig.ids[0] = add(&rig, &a, 0);
	rig.ids[1] = add(&rig, &b, 1);
	rig.ids[2] = add(&rig, &c, 0);
	add(&rig, &a, 0);
	expect(&rig, "aca");
	walk(&rig, 1);
	assert_string_equal(rig.calls, "acab");
	listeners_remove(&rig.listeners, rig.ids[0]);
	listeners_remove(&rig.listeners, rig.ids[0]);
	listeners_remove(&rig.listeners, 0);
	listeners_remove(&rig.listeners, 12345);
	expect(&rig, "ca");
	listeners_free(&rig.listeners);
}

static void remove_first(struct rig *rig)
{
	listeners_remove(&rig->listeners, rig->ids[0]);
}

static void remove_third(struct rig *rig)
{
	listeners_remove(&rig->listeners, rig->ids[2]);
}

static void removed_while_called(void **state)
{
	struct rig rig = { 0 };
	struct member a = { .letter = 'a' }, b = { .letter = 'b', .act = remove_third }, c = { .letter = 'c' },
		      d = { .letter = 'd', .act = remove_first };

	(void)state;
	rig.ids[0] = add(&rig, &a, 0);
	add(&rig, &b, 0);
	rig.ids[2] = add(&rig, &c, 0);
	add(&rig, &d, 0);
	expect(&rig, "abd");
	expect(&rig, "bd");
	listeners_free(&rig.listeners);
}

static void removes_itself(void **state)
{
	struct rig rig = { 0 };
	struct member a = { .letter = 'a', .act = remove_first }, b = { .letter = 'b' };

	(void)state;
	rig.ids[0] = add(&rig, &a, 0);
	add(&rig, &b, 0);
	expect(&rig, "ab");
	expect(&rig, "b");
	listeners_free(&rig.listeners);
}

static struct member added = { .letter = 'x' };

static void add_one(struct rig *rig)
{
	rig->ids[7] = add(rig, &added, 0);
}

static void added_while_called(void **state)
{
	struct rig rig = { 0 };
	struct member a = { .letter = 'a', .act = add_one };

	(void)state;
	rig.ids[0] = add(&rig, &a, 0);
	expect(&rig, "a");
	listeners_remove(&rig.listeners, rig.ids[0]);
	expect(&rig, "x");
	listeners_free(&rig.listeners);
}

static void walk_again(struct rig *rig)
{
	if (rig->depth++ == 0) {
		walk(rig, 0);
		remove_first(rig);
		remove_third(rig);
	}
}

/* The removed ones stay in memory until the outer walk has passed them. */
static void a_walk_inside_a_walk(void **state)
{
	struct rig rig = { 0 };
	struct member a = { .letter = 'a' }, b = { .letter = 'b', .act = walk_again }, c = { .letter = 'c' },
		      d = { .letter = 'd' };

	(void)state;
	rig.ids[0] = add(&rig, &a, 0);
	add(&rig, &b, 0);
	rig.ids[2] = add(&rig, &c, 0);
	add(&rig, &d, 0);
	expect(&rig, "ababcdd");
	expect(&rig, "bd");
	listeners_free(&rig.listeners);
}

static void remove_everything(struct rig *rig)
{
	listeners_remove_all(&rig->listeners);
}

static void all_removed_while_called(void **state)
{
	struct rig rig = { 0 };
	struct member a = { .letter = 'a', .act = remove_everything }, b = { .letter = 'b' };

	(void)state;
	add(&rig, &a, 0);
	add(&rig, &b, 0);
	add(&rig, &b, 1);
	expect(&rig, "a");
	expect(&rig, "");
	walk(&rig, 1);
	assert_string_equal(rig.calls, "");
	add(&rig, &b, 0);
	expect(&rig, "b");
	listeners_free(&rig.listeners);
}

static void without_memory(void **state)
{
	struct rig rig = { 0 };
	struct member a = { .letter = 'a', .rig = &rig };
	uint64_t id = 77;

	(void)state;
	fail_alloc_at(1);
	assert_int_equal(listeners_add(&rig.listeners, 0, called, &a, &id), -ENOMEM);
	assert_true(fail_alloc_end());
	assert_int_equal(id, 77);
	expect(&rig, "");
	listeners_free(&rig.listeners);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_and_kinds),      cmocka_unit_test(removed_while_called),
		cmocka_unit_test(removes_itself),       cmocka_unit_test(added_while_called),
		cmocka_unit_test(a_walk_inside_a_walk), cmocka_unit_test(all_removed_while_called),
		cmocka_unit_test(without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
