/* When a token says that it expires. */
#ifndef HPKVFS_CLIENT_TOKEN_EXPIRY_H
#define HPKVFS_CLIENT_TOKEN_EXPIRY_H

#include <stdint.h>

/* Milliseconds from now_ms (since the epoch) until the token expires, if it can be read as a JSON Web Token with `exp` or
 * as hpkvd's with `expires`. Nothing is verified: the answer says when to get a new one, no more. 0: it cannot be read, has
 * expired by this machine's clock, or claims more than ten years. */
uint64_t token_left_ms(const char *token, int64_t now_ms);

#endif
