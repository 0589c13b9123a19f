/* Rights, compared by what each of some users may do. */
#include "fs/rights.h"

#include "unit.h"

#define IDS 2

/* Every user is in some of the groups 0 and 1. */
struct user {
	uint32_t uid;
	unsigned groups;
};

static mode_t may(const struct rights *rights, const struct user *user)
{
	if (user->uid == rights->uid)
		return rights->mode >> 6 & 7;
	if (user->groups & 1u << rights->gid)
		return rights->mode >> 3 & 7;
	return rights->mode & 7;
}

/* What somebody may by `a` and not by `b`. */
static mode_t gained(const struct rights *a, const struct rights *b)
{
	mode_t gained = 0;

	for (uint32_t uid = 0; uid <= IDS; uid++)
		for (unsigned groups = 0; groups < 1u << IDS; groups++) {
			struct user user = { uid, groups };

			gained |= may(a, &user) & ~may(b, &user);
		}
	return gained;
}

static void check(const struct rights *a, const struct rights *b)
{
	struct rights common = { .mode = rights_common(a, b), .uid = a->uid, .gid = a->gid };

	if (rights_within(a, b))
		assert_int_equal(gained(a, b), 0);
	assert_int_equal(gained(&common, a), 0);
	assert_int_equal(gained(&common, b), 0);
	assert_true(rights_within(&common, a));
	assert_true(rights_within(&common, b));
}

static void nobody_gains(void **state)
{
	(void)state;
	for (uint32_t ids = 0; ids < IDS * IDS; ids++)
		for (mode_t a_mode = 0; a_mode <= 0777; a_mode++)
			for (mode_t b_mode = 0; b_mode <= 0777; b_mode++) {
				struct rights a = { .mode = a_mode, .acl = STR("") },
					      b = { .mode = b_mode, .acl = STR("") };

				b.uid = ids % IDS;
				b.gid = ids / IDS;
				check(&a, &b);
			}
}

static void of_one_owner_the_bits_alone_count(void **state)
{
	(void)state;
	for (mode_t a_mode = 0; a_mode <= 0777; a_mode++)
		for (mode_t b_mode = 0; b_mode <= 0777; b_mode++) {
			struct rights a = { .mode = a_mode | 01000, .acl = STR("") },
				      b = { .mode = b_mode, .acl = STR("") };

			assert_int_equal(rights_within(&a, &b), !(a_mode & ~b_mode));
			assert_int_equal(rights_common(&a, &b), a_mode & b_mode);
		}
}

static void set_id_bits_count(void **state)
{
	struct rights with = { .mode = 06755, .acl = STR("") }, without = { .mode = 0755, .acl = STR("") };

	(void)state;
	assert_true(rights_within(&without, &with));
	assert_false(rights_within(&with, &without));
	assert_int_equal(rights_common(&with, &without), 0755);
	assert_int_equal(rights_common(&with, &with), 06755);
	without.mode = 06755;
	without.uid = 1;
	assert_false(rights_within(&with, &without));
	assert_int_equal(rights_common(&with, &without), 0555);
}

static void acls_are_the_same_or_nothing_is_sure(void **state)
{
	struct rights none = { .mode = 0664, .acl = STR("") }, one = none, other = none, less = none;

	(void)state;
	one.acl = STR("one");
	other.acl = STR("other");
	less.acl = STR("one");
	less.mode = 0640;
	assert_true(rights_within(&less, &one));
	assert_false(rights_within(&one, &less));
	assert_false(rights_within(&one, &other));
	assert_false(rights_within(&none, &one));
	assert_false(rights_within(&one, &none));
	assert_int_equal(rights_common(&one, &none), 0600);
	assert_int_equal(rights_common(&none, &one), 0600);
	one.uid = 1;
	assert_false(rights_within(&less, &one));
	assert_int_equal(rights_common(&one, &none), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_gains),
		cmocka_unit_test(of_one_owner_the_bits_alone_count),
		cmocka_unit_test(set_id_bits_count),
		cmocka_unit_test(acls_are_the_same_or_nothing_is_sure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
