/* The listings of an examination: reserved keys first, then files, so that most of what a file names has been seen when the
 * file is. What does not fit is looked at once more by itself, since others write meanwhile. */
#include <errno.h>
#include <jansson.h>
#include <sys/stat.h>

#include "base/json_depth.h"
#include "fs/base64.h"
#include "fs/check_internal.h"
#include "fs/record.h"
#include "fs/walk.h"

/* A list of names nests twice. */
#define MAX_NESTING 4

/* --- ids --- */

struct check_id *check_find_id(const struct check *check, const struct content_id *id)
{
	struct check_id *found;

	HASH_FIND(hh, check->ids, id->hex, CONTENT_ID_LEN, found);
	return found;
}

static struct check_id *add_id(struct check *check, const struct content_id *id)
{
	struct check_id *entry = check_find_id(check, id);

	if (entry)
		return entry;
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return NULL;
	entry->id = *id;
	HASH_ADD(hh, check->ids, id.hex, CONTENT_ID_LEN, entry);
	if (!entry->hh.tbl) {
		free(entry);
		return NULL;
	}
	return entry;
}

void check_lists_free(struct check *check)
{
	struct check_id *id, *next_id;
	struct check_record *record, *next_record;

	HASH_ITER(hh, check->ids, id, next_id) {
		HASH_DEL(check->ids, id);
		free(id->names);
		free(id->held);
		free(id);
	}
	HASH_ITER(hh, check->records, record, next_record) {
		HASH_DEL(check->records, record);
		free(record);
	}
}

/* --- reserved keys --- */

static int add_foreign(struct check *check, struct str key, const char *text)
{
	return check_add_fault(check, CHECK_FOREIGN, key, str_c(text)) ? 0 : -ENOMEM;
}

/* `tail` is ID/INDEX. */
static int visit_chunk(struct check *check, struct str key, struct str tail, struct str value)
{
	struct content_id id;
	struct check_id *entry;
	uint32_t index;
	size_t size;

	if (!layout_parse_chunk(tail, &id, &index))
		return add_foreign(check, key, "is no chunk's key");
	entry = add_id(check, &id);
	if (!entry)
		return -ENOMEM;
	if (index != entry->next || !base64_check(value, &size) || (entry->chunks && entry->last != entry->size))
		entry->irregular = true;
	else
		entry->last = size;
	if (entry->chunks == 0)
		entry->size = entry->last;
	entry->chunks++;
	entry->next = (uint64_t)index + 1;
	return 0;
}

/* What names a path is the hash of its key. What is no path names nothing. */
static int add_name(struct check *check, struct check_id *entry, const char *path)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	uint64_t *names;
	int r = names_key_from_path(&check->existing, str_c(path), &key);

	if (r < 0)
		return r == -ENOMEM ? r : 0;
	names = reallocarray(entry->names, entry->name_count + 1, sizeof(*names));
	if (!names)
		return -ENOMEM;
	entry->names = names;
	r = check_hash(buf_str(&key), &names[entry->name_count]);
	if (r == 0)
		entry->name_count++;
	return r;
}

/* Takes over what `i/ID` holds. */
static int read_names(struct check *check, struct check_id *entry, struct str value)
{
	json_t *root, *names, *ignored;
	const char *path;
	int r = 0;

	entry->listed = true;
	entry->name_count = 0;
	root = json_nests_deeper(value, MAX_NESTING) ? NULL : json_loadb(value.p, value.len, 0, NULL);
	names = json_object_get(root, "names");
	entry->unreadable = !json_is_object(names) || json_integer_value(json_object_get(root, "v")) != 1;
	json_object_foreach(names, path, ignored) {
		r = add_name(check, entry, path);
		if (r < 0)
			break;
	}
	json_decref(root);
	return r;
}

int check_record_file(const struct check *check, struct str record, struct buf *key, bool *is_dir)
{
	CLEANUP(buf_free) struct buf segment = BUF_INIT;
	struct names_split part = { .rest = str_skip(record, check->existing.prefix.len + strlen(NAMES_RECORDS)) };
	int r = buf_set(key, check->existing.prefix);

	*is_dir = true;
	while (r == 0 && part.rest.len) {
		r = names_split(&check->existing, STR(""), part.rest, &part);
		if (r == 0)
			r = names_segment_from_name(&check->existing, part.segment, &segment);
		if (r == 0 && str_equal(buf_str(&segment), STR(NAMES_RESERVED)))
			r = -EINVAL;
		if (r == 0)
			r = buf_add_str(key, buf_str(&segment));
		if (r == 0 && part.deeper)
			r = buf_add_char(key, check->existing.delimiter);
		*is_dir = part.deeper;
	}
	if (r == 0 && !*is_dir && key->len == 0)
		return -EINVAL;
	return r == -EILSEQ ? -EINVAL : r;
}

