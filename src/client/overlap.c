#include "client/overlap.h"

#include <errno.h>
#include <stdlib.h>

#include "base/list.h"

/* --- lists --- */

static bool same_slice(struct hpkv_slice a, struct hpkv_slice b)
{
	return a.size == b.size && !a.data == !b.data && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static bool same(const struct hpkv_notification *a, const struct hpkv_notification *b)
{
	return a->timestamp_ms == b->timestamp_ms && a->number == b->number && same_slice(a->key, b->key) &&
	       same_slice(a->value, b->value);
}

/* The order is the same on both connections, so it is one of the first nearly always. */
static struct heard *find(const struct heard_list *list, const struct hpkv_notification *notification)
{
	struct heard *heard;

	DL_FOREACH(list->first, heard)
		if (same(&heard->notification, notification))
			return heard;
	return NULL;
}

static size_t size_of(const struct hpkv_notification *notification)
{
	return sizeof(struct heard) + notification->key.size + notification->value.size;
}

static void take_out(struct heard_list *list, struct heard *heard)
{
	DL_DELETE(list->first, heard);
	list->count--;
	list->bytes -= size_of(&heard->notification);
}

static void drop(struct heard_list *list, struct heard *heard)
{
	take_out(list, heard);
	free(heard);
}

static void drop_all(struct heard_list *list)
{
	while (list->first)
		drop(list, list->first);
}

static bool full(const struct heard_list *list)
{
	return list->count >= OVERLAP_MAX || list->bytes >= OVERLAP_MAX_BYTES;
}

/* False: no memory. */
static bool remember(struct heard_list *list, const struct hpkv_notification *notification)
{
	size_t key = notification->key.size, value = notification->value.size;
	struct heard *heard = malloc(sizeof(*heard) + key + value);

	if (!heard)
		return false;
	heard->notification = *notification;
	heard->notification.key.data = heard->bytes;
	if (key)
		memcpy(heard->bytes, notification->key.data, key);
	if (notification->value.data)
		heard->notification.value.data = heard->bytes + key;
	if (value)
		memcpy(heard->bytes + key, notification->value.data, value);
	DL_APPEND(list->first, heard);
	list->count++;
	list->bytes += size_of(notification);
	return true;
}

/* --- the two connections --- */

static void replace(struct heard_list *list, struct heard_list *by)
{
	drop_all(list);
	*list = *by;
	*by = (struct heard_list){ 0 };
}

void overlap_prepare(struct overlap *overlap)
{
	replace(&overlap->behind, &overlap->told);
	overlap->preparing = true;
	overlap->synced = false;
}

void overlap_cancel(struct overlap *overlap)
{
	if (overlap->preparing)
		replace(&overlap->told, &overlap->behind);
	overlap->preparing = false;
}

void overlap_begin(struct overlap *overlap)
{
	overlap->preparing = false;
	overlap->active = true;
}

/* A connection brought a later one of this key: what it lacks of those before it will not come any more. */
static void forget_key(struct heard_list *list, struct hpkv_slice key)
{
	struct heard *heard, *next;

	DL_FOREACH_SAFE(list->first, heard, next)
		if (same_slice(heard->notification.key, key))
			drop(list, heard);
}

static bool told_before(struct heard_list *list, const struct hpkv_notification *notification)
{
	struct heard *heard = find(list, notification);

	if (heard)
		drop(list, heard);
	else
		forget_key(list, notification->key);
	return heard;
}

bool overlap_first(struct overlap *overlap, const struct hpkv_notification *notification)
{
	bool tell = !told_before(&overlap->behind, notification);
	struct heard *heard = find(&overlap->kept, notification);

	if (heard) {
		drop(&overlap->kept, heard);
		overlap->synced = true;
		return tell;
	}
	/* the oldest are from before the second was made, if any are */
	while (full(&overlap->told))
		drop(&overlap->told, overlap->told.first);
	remember(&overlap->told, notification);
	return tell;
}

int overlap_second(struct overlap *overlap, const struct hpkv_notification *notification, bool *tell)
{
	if (told_before(&overlap->told, notification)) {
		overlap->synced = true;
		*tell = false;
		return 0;
	}
	if (overlap->active && full(&overlap->kept))
		return -ENOBUFS;
	if (overlap->active && !remember(&overlap->kept, notification))
		return -ENOMEM;
	*tell = !overlap->active;
	return 0;
}

void overlap_end(struct overlap *overlap)
{
	overlap->active = false;
}

struct heard *overlap_take(struct overlap *overlap)
{
	struct heard *heard = overlap->kept.first;

	if (heard)
		take_out(&overlap->kept, heard);
	return heard;
}

void overlap_forget_told(struct overlap *overlap)
{
	drop_all(&overlap->told);
}

void overlap_free(struct overlap *overlap)
{
	drop_all(&overlap->told);
	drop_all(&overlap->kept);
	drop_all(&overlap->behind);
	*overlap = (struct overlap){ 0 };
}
