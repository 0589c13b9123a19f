#include "client/page.h"

#include <errno.h>
#include <stdlib.h>

static struct hpkv_slice copy_slice(char **at, struct hpkv_slice from)
{
	struct hpkv_slice copy = { *at, from.size };

	if (from.size)
		memcpy(*at, from.data, from.size);
	(*at)[from.size] = '\0';
	*at += from.size + 1;
	return copy;
}

int page_copy(const struct hpkv_reply *reply, struct hpkv_page *out)
{
	struct hpkv_page page = { .count = reply->count, .truncated = reply->truncated };
	size_t size = 1; /* an empty page has memory too */
	char *at;

	for (size_t i = 0; i < reply->count; i++)
		size += reply->records[i].key.size + reply->records[i].value.size + 2;
	page.records = calloc(reply->count + 1, sizeof(*page.records));
	page.bytes = malloc(size);
	if (!page.records || !page.bytes) {
		hpkv_page_free(&page);
		return -ENOMEM;
	}
	at = page.bytes;
	for (size_t i = 0; i < reply->count; i++) {
		page.records[i].key = copy_slice(&at, reply->records[i].key);
		page.records[i].value = copy_slice(&at, reply->records[i].value);
		page.records[i].number = reply->records[i].number;
	}
	*out = page;
	return 0;
}

void hpkv_page_free(struct hpkv_page *page)
{
	if (!page)
		return;
	free(page->records);
	free(page->bytes);
	*page = (struct hpkv_page){ 0 };
}

void hpkv_value_free(struct hpkv_value *value)
{
	if (!value)
		return;
	free(value->data);
	*value = (struct hpkv_value){ 0 };
}
