/* A client's tokens: where it gets them itself, one before each attempt to connect, and another before the last expires;
 * then, or when the user gave another, the change-over.
 *
 * The change-over: a second connection is dialled beside the first. When it is open it becomes the client's, and new
 * requests go to it; the first is kept until what was in flight on it has been answered and all that it alone notifies of
 * has come: it brought what the second did (overlap.h), or was pinged since the second stands, and has answered. Then it is
 * closed. If it ends before that, changes may be lost, so both connections count as lost. A failure to get the second leaves
 * the first as it is, and is tried again. */
#ifndef HPKVFS_CLIENT_RENEWAL_H
#define HPKVFS_CLIENT_RENEWAL_H

#include "client/dial.h"
#include "client/internal.h"
#include "client/overlap.h"
#include "client/retry.h"
#include "client/token.h"

struct renewal {
	bool source;                     /* the client gets its tokens itself, with `config` */
	struct hpkv_token_config config; /* its strings are owned */
	unsigned lifetime_ms;
	char *token;      /* the last that it got */
	uint64_t due_us;  /* when it is to be renewed */
	bool other_given; /* by the user, and no connection was begun with it */

	struct token_call *asking;
	struct dial dial;        /* of the second connection */
	struct retry retry;      /* after failures */
	struct loop_timer timer; /* begins the next renewal */

	struct connection *former; /* after the change-over, until it is not needed any more */
	bool from_former;          /* the message that is being looked at came on it */
	bool holding;              /* nothing is sent: what is in flight on the former goes first */
	uint64_t since_us;         /* when the second took over */
	uint64_t pinged_us;        /* when the former was last pinged */
	uint64_t answered_us;      /* when it first answered; 0: it has not */
	struct overlap overlap;
	struct loop_timer tick; /* looks whether the former can go; then ends the memory of it */

	struct connection *closing; /* a former one, until the server has answered */
	struct loop_timer closing_timer;
};

/* Before anything else. */
void renewal_init(struct hpkv_client *client);
/* Copies what it needs. 0 or -ENOMEM. */
CHECKED int renewal_configure(struct hpkv_client *client, const struct hpkv_config *config);
void renewal_free(struct hpkv_client *client);

/* `tokens` with what it takes from the rest. Borrowed. */
struct hpkv_token_config renewal_token_config(const struct hpkv_config *config);

/* dial_start for the client's own dial, with a token first where that is needed. dial_cancel is to go with
 * renewal_stop. */
void renewal_dial(struct hpkv_client *client);

/* A connection was made by that. */
void renewal_connected(struct hpkv_client *client);

/* The client's connection ends, or attempts to make one. A former connection is closed, and not heard of any more. */
void renewal_stop(struct hpkv_client *client);

/* Filters what comes on either connection. True: tell it now. Otherwise it may have called the user. */
bool renewal_hears(struct hpkv_client *client, const struct hpkv_notification *notification);

/* The connection was lost: tells what was kept. Calls the user. */
void renewal_lost(struct hpkv_client *client);

#endif
