#include "mount/mountpoint.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#define LINKS_MAX 40

/* --- paths --- */

/* The parent's real path and the last name. For "." and ".." as the last name there is nothing but to walk: who
 * stands there has walked it already. */
static int resolve_parent(const char *path, char **out)
{
	CLEANUP_FREE char *copy = strdup(path);
	CLEANUP_FREE char *parent = NULL;
	size_t len = strlen(path);
	char *name;

	if (!copy)
		return -ENOMEM;
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	name = strrchr(copy, '/');
	name = name ? name + 1 : copy;
	if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		*out = realpath(copy, NULL);
		return *out ? 0 : -errno;
	}
	if (name == copy)
		parent = realpath(".", NULL);
	else if (name == copy + 1)
		parent = strdup("/");
	else {
		name[-1] = '\0';
		parent = realpath(copy, NULL);
	}
	if (!parent)
		return -errno;
	return asprintf(out, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) < 0 ? -ENOMEM : 0;
}

/* Replaces a path by where the link at its end leads. 0: it is no link. */
static int follow_link(char **path)
{
	char target[PATH_MAX];
	ssize_t len = readlink(*path, target, sizeof(target) - 1);
	CLEANUP_FREE char *joined = NULL;
	char *resolved;
	int r;

	if (len < 0)
		return errno == EINVAL ? 0 : -errno;
	target[len] = '\0';
	if (target[0] != '/')
		*strrchr(*path, '/') = '\0';
	r = asprintf(&joined, "%s%s%s", target[0] == '/' ? "" : *path, target[0] == '/' ? "" : "/", target);
	if (r < 0) {
		joined = NULL;
		return -ENOMEM;
	}
	r = resolve_parent(joined, &resolved);
	if (r)
		return r;
	free(*path);
	*path = resolved;
	return 1;
}

int mountpoint_resolve(const char *dir, char **out)
{
	CLEANUP_FREE char *path = NULL;
	int r = resolve_parent(dir, &path);

	if (r) {
		path = NULL;
		return r;
	}
	for (int links = 0; links < LINKS_MAX; links++) {
		r = follow_link(&path);
		/* a dead mount's root cannot be looked at, and is no link */
		if (r == 0 || r == -ENOTCONN || r == -EACCES) {
			*out = STEAL(path);
			return 0;
		}
		if (r < 0)
			return r;
	}
	return -ELOOP;
}

bool mountpoint_contains(const char *outer, const char *inner)
{
	size_t len = strlen(outer);

	while (len && outer[len - 1] == '/')
		len--;
	return strncmp(outer, inner, len) == 0 && (inner[len] == '\0' || inner[len] == '/');
}

/* --- /proc/self/mountinfo --- */

static const struct {
	const char *name;
	unsigned long flag;
} mount_flags[] = {
	{ "ro", MS_RDONLY },         { "nosuid", MS_NOSUID },   { "nodev", MS_NODEV },
	{ "noexec", MS_NOEXEC },     { "noatime", MS_NOATIME }, { "nodiratime", MS_NODIRATIME },
	{ "relatime", MS_RELATIME },
};

static unsigned long parse_flags(char *options)
{
	unsigned long flags = 0;
	char *rest = NULL;

	for (char *word = strtok_r(options, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
		for (size_t i = 0; i < sizeof(mount_flags) / sizeof(mount_flags[0]); i++)
			if (strcmp(word, mount_flags[i].name) == 0)
				flags |= mount_flags[i].flag;
	return flags;
}

/* Blanks, newlines and backslashes are written as three octal digits. */
static void unescape(char *text)
{
	char *to = text;

	for (; *text; text++) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' && text[2] <= '7' &&
		    text[3] >= '0' && text[3] <= '7') {
			*to++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0'));
			text += 3;
		} else {
			*to++ = *text;
		}
	}
	*to = '\0';
}

/* ID PARENT MAJOR:MINOR ROOT PATH OPTIONS [FIELD]... - TYPE SOURCE OPTIONS. 0: it is another path's row. */
static int parse_row(char *line, const char *path, struct mount_row *row)
{
	char *rest = NULL, *fields[6], *behind = strstr(line, " - ");
	char *type, *source;

	if (!behind)
		return 0;
	*behind = '\0';
	for (size_t i = 0; i < 6; i++) {
		fields[i] = strtok_r(i ? NULL : line, " ", &rest);
		if (!fields[i])
			return 0;
	}
	unescape(fields[4]);
	if (strcmp(fields[4], path) != 0)
		return 0;
	type = strtok_r(behind + 3, " ", &rest);
	source = type ? strtok_r(NULL, " ", &rest) : NULL;
	if (!source || sscanf(fields[2], "%u:%u", &row->major, &row->minor) != 2)
		return 0;
	unescape(source);
	row->flags = parse_flags(fields[5]);
	row->ours = strcmp(type, "fuse.hpkvfs") == 0;
	return buf_set(&row->source, str_c(source)) ? -ENOMEM : 1;
}

void mount_row_deinit(struct mount_row *row)
{
	buf_free(&row->source);
}

int mountpoint_find(const char *path, struct mount_row *out)
{
	CLEANUP(mount_row_deinit) struct mount_row row = { 0 };
	CLEANUP_FREE char *line = NULL;
	FILE *table = fopen("/proc/self/mountinfo", "re");
	size_t size = 0;
	bool found = false;
	int r = 0;

	if (!table)
		return -errno;
	/* later rows lie on top of earlier ones */
	while (r >= 0 && getline(&line, &size, table) >= 0) {
		line[strcspn(line, "\n")] = '\0';
		r = parse_row(line, path, &row);
		found = found || r > 0;
	}
	fclose(table);
	if (r < 0)
		return r;
	if (!found)
		return -ENOENT;
	*out = row;
	row.source = BUF_INIT;
	return 0;
}