int check_record_state(struct str value, enum check_record_state *state)
{
	CLEANUP(record_deinit) struct record record = { 0 };
	int r = record_decode(value, &record);

	if (r == -ENOMEM)
		return r;
	if (r < 0)
		*state = r == -EPROTONOSUPPORT ? CHECK_RECORD_NEWER : CHECK_RECORD_BAD;
	else if (record.has & RECORD_MODE && !S_ISREG(record.mode) && !S_ISDIR(record.mode))
		*state = CHECK_RECORD_OTHER;
	else
		*state = CHECK_RECORD_FILE;
	return 0;
}

static int add_bad_record(struct check *check, struct str key, struct str value)
{
	struct check_fault *fault = check_add_fault(check, CHECK_BAD_RECORD, key, STR("is no record"));

	return fault ? buf_set(&fault->value, value) : -ENOMEM;
}

static int expect_file(struct check *check, struct str key)
{
	struct check_record *entry, *there;
	uint64_t hash;
	int r = check_hash(key, &hash);

	if (r < 0)
		return r;
	HASH_FIND(hh, check->records, &hash, sizeof(hash), there);
	if (there)
		return 0;
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	entry->key_hash = hash;
	HASH_ADD(hh, check->records, key_hash, sizeof(entry->key_hash), entry);
	if (entry->hh.tbl)
		return 0;
	free(entry);
	return -ENOMEM;
}

static int visit_record(struct check *check, struct str key, struct str value)
{
	CLEANUP(buf_free) struct buf file = BUF_INIT;
	enum check_record_state state;
	bool is_dir;
	int r = check_record_file(check, key, &file, &is_dir);

	if (r == -EINVAL)
		return add_foreign(check, key, "is the record of no name");
	if (r == 0)
		r = check_record_state(value, &state);
	if (r < 0)
		return r;
	if (state == CHECK_RECORD_BAD)
		return add_bad_record(check, key, value);
	if (state == CHECK_RECORD_NEWER)
		return add_foreign(check, key, "is a record of a newer version");
	return state == CHECK_RECORD_FILE && !is_dir ? expect_file(check, buf_str(&file)) : 0;
}

static int visit_names(struct check *check, struct str key, struct str tail, struct str value)
{
	struct content_id id;
	struct check_id *entry;
	int64_t created_ms;

	if (!content_id_parse(tail, &id, &created_ms))
		return add_foreign(check, key, "is no list of names");
	entry = add_id(check, &id);
	return entry ? read_names(check, entry, value) : -ENOMEM;
}

/* Entries are read by themselves; what they do not take for their own is nobody's. */
static int visit_journal(struct check *check, struct str key, struct str tail)
{
	struct content_id id;
	int64_t created_ms;

	if (tail.len >= CONTENT_ID_LEN && content_id_parse(str_of(tail.p, CONTENT_ID_LEN), &id, &created_ms) &&
	    (tail.len == CONTENT_ID_LEN || tail.p[CONTENT_ID_LEN] == '/'))
		return 0;
	return add_foreign(check, key, "is no entry of the journal");
}

static int visit_reserved(void *arg, struct str key, struct str value)
{
	struct check *check = arg;
	struct str tail = str_skip(key, check->reserved.len);
	int r = check_go_on(check);

	if (r < 0)
		return r;
	check->any_reserved = true;
	if (str_starts(tail, STR("c/")))
		return visit_chunk(check, key, str_skip(tail, 2), value);
	if (str_starts(tail, STR("i/")))
		return visit_names(check, key, str_skip(tail, 2), value);
	if (str_starts(tail, STR("m/")))
		return visit_record(check, key, value);
	if (str_starts(tail, STR("j/")))
		return visit_journal(check, key, str_skip(tail, 2));
	if (str_equal(tail, STR("fs")))
		return 0;
	return add_foreign(check, key, "is a reserved key that hpkvfs has not written");
}

static int visit_names_again(void *arg, struct str key, struct str value)
{
	struct check *check = arg;
	struct content_id id;
	struct check_id *entry;
	int64_t created_ms;
	int r = check_go_on(check);

	if (r < 0 || !content_id_parse(str_skip(key, check->reserved.len + 2), &id, &created_ms))
		return r;
	entry = check_find_id(check, &id);
	return entry ? read_names(check, entry, value) : 0;
}

