/* What the tests of attributes and special files have beside fs_rig.h. */
#ifndef HPKVFS_TESTS_ATTR_RIG_H
#define HPKVFS_TESTS_ATTR_RIG_H

#include "fs_rig.h"

/* The layout's version is in the store, so that no request of a test is for that. */
int attr_setup(void **state);
#define attr_test(name) cmocka_unit_test_setup_teardown(name, attr_setup, rig_teardown)

/* .parent, .name, .mode, .size: the device; .new_name: a symbolic link's target */
int op_mknod(struct call *call);
int op_symlink(struct call *call);
/* .id, .name, .data, .flags */
int op_setxattr(struct call *call);
/* into rig->out */
int op_getxattr(struct call *call);
/* names, each followed by a blank; .flags: with those of root */
int op_listxattr(struct call *call);
int op_removexattr(struct call *call);

/* A file of this mode and content, closed. */
void make_file(struct rig *rig, const char *name, mode_t mode, const char *text);
int change_mode(struct rig *rig, const char *path, mode_t mode);
int change_owner(struct rig *rig, const char *path, uint32_t uid);
int change_mtime(struct rig *rig, const char *path, int64_t ns);
int set_xattr(struct rig *rig, const char *path, const char *name, const char *value);
/* Attributes as a mount shows them that has read everything anew. */
struct stat fresh_stat(struct rig *rig, const char *path);
struct stat stat_of(struct rig *rig, const char *path);
int64_t mtime_of(const struct stat *st);

#define assert_xattr(rig, path, xattr, text)                                                       \
	do {                                                                                       \
		assert_int_equal(run(rig, op_getxattr, .id = id_of(rig, path), .name = xattr), 0); \
		assert_string_equal(buf_str(&(rig)->out).p, (text));                               \
	} while (0)
#define assert_no_xattr(rig, path, xattr) \
	assert_int_equal(run(rig, op_getxattr, .id = id_of(rig, path), .name = xattr), -ENODATA)

#endif
