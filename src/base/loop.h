/* The event loop: one thread, one libwebsockets context that carries every socket, timer and adopted
 * descriptor of a program. Coroutines that were woken run between two rounds of events.
 *
 * Everything here belongs to the loop's thread, except loop_post and loop_stop. Nothing on the loop
 * may block. */
#ifndef HPKVFS_BASE_LOOP_H
#define HPKVFS_BASE_LOOP_H

#include <libwebsockets.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct loop;

/* A new loop on the calling thread (it may be run by another thread, but only one). Its libwebsockets
 * context has explicit vhosts: a module that needs sockets makes its own vhost on loop_context().
 * Signals are left as they are; who writes to TLS
 * connections whose other side may hang up ignores or blocks SIGPIPE. 0, -ENOMEM. */
CHECKED int loop_new(struct loop **out);

/* The same for a program that serves many: at most so many sockets and other descriptors at once, if its limit
 * (RLIMIT_NOFILE) allows them. loop_new's is 1024. */
CHECKED int loop_new_for(struct loop **out, unsigned descriptors);

/* Closes what is still open (protocol callbacks see it) and frees. Not from inside loop_run. */
void loop_free(struct loop *loop);

/* Serves events until loop_stop. May be called again afterwards. */
void loop_run(struct loop *loop);

/* Serves one round of events: waits for at most one event or timer, then runs woken coroutines. */
void loop_once(struct loop *loop);

/* Makes loop_run return after the present round. Any thread; not async-signal-safe. */
void loop_stop(struct loop *loop);

struct lws_context *loop_context(struct loop *loop);

/* A virtual host on it. NULL: no memory, or what libwebsockets does not accept. */
struct lws_vhost *loop_vhost(struct loop *loop, const struct lws_context_creation_info *info);

/* A copy of these bytes that lives as long as the loop, for what libwebsockets only points to. Equal bytes give the same
 * copy, aligned for any type. NULL: no memory. */
const void *loop_keep(struct loop *loop, const void *data, size_t size);

/* Runs fn(arg) on the loop's thread, soon, in order of posting. Any thread. 0 or -ENOMEM. What is
 * posted and not yet run when the loop is freed is run by loop_free. */
CHECKED int loop_post(struct loop *loop, void (*fn)(void *arg), void *arg);

/* On the loop's thread: runs what was posted so far, instead of the next round. */
void loop_run_posted(struct loop *loop);

/* Same, for the loop's own thread, without allocation: `task` is the caller's and must live until it ran.
 * A task that is already queued stays queued once. */
struct loop_task {
	struct loop_task *next;
	void (*fn)(struct loop_task *task);
	bool queued;
};
void loop_defer(struct loop *loop, struct loop_task *task);

/* One-shot timers, in caller's storage ({0} before first use). Setting a set timer moves it. The callback
 * may set it again or free the storage. loop_timer_cancel is safe on a timer that is not set. */
struct loop_timer {
	lws_sorted_usec_list_t sul; /* private */
	struct loop *loop;          /* private */
	void (*fn)(struct loop_timer *timer);
};
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay_us,
		    void (*fn)(struct loop_timer *timer));
void loop_timer_cancel(struct loop_timer *timer);

/* A descriptor watched for reading (FUSE device, signalfd, pipe). The descriptor is duplicated and the
 * duplicate made non-blocking (O_NONBLOCK lies in the open file, so the caller's is too); the caller keeps
 * and closes its own. `readable` runs when it can be read, `closed` (may be NULL) once when it hung up
 * (not after loop_fd_free). 0, -ENOMEM, -errno. */
struct loop_fd;
CHECKED int loop_fd_new(struct loop *loop, int fd, void (*readable)(void *arg), void (*closed)(void *arg), void *arg,
			struct loop_fd **out);
void loop_fd_free(struct loop_fd *watch);

#endif