int check_list_names(struct check *check)
{
	CLEANUP(buf_free) struct buf lists = BUF_INIT;
	int r = layout_key(&check->layout, &lists, "i/");

	return r < 0 ? r : walk_all(&check->layout, buf_str(&lists), visit_names_again, check);
}

int check_list_reserved(struct check *check)
{
	check_stage(check, "reserved keys");
	return walk_all(&check->layout, buf_str(&check->reserved), visit_reserved, check);
}

/* --- files --- */

static bool is_named(const struct check_id *id, uint64_t hash)
{
	for (size_t i = 0; i < id->name_count; i++)
		if (id->names[i] == hash)
			return true;
	return false;
}

/* The file at `key` holds the id. */
static int hold(struct check *check, struct check_id *id, struct str key, uint64_t hash)
{
	if (id->holders && id->last_holder == hash)
		return 0;
	id->last_holder = hash;
	id->holders++;
	id->named_holders += is_named(id, hash);
	return check->collect && id->wanted ? check_keys_add(&check->holders, key) : 0;
}

/* Whether the chunks that were seen are those of the part; if not, they are looked at one by one. */
static bool matches(const struct check_id *id, const struct content_part *part)
{
	uint32_t count = content_chunk_count(part);
	uint64_t rest = part->size - (uint64_t)(count - 1) * part->chunk_size;

	return id && !part->holes.len && !id->irregular && id->chunks == count && id->last >= rest &&
	       (count == 1 || id->size == part->chunk_size);
}

static int visit_stub(struct check *check, struct str key, uint64_t hash, const struct content *content)
{
	bool suspect = false;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < content->part_count; i++) {
		const struct content_part *part = &content->parts[i];
		struct check_id *id;

		if (part->kind != CONTENT_CHUNKS)
			continue;
		id = check_find_id(check, &part->id);
		suspect = suspect || !matches(id, part);
		if (id)
			r = hold(check, id, key, hash);
	}
	return r == 0 && suspect && !check->collect ? check_keys_add(&check->suspects, key) : r;
}

int check_scan_ids(const struct check *check, struct str text, int (*fn)(void *arg, struct check_id *id), void *arg)
{
	int r = 0;

	for (size_t at = 0; r == 0 && at + CONTENT_ID_LEN <= text.len; at++) {
		struct content_id id;
		struct check_id *known;

		memcpy(id.hex, text.p + at, CONTENT_ID_LEN);
		known = check_find_id(check, &id);
		if (known)
			r = fn(arg, known);
	}
	return r;
}

/* A file whose value is looked through for ids. */
struct scan {
	struct check *check;
	struct str key;
	uint64_t hash;
	bool any; /* it names chunks */
};

static int hold_by_no_stub(void *arg, struct check_id *id)
{
	struct scan *scan = arg;

	scan->any = scan->any || id->chunks;
	return hold(scan->check, id, scan->key, scan->hash);
}

/* What it may have named is left for whoever can mend it. */
static int visit_no_stub(struct check *check, struct str key, uint64_t hash, struct str value)
{
	struct scan scan = { .check = check, .key = key, .hash = hash };
	struct check_fault *fault;
	int r = check_scan_ids(check, value, hold_by_no_stub, &scan);

	if (r < 0 || check->collect)
		return r;
	if (!scan.any) {
		check_note(check, key, "begins like a stub and is none: its content is what it holds");
		return 0;
	}
	fault = check_add_fault(check, CHECK_STUB, key,
				STR("is a damaged stub: its content is lost, the chunks that it names are kept"));
	return fault ? 0 : -ENOMEM;
}

static int visit_file(void *arg, struct str key, struct str value)
{
	struct check *check = arg;
	struct check_record *record;
	struct content content;
	uint64_t hash;
	int r = check_go_on(check);

	if (r < 0 || str_starts(key, buf_str(&check->reserved)))
		return r;
	if (!check->records && !str_starts(value, STR(CONTENT_MAGIC)))
		return 0;
	r = check_hash(key, &hash);
	if (r < 0)
		return r;
	HASH_FIND(hh, check->records, &hash, sizeof(hash), record);
	if (record) {
		HASH_DEL(check->records, record);
		free(record);
	}
	if (!str_starts(value, STR(CONTENT_MAGIC)))
		return 0;
	r = content_decode(value, &content);
	if (r < 0)
		return r;
	return content.stub ? visit_stub(check, key, hash, &content) : visit_no_stub(check, key, hash, value);
}

