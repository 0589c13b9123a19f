#include "push_rig.h"

#include "fs/internal.h"

static void told(void *arg, struct str key, const struct str *value, int64_t time_ms)
{
	struct rig *rig = arg;

	fs_notified(rig->fs, key, value, time_ms);
}

static void nothing(struct loop_task *task)
{
	(void)task;
}

/* A round of the loop that waits for nothing. */
static void turn(struct rig *rig)
{
	struct loop_task task = { .fn = nothing };

	loop_defer(rig->loop, &task);
	while (task.queued)
		loop_once(rig->loop);
}

void push_settle(struct rig *rig)
{
	for (int i = 0; i < 6 || (fs_figures(rig->fs).background && !memstore_held(rig->ms)); i++)
		turn(rig);
}

void push_begin_soon(struct rig *rig)
{
	memstore_watch(rig->ms, told, rig);
	fs_subscription_begin(rig->fs);
}

void push_begin(struct rig *rig)
{
	push_begin_soon(rig);
	push_settle(rig);
	assert_true(rig->fs->push.live);
}

void push_end(struct rig *rig)
{
	memstore_watch(rig->ms, NULL, NULL);
	fs_subscription_end(rig->fs);
}

void push_tell(struct rig *rig)
{
	assert_true(memstore_tell(rig->ms));
	push_settle(rig);
}

void push_tell_all(struct rig *rig)
{
	push_settle(rig);
	while (memstore_tell(rig->ms))
		push_settle(rig);
}

void push_put(struct rig *rig, const char *key, const char *value)
{
	memstore_put(rig->ms, key, value);
	push_settle(rig);
}

void push_take(struct rig *rig, const char *key)
{
	memstore_remove(rig->ms, key);
	push_settle(rig);
}

void push_large_root(struct rig *rig)
{
	put_numbered(rig, "f%04d", 1500);
	push_end(rig);
	rig_restart(rig);
	push_begin(rig);
	assert_int_equal(look(rig, "f0000"), 0);
	assert_true(rig->fs->root->dir->large);
}

struct node *push_node(struct rig *rig, const char *path)
{
	return node_find(rig->fs, id_of(rig, path));
}

int push_setup(void **state)
{
	int r = rig_setup(state);

	push_begin(*state);
	memstore_log_clear(((struct rig *)*state)->ms);
	return r;
}
