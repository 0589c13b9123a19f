/* The notifications of two connections of which the second takes over from the first. While both stand each carries the
 * same changes in the same order, but for those from before the second was made, which only the first has, and those from
 * after the first's end. The first's are told as they come; which, is remembered since the second was dialled, because the
 * second may stand before anybody here knows of it. The second's are kept, until the first has brought them too or
 * has ended; then what is left of them is told. Afterwards those of the second that the first was ahead with are passed by.
 * So each is told once, and no key goes backwards, however far one of the two lags behind.
 *
 * Two notifications are the same if key, value and timestamp are. */
#ifndef HPKVFS_CLIENT_OVERLAP_H
#define HPKVFS_CLIENT_OVERLAP_H

#include <stdbool.h>

#include "base/cleanup.h"
#include "client/hpkv.h"

#define OVERLAP_MAX 16384
#define OVERLAP_MAX_BYTES (16u * 1024 * 1024)

struct heard {
	struct heard *prev, *next;
	struct hpkv_notification notification; /* points into `bytes` */
	char bytes[];
};

struct heard_list {
	struct heard *first;
	size_t count, bytes;
};

/* {0}: there is one connection, and nothing to remember. */
struct overlap {
	bool preparing;         /* the second is being dialled */
	bool active;            /* both stand */
	bool synced;            /* one came on both, so the first is not behind with what the second has not */
	struct heard_list told; /* by the first, and not come on the second yet */
	struct heard_list kept; /* from the second, and not come on the first yet */
	/* What the first, when it was a second itself, was behind with. */
	struct heard_list behind;
};

/* A second connection is about to be dialled. The overlap before has ended, and its second is the first now. */
void overlap_prepare(struct overlap *overlap);
/* It will not stand. Without overlap_prepare: no effect. */
void overlap_cancel(struct overlap *overlap);
/* It stands. */
void overlap_begin(struct overlap *overlap);

/* The first brought one. True: it is to be told. Without memory the same on the second will not be recognised. */
bool overlap_first(struct overlap *overlap, const struct hpkv_notification *notification);

/* The second did, during the overlap or later. *tell: now. 0; -ENOMEM or -ENOBUFS: it could not be kept, so the overlap
 * must end now, with this one told after those that are kept. */
CHECKED int overlap_second(struct overlap *overlap, const struct hpkv_notification *notification, bool *tell);

/* The first has ended: what overlap_take gives is to be told, before anything else. */
void overlap_end(struct overlap *overlap);

/* The next of those that are kept, to be freed with free(), or NULL. */
struct heard *overlap_take(struct overlap *overlap);

/* The second cannot be behind with anything any more. */
void overlap_forget_told(struct overlap *overlap);

void overlap_free(struct overlap *overlap);

#endif
