/* Ranges of a file: made of zeros, looked for, copied. */
#include <errno.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "fs/internal.h"

static co_fn int make_zeros(struct node *node, uint64_t offset, uint64_t len)
{
	int r = room_wait(node, 0);

	if (r == 0)
		r = file_prepare_change(node, offset, len);
	if (r < 0)
		return r;
	r = draft_zero(node->file->draft, offset, len);
	file_changed(node);
	return r;
}

int fs_fallocate(struct fs_handle *handle, int mode, uint64_t offset, uint64_t len, pid_t pid)
{
	struct node *node = handle->node;
	bool keep_size = mode & FALLOC_FL_KEEP_SIZE;
	bool zeros = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
	int r = 0;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (len == 0 || ((mode & FALLOC_FL_PUNCH_HOLE) && !keep_size))
		return -EINVAL;
	if (len > CONTENT_MAX_SIZE || offset > CONTENT_MAX_SIZE - len)
		return -EFBIG;
	handle_wrote(handle, pid);
	if (zeros)
		r = make_zeros(node, offset, len);
	if (r == 0 && !keep_size && offset + len > node_size(node))
		r = file_resize(node, offset + len);
	return r;
}

/* --- data and holes --- */

static uint64_t draft_seek(const struct draft *draft, uint64_t offset, bool data)
{
	uint32_t chunks = draft_chunks(draft), index = (uint32_t)(offset / draft->chunk_size);
	uint64_t found, tail = draft_tail_start(draft);

	if (tail < draft->size) {
		found = offset < tail ? body_next_hole(draft->base, offset) : draft->size;
		if (data)
			found = offset < tail ? body_next_data(draft->base, offset) : offset;
		return data || found < tail ? found : draft->size;
	}
	if (data)
		index = draft_next_data(draft, index);
	else
		while (index < chunks && draft_plan(draft, index) != DRAFT_HOLE)
			index++;
	found = index * draft->chunk_size;
	if (index == chunks || found > draft->size)
		return draft->size;
	return found > offset ? found : offset;
}

int fs_lseek(struct fs_handle *handle, uint64_t offset, int whence, uint64_t *out)
{
	struct node *node = handle->node;
	struct file *file = node->file;
	bool data = whence == SEEK_DATA;
	uint64_t size;
	int r;

	if (!data && whence != SEEK_HOLE)
		return -EINVAL;
	r = file_readable(node);
	if (r < 0)
		return r;
	size = node_size(node);
	if (offset >= size)
		return -ENXIO;
	if (file->draft)
		offset = draft_seek(file->draft, offset, data);
	else if (file->body)
		offset = data ? body_next_data(file->body, offset) : body_next_hole(file->body, offset);
	else if (!data)
		offset = size;
	if (data && offset >= size)
		return -ENXIO;
	*out = offset;
	return 0;
}

/* --- copies --- */

int fs_copy_range(struct fs_handle *from, uint64_t from_offset, struct fs_handle *to, uint64_t to_offset, size_t len,
		  pid_t pid, size_t *copied)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	int r = fs_read(from, from_offset, len < FS_COPY_BYTES ? len : FS_COPY_BYTES, &bytes);

	if (r == 0 && bytes.len)
		r = fs_write(to, to_offset, buf_str(&bytes), pid);
	if (r < 0)
		return r;
	*copied = bytes.len;
	return 0;
}
