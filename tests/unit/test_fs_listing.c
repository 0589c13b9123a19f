/* Listings and lookups: what they ask, what they believe, and what happens here while they are under way. */
#include "fs_rig.h"

#include "fs/internal.h"

/* --- requests --- */

static void a_cold_name_is_one_listing(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "a", "1");
	memstore_put(rig->ms, "b", "2");
	assert_int_equal(look(rig, "a"), 0);
	assert_requests(rig, 0, 0, 0, 0, 2);
	assert_int_equal(look(rig, "b"), 0);
	assert_int_equal(look(rig, "none"), -ENOENT);
	assert_lists(rig, "", "a b ");
	assert_reads(rig, "a", "1");
	assert_no_requests(rig); /* values came along, and so did what is absent */
}

static void names_that_differ_at_once_share_a_listing(void **state)
{
	struct rig *rig = *state;
	struct call *calls[20];
	char names[20][8];

	put_numbered(rig, "d/f%d", 20);
	id_of(rig, "d");
	memstore_log_clear(rig->ms);
	for (int i = 0; i < 20; i++) {
		snprintf(names[i], sizeof(names[i]), "f%d", i);
		calls[i] = begin(rig, op_lookup, .parent = id_of(rig, "d"), .name = names[i]);
	}
	for (int i = 0; i < 20; i++)
		assert_int_equal(end(calls[i]), 0);
	assert_requests(rig, 0, 0, 0, 0, 2);
}

static void a_flat_directory_costs_a_page_for_999_keys(void **state)
{
	struct rig *rig = *state;

	put_numbered(rig, "f%04d", 2500);
	assert_int_equal(list_dir(rig, ""), 0);
	assert_int_equal(words(rig->out.p), 2500);
	assert_requests(rig, 0, 0, 0, 0, 3 + 1);
	assert_int_equal(list_dir(rig, ""), 0);
	assert_int_equal(words(rig->out.p), 2500);
	assert_int_equal(look(rig, "f2499"), 0);
	assert_int_equal(look(rig, "none"), -ENOENT);
	assert_no_requests(rig);
}

static void a_page_that_ends_at_the_end(void **state)
{
	struct rig *rig = *state;

	put_numbered(rig, "f%04d", 1000);
	assert_int_equal(list_dir(rig, ""), 0);
	assert_int_equal(words(rig->out.p), 1000);
	assert_requests(rig, 0, 0, 0, 0, 2);
}

static void subdirectories_are_skipped(void **state)
{
	struct rig *rig = *state;

	put_numbered(rig, "d/a/%05d", 5000);
	put_numbered(rig, "d/b/c/%05d", 3000);
	memstore_put(rig->ms, "d/z", "1");
	id_of(rig, "d");
	memstore_log_clear(rig->ms);
	assert_lists(rig, "d", "a/ b/ z ");
	assert_requests(rig, 0, 0, 0, 0, 3 + 1); /* a's first page, b's first page, the rest; the records */
	assert_int_equal(look(rig, "d/b/c"), 0);
	assert_int_equal(look(rig, "d/a/04999"), 0);
}

static void the_reserved_keys_are_passed_by(void **state)
{
	struct rig *rig = *state;

	put_numbered(rig, ".hpkvfs/c/%05d", 3000);
	memstore_put(rig->ms, ".a", "1");
	memstore_put(rig->ms, "z", "1");
	assert_lists(rig, "", ".a z ");
	assert_requests(rig, 0, 0, 0, 0, 2 + 1);
}

static void pages_cut_by_number_and_by_size(void **state)
{
	struct rig *rig = *state;

	put_numbered(rig, "f%02d", 40);
	put_numbered(rig, "s/f%02d", 40);
	for (unsigned limit = 1; limit <= 41; limit++) {
		memstore_limit_pages(rig->ms, limit, 0);
		rig_restart(rig);
		assert_int_equal(list_dir(rig, ""), 0);
		assert_int_equal(words(rig->out.p), 41);
		assert_int_equal(list_dir(rig, "s"), 0);
		assert_int_equal(words(rig->out.p), 40);
	}
	memstore_limit_pages(rig->ms, 0, 1); /* one record a page, whatever its size */
	rig_restart(rig);
	assert_int_equal(list_dir(rig, ""), 0);
	assert_int_equal(words(rig->out.p), 41);
	memstore_limit_pages(rig->ms, 0, 100);
	rig_restart(rig);
	assert_int_equal(list_dir(rig, "s"), 0);
	assert_int_equal(words(rig->out.p), 40);
}

