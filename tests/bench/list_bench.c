/* What the benchmark `mount` runs for ls -l, without what sorting, formatting and an interpreter cost.
 *
 *   list_bench FOLDER
 *
 * Reads its names and the attributes of each, once. Writes the seconds, how many entries it has and their bytes. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double began = now_s();
	DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
	const struct dirent *entry;
	uint64_t count = 0, bytes = 0;
	struct stat stat;

	if (!folder) {
		perror("list_bench");
		return 1;
	}
	while ((entry = readdir(folder))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (fstatat(dirfd(folder), entry->d_name, &stat, AT_SYMLINK_NOFOLLOW)) {
			perror(entry->d_name);
			return 1;
		}
		count++;
		bytes += (uint64_t)stat.st_size;
	}
	closedir(folder);
	printf("%.9f %" PRIu64 " %" PRIu64 "\n", now_s() - began, count, bytes);
	return 0;
}
