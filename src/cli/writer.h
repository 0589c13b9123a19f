/* What `watch` writes, on a thread of its own. A reader that is slow, or a terminal that was stopped, then keeps nobody from
 * serving the connection: pings are answered, and what arrives waits here. Only when too much of it does, whoever adds more must wait,
 * and with it the server: memory does not grow. The thread also sees that the reader has gone while there is nothing to write.
 *
 * Lines for standard error go the same way, so that they stand between those of standard output where they belong. */
#ifndef HPKVFS_CLI_WRITER_H
#define HPKVFS_CLI_WRITER_H

#include "base/buf.h"

struct writer;

/* `failed` runs on the writer's thread, once, when standard output takes no more; nothing is written afterwards. It must not call
 * the writer. 0, -ENOMEM, -EAGAIN (no thread), -errno. */
CHECKED int writer_new(void (*failed)(void *arg), void *arg, struct writer **out);

/* Copies the text, for STDOUT_FILENO or STDERR_FILENO. May wait for the reader. 0; -ENOMEM; what standard output failed with: -EPIPE
 * where its reader has gone. An error of standard error is nobody's concern. */
CHECKED int writer_add(struct writer *writer, int fd, struct str text);

/* Why standard output takes no more, or 0. */
CHECKED int writer_error(struct writer *writer);

/* Nothing more will be added. `failed` is not called any more. */
void writer_stop(struct writer *writer);

/* After writer_stop: waits until all is written, and frees. 0, or why a part of it was not. NULL is allowed. */
CHECKED int writer_end(struct writer *writer);

#endif