int check_list_files(struct check *check)
{
	struct check_id *id, *next;

	HASH_ITER(hh, check->ids, id, next)
		id->holders = id->named_holders = 0;
	check_stage(check, check->collect ? "files again" : "files");
	return walk_files(&check->layout, visit_file, check);
}

/* --- holders, once more --- */

static int hold_again(void *arg, struct check_id *id)
{
	const struct scan *file = arg;
	uint64_t *held;

	if (!id->wanted || (id->held_count && id->held[id->held_count - 1] == file->hash))
		return 0;
	held = reallocarray(id->held, id->held_count + 1, sizeof(*held));
	if (!held)
		return -ENOMEM;
	id->held = held;
	held[id->held_count++] = file->hash;
	return 0;
}

static co_fn int look_at_holder(void *arg, size_t index)
{
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	struct check *check = arg;
	struct scan file = { .check = check, .key = buf_str(&check->holders.keys[index]) };
	int r = store_get(check->layout.store, file.key, &value);

	if (r == 0)
		r = check_hash(file.key, &file.hash);
	if (r == 0 && str_starts(buf_str(&value), STR(CONTENT_MAGIC)))
		r = check_scan_ids(check, buf_str(&value), hold_again, &file);
	return r == -ENOENT ? 0 : r;
}

static co_fn int look_at_names(struct check *check, struct check_id *id)
{
	CLEANUP(buf_free) struct buf key = BUF_INIT;
	CLEANUP(buf_free) struct buf value = BUF_INIT;
	int r = layout_key(&check->layout, &key, "i/%s", id->id.hex);

	if (r == 0)
		r = store_get(check->layout.store, buf_str(&key), &value);
	if (r == 0)
		return read_names(check, id, buf_str(&value));
	id->listed = id->unreadable = false;
	id->name_count = 0;
	return r == -ENOENT ? 0 : r;
}

static co_fn int count_holders(struct check *check, struct check_id *id)
{
	int r = look_at_names(check, id);

	id->holders = (unsigned)id->held_count;
	id->named_holders = 0;
	for (size_t i = 0; i < id->held_count; i++)
		id->named_holders += is_named(id, id->held[i]);
	return r;
}

/* Files first, then the lists: who renames a file notes both names before the second holds it. */
int check_holders_again(struct check *check)
{
	struct check_id *id, *next;
	int r = check_each(check, check->holders.count, look_at_holder, check);

	HASH_ITER(hh, check->ids, id, next)
		if (r == 0 && id->wanted)
			r = count_holders(check, id);
	return r;
}

/* --- records that are left over --- */

/* A value that is there now came after the file was looked for. */
static co_fn int look_for_file(struct check *check, struct str record, struct str value, struct str file)
{
	CLEANUP(buf_free) struct buf ignored = BUF_INIT;
	struct check_fault *fault;
	int r = store_get(check->layout.store, file, &ignored);

	if (r != -ENOENT)
		return r;
	fault = check_add_fault(check, CHECK_RECORD, record, STR("is the record of a file that is not there"));
	if (!fault)
		return -ENOMEM;
	r = buf_set(&fault->value, value);
	return r < 0 ? r : buf_set(&fault->file, file);
}

static co_fn int visit_left_over(void *arg, struct str key, struct str value)
{
	CLEANUP(buf_free) struct buf file = BUF_INIT;
	struct check *check = arg;
	struct check_record *record;
	enum check_record_state state;
	uint64_t hash;
	bool is_dir;
	int r = check_go_on(check);

	if (r == 0)
		r = check_record_file(check, key, &file, &is_dir);
	if (r < 0 || is_dir)
		return r == -EINVAL ? 0 : r;
	r = check_hash(buf_str(&file), &hash);
	if (r < 0)
		return r;
	HASH_FIND(hh, check->records, &hash, sizeof(hash), record);
	if (!record || check_in_journal(check, buf_str(&file)))
		return 0;
	r = check_record_state(value, &state);
	if (r < 0 || state != CHECK_RECORD_FILE)
		return r;
	return look_for_file(check, key, value, buf_str(&file));
}

int check_list_records(struct check *check)
{
	CLEANUP(buf_free) struct buf records = BUF_INIT;
	int r;

	if (!check->records)
		return 0;
	check_stage(check, "records again");
	r = names_root_record(&check->existing, &records);
	return r < 0 ? r : walk_all(&check->layout, buf_str(&records), visit_left_over, check);
}
