#include "mount/stats.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

/* json_pack takes its numbers with this type. */
static json_int_t n(uint64_t figure)
{
	return (json_int_t)figure;
}

static json_t *requests(const uint64_t counts[HPKV_OPERATIONS])
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "get", n(counts[1]), "set", n(counts[2]), "patch",
			 n(counts[3]), "delete", n(counts[4]), "range", n(counts[5]), "atomic", n(counts[6]));
}

static json_t *round_trips(const struct hpkv_stats *from)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "min", n(from->rtt_min_us), "median", n(hpkv_stats_rtt_us(from, 0.5)),
			 "p99", n(hpkv_stats_rtt_us(from, 0.99)), "max", n(from->rtt_max_us));
}

static json_t *server(const struct stats *stats)
{
	const struct hpkv_stats *from = &stats->store;
	double rate = stats->throttle.current_rate_per_s;

	return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:I, s:o}", "connected",
			 (int)from->connected, "reconnects", n(from->connections ? from->connections - 1 : 0),
			 "in_flight", n(from->in_flight), "queued", n(from->queued), "succeeded", n(from->succeeded),
			 "failed", n(from->failed), "timed_out", n(from->timed_out), "repeated", n(from->repeated),
			 "rate_limited", n(from->rate_limited), "rate_per_s", rate > 0 ? json_real(rate) : json_null(),
			 "pause_ms", n(stats->throttle.pause_ms), "bytes_sent", n(from->bytes_sent), "bytes_received",
			 n(from->bytes_received), "round_trip_us", round_trips(from));
}

static json_t *subscription(const struct stats *stats)
{
	const struct subscription_figures *from = &stats->subscription;

	if (!stats->subscribes)
		return json_null();
	return json_pack("{s:b, s:I, s:I, s:I, s:I}", "live", (int)from->live, "begun", n(from->begun), "lost",
			 n(from->lost), "notifications", n(from->notified), "outside_prefix", n(from->outside));
}

static json_t *known(const uint64_t counts[FS_KNOWN_KINDS])
{
	return json_pack("{s:I, s:I, s:I, s:I}", "names", n(counts[FS_NAMES]), "attributes", n(counts[FS_ATTRIBUTES]),
			 "content", n(counts[FS_CONTENT]), "listings", n(counts[FS_LISTINGS]));
}

static json_t *memory(const struct fs_figures *from)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "nodes", n(from->nodes), "handles",
			 n(from->handles), "cached_bytes", n(from->cached_bytes), "changed_bytes", n(from->dirty_bytes),
			 "waiting_bytes", n(from->waiting_bytes), "swap_file_bytes", n(from->swap_bytes), "absences",
			 n(from->absences), "deferred", n(from->deferred), "background", n(from->background));
}

static json_t *invalidations(const struct invalidator_figures *from)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "entries", n(from->entries), "inodes",
			 n(from->inodes), "attributes", n(from->attributes), "all", n(from->all), "overflows",
			 n(from->overflows), "queued", n(from->queued), "queued_most", n(from->most), "held",
			 n(from->held));
}

static json_t *upcalls(const struct upcalls *from)
{
	json_t *object = json_object();

	for (unsigned i = 0; i < UPCALLS_OPERATIONS; i++) {
		if (!upcalls_name(i) || !from->counts[i] ||
		    json_object_set_new(object, upcalls_name(i), json_integer(n(from->counts[i]))) == 0)
			continue;
		json_decref(object);
		return NULL;
	}
	return object;
}

int stats_format(const struct stats *stats, struct buf *out)
{
	json_t *object =
		json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "requests", requests(stats->store.requests),
			  "server", server(stats), "subscription", subscription(stats), "hits", known(stats->fs.hits),
			  "misses", known(stats->fs.misses), "memory", memory(&stats->fs), "invalidations",
			  invalidations(&stats->invalidator), "kernel", upcalls(stats->upcalls));
	char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
	int r = text ? buf_printf(out, "%s\n", text) : -ENOMEM;

	json_decref(object);
	free(text);
	return r;
}
