#include "client/internal.h"

#include <errno.h>

#include "client/connection.h"
#include "client/http.h"
#include "client/token.h"

int hpkv_loop_wrap(struct loop *base, struct hpkv_loop **out)
{
	struct hpkv_loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return -ENOMEM;
	loop->base = base;
	serving_init(&loop->serving);
	*out = loop;
	return 0;
}

int hpkv_loop_new(struct hpkv_loop **out)
{
	struct loop *base;
	int r = loop_new(&base);

	if (r)
		return r;
	r = hpkv_loop_wrap(base, out);
	if (r) {
		loop_free(base);
		return r;
	}
	(*out)->owned = true;
	return 0;
}

void hpkv_loop_free(struct hpkv_loop *loop)
{
	struct wait last = { 0 };

	if (!loop)
		return;
	serve_join_thread(loop);
	serve_last_begin(loop, &last);
	tokens_cancel(loop);
	http_free(loop);
	if (loop->owned)
		loop_free(loop->base);
	serve_last_end(&last);
	vhosts_free(loop);
	serving_deinit(&loop->serving);
	free(loop);
}

struct loop *hpkv_loop_base(struct hpkv_loop *loop)
{
	return loop->base;
}

void hpkv_loop_run(struct hpkv_loop *loop)
{
	serve_run(loop);
}

void hpkv_loop_stop(struct hpkv_loop *loop)
{
	serve_stop(loop);
}

int hpkv_loop_start_thread(struct hpkv_loop *loop)
{
	return serve_start_thread(loop);
}

int hpkv_loop_post(struct hpkv_loop *loop, void (*fn)(void *arg), void *arg)
{
	return loop_post(loop->base, fn, arg);
}

struct call {
	struct wait wait;
	void (*fn)(void *arg);
	void *arg;
};

static void call_now(struct wait *wait)
{
	struct call *call = lws_container_of(wait, struct call, wait);

	call->fn(call->arg);
	wait_done(wait);
}

int hpkv_loop_call(struct hpkv_loop *loop, void (*fn)(void *arg), void *arg)
{
	struct call call = { .wait.start = call_now, .fn = fn, .arg = arg };

	return wait_run(loop, &call.wait);
}