static void a_large_directory_is_asked_for_single_names(void **state)
{
	struct rig *rig = *state;

	put_numbered(rig, "f%04d", 3000);
	memstore_put(rig->ms, "f2500/below", "1");
	memstore_put(rig->ms, ".hpkvfs/m/recorded/", "{\"v\":1}");
	memstore_put(rig->ms, ".hpkvfs/m/f2600", "{\"v\":1,\"mode\":33152}");
	assert_int_equal(look(rig, "f2000"), 0);
	/* the first pages of values and records; then the value, its record, what is below it, a directory's record */
	assert_requests(rig, 3, 0, 0, 0, 2 + 1);
	assert_reads(rig, "f2000", "value");
	assert_no_requests(rig);
	id_of(rig, "f2600");
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
	assert_requests(rig, 3, 0, 0, 0, 1);
	id_of(rig, "f2500");
	assert_true(S_ISDIR(rig->entry.st.st_mode));
	assert_reads(rig, "f2500/%=", "value");
	assert_int_equal(look(rig, "recorded"), 0);
	assert_int_equal(look(rig, "none"), -ENOENT);
	memstore_remove(rig->ms, "f2000");
	rig_expire(rig);
	assert_int_equal(look(rig, "f2000"), -ENOENT);
}

/* A program that makes a file looks its name up first: the second question is not asked. */
static void a_creation_in_a_large_directory_asks_once(void **state)
{
	struct rig *rig = *state;

	put_numbered(rig, "f%04d", 1500);
	assert_int_equal(look(rig, "none"), -ENOENT);
	memstore_log_clear(rig->ms);
	assert_int_equal(write_file(rig, "new", "text"), 0);
	assert_requests(rig, 3, 1, 0, 0, 1);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "new"), 0);
	assert_requests(rig, 0, 0, 0, 1, 0);
	assert_int_equal(write_file(rig, "new", "again"), 0);
	assert_requests(rig, 0, 1, 0, 0, 0);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "new"), 0);
	memstore_put(rig->ms, "new", "of another");
	rig_expire(rig);
	assert_reads(rig, "new", "of another");
}

/* Files of mode 0600. */
static void put_records(struct rig *rig, int count)
{
	char key[64];

	put_numbered(rig, "f%04d", count);
	for (int i = 0; i < count; i++) {
		snprintf(key, sizeof(key), ".hpkvfs/m/f%04d", i);
		memstore_put(rig->ms, key, "{\"v\":1,\"mode\":33152}");
	}
}

/* More records than the first page holds: the attributes of the files behind it are asked for, not made up. */
static void a_large_directory_with_records_behind_the_page(void **state)
{
	struct rig *rig = *state;
	char key[64];

	put_records(rig, 1500);
	memstore_limit_pages(rig->ms, 500, 0);
	memstore_put(rig->ms, ".hpkvfs/m/a", "{\"v\":1}"); /* the pages do not end at the same file */
	for (int i = 0; i < 1500; i += 99) {
		snprintf(key, sizeof(key), "f%04d", i);
		id_of(rig, key);
		assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
	}
	assert_int_equal(list_dir(rig, ""), 0);
	assert_int_equal(words(rig->out.p), 1500);
	id_of(rig, "f0499");
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
}

/* A key as long as the server takes, in a directory that is asked for single names. */
static void the_longest_key_in_a_large_directory(void **state)
{
	struct rig *rig = *state;
	char key[RIG_MAX_KEY + 1];

	memset(key, 'k', sizeof(key));
	key[RIG_MAX_KEY] = '\0';
	put_numbered(rig, "f%04d", 1500);
	memstore_put(rig->ms, key, "longest");
	assert_reads(rig, key, "longest");
	assert_int_equal(list_dir(rig, ""), 0);
	assert_int_equal(words(rig->out.p), 1501);
}

/* Its record's would be longer: it is not asked for. */
static void the_longest_key_on_the_first_page(void **state)
{
	struct rig *rig = *state;
	char key[RIG_MAX_KEY + 1], record[sizeof(key) + 16];

	memset(key, 'a', sizeof(key));
	key[RIG_MAX_KEY] = '\0';
	snprintf(record, sizeof(record), ".hpkvfs/m/%s", key);
	put_records(rig, 1500);
	memstore_put(rig->ms, key, "longest");
	id_of(rig, "f1234");
	assert_reads(rig, key, "longest");
	assert_int_equal(memstore_count_key(rig->ms, STORE_GET, record), 0);
	memstore_log_clear(rig->ms);
	assert_reads(rig, key, "longest");
	assert_no_requests(rig);
}

