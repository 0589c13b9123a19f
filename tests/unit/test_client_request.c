/* The table of requests under way. */
#include "client/request.h"

#include <jansson.h>

#include "base/list.h"
#include "fail_alloc.h"
#include "unit.h"

static const struct call get_a = { .op = OP_GET, .key = { "a", 1 } };

static struct hpkv_request *add(struct request_table *table, uint64_t timeout_us)
{
	struct hpkv_request *request;

	assert_int_equal(request_new(table, &get_a, timeout_us, &request), 0);
	return request;
}

static void drop(struct request_table *table, struct hpkv_request *request)
{
	request_remove(table, request);
	request_free(request);
}

static void drop_all(struct request_table *table)
{
	struct hpkv_request *request;

	while ((request = request_any(table)))
		drop(table, request);
	assert_null(table->queue);
	assert_null(request_first_deadline(table));
}

static void ids_count_from_one(void **state)
{
	struct request_table table = { 0 };

	(void)state;
	for (uint32_t i = 1; i <= 1000; i++)
		assert_int_equal(add(&table, 1000)->id, i);
	assert_int_equal(request_find(&table, 500)->id, 500);
	assert_null(request_find(&table, 0));
	assert_null(request_find(&table, 1001));
	drop_all(&table);
}

static void ids_never_collide_when_they_wrap(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *first, *second;

	(void)state;
	first = add(&table, 1000);
	second = add(&table, 1000);
	drop(&table, second);
	table.last_id = REQUEST_ID_MAX - 1;
	assert_int_equal(add(&table, 1000)->id, REQUEST_ID_MAX);
	assert_int_equal(add(&table, 1000)->id, 2); /* 1 is under way */
	assert_int_equal(add(&table, 1000)->id, 3);
	assert_ptr_equal(request_find(&table, 1), first);
	drop_all(&table);
}

static void sent_in_order(void **state)
{
	struct request_table table = { 0 };

	(void)state;
	for (int i = 0; i < 5; i++)
		add(&table, 1000);
	drop(&table, request_find(&table, 2));
	assert_int_equal(request_next_to_send(&table)->id, 1);
	assert_int_equal(request_next_to_send(&table)->id, 3);
	drop(&table, request_find(&table, 1)); /* one that was sent */
	assert_int_equal(request_next_to_send(&table)->id, 4);
	assert_int_equal(request_next_to_send(&table)->id, 5);
	assert_null(request_next_to_send(&table));
	assert_false(request_find(&table, 5)->queued);
	drop_all(&table);
}

static void deadlines_in_order(void **state)
{
	static const uint64_t timeouts[] = { 50000000, 10000000, 30000000, 20000000, 40000000 };
	static const uint32_t order[] = { 2, 4, 3, 5, 1 };
	struct request_table table = { 0 };

	(void)state;
	for (size_t i = 0; i < 5; i++)
		add(&table, timeouts[i]);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(request_first_deadline(&table)->id, order[i]);
		drop(&table, request_first_deadline(&table));
	}
	assert_null(request_first_deadline(&table));
}

static void deadline_begins_anew_when_sent(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *request = add(&table, 1000);
	uint64_t before = request->deadline_us;

	(void)state;
	while (request_next_to_send(&table) == NULL)
		;
	assert_true(request->deadline_us >= before);
	drop_all(&table);
}

static void ended_waits_apart(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *request = add(&table, 1000);

	(void)state;
	add(&table, 1000);
	request_end(&table, request, -ECANCELED);
	assert_null(request_find(&table, 1));
	assert_ptr_equal(table.ended, request);
	assert_int_equal(request_next_to_send(&table)->id, 2);
	DL_DELETE(table.ended, request);
	request_free(request);
	drop_all(&table);
}

static void frame_has_room_in_front(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *request = add(&table, 1000);

	(void)state;
	assert_string_equal(request->frame.p + LWS_PRE, "{\"op\":1,\"messageId\":1,\"key\":\"a\"}");
	drop_all(&table);
}

static void out_of_memory(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *request;

	(void)state;
	assert_survives_failures(request_new(&table, &get_a, 1000, &request), assert_true(true));
	drop_all(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_count_from_one),
		cmocka_unit_test(ids_never_collide_when_they_wrap),
		cmocka_unit_test(sent_in_order),
		cmocka_unit_test(deadlines_in_order),
		cmocka_unit_test(deadline_begins_anew_when_sent),
		cmocka_unit_test(ended_waits_apart),
		cmocka_unit_test(frame_has_room_in_front),
		cmocka_unit_test(out_of_memory),
	};

	json_set_alloc_funcs(fail_alloc_malloc, free);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
