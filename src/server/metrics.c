#include "server/metrics.h"

#include <errno.h>
#include <inttypes.h>

static const char *const operation_names[METRICS_OPERATIONS] = {
	"invalid", "get", "set", "patch", "delete", "range", "atomic",
};

/* The last one stands for every other code. */
static const int codes[METRICS_CODES] = { 200, 400, 401, 403, 404, 405, 411, 413, 429, 503, 507, 500 };

void metrics_count(struct metrics *metrics, unsigned operation, int code)
{
	size_t i = 0;

	while (i < METRICS_CODES - 1 && codes[i] != code)
		i++;
	metrics->requests[operation < METRICS_OPERATIONS ? operation : 0][i]++;
}

static int add_requests(const struct metrics *metrics, struct buf *out)
{
	if (buf_printf(out, "# HELP hpkvd_requests_total Requests answered.\n# TYPE hpkvd_requests_total counter\n"))
		return -ENOMEM;
	for (size_t o = 0; o < METRICS_OPERATIONS; o++)
		for (size_t c = 0; c < METRICS_CODES; c++)
			if (metrics->requests[o][c] &&
			    buf_printf(out, "hpkvd_requests_total{operation=\"%s\",code=\"%d\"} %" PRIu64 "\n",
				       operation_names[o], codes[c], metrics->requests[o][c]))
				return -ENOMEM;
	return 0;
}

int metrics_add(const struct metrics *metrics, struct buf *out)
{
	const struct {
		const char *name, *type, *help;
		uint64_t value;
	} rows[] = {
		{ "hpkvd_connections", "gauge", "Connections that are open.", metrics->connections },
		{ "hpkvd_connections_total", "counter", "Connections accepted.", metrics->connections_total },
		{ "hpkvd_refused_total", "counter", "Wrong API keys and tokens.", metrics->refused },
		{ "hpkvd_subscriptions", "gauge", "Connections that get notifications.", metrics->subscriptions },
		{ "hpkvd_notifications_total", "counter", "Notifications queued for subscribers.",
		  metrics->notifications },
		{ "hpkvd_slow_subscribers_total", "counter", "Subscribers closed as they did not keep up.",
		  metrics->slow_subscribers },
		{ "hpkvd_tokens_total", "counter", "Tokens made.", metrics->tokens },
		{ "hpkvd_received_bytes_total", "counter", "Bytes received.", metrics->received_bytes },
		{ "hpkvd_sent_bytes_total", "counter", "Bytes sent.", metrics->sent_bytes },
		{ "hpkvd_transactions_total", "counter", "Commits to the store; many writes can share one.",
		  metrics->transactions },
	};

	if (add_requests(metrics, out))
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", rows[i].name, rows[i].help,
			       rows[i].name, rows[i].type, rows[i].name, rows[i].value))
			return -ENOMEM;
	return 0;
}
