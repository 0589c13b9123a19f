/* Tokens under way, so that hpkv_loop_free can end them. */
#ifndef HPKVFS_CLIENT_TOKEN_H
#define HPKVFS_CLIENT_TOKEN_H

#include "client/internal.h"

/* Ends them all with -ECANCELED. */
void tokens_cancel(struct hpkv_loop *loop);

#endif
