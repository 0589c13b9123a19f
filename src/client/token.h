/* Asking for tokens, any number at once. */
#ifndef HPKVFS_CLIENT_TOKEN_H
#define HPKVFS_CLIENT_TOKEN_H

#include "client/internal.h"

/* hpkv_token_generate, as something that can be ended. */
CHECKED int token_start(struct hpkv_loop *loop, const struct hpkv_token_config *config,
			void (*done)(void *arg, const char *token, const struct hpkv_error *error), void *arg,
			struct token_call **out, struct hpkv_error *error);

/* What hpkv_token_generate says of the configuration alone. */
CHECKED int token_config_check(const struct hpkv_token_config *config, struct hpkv_error *error);

/* Ends it without `done`; before `done` was called only. */
void token_cancel(struct token_call *call);

/* Ends them all with -ECANCELED, so that hpkv_loop_free can free the loop. */
void tokens_cancel(struct hpkv_loop *loop);

#endif
