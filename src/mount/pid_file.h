/* /run/hpkvfs/MAJOR:MINOR.pid (for root; else in $XDG_RUNTIME_DIR) holds the daemon's pid while it lives: so umount(8)'s helper can
 * wait for its end. A second line is what it could not do. */
#ifndef HPKVFS_MOUNT_PID_FILE_H
#define HPKVFS_MOUNT_PID_FILE_H

/* Writes the file for the mount of this device number. Answers its path, for pid_file_remove; NULL where it cannot be:
 * the mount works all the same. */
char *pid_file_write(unsigned major, unsigned minor);

/* Removes the file if it still is ours (the kernel may have given the number to another mount) and frees the
 * path. With `loss`, this line is left in it instead, for the helper, which removes it. NULL is allowed for both. */
void pid_file_end(char *path, const char *loss);

#endif
