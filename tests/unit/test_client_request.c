/* The table of requests under way. */
#include "client/request.h"

#include <errno.h>

#include "fail_alloc.h"
#include "unit.h"

static struct hpkv_request *make(struct request_table *table, const char *key, enum hpkv_priority priority)
{
	const struct call call = { .op = OP_SET, .key = str_c(key), .value = STR("v") };
	struct hpkv_request *request = request_new(&call, NULL);

	assert_non_null(request);
	request->priority = priority;
	request_queue(table, request, false);
	return request;
}

static struct hpkv_request *add(struct request_table *table)
{
	return make(table, "a", HPKV_INTERACTIVE);
}

static struct hpkv_request *send_next(struct request_table *table)
{
	struct hpkv_request *request = request_next(table);

	if (request)
		assert_int_equal(request_sent(table, request, 1), 0);
	return request;
}

static struct hpkv_request *add_sent(struct request_table *table)
{
	struct hpkv_request *request = add(table);

	assert_ptr_equal(send_next(table), request);
	return request;
}

static void drop(struct request_table *table, struct hpkv_request *request)
{
	request_forget(table, request);
	request_free(request);
}

static void drop_all(struct request_table *table)
{
	struct hpkv_request *request;

	request_end_all(table, -ECANCELED);
	assert_null(request_next(table));
	assert_null(request_first_deadline(table));
	while ((request = request_take_ended(table)))
		request_free(request);
	assert_int_equal(table->count, 0);
	assert_int_equal(table->waiting, 0);
	assert_int_equal(table->in_flight, 0);
	assert_int_equal(table->held_count, 0);
	assert_int_equal(table->recovering_count[0] + table->recovering_count[1], 0);
	request_table_free(table);
}

static void strings_are_copied(void **state)
{
	char key[] = "key", value[] = "value", end[] = "end", old[] = "old";
	const struct call call = { .op = OP_RANGE, .key = str_c(key), .value = str_c(value), .end_key = str_c(end) };
	const struct hpkv_slice before = { old, 3 }, absent = { NULL, 0 };
	struct hpkv_request *request = request_new(&call, &before);

	(void)state;
	memset(key, 'x', 3);
	memset(value, 'x', 5);
	memset(end, 'x', 3);
	memset(old, 'x', 3);
	assert_true(str_equal(request->call.key, STR("key")));
	assert_true(str_equal(request->call.value, STR("value")));
	assert_true(str_equal(request->call.end_key, STR("end")));
	assert_true(request->before_known && str_equal(request->before, STR("old")));
	request_free(request);
	request = request_new(&call, &absent);
	assert_true(request->before_known && !request->before.p);
	request_free(request);
	request = request_new(&call, NULL);
	assert_false(request->before_known);
	request_free(request);
}

static void ids_count_from_one(void **state)
{
	struct request_table table = { 0 };

	(void)state;
	for (uint32_t i = 1; i <= 1000; i++)
		assert_int_equal(add_sent(&table)->id, i);
	for (uint32_t i = 1; i <= 1000; i++)
		assert_int_equal(request_find(&table, i)->id, i);
	assert_null(request_find(&table, 0));
	assert_null(request_find(&table, 1001));
	assert_null(request_find(&table, 1 + table.slot_count));
	drop_all(&table);
}

static void ids_never_collide_when_they_wrap(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *first, *second;

	(void)state;
	first = add_sent(&table);
	second = add_sent(&table);
	drop(&table, second);
	table.last_id = REQUEST_ID_MAX - 1;
	assert_int_equal(add_sent(&table)->id, REQUEST_ID_MAX);
	assert_int_equal(add_sent(&table)->id, 2); /* 1 is under way */
	assert_int_equal(add_sent(&table)->id, 3);
	assert_ptr_equal(request_find(&table, 1), first);
	drop_all(&table);
}

/* One that is never answered does not stop the ids at its slot, nor is it found by another id. */
static void ids_pass_by_a_request_that_stays(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *stays = add_sent(&table);

	(void)state;
	for (int i = 0; i < 100000; i++) {
		struct hpkv_request *request = add_sent(&table);

		assert_ptr_equal(request_find(&table, request->id), request);
		assert_true(request->id != stays->id);
		drop(&table, request);
		assert_null(request_find(&table, table.last_id));
	}
	assert_ptr_equal(request_find(&table, 1), stays);
	assert_int_equal(table.slot_count, 64);
	drop_all(&table);
}