/* --- age --- */

static void what_is_young_is_not_asked_for(void **state)
{
	struct rig *rig = *state;
	uint64_t id;

	memstore_put(rig->ms, "f", "one");
	id = id_of(rig, "f");
	memstore_put(rig->ms, "f", "two");
	memstore_put(rig->ms, "g", "new");
	memstore_log_clear(rig->ms);
	assert_reads(rig, "f", "one");
	assert_int_equal(look(rig, "g"), -ENOENT);
	assert_no_requests(rig);
	rig_expire(rig);
	assert_reads(rig, "f", "two");
	assert_int_equal(look(rig, "g"), 0);
	assert_int_equal(id_of(rig, "f"), id);
}

/* In real time, with a ttl of some milliseconds: in the end the change is seen, without the clock's help. */
static void a_ttl_that_passes_by_itself(void **state)
{
	struct rig *rig = *state;
	bool seen = false;

	rig->config.ttl_us = 5000;
	rig_restart(rig);
	memstore_put(rig->ms, "f", "one");
	assert_int_equal(read_file(rig, "f"), 0);
	memstore_put(rig->ms, "f", "two");
	while (!seen) { /* the fixture's watchdog ends a vain wait */
		assert_int_equal(read_file(rig, "f"), 0);
		seen = strcmp(rig->out.p, "two") == 0;
	}
}

/* Nothing is believed: each use asks. */
static void no_ttl_at_all(void **state)
{
	struct rig *rig = *state;

	rig->config.ttl_us = 0;
	rig_restart(rig);
	memstore_put(rig->ms, "f", "one");
	assert_reads(rig, "f", "one");
	memstore_put(rig->ms, "f", "two");
	assert_reads(rig, "f", "two");
	memstore_put(rig->ms, "d/g", "three");
	assert_reads(rig, "d/g", "three");
	assert_lists(rig, "", "f d/ ");
	memstore_remove(rig->ms, "f");
	assert_int_equal(look(rig, "f"), -ENOENT);
	assert_int_equal(write_file(rig, "f", "four"), 0);
	assert_stored(rig, "f", "four");
	id_of(rig, "f");
	assert_int_equal(rig->entry.ttl_us, 0);
}

/* --- what is changed here while a listing is under way --- */

struct under_way {
	struct rig *rig;
	struct fs_handle *root;
	struct call *list;
};

/* Both ranges of the root have been answered by the server, and the answers are on their way. */
static struct under_way begin_listing(struct rig *rig)
{
	struct under_way under_way = { .rig = rig };

	rig_expire(rig);
	assert_int_equal(fs_opendir(rig->fs, FS_ROOT_ID, &under_way.root), 0);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_RANGE, .times = 2, .hold = MEMSTORE_HOLD_REPLY });
	under_way.list = begin(rig, op_readdir, .handle = under_way.root);
	rig_until_held(rig, 2);
	memstore_clear_faults(rig->ms);
	return under_way;
}

static void assert_listing_ends(struct under_way *under_way, const char *names)
{
	memstore_release(under_way->rig->ms);
	assert_int_equal(end(under_way->list), 0);
	assert_string_equal(under_way->rig->out.p, names);
	fs_releasedir(under_way->root);
}

/* The values of the root have come, its records not yet. */
static struct call *begin_without_records(struct rig *rig)
{
	struct call *lookup;

	rig_restart(rig);
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){
				   .op = STORE_RANGE, .key = ".hpkvfs/m/", .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	lookup = begin(rig, op_lookup, .parent = FS_ROOT_ID, .name = "other");
	rig_until_held(rig, 1);
	memstore_clear_faults(rig->ms);
	while (!node_child(rig->fs->root, STR("f")))
		loop_once(rig->loop);
	return lookup;
}

static void what_is_known_without_its_record_is_not_shown_yet(void **state)
{
	struct rig *rig = *state;
	struct call *listing, *lookup;

	memstore_put(rig->ms, "f", "1");
	memstore_put(rig->ms, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33152}");
	listing = begin_without_records(rig);
	lookup = begin(rig, op_lookup, .parent = FS_ROOT_ID, .name = "f");
	rig_serve(rig, 1000);
	memstore_release(rig->ms);
	assert_int_equal(end(listing), -ENOENT);
	assert_int_equal(end(lookup), 0);
	assert_int_equal(rig->entry.st.st_mode, S_IFREG | 0600);
}

