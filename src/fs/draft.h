/* What programs here see of a file that they have changed and the store does not hold yet: a pure structure, without access to
 * the store.
 *
 * The content is an array of chunks. What was changed lies in slots; a chunk without a slot is as in the content that the draft
 * was made from (its base), as far as that is still valid, and zeros behind it. Chunks that are sent before the commit are
 * stored under the draft's own id. Where that is the id of the base (in place), those of the base are stored under it already.
 *
 * Shared by reference: who waits for the store with one holds it, while the file may have got another. */
#ifndef HPKVFS_FS_DRAFT_H
#define HPKVFS_FS_DRAFT_H

#include "base/tree.h"
#include "fs/body.h"

enum slot_state {
	SLOT_DIRTY,   /* bytes in memory; zeros behind them */
	SLOT_OUT,     /* `valid` bytes stored under the draft's id; zeros behind them */
	SLOT_FOREIGN, /* the same under the base's id, which the draft has left */
	SLOT_HOLE,
};

/* What a slot takes beside its bytes, with what malloc adds to both. */
#define SLOT_BYTES (sizeof(struct slot) + 48)

/* What a file takes that has changes, however few: its node, which is not freed meanwhile, and the draft. */
#define DRAFT_BYTES 1024

struct slot {
	RB_ENTRY(slot) by_index;
	uint32_t index;
	enum slot_state state;
	uint64_t changed; /* the draft's `changes` when it last was */
	struct buf bytes; /* SLOT_DIRTY */
	uint64_t valid;   /* SLOT_OUT, SLOT_FOREIGN */
	bool has_nul;     /* likewise: it is known that there is one in it */
};

RB_HEAD(slot_tree, slot);

struct draft {
	unsigned refs;
	uint64_t size;
	uint64_t chunk_size;
	struct slot_tree slots;
	struct body *base;   /* NULL: empty, or all of it was in memory and became slots */
	uint64_t base_limit; /* of the base so many bytes are still content */
	uint64_t lowest;     /* the least size since draft_capture */
	bool in_place;
	bool has_id;
	struct content_id id; /* of chunks that are sent */
	struct buf other; /* not in place: a key beside the file's that may hold the id, though `i/` does not say so */
	bool named;       /* `i/` has said that another may */
	uint64_t shared;  /* `changes` of what is under that name */
	uint32_t sent_chunks; /* behind the last one for which that was begun */
	bool moves;           /* what was sent is being copied to `next` */
	bool gone;            /* and is not all there any more */
	struct content_id next;
	uint64_t changes;     /* grows with every change */
	uint64_t dirty_bytes; /* in memory */
	uint64_t memory;      /* DRAFT_BYTES, and what sending makes free */
	uint64_t *sum;        /* of `memory` over many drafts; NULL: it is not counted */
	uint32_t last;        /* the chunk that was last written */
	bool tried;           /* a commit of it, or of what it has replaced, has failed */
	bool anew;            /* and since then it has begun anew: whatever the key holds now gives way */
	/* hashes, empty: of nothing; of what the key held when that commit was begun, or was found to hold since, and of what was
	 * sent last */
	char before[CONTENT_HASH_LEN + 1], sent[CONTENT_HASH_LEN + 1];
	struct buf
		tail; /* what was appended, behind all of the base: then nothing else has changed, and there are no slots */
};

/* What a commit as chunks does with one. */
enum draft_plan {
	DRAFT_HOLE,
	DRAFT_STORED, /* nothing: it is stored under the draft's id */
	DRAFT_SEND,   /* from memory */
	DRAFT_COPY,   /* read it, then send it */
};

/* An empty draft. `chunk_size` is what the chunks of a new id have. NULL: no memory. */
struct draft *draft_new(uint64_t chunk_size);
/* One with the content of `base`, of which it takes a reference: in place, and with its chunk size, where its first part is
 * chunked. */
struct draft *draft_new_on(struct body *base, uint64_t chunk_size);
struct draft *draft_ref(struct draft *draft); /* NULL is allowed for both */
void draft_unref(struct draft *draft);
/* Its memory is counted in *sum from now on until it is freed, and no more where it was before. */
void draft_count(struct draft *draft, uint64_t *sum);

