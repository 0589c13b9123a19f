/* Logging: to standard error in the foreground, to syslog in the background. Every function keeps
 * errno. Control characters, which names of files may hold, are written as `?`. Never pass a key's value or a credential. */
#ifndef HPKVFS_BASE_LOG_H
#define HPKVFS_BASE_LOG_H

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* `program` is borrowed for the life of the process. */
void log_init(const char *program, enum log_level level);

/* From now on to syslog(3) (facility daemon) instead of standard error. */
void log_to_syslog(void);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
