/* /run/hpkvfs/MAJOR:MINOR.pid (for root; else in $XDG_RUNTIME_DIR) holds the daemon's pid while it lives: so umount(8)'s helper can
 * wait for its end. A second line is what it could not do. */
#ifndef HPKVFS_MOUNT_PID_FILE_H
#define HPKVFS_MOUNT_PID_FILE_H

struct pid_file;

/* Writes the file for the mount of this device number, in the place of what a former one left. For pid_file_end; NULL where it
 * cannot be: the mount works all the same. */
struct pid_file *pid_file_write(unsigned major, unsigned minor);

/* Writes the line `loss` (or none, NULL) for those who have the file open, removes it if it still is ours (the kernel gives the number
 * to another mount as soon as this one is gone) and frees it. NULL is allowed. */
void pid_file_end(struct pid_file *file, const char *loss);

#endif