static void each_sending_has_an_id_of_its_own(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *request = add_sent(&table);

	(void)state;
	request_again(&table, request);
	assert_null(request_find(&table, 1));
	assert_ptr_equal(send_next(&table), request);
	assert_null(request_find(&table, 1));
	assert_ptr_equal(request_find(&table, 2), request);
	drop_all(&table);
}

static void sent_in_order(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *made[5];

	(void)state;
	for (int i = 0; i < 5; i++)
		made[i] = add(&table);
	assert_null(request_find(&table, 1)); /* not sent */
	drop(&table, made[1]);
	assert_ptr_equal(send_next(&table), made[0]);
	assert_ptr_equal(send_next(&table), made[2]);
	drop(&table, made[0]);
	assert_ptr_equal(send_next(&table), made[3]);
	assert_ptr_equal(send_next(&table), made[4]);
	assert_null(send_next(&table));
	drop_all(&table);
}

static void interactive_before_background(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *b1 = make(&table, "a", HPKV_BACKGROUND), *i1 = make(&table, "a", HPKV_INTERACTIVE);
	struct hpkv_request *b2 = make(&table, "a", HPKV_BACKGROUND), *i2 = make(&table, "a", HPKV_INTERACTIVE);

	(void)state;
	assert_ptr_equal(send_next(&table), i1);
	assert_ptr_equal(send_next(&table), i2);
	assert_ptr_equal(send_next(&table), b1);
	request_again(&table, b1);
	request_again(&table, i1);
	assert_ptr_equal(send_next(&table), i1);
	assert_ptr_equal(send_next(&table), b1);
	assert_ptr_equal(send_next(&table), b2);
	drop_all(&table);
}

static void what_is_sent_again_keeps_its_place(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *made[6];

	(void)state;
	for (int i = 0; i < 6; i++)
		made[i] = add(&table);
	for (int i = 0; i < 4; i++)
		send_next(&table);
	request_again(&table, made[2]);
	request_again(&table, made[0]);
	request_again(&table, made[3]);
	assert_ptr_equal(send_next(&table), made[0]);
	assert_ptr_equal(send_next(&table), made[2]);
	assert_ptr_equal(send_next(&table), made[3]);
	assert_ptr_equal(send_next(&table), made[4]);
	assert_ptr_equal(send_next(&table), made[5]);
	drop_all(&table);
}

static void what_is_recovered_holds_back_later_ones(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *a1 = make(&table, "a", 0), *b = make(&table, "b", 0), *a2 = make(&table, "a", 0);
	struct hpkv_request *a3 = make(&table, "a", 0), *fresh = make(&table, "c", 0);
	struct hpkv_request *other = make(&table, "a", HPKV_BACKGROUND);

	(void)state;
	for (int i = 0; i < 4; i++)
		send_next(&table);
	request_recover(&table, a3);
	request_recover(&table, a2);
	request_recover(&table, a1);
	request_recover(&table, b);
	request_unblock(&table);
	assert_true(a1->look && b->look);
	assert_ptr_equal(send_next(&table), a1);
	assert_ptr_equal(send_next(&table), b);
	assert_ptr_equal(request_next(&table), other); /* of another priority */
	/* the answer to its reading: it goes out again, and still before the others */
	request_again(&table, a1);
	assert_ptr_equal(send_next(&table), a1);
	drop(&table, b);
	assert_ptr_equal(request_next(&table), other);
	drop(&table, a2); /* cancelled while it was blocked */
	assert_ptr_equal(request_next(&table), other);
	drop(&table, a1);
	assert_ptr_equal(send_next(&table), a3);
	assert_ptr_equal(request_next(&table), other);
	drop(&table, a3);
	assert_ptr_equal(send_next(&table), fresh);
	drop_all(&table);
}

static void lost_again_while_it_is_recovered(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *a1 = make(&table, "a", 0), *a2 = make(&table, "a", 0);

	(void)state;
	send_next(&table);
	send_next(&table);
	request_recover(&table, a1);
	request_recover(&table, a2);
	request_unblock(&table);
	assert_ptr_equal(send_next(&table), a1);
	a1->look = false;
	request_recover(&table, a1);
	request_unblock(&table);
	assert_true(a1->look);
	assert_ptr_equal(send_next(&table), a1);
	assert_null(send_next(&table));
	drop(&table, a1);
	assert_ptr_equal(send_next(&table), a2);
	drop_all(&table);
}