/* Chunks, holes counted. */
uint32_t draft_chunks(const struct draft *draft);
/* The most bytes that it may have. */
uint64_t draft_size_limit(const struct draft *draft);
/* Bytes of content in a chunk; 0 behind the end. */
uint64_t draft_chunk_len(const struct draft *draft, uint32_t index);

/* What lies at `offset`, which is below the size; never beyond the end of its chunk. */
void draft_piece(const struct draft *draft, uint64_t offset, struct piece *out);

/* True, and the first such chunk, if a change of these bytes needs the content of a chunk in memory. */
bool draft_needs(const struct draft *draft, uint64_t offset, uint64_t len, uint32_t *index);
/* The chunk's whole content, as it was read while `changes` stayed the same. -ENOMEM. */
CHECKED int draft_fill(struct draft *draft, uint32_t index, struct str bytes);

/* After draft_needs has answered false for the same bytes. Writes grow the draft; zeros are made of what is within its size,
 * whole chunks as holes. -ENOMEM: some of it may be done. */
CHECKED int draft_write(struct draft *draft, uint64_t offset, struct str bytes);
CHECKED int draft_zero(struct draft *draft, uint64_t offset, uint64_t len);
void draft_resize(struct draft *draft, uint64_t size);

/* Appends to the tail: only where nothing but the tail has changed. -ENOMEM (unchanged). */
CHECKED int draft_append(struct draft *draft, struct str bytes);
/* Where the tail begins; the size where there is none. */
uint64_t draft_tail_start(const struct draft *draft);
/* Makes slots of the tail, so that all else can be done. After draft_needs has answered false for its bytes. -ENOMEM: some of it
 * may be done, and it is to be done again. */
CHECKED int draft_settle(struct draft *draft);
/* The first `len` bytes of the tail are stored, and `base` says what is now (NULL: no memory for that). False: nothing else
 * waits. */
bool draft_appended(struct draft *draft, struct body *base, size_t len);

/* The first chunk from `from` on that is no hole; draft_chunks where there is none. */
uint32_t draft_next_data(const struct draft *draft, uint32_t from);
enum draft_plan draft_plan(const struct draft *draft, uint32_t index);
/* In memory; NULL: not. */
const struct slot *draft_dirty_slot(const struct draft *draft, uint32_t index);
/* The next one in memory from `from` on; NULL: none. */
const struct slot *draft_next_dirty(const struct draft *draft, uint32_t from);
/* The next one that is stored under the draft's id. */
const struct slot *draft_next_out(const struct draft *draft, uint32_t from);
/* Memory that sending makes free: all of what is changed, or all but the chunk that was written last. */
uint64_t draft_can_free(const struct draft *draft, bool last_too);
/* True if a commit in place changes nothing but chunks: the stub stays as it is. */
bool draft_keeps_stub(const struct draft *draft);
/* True if there is a NUL in the content for certain, as far as is known without the store. */
bool draft_has_nul(const struct draft *draft);
/* True if all of the content can be had without the store. */
bool draft_in_memory(const struct draft *draft);

/* `valid` bytes of the chunk were stored under the draft's id, as they were when `changes` was `changed`, at draft_capture or
 * later. What was in memory goes to *bytes, if nobody changed it since. -ENOMEM. */
CHECKED int draft_sent(struct draft *draft, uint32_t index, uint64_t valid, uint64_t changed, struct buf *bytes);

/* The base's id is left: what is stored under it must be sent again under a new one. */
void draft_leave_place(struct draft *draft);

/* What it is from now on is another change than what was tried, or is under way. */
void draft_begin_anew(struct draft *draft);
/* It takes the place of another, of which something may have been sent. */
void draft_follow(struct draft *draft);
/* It is known what the key holds, and the rest is another change. */
void draft_stored(struct draft *draft);

/* Before chunks are sent: the number for draft_rebase. What is sent and committed is the content of this moment or later. */
uint64_t draft_capture(struct draft *draft);
/* The content captured is stored now, and `base` says how. Changes since stay. False: there were none. */
bool draft_rebase(struct draft *draft, struct body *base, uint64_t captured);

#endif
