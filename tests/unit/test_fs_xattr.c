/* Extended attributes, ACLs, and the xattrs that are verbs. */
#include "attr_rig.h"

#include <sys/xattr.h>

#define NODE(path) .id = id_of(rig, path)

/* ACLs as the kernel passes them: version 2, then tag, permissions and id, little-endian. */
#define ACL_HEAD "\x02\x00\x00\x00"
#define ACL_ENTRY(tag, perm, id) tag "\x00" perm "\x00" id
#define NO_ID "\xff\xff\xff\xff"
#define OWNER(perm) ACL_ENTRY("\x01", perm, NO_ID)
#define USER_1000(perm) ACL_ENTRY("\x02", perm, "\xe8\x03\x00\x00")
#define GROUP(perm) ACL_ENTRY("\x04", perm, NO_ID)
#define MASK(perm) ACL_ENTRY("\x10", perm, NO_ID)
#define OTHERS(perm) ACL_ENTRY("\x20", perm, NO_ID)

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

static int set_acl(struct rig *rig, const char *path, const char *name, struct str acl)
{
	return run(rig, op_setxattr, NODE(path), .name = name, .data = acl);
}

static void assert_acl(struct rig *rig, const char *path, const char *name, struct str acl)
{
	assert_int_equal(run(rig, op_getxattr, NODE(path), .name = name), 0);
	assert_int_equal(rig->out.len, acl.len);
	assert_memory_equal(rig->out.p, acl.p, acl.len);
}

/* --- kept --- */

static void they_are_set_listed_read_and_removed(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	assert_no_xattr(rig, "f", "user.a");
	assert_int_equal(set_xattr(rig, "f", "user.a", "1"), 0);
	assert_int_equal(set_xattr(rig, "f", "user.b", ""), 0);
	assert_int_equal(set_xattr(rig, "f", "trusted.c", "3"), 0);
	assert_xattr(rig, "f", "user.a", "1");
	assert_xattr(rig, "f", "user.b", "");
	assert_int_equal(run(rig, op_listxattr, NODE("f")), 0);
	assert_string_equal(buf_str(&rig->out).p, "user.a user.b ");
	assert_int_equal(run(rig, op_listxattr, NODE("f"), .flags = 1), 0);
	assert_string_equal(buf_str(&rig->out).p, "trusted.c user.a user.b ");
	assert_int_equal(run(rig, op_sync), 0);
	assert_stored(rig, ".hpkvfs/m/f",
		      "{\"v\":1,\"xattr\":{\"trusted.c\":\"Mw==\",\"user.a\":\"MQ==\",\"user.b\":\"\"}}");
	rig_restart(rig);
	assert_xattr(rig, "f", "user.a", "1");
	assert_int_equal(run(rig, op_removexattr, NODE("f"), .name = "user.a"), 0);
	assert_no_xattr(rig, "f", "user.a");
	assert_int_equal(run(rig, op_removexattr, NODE("f"), .name = "user.a"), -ENODATA);
	assert_int_equal(run(rig, op_listxattr, NODE("f")), 0);
	assert_string_equal(buf_str(&rig->out).p, "user.b ");
	assert_int_equal(run(rig, op_sync), 0);
	rig_restart(rig);
	assert_no_xattr(rig, "f", "user.a");
	assert_xattr(rig, "f", "trusted.c", "3");
}

static void flags_say_whether_it_must_be_there(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	assert_int_equal(run(rig, op_setxattr, NODE("f"), .name = "user.a", .data = STR("1"), .flags = XATTR_REPLACE),
			 -ENODATA);
	assert_int_equal(run(rig, op_setxattr, NODE("f"), .name = "user.a", .data = STR("1"), .flags = XATTR_CREATE),
			 0);
	assert_int_equal(run(rig, op_setxattr, NODE("f"), .name = "user.a", .data = STR("2"), .flags = XATTR_CREATE),
			 -EEXIST);
	assert_int_equal(run(rig, op_setxattr, NODE("f"), .name = "user.a", .data = STR("3"), .flags = XATTR_REPLACE),
			 0);
	assert_xattr(rig, "f", "user.a", "3");
	assert_int_equal(set_xattr(rig, "f", "system.other", "1"), -EOPNOTSUPP);
}

static void directories_have_them_too(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "d/f", "x");
	assert_int_equal(set_xattr(rig, "d", "user.a", "1"), 0);
	assert_int_equal(run(rig, op_sync), 0);
	rig_restart(rig);
	assert_xattr(rig, "d", "user.a", "1");
}

