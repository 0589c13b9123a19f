#include "fs/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/log.h"

#define BUSY_TIMEOUT_MS 2000
#define SCHEMA_VERSION 1

/* Keys that no store takes, in a file that someone else wrote. */
#define MAX_KEY_LEN 65536

/* A row that is put again gets a new seq, so seq is the order of the last change. */
static const char schema[] = "CREATE TABLE IF NOT EXISTS store ("
			     " id INTEGER PRIMARY KEY, url BLOB NOT NULL, prefix BLOB NOT NULL, UNIQUE (url, prefix));"
			     "CREATE TABLE IF NOT EXISTS entry ("
			     " seq INTEGER PRIMARY KEY, store INTEGER NOT NULL, key BLOB NOT NULL,"
			     " hash TEXT NOT NULL, mtime_ns INTEGER, ino INTEGER NOT NULL, UNIQUE (store, key));"
			     "PRAGMA user_version = 1;";

struct state_file {
	struct stat seen; /* when it was opened */
	sqlite3 *db;
	sqlite3_int64 store;
	sqlite3_stmt *put;
	sqlite3_stmt *remove;
};

/* --- the file and its folders --- */

static int make_parents(const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	if (!copy[0])
		return -ENOENT;
	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return 0;
}

/* Makes sure that there is a file, readable by its owner only. An existing one is never opened here: closing the
 * descriptor would drop the locks that SQLite may hold on it in this process. */
static int make_file(const char *path, struct stat *st)
{
	int rc = make_parents(path);
	int fd;

	if (rc < 0)
		return rc;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
	else if (errno != EEXIST)
		return -errno;
	if (stat(path, st) < 0)
		return -errno;
	if (!S_ISREG(st->st_mode))
		return -EINVAL;
	if (st->st_mode & 077 && chmod(path, 0600) < 0)
		return -errno;
	return 0;
}

/* Renames a damaged file, unless another process has just done so. */
static int set_aside(const char *path, const struct stat *seen)
{
	static const char *const helpers[] = { "-wal", "-shm" };
	CLEANUP(buf_free) struct buf name = BUF_INIT;
	struct stat now;
	int rc = buf_printf(&name, "%s.damaged", path);

	if (rc < 0)
		return rc;
	if (stat(path, &now) < 0 || now.st_ino != seen->st_ino || now.st_dev != seen->st_dev)
		return 0;
	if (rename(path, name.p) < 0)
		return -errno;
	log_warning("state file %s is damaged: renamed to %s, a new one is begun", path, name.p);
	for (size_t i = 0; rc == 0 && i < 2; i++) {
		buf_clear(&name);
		rc = buf_printf(&name, "%s%s", path, helpers[i]);
		if (rc == 0)
			unlink(name.p);
	}
	return rc;
}

/* --- SQLite --- */

static int sqlite_errno(int code)
{
	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	default:
		return -EIO;
	}
}

static int execute(struct state_file *file, const char *sql)
{
	return sqlite_errno(sqlite3_exec(file->db, sql, NULL, NULL, NULL));
}

static int prepare(struct state_file *file, const char *sql, sqlite3_stmt **out)
{
	return sqlite_errno(sqlite3_prepare_v2(file->db, sql, -1, out, NULL));
}

static void bind_bytes(sqlite3_stmt *stmt, int column, struct str bytes)
{
	/* SQLite would make a NULL of a NULL pointer, and what fails here fails in the step. */
	sqlite3_bind_blob64(stmt, column, bytes.len ? bytes.p : "", bytes.len, SQLITE_STATIC);
}

/* One number from a statement: its first column, or `none` where there is no row. */
static int step_number(sqlite3_stmt *stmt, sqlite3_int64 none, sqlite3_int64 *out)
{
	int code = sqlite3_step(stmt);

	*out = code == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : none;
	return sqlite_errno(code);
}

static int check_version(struct state_file *file)
{
	sqlite3_stmt *stmt;
	sqlite3_int64 version;
	int rc = prepare(file, "PRAGMA user_version", &stmt);

	if (rc < 0)
		return rc;
	rc = step_number(stmt, 0, &version);
	sqlite3_finalize(stmt);
	if (rc < 0)
		return rc;
	return version > SCHEMA_VERSION ? -EPROTONOSUPPORT : 0;
}

/* Finds the number of (url, prefix), making it where it is new. */
static int find_store(struct state_file *file, struct str url, struct str prefix)
{
	static const char *const sql[] = {
		"INSERT OR IGNORE INTO store (url, prefix) VALUES (?, ?)",
		"SELECT id FROM store WHERE url = ? AND prefix = ?",
	};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < 2; i++) {
		sqlite3_stmt *stmt;

		rc = prepare(file, sql[i], &stmt);
		if (rc < 0)
			return rc;
		bind_bytes(stmt, 1, url);
		bind_bytes(stmt, 2, prefix);
		rc = step_number(stmt, 0, &file->store);
		sqlite3_finalize(stmt);
	}
	return rc;
}

