/* A client with its own loop and thread, for programs that only make waiting calls. */
#include "client/client.h"

/* The thread keeps the connection alive while the program does other things. */
static int start(struct hpkv_client *client, struct hpkv_error *error)
{
	int r = hpkv_loop_start_thread(client->loop);

	if (r)
		return error_set(error, r, 0, "no thread could be made: %s", strerror(-r));
	return hpkv_connect_sync(client, error);
}

static void end(struct hpkv_client *client)
{
	struct hpkv_loop *loop = client->loop;

	serve_join_thread(loop);
	hpkv_client_free(client);
	hpkv_loop_free(loop);
}

int hpkv_open_sync(const char *url, const char *api_key, struct hpkv_client **out, struct hpkv_error *error)
{
	struct hpkv_client *client;
	struct hpkv_config config;
	struct hpkv_loop *loop;
	int r = hpkv_loop_new(&loop);

	if (r)
		return error_set(error, r, 0, "out of memory");
	hpkv_config_init(&config);
	config.url = url;
	config.api_key = api_key;
	r = hpkv_client_new(loop, &config, &client, error);
	if (r) {
		hpkv_loop_free(loop);
		return r;
	}
	r = start(client, error);
	if (r) {
		end(client);
		return r;
	}
	*out = client;
	return 0;
}

void hpkv_close_sync(struct hpkv_client *client)
{
	if (!client)
		return;
	/* without memory for it the server sees the connection end all the same */
	(void)hpkv_disconnect_sync(client, false, NULL);
	end(client);
}
