#include "mount/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "mount/fusermount.h"
#include "mount/mountpoint.h"

#define DEVICE "/dev/fuse"

static void set_flag(unsigned long *flags, unsigned long flag, bool on)
{
	*flags = on ? *flags | flag : *flags & ~flag;
}

/* As far as they are given. */
static unsigned long apply_options(unsigned long flags, const struct options *options)
{
	if (options->read_only != UNSET)
		set_flag(&flags, MS_RDONLY, options->read_only == ON);
	if (options->suid != UNSET)
		set_flag(&flags, MS_NOSUID, options->suid == OFF);
	if (options->dev != UNSET)
		set_flag(&flags, MS_NODEV, options->dev == OFF);
	if (options->exec != UNSET)
		set_flag(&flags, MS_NOEXEC, options->exec == OFF);
	return flags;
}

/* --- mount --- */

static int mount_directly(const struct kernel_mount *mount_, int fd)
{
	CLEANUP(buf_free) struct buf data = BUF_INIT;

	if (buf_printf(&data, "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions%s", fd, geteuid(),
		       getegid(), mount_->options->allow_other ? ",allow_other" : ""))
		return -ENOMEM;
	if (mount(mount_->source, mount_->mountpoint, KERNEL_TYPE, apply_options(MS_NOSUID | MS_NODEV, mount_->options),
		  data.p) < 0)
		return -errno;
	return 0;
}

/* Commas and backslashes in a value are escaped for fusermount3. */
static int add_escaped(struct buf *out, const char *text)
{
	int r = 0;

	for (; *text && r == 0; text++) {
		if (*text == ',' || *text == '\\')
			r = buf_add_char(out, '\\');
		if (r == 0)
			r = buf_add_char(out, *text);
	}
	return r;
}

static int mount_by_helper(const struct kernel_mount *mount_, int *fd, struct buf *why)
{
	const struct options *options = mount_->options;
	CLEANUP(buf_free) struct buf words = BUF_INIT;

	if (buf_add_str(&words, STR("subtype=hpkvfs,default_permissions,fsname=")) ||
	    add_escaped(&words, mount_->source) ||
	    buf_printf(&words, "%s%s%s%s%s", options->allow_other ? ",allow_other" : "",
		       options->read_only == ON ? ",ro" : "", options->suid == ON ? ",suid" : ",nosuid",
		       options->dev == ON ? ",dev" : ",nodev", options->exec == OFF ? ",noexec" : ""))
		return -ENOMEM;
	return fusermount_mount(words.p, mount_->mountpoint, fd, why);
}

static int failed(int err, const char *mountpoint, struct buf *why)
{
	const char *text = strerror(-err);

	buf_clear(why);
	return buf_printf(why, "cannot mount on %s: %s", mountpoint, text) ? -ENOMEM : err;
}

int kernel_mount(const struct kernel_mount *mount_, int *fd, struct buf *why)
{
	CLEANUP_CLOSE int device = -1;
	int r;

	if (geteuid() != 0)
		return mount_by_helper(mount_, fd, why);
	device = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (device < 0) {
		r = -errno;
		buf_clear(why);
		return buf_printf(why, "cannot open %s (is the kernel's module fuse loaded?): %s", DEVICE, strerror(-r))
			       ? -ENOMEM
			       : r;
	}
	r = mount_directly(mount_, device);
	if (r)
		return failed(r, mount_->mountpoint, why);
	*fd = device;
	device = -1;
	return 0;
}

/* --- later --- */

int kernel_remount(const char *mountpoint, const struct options *options, struct buf *why)
{
	CLEANUP(mount_row_deinit) struct mount_row row = { 0 };
	int r = mountpoint_find(mountpoint, &row);

	if (r == 0 && !row.ours)
		r = -ENOENT;
	if (r == 0 && mount(NULL, mountpoint, NULL, MS_REMOUNT | apply_options(row.flags, options), NULL) < 0)
		r = -errno;
	if (r == 0)
		return 0;
	buf_clear(why);
	if (r == -ENOENT)
		return buf_printf(why, "no hpkvfs is mounted on %s", mountpoint) ? -ENOMEM : r;
	return buf_printf(why, "cannot remount %s: %s", mountpoint, strerror(-r)) ? -ENOMEM : r;
}

int kernel_unmount(const char *mountpoint, unsigned major, unsigned minor)
{
	CLEANUP(mount_row_deinit) struct mount_row row = { 0 };
	int r = mountpoint_find(mountpoint, &row);

	if (r)
		return r;
	if (row.major != major || row.minor != minor)
		return -ENOENT;
	if (geteuid() != 0)
		return fusermount_unmount(mountpoint);
	return umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}
