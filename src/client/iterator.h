#ifndef HPKVFS_CLIENT_ITERATOR_H
#define HPKVFS_CLIENT_ITERATOR_H

#include "client/client.h"

/* For hpkv_iterator_next_sync. The client may be gone; the loop is not. */
struct hpkv_loop *iterator_loop(const struct hpkv_iterator *iterator);
struct hpkv_client *iterator_client(const struct hpkv_iterator *iterator);

/* The client is being freed: what iterators are about to tell without a request is -ECANCELED instead. Calls the user. */
void iterators_cancel(struct hpkv_client *client);

/* 1: the next record, without asking the server; 0: the end; -EAGAIN: the server must be asked, with
 * hpkv_iterator_next; -EBUSY. */
CHECKED int iterator_take(struct hpkv_iterator *iterator, struct hpkv_record *out);

#endif
