/* Tokens: a grant, signed and with an end. The server keeps none of them, so they stay valid over restarts, as long
 * as its API key does. */
#ifndef HPKVFS_SERVER_TOKEN_H
#define HPKVFS_SERVER_TOKEN_H

#include "server/grant.h"

#define TOKEN_KEY_BYTES 32

/* The key that signs tokens, from the API key. 0 or -ENOMEM. */
CHECKED int token_key_derive(struct str api_key, unsigned char key[TOKEN_KEY_BYTES]);

/* Appends a token for what `request` (subscribePatterns, subscribeKeys, accessPattern) asks for, valid until
 * `expires_s`. Only characters that need no percent-encoding. 0; -EINVAL and `why`; -ENOMEM. */
CHECKED int token_add(struct buf *out, const unsigned char key[TOKEN_KEY_BYTES], const json_t *request,
		      int64_t expires_s, const char **why);

/* 0 and the grant; -EACCES: not a token of this key, or not valid at `now_s` any more. */
CHECKED int token_read(struct str token, const unsigned char key[TOKEN_KEY_BYTES], int64_t now_s, struct grant **out);

#endif
