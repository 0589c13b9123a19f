/* libcurl, loaded when the first token is asked for. Linked, it would bring some thirty libraries into every program, four
 * MiB and ten milliseconds, and most programs have an API key and never ask. Its header's names mean the loaded functions
 * here. */
#ifndef HPKVFS_CLIENT_CURL_LIBRARY_H
#define HPKVFS_CLIENT_CURL_LIBRARY_H

#include <curl/curl.h>

struct curl_library {
	__typeof__(curl_global_init) *global_init;
	__typeof__(curl_easy_init) *easy_init;
	__typeof__(curl_easy_setopt) *easy_setopt;
	__typeof__(curl_easy_getinfo) *easy_getinfo;
	__typeof__(curl_easy_perform) *easy_perform;
	__typeof__(curl_easy_strerror) *easy_strerror;
	__typeof__(curl_easy_cleanup) *easy_cleanup;
	__typeof__(curl_multi_init) *multi_init;
	__typeof__(curl_multi_setopt) *multi_setopt;
	__typeof__(curl_multi_add_handle) *multi_add_handle;
	__typeof__(curl_multi_remove_handle) *multi_remove_handle;
	__typeof__(curl_multi_socket_action) *multi_socket_action;
	__typeof__(curl_multi_info_read) *multi_info_read;
	__typeof__(curl_multi_cleanup) *multi_cleanup;
	__typeof__(curl_slist_append) *slist_append;
	__typeof__(curl_slist_free_all) *slist_free_all;
};

/* Loaded and initialized at the first call, for the life of the process. NULL: it is not installed; then none of the names
 * below may be used. Any thread. */
const struct curl_library *curl_library(void);

#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt
#define curl_easy_init() curl_library()->easy_init()
#define curl_easy_setopt(...) curl_library()->easy_setopt(__VA_ARGS__)
#define curl_easy_getinfo(...) curl_library()->easy_getinfo(__VA_ARGS__)
#define curl_easy_perform(...) curl_library()->easy_perform(__VA_ARGS__)
#define curl_easy_strerror(...) curl_library()->easy_strerror(__VA_ARGS__)
#define curl_easy_cleanup(...) curl_library()->easy_cleanup(__VA_ARGS__)
#define curl_multi_init() curl_library()->multi_init()
#define curl_multi_setopt(...) curl_library()->multi_setopt(__VA_ARGS__)
#define curl_multi_add_handle(...) curl_library()->multi_add_handle(__VA_ARGS__)
#define curl_multi_remove_handle(...) curl_library()->multi_remove_handle(__VA_ARGS__)
#define curl_multi_socket_action(...) curl_library()->multi_socket_action(__VA_ARGS__)
#define curl_multi_info_read(...) curl_library()->multi_info_read(__VA_ARGS__)
#define curl_multi_cleanup(...) curl_library()->multi_cleanup(__VA_ARGS__)
#define curl_slist_append(...) curl_library()->slist_append(__VA_ARGS__)
#define curl_slist_free_all(...) curl_library()->slist_free_all(__VA_ARGS__)

#endif
