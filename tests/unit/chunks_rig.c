#include "chunks_rig.h"

#define FS_KEY ".hpkvfs/fs"

static uint32_t seed = 1;

static uint32_t below(uint32_t limit)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 8) % limit;
}

struct buf noise(size_t len)
{
	struct buf bytes = BUF_INIT;

	assert_int_equal(buf_resize(&bytes, len), 0);
	for (size_t i = 0; i < len; i++)
		bytes.p[i] = (char)below(256);
	if (len)
		bytes.p[0] = '\0';
	return bytes;
}

int write_bytes(struct rig *rig, struct fs_handle *handle, uint64_t offset, struct str bytes)
{
	return run(rig, op_write, .handle = handle, .offset = offset, .data = bytes);
}

void put_file(struct rig *rig, const char *path, struct str bytes)
{
	struct fs_handle *handle = open_file(rig, path, O_WRONLY | O_CREAT | O_TRUNC);

	assert_int_equal(write_bytes(rig, handle, 0, bytes), 0);
	assert_int_equal(close_file(rig, handle), 0);
}

void assert_file(struct rig *rig, const char *path, struct str bytes)
{
	struct fs_handle *handle = open_file(rig, path, O_RDONLY);

	assert_int_equal(run(rig, op_read, .handle = handle, .size = bytes.len + 100), 0);
	assert_int_equal(rig->out.len, bytes.len);
	assert_true(str_equal(buf_str(&rig->out), bytes));
	assert_int_equal(run(rig, op_release, .handle = handle), 0);
}

void prepare(struct rig *rig)
{
	memstore_put(rig->ms, FS_KEY, "{\"v\":1,\"delimiter\":\"/\"}");
	assert_int_equal(run(rig, op_start), 0);
	memstore_log_clear(rig->ms);
}

struct content_part part_of(struct rig *rig, const char *key)
{
	static struct content content;
	const char *value = memstore_value(rig->ms, key);

	assert_non_null(value);
	assert_int_equal(content_decode(str_c(value), &content), 0);
	assert_true(content.stub);
	assert_int_equal(content.part_count, 1);
	assert_int_equal(content.parts[0].kind, CONTENT_CHUNKS);
	return content.parts[0];
}