static void a_record_that_would_not_fit_a_value(void **state)
{
	struct rig *rig = *state;
	char large[RIG_MAX_VALUE];

	memset(large, 'x', sizeof(large));
	memstore_put(rig->ms, "f", "x");
	assert_int_equal(set_xattr(rig, "f", "user.a", "1"), 0);
	assert_int_equal(run(rig, op_setxattr, NODE("f"), .name = "user.b", .data = str_of(large, 3000)), -ENOSPC);
	assert_no_xattr(rig, "f", "user.b");
	assert_int_equal(run(rig, op_setxattr, NODE("f"), .name = "user.a", .data = str_of(large, 3000)), -ENOSPC);
	assert_xattr(rig, "f", "user.a", "1");
	assert_int_equal(run(rig, op_setxattr, NODE("f"), .name = "user.b", .data = str_of(large, 2000)), 0);
	assert_int_equal(run(rig, op_sync), 0);
	rig_restart(rig);
	assert_xattr(rig, "f", "user.a", "1");
	assert_int_equal(run(rig, op_getxattr, NODE("f"), .name = "user.b"), 0);
	assert_int_equal(rig->out.len, 2000);
}

static void what_the_kernel_asks_before_a_write_is_answered_from_memory(void **state)
{
	struct rig *rig = *state;
	CLEANUP(buf_free) struct buf out = BUF_INIT;
	uint64_t id;
	int r;

	memstore_put(rig->ms, "f", "x");
	memstore_put(rig->ms, "g", "x");
	assert_int_equal(set_xattr(rig, "g", "user.a", "1"), 0);
	assert_int_equal(set_xattr(rig, "g", "security.capability", "c"), 0);
	id = id_of(rig, "f");
	rig_expire(rig);
	memstore_log_clear(rig->ms);
	assert_true(fs_getxattr_at_once(rig->fs, id, STR("security.capability"), &out, &r));
	assert_int_equal(r, -ENODATA);
	assert_true(fs_getxattr_at_once(rig->fs, id, STR(ACCESS), &out, &r));
	assert_int_equal(r, -ENODATA);
	assert_false(fs_getxattr_at_once(rig->fs, id, STR("user.a"), &out, &r));
	assert_no_requests(rig);
	id = id_of(rig, "g");
	assert_true(fs_getxattr_at_once(rig->fs, id, STR("security.capability"), &out, &r));
	assert_int_equal(r, 0);
	assert_string_equal(buf_str(&out).p, "c");
	assert_true(fs_getxattr_at_once(rig->fs, id, STR("user.a"), &out, &r));
	assert_string_equal(buf_str(&out).p, "1");
	assert_false(fs_getxattr_at_once(rig->fs, id, STR("user.hpkv.key"), &out, &r));
}

/* --- ACLs --- */

static void an_acl_and_the_mode_go_together(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	assert_int_equal(
		set_acl(rig, "f", ACCESS,
			STR(ACL_HEAD OWNER("\x06") USER_1000("\x07") GROUP("\x04") MASK("\x06") OTHERS("\x00"))),
		0);
	assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0660);
	assert_int_equal(change_mode(rig, "f", 0741), 0);
	assert_acl(rig, "f", ACCESS,
		   STR(ACL_HEAD OWNER("\x07") USER_1000("\x07") GROUP("\x04") MASK("\x04") OTHERS("\x01")));
	assert_int_equal(run(rig, op_sync), 0);
	assert_int_equal(fresh_stat(rig, "f").st_mode, S_IFREG | 0741);
	assert_acl(rig, "f", ACCESS,
		   STR(ACL_HEAD OWNER("\x07") USER_1000("\x07") GROUP("\x04") MASK("\x04") OTHERS("\x01")));
	/* one that says no more than a mode is the mode */
	assert_int_equal(set_acl(rig, "f", ACCESS, STR(ACL_HEAD OWNER("\x06") GROUP("\x04") OTHERS("\x04"))), 0);
	assert_no_xattr(rig, "f", ACCESS);
	assert_int_equal(stat_of(rig, "f").st_mode, S_IFREG | 0644);
	assert_int_equal(run(rig, op_removexattr, NODE("f"), .name = ACCESS), 0);
}

static void what_is_no_acl_is_refused(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "f", "x");
	assert_int_equal(set_acl(rig, "f", ACCESS, STR("")), -EINVAL);
	assert_int_equal(set_acl(rig, "f", ACCESS, STR("\x01\x00\x00\x00")), -EINVAL);
	assert_int_equal(set_acl(rig, "f", ACCESS, STR(ACL_HEAD "\x01\x00")), -EINVAL);
	assert_int_equal(set_acl(rig, "f", ACCESS, STR(ACL_HEAD OWNER("\x0f"))), -EINVAL);
	assert_int_equal(set_acl(rig, "f", DEFAULT, STR(ACL_HEAD OWNER("\x07") GROUP("\x05") OTHERS("\x05"))), -EACCES);
}