/* Two connections stand for a while when a token is renewed, and only the former is lost. */
static void what_is_under_way_stays_as_it_is(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *a = make(&table, "a", 0), *b = make(&table, "b", 0);

	(void)state;
	send_next(&table);
	request_recover(&table, a);
	request_unblock(&table);
	assert_ptr_equal(send_next(&table), a);
	a->look = false;
	request_again(&table, a);
	assert_ptr_equal(send_next(&table), a); /* repeated now */
	assert_int_equal(request_sent(&table, b, 1), 0);
	request_recover(&table, b);
	request_unblock(&table);
	assert_false(a->look);
	assert_true(b->look);
	drop_all(&table);
}

static void all_end_however_they_wait(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *made[6], *held;

	(void)state;
	for (int i = 0; i < 6; i++)
		made[i] = make(&table, "a", i % 2);
	for (int i = 0; i < 4; i++)
		send_next(&table);
	for (int i = 0; i < 6; i++)
		if (made[i]->place == REQUEST_SENT)
			request_recover(&table, made[i]);
	request_unblock(&table);
	held = request_new(&made[0]->call, NULL);
	assert_non_null(held);
	request_queue(&table, held, true);
	assert_int_equal(table.count, 7);
	drop_all(&table);
}

static void the_held_wait_for_their_release(void **state)
{
	struct request_table table = { 0 };
	const struct call call = { .op = OP_GET, .key = STR("a") };
	struct hpkv_request *held = request_new(&call, NULL), *gone = request_new(&call, NULL);

	(void)state;
	request_queue(&table, held, true);
	request_queue(&table, gone, true);
	assert_null(request_next(&table));
	drop(&table, gone);
	assert_int_equal(table.held_count, 1);
	request_release(&table);
	assert_ptr_equal(send_next(&table), held);
	drop_all(&table);
}

static void deadlines_in_order(void **state)
{
	static const uint64_t deadlines[] = { 50, 10, 30, 20, 40, 20 };
	static const int order[] = { 1, 3, 5, 2, 4, 0 };
	struct request_table table = { 0 };
	struct hpkv_request *made[6];

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		made[i] = add(&table);
		request_set_deadline(&table, made[i], deadlines[i]);
	}
	add(&table); /* its time does not run */
	for (size_t i = 0; i < 6; i++) {
		assert_ptr_equal(request_first_deadline(&table), made[order[i]]);
		request_set_deadline(&table, made[order[i]], 0);
	}
	assert_null(request_first_deadline(&table));
	request_set_deadline(&table, made[0], 7);
	request_set_deadline(&table, made[0], 8);
	assert_int_equal(request_first_deadline(&table)->deadline_us, 8);
	drop_all(&table);
}

static void ended_waits_apart(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *request = add(&table), *other = add(&table);

	(void)state;
	request_end(&table, request, -ECANCELED);
	assert_int_equal(request->place, REQUEST_ENDED);
	assert_int_equal(table.count, 2);
	assert_ptr_equal(send_next(&table), other);
	assert_ptr_equal(request_take_ended(&table), request);
	assert_null(request_take_ended(&table));
	request_free(request);
	drop_all(&table);
}

static int make_one(void)
{
	const struct call call = { .op = OP_GET, .key = STR("a") };
	struct hpkv_request *request = request_new(&call, NULL);

	request_free(request);
	return request ? 0 : -ENOMEM;
}

/* Where there is no memory a request stays where it was. */
static void out_of_memory(void **state)
{
	struct request_table table = { 0 };
	struct hpkv_request *request;

	(void)state;
	assert_survives_failures(make_one(), (void)0);
	for (int i = 0; i < 200; i++) {
		request = add(&table);
		assert_survives_failures(
			request_sent(&table, request, 1),
			assert_true(request->place == REQUEST_SENT || request_next(&table) == request));
	}
	assert_int_equal(table.in_flight, 200);
	drop_all(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strings_are_copied),
		cmocka_unit_test(ids_count_from_one),
		cmocka_unit_test(ids_never_collide_when_they_wrap),
		cmocka_unit_test(ids_pass_by_a_request_that_stays),
		cmocka_unit_test(each_sending_has_an_id_of_its_own),
		cmocka_unit_test(sent_in_order),
		cmocka_unit_test(interactive_before_background),
		cmocka_unit_test(what_is_sent_again_keeps_its_place),
		cmocka_unit_test(what_is_recovered_holds_back_later_ones),
		cmocka_unit_test(lost_again_while_it_is_recovered),
		cmocka_unit_test(what_is_under_way_stays_as_it_is),
		cmocka_unit_test(all_end_however_they_wait),
		cmocka_unit_test(the_held_wait_for_their_release),
		cmocka_unit_test(deadlines_in_order),
		cmocka_unit_test(ended_waits_apart),
		cmocka_unit_test(out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
