/* Handles of files and directories: how long they live, and which processes have a part in what was written through them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs/internal.h"

struct fs_handle *handle_new(struct node *node, int flags, pid_t pid)
{
	struct fs_handle *handle = calloc(1, sizeof(*handle));

	if (!handle)
		return NULL;
	handle->fs = node->fs;
	handle->node = node;
	handle->flags = flags;
	node_ref(node);
	node->fs->handles++;
	DL_APPEND(node->fs->open, handle);
	if (node->file)
		node->file->opens++;
	if ((flags & O_ACCMODE) != O_RDONLY)
		handle_wrote(handle, pid);
	return handle;
}

void handle_free(struct fs_handle *handle)
{
	handle->fs->handles--;
	DL_DELETE(handle->fs->open, handle);
	if (handle->node->file)
		handle->node->file->opens--;
	node_unref(handle->node);
	free(handle);
}

static void dir_handle_free(struct fs_handle *handle)
{
	handle->node->dir->opens--;
	copy_end(handle);
	handle_free(handle);
}

bool handles_lose(const struct node *node, int err)
{
	struct fs_handle *handle;
	bool any = false;

	DL_FOREACH(node->fs->open, handle) {
		if (handle->node != node || (handle->flags & O_ACCMODE) == O_RDONLY)
			continue;
		handle->lost = err;
		any = true;
	}
	return any;
}

void fs_handle_hold(struct fs_handle *handle)
{
	if (handle)
		handle->holds++;
}

void fs_handle_drop(struct fs_handle *handle)
{
	if (!handle || --handle->holds)
		return;
	if (handle->closed)
		dir_handle_free(handle);
	else
		co_queue_wake_all(&handle->let_go);
}

int fs_opendir(struct fs *fs, uint64_t id, struct fs_handle **out)
{
	struct node *node = node_find(fs, id);
	struct fs_handle *handle;

	if (!node)
		return -ESTALE;
	if (!node->dir)
		return -ENOTDIR;
	handle = handle_new(node, O_RDONLY, 0);
	if (!handle)
		return -ENOMEM;
	node->dir->opens++;
	*out = handle;
	return 0;
}

void fs_releasedir(struct fs_handle *handle)
{
	handle->closed = true;
	if (!handle->holds)
		dir_handle_free(handle);
}

/* --- who has written --- */

/* The process that a thread belongs to; the kernel names threads. 0 where it has ended. */
static pid_t process_of(pid_t thread)
{
	char path[64], line[128];
	int process = 0;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)thread);
	status = fopen(path, "re");
	if (!status)
		return 0;
	while (fgets(line, sizeof(line), status))
		if (sscanf(line, "Tgid: %d", &process) == 1)
			break;
	fclose(status);
	return process;
}

void handle_wrote(struct fs_handle *handle, pid_t pid)
{
	for (unsigned i = 0; i < handle->pid_count; i++)
		if (handle->pids[i] == pid)
			return;
	if (handle->pid_count == HANDLE_MAX_PIDS) {
		handle->any_pid = true;
		return;
	}
	handle->pids[handle->pid_count++] = pid;
}

bool handle_has_part(const struct fs_handle *handle, pid_t pid)
{
	pid_t closer;

	if (handle->any_pid)
		return true;
	for (unsigned i = 0; i < handle->pid_count; i++)
		if (handle->pids[i] == pid)
			return true;
	closer = process_of(pid);
	for (unsigned i = 0; i < handle->pid_count; i++) {
		pid_t process = process_of(handle->pids[i]);

		if (closer == 0 || process == 0 || process == closer)
			return true; /* of one that has ended it cannot be told: a commit too many does no harm */
	}
	return false;
}
