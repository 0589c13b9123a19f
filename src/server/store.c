#include "server/store.h"

#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>

#define STORE_APPLICATION_ID 0x48504b56 /* "HPKV" */
#define STORE_VERSION 1
#define STORE_BUSY_MS 10000
/* Larger files are not read through at start: that would take seconds. Damage in them shows itself when a
 * damaged page is read, as an error of that request. */
#define STORE_CHECK_BYTES (64 * 1024 * 1024)

struct store {
	sqlite3 *db;
	sqlite3_stmt *begin, *commit, *rollback;
	sqlite3_stmt *get, *set, *remove, *range;
};

static int pragma_number(sqlite3 *db, const char *sql, sqlite3_int64 *out)
{
	sqlite3_stmt *statement;
	int r = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);

	if (r != SQLITE_OK)
		return r;
	r = sqlite3_step(statement);
	if (r == SQLITE_ROW)
		*out = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	return r == SQLITE_ROW ? SQLITE_OK : r == SQLITE_DONE ? SQLITE_ERROR : r;
}

/* Reads the whole file's structure. SQLITE_OK or SQLITE_CORRUPT. */
static int check_pages(sqlite3 *db)
{
	sqlite3_stmt *statement;
	int r = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &statement, NULL);

	if (r != SQLITE_OK)
		return r;
	r = sqlite3_step(statement);
	if (r == SQLITE_ROW)
		r = strcmp((const char *)sqlite3_column_text(statement, 0), "ok") == 0 ? SQLITE_OK : SQLITE_CORRUPT;
	sqlite3_finalize(statement);
	return r;
}

/* Looks at what is there before anything is written: 0, or -1 with `why`. `fresh`: an empty file. */
static int examine(sqlite3 *db, const char *path, bool *fresh, struct buf *why)
{
	sqlite3_int64 application = 0, version = 0, tables = 0;
	struct stat st;
	int r = pragma_number(db, "PRAGMA application_id", &application);

	if (r == SQLITE_OK)
		r = pragma_number(db, "PRAGMA user_version", &version);
	if (r == SQLITE_OK)
		r = pragma_number(db, "SELECT count(*) FROM sqlite_schema", &tables);
	if (r == SQLITE_OK && tables && stat(path, &st) == 0 && st.st_size <= STORE_CHECK_BYTES)
		r = check_pages(db);
	if (r != SQLITE_OK) {
		bool damaged = r == SQLITE_NOTADB || r == SQLITE_CORRUPT;

		(void)!buf_printf(why, "%s %s: %s", path, damaged ? "is damaged" : "cannot be read", sqlite3_errstr(r));
		return -1;
	}
	*fresh = application == 0 && version == 0 && tables == 0;
	if (*fresh)
		return 0;
	if (application != STORE_APPLICATION_ID) {
		(void)!buf_printf(why, "%s is not a store of hpkvd", path);
		return -1;
	}
	if (version != STORE_VERSION) {
		(void)!buf_printf(why, "%s has version %lld, this hpkvd knows version %d only", path,
				  (long long)version, STORE_VERSION);
		return -1;
	}
	return 0;
}

