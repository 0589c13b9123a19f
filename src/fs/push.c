/* Coherence by push: what the store tells of, applied to the tree. */
#include "fs/internal.h"

void fs_subscription_begin(struct fs *fs)
{
	(void)fs;
}

void fs_subscription_end(struct fs *fs)
{
	(void)fs;
}

void fs_notified(struct fs *fs, struct str key, const struct str *value, int64_t time_ms)
{
	(void)fs;
	(void)key;
	(void)value;
	(void)time_ms;
}
