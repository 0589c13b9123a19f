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
	if (!loop)
		return;
	tokens_cancel(loop);
	http_free(loop);
	if (loop->owned)
		loop_free(loop->base);
	vhosts_free(loop);
	free(loop);
}

struct loop *hpkv_loop_base(struct hpkv_loop *loop)
{
	return loop->base;
}

void hpkv_loop_run(struct hpkv_loop *loop)
{
	loop_run(loop->base);
}

void hpkv_loop_stop(struct hpkv_loop *loop)
{
	loop_stop(loop->base);
}

int hpkv_loop_post(struct hpkv_loop *loop, void (*fn)(void *arg), void *arg)
{
	return loop_post(loop->base, fn, arg);
}