static int create_table(sqlite3 *db)
{
	char sql[512];

	snprintf(sql, sizeof(sql),
		 "BEGIN IMMEDIATE;"
		 "CREATE TABLE kv(key BLOB PRIMARY KEY, value BLOB NOT NULL, number INTEGER NOT NULL) WITHOUT ROWID;"
		 "PRAGMA application_id=%d; PRAGMA user_version=%d;"
		 "COMMIT",
		 STORE_APPLICATION_ID, STORE_VERSION);
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static int prepare(struct store *store, bool reader)
{
	const struct {
		sqlite3_stmt **statement;
		const char *sql;
	} all[] = {
		{ &store->begin, reader ? "BEGIN" : "BEGIN IMMEDIATE" },
		{ &store->commit, "COMMIT" },
		{ &store->rollback, "ROLLBACK" },
		{ &store->get, "SELECT value, number FROM kv WHERE key = ?1" },
		{ &store->set, "INSERT OR REPLACE INTO kv(key, value, number) VALUES(?1, ?2, ?3)" },
		{ &store->remove, "DELETE FROM kv WHERE key = ?1" },
		{ &store->range, "SELECT key, value, number FROM kv WHERE key >= ?1 AND key <= ?2 ORDER BY key" },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int r = sqlite3_prepare_v3(store->db, all[i].sql, -1, SQLITE_PREPARE_PERSISTENT, all[i].statement,
					   NULL);

		if (r != SQLITE_OK)
			return r;
	}
	return SQLITE_OK;
}

/* SQLite begins the log anew after 1000 pages, 4 MiB; what one transaction may pass that by comes on top. */
#define LOG_SIZE (4 * 1024 * 1024 + 128 * 1024)

/* Syncing a file that grows costs a commit of the filesystem's journal as well, twice as much as overwriting. Zeros are no valid
 * frame, so a recovery ends before them. */
static void allocate_log(sqlite3 *db)
{
	static const char zeros[65536];
	sqlite3_file *log = NULL;
	sqlite3_int64 size = 0, before;
	int r = sqlite3_exec(db, "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL); /* opens the log */

	if (r == SQLITE_OK)
		r = sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
	if (r != SQLITE_OK || !log || !log->pMethods || log->pMethods->xFileSize(log, &size) != SQLITE_OK)
		return;
	before = size;
	while (r == SQLITE_OK && size < LOG_SIZE) {
		int n = (int)(LOG_SIZE - size < (int)sizeof(zeros) ? LOG_SIZE - size : (int)sizeof(zeros));

		r = log->pMethods->xWrite(log, zeros, n, size);
		size += n;
	}
	if (r == SQLITE_OK)
		r = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
	if (r != SQLITE_OK)
		log->pMethods->xTruncate(log, before); /* no room for it: slower, no worse */
}

static int set_up(struct store *store, const char *path, bool reader, enum store_sync sync, struct buf *why)
{
	bool fresh;
	int r;

	if (reader) {
		r = sqlite3_exec(store->db, "PRAGMA query_only=1", NULL, NULL, NULL);
	} else {
		if (examine(store->db, path, &fresh, why))
			return -1;
		/* Write-ahead log: readers go on while the writer commits. The log is cut back after it grew. */
		r = sqlite3_exec(store->db, "PRAGMA journal_mode=WAL; PRAGMA journal_size_limit=67108864", NULL, NULL,
				 NULL);
		if (r == SQLITE_OK)
			r = sqlite3_exec(store->db,
					 sync == STORE_SYNC_FULL ? "PRAGMA synchronous=FULL"
								 : "PRAGMA synchronous=NORMAL",
					 NULL, NULL, NULL);
		if (r == SQLITE_OK && fresh)
			r = create_table(store->db);
		if (r == SQLITE_OK && sync == STORE_SYNC_FULL)
			allocate_log(store->db);
	}
	if (r == SQLITE_OK)
		r = prepare(store, reader);
	if (r == SQLITE_OK)
		return 0;
	(void)!buf_printf(why, "%s: %s", path, sqlite3_errmsg(store->db));
	return -1;
}

int store_open(const char *directory, bool reader, enum store_sync sync, struct store **out, struct buf *why)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (reader ? 0 : SQLITE_OPEN_CREATE);
	CLEANUP(buf_free) struct buf path = BUF_INIT;
	struct store *store = calloc(1, sizeof(*store));
	int r;

	if (!store || buf_printf(&path, "%s/store.sqlite", directory)) {
		free(store);
		(void)!buf_printf(why, "no memory");
		return -1;
	}
	r = sqlite3_open_v2(path.p, &store->db, flags, NULL);
	if (r != SQLITE_OK) {
		(void)!buf_printf(why, "%s: %s", path.p, sqlite3_errstr(r));
		store_close(store);
		return -1;
	}
	sqlite3_extended_result_codes(store->db, 0);
	sqlite3_busy_timeout(store->db, STORE_BUSY_MS);
	if (set_up(store, path.p, reader, sync, why)) {
		store_close(store);
		return -1;
	}
	*out = store;
	return 0;
}

void store_close(struct store *store)
{
	if (!store)
		return;
	sqlite3_finalize(store->begin);
	sqlite3_finalize(store->commit);
	sqlite3_finalize(store->rollback);
	sqlite3_finalize(store->get);
	sqlite3_finalize(store->set);
	sqlite3_finalize(store->remove);
	sqlite3_finalize(store->range);
	sqlite3_close(store->db);
	free(store);
}

/* Runs a statement that gives no rows, and makes it ready for the next time. */
static int run(sqlite3_stmt *statement)
{
	int r = sqlite3_step(statement);

	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
	return r == SQLITE_DONE ? 0 : -r;
}

int store_begin(struct store *store)
{
	return run(store->begin);
}

int store_commit(struct store *store)
{
	return run(store->commit);
}

void store_rollback(struct store *store)
{
	if (store_in_transaction(store))
		(void)!run(store->rollback);
}

bool store_in_transaction(const struct store *store)
{
	return !sqlite3_get_autocommit(store->db);
}

/* SQLite takes a NULL pointer for NULL, whatever the length: an empty string needs an address. */
static int bind(sqlite3_stmt *statement, int index, struct str s)
{
	return sqlite3_bind_blob64(statement, index, s.len ? s.p : "", s.len, SQLITE_STATIC);
}

static struct str column(sqlite3_stmt *statement, int index)
{
	const char *p = sqlite3_column_blob(statement, index);

	return p ? str_of(p, (size_t)sqlite3_column_bytes(statement, index)) : STR("");
}

int store_get(struct store *store, struct str key, struct buf *value, bool *number)
{
	int r = bind(store->get, 1, key);

	if (r == SQLITE_OK)
		r = sqlite3_step(store->get);
	if (r == SQLITE_ROW) {
		*number = sqlite3_column_int(store->get, 1) != 0;
		r = buf_set(value, column(store->get, 0)) ? SQLITE_NOMEM : SQLITE_ROW;
	}
	sqlite3_reset(store->get);
	sqlite3_clear_bindings(store->get);
	return r == SQLITE_ROW ? 1 : r == SQLITE_DONE ? 0 : -r;
}

int store_set(struct store *store, struct str key, struct str value, bool number)
{
	int r = bind(store->set, 1, key);

	if (r == SQLITE_OK)
		r = bind(store->set, 2, value);
	if (r == SQLITE_OK)
		r = sqlite3_bind_int(store->set, 3, number);
	return r == SQLITE_OK ? run(store->set) : -r;
}

int store_delete(struct store *store, struct str key)
{
	int r = bind(store->remove, 1, key);

	if (r != SQLITE_OK)
		return -r;
	r = run(store->remove);
	return r ? r : sqlite3_changes(store->db) > 0;
}

int store_range(struct store *store, struct str first, struct str last,
		bool (*each)(void *arg, struct str key, struct str value, bool number), void *arg)
{
	int r = bind(store->range, 1, first);

	if (r == SQLITE_OK)
		r = bind(store->range, 2, last);
	while (r == SQLITE_OK || r == SQLITE_ROW) {
		r = sqlite3_step(store->range);
		if (r == SQLITE_ROW && !each(arg, column(store->range, 0), column(store->range, 1),
					     sqlite3_column_int(store->range, 2) != 0))
			break;
	}
	sqlite3_reset(store->range);
	sqlite3_clear_bindings(store->range);
	return r == SQLITE_ROW || r == SQLITE_DONE ? 0 : -r;
}
