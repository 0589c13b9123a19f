#include "client/listeners.h"

#include <errno.h>
#include <stdlib.h>

#include "base/list.h"

int listeners_add(struct listeners *listeners, unsigned kind, void (*fn)(void), void *arg, uint64_t *id)
{
	struct listener *listener = calloc(1, sizeof(*listener));

	if (!listener)
		return -ENOMEM;
	listener->id = ++listeners->last_id;
	listener->kind = kind;
	listener->fn = fn;
	listener->arg = arg;
	DL_APPEND(listeners->list, listener);
	*id = listener->id;
	return 0;
}

static void sweep(struct listeners *listeners)
{
	struct listener *listener, *next;

	if (listeners->walks || !listeners->removed)
		return;
	DL_FOREACH_SAFE(listeners->list, listener, next) {
		if (listener->id)
			continue;
		DL_DELETE(listeners->list, listener);
		free(listener);
	}
	listeners->removed = false;
}

void listeners_remove(struct listeners *listeners, uint64_t id)
{
	struct listener *listener;

	DL_FOREACH(listeners->list, listener) {
		if (!id || listener->id != id)
			continue;
		listener->id = 0;
		listeners->removed = true;
	}
	sweep(listeners);
}

void listeners_remove_all(struct listeners *listeners)
{
	struct listener *listener;

	DL_FOREACH(listeners->list, listener) {
		listener->id = 0;
		listeners->removed = true;
	}
	sweep(listeners);
}

void listeners_each(struct listeners *listeners, unsigned kind,
		    void (*call)(void *data, const struct listener *listener), void *data)
{
	uint64_t last = listeners->last_id;
	struct listener *listener;

	listeners->walks++;
	DL_FOREACH(listeners->list, listener)
		if (listener->id && listener->id <= last && listener->kind == kind)
			call(data, listener);
	listeners->walks--;
	sweep(listeners);
}

void listeners_free(struct listeners *listeners)
{
	struct listener *listener, *next;

	DL_FOREACH_SAFE(listeners->list, listener, next) {
		DL_DELETE(listeners->list, listener);
		free(listener);
	}
}
