#include "room_rig.h"

#include "base/clock.h"

#define PATTERNS "*.swp:.*.??????:*~"
#define LATE_US (3600 * CLOCK_US_PER_S)

void room_limit(struct rig *rig, uint64_t bytes)
{
	rig->config.waiting_most = bytes;
	rig->config.local = STR(PATTERNS);
	rig->config.local_ttl_us = LATE_US;
	rig->config.grace_us = 1000;
	rig_restart(rig);
	assert_int_equal(run(rig, op_start), 0);
	assert_lists(rig, "", "");
	memstore_log_clear(rig->ms);
}

uint64_t room_taken(const struct rig *rig)
{
	return fs_figures(rig->fs).waiting_bytes;
}

/* --- files beside what they should be --- */

void twin_make(struct rig *rig, struct twin *twin, const char *format, unsigned number, int flags)
{
	*twin = (struct twin){ 0 };
	snprintf(twin->name, sizeof(twin->name), format, number);
	assert_int_equal(run(rig, op_create, .parent = FS_ROOT_ID, .name = twin->name, .mode = 0644,
			     .flags = O_CREAT | O_RDWR | flags),
			 0);
	twin->handle = rig->handle;
	twin->id = rig->entry.id;
}

void fill(struct buf *bytes, enum kind kind, unsigned seed, size_t len)
{
	buf_clear(bytes);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf_add_char(bytes, kind == TEXT ? (char)('a' + (seed + i * 7) % 26)
								  : (char)(seed * 31 + i * 7)),
				 0);
}

int twin_append(struct rig *rig, struct twin *twin, enum kind kind, size_t len)
{
	CLEANUP(buf_free) struct buf bytes = BUF_INIT;
	int r;

	fill(&bytes, kind, (unsigned)(twin->name[1] + twin->content.len), len);
	r = run(rig, op_write, .handle = twin->handle, .offset = twin->content.len, .data = buf_str(&bytes));
	if (r == 0)
		assert_int_equal(buf_add_str(&twin->content, buf_str(&bytes)), 0);
	return r;
}

void twin_check_handle(struct rig *rig, struct twin *twin)
{
	assert_int_equal(run(rig, op_read, .handle = twin->handle, .size = twin->content.len + 1), 0);
	assert_true(str_equal(buf_str(&rig->out), buf_str(&twin->content)));
}

void twin_close(struct rig *rig, struct twin *twin)
{
	assert_int_equal(close_file(rig, twin->handle), 0);
	twin->handle = NULL;
}

void twin_check(struct rig *rig, struct twin *twin)
{
	assert_int_equal(look(rig, twin->name), 0);
	assert_int_equal(run(rig, op_open, .id = rig->entry.id, .flags = O_RDONLY), 0);
	twin->handle = rig->handle;
	twin_check_handle(rig, twin);
	twin_close(rig, twin);
}

void twins_free(struct twin *twins, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		buf_free(&twins[i].content);
	free(twins);
}

struct twin *twins_new(unsigned count)
{
	struct twin *twins = calloc(count, sizeof(*twins));

	assert_non_null(twins);
	return twins;
}

unsigned chunks_stored(const struct rig *rig)
{
	struct str key;
	unsigned count = 0;

	for (size_t i = 0; (key = memstore_key(rig->ms, i)).p; i++)
		count += str_starts(key, STR(".hpkvfs/c/"));
	return count;
}

void until_no_chunks(struct rig *rig)
{
	while (chunks_stored(rig))
		loop_once(rig->loop);
}

void check_after_restart(struct rig *rig, struct twin *twins, unsigned count)
{
	assert_int_equal(room_taken(rig), 0);
	assert_int_equal(fs_figures(rig->fs).dirty_bytes, 0);
	rig_restart(rig);
	for (unsigned i = 0; i < count; i++)
		twin_check(rig, &twins[i]);
}
