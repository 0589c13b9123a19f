/* Runs a target on every file of a folder, without libFuzzer: replay_NAME CORPUS-FOLDER. Each input lies in a block of
 * exactly its size, so that the sanitizers see a read past its end. */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void run_file(int folder, const char *name)
{
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *data;

	must(fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode));
	data = malloc(st.st_size ? (size_t)st.st_size : 1);
	must(data && read(fd, data, (size_t)st.st_size) == (ssize_t)st.st_size);
	close(fd);
	/* so that it is known which file a crash is of */
	fprintf(stderr, "%s\n", name);
	must(LLVMFuzzerTestOneInput(data, (size_t)st.st_size) == 0);
	free(data);
}

int main(int argc, char **argv)
{
	struct dirent *entry;
	unsigned count = 0;
	DIR *folder;

	must(argc == 2);
	folder = opendir(argv[1]);
	must(folder);
	while ((entry = readdir(folder))) {
		if (entry->d_name[0] == '.')
			continue;
		run_file(dirfd(folder), entry->d_name);
		count++;
	}
	closedir(folder);
	must(count > 0);
	printf("%u inputs\n", count);
	return 0;
}
