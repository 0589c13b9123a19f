#include "client/curl_library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* The interface of libcurl has had this name since 2006. */
#define FILE_NAME "libcurl.so.4"

#define FUNCTION(member)                                               \
	{                                                              \
		"curl_" #member, offsetof(struct curl_library, member) \
	}

static const struct {
	const char *name;
	size_t offset;
} functions[] = {
	FUNCTION(global_init),      FUNCTION(easy_init),           FUNCTION(easy_setopt),
	FUNCTION(easy_getinfo),     FUNCTION(easy_perform),        FUNCTION(easy_strerror),
	FUNCTION(easy_cleanup),     FUNCTION(multi_init),          FUNCTION(multi_setopt),
	FUNCTION(multi_add_handle), FUNCTION(multi_remove_handle), FUNCTION(multi_socket_action),
	FUNCTION(multi_info_read),  FUNCTION(multi_cleanup),       FUNCTION(slist_append),
	FUNCTION(slist_free_all),
};

static struct curl_library library; /* written once, before anybody reads it */
static bool loaded;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
	void *file = dlopen(FILE_NAME, RTLD_NOW | RTLD_LOCAL);

	if (!file)
		return;
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		void *function = dlsym(file, functions[i].name);

		if (!function) {
			dlclose(file);
			return;
		}
		*(void **)((char *)&library + functions[i].offset) = function;
	}
	/* older ones' is not safe to call on two threads at once */
	loaded = library.global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

const struct curl_library *curl_library(void)
{
	pthread_once(&once, load);
	return loaded ? &library : NULL;
}
