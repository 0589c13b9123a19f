#include "cli/writer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/list.h"

/* Small changes that wait are written so many bytes at a time. */
#define PART_BYTES ((size_t)64 * 1024)
/* hpkv(1) names it. */
#define WAITING_BYTES ((size_t)16 * 1024 * 1024)

struct part {
	struct part *prev, *next;
	int fd;
	struct buf text;
};

struct writer {
	void (*failed)(void *arg);
	void *arg;
	pthread_t thread;
	int wake; /* an eventfd: the thread may have something to do; a condition could not be waited for together with the reader */

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t room;
	struct part *parts;
	size_t waiting; /* bytes; those that are being written included */
	bool stopped;
	int error;
};

/* --- the thread --- */

static void part_free(struct part *part)
{
	buf_free(&part->text);
	free(part);
}

static int write_all(int fd, struct str text)
{
	while (text.len) {
		ssize_t n = write(fd, text.p, text.len);

		if (n >= 0) {
			text = str_skip(text, (size_t)n);
		} else if (errno == EAGAIN) {
			/* O_NONBLOCK belongs to the open file, which others may share */
			struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };

			poll(&poll_fd, 1, -1);
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

static struct part *take_part(struct writer *writer, bool *stopped)
{
	struct part *part;

	pthread_mutex_lock(&writer->lock);
	part = writer->parts;
	if (part)
		DL_DELETE(writer->parts, part);
	*stopped = writer->stopped;
	pthread_mutex_unlock(&writer->lock);
	return part;
}

static int write_part(struct writer *writer, struct part *part)
{
	int r = write_all(part->fd, buf_str(&part->text));

	if (part->fd == STDERR_FILENO)
		r = 0;
	if (r == 0) {
		pthread_mutex_lock(&writer->lock);
		writer->waiting -= part->text.len;
		pthread_cond_signal(&writer->room);
		pthread_mutex_unlock(&writer->lock);
	}
	part_free(part);
	return r;
}

/* Waits for something to do. -EPIPE: the reader has gone. */
static int idle(const struct writer *writer)
{
	struct pollfd fds[] = { { .fd = writer->wake, .events = POLLIN }, { .fd = STDOUT_FILENO } };
	eventfd_t count;

	if (poll(fds, 2, -1) < 0)
		return errno == EINTR ? 0 : -errno;
	if (fds[0].revents && eventfd_read(writer->wake, &count) < 0)
		return -errno;
	return fds[1].revents ? -EPIPE : 0;
}

static void *run(void *arg)
{
	struct writer *writer = arg;
	bool stopped = false;
	int r = 0;

	while (r == 0) {
		struct part *part = take_part(writer, &stopped);

		if (part)
			r = write_part(writer, part);
		else if (stopped)
			return NULL;
		else
			r = idle(writer);
	}
	pthread_mutex_lock(&writer->lock);
	writer->error = r;
	pthread_cond_signal(&writer->room);
	/* under the lock: after writer_stop there may be nobody to tell */
	if (!writer->stopped)
		writer->failed(writer->arg);
	pthread_mutex_unlock(&writer->lock);
	return NULL;
}

/* --- interface --- */

int writer_new(void (*failed)(void *arg), void *arg, struct writer **out)
{
	struct writer *writer = calloc(1, sizeof(*writer));
	int r;

	if (!writer)
		return -ENOMEM;
	writer->failed = failed;
	writer->arg = arg;
	writer->wake = eventfd(0, EFD_CLOEXEC);
	if (writer->wake < 0) {
		r = -errno;
		free(writer);
		return r;
	}
	pthread_mutex_init(&writer->lock, NULL);
	pthread_cond_init(&writer->room, NULL);
	r = -pthread_create(&writer->thread, NULL, run, writer);
	if (r) {
		pthread_cond_destroy(&writer->room);
		pthread_mutex_destroy(&writer->lock);
		close(writer->wake);
		free(writer);
		return r;
	}
	*out = writer;
	return 0;
}

/* The one at the end if it is for the same, and has room; else a new one. NULL: no memory. */
static struct part *part_for(struct writer *writer, int fd)
{
	struct part *part = writer->parts ? writer->parts->prev : NULL;

	if (part && part->fd == fd && part->text.len < PART_BYTES)
		return part;
	part = calloc(1, sizeof(*part));
	if (!part)
		return NULL;
	part->fd = fd;
	DL_APPEND(writer->parts, part);
	return part;
}

static int append(struct writer *writer, int fd, struct str text)
{
	bool waits = writer->parts;
	struct part *part = part_for(writer, fd);

	if (!part || buf_add_str(&part->text, text) < 0)
		return -ENOMEM;
	writer->waiting += text.len;
	if (!waits && eventfd_write(writer->wake, 1) < 0)
		return -errno;
	return 0;
}

int writer_add(struct writer *writer, int fd, struct str text)
{
	int r;

	pthread_mutex_lock(&writer->lock);
	/* what is larger than all the room goes alone */
	while (!writer->error && writer->waiting && writer->waiting + text.len > WAITING_BYTES)
		pthread_cond_wait(&writer->room, &writer->lock);
	r = writer->error ? writer->error : append(writer, fd, text);
	pthread_mutex_unlock(&writer->lock);
	return r;
}

int writer_error(struct writer *writer)
{
	int r;

	pthread_mutex_lock(&writer->lock);
	r = writer->error;
	pthread_mutex_unlock(&writer->lock);
	return r;
}

void writer_stop(struct writer *writer)
{
	pthread_mutex_lock(&writer->lock);
	writer->stopped = true;
	pthread_mutex_unlock(&writer->lock);
	eventfd_write(writer->wake, 1);
}

int writer_end(struct writer *writer)
{
	struct part *part, *next;
	int r;

	if (!writer)
		return 0;
	pthread_join(writer->thread, NULL);
	/* a reader that went when it had everything has missed nothing */
	r = writer->waiting ? writer->error : 0;
	DL_FOREACH_SAFE(writer->parts, part, next)
		part_free(part);
	pthread_cond_destroy(&writer->room);
	pthread_mutex_destroy(&writer->lock);
	close(writer->wake);
	free(writer);
	return r;
}
