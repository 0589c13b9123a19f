/* Locks of the tree and of nodes. Nobody gives up waiting for them: a program that is killed is answered at once,
 * and what it asked for is finished without it. */
#include "fs/internal.h"

void queue_wait(struct co_queue *queue)
{
	bool former = co_uninterruptible(true);

	if (co_queue_wait(queue) < 0)
		abort(); /* cannot be: interruptions are off */
	co_uninterruptible(former);
}

void tree_shared(struct fs *fs)
{
	while (fs->exclusive || fs->exclusive_waits)
		queue_wait(&fs->tree_free);
	fs->shared++;
}

void tree_settle(struct fs *fs)
{
	while (fs->exclusive)
		queue_wait(&fs->tree_free);
}

void tree_shared_end(struct fs *fs)
{
	if (--fs->shared == 0)
		co_queue_wake_all(&fs->tree_free);
}

void tree_exclusive(struct fs *fs)
{
	while (fs->exclusive || fs->exclusive_waits)
		queue_wait(&fs->tree_free);
	fs->exclusive_waits = true;
	while (fs->shared)
		queue_wait(&fs->tree_free);
	fs->exclusive_waits = false;
	fs->exclusive = true;
	fs->exclusives++;
}

void tree_exclusive_end(struct fs *fs)
{
	fs->exclusive = false;
	push_go_on(fs);
	co_queue_wake_all(&fs->tree_free);
}

void mutex_lock(struct co_mutex *mutex)
{
	bool former = co_uninterruptible(true);

	if (co_mutex_lock(mutex) < 0)
		abort(); /* as above */
	co_uninterruptible(former);
}

void node_lock(struct node *node)
{
	mutex_lock(&node->lock);
}

void node_unlock(struct node *node)
{
	push_go_on(node->fs);
	co_mutex_unlock(&node->lock);
}
