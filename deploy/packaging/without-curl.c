/* Foundation's client of HTTP stands on libcurl, and that on thirty libraries more. It comes along
 * with the server that ovx-exporter and ovx-docker have, and nothing of ovx asks it for anything:
 * here is what it links with instead. Nothing can be started with it, as if there were no memory; a
 * session of Foundation then ends the program with its own words.
 */
#include <stddef.h>

#define FAILED 2 /* CURLE_FAILED_INIT; of the multi interface, CURLM_BAD_EASY_HANDLE. */

#define NO_POINTER(name) \
  void *name(void);      \
  void *name(void) { return NULL; }
#define NO_RESULT(name) \
  int name(void);       \
  int name(void) { return FAILED; }
#define NOTHING(name) \
  void name(void);    \
  void name(void) {}

NO_POINTER(curl_easy_init)
NO_POINTER(curl_multi_init)
NO_POINTER(curl_slist_append)
NO_POINTER(curl_url)
NO_POINTER(curl_version_info)
NO_RESULT(curl_easy_getinfo)
NO_RESULT(curl_easy_pause)
NO_RESULT(curl_easy_setopt)
NO_RESULT(curl_global_init)
NO_RESULT(curl_multi_add_handle)
NO_RESULT(curl_multi_assign)
NO_RESULT(curl_multi_cleanup)
NO_RESULT(curl_multi_remove_handle)
NO_RESULT(curl_multi_setopt)
NO_RESULT(curl_multi_socket_action)
NO_RESULT(curl_url_get)
NO_RESULT(curl_url_set)
NO_POINTER(curl_multi_info_read)
NOTHING(curl_easy_cleanup)
NOTHING(curl_free)
NOTHING(curl_slist_free_all)

const char *curl_easy_strerror(int code);
const char *curl_easy_strerror(int code) {
  (void)code;
  return "this program was built without a client of HTTP";
}

char *curl_version(void);
char *curl_version(void) { return "none"; }
