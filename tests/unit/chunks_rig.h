/* What the tests of files larger than a value have beside fs_rig.h. */
#ifndef HPKVFS_TESTS_CHUNKS_RIG_H
#define HPKVFS_TESTS_CHUNKS_RIG_H

#include "fs_rig.h"

#include "fs/content.h"

/* From RIG_MAX_VALUE: 3072 / 4 * 3, of which 4096 is not a multiple. */
#define CHUNK 2304

/* Bytes that are not plain. */
struct buf noise(size_t len);
int write_bytes(struct rig *rig, struct fs_handle *handle, uint64_t offset, struct str bytes);
/* Replaces the file as a whole. */
void put_file(struct rig *rig, const char *path, struct str bytes);
void assert_file(struct rig *rig, const char *path, struct str bytes);
/* The layout's version is there already: it is no part of what is counted. */
void prepare(struct rig *rig);
/* The only part of the stub at `key`; its holes point into the store's value. */
struct content_part part_of(struct rig *rig, const char *key);

#endif