static int set_up(struct state_file *file, struct str url, struct str prefix)
{
	int rc = execute(file, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;");

	if (rc == 0)
		rc = check_version(file);
	if (rc == 0)
		rc = execute(file, "BEGIN IMMEDIATE");
	if (rc == 0)
		rc = execute(file, schema);
	if (rc == 0)
		rc = find_store(file, url, prefix);
	if (rc == 0)
		rc = execute(file, "COMMIT");
	if (rc == 0)
		rc = prepare(file,
			     "INSERT OR REPLACE INTO entry (store, key, hash, mtime_ns, ino) VALUES (?, ?, ?, ?, ?)",
			     &file->put);
	if (rc == 0)
		rc = prepare(file, "DELETE FROM entry WHERE store = ? AND key = ?", &file->remove);
	return rc;
}

void state_file_close(struct state_file *file)
{
	if (!file)
		return;
	sqlite3_finalize(file->put);
	sqlite3_finalize(file->remove);
	sqlite3_close(file->db);
	free(file);
}

static int try_open(const char *path, const struct stat *seen, struct str url, struct str prefix,
		    struct state_file **out)
{
	struct state_file *file = calloc(1, sizeof(*file));
	int rc;

	if (!file)
		return -ENOMEM;
	file->seen = *seen;
	rc = sqlite_errno(sqlite3_open_v2(path, &file->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL));
	if (rc == 0) {
		sqlite3_busy_timeout(file->db, BUSY_TIMEOUT_MS);
		rc = set_up(file, url, prefix);
	}
	if (rc < 0) {
		state_file_close(file);
		return rc;
	}
	*out = file;
	return 0;
}

int state_file_open(const char *path, struct str url, struct str prefix, struct state_file **out)
{
	struct stat st;
	int rc = make_file(path, &st);

	if (rc == 0)
		rc = try_open(path, &st, url, prefix, out);
	if (rc != -EBADMSG)
		return rc;
	rc = set_aside(path, &st);
	if (rc == 0)
		rc = make_file(path, &st);
	return rc < 0 ? rc : try_open(path, &st, url, prefix, out);
}

int state_file_set_aside(struct state_file *file, const char *path)
{
	struct stat seen = file->seen;

	state_file_close(file);
	return set_aside(path, &seen);
}

/* --- rows --- */

static bool read_row(sqlite3_stmt *stmt, struct str *key, struct state_row *row)
{
	const void *hash = sqlite3_column_blob(stmt, 1);
	int hash_len = sqlite3_column_bytes(stmt, 1);
	int key_len;

	*row = (struct state_row){ 0 };
	key->p = sqlite3_column_blob(stmt, 0);
	key_len = sqlite3_column_bytes(stmt, 0);
	if (key_len < 0 || key_len > MAX_KEY_LEN || (hash_len != 0 && hash_len != CONTENT_HASH_LEN))
		return false;
	key->len = (size_t)key_len;
	if (!key->p)
		key->p = "";
	if (hash && hash_len)
		memcpy(row->hash, hash, CONTENT_HASH_LEN);
	row->has_mtime = sqlite3_column_type(stmt, 2) == SQLITE_INTEGER;
	row->mtime_ns = row->has_mtime ? sqlite3_column_int64(stmt, 2) : 0;
	row->ino = (uint64_t)sqlite3_column_int64(stmt, 3);
	return true;
}

static int drop_older(struct state_file *file, sqlite3_int64 seq)
{
	sqlite3_stmt *stmt;
	sqlite3_int64 ignored;
	int rc = prepare(file, "DELETE FROM entry WHERE store = ? AND seq < ?", &stmt);

	if (rc < 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, file->store);
	sqlite3_bind_int64(stmt, 2, seq);
	rc = step_number(stmt, 0, &ignored);
	sqlite3_finalize(stmt);
	return rc;
}

int state_file_load(struct state_file *file, size_t max,
		    int (*fn)(void *arg, struct str key, const struct state_row *row), void *arg)
{
	sqlite3_int64 oldest = 0;
	sqlite3_stmt *stmt;
	size_t count = 0;
	int code = SQLITE_DONE;
	int rc = prepare(file, "SELECT key, hash, mtime_ns, ino, seq FROM entry WHERE store = ? ORDER BY seq DESC",
			 &stmt);

	if (rc < 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, file->store);
	while (rc == 0 && count < max && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct state_row row;
		struct str key;

		oldest = sqlite3_column_int64(stmt, 4);
		count++;
		if (read_row(stmt, &key, &row))
			rc = fn(arg, key, &row);
	}
	if (rc == 0)
		rc = sqlite_errno(code);
	sqlite3_finalize(stmt);
	if (rc == 0 && count == max)
		rc = drop_older(file, oldest);
	return rc;
}

static int run(sqlite3_stmt *stmt)
{
	int code = sqlite3_step(stmt);

	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return sqlite_errno(code);
}

int state_file_begin(struct state_file *file)
{
	return execute(file, "BEGIN IMMEDIATE");
}

int state_file_put(struct state_file *file, struct str key, const struct state_row *row)
{
	sqlite3_bind_int64(file->put, 1, file->store);
	bind_bytes(file->put, 2, key);
	sqlite3_bind_text(file->put, 3, row->hash, -1, SQLITE_STATIC);
	if (row->has_mtime)
		sqlite3_bind_int64(file->put, 4, row->mtime_ns);
	sqlite3_bind_int64(file->put, 5, (sqlite3_int64)row->ino);
	return run(file->put);
}

int state_file_remove(struct state_file *file, struct str key)
{
	sqlite3_bind_int64(file->remove, 1, file->store);
	bind_bytes(file->remove, 2, key);
	return run(file->remove);
}

int state_file_commit(struct state_file *file)
{
	return execute(file, "COMMIT");
}

void state_file_rollback(struct state_file *file)
{
	/* Nothing to do about a failure: SQLite may have rolled back by itself. */
	sqlite3_exec(file->db, "ROLLBACK", NULL, NULL, NULL);
}