static void its_record_goes_with_it_all_the_same(void **state)
{
	struct rig *rig = *state;
	struct call *listing, *change;

	for (int how = 0; how < 3; how++) {
		memstore_put(rig->ms, "f", "1");
		memstore_put(rig->ms, "g", "2");
		memstore_put(rig->ms, ".hpkvfs/m/f", "{\"v\":1,\"mode\":33152}");
		listing = begin_without_records(rig);
		if (how == 0)
			change = begin(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f");
		else
			change = begin(rig, op_rename, .parent = FS_ROOT_ID, .name = how == 1 ? "f" : "g",
				       .new_parent = FS_ROOT_ID, .new_name = how == 1 ? "g" : "f");
		rig_serve(rig, 1000);
		memstore_release(rig->ms);
		assert_int_equal(end(listing), -ENOENT);
		assert_int_equal(end(change), 0);
		assert_not_stored(rig, ".hpkvfs/m/f");
		if (how == 1) {
			assert_stored(rig, "g", "1");
			assert_non_null(memstore_value(rig->ms, ".hpkvfs/m/g"));
			memstore_remove(rig->ms, ".hpkvfs/m/g");
		}
	}
}

/* The create's own lookup joins the listing, which does not know the file; a second listing, begun before, answers last. */
static void a_file_created_during_a_listing(void **state)
{
	struct rig *rig = *state;
	struct under_way listing;
	struct fs_handle *handle;
	struct call *create;

	memstore_put(rig->ms, "a", "1");
	listing = begin_listing(rig);
	create = begin(rig, op_create, .parent = FS_ROOT_ID, .name = "new", .mode = 0644, .flags = O_WRONLY);
	assert_listing_ends(&listing, "a ");
	assert_int_equal(end(create), 0);
	handle = rig->handle;
	listing = begin_listing(rig);
	assert_int_equal(write_at(rig, handle, 0, "x"), 0);
	assert_listing_ends(&listing, "a new ");
	assert_int_equal(close_file(rig, handle), 0);
	assert_stored(rig, "new", "x");
}

/* The file is there, dirty, and is committed while a listing that does not know of it is under way; before its answer and
 * after it. */
static void a_first_commit_during_a_listing(void **state)
{
	struct rig *rig = *state;

	for (int after = 0; after < 2; after++) {
		const char *name = after ? "after" : "before";
		struct fs_handle *handle = open_file(rig, name, O_WRONLY | O_CREAT);
		struct under_way listing = begin_listing(rig);
		struct call *flush;

		assert_int_equal(write_at(rig, handle, 0, name), 0);
		if (after) { /* its SET is carried out, and its answer comes behind the listing's */
			memstore_add_fault(rig->ms,
					   (struct memstore_fault){ .op = STORE_SET, .times = 1, .delay_us = 20000 });
			flush = begin(rig, op_flush, .handle = handle);
			assert_listing_ends(&listing, "before after ");
			assert_int_equal(end(flush), 0);
			memstore_clear_faults(rig->ms);
		} else {
			assert_int_equal(run(rig, op_flush, .handle = handle), 0);
			assert_listing_ends(&listing, "before ");
		}
		assert_int_equal(run(rig, op_release, .handle = handle), 0);
		assert_reads(rig, name, name);
		rig_expire(rig);
		assert_reads(rig, name, name);
	}
}

static void a_commit_during_a_listing_is_not_undone(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	struct under_way listing;

	memstore_put(rig->ms, "f", "old");
	handle = open_file(rig, "f", O_WRONLY | O_TRUNC);
	listing = begin_listing(rig);
	assert_int_equal(write_at(rig, handle, 0, "new content"), 0);
	assert_int_equal(close_file(rig, handle), 0);
	rig_notes_clear(rig);
	assert_listing_ends(&listing, "f ");
	id_of(rig, "f");
	assert_int_equal(rig->entry.st.st_size, 11);
	assert_int_equal(rig->note_count, 0);
	memstore_log_clear(rig->ms);
	assert_reads(rig, "f", "new content");
	assert_no_requests(rig);
}

static void an_unlink_during_a_listing_is_not_undone(void **state)
{
	struct rig *rig = *state;
	struct under_way listing;

	memstore_put(rig->ms, "f", "1");
	memstore_put(rig->ms, "g", "2");
	id_of(rig, "f");
	listing = begin_listing(rig);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
	assert_listing_ends(&listing, "g ");
	assert_int_equal(look(rig, "f"), -ENOENT);
}

/* The same, with the listing's answer before the unlink's. */
static void a_listing_during_an_unlink(void **state)
{
	struct rig *rig = *state;
	struct under_way listing;
	struct call *unlink;

	memstore_put(rig->ms, "f", "1");
	id_of(rig, "f");
	listing = begin_listing(rig);
	memstore_add_fault(rig->ms, (struct memstore_fault){ .op = STORE_DELETE, .times = 1, .delay_us = 20000 });
	unlink = begin(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f");
	while (memstore_count(rig->ms, STORE_DELETE) == 0)
		loop_once(rig->loop);
	assert_listing_ends(&listing, "f ");
	assert_int_equal(end(unlink), 0);
	assert_int_equal(look(rig, "f"), -ENOENT);
	assert_lists(rig, "", "");
}

/* A listing that the server answers between the unlink's arrival and its answer: absent already. */
static void a_listing_that_sees_an_unlink_first(void **state)
{
	struct rig *rig = *state;
	struct call *unlink;

	memstore_put(rig->ms, "f", "1");
	id_of(rig, "f");
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_DELETE, .times = 1, .hold = MEMSTORE_HOLD_REPLY });
	unlink = begin(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f");
	rig_until_held(rig, 1);
	rig_expire(rig);
	assert_int_equal(list_dir(rig, ""), 0);
	memstore_release(rig->ms);
	assert_int_equal(end(unlink), 0);
	assert_lists(rig, "", "");
	assert_int_equal(look(rig, "f"), -ENOENT);
}

static void a_mkdir_and_an_rmdir_during_a_listing(void **state)
{
	struct rig *rig = *state;
	struct under_way listing;
	struct call *make;

	memstore_put(rig->ms, ".hpkvfs/fs", "{\"v\":1,\"delimiter\":\"/\"}");
	memstore_put(rig->ms, ".hpkvfs/m/old/", "{\"v\":1}");
	id_of(rig, "old");
	/* the lookup in mkdir is over, its record is on its way, when the listing begins */
	memstore_add_fault(rig->ms, (struct memstore_fault){
					    .op = STORE_SET, .key = ".hpkvfs/m/new/", .hold = MEMSTORE_HOLD_REQUEST });
	make = begin(rig, op_mkdir, .parent = FS_ROOT_ID, .name = "new", .mode = 0755);
	rig_until_held(rig, 1);
	rig_expire(rig);
	assert_int_equal(fs_opendir(rig->fs, FS_ROOT_ID, &listing.root), 0);
	listing.rig = rig;
	memstore_add_fault(rig->ms,
			   (struct memstore_fault){ .op = STORE_RANGE, .times = 2, .hold = MEMSTORE_HOLD_REPLY });
	listing.list = begin(rig, op_readdir, .handle = listing.root);
	rig_until_held(rig, 3);
	memstore_clear_faults(rig->ms);
	memstore_release_one(rig->ms); /* the record is stored after the listing was answered */
	assert_int_equal(end(make), 0);
	assert_int_equal(run(rig, op_rmdir, .parent = FS_ROOT_ID, .name = "old"), 0);
	assert_listing_ends(&listing, "new/ ");
	assert_int_equal(look(rig, "old"), -ENOENT);
	assert_int_equal(look(rig, "new"), 0);
}

/* An old answer by which a name is absent and a younger one that has it, the younger arriving last and first. */
static void two_answers_about_one_name(void **state)
{
	struct rig *rig = *state;
	struct under_way listing;
	uint64_t id;

	memstore_put(rig->ms, "f", "1");
	memstore_put(rig->ms, "g", "1");
	id = id_of(rig, "f");
	memstore_remove(rig->ms, "f");
	listing = begin_listing(rig); /* has seen that f is absent */
	memstore_put(rig->ms, "f", "2");
	assert_int_equal(run(rig, op_getattr, .id = id), 0); /* younger: it is there */
	assert_listing_ends(&listing, "f g ");
	assert_reads(rig, "f", "2");
	assert_int_equal(id_of(rig, "f"), id);
}

/* --- the kernel's notifications --- */

static void what_changed_elsewhere_is_told(void **state)
{
	struct rig *rig = *state;
	uint64_t changed, gone, stays;

	memstore_put(rig->ms, "changed", "1");
	memstore_put(rig->ms, "gone", "1");
	memstore_put(rig->ms, "stays", "1");
	changed = id_of(rig, "changed");
	gone = id_of(rig, "gone");
	stays = id_of(rig, "stays");
	assert_int_equal(list_dir(rig, ""), 0);
	memstore_put(rig->ms, "changed", "22");
	memstore_remove(rig->ms, "gone");
	rig_expire(rig);
	rig_notes_clear(rig);
	assert_lists(rig, "", "changed stays ");
	assert_true(rig_was_expired(rig, FS_ROOT_ID, "changed"));
	assert_false(rig_name_went(rig, FS_ROOT_ID, "changed"));
	assert_true(rig_was_invalidated(rig, changed));
	assert_true(rig_name_went(rig, FS_ROOT_ID, "gone"));
	assert_false(rig_was_invalidated(rig, stays));
	assert_false(rig_was_expired(rig, FS_ROOT_ID, "stays"));
	assert_int_equal(run(rig, op_getattr, .id = gone), 0);
	assert_int_equal(rig->entry.st.st_nlink, 0);
}

static void forget_frees_only_what_is_of_no_use(void **state)
{
	struct rig *rig = *state;
	struct fs_handle *handle;
	uint64_t id;

	memstore_put(rig->ms, "f", "1");
	id = id_of(rig, "f");
	assert_int_equal(id_of(rig, "f"), id);
	fs_forget(rig->fs, id, 2);
	memstore_log_clear(rig->ms);
	assert_int_equal(id_of(rig, "f"), id); /* its place in the directory holds it */
	assert_no_requests(rig);
	handle = open_file(rig, "f", O_RDONLY);
	assert_int_equal(run(rig, op_unlink, .parent = FS_ROOT_ID, .name = "f"), 0);
	fs_forget(rig->fs, id, 100);
	assert_int_equal(read_handle(rig, handle), 0);
	assert_string_equal(rig->out.p, "1");
	assert_int_equal(close_file(rig, handle), 0);
	assert_int_equal(run(rig, op_getattr, .id = id), -ESTALE);
	assert_int_equal(fs_figures(rig->fs).nodes, 1);
	assert_int_equal(fs_figures(rig->fs).handles, 0);
}

/* Keys that no file name can say, and what is not UTF-8: shown by their escapes, or not at all. */
static void strange_keys(void **state)
{
	struct rig *rig = *state;

	memstore_put(rig->ms, "a//b", "1");
	memstore_put(rig->ms, "a/", "2");
	memstore_put(rig->ms, "./x", "3");
	memstore_put(rig->ms, "%41", "4");
	memstore_put(rig->ms, "new\nline", "5");
	memstore_put(rig->ms, "/lead", "6");
	memstore_put(rig->ms, "bad\xff", "7");
	assert_lists(rig, "", "%41 %./ %-/ a/ new\nline ");
	assert_reads(rig, "a/%-/b", "1");
	assert_reads(rig, "a/%-/%=", "2");
	assert_reads(rig, "%./x", "3");
	assert_reads(rig, "%41", "4");
	assert_reads(rig, "new\nline", "5");
	assert_reads(rig, "%-/lead", "6");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fs_test(a_cold_name_is_one_listing),
		fs_test(names_that_differ_at_once_share_a_listing),
		fs_test(a_flat_directory_costs_a_page_for_999_keys),
		fs_test(a_page_that_ends_at_the_end),
		fs_test(subdirectories_are_skipped),
		fs_test(the_reserved_keys_are_passed_by),
		fs_test(pages_cut_by_number_and_by_size),
		fs_test(a_large_directory_is_asked_for_single_names),
		fs_test(a_creation_in_a_large_directory_asks_once),
		fs_test(a_large_directory_with_records_behind_the_page),
		fs_test(the_longest_key_in_a_large_directory),
		fs_test(the_longest_key_on_the_first_page),
		fs_test(what_is_young_is_not_asked_for),
		fs_test(a_ttl_that_passes_by_itself),
		fs_test(no_ttl_at_all),
		fs_test(what_is_known_without_its_record_is_not_shown_yet),
		fs_test(its_record_goes_with_it_all_the_same),
		fs_test(a_file_created_during_a_listing),
		fs_test(a_first_commit_during_a_listing),
		fs_test(a_commit_during_a_listing_is_not_undone),
		fs_test(an_unlink_during_a_listing_is_not_undone),
		fs_test(a_listing_during_an_unlink),
		fs_test(a_listing_that_sees_an_unlink_first),
		fs_test(a_mkdir_and_an_rmdir_during_a_listing),
		fs_test(two_answers_about_one_name),
		fs_test(what_changed_elsewhere_is_told),
		fs_test(forget_frees_only_what_is_of_no_use),
		fs_test(strange_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
