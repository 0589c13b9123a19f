/* Who serves a loop. One thread at a time does: the loop's own thread or that of hpkv_loop_run, and where there is
 * neither, the first of those that wait for something on the loop. Who stops serving wakes the next of those who wait, so
 * that somebody always serves while somebody waits. */
#ifndef HPKVFS_CLIENT_SERVE_H
#define HPKVFS_CLIENT_SERVE_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

#include "base/loop.h"

struct hpkv_client;
struct hpkv_loop;

/* SIGPIPE is blocked on a thread while it serves, since OpenSSL writes to sockets without MSG_NOSIGNAL; what that raised is
 * dropped afterwards. */
struct pipe_signal {
	sigset_t before;
	bool pending; /* already before */
};

enum wait_kind {
	WAIT_CALL,
	WAIT_RUN,    /* hpkv_loop_run */
	WAIT_THREAD, /* the loop's thread */
};

/* Something that is waited for, on the waiting thread's stack. */
struct wait {
	void (*start)(struct wait *wait); /* on the loop; wait_done follows, at once or later */
	struct hpkv_client *client;       /* that `start` uses, or NULL */

	/* private; under the lock */
	struct hpkv_loop *loop;
	enum wait_kind kind;
	bool started, cancelled, done;
	pthread_cond_t turn; /* it is done, or nobody serves the loop */
	struct pipe_signal signal;
	struct wait *prev, *next;
};

/* A part of struct hpkv_loop. */
struct serving {
	pthread_mutex_t lock; /* never held while anything is called that may wait or call the user */
	struct wait *waits;
	struct wait *server; /* whose thread serves the loop; NULL: nobody's */
	pthread_t server_thread;
	bool in_round; /* the server is inside of loop_once */
	struct loop_task end_round;
	bool stopped; /* a stop came while nobody ran the loop */
	bool has_thread, thread_ends;
	pthread_t thread;
};

void serving_init(struct serving *serving);
void serving_deinit(struct serving *serving);

/* Any thread: runs wait->start on the loop and waits for wait_done. 0, -EDEADLK (the calling thread serves the loop,
 * this is a callback), -ENOMEM, -ECANCELED (wait->client was freed before the start). */
CHECKED int wait_run(struct hpkv_loop *loop, struct wait *wait);

/* On the loop: the waiting thread goes on; `wait` is gone at once. */
void wait_done(struct wait *wait);

/* Whether this is the thread that serves the loop, inside a callback. */
bool serve_inside(struct hpkv_loop *loop);

/* The client is about to be freed, on the loop: what has not started with it will not. */
void serve_forget_client(struct hpkv_loop *loop, const struct hpkv_client *client);

/* hpkv_loop_run, _stop and _start_thread. */
void serve_run(struct hpkv_loop *loop);
void serve_stop(struct hpkv_loop *loop);
CHECKED int serve_start_thread(struct hpkv_loop *loop);
/* Ends and joins the thread, if there is one. */
void serve_join_thread(struct hpkv_loop *loop);

/* Around the freeing of the loop, which calls back and writes to connections as serving does. */
void serve_last_begin(struct hpkv_loop *loop, struct wait *wait);
void serve_last_end(const struct wait *wait);

#endif