static void a_default_acl_takes_the_place_of_the_umask(void **state)
{
	struct str given = STR(ACL_HEAD OWNER("\x07") USER_1000("\x07") GROUP("\x05") MASK("\x07") OTHERS("\x00"));
	struct rig *rig = *state;
	uint64_t id;

	assert_int_equal(run(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "d", .mode = 0755), 0);
	assert_int_equal(set_acl(rig, "d", DEFAULT, given), 0);
	id = id_of(rig, "d");
	assert_int_equal(run(rig, op_create, .parent = id, .name = "f", .mode = 0666, .flags = O_WRONLY,
			     .maker = { RIG_UID, RIG_GID, 077 }),
			 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0660);
	assert_int_equal(close_file(rig, rig->handle), 0);
	assert_int_equal(
		run(rig, op_mkdir, .parent = id, .name = "e", .mode = 0755, .maker = { RIG_UID, RIG_GID, 077 }), 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFDIR | 0750);
	assert_int_equal(run(rig, op_sync), 0);
	rig_restart(rig);
	assert_acl(rig, "d/f", ACCESS,
		   STR(ACL_HEAD OWNER("\x06") USER_1000("\x07") GROUP("\x05") MASK("\x06") OTHERS("\x00")));
	assert_acl(rig, "d/e", ACCESS,
		   STR(ACL_HEAD OWNER("\x07") USER_1000("\x07") GROUP("\x05") MASK("\x05") OTHERS("\x00")));
	assert_acl(rig, "d/e", DEFAULT, given);
	assert_no_xattr(rig, "d/f", DEFAULT);
}

/* --- verbs --- */

static void the_key_is_told(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "a/%-/f", "x");
	memstore_put(rig->ms, "a//g", "x");
	assert_xattr(rig, "a/%25-/f", "user.hpkv.key", "a/%-/f");
	assert_xattr(rig, "a/%-/g", "user.hpkv.key", "a//g");
	assert_int_equal(set_xattr(rig, "a/%-/g", "user.hpkv.key", "x"), -EPERM);
	assert_int_equal(run(rig, op_listxattr, NODE("a/%-/g"), .flags = 1), 0);
	assert_string_equal(buf_str(&rig->out).p, "");
}

static void an_increment_is_one_request_and_seen_at_once(void **state)
{
	struct rig *rig = *state;
	uint64_t id;

	memstore_put(rig->ms, "n", "41");
	memstore_put(rig->ms, "t", "text");
	id = id_of(rig, "n");
	assert_xattr(rig, "n", "user.hpkv.incr", "41");
	memstore_put(rig->ms, "n", "50"); /* another was faster */
	rig_notes_clear(rig);
	memstore_log_clear(rig->ms);
	assert_int_equal(set_xattr(rig, "n", "user.hpkv.incr", "-8"), 0);
	assert_int_equal(memstore_requests(rig->ms), 1);
	assert_stored(rig, "n", "42");
	assert_reads(rig, "n", "42");
	assert_true(rig_was_invalidated(rig, id));
	assert_xattr(rig, "n", "user.hpkv.incr", "42");
	assert_no_xattr(rig, "t", "user.hpkv.incr");
}

static void only_a_whole_number_is_an_increment(void **state)
{
	static const char *const bad[] = { "", "x", "1x", "1.5", " 1", "+1", "-", "9223372036854775808" };
	struct rig *rig = *state;

	memstore_put(rig->ms, "n", "1");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(set_xattr(rig, "n", "user.hpkv.incr", bad[i]), -EINVAL);
	assert_stored(rig, "n", "1");
}

static void a_patch_is_merged(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "j", "{\"a\":1,\"b\":2}");
	memstore_put(rig->ms, "t", "text");
	assert_reads(rig, "j", "{\"a\":1,\"b\":2}");
	assert_int_equal(set_xattr(rig, "j", "user.hpkv.patch", "{\"b\":null,\"c\":3}"), 0);
	assert_stored(rig, "j", "{\"a\":1,\"c\":3}");
	assert_reads(rig, "j", "{\"a\":1,\"c\":3}");
	assert_int_equal(set_xattr(rig, "j", "user.hpkv.patch", "[1]"), -EINVAL);
	assert_int_equal(set_xattr(rig, "j", "user.hpkv.patch", "text"), -EINVAL);
	assert_int_equal(set_xattr(rig, "t", "user.hpkv.patch", "{\"a\":1}"), -EINVAL);
	assert_stored(rig, "t", "text");
}

static void a_verb_comes_after_what_was_written_before(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle = open_file(rig, "n", O_WRONLY | O_CREAT);

	assert_int_equal(write_at(rig, handle, 0, "6"), 0);
	assert_int_equal(set_xattr(rig, "n", "user.hpkv.incr", "1"), 0);
	assert_stored(rig, "n", "7");
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "n", "7");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		attr_test(they_are_set_listed_read_and_removed),
		attr_test(flags_say_whether_it_must_be_there),
		attr_test(directories_have_them_too),
		attr_test(a_record_that_would_not_fit_a_value),
		attr_test(what_the_kernel_asks_before_a_write_is_answered_from_memory),
		attr_test(an_acl_and_the_mode_go_together),
		attr_test(what_is_no_acl_is_refused),
		attr_test(a_default_acl_takes_the_place_of_the_umask),
		attr_test(the_key_is_told),
		attr_test(an_increment_is_one_request_and_seen_at_once),
		attr_test(only_a_whole_number_is_an_increment),
		attr_test(a_patch_is_merged),
		attr_test(a_verb_comes_after_what_was_written_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
