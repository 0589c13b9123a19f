/* The frames that a client sends, taken apart by the rules of RFC 6455. */
#include "client/frames.h"

#include "unit.h"

static struct buf pattern(size_t len)
{
	struct buf text = BUF_INIT;

	assert_int_equal(buf_resize(&text, len), 0);
	for (size_t i = 0; i < len; i++)
		text.p[i] = (char)('a' + i % 23);
	return text;
}

static uint64_t number(const unsigned char *p, size_t size)
{
	uint64_t value = 0;

	for (size_t i = 0; i < size; i++)
		value = value << 8 | p[i];
	return value;
}

/* A frame of this kind and text begins at `p`: answers where the next one begins, and the mask. */
static const unsigned char *assert_frame_of(int first, const unsigned char *p, struct str text, unsigned char *mask)
{
	size_t size = text.len < 126 ? 0 : text.len < 65536 ? 2 : 8;

	assert_int_equal(p[0], first);
	assert_int_equal(p[1], 0x80 | (size == 0 ? (int)text.len : size == 2 ? 126 : 127));
	if (size)
		assert_int_equal(number(p + 2, size), text.len);
	memcpy(mask, p + 2 + size, 4);
	p += 2 + size + 4;
	for (size_t i = 0; i < text.len; i++)
		if ((p[i] ^ mask[i % 4]) != (unsigned char)text.p[i])
			fail_msg("byte %zu of %zu differs", i, text.len);
	return p + text.len;
}

static const unsigned char *assert_frame(const unsigned char *p, struct str text, unsigned char *mask)
{
	return assert_frame_of(0x81, p, text, mask);
}

static void sizes(void **state)
{
	static const size_t lens[] = { 1, 2, 3, 7, 8, 9, 15, 16, 17, 124, 125, 126, 127, 65535, 65536, 1 << 20 };
	struct frames frames = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		CLEANUP(buf_free) struct buf text = pattern(lens[i]);
		unsigned char mask[4];

		assert_int_equal(frames_add_text(&frames, buf_str(&text)), 0);
		assert_ptr_equal(assert_frame((unsigned char *)frames.out.p, buf_str(&text), mask),
				 frames.out.p + frames.out.len);
		frames_clear(&frames);
		assert_int_equal(frames.out.len, 0);
	}
	frames_free(&frames);
}

static void one_after_the_other(void **state)
{
	CLEANUP(buf_free) struct buf text = pattern(130);
	unsigned char masks[1000][4];
	struct frames frames = { 0 };
	const unsigned char *p;
	size_t repeated = 0;

	(void)state;
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(frames_add_text(&frames, str_of(text.p, i % 130 + 1)), 0);
	p = (unsigned char *)frames.out.p;
	for (size_t i = 0; i < 1000; i++) {
		p = assert_frame(p, str_of(text.p, i % 130 + 1), masks[i]);
		for (size_t k = 0; k < i; k++)
			repeated += memcmp(masks[i], masks[k], 4) == 0;
	}
	assert_ptr_equal(p, frames.out.p + frames.out.len);
	/* by chance one pair in four billion is alike */
	assert_true(repeated < 3);
	frames_free(&frames);
}

static void pings(void **state)
{
	struct frames frames = { 0 };
	unsigned char mask[4];
	const unsigned char *p;

	(void)state;
	assert_int_equal(frames_add_ping(&frames, STR("payload")), 0);
	assert_int_equal(frames_add_text(&frames, STR("text")), 0);
	p = assert_frame_of(0x89, (unsigned char *)frames.out.p, STR("payload"), mask);
	assert_ptr_equal(assert_frame(p, STR("text"), mask), frames.out.p + frames.out.len);
	frames_free(&frames);
}

static void a_large_message_leaves_nothing(void **state)
{
	CLEANUP(buf_free) struct buf text = pattern(1 << 20);
	struct frames frames = { 0 };

	(void)state;
	assert_int_equal(frames_add_text(&frames, buf_str(&text)), 0);
	frames_clear(&frames);
	assert_int_equal(frames.out.capacity, 0);
	frames_free(&frames);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(one_after_the_other),
		cmocka_unit_test(pings),
		cmocka_unit_test(a_large_message_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
