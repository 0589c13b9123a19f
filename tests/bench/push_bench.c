/* What the benchmark `mount` runs for changes by another client: how long until the mount shows them.
 *
 *   push_bench URL KEY FILE CHANGES
 *
 * FILE is what the mount shows of KEY. Sets it to another value each time, and from the server's answer on opens, reads and
 * closes FILE, again and again, until that is its content. Writes the milliseconds, a line for each change. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/hpkv.h"

#define VALUE_SIZE 100
#define GIVE_UP_MS 10000.0
/* Between two changes, so that all that follows from one is done before the next. */
#define PAUSE_NS 3000000

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* The file's whole content is this. Not while it is absent. */
static bool shows(const char *path, struct hpkv_slice value)
{
	char got[VALUE_SIZE + 1];
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t size;

	if (file < 0)
		return false;
	size = read(file, got, sizeof(got));
	close(file);
	return size == (ssize_t)value.size && memcmp(got, value.data, value.size) == 0;
}

/* The milliseconds, or a negative number. */
static double measure(struct hpkv_client *client, struct hpkv_slice key, struct hpkv_slice value, const char *path)
{
	struct hpkv_error error;
	double acknowledged;

	if (hpkv_set_sync(client, key, value, NULL, &error)) {
		fprintf(stderr, "push_bench: %s\n", error.text);
		return -1;
	}
	acknowledged = now_ms();
	while (!shows(path, value)) {
		if (now_ms() - acknowledged > GIVE_UP_MS) {
			fprintf(stderr, "push_bench: the mount does not show what was set\n");
			return -1;
		}
	}
	return now_ms() - acknowledged;
}

static bool run(struct hpkv_client *client, struct hpkv_slice key, const char *path, unsigned changes)
{
	const struct timespec pause = { 0, PAUSE_NS };
	char text[VALUE_SIZE + 1];
	double ms;

	/* The first one makes the file, and has it cached; it does not count. */
	for (unsigned i = 0; i <= changes; i++) {
		snprintf(text, sizeof(text), "%0*u", VALUE_SIZE, i);
		ms = measure(client, key, hpkv_str(text), path);
		if (ms < 0)
			return false;
		if (i > 0)
			printf("%.4f\n", ms);
		nanosleep(&pause, NULL);
	}
	return true;
}

int main(int argc, char **argv)
{
	struct hpkv_client *client;
	struct hpkv_error error;
	bool done;

	if (argc != 5)
		return 2;
	if (hpkv_open_sync(argv[1], NULL, &client, &error)) {
		fprintf(stderr, "push_bench: %s\n", error.text);
		return 1;
	}
	done = run(client, hpkv_str(argv[2]), argv[3], (unsigned)strtoul(argv[4], NULL, 10));
	hpkv_close_sync(client);
	return done ? 0 : 1;
}
