/* Which processes have a part in what was written through a handle. */
#include <stdio.h>

#include "fs/internal.h"

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
